"""IBSR18: 18 skull-stripped T1 scans with manual tissues 1 CSF, 2 GM, 3 WM.

CSF means the ventricles; sulcal CSF lies inside GM. ``protocol_map("ibsr18")``
turns FreeSurfer ids into these tissues. For evaluation only.

Source: Internet Brain Segmentation Repository, Massachusetts General Hospital.
"""

from __future__ import annotations

import os

from ddmseg.datasets.case import (
    Case,
    data_folder,
    nifti_files,
    nifti_stem,
    require_cases,
)

NAME = "ibsr18"
FOLDS = ("fold-1", "fold-2", "fold-3", "fold-4")
"""Splits of the labelled scans; each fold has scans of two or three spacing groups."""

LABELS_ENDING = "_seg"


def list_cases(root: str | os.PathLike[str] | None = None) -> list[Case]:
    """Return the scans, with labels where they were distributed.

    Raises:
        ScanError: when the folder is absent or empty.
    """
    folder = data_folder(NAME, root)
    files = {nifti_stem(path): path for path in nifti_files(folder)}
    cases = [
        Case(name, (path,), files.get(name + LABELS_ENDING), name)
        for name, path in files.items()
        if not name.endswith(LABELS_ENDING)
    ]
    return require_cases(cases, folder, "IBSR_01.nii.gz and IBSR_01_seg.nii.gz")
