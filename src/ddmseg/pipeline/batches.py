"""Training examples: cases or label maps to patches to batches.

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

from ddmseg.errors import ScanError
from ddmseg.imaging.augmentation import augment, centre
from ddmseg.imaging.datasets.case import Case
from ddmseg.imaging.labels import ANATOMY_LABELS, HIPPOCAMPUS_LABELS
from ddmseg.pipeline.config import DataSettings

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


class LabelMapSource:
    """Images synthesised from label maps; validation from maps kept apart."""

    labels = ANATOMY_LABELS
    # The temporal horns may be too thin to see, and CSF is stripped with the skull.
    always_present = tuple(index for index in ANATOMY_LABELS if index not in (0, 5, 24, 44))
    data = (
        "images synthesised from whole-head label maps of SynthSeg's repository "
        "(18 subjects for training, 2 for validation; split label_maps.tsv); no scan"
    )
    licence = "Apache-2.0"

    def __init__(self, settings: DataSettings, root: str | None = None) -> None:
        from ddmseg.imaging.datasets.label_maps import list_cases, read_label_map
        from ddmseg.imaging.datasets.splits import split_cases
        from ddmseg.imaging.synthesis import LabelMapSynthesiser
        from ddmseg.imaging.synthesis_settings import SynthesisSettings

        rest = (1 - settings.t1_probability) / 4
        drawn = SynthesisSettings(
            contrast_weights=(settings.t1_probability, rest, rest, 2 * rest),
            skull_strip_probability=settings.skull_strip_probability,
        )
        split = split_cases(list_cases(root), "label_maps")

        def synthesiser(name: str) -> LabelMapSynthesiser:
            maps = [read_label_map(case.labels) for case in split.cases(name) if case.labels]
            return LabelMapSynthesiser(
                maps, drawn, spacing_mm=settings.spacing_mm, patch_shape=settings.patch
            )

        self._training = synthesiser("train")
        self._validation = synthesiser("validation")

    def training_example(self, generator: Generator) -> Example:
        """Synthesise a patch of a training subject."""
        return self._training(generator)

    def validation_examples(self, count: int) -> list[Example]:
        """Synthesise fixed patches of the validation subjects."""
        return [self._validation(seeded(VALIDATION_SEED, i)) for i in range(count)]


class HippocampusSource:
    """Real crops with manual labels, held in memory, augmented on the way."""

    labels = HIPPOCAMPUS_LABELS
    always_present = HIPPOCAMPUS_LABELS[1:]
    data = (
        "Medical Segmentation Decathlon, Task04 Hippocampus (Antonelli et al. 2022), T1 crops "
        "with manual labels (150 subjects for training, 20 for validation, 47 for testing; "
        "split hippocampus.tsv)"
    )
    licence = "CC-BY-SA-4.0"

    def __init__(self, settings: DataSettings, root: str | None = None) -> None:
        from ddmseg.imaging.datasets.hippocampus import list_cases
        from ddmseg.imaging.datasets.splits import split_cases

        self._settings = settings
        split = split_cases(list_cases(root), "hippocampus")
        self._training = [read_example(case) for case in split.cases("train")]
        self._validation = split.cases("validation")

    def training_example(self, generator: Generator) -> Example:
        """Draw a training crop and change it at random."""
        image, labels = self._training[
            int(torch.randint(len(self._training), (), generator=generator))
        ]
        if not self._settings.augment:
            return centre(image, labels, self._settings.patch)
        return augment(image, labels, self._settings.patch, len(self.labels), generator)

    def validation_examples(self, count: int) -> list[Example]:
        """Return whole validation crops, zero-padded to a multiple of 8."""
        return [padded(*read_example(case)) for case in self._validation[:count]]


def read_example(case: Case) -> Example:
    """Read, normalise and index one hippocampus case (not padded).

    Raises:
        ScanError: when it has no label map or a file is not usable.
    """
    from ddmseg.imaging.intensity import normalise
    from ddmseg.imaging.nifti import read_label_map, read_volume

    if case.labels is None:
        raise ScanError(f"{case.identifier}: has no label map; training needs one")
    image = torch.from_numpy(normalise(read_volume(case.images[0]).data))
    labels = torch.from_numpy(read_label_map(case.labels).data.astype("int64"))
    return image[None], labels


def padded(image: Tensor, labels: Tensor, multiple: int = 8) -> Example:
    """Zero-pad both to a multiple on every axis, evenly on both sides."""
    shape = tuple(-(-n // multiple) * multiple for n in labels.shape)
    return centre(image, labels, shape)


SOURCES: dict[str, type[LabelMapSource] | type[HippocampusSource]] = {
    "label_maps": LabelMapSource,
    "hippocampus": HippocampusSource,
}


def make_source(settings: DataSettings, root: str | None = None) -> Source:
    """Open the data that the settings name, below ``root`` or ``DDMSEG_DATA``."""
    return SOURCES[settings.kind](settings, root)


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
