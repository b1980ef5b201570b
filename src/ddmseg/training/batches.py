"""Training examples to batches.

Every example is drawn from a generator that the run's seed and the example's
number fix, so that a resumed run sees what an uninterrupted one would have, in
any number of worker threads.
"""

from __future__ import annotations

import collections.abc
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import torch
from torch import Generator, Tensor

Example = tuple[Tensor, Tensor]
"""Normalised image ``c *grid`` and class indices ``*grid``."""

VALIDATION_SEED = 2**31 - 1
"""No seed of a run, so that validation draws never meet a training draw."""


class Source(Protocol):
    """Where examples come from."""

    labels: tuple[int, ...]
    """FreeSurfer id of each class, background first."""

    always_present: tuple[int, ...]
    """Those that every scan of this kind holds, however small."""

    data: str
    """What the data are and who made them, for the card."""

    licence: str
    """Under which weights trained on them may be passed on."""

    def training_example(self, generator: Generator) -> Example:
        """Draw one example; every call with an equal generator is equal."""

    def validation_examples(self, count: int) -> list[Example]:
        """Return the first ``count`` of a fixed list."""


def seeded(seed: int, number: int) -> Generator:
    """Return a CPU generator for one example or step of a run."""
    # Odd multipliers spread neighbours over the 32 bits of a seed that torch's generator
    # uses: seeds that differ by a multiple of 2**32 are the same.
    mixed = seed * 0x9E3779B97F4A7C15 + number * 0xD1B54A32D192ED03
    return Generator().manual_seed(mixed % 2**63)


def batches(
    source: Source,
    *,
    seed: int,
    batch: int,
    start: int,
    stop: int,
    rank: int,
    ranks: int,
    workers: int,
) -> collections.abc.Generator[tuple[int, Tensor, Tensor], None, None]:
    """Yield ``step, images, labels`` for the steps from start to before stop.

    Args:
        source: where examples come from.
        seed: of the run.
        batch: examples a step and process.
        start: first step, 0 for a new run.
        stop: step to stop before.
        rank: number of this process among ``ranks``.
        ranks: processes that train together.
        workers: threads that draw ahead; 0 draws when asked.
    """

    def draw(step: int) -> tuple[int, Tensor, Tensor]:
        numbers = [(step * ranks + rank) * batch + i for i in range(batch)]
        examples = [source.training_example(seeded(seed, n)) for n in numbers]
        images, labels = zip(*examples, strict=True)
        return step, torch.stack(images), torch.stack(labels)

    if workers == 0:
        yield from map(draw, range(start, stop))
        return
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[Future[tuple[int, Tensor, Tensor]]] = deque()
        try:
            for step in range(start, stop):
                ahead.append(pool.submit(draw, step))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for waiting in ahead:
                waiting.cancel()
