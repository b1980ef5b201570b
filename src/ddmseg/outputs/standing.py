"""What stands where a result is to go: nothing, a part, the same result, or another one."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ddmseg.errors import OutputError
from ddmseg.imaging.source_file import file_sha256
from ddmseg.messages import NOTICE
from ddmseg.outputs.names import RECEIPT, VOLUME, existing_outputs
from ddmseg.outputs.staging import receipt_hashes

REQUEST = "request"
"""Where a receipt says what was asked for: the same again need not be done again."""
_NIFTI_HEADER = 348
_REPLACE = "pass --overwrite to replace it, or name another folder"


@dataclass(frozen=True)
class Standing:
    """Nothing or a part that a run left; what was asked for; what must not be replaced, and why."""

    kind: Literal["free", "done", "other"]
    why: str = ""


def standing(folder: Path, stem: str, request: Mapping[str, Any]) -> Standing:
    """Say what stands where the result of a request (:func:`plain_request`) is to go."""
    existing = existing_outputs(folder, stem)
    if not existing:
        return Standing("free")
    receipt = folder / f"{stem}{RECEIPT}"
    if receipt not in existing:
        why = f"{existing[0]} exists already and no receipt stands beside it; {_REPLACE}"
        return Standing("free") if _is_part_of_ours(existing) else Standing("other", why)
    hashes = receipt_hashes(receipt)
    if not hashes:
        return Standing("other", f"{receipt} exists already and cannot be read; {_REPLACE}")
    there = [name for name in hashes if (folder / name).is_file()]
    changed = [name for name in there if file_sha256(folder / name) != hashes[name]]
    if changed:
        why = f"{folder / changed[0]} was changed after its receipt; {_REPLACE}"
        return Standing("other", why)
    differs = _differs(receipt, request)
    if differs:
        apart = ", or keep scans of one name apart with --root" if "input" in differs else ""
        why = f"{existing[0]} exists already, of {differs}; {_REPLACE}{apart}"
        return Standing("other", why)
    return Standing("done" if len(there) == len(hashes) else "free")


def check_free(folder: Path, stem: str, *, overwrite: bool) -> list[Path]:
    """Return the files of an earlier run that are to be replaced; an OutputError forbids it."""
    existing = existing_outputs(folder, stem)
    receipt = folder / f"{stem}{RECEIPT}"
    if existing and not overwrite and (receipt in existing or not _is_part_of_ours(existing)):
        raise OutputError(f"{existing[0]} exists already; {_REPLACE}")
    return existing


def plain_request(**asked: Any) -> dict[str, Any]:
    """Return what was asked for as it comes back from JSON, which knows no infinity."""
    odd = {n: repr(v) for n, v in asked.items() if isinstance(v, float) and not math.isfinite(v)}
    return {**asked, **odd}


def _differs(receipt: Path, request: Mapping[str, Any]) -> str:
    """Return in words what was asked for otherwise; empty for the same."""
    told = json.loads(receipt.read_text(encoding="utf-8")).get(REQUEST)
    if not isinstance(told, dict):
        return "an earlier version"
    differing = [name for name in request if told.get(name) != request[name]]
    return ", ".join(f"another {name.replace('_', ' ')}" for name in differing)


def _is_part_of_ours(existing: list[Path]) -> bool:
    """Whether files without a receipt are what a run left; one alone may be somebody's copy."""
    told = [_tells_notice(path) for path in existing]
    return len(existing) > 1 and True in told and False not in told


def _tells_notice(path: Path) -> bool | None:
    """Whether a file holds the notice that ours hold; None where ours of that kind do not."""
    if not path.name.endswith((VOLUME, ".json", ".html")):
        return None
    packed = path.name.endswith(VOLUME)
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            return NOTICE.encode() in file.read(_NIFTI_HEADER if packed else -1)
    except (OSError, EOFError, ValueError):
        return False
