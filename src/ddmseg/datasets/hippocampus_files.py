"""Medical Segmentation Decathlon, Task04: T1 crops around one hippocampus.

Labels: 1 anterior, 2 posterior (``protocol_map("hippocampus")``).

Source: Antonelli et al. 2022, doi:10.1038/s41467-022-30695-9; CC-BY-SA 4.0.
"""

from __future__ import annotations

import os
from pathlib import Path

from ddmseg.datasets.case import (
    Case,
    data_folder,
    nifti_files,
    nifti_stem,
    require_cases,
)

NAME = "hippocampus"


def list_cases(root: str | os.PathLike[str] | None = None) -> list[Case]:
    """Return the cases of ``imagesTr``; each is a group of its own.

    Raises:
        ScanError: when the folder is absent or empty.
    """
    folder = data_folder(NAME, root)
    cases = [_case(folder, image) for image in nifti_files(folder / "imagesTr")]
    return require_cases(cases, folder, "imagesTr/hippocampus_001.nii.gz")


def _case(folder: Path, image: Path) -> Case:
    labels = folder / "labelsTr" / image.name
    name = nifti_stem(image)
    return Case(name, (image,), labels if labels.is_file() else None, name)
