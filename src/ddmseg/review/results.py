"""The scans of an output folder, and what the files of each say of it."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddmseg.errors import Reason, ScanError, about_file, printable
from ddmseg.models.json_reader import parse_json, read_bounded
from ddmseg.outputs.names import RECEIPT, SAMPLES, STEPS
from ddmseg.outputs.text import word_of

LABELS = "_dseg.nii.gz"
TABLE = "_dseg.tsv"
CORRECTED = "_desc-corrected_dseg.nii.gz"
"""Where a correction goes, beside the labels it was made from."""
MAPS = {
    "discrepancy": "_desc-discrepancy_map.nii.gz",
    "uncertainty": "_desc-uncertainty_map.nii.gz",
}
FRAMES = {"samples": SAMPLES, "steps": STEPS}
"""4-D label maps that only a segmentation with a trace leaves."""

VERDICTS = ("fail", "warn", "pass")
MAX_TEXT_BYTES = 16 << 20
"""The largest text file of a result that is read."""
MAX_ROWS = 10_000
"""Rows of a table of a result; no protocol has more structures."""
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True)
class ScanResult:
    """One scan that was segmented."""

    identifier: str  # what addresses it; a hash of the name
    name: str  # folders below the output folder and stem, with slashes
    folder: Path
    stem: str

    def path(self, suffix: str) -> Path:
        """Return where the file with that ending is or would be."""
        return self.folder / f"{self.stem}{suffix}"

    def has(self, suffix: str) -> bool:
        """Return whether the file is there."""
        return self.path(suffix).is_file()


@dataclass(frozen=True)
class VolumeRow:
    """Volume of a structure in ml with its 95% interval, and its expected Dice or None."""

    index: int
    name: str
    volume_ml: float
    interval_low_ml: float
    interval_high_ml: float
    expected_dice: float | None


@dataclass(frozen=True)
class LabelRow:
    """A label that the result may hold: id, name and colour as ``#rrggbb``."""

    index: int
    name: str
    colour: str


@dataclass(frozen=True)
class Summary:
    """What was found out about a scan."""

    verdict: str
    expected_dice: float | None  # in [0, 1]; None when it is not known
    reasons: list[str]  # for the verdict, a sentence each
    reason_codes: list[dict[str, Any] | None]  # None where there is only the sentence
    steps: int  # spent on each sample, 0 for the coarse head
    samples: int
    volumes: list[VolumeRow]
    labels: list[LabelRow]  # that may occur, background left out
    receipt: dict[str, Any]

    @property
    def worst_first(self) -> tuple[float, int]:
        """Key for sorting: expected Dice (unknown before all others), then the verdict."""
        dice = -1.0 if self.expected_dice is None else self.expected_dice
        return (dice, VERDICTS.index(self.verdict))


def find_results(folder: Path) -> list[ScanResult]:
    """Return every scan with a receipt in the folder or below it, by name.

    Hidden folders are left out, and so is what a link leads to outside of the folder. ScanError
    when there is no such folder or no result in it.
    """
    if not folder.is_dir():
        why = "no such folder; name the one that ddmseg segment wrote"
        raise ScanError(about_file(folder, why, "folder_gone"))
    root = folder.resolve()
    found = [_result(path, folder) for path in _receipts(folder, root)]
    if not found:
        why = (
            "no result here; name the folder that ddmseg segment wrote "
            f"(it holds files that end in {RECEIPT})"
        )
        raise ScanError(about_file(folder, why, "folder_empty", ending=RECEIPT))
    return sorted(found, key=lambda result: result.name)


