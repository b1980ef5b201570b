"""What of a folder is no scan to segment, counted with the reason: nothing is left out silently."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from ddmseg.datasets.case import is_volume_name, volume_stem
from ddmseg.errors import first_of
from ddmseg.outputs.names import SUFFIXES

_NO_NIFTI, _FOLDER = "neither NIfTI nor MGH", "folders that are not looked into"
_NAMED = 5
"""Subjects and endings that are named before the rest is only counted."""
_LABEL_WORDS = frozenset(
    (
        *("seg", "dseg", "probseg", "aseg", "wmparc", "aparc", "ribbon", "segmentation"),
        *("segmentations", "label", "labels", "mask", "masks", "brainmask", "roi", "parc"),
        *("parcellation", "gt", "groundtruth", "annotation", "annotations", "derivatives"),
    )
)


def is_result(path: Path) -> bool:
    """Say whether a file is called as the results of an earlier run are."""
    return f"{volume_stem(path)}.nii.gz".endswith(SUFFIXES) or path.name.endswith(SUFFIXES)


def says_labels(name: str) -> bool:
    """Say whether a file or folder is called as label maps and masks are.

    >>> says_labels("BraTS-GLI-00000-000-seg.nii.gz"), says_labels("sub-01_desc-masked_T1w.nii")
    (True, False)
    """
    words = re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
    return not _LABEL_WORDS.isdisjoint(words)


def passed_over(folder: Path, taken: Collection[Path]) -> list[str]:
    """Return what of a folder is not taken, a line each.

    Args:
        taken: the files and DICOM folders of it that are scans; those of a BIDS folder and of
            patient folders lie deeper.
    """
    found = [*folder.iterdir()]
    deep = {folder / path.relative_to(folder).parts[0] for path in taken if path.parent != folder}
    subjects = sorted(path for path in found if path.name.startswith("sub-") and path.is_dir())
    in_bids = bool(deep) and deep <= set(subjects)
    opened = deep | set(subjects if in_bids else ())
    top = [path for path in found if path not in opened and path not in taken]
    below = [path for path in _files_below(sorted(opened), taken) if path not in taken]
    folders = _FOLDER if in_bids or not deep else "folders without a scan"
    why = Counter(_reason(path, folder, folders) for path in top)
    why.update(_reason(path, folder, bids=in_bids) for path in below)
    endings = {
        path.suffix or "no ending"
        for path in (*(path for path in top if not path.is_dir()), *below)
        if _reason(path, folder) == _NO_NIFTI
    }
    lines = []
    if in_bids and (without := [*_without_scan(folder, subjects, taken)]):
        lines.append(f"{folder}: no scan of {first_of(without, _NAMED)}")
    if _NO_NIFTI in why:
        why[f"{_NO_NIFTI} ({first_of(sorted(endings), _NAMED)})"] = why.pop(_NO_NIFTI)
    if why:
        ordered = sorted(why.items(), key=lambda item: (-item[1], item[0]))
        lines.append(f"{folder}: passed over {', '.join(f'{n} {one}' for one, n in ordered)}")
    return lines


def _reason(path: Path, root: Path, folders: str = "", *, bids: bool = False) -> str:
    """Return why a path is no scan; of a folder ``folders``, where that is not empty."""
    if path.name.startswith("."):
        return "hidden"
    if folders and path.is_dir():
        return folders
    if is_result(path):
        return "of earlier results"
    if not is_volume_name(path):
        return _NO_NIFTI
    if bids:
        return f"*_{volume_stem(path).rpartition('_')[2]}"
    labels = any(map(says_labels, path.relative_to(root).parts))
    return "label maps or masks by their names" if labels else "other"


def _files_below(folders: Iterable[Path], closed: Collection[Path]) -> Iterator[Path]:
    """Yield the files below folders, but not of those that are scans themselves."""
    for folder in folders:
        for parent, inside, names in os.walk(folder):
            if Path(parent) in closed:
                inside.clear()
                continue
            yield from (Path(parent) / name for name in names)


def _without_scan(root: Path, subjects: Iterable[Path], taken: Iterable[Path]) -> Iterator[str]:
    """Yield the subjects, or sessions of them, that no scan is of."""
    held = {folder for path in taken for folder in path.parents}
    for subject in subjects:
        sessions = sorted(path for path in subject.glob("ses-*") if path.is_dir())
        for one in sessions if subject in held else [subject]:
            if one not in held:
                yield one.relative_to(root).as_posix()
