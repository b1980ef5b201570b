"""One case of a data set, and the folder that data sets are read from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ddmseg.errors import ScanError

DATA_VARIABLE = "DDMSEG_DATA"
"""Environment variable that names the folder with one subfolder a data set."""

VOLUME_SUFFIXES = (".nii.gz", ".nii", ".mgz", ".mgh")
"""Of the files that scans and label maps are read from."""


@dataclass(frozen=True)
class Case:
    """The files of one scan.

    Attributes:
        identifier: unique within its data set, and the key of split files.
        images: one file a contrast; empty where a set holds label maps only.
        group: the person; cases of one person never lie in two splits.
    """

    identifier: str
    images: tuple[Path, ...]
    labels: Path | None
    group: str


def data_folder(name: str, root: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of a data set: ``root / name``, ``root`` or what DDMSEG_DATA says.

    Raises:
        ScanError: when neither is given or the folder is not there.
    """
    base = root if root is not None else os.environ.get(DATA_VARIABLE)
    if not base:
        raise ScanError(
            f"data set {name}: no data folder was given; name the folder that holds "
            f"'{name}' with --data or the variable {DATA_VARIABLE}"
        )
    folder = Path(base) / name
    if not folder.is_dir():
        raise ScanError(
            f"data set {name}: the folder {folder} does not exist; put the set there, or "
            f"name another folder with --data or the variable {DATA_VARIABLE}"
        )
    return folder


def volume_stem(path: Path) -> str:
    """Return the file name without ``.nii.gz`` or another of :data:`VOLUME_SUFFIXES`.

    >>> volume_stem(Path("sub-01_T1w.nii.gz"))
    'sub-01_T1w'
    """
    for suffix in VOLUME_SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def is_volume_name(path: Path) -> bool:
    """Say whether a file is called as NIfTI or MGH files are, in letters of any case."""
    return path.name.lower().endswith(VOLUME_SUFFIXES)


def volume_files(folder: Path) -> list[Path]:
    """Return the NIfTI and MGH files directly in a folder, sorted; hidden files are left out."""
    if not folder.is_dir():
        return []
    return sorted(
        path for path in folder.iterdir() if is_volume_name(path) and not path.name.startswith(".")
    )


def require_cases(cases: Sequence[Case], folder: Path, pattern: str) -> list[Case]:
    """Return the cases as a list; a ScanError where there is none."""
    if not cases:
        raise ScanError(f"{folder}: found no case; expected files named like {pattern}")
    return list(cases)
