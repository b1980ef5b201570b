"""Which images of a BIDS folder are segmented, and why each other subject is passed over.

Of each subject, or session of it, all images of one contrast are taken: of the first of T1w,
FLAIR and T2w that is there as magnitude, or of the one that was asked for.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddmseg.cohort.scan import Refused, Scan
from ddmseg.datasets.bids import ENTITIES, BidsImage, anat_images, bids_places
from ddmseg.errors import DdmsegError, ScanError, UsageError, did_you_mean
from ddmseg.imaging.source_file import check_source

CONTRASTS = ("T1w", "FLAIR", "T2w")
"""In the order in which they are preferred."""
SPACE = "space-orig"
"""Entity of all results: they lie on the grid of the image that they are made from."""
_ANY, _NONE = ("*", "Query.ANY"), (None, "Query.NONE")


@dataclass(frozen=True)
class Wanted:
    """What was asked for: labels with or without ``sub-`` and ``ses-`` (none for all), contrasts
    in the order in which they are preferred, and for each what its entities must be.
    """

    participants: Sequence[str] = ()
    sessions: Sequence[str] = ()
    contrasts: Sequence[str] = CONTRASTS
    filters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass
class Choice:
    """What is taken.

    Attributes:
        refused: labels that do not exist, and images whose content is not here.
        passed_over: reason by subject or session.
        left: how many images beside a chosen one were left, by reason.
    """

    scans: list[Scan] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    passed_over: dict[str, str] = field(default_factory=dict)
    left: Counter[str] = field(default_factory=Counter)

    def lines(self) -> Iterator[str]:
        """Yield a line for each subject or session that is passed over, and one for the rest."""
        yield from (f"passed over {place}: {why}" for place, why in self.passed_over.items())
        if self.left:
            yield f"left beside the chosen images: {_counted(self.left)}"


def _counted(reasons: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))


def check_bids(root: Path) -> None:
    """Check that a folder is one of BIDS by its description; a UsageError says what is missing."""
    path = root / "dataset_description.json"
    advice = "mend it, or pass --skip-bids-validation"
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder; name a BIDS folder")
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in ("Name", "BIDSVersion") if not described.get(key)]
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        why = "is missing" if isinstance(error, FileNotFoundError) else "cannot be read"
        raise UsageError(f"{root}: no BIDS folder, {path.name} {why}; {advice}") from error
    if missing:
        raise UsageError(f"{path}: {' and '.join(missing)} missing; {advice}")
    if described.get("DatasetType", "raw") == "derivative":
        raise UsageError(f"{root}: holds derivatives, not scans; name the folder of the scans")


def read_filters(path: Path) -> dict[str, dict[str, Any]]:
    """Read a BIDS filter file, as fMRIPrep has it: ``{"t1w": {"session": "pre"}}``.

    Values are a label, a list of them, ``"*"`` for any or null for none. Entities come by their
    short names, by contrast; queries for other images are left out.

    Raises:
        UsageError: when it cannot be read or names an entity that there is not.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read as JSON ({error}); mend it") from error
    if not isinstance(told, dict) or not all(isinstance(one, dict) for one in told.values()):
        raise UsageError(f'{path}: must be an object of objects, such as {{"t1w": {{"run": 1}}}}')
    known = {contrast.lower(): contrast for contrast in CONTRASTS}
    queries = {known[key.lower()]: query for key, query in told.items() if key.lower() in known}
    if not queries:
        allowed = ", ".join(known)
        raise UsageError(f"{path}: no query for an image that is segmented; allowed are {allowed}")
    return {contrast: _short(path, query) for contrast, query in queries.items()}


def _short(path: Path, query: Mapping[str, Any]) -> dict[str, Any]:
    short = {}
    for name, value in query.items():
        if name in ("datatype", "suffix", "extension"):
            continue  # which they are is what the query is called
        if name not in ENTITIES and name not in ENTITIES.values():
            near = did_you_mean(name, ENTITIES)
            allowed = ", ".join(ENTITIES)
            raise UsageError(f"{path}: '{name}' is no entity{near}; allowed are {allowed}")
        short[ENTITIES.get(name, name)] = value
    return short


