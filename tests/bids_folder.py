"""BIDS folders for tests: of empty files to choose from, or of small heads to segment."""

from __future__ import annotations

import json
from pathlib import Path

from toy_head import write_head


def describe(root: Path, **more: object) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    told = {"Name": "study", "BIDSVersion": "1.10.0", **more}
    (root / "dataset_description.json").write_text(json.dumps(told))
    return root


def image(root: Path, name: str, *, seed: int | None = None) -> Path:
    """Make the file of that name in its place; a head with a seed, else empty."""
    parts = [part for part in name.split("_") if part.startswith(("sub-", "ses-"))]
    path = root.joinpath(*parts, "anat", f"{name}.nii.gz")
    path.parent.mkdir(parents=True, exist_ok=True)
    if seed is None:
        path.write_bytes(b"")
        return path
    return write_head(path, seed=seed)


def study(root: Path, subjects: int = 3) -> Path:
    """A folder with one small T1w head of each subject."""
    for number in range(1, subjects + 1):
        image(root, f"sub-{number:02d}_T1w", seed=number)
    return describe(root)
