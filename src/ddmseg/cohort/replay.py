"""A result made again as its receipt says, and held against it."""

from __future__ import annotations

import json
import math
import platform
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddmseg import __version__
from ddmseg.cohort.derivatives import scans_folder
from ddmseg.errors import DdmsegError, ScanError
from ddmseg.inference.options import SegmentOptions
from ddmseg.outputs.names import RECEIPT
from ddmseg.outputs.staging import receipt_hashes
from ddmseg.outputs.standing import REQUEST

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ddmseg.quality.segmentation import Segmentation


@dataclass(frozen=True)
class Replay:
    """What a receipt says of a result; what the names of the results begin with."""

    receipt: Path
    stem: str
    told: Mapping[str, Any]
    options: SegmentOptions
    model: str
    weights: str


def read_replay(receipt: Path) -> Replay:
    """Read what a receipt says.

    Raises a ScanError when it is no receipt, or one of another version.
    """
    try:
        told = json.loads(receipt.read_text(encoding="utf-8"))
        model, request = told["model"], {**told["settings"], **told.get(REQUEST, {})}
        names = {one.name for one in fields(SegmentOptions)}
        # a receipt writes what JSON has no word for as text
        options: dict[str, Any] = {name: request[name] for name in request if name in names}
        options |= {name: math.inf for name, value in options.items() if value == "inf"}
        if request["budget"] not in (None, "inf"):
            # a clock would not strike twice alike: what it allowed is asked for
            spent = told["spent"]
            chosen = {"steps": spent["steps"], "samples": spent["samples"]}
            options |= chosen if spent["steps"] else {"mode": "fast"}
        options |= {"budget": math.inf, "trace": False, "probabilities": False}
        name, weights = str(model["name"]), str(model["weights_sha256"])
        stem = receipt.name.removesuffix(RECEIPT)
        return Replay(receipt, stem, told, SegmentOptions(**options), name, weights)
    except OSError as error:
        why = error.strerror or "cannot be read"
        raise ScanError(f"{receipt}: {why}; name the _receipt.json of a result") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, DdmsegError) as error:
        raise ScanError(
            f"{receipt}: no receipt that this version understands ({error!r}); name the "
            "_receipt.json of a result, or segment the scan again"
        ) from error


def places_of_scans(replay: Replay, named: Sequence[Path]) -> list[Path]:
    """Return where the scan may lie: what was named, else beside the result or as BIDS says."""
    if named:
        return [*named]
    raw = scans_folder(replay.receipt)
    return [raw] if raw is not None else [Path(), replay.receipt.parent]


def surroundings(replay: Replay, weights: str) -> Iterator[str]:
    """Yield what is not as it was: weights, versions, processor."""
    import torch

    software, spent = replay.told.get("software", {}), replay.told.get("spent", {})
    pairs = {
        "weights": (replay.weights[:12], weights[:12]),
        "ddmseg": (software.get("ddmseg"), __version__),
        "torch": (software.get("torch"), torch.__version__),
        "python": (software.get("python"), platform.python_version()),
        "threads": (spent.get("threads"), torch.get_num_threads()),
    }
    for name, (then, now) in pairs.items():
        if then != now:
            yield f"{name}: {then} then, {now} here"


def differences(replay: Replay, segmentation: Segmentation) -> list[str]:
    """Return in words how labels differ from those of the receipt; nothing for the same.

    Raises:
        ScanError: when the receipt does not say what the labels were.
    """
    from ddmseg.imaging.nifti import read_label_map, write_label_map
    from ddmseg.imaging.source_file import file_sha256

    name = f"{replay.stem}_dseg.nii.gz"
    expected = receipt_hashes(replay.receipt).get(name)
    if expected is None:
        raise ScanError(f"{replay.receipt}: has no hash of {name}; segment the scan again")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write_label_map(path, segmentation.labels, segmentation.scan)
        if file_sha256(path) == expected:
            return []
    before = replay.receipt.with_name(name)
    if not before.is_file() or file_sha256(before) != expected:
        return [f"the labels are others; {before} is not there as it was, so not said which"]
    return _by_structure(read_label_map(before).data, segmentation.labels.data)


def _by_structure(before: NDArray[np.int32], now: NDArray[np.int32]) -> list[str]:
    from ddmseg.imaging.labels import structure

    if before.shape != now.shape:
        return [f"the grid is another one: {before.shape} then, {now.shape} here"]
    changed = before != now
    if not changed.any():
        return []  # packed by another version of zlib
    lines = [f"{int(changed.sum())} of {changed.size} voxels have another label"]
    for index in sorted({*before[changed].tolist(), *now[changed].tolist()} - {0}):
        then, here = before == index, now == index
        dice = 2 * int((then & here).sum()) / int(then.sum() + here.sum())
        lines.append(f"{structure(index).name}: Dice {dice:.4f} with the labels of the receipt")
    return lines
