"""Which prediction belongs to which truth, by the names of files and folders.

Two files are a pair when they alone share, in this order: the place below the folders
named; the place without usual endings; the file name; the file name without usual
endings; the BIDS subject and session.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ddmseg.datasets.case import VOLUME_SUFFIXES, is_volume_name, volume_stem
from ddmseg.errors import ScanError, first_of

LABEL_ENDINGS = (
    *("dseg", "seg", "aseg", "aparc+aseg", "synthseg", "segmentation", "labels", "label", "lbl"),
    *("glm", "pred", "prediction", "mask", "truth", "gt", "manual"),
)
"""Last words of label maps' names. Where a folder has such files, its others are not labels."""

SCAN_ENDINGS = ("T1w", "T1", "T2w", "T2", "FLAIR", "brain", "SS", "0000")
"""Last words that a label map takes over from the name of its scan."""

_MAPS = re.compile(r"(?:_probseg|_map|_desc-brain_mask)$")
_LABELS = re.compile(rf"[_.-](?:{'|'.join(map(re.escape, LABEL_ENDINGS))})$", re.IGNORECASE)
_USUAL = re.compile(
    rf"[_.-](?:{'|'.join(map(re.escape, (*LABEL_ENDINGS, *SCAN_ENDINGS)))})$", re.IGNORECASE
)
_SUBJECT = re.compile(r"(?:^|[_/])(sub-[A-Za-z0-9]+)")
_SESSION = re.compile(r"(?:^|[_/])(ses-[A-Za-z0-9]+)")
_RUN = re.compile(r"_run-0*(\d+)")
_SHOWN, _LEVELS = 3, 5


@dataclass(frozen=True)
class Pair:
    """A prediction with its truth, and the name of the patient or scan."""

    case: str
    prediction: Path
    truth: Path


@dataclass(frozen=True)
class _Named:
    """A file with the names it can be found by, the most exact first; empty ones find nothing."""

    path: Path
    keys: tuple[str, ...]

    @property
    def subject(self) -> str:
        return self.keys[-1]


def find_label_maps(named: Path) -> list[Path]:
    """Return the label maps of a folder and of those below it, sorted, or the one file.

    Brain masks and maps of uncertainty, discrepancy and probability are left out, and scans that
    lie beside files named as label maps. A ScanError says that there is none.
    """
    if named.is_file():
        return [named]
    if not named.is_dir():
        raise ScanError(f"{named}: no such file or folder; check the path")
    files = sorted(
        path
        for path in named.rglob("*")
        if is_volume_name(path)
        and not any(part.startswith(".") for part in path.relative_to(named).parts)
        and not _MAPS.search(volume_stem(path))
    )
    if not files:
        wanted = " or ".join(VOLUME_SUFFIXES)
        raise ScanError(f"{named}: no label map in this folder; it must hold {wanted} files")
    # segment --mgz writes the same labels beside those in NIfTI
    files = [p for p in files if p.suffix != ".mgz" or not p.with_suffix(".nii.gz").is_file()]
    return [path for path in files if _LABELS.search(volume_stem(path))] or files


def match_label_maps(predictions: Path, truth: Path) -> tuple[list[Pair], list[str]]:
    """Pair the label maps of two folders, sorted by name; two files are a pair at once.

    Returns the pairs, and one line for each file or group of files that has no partner. A
    ScanError says that either side holds no label map.
    """
    ours, theirs = find_label_maps(predictions), find_label_maps(truth)
    if predictions.is_file() and truth.is_file():
        return [Pair(subject_of(volume_stem(truth)), predictions, truth)], []
    left = [_named(path, predictions) for path in ours]
    right = [_named(path, truth) for path in theirs]
    found = [pair for level in range(_LEVELS) for pair in _take_pairs(left, right, level)]
    problems = _ambiguous(left, right)
    for files, what, other in ((left, "truth", truth), (right, "prediction", predictions)):
        advice = f"no {what} for it in {other}; name both alike or leave it out"
        problems += [f"{one.path}: {advice}" for one in files]
    return _with_cases(found), problems


