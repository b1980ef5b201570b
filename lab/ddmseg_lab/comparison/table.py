"""Records of rows become one table: means with intervals, and tests against references."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ddmseg.errors import UsageError
from ddmseg.evaluation.scores import MEAN, per_patient, summarise
from ddmseg.maths.case_scores import Score
from ddmseg_lab.comparison.plan import TableSettings
from ddmseg_lab.comparison.record import CURVE_FILE, Record, read_late_rise, read_record
from ddmseg_lab.statistics_text import Comparison, compare_sets

CONVERGED = 0.002
"""A training whose validation score rose by no more than this over its last third is converged."""
MOST_COLUMNS = 12
"""Structures that get a column each; of more, ``scores.tsv`` has the scores."""


@dataclass(frozen=True)
class TableRow:
    """A row that has been run in all folds.

    Attributes:
        dice: mean Dice of each patient.
        diffusion: whether its network has any.
        curves: learning curve of each fold that left one.
        late_rise: of the validation score over the last third of the training, mean over folds;
            None where a row has no training of its own.
        ours: whether its network is f^I with or without what diffuses.
        records: of the folds.
    """

    title: str
    dice: dict[str, float]
    diffusion: bool
    curves: list[Path]
    late_rise: float | None = None
    ours: bool = True
    records: Sequence[Record] = ()
    scores: Sequence[Score] = ()


def build_table(table: TableSettings, results: Path) -> dict[str, TableRow]:
    """Return each row that has been run in all folds, in the table's order, by name."""
    rows: dict[str, TableRow] = {}
    for name in table.rows:
        row = _read_row([results / name / fold for fold in table.fold_names], name)
        if row is None:
            continue
        first = next(iter(rows), name)
        if rows and set(row.dice) != set(rows[first].dice):
            raise UsageError(
                f"{name}: was tested on other patients than {first}; run both again with "
                "the same data"
            )
        rows[name] = row
    return rows


def _read_row(folders: Sequence[Path], name: str) -> TableRow | None:
    found = [one for one in map(read_record, folders) if one is not None]
    if len(found) < len(folders):
        return None
    records = [record for record, _ in found]
    scores = [score for _, scores in found for score in scores]
    rises = [rise for rise in map(read_late_rise, folders) if rise is not None]
    row, model = records[0].settings["row"], records[0].settings["model"]
    return TableRow(
        row["title"] or name,
        per_patient(scores, "dice"),
        bool(model["diffusion"]),
        [path for folder in folders if (path := folder / CURVE_FILE).is_file()],
        statistics.mean(rises) if rises else None,
        model["architecture"] == "ddm" and not row["adapter"],
        records,
        scores,
    )


def of_equal_standing(one: float | None, other: float | None) -> bool:
    """Say whether two rows, by their late rises, have both converged or both not.

    One trained to its end and one stopped early differ by that, whatever else they are.
    """
    return one is None or other is None or (one > CONVERGED) == (other > CONVERGED)


def differences_from(reference: str, rows: Mapping[str, TableRow]) -> dict[str, Comparison]:
    """Compare the Dice of every other row of equal standing with a reference, Holm-corrected.

    Nothing where the reference has not been run.
    """
    if reference not in rows:
        return {}
    base = rows[reference]
    others = {
        name: row.dice
        for name, row in rows.items()
        if name != reference and of_equal_standing(base.late_rise, row.late_rise)
    }
    return compare_sets(base.dice, others)


HEADS = (
    *("volume similarity", "parameters, M", "training, core min", "late rise"),
    *("core s a scan", "memory, MB"),
)


def markdown(rows: Mapping[str, TableRow], references: Sequence[str]) -> str:
    """Return the table as Markdown, one line a row; many structures as their mean alone."""
    if not rows:
        return "_No row has been run._"
    first = next(iter(rows.values()))
    structures = list(dict.fromkeys(score.structure for score in first.scores))
    if len(structures) > MOST_COLUMNS:
        structures = []
    heads = ["row", *[f"Dice {name}" for name in structures], "Dice mean (95%)", "HD95, mm"]
    heads += [*HEADS, *(f"difference to {ref} (p, Holm)" for ref in references)]
    tests = [differences_from(reference, rows) for reference in references]
    lines = [heads, ["---"] * len(heads)]
    for name, row in rows.items():
        differences = [_difference(found.get(name)) for found in tests]
        lines.append([*_cells(row, structures), *differences])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _difference(found: Comparison | None) -> str:
    if found is None or math.isnan(found.p_holm):
        return ""
    return f"{found.difference.mean:+.4f} ({found.p_holm:.2g})"


def _cells(row: TableRow, structures: Sequence[str]) -> list[str]:
    summary = summarise(row.scores)
    whole, distance = summary[MEAN]["dice"].interval, summary[MEAN]["hd95_mm"]
    missed = f" ({distance.infinite} missed)" if distance.infinite else ""
    seconds = statistics.median(record.seconds_a_scan for record in row.records)
    memory = [r.peak_memory_mb for r in row.records if r.peak_memory_mb is not None]
    early = " (not converged)" if (row.late_rise or 0.0) > CONVERGED else ""
    limits = "one patient" if math.isnan(whole.low) else f"{whole.low:.3f} to {whole.high:.3f}"
    return [
        row.title,
        *(f"{summary[name]['dice'].interval.mean:.3f}" for name in structures),
        f"{whole.mean:.3f} ({limits})",
        f"{distance.interval.mean:.2f}{missed}",
        f"{summary[MEAN]['volume_similarity'].interval.mean:.3f}",
        f"{row.records[0].parameters / 1e6:.2f}",
        f"{sum(record.train_seconds for record in row.records) / 60:.1f}",
        "" if row.late_rise is None else f"{row.late_rise:+.4f}{early}",
        f"{seconds:.2f}",
        f"{max(memory):.0f}" if memory else "unknown",
    ]
