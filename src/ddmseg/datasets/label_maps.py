"""Images synthesised from whole-head label maps: what ``anatomy`` learns from."""

from __future__ import annotations

from dataclasses import replace

from torch import Generator

from ddmseg.imaging.labels import ANATOMY_LABELS, LESION
from ddmseg.models.settings import DataSettings
from ddmseg.training.batches import VALIDATION_SEED, Example, seeded

LESION_PROBABILITY = 0.35
"""Of images with lesions, where they are to be learnt."""


class LabelMapSource:
    """Images synthesised from label maps; validation from maps kept apart."""

    labels: tuple[int, ...] = ANATOMY_LABELS
    # The temporal horns may be too thin to see, and CSF is stripped with the skull.
    always_present = tuple(index for index in ANATOMY_LABELS if index not in (0, 5, 24, 44))
    data = (
        "images synthesised from whole-head label maps of SynthSeg's repository "
        "(18 subjects for training, 2 for validation; split label_maps.tsv); no scan"
    )
    licence = "Apache-2.0"

    def __init__(self, settings: DataSettings, root: str | None = None) -> None:
        from ddmseg.datasets.label_maps_files import list_cases, read_label_map
        from ddmseg.datasets.split_tables import split_cases
        from ddmseg.imaging.synthesis.settings import SynthesisSettings
        from ddmseg.imaging.synthesis.synthesiser import LabelMapSynthesiser

        if settings.lesions:
            self.labels = (*ANATOMY_LABELS, LESION)
        rest = (1 - settings.t1_probability) / 4
        drawn = SynthesisSettings(
            contrast_weights=(settings.t1_probability, rest, rest, 2 * rest),
            skull_strip_probability=settings.skull_strip_probability,
            brain_centred_probability=settings.brain_centred_probability,
        )
        if settings.lesions:
            drawn = replace(drawn, lesion_probability=LESION_PROBABILITY)
        split = split_cases(list_cases(root), "label_maps")

        def synthesiser(name: str) -> LabelMapSynthesiser:
            maps = [read_label_map(case.labels) for case in split.cases(name) if case.labels]
            return LabelMapSynthesiser(
                maps,
                drawn,
                spacing_mm=settings.spacing_mm,
                patch_shape=settings.patch,
                labels=self.labels,
            )

        self._training = synthesiser("train")
        self._validation = synthesiser("validation")

    def training_example(self, generator: Generator) -> Example:
        """Synthesise a patch of a training subject."""
        return self._training(generator)

    def validation_examples(self, count: int) -> list[Example]:
        """Synthesise fixed patches of the validation subjects."""
        return [self._validation(seeded(VALIDATION_SEED, number)) for number in range(count)]