def _receipts(folder: Path, root: Path) -> Iterator[Path]:
    for path in folder.rglob(f"*{RECEIPT}"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.is_file() and path.resolve().is_relative_to(root):
            yield path


def _result(receipt: Path, folder: Path) -> ScanResult:
    stem = receipt.name.removesuffix(RECEIPT)
    name = (receipt.parent.relative_to(folder) / stem).as_posix()
    identifier = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return ScanResult(identifier, name, receipt.parent, stem)


def read_summary(result: ScanResult) -> Summary:
    """Read quality, volumes, labels and receipt of a scan; ScanError when one is damaged."""
    quality = _read_json(result.path("_qc.json"))
    try:
        by_structure = quality.get("expected_dice_by_structure") or {}
        if not isinstance(by_structure, dict):
            raise ValueError("expected Dice by structure that is no table")
        verdict = str(quality["verdict"])
        if verdict not in VERDICTS:
            raise ValueError(f"verdict '{verdict}'")
        reasons = quality["reasons"]
        if not isinstance(reasons, list) or not all(isinstance(one, str) for one in reasons):
            raise ValueError("reasons that are no sentences")
        rows = _read_tsv(result.path("_volumes.tsv"))
        return Summary(
            verdict=verdict,
            expected_dice=_share(quality["expected_dice"]),
            reasons=reasons,
            reason_codes=_codes(quality.get("reason_codes"), len(reasons)),
            steps=_count(quality["steps"]),
            samples=_count(quality["samples"]),
            volumes=[_volume(row, by_structure) for row in rows if row["index"] != "0"],
            labels=[_label(row) for row in _read_tsv(result.path(TABLE))],
            receipt=_read_json(result.path(RECEIPT)),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, csv.Error) as error:
        raise ScanError(damaged_result(result, error)) from error


def damaged_result(result: ScanResult, error: Exception) -> Reason:
    """Return the problem of a scan whose files cannot be made sense of."""
    name, why = printable(result.name), printable(" ".join(str(error).split()))
    sentence = f"{name}: its result files are damaged ({why}); segment the scan again"
    return Reason(sentence, "result_damaged", {"name": name, "why": why})


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"'{value}' where a number of steps or samples is")
    return value


def _codes(found: Any, count: int) -> list[dict[str, Any] | None]:
    """A code for each reason; older results have none, and what is no code is left out."""
    if not isinstance(found, list) or len(found) != count:
        return [None] * count
    return [one if _is_code(one) else None for one in found]


def _is_code(one: Any) -> bool:
    if not isinstance(one, dict):
        return False
    return isinstance(one.get("code"), str) and isinstance(one.get("values"), dict)


def _share(value: Any) -> float | None:
    if value is None:
        return None
    share = float(value)
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"expected Dice {share}")
    return share


def _volume(row: dict[str, str], by_structure: dict[str, Any]) -> VolumeRow:
    keys, name = ("volume_ml", "interval_low_ml", "interval_high_ml"), word_of(row["name"])
    volume, low, high = (float(row[key]) for key in keys)
    if not all(map(math.isfinite, (volume, low, high))):
        raise ValueError(f"volume of {name}")
    return VolumeRow(int(row["index"]), name, volume, low, high, _share(by_structure.get(name)))


def _label(row: dict[str, str]) -> LabelRow:
    if not _COLOUR.fullmatch(row["color"]):
        raise ValueError(f"colour '{row['color']}'")
    return LabelRow(int(row["index"]), word_of(row["name"]), row["color"])


def _read_json(path: Path) -> dict[str, Any]:
    with _named(path):
        value = parse_json(read_bounded(path, most_bytes=MAX_TEXT_BYTES))
        if not isinstance(value, dict):
            raise ValueError("no table of names")
        return value


def _read_tsv(path: Path) -> list[dict[str, str]]:
    with _named(path):
        text = read_bounded(path, most_bytes=MAX_TEXT_BYTES).decode("utf-8")
        rows = list(csv.DictReader(text.splitlines(), delimiter="\t"))
        if len(rows) > MAX_ROWS:
            raise ValueError(f"{len(rows)} rows")
        return rows


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn what is wrong with a text file into a sentence that begins with its path."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        sentence = f"cannot be read ({why}); segment the scan again"
        raise ScanError(about_file(path, sentence, "file_unreadable", why=why)) from error
    except (ValueError, csv.Error) as error:
        why = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
        sentence = f"damaged ({why}); segment the scan again"
        raise ScanError(about_file(path, sentence, "file_damaged", why=why)) from error
