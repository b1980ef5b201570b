"""Whole-head label maps for synthesis: 1 mm, ids of ``generation_labels()``, no images.

Source: training label maps of SynthSeg (Billot et al. 2023), Apache-2.0 repository.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int16
from torch import Tensor

from ddmseg.datasets.case import (
    Case,
    data_folder,
    nifti_files,
    nifti_stem,
    require_cases,
)
from ddmseg.errors import ScanError

NAME = "label_maps"


def list_cases(root: str | os.PathLike[str] | None = None) -> list[Case]:
    """Return the label maps as cases without images; each is a group of its own.

    Raises:
        ScanError: when the folder is absent or empty.
    """
    folder = data_folder(NAME, root)
    files = nifti_files(folder)
    cases = [Case(nifti_stem(path), (), path, nifti_stem(path)) for path in files]
    return require_cases(cases, folder, "training_seg_01.nii.gz")


def read_label_map(path: Path) -> Int16[Tensor, "i j k"]:
    """Return a label map in RAS orientation, as ``LabelMapSynthesiser`` takes it.

    Raises:
        ScanError: when the file cannot be read or its voxels are not 1 mm.
    """
    import nibabel

    try:
        image = nibabel.as_closest_canonical(nibabel.load(path))  # type: ignore[no-untyped-call]
        data = np.asarray(image.dataobj)
    except (OSError, EOFError, nibabel.filebasedimages.ImageFileError) as error:
        raise ScanError(f"{path}: cannot be read as a label map ({error})") from error
    spacing_mm = np.asarray(image.header.get_zooms()[:3], dtype=float)
    if data.ndim != 3 or not np.allclose(spacing_mm, 1.0, atol=0.01):
        raise ScanError(
            f"{path}: shape {data.shape}, spacing {spacing_mm.round(3).tolist()} mm; "
            "label maps for synthesis must be 3-D with 1 mm voxels"
        )
    return torch.from_numpy(np.ascontiguousarray(data.astype(np.int16)))
