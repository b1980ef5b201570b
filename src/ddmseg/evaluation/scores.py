"""Scores of label maps: one row per patient and structure, and what the rows add up to.

What is empty never becomes a silent number:

==========================  ===========  ==================  =====================
structure                   overlaps     distances           in means and intervals
==========================  ===========  ==================  =====================
in both maps                0 to 1       0 mm and more       counts
in one map only ("missed")  0            infinite            overlaps count as 0; the
                                                             distance is left out and
                                                             counted under ``infinite``
in neither map              NaN          NaN                 left out and counted
                                                             under ``undefined``
==========================  ===========  ==================  =====================

A mean distance of a method that misses structures is therefore too kind to it: read it
beside its count.  In files NaN is an empty cell and infinity the word ``inf``.

How far volumes agree is given by bias and limits of agreement of each structure (Bland and Altman
1986, The Lancet 327:307-310).

Figures are written with as many digits as bring them back exactly: a bootstrap interval
counts draws below the mean, and values equal but for rounding would move it.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ddmseg.atomic import atomic_write
from ddmseg.errors import UsageError, did_you_mean
from ddmseg.maths.case_scores import Score
from ddmseg.maths.statistics import SMALLEST_SAMPLE, Interval, bootstrap_interval
from ddmseg.outputs.text import cell_text, word_of

METRICS: tuple[str, ...] = ("dice", "hausdorff_mm", "hd95_mm", "volume_similarity", "surface_dice")
"""Columns of a score that are summed up, by the names of its attributes."""

MEAN = "mean"
"""Name of the row over all structures: the mean of each patient's structures."""

LEVEL = 0.95
"""Coverage of every interval."""
NORMAL_QUANTILE = 1.96
"""Standard deviations that hold 95% of a normal distribution."""


@dataclass(frozen=True)
class Summary:
    """One metric of one structure, or of the mean over structures, over patients.

    The limits of the 95% interval are NaN with one patient, the mean too with none. Left out are
    ``undefined`` scores, of structures in neither map, and ``infinite`` distances.
    """

    interval: Interval
    undefined: int
    infinite: int

    @property
    def n(self) -> int:
        """Patients that count."""
        return self.interval.n


COLUMNS = tuple(field.name for field in fields(Score))
_WORDS = ("case", "structure")
_SHARES = ("dice", "volume_similarity", "surface_dice")


def write_scores(path: Path, scores: Sequence[Score]) -> None:
    """Write one row per score as TSV; what is read back is equal."""
    write_table(path, COLUMNS, ([getattr(score, name) for name in COLUMNS] for score in scores))


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write rows as TSV: NaN as an empty cell, infinity as ``inf``, words by ``cell_text``.

    The file is complete or not at all; an OutputError says that it cannot be written.
    """
    with (
        atomic_write(path) as partial,
        partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(value) for value in row] for row in rows)


def read_scores(path: Path) -> list[Score]:
    """Read what ``write_scores`` wrote; a UsageError says what is missing, wrong or there twice."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = csv.DictReader(file, delimiter="\t")
            rows, columns = list(table), table.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read ({error}); give a table of scores") from error
    for name in COLUMNS:
        if name not in columns:
            raise UsageError(
                f"{path}: the column '{name}' is missing{did_you_mean(name, columns)}; a table "
                f"of scores has {', '.join(COLUMNS)}"
            )
    # the heading is line 1
    scores = [_parsed(row, f"{path}, line {number}") for number, row in enumerate(rows, start=2)]
    times = Counter((score.case, score.structure) for score in scores)
    for (case, structure), count in times.items():
        if count > 1:
            raise UsageError(f"{path}: '{structure}' of '{case}' comes twice; leave one row of it")
    return scores


def per_patient(scores: Sequence[Score], metric: str) -> dict[str, float]:
    """Return the mean over structures of each case, in the order of the scores.

    Undefined scores and infinite distances are left out; a case of which nothing is left
    is NaN, which the functions of ``maths.statistics`` leave out in turn. A metric that is
    unknown is a UsageError.
    """
    if metric not in METRICS:
        raise UsageError(
            f"metric: got '{metric}'{did_you_mean(metric, METRICS)}; "
            f"allowed are {', '.join(METRICS)}"
        )
    values: dict[str, list[float]] = {}
    for score in scores:
        values.setdefault(score.case, []).append(getattr(score, metric))
    return {case: _mean(found) for case, found in values.items()}


