"""The results of many scans as one table: read from receipts and the small tables beside them.

Whatever order results were made, copied or named in, the same results give the same bytes. What
differs between equal runs (seconds, the machine) lies in a table of its own.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddmseg.atomic import system_reason
from ddmseg.errors import DdmsegError, ScanError
from ddmseg.outputs.names import RECEIPT
from ddmseg.outputs.tables import PREDICTED, ColumnMeaning, data_dictionary
from ddmseg.outputs.text import word_of, write_json, write_tsv

VOLUMES, RUNTIME, PAGE = "group_volumes", "group_runtime", "group_report.html"
EMPTY = "n/a"
_READ = ("_volumes.tsv", "_volumes.json", "_qc.json")
_LEFT_OUT = {
    *("index", "name", "interval_low_ml", "interval_high_ml", "asymmetry_low", "asymmetry_high"),
    *PREDICTED,
}
"""Columns of a table of volumes that are no measurements, or say how sure one is."""
_ABOUT = {
    "participant_id": ColumnMeaning("Subject, of the name of the scan"),
    "session_id": ColumnMeaning("Session, of the name of the scan"),
    "scan": ColumnMeaning("What the names of the results begin with, and their folder"),
    "verdict": ColumnMeaning("Of the quality check: pass, warn or fail"),
    "expected_dice": ColumnMeaning("Dice that the labels are expected to have, from 0 to 1"),
    "reasons": ColumnMeaning("Why the verdict is not pass; sentences with ; between them"),
    "model": ColumnMeaning("Name of the weights"),
    "weights_sha256": ColumnMeaning("Hash of the weights"),
    "ddmseg": ColumnMeaning("Version"),
}
_SECONDS = ColumnMeaning("Time that this stage took, waiting for others not included", "s")
_RUNTIME = {
    "seconds": ColumnMeaning("All stages together", "s"),
    "device": ColumnMeaning("Where it was computed"),
    "threads": ColumnMeaning("CPU threads"),
}


@dataclass(frozen=True)
class GroupRow:
    """What is known of one scan, ready for the tables.

    Attributes:
        scan: stem of its results with their folder below that of all results.
        values: measurements by column, such as ``Left-Hippocampus_ml``.
        dictionary: what the columns of its table of volumes mean, as it was written.
    """

    scan: str
    report: Path
    about: dict[str, str]
    values: dict[str, str]
    codes: list[str]
    runtime: dict[str, str]
    dictionary: bytes

    @property
    def stem(self) -> str:
        """What the names of its results begin with."""
        return self.scan.rpartition("/")[2]


@dataclass
class Group:
    """All rows in the order of their names, and what could not be read."""

    rows: list[GroupRow] = field(default_factory=list)
    problems: list[DdmsegError] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """The measurements that some scan has, in the order in which the scans have them."""
        known = {name for row in self.rows for name, value in row.values.items() if value != EMPTY}
        return [n for n in dict.fromkeys(n for row in self.rows for n in row.values) if n in known]


def read_group(folders: Iterable[Path]) -> Group:
    """Read every result below some folders, all there; one that is damaged costs its own row.

    One scan may stand in several folders when its results are the same.
    """
    group, found = Group(), dict[str, GroupRow]()
    for folder in sorted(set(folders)):
        if not folder.is_dir():
            raise ScanError(f"{folder}: no such folder; name one that holds results")
        for receipt in _receipts(folder):
            try:
                row = _read(receipt, folder)
                first = found.setdefault(row.scan, row)
                if (first.about, first.values) != (row.about, row.values):
                    raise ScanError(
                        f"{receipt}: {row.scan} has other results at {first.report.parent}, "
                        "which were taken; remove one of them"
                    )
            except DdmsegError as error:
                group.problems.append(error)
    group.rows = [found[name] for name in sorted(found, key=_natural)]
    return group


def write_tables(group: Group, folder: Path) -> None:
    """Write both tables, each with its data dictionary."""
    columns = group.columns
    rows = [
        [*row.about.values(), *(row.values.get(name, EMPTY) for name in columns)]
        for row in group.rows
    ]
    volumes = {**_ABOUT, **_meanings(group, columns)}
    stages = sorted({name for row in group.rows for name in row.runtime})
    runtime = {"scan": _ABOUT["scan"], **{name: _RUNTIME.get(name, _SECONDS) for name in stages}}
    times = [[row.scan, *(row.runtime.get(n, EMPTY) for n in stages)] for row in group.rows]
    for name, told, body in ((VOLUMES, volumes, rows), (RUNTIME, runtime, times)):
        write_tsv(folder / f"{name}.tsv", tuple(told), body)
        write_json(folder / f"{name}.json", data_dictionary(told))


def missing(expected: Collection[str], group: Group) -> list[str]:
    """Return the scans that have no row, of those that were expected, by their stems."""
    there = {row.stem for row in group.rows}
    return sorted(set(expected) - there, key=_natural)


def _receipts(folder: Path) -> Iterator[Path]:
    """Yield every receipt below a folder in order; what is hidden is half-written."""
    for parent, below, names in os.walk(folder):
        below[:] = sorted(name for name in below if not name.startswith("."))
        visible = sorted(one for one in names if one.endswith(RECEIPT) and one[0] != ".")
        yield from (Path(parent) / name for name in visible)


def _read(path: Path, root: Path) -> GroupRow:
    """Read one result, none of which may be missing, damaged or not what the receipt says."""
    receipt = _json(path, _bytes(path))
    hashes = receipt.get("outputs")
    hashes = hashes if isinstance(hashes, dict) else {}
    stem, content = path.name.removesuffix(RECEIPT), {}
    for suffix in _READ:
        beside = path.with_name(f"{stem}{suffix}")
        content[suffix] = _bytes(beside)
        if hashes.get(beside.name) != hashlib.sha256(content[suffix]).hexdigest():
            raise ScanError(f"{beside}: not what its receipt says; segment the scan again")
    try:
        return _row(path, path.with_name(stem).relative_to(root).as_posix(), receipt, content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ScanError(
            f"{path}: a receipt or table of another version ({error!r}); segment the scan again"
        ) from error


def _row(
    path: Path, scan: str, receipt: Mapping[str, Any], content: Mapping[str, bytes]
) -> GroupRow:
    stem = path.name.removesuffix(RECEIPT)
    quality = _json(path.with_name(f"{stem}_qc.json"), content["_qc.json"])
    model = receipt["model"]
    about = {
        "participant_id": _entity("sub", stem),
        "session_id": _entity("ses", stem),
        "scan": scan,
        "verdict": str(quality["verdict"]),
        "expected_dice": _number(quality["expected_dice"]),
        "reasons": "; ".join(map(str, quality["reasons"])),
        "model": str(model["name"]),
        "weights_sha256": str(model["weights_sha256"]),
        "ddmseg": str(receipt["software"]["ddmseg"]),
    }
    codes = [str(one["code"]) for one in quality.get("reason_codes", []) if one]
    values = _values(content["_volumes.tsv"].decode("utf-8"))
    report, dictionary = path.with_name(f"{stem}_report.html"), content["_volumes.json"]
    return GroupRow(scan, report, about, values, codes, _runtime(receipt), dictionary)


def _values(table: str) -> dict[str, str]:
    """Return each measurement of a table of volumes, by structure and column."""
    head, *lines = (line.split("\t") for line in table.splitlines())
    names = {c: c.removeprefix("volume_") for c in head if c not in _LEFT_OUT}
    at = head.index("name")
    return {
        f"{word_of(cells[at])}_{names[column]}": _number(cell)
        for cells in lines
        for column, cell in zip(head, cells, strict=True)
        if column in names
    }


def _meanings(group: Group, columns: Sequence[str]) -> dict[str, ColumnMeaning]:
    """Return what each measurement means, of the first scan that has it."""
    found: dict[str, ColumnMeaning] = {}
    for row in group.rows:
        new = [name for name in columns if name in row.values and name not in found]
        if not new:
            continue
        told = _json(row.report, row.dictionary)
        for name in new:
            ends = {f"_{column.removeprefix('volume_')}": column for column in told}
            end = next((end for end in ends if name.endswith(end)), name[name.rfind("_") :])
            known = told.get(ends.get(end, "")) or {}
            about = f"{name.removesuffix(end)}: {known.get('Description', end)}"
            found[name] = ColumnMeaning(about, str(known.get("Units", EMPTY)))
    return {name: found[name] for name in columns}


def _runtime(receipt: Mapping[str, Any]) -> dict[str, str]:
    spent = receipt["spent"]
    seconds = {f"{stage}_s": f"{float(s):.3f}" for stage, s in receipt["seconds"].items()}
    total = sum(map(float, receipt["seconds"].values()))
    about = {"device": str(spent["device"]), "threads": str(spent["threads"])}
    return {**seconds, "seconds": f"{total:.3f}", **about}


def _entity(name: str, stem: str) -> str:
    found = re.search(rf"(?:^|_)({name}-[0-9a-zA-Z+]+)(?=_|$)", stem)
    return found[1] if found else EMPTY


def _number(value: object) -> str:
    """Return a number as a table holds it, a cell as it is; what is no number is not there."""
    if value is None or value in ("", EMPTY):
        return EMPTY
    text = value if isinstance(value, str) else f"{float(str(value)):.4f}"
    return text if math.isfinite(float(text)) else EMPTY


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ScanError(
            f"{path}: cannot be read ({system_reason(error)}); segment the scan again"
        ) from error


def _json(path: Path, content: bytes) -> dict[str, Any]:
    told = None
    with suppress(ValueError, RecursionError):
        told = json.loads(content)
    if not isinstance(told, dict):
        raise ScanError(f"{path}: is damaged; segment the scan again")
    return told


def _natural(text: str) -> tuple[Sequence[tuple[int, str]], str]:
    """Order sub-2 before sub-10."""
    parts = re.split(r"(\d+)", text)
    return [(int(p), "") if p.isdecimal() and p.isascii() else (-1, p) for p in parts], text
