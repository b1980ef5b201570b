"""What a row leaves under ``results/``: settings, provenance, curve and raw scores."""

from __future__ import annotations

import csv
import json
import math
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ddmseg.errors import UsageError
from ddmseg.evaluation.scores import read_scores, write_scores
from ddmseg.maths.case_scores import Score
from ddmseg.models.checkpoint import replace_file
from ddmseg.models.json_reader import read_json
from ddmseg.training.curve import late_rise

SCORES_FILE = "scores.tsv"
RECORD_FILE = "run.json"
CURVE_FILE = "curve.csv"
VALIDATED = ("sampled_score", "smoothed_pseudo_dice", "sampled_dice")
"""Columns of a curve that chose the weights, the first there is: of our networks, of nnU-Net, and
of our networks before."""


@dataclass(frozen=True)
class Record:
    """One row in one fold: names, resolved settings, what it was made of and what it cost.

    Attributes:
        trained_steps: of the weights chosen; 0 when nothing was trained for this row.
        samples_seen: training examples drawn until the last step.
        validation_dice: score that chose the weights, a Dice where samples do not differ.
        seconds_a_scan: median over test subjects.
        peak_memory_mb: of prediction, in 1e6 bytes.
        notes: what else is to be known of the row, such as nnU-Net's plan.
    """

    table: str
    row: str
    fold: str
    settings: dict[str, Any]
    split: dict[str, list[str]]
    versions: dict[str, str]
    commit: str
    threads: int
    parameters: int
    trained_steps: int
    samples_seen: int
    validation_dice: float | None
    train_seconds: float
    seconds_a_scan: float
    peak_memory_mb: float | None
    notes: dict[str, Any] = field(default_factory=dict)


def read_late_rise(folder: Path) -> float | None:
    """Return what the last third of a row's training brought its validation score.

    None where the row left no curve or too short a one.
    """
    path = folder / CURVE_FILE
    if not path.is_file():
        return None
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    chosen_by = next((name for name in VALIDATED if rows and name in rows[0]), "")
    found = [(int(row["step"]), float(row[chosen_by])) for row in rows if row.get(chosen_by)]
    rise = late_rise(found, int(rows[-1]["step"])) if rows else math.inf
    return rise if math.isfinite(rise) else None


def write_record(folder: Path, record: Record, scores: list[Score], curve: Path | None) -> None:
    """Write a row's files; the record comes last, so that it stands for a whole row."""
    folder.mkdir(parents=True, exist_ok=True)
    write_scores(folder / SCORES_FILE, scores)
    if curve is not None and curve.is_file():
        shutil.copyfile(curve, folder / CURVE_FILE)
    text = json.dumps(asdict(record), indent=1, sort_keys=True) + "\n"
    replace_file(folder / RECORD_FILE, text.encode())


def read_record(folder: Path) -> tuple[Record, list[Score]] | None:
    """Return what a row left, or None when it has not been run to its end."""
    path = folder / RECORD_FILE
    if not path.is_file():
        return None
    try:
        record = Record(**read_json(path))
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path}: not a record of a row ({error}); run the row again") from error
    return record, read_scores(folder / SCORES_FILE)