def subject_of(stem: str) -> str:
    """Return a file's name without the usual endings of label maps and scans.

    >>> subject_of("1000_SS_dseg"), subject_of("sub-01_T1w"), subject_of("seg")
    ('1000', 'sub-01', 'seg')
    """
    while (shorter := _USUAL.sub("", stem)) not in (stem, ""):
        stem = shorter
    return stem


def bids_subject(place: str) -> str:
    """Return subject and session of a path below a BIDS folder, or "".

    >>> bids_subject("sub-01/ses-b/anat/labels"), bids_subject("sub-02_run-1_dseg")
    ('sub-01_ses-b', 'sub-02')
    """
    subject, session = _SUBJECT.search(place), _SESSION.search(place)
    return "_".join(match[1] for match in (subject, session) if match) if subject else ""


def _named(path: Path, root: Path) -> _Named:
    relative = path.relative_to(root) if root.is_dir() else Path(path.name)
    folder, stem = relative.parent.as_posix(), volume_stem(relative)
    short, place = subject_of(stem), f"{folder}/{stem}"
    return _Named(path, (place, f"{folder}/{short}", stem, short, bids_subject(place)))


def _take_pairs(left: list[_Named], right: list[_Named], level: int) -> list[tuple[_Named, _Named]]:
    """Remove from both sides, and return, the files that alone share the name of one level."""
    ours, theirs = _grouped(left, level), _grouped(right, level)
    found = [
        (ours[key][0], theirs[key][0])
        for key in ours.keys() & theirs.keys()
        if len(ours[key]) == len(theirs[key]) == 1 and _can_be_one(ours[key][0], theirs[key][0])
    ]
    for one, other in found:
        left.remove(one)
        right.remove(other)
    return found


def _grouped(files: Iterable[_Named], level: int) -> dict[str, list[_Named]]:
    groups: dict[str, list[_Named]] = {}
    for one in files:
        if one.keys[level]:
            groups.setdefault(one.keys[level], []).append(one)
    return groups


def _can_be_one(one: _Named, other: _Named) -> bool:
    """Whether neither names a subject, session or run that contradicts the other's."""
    runs = [_RUN.search(item.path.name) for item in (one, other)]
    if runs[0] and runs[1] and runs[0][1] != runs[1][1]:
        return False
    return not (one.subject and other.subject) or one.subject == other.subject


def _ambiguous(left: list[_Named], right: list[_Named]) -> list[str]:
    """Remove from both sides the files with several possible partners; a line for each group."""
    lines = []
    for level in range(_LEVELS):
        ours, theirs = _grouped(left, level), _grouped(right, level)
        for key in sorted(ours.keys() & theirs.keys()):
            if len(ours[key]) == len(theirs[key]) == 1:
                continue  # these contradict each other: they have no partner
            lines.append(
                f"{key.removeprefix('./')}: ambiguous, for {_listed(ours[key])} could belong to "
                f"{_listed(theirs[key])}; leave one of each"
            )
            left[:] = [one for one in left if one not in ours[key]]
            right[:] = [one for one in right if one not in theirs[key]]
    return lines


def _listed(files: Sequence[_Named]) -> str:
    return first_of([str(one.path) for one in files], _SHOWN)


def _with_cases(found: Sequence[tuple[_Named, _Named]]) -> list[Pair]:
    """Name each pair shortly, and by its place where short names are equal."""
    pairs = []
    for ours, theirs in found:
        short = theirs.keys[3] if ours.keys[3] == theirs.keys[3] else theirs.subject
        pairs.append((Pair(short or theirs.keys[3], ours.path, theirs.path), theirs.keys[0]))
    counts = Counter(pair.case for pair, _ in pairs)
    named = (
        pair if counts[pair.case] == 1 else replace(pair, case=place.removeprefix("./"))
        for pair, place in pairs
    )
    return sorted(named, key=lambda pair: pair.case)
