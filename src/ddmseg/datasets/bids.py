"""Any folder laid out like BIDS: scans in ``sub-*/anat``, label maps in derivatives.

Source: BIDS 1.9, "Magnetic Resonance Imaging data" and "Imaging derivatives".
"""

from __future__ import annotations

from pathlib import Path

from ddmseg.datasets.case import Case, nifti_files, nifti_stem, require_cases
from ddmseg.errors import ScanError

LABELS_SUFFIX = "dseg"


def list_cases(folder: str | Path, *, contrasts: tuple[str, ...] = ("T1w",)) -> list[Case]:
    """Return the sessions that have every contrast; the group is the subject.

    The images of a case are in the order of ``contrasts``. Labels are the one
    file ``<subject>[_<session>]..._dseg.nii.gz`` in the same folder or below
    ``derivatives``, or None where there is none. Of several runs the first in
    alphabetical order is taken.

    Raises:
        ScanError: when the folder is absent, no session has every contrast or
            a session has several label maps.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ScanError(f"{root}: the folder does not exist; name a BIDS folder")
    derived = sorted(root.glob(f"derivatives/**/sub-*_{LABELS_SUFFIX}.nii*"))
    cases = []
    for anat in sorted((*root.glob("sub-*/anat"), *root.glob("sub-*/ses-*/anat"))):
        name = "_".join(
            part for part in anat.relative_to(root).parts if part.startswith(("sub-", "ses-"))
        )
        files = nifti_files(anat)
        images = [_first(files, contrast) for contrast in contrasts]
        present = tuple(path for path in images if path is not None)
        if len(present) == len(contrasts):
            labels = _labels([*_ending(files, LABELS_SUFFIX), *_of(derived, name)], name)
            cases.append(Case(name, present, labels, name.split("_")[0]))
    return require_cases(cases, root, f"sub-01/anat/sub-01_{contrasts[0]}.nii.gz")


def _ending(files: list[Path], suffix: str) -> list[Path]:
    return [path for path in files if nifti_stem(path).endswith(f"_{suffix}")]


def _first(files: list[Path], suffix: str) -> Path | None:
    return next(iter(_ending(files, suffix)), None)


def _of(files: list[Path], name: str) -> list[Path]:
    return [path for path in files if path.name.startswith(f"{name}_") and _session_of(path, name)]


def _session_of(path: Path, name: str) -> bool:
    """Say whether a file of subject ``name`` names no other session than ``name`` does."""
    return ("_ses-" in path.name) == ("_ses-" in name)


def _labels(found: list[Path], name: str) -> Path | None:
    if len(found) > 1:
        listed = ", ".join(str(path) for path in found)
        raise ScanError(f"{name}: found {len(found)} label maps ({listed}); leave only one")
    return found[0] if found else None
