"""The folder of a BIDS derivative: its description, and what of it the validator is to ignore.

Source: BIDS 1.10, "Derived dataset and pipeline description".
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from ddmseg import __version__
from ddmseg.errors import OutputError, UsageError
from ddmseg.messages import NOTICE
from ddmseg.outputs.text import write_text

DESCRIPTION = "dataset_description.json"
_BIDS_VERSION = "1.10.0"
_RAW = "raw"
"""What the results call the folder of the scans."""
IGNORED = (
    "*_desc-brain_image.*",
    "*_dseg.mgz",
    "*_map.nii.gz",
    "*_map.json",
    "*_volumes.*",
    "*_aseg.stats",
    "*_qc.json",
    "*_report.html",
    "*_receipt.json",
    "group_*",
    "review_log*",
    "corrected*",
    "**/.*",
)
"""Files that BIDS has no names for."""


def bids_uri(source: str) -> str:
    """Return how a sidecar names a scan.

    >>> bids_uri("sub-01/anat/sub-01_T1w.nii.gz")
    'bids:raw:sub-01/anat/sub-01_T1w.nii.gz'
    """
    return f"bids:{_RAW}:{quote(source)}"


def describe_derivative(folder: Path, root: Path) -> None:
    """Write what a folder of results must say of itself; the same again writes nothing.

    Raises:
        UsageError: when both are one folder.
        OutputError: when another program's data set is there, or nothing can be written.
    """
    if folder.resolve() == root.resolve():
        raise UsageError(
            f"{folder}: the results would lie among the scans; name another folder, such as "
            f"{root / 'derivatives' / 'ddmseg'}"
        )
    told = _description(folder, root)
    path = folder / DESCRIPTION
    if path.exists() and not _is_ours(path):
        raise OutputError(f"{path} is not of ddmseg; choose another folder")
    _write_once(path, json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    _write_once(folder / ".bidsignore", "".join(f"{one}\n" for one in IGNORED))
    _write_once(folder / "README.md", f"# Brain segmentations by ddmseg\n\n{NOTICE}\n")


def _description(folder: Path, root: Path) -> dict[str, Any]:
    where = quote(Path(os.path.relpath(root.resolve(), folder.resolve())).as_posix())
    try:
        doi = json.loads((root / DESCRIPTION).read_text(encoding="utf-8"))["DatasetDOI"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        doi = None
    return {
        "Name": "ddmseg: brain segmentations",
        "BIDSVersion": _BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "ddmseg", "Version": __version__, "Description": NOTICE}],
        "SourceDatasets": [{"URL": where, **({"DOI": doi} if isinstance(doi, str) else {})}],
        "DatasetLinks": {_RAW: where},
    }


def _is_ours(path: Path) -> bool:
    try:
        made = json.loads(path.read_text(encoding="utf-8"))["GeneratedBy"]
        return any(one["Name"] == "ddmseg" for one in made)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _write_once(path: Path, text: str) -> None:
    """Write a file unless it says the same already: many jobs may begin at once."""
    try:
        if path.read_text(encoding="utf-8") == text:
            return
    except (OSError, ValueError):
        pass
    write_text(path, text)


def scans_folder(result: Path) -> Path | None:
    """Return the folder of the scans that the derivative of a result names; None without one."""
    for folder in result.absolute().parents:
        if _is_ours(folder / DESCRIPTION):
            links = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
            where = links.get("DatasetLinks", {}).get(_RAW)
            return folder / unquote(where) if isinstance(where, str) else None
    return None
