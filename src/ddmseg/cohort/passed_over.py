"""What of a folder is no scan to segment, counted with the reason: nothing is left out silently."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from ddmseg.datasets.case import is_volume_name, volume_stem
from ddmseg.outputs.names import SUFFIXES

HIDDEN = "hidden"
RESULT = "of earlier results"
NO_NIFTI = "neither NIfTI nor MGH"
FOLDER = "folders that are not looked into"
_NAMED = 5
"""Subjects and endings that are named before the rest is only counted."""


def is_result(path: Path) -> bool:
    """Say whether a file is called as the results of an earlier run are."""
    return f"{volume_stem(path)}.nii.gz".endswith(SUFFIXES) or path.name.endswith(SUFFIXES)


def passed_over(folder: Path, taken: Collection[Path]) -> list[str]:
    """Return what of a folder is not taken, a line each.

    Args:
        folder: as the user named it.
        taken: the files of it that are scans; those of a BIDS folder lie deeper.
    """
    found = [*folder.iterdir()]
    subjects = sorted(path for path in found if path.name.startswith("sub-") and path.is_dir())
    in_bids = any(path.parent != folder for path in taken)
    kept = set(taken) | set(subjects if in_bids else ())
    why = Counter(_reason(path, path.is_dir()) for path in found if path not in kept)
    endings = {path.suffix or "no ending" for path in found if _reason(path, False) == NO_NIFTI}
    lines = []
    if in_bids:
        below = list(_files_below(subjects))
        why.update(_reason(path, False, bids=True) for path in below if path not in kept)
        endings |= {path.suffix for path in below if not is_volume_name(path)}
        if without := [*_without_scan(folder, subjects, taken)]:
            lines.append(f"{folder}: no scan of {_some(without)}")
    if why:
        counted = ", ".join(f"{n} {_with_endings(reason, endings)}" for reason, n in _sorted(why))
        lines.append(f"{folder}: passed over {counted}")
    return lines


def _reason(path: Path, is_folder: bool, *, bids: bool = False) -> str:
    if path.name.startswith("."):
        return HIDDEN
    if is_folder:
        return FOLDER
    if is_result(path):
        return RESULT
    if not is_volume_name(path):
        return NO_NIFTI
    return f"*_{volume_stem(path).rpartition('_')[2]}" if bids else "other"


def _files_below(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        for parent, _, names in os.walk(folder):
            yield from (Path(parent) / name for name in names)


def _without_scan(root: Path, subjects: Iterable[Path], taken: Iterable[Path]) -> Iterator[str]:
    """Yield the subjects, or sessions of them, that no scan is of."""
    held = {folder for path in taken for folder in path.parents}
    for subject in subjects:
        sessions = sorted(path for path in subject.glob("ses-*") if path.is_dir())
        for one in sessions if subject in held else [subject]:
            if one not in held:
                yield one.relative_to(root).as_posix()


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _with_endings(reason: str, endings: set[str]) -> str:
    return f"{reason} ({_some(sorted(endings))})" if reason == NO_NIFTI else reason


def _sorted(why: Counter[str]) -> list[tuple[str, int]]:
    return sorted(why.items(), key=lambda item: (-item[1], item[0]))
