"""Records of rows become one table: means with intervals, and tests against references."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ddmseg.errors import UsageError
from ddmseg.evaluation.scores import MEAN, Summary, per_patient, summarise
from ddmseg.maths.case_scores import Score
from ddmseg_lab.comparison.plan import TableSettings
from ddmseg_lab.comparison.record import Record, read_late_rise, read_record
from ddmseg_lab.statistics import PairedTest, compare_to

CONVERGED = 0.002
"""A training whose validation score rose by no more than this over its last third is converged."""
MOST_COLUMNS = 12
"""Structures that get a column each; of more, ``scores.tsv`` has the scores."""


@dataclass(frozen=True)
class Line:
    """One row of the table.

    Attributes:
        row: its name.
        title: what it is called.
        summary: ``{structure: {metric: summary}}`` over all patients.
        against: paired tests of the mean Dice, by reference; none against itself.
        late_rise: of the validation score over the last third of the training, mean over folds;
            None where a row has no training of its own.
        parameters: of all its networks.
        train_seconds: of all folds together.
        seconds_a_scan: median over folds of the folds' medians.
        peak_memory_mb: the largest of the folds.
    """

    row: str
    title: str
    summary: dict[str, dict[str, Summary]]
    against: dict[str, PairedTest]
    late_rise: float | None
    parameters: int
    train_seconds: float
    seconds_a_scan: float
    peak_memory_mb: float | None

    def mean(self, structure: str, metric: str) -> Summary:
        """Return one cell."""
        return self.summary[structure][metric]


def read_row(
    results: Path, row: str, folds: Sequence[str]
) -> tuple[list[Record], list[Score]] | None:
    """Return the records and scores of all folds of a row, or None when one is missing."""
    found = [read_record(results / row / fold) for fold in folds]
    whole = [one for one in found if one is not None]
    if len(whole) < len(folds):
        return None
    return [record for record, _ in whole], [score for _, scores in whole for score in scores]


def build_table(table: TableSettings, results: Path) -> list[Line]:
    """Return a line for each row that has been run in all folds, in the table's order.

    Args:
        table: which rows, folds and references.
        results: folder of the table's records.
    """
    rows = {}
    for name in table.rows:
        found = read_row(results, name, table.fold_names)
        if found is not None:
            rows[name] = found
    dice = {name: per_patient(scores, "dice") for name, (_, scores) in rows.items()}
    _check_patients(dice)
    rises = {name: row_late_rise(results, name, table.fold_names) for name in rows}
    tests = {}
    for one in table.references:
        if one in dice:
            fair = [name for name in dice if of_equal_standing(rises[one], rises[name])]
            tests[one] = _tests(one, {name: dice[name] for name in fair})
    lines = []
    for name, (records, scores) in rows.items():
        memory = [r.peak_memory_mb for r in records if r.peak_memory_mb is not None]
        lines.append(
            Line(
                row=name,
                title=records[0].settings["row"]["title"] or name,
                summary=summarise(scores),
                against={ref: found[name] for ref, found in tests.items() if name in found},
                late_rise=rises[name],
                parameters=records[0].parameters,
                train_seconds=sum(record.train_seconds for record in records),
                seconds_a_scan=statistics.median(record.seconds_a_scan for record in records),
                peak_memory_mb=max(memory) if memory else None,
            )
        )
    return lines


def row_late_rise(results: Path, row: str, folds: Sequence[str]) -> float | None:
    """Return what the last third of a row's training brought, mean over its folds."""
    rises = [read_late_rise(results / row / fold) for fold in folds]
    found = [rise for rise in rises if rise is not None]
    return statistics.mean(found) if found else None


def of_equal_standing(one: float | None, other: float | None) -> bool:
    """Say whether two rows, by their late rises, have both converged or both not.

    One trained to its end and one stopped early differ by that, whatever else they are.
    """
    return one is None or other is None or (one > CONVERGED) == (other > CONVERGED)


def _check_patients(dice: dict[str, dict[str, float]]) -> None:
    names = list(dice)
    for name in names[1:]:
        if set(dice[name]) != set(dice[names[0]]):
            raise UsageError(
                f"{name}: was tested on other patients than {names[0]}; run both again with "
                "the same data"
            )


def _tests(reference: str, dice: dict[str, dict[str, float]]) -> dict[str, PairedTest]:
    """Paired Wilcoxon tests of every other row, Holm-corrected over them."""
    patients = sorted(dice[reference])
    others = {name: [d[p] for p in patients] for name, d in dice.items() if name != reference}
    if len(patients) < 2 or not others:
        return {}
    return compare_to([dice[reference][p] for p in patients], others)


def markdown(lines: Sequence[Line], references: Sequence[str]) -> str:
    """Return the table as Markdown, one line a row; many structures as their mean alone."""
    if not lines:
        return "_No row has been run._"
    structures = [name for name in lines[0].summary if name != MEAN]
    if len(structures) > MOST_COLUMNS:
        structures = []
    heads = ["row", *[f"Dice {name}" for name in structures], "Dice mean (95%)", "HD95, mm"]
    heads += [
        "volume similarity",
        "parameters, M",
        "training, core min",
        "late rise",
        "core s a scan",
        "memory, MB",
    ]
    heads += [f"difference to {ref} (p, Holm)" for ref in references]
    rows = [_cells(line, structures, references) for line in lines]
    body = ["| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *rows)]
    return "\n".join(body)


def _cells(line: Line, structures: Sequence[str], references: Sequence[str]) -> list[str]:
    whole = line.mean(MEAN, "dice").interval
    distance = line.mean(MEAN, "hd95_mm")
    missed = f" ({distance.infinite} missed)" if distance.infinite else ""
    cells = [line.title]
    cells += [f"{line.mean(name, 'dice').interval.mean:.3f}" for name in structures]
    cells.append(f"{whole.mean:.3f} ({_limits(whole.low, whole.high)})")
    cells.append(f"{distance.interval.mean:.2f}{missed}")
    cells.append(f"{line.mean(MEAN, 'volume_similarity').interval.mean:.3f}")
    cells.append(f"{line.parameters / 1e6:.2f}")
    cells.append(f"{line.train_seconds / 60:.1f}")
    cells.append(_rise_words(line.late_rise))
    cells.append(f"{line.seconds_a_scan:.2f}")
    cells.append("unknown" if line.peak_memory_mb is None else f"{line.peak_memory_mb:.0f}")
    for reference in references:
        test = line.against.get(reference)
        cells.append("" if test is None else f"{test.difference:+.4f} ({test.p_holm:.2g})")
    return cells


def _rise_words(rise: float | None) -> str:
    if rise is None:
        return ""
    return f"{rise:+.4f}" + (" (not converged)" if rise > CONVERGED else "")


def _limits(low: float, high: float) -> str:
    return "one patient" if math.isnan(low) else f"{low:.3f} to {high:.3f}"
