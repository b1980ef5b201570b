"""Chapters of tables of rows: comparisons and ablations, as far as they have been run."""

from __future__ import annotations

from pathlib import Path

from ddmseg_lab.comparison.plan import TABLE_FILE, TableSettings, read_table
from ddmseg_lab.comparison.table import Line, build_table, markdown
from ddmseg_lab.evidence.table_figures import shown_rows
from ddmseg_lab.evidence.table_findings import findings
from ddmseg_lab.page import INTERVALS, Section

KINDS = ("compare", "ablate")
"""Commands whose tables are chapters, in the order of the page; studies have pages of their own."""


def table_chapters(results: Path) -> list[Section]:
    """Return a chapter for each table under ``results / KIND / NAME``.

    Raises:
        UsageError: when a record is damaged or rows were tested on different patients.
    """
    found = [
        (kind, path) for kind in KINDS for path in sorted(results.glob(f"{kind}/*/{TABLE_FILE}"))
    ]
    return [_chapter(kind, path.parent) for kind, path in found]


def _chapter(kind: str, folder: Path) -> Section:
    table = read_table(folder)
    lines = build_table(table, folder)
    command = f"ddmseg {kind} lab/configs/{kind}/{folder.name} --data DATA"
    body = [table.note.strip(), markdown(lines, table.references), how_to_read(lines, table)]
    body += findings(table, shown_rows(table, folder))
    return Section(table.title, command, [part for part in body if part])


def how_to_read(lines: list[Line], table: TableSettings) -> str:
    """Say how to read the table and what is missing from it."""
    words = (
        f"A single row: `--rows NAME`, such as `{table.rows[0]}`. {INTERVALS} Differences are of "
        "the mean Dice, patient by patient; p of a two-sided Wilcoxon test, Holm-corrected over "
        "the rows. Distances are means over the structures that the row found at all."
    )
    run = {line.row for line in lines}
    missing = [name for name in table.rows if name not in run]
    if missing:
        words += f" Not run yet: {', '.join(missing)}."
    return words
