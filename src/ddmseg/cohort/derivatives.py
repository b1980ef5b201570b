"""The folder of a BIDS derivative: its description, and what of it the validator is to ignore.

Source: BIDS 1.10, "Derived dataset and pipeline description".
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
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
    *("*_desc-brain_image.*", "*_dseg.mgz", "*_map.nii.gz", "*_map.json", "*_volumes.*"),
    *("*_aseg.stats", "*_qc.json", "*_report.html", "*_receipt.json"),
    *("group_*", "review_log*", "corrected*", "**/.*"),
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
    path = folder / DESCRIPTION
    if path.exists() and _ours(folder) is None:
        raise OutputError(f"{path} is not of ddmseg; choose another folder")
    where = quote(Path(os.path.relpath(root.resolve(), folder.resolve())).as_posix())
    doi = _description(root).get("DatasetDOI")
    told = {
        "Name": "ddmseg: brain segmentations",
        "BIDSVersion": _BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "ddmseg", "Version": __version__, "Description": NOTICE}],
        "SourceDatasets": [{"URL": where, **({"DOI": doi} if isinstance(doi, str) else {})}],
        "DatasetLinks": {_RAW: where},
    }
    _write_once(path, json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    _write_once(folder / ".bidsignore", "".join(f"{one}\n" for one in IGNORED))
    _write_once(folder / "README.md", f"# Brain segmentations by ddmseg\n\n{NOTICE}\n")


def _description(folder: Path) -> dict[str, Any]:
    """Return what a folder says of itself; nothing where that cannot be read."""
    try:
        told = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        return told if isinstance(told, dict) else {}
    except (OSError, ValueError, RecursionError):
        return {}


def _ours(folder: Path) -> dict[str, Any] | None:
    """Return what a folder says of itself where it is a derivative of ours, else None."""
    told = _description(folder)
    made = told.get("GeneratedBy")
    made = made if isinstance(made, list) else []
    ours = any(isinstance(one, dict) and one.get("Name") == "ddmseg" for one in made)
    return told if ours else None


def _write_once(path: Path, text: str) -> None:
    """Write a file unless it says the same already: many jobs may begin at once."""
    with suppress(OSError, ValueError):
        if path.read_text(encoding="utf-8") == text:
            return
    write_text(path, text)


def scans_folder(result: Path) -> Path | None:
    """Return the folder of the scans that the derivative of a result names; None without one."""
    for folder in result.absolute().parents:
        if (told := _ours(folder)) is not None:
            where = told.get("DatasetLinks", {}).get(_RAW)
            return folder / unquote(where) if isinstance(where, str) else None
    return None
