"""Whole-head label maps for synthesis: 1 mm, ids of ``generation_labels()``, no images.

Source: training label maps of SynthSeg (Billot et al. 2023), Apache-2.0 repository.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int16
from torch import Generator, Tensor

from ddmseg.datasets.case import Case, data_folder, require_cases, volume_files, volume_stem
from ddmseg.datasets.split import split_cases
from ddmseg.datasets.subject import Example
from ddmseg.errors import ScanError
from ddmseg.imaging import nifti
from ddmseg.imaging.grid import Grid, to_closest_ras
from ddmseg.imaging.labels import ANATOMY_LABELS, LESION
from ddmseg.imaging.volume import grid_text
from ddmseg.models.settings import DataSettings
from ddmseg.randomness import VALIDATION_SEED, seeded

NAME = "label_maps"
LESION_PROBABILITY = 0.35
"""Of images with lesions, where they are to be learnt."""


def list_cases(root: str | os.PathLike[str] | None = None) -> list[Case]:
    """Return the label maps as cases without images; each is a group of its own."""
    folder = data_folder(NAME, root)
    files = volume_files(folder)
    cases = [Case(volume_stem(path), (), path, volume_stem(path)) for path in files]
    return require_cases(cases, folder, "training_seg_01.nii.gz")


def read_label_map(path: Path) -> Int16[Tensor, "i j k"]:
    """Return a label map in RAS orientation, as ``LabelMapSynthesiser`` takes it.

    Raises:
        ScanError: when the file cannot be read or its voxels are not 1 mm.
    """
    found = nifti.read_label_map(path)
    if not np.allclose(found.spacing_mm, 1.0, atol=0.01):
        raise ScanError(
            f"{path}: {grid_text(found.shape, found.spacing_mm)}; label maps for synthesis must "
            "have voxels of 1 mm"
        )
    index_map, _ = to_closest_ras(Grid(found.shape, found.affine))
    return torch.from_numpy(np.ascontiguousarray(index_map.view(found.data), np.int16))


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
        from ddmseg.imaging.synthesis.settings import SynthesisSettings
        from ddmseg.imaging.synthesis.synthesiser import LabelMapSynthesiser

        rest = (1 - settings.t1_probability) / 4
        drawn = SynthesisSettings(
            contrast_weights=(settings.t1_probability, rest, rest, 2 * rest),
            skull_strip_probability=settings.skull_strip_probability,
            brain_centred_probability=settings.brain_centred_probability,
        )
        if settings.lesions:
            self.labels = (*ANATOMY_LABELS, LESION)
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
