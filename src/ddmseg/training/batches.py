"""Training examples to batches.

Every example is drawn from a generator that the run's seed and the example's
number fix, so that a resumed run sees what an uninterrupted one would have, in
any number of worker threads.
"""

from __future__ import annotations

import collections.abc
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from ddmseg.datasets.source import Source
from ddmseg.randomness import seeded


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
        batch: examples a step and process.
        rank: number of this process among ``ranks`` that train together.
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