def choose_scans(root: Path, wanted: Wanted) -> Choice:
    """Return what of a BIDS folder is segmented, and what is not, with the reasons."""
    choice = Choice()
    places = _wanted_places(root, bids_places(root), wanted, choice)
    images: dict[str, list[BidsImage]] = {place: [] for place in places}
    for image in anat_images(root) if images else ():
        if image.place in images:
            images[image.place].append(image)
    for place, found in images.items():
        _choose(root, place, found, wanted, choice)
    return choice


def _wanted_places(
    root: Path, places: Sequence[str], wanted: Wanted, choice: Choice
) -> Iterator[str]:
    """Yield the subjects and sessions that were asked for; note those that there are not."""
    subjects = [f"sub-{label.removeprefix('sub-')}" for label in wanted.participants]
    sessions = [f"ses-{label.removeprefix('ses-')}" for label in wanted.sessions]
    there = {part for place in places for part in place.split("/")}
    for label in dict.fromkeys([*subjects, *sessions]):
        if label not in there:
            error = ScanError(f"{root}: there is no {label}; check the label")
            choice.refused.append(Refused(root / label, error))
    held = set()
    for place in places:
        subject, _, session = place.partition("/")
        if subjects and subject not in subjects:
            continue
        if not sessions or session in sessions:
            held.add(subject)
            yield place
        else:
            choice.passed_over.setdefault(subject, f"no {' or '.join(sessions)}")
    for subject in held:
        choice.passed_over.pop(subject, None)


def _choose(
    root: Path, place: str, images: Sequence[BidsImage], wanted: Wanted, choice: Choice
) -> None:
    why = {image.path: _unfit(image, wanted) for image in images}
    fit = [image for image in images if not why[image.path]]
    contrast = next((c for c in wanted.contrasts if any(i.suffix == c for i in fit)), None)
    if contrast is None:
        listed = _counted(Counter(why.values()))
        listed = listed or ("anat is empty" if (root / place / "anat").is_dir() else "no anat")
        choice.passed_over[place] = f"no {' or '.join(wanted.contrasts)} image ({listed})"
        return
    taken: set[str] = set()
    for image in images:
        reason = why[image.path] or ("" if image.suffix == contrast else f"*_{image.suffix}")
        if reason:
            choice.left[reason] += 1
        else:
            _take(root, image, taken, choice)


def _unfit(image: BidsImage, wanted: Wanted) -> str:
    """Return why an image is not segmented; empty for one that may be."""
    if not image.entities:
        return "with a name that is not one of BIDS"
    if image.suffix not in wanted.contrasts:
        return f"*_{image.suffix}"
    if (part := image.entities.get("part", "mag")) != "mag":
        return f"part-{part}, not magnitude"
    allowed = wanted.filters.get(image.suffix, {})
    passes = all(_passes(image.entities.get(name), value) for name, value in allowed.items())
    return "" if passes else f"*_{image.suffix} that the filter file leaves out"


def _passes(value: str | None, allowed: Any) -> bool:
    if isinstance(allowed, list):
        return any(_passes(value, one) for one in allowed)
    if allowed in _NONE:
        return value is None
    if allowed in _ANY:
        return value is not None
    if value is None:
        return False
    if value.isdigit() and str(allowed).isdigit():  # run 1 is run-01
        return int(value) == int(allowed)
    return value == str(allowed)


def _take(root: Path, image: BidsImage, taken: set[str], choice: Choice) -> None:
    stem = f"{image.stem}_{SPACE}"
    try:
        check_source(image.path)
        if stem in taken:
            raise ScanError(f"{image.path}: its name is there twice; leave only one of the files")
    except DdmsegError as error:
        choice.refused.append(Refused(image.path, error))
        return
    taken.add(stem)
    source = image.path.relative_to(root).as_posix()
    choice.scans.append(Scan(image.path, stem, f"{image.place}/anat", source=source))
