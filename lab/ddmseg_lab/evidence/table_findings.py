"""What a table of rows says, in sentences that its own figures choose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ddmseg_lab.comparison.plan import TableSettings
from ddmseg_lab.evidence.table_figures import ShownRow
from ddmseg_lab.studies.findings import (
    against_words,
    compare_sets,
    difference_words,
    markdown_table,
)


def findings(table: TableSettings, rows: Mapping[str, ShownRow]) -> Iterator[str]:
    """Yield a paragraph for each reference of a table, then its contrasts."""
    for reference in table.references:
        if reference not in rows:
            continue
        others = {row.title: row.dice for name, row in rows.items() if name != reference}
        found = compare_sets(rows[reference].dice, others)
        yield against_words(found, what="mean Dice", reference=f"*{rows[reference].title}*")
    yield from _contrasts(table, rows)


def _contrasts(table: TableSettings, rows: Mapping[str, ShownRow]) -> Iterator[str]:
    """Compare the pairs that the table names, Holm-corrected over them."""
    pairs = [pair for pair in table.contrast_pairs if set(pair) <= set(rows)]
    if not pairs:
        return
    patients = rows[pairs[0][0]].dice
    differences = {
        f"{rows[one].title} − {rows[other].title}": {
            patient: rows[one].dice[patient] - rows[other].dice[patient] for patient in patients
        }
        for one, other in pairs
    }
    found = compare_sets(dict.fromkeys(patients, 0.0), differences)
    yield "Pairs of rows, mean Dice of the first less that of the second on the same patients:"
    yield markdown_table(
        ["pair", "difference"], [[name, difference_words(one)] for name, one in found.items()]
    )
