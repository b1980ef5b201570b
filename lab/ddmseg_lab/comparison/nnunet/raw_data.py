"""A data set as nnU-Net wants it on disk: NIfTI files, ``dataset.json`` and the split.

Source: nnU-Net v2, documentation/dataset_format.md and manual_data_splits.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddmseg.datasets.source import LabelledSource
from ddmseg.datasets.subject import Subject
from ddmseg.errors import TrainingError
from ddmseg.imaging.nifti import read_label_map, write_label_map, write_map
from ddmseg.imaging.volume import LabelMap, Volume
from ddmseg.models.checkpoint import replace_file

ENDING = ".nii.gz"
CONTRAST = "MRI"
"""Any name but CT: each scan is then normalised by its own mean and deviation."""


@dataclass(frozen=True)
class NnunetFolder:
    """Where one row keeps what nnU-Net reads and writes of a data set, named as it wants."""

    path: Path
    dataset: str

    @property
    def raw(self) -> Path:
        """The scans as nnU-Net is given them."""
        return self.path / "raw" / self.dataset

    @property
    def split(self) -> Path:
        """The file that says which subjects are trained on and which choose the weights."""
        return self.path / "preprocessed" / self.dataset / "splits_final.json"

    @property
    def predictions(self) -> Path:
        """Label maps of the test subjects."""
        return self.path / "results" / self.dataset / "predictions"

    def variables(self) -> dict[str, str]:
        """Return the environment variables by which nnU-Net finds its folders."""
        names = ("raw", "preprocessed", "results")
        return {f"nnUNet_{name}": str((self.path / name).absolute()) for name in names}


def write_raw_data(source: LabelledSource, folder: NnunetFolder) -> None:
    """Write all subjects of a source; ``dataset.json`` comes last.

    nnU-Net is given the images as the other networks see them, normalised, on their own
    grid. Test labels are not written.
    """
    contrasts = 0
    for split in ("train", "validation"):
        for subject in source.subjects(split):
            contrasts = len(_write_image(subject, folder.raw / "imagesTr"))
            labels = subject.labels.numpy().astype(np.uint8)
            like = _volume(subject, 0)
            path = folder.raw / "labelsTr" / f"{subject.identifier}{ENDING}"
            write_label_map(path, LabelMap(labels, like.affine, like.name), like)
    for subject in source.subjects("test"):
        _write_image(subject, folder.raw / "imagesTs")
    names = source.split()
    # nnU-Net reads any number of folds; the row has this one.
    _write_json(folder.split, [{"train": names["train"], "val": names["validation"]}])
    described = {
        "channel_names": {str(n): CONTRAST for n in range(contrasts)},
        "labels": {"background": 0, **{name: k for k, name in source.structures.items()}},
        "numTraining": len(names["train"]) + len(names["validation"]),
        "file_ending": ENDING,
    }
    _write_json(folder.raw / "dataset.json", described)


def read_predictions(
    source: LabelledSource, folder: NnunetFolder
) -> Iterator[tuple[Subject, NDArray[Any]]]:
    """Yield each test subject with the label map that nnU-Net gave it."""
    for subject in source.subjects("test"):
        path = folder.predictions / f"{subject.identifier}{ENDING}"
        if not path.is_file():
            raise TrainingError(f"{path}: nnU-Net left no prediction; run the row again")
        found = read_label_map(path).data
        if found.shape != tuple(subject.labels.shape):
            raise TrainingError(
                f"{path}: nnU-Net predicted {found.shape} voxels for a scan of "
                f"{tuple(subject.labels.shape)}; remove {folder.path} and run the row again"
            )
        yield subject, found


def _write_image(subject: Subject, folder: Path) -> list[Path]:
    """Write a file for each contrast."""
    written = []
    for number in range(len(subject.image)):
        like = _volume(subject, number)
        written.append(folder / f"{subject.identifier}_{number:04d}{ENDING}")
        write_map(written[-1], like.data, like, description="for nnU-Net")
    return written


def _volume(subject: Subject, contrast: int) -> Volume:
    """Return a contrast; of the affine nnU-Net takes nothing but the spacing."""
    affine = np.diag([*subject.spacing_mm, 1.0])
    return Volume(subject.image[contrast].numpy(), affine, subject.identifier)


def _write_json(path: Path, content: object) -> None:
    replace_file(path, (json.dumps(content, indent=1) + "\n").encode())