def summarise(scores: Sequence[Score]) -> dict[str, dict[str, Summary]]:
    """Return ``{structure: {metric: summary}}`` over patients, ``mean`` as the last structure.

    A structure counts one value per patient, the mean row the mean of each patient's
    structures; the counts of the mean row are those of all structures together.
    """
    by_structure: dict[str, list[Score]] = {}
    for score in scores:
        by_structure.setdefault(score.structure, []).append(score)
    table = {
        name: {metric: _summary([getattr(row, metric) for row in rows]) for metric in METRICS}
        for name, rows in by_structure.items()
    }
    overall = {}
    for metric in METRICS:
        means = [mean for mean in per_patient(scores, metric).values() if math.isfinite(mean)]
        parts = [summaries[metric] for summaries in table.values()]
        overall[metric] = Summary(
            _interval(means),
            undefined=sum(part.undefined for part in parts),
            infinite=sum(part.infinite for part in parts),
        )
    return {**table, MEAN: overall}


def _summary(values: Sequence[float]) -> Summary:
    return Summary(
        _interval([value for value in values if math.isfinite(value)]),
        undefined=sum(math.isnan(value) for value in values),
        infinite=sum(math.isinf(value) for value in values),
    )


def _interval(values: Sequence[float]) -> Interval:
    """The bootstrap interval of finite values; limits NaN where one patient allows none."""
    if len(values) >= SMALLEST_SAMPLE:
        return bootstrap_interval(values, level=LEVEL)
    return Interval(_mean(values), math.nan, math.nan, len(values), LEVEL)


def _mean(values: Iterable[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else math.nan


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(float(value))
    return cell_text(str(value))


def _parsed(row: Mapping[str | Any, str | Any], place: str) -> Score:
    values: dict[str, Any] = {name: word_of(row[name] or "") for name in _WORDS}
    for name in COLUMNS[len(_WORDS) :]:
        text = row[name]
        try:
            # a short line has None where cells are missing
            value = math.nan if text == "" and name in METRICS else float(text)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{place}: {name}: got '{text or ''}'; give a number") from error
        if not _allowed(name, value):
            raise UsageError(f"{place}: {name}: got '{text}'; {_RANGES[name]}")
        values[name] = int(value) if name == "index" else value
    return Score(**values)


def _allowed(name: str, value: float) -> bool:
    if name == "index":
        return value >= 1 and value.is_integer()
    if math.isnan(value):
        return name in METRICS
    return 0 <= value <= (1 if name in _SHARES else math.inf)


_RANGES = {
    "index": "a label id is a whole number above 0",
    **dict.fromkeys(_SHARES, "it must lie in [0, 1]"),
    **dict.fromkeys(("hausdorff_mm", "hd95_mm"), "it must be at least 0 mm"),
    **dict.fromkeys(("truth_ml", "prediction_ml"), "it must be at least 0 ml"),
}


@dataclass(frozen=True)
class Agreement:
    """Volume differences, prediction minus truth, over patients, in ml.

    Attributes:
        low_ml: lower limit of agreement, bias - 1.96 standard deviations.
        n: patients. With one the limits are NaN, with none the bias too.
    """

    bias_ml: float
    low_ml: float
    high_ml: float
    n: int


def agreement(scores: Sequence[Score]) -> dict[str, Agreement]:
    """Return the agreement of volumes for each structure, in the order of the scores.

    A patient with the structure in one map only counts with all of its volume; one with
    it in neither is left out.
    """
    differences: dict[str, list[float]] = {}
    for score in scores:
        found = differences.setdefault(score.structure, [])
        if score.truth_ml > 0 or score.prediction_ml > 0:
            found.append(score.prediction_ml - score.truth_ml)
    return {name: limits_of_agreement(values) for name, values in differences.items()}


def limits_of_agreement(differences_ml: Sequence[float]) -> Agreement:
    """Return bias and limits of differences in ml, with the sample's standard deviation.

    >>> limits_of_agreement([1.0, 3.0]).bias_ml
    2.0
    """
    n = len(differences_ml)
    bias = float(np.mean(differences_ml)) if n else math.nan
    if n < SMALLEST_SAMPLE:
        return Agreement(bias, math.nan, math.nan, n)
    reach = NORMAL_QUANTILE * float(np.std(differences_ml, ddof=1))
    return Agreement(bias, bias - reach, bias + reach, n)
