"""The reader of BIDS folders: images of ``sub-*[/ses-*]/anat`` by their entities.

Source: BIDS 1.10, "Magnetic Resonance Imaging data", "Imaging derivatives", "Filename format".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ddmseg.datasets.case import Case, require_cases, volume_files, volume_stem
from ddmseg.errors import ScanError

LABELS_SUFFIX = "dseg"
ENTITIES = {
    "subject": "sub",
    "session": "ses",
    "task": "task",
    "acquisition": "acq",
    "ceagent": "ce",
    "reconstruction": "rec",
    "direction": "dir",
    "run": "run",
    "echo": "echo",
    "flip": "flip",
    "inversion": "inv",
    "mt": "mt",
    "part": "part",
    "processing": "proc",
    "chunk": "chunk",
}
"""Entities that the name of an anatomical image may have, by their long names."""
_PART = re.compile(r"[a-z]+-[0-9a-zA-Z+]+")


@dataclass(frozen=True)
class BidsImage:
    """An anatomical image at a place such as ``sub-01/ses-a``; its suffix is the contrast.

    Entities are by their short names, in the order of the file name; none where the name is not
    one of BIDS.
    """

    path: Path
    place: str
    entities: dict[str, str]
    suffix: str

    @property
    def stem(self) -> str:
        """The name without suffix and ending."""
        return "_".join(f"{name}-{value}" for name, value in self.entities.items())


def bids_places(root: Path) -> list[str]:
    """Return every subject, or session of one, in order: ``sub-01``, ``sub-02/ses-a``.

    A subject with sessions is a place of its own only where it has a folder ``anat``, too.
    """
    found = []
    for subject in _folders(root, "sub-"):
        sessions = _folders(subject, "ses-")
        if not sessions or (subject / "anat").is_dir():
            found.append(subject.name)
        found += [f"{subject.name}/{session.name}" for session in sessions]
    return found


def anat_images(root: Path) -> Iterator[BidsImage]:
    """Yield every NIfTI image of ``anat``, place by place, by name."""
    for place in bids_places(root):
        for path in volume_files(root / place / "anat"):
            yield BidsImage(path, place, *_parsed(volume_stem(path), place))


def list_cases(folder: str | Path, *, contrasts: tuple[str, ...] = ("T1w",)) -> list[Case]:
    """Return the sessions that have every contrast; the group is the subject.

    The images of a case are in the order of ``contrasts``. Labels are the one
    file ``<subject>[_<session>]..._dseg.nii.gz`` in the same folder or below
    ``derivatives``, or None where there is none. Of several runs the first in
    alphabetical order is taken.

    Raises:
        ScanError: when no session has every contrast or one has several label maps.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ScanError(f"{root}: the folder does not exist; name a BIDS folder")
    derived = sorted(root.glob(f"derivatives/**/sub-*_{LABELS_SUFFIX}.nii*"))
    by_place: dict[str, list[BidsImage]] = {}
    for image in anat_images(root):
        by_place.setdefault(image.place, []).append(image)
    cases = []
    for place, images in by_place.items():
        name = place.replace("/", "_")
        firsts = [_paths(images, contrast)[:1] for contrast in contrasts]
        if all(firsts):
            labels = _labels(images, derived, name)
            present = tuple(path for (path,) in firsts)
            cases.append(Case(name, present, labels, name.split("_")[0]))
    return require_cases(cases, root, f"sub-01/anat/sub-01_{contrasts[0]}.nii.gz")


def _folders(parent: Path, prefix: str) -> list[Path]:
    return sorted(path for path in parent.glob(f"{prefix}*") if path.is_dir())


def _parsed(stem: str, place: str) -> tuple[dict[str, str], str]:
    """Return entities and suffix of a name; no entities where it breaks the rules."""
    *parts, suffix = stem.split("_")
    entities = dict(part.split("-", 1) for part in parts if _PART.fullmatch(part))
    own = [f"{name}-{entities[name]}" for name in ("sub", "ses") if name in entities]
    known = len(entities) == len(parts) and set(entities) <= set(ENTITIES.values())
    return (entities if known and "/".join(own) == place else {}), suffix


def _paths(images: Sequence[BidsImage], suffix: str) -> list[Path]:
    return [image.path for image in images if image.suffix == suffix]


def _labels(images: Sequence[BidsImage], derived: Sequence[Path], name: str) -> Path | None:
    found = _paths(images, LABELS_SUFFIX)
    for path in derived:  # of this subject, and of no other session than the name says
        if path.name.startswith(f"{name}_") and ("_ses-" in path.name) == ("_ses-" in name):
            found.append(path)
    if len(found) > 1:
        listed = ", ".join(str(path) for path in found)
        raise ScanError(f"{name}: found {len(found)} label maps ({listed}); leave only one")
    return found[0] if found else None
