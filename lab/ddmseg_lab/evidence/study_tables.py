"""A page in ``docs/studies`` for each study that is a table of trained rows."""

from __future__ import annotations

from pathlib import Path

from ddmseg.models.checkpoint import replace_file
from ddmseg_lab.comparison.plan import TABLE_FILE, read_table
from ddmseg_lab.comparison.table import build_table, markdown
from ddmseg_lab.evidence.table_figures import KIND, picture_names, shown_rows
from ddmseg_lab.evidence.table_findings import findings
from ddmseg_lab.evidence.tables_chapter import how_to_read
from ddmseg_lab.page import picture


def write_study_tables(results: Path, docs: Path) -> list[Path]:
    """Write the page of each table under ``results / study`` that has a row.

    Args:
        results: folder of the records.
        docs: the pages go to its subfolder ``studies``; their pictures are those of
            :func:`ddmseg_lab.evidence.table_figures.draw_tables` in ``images``.

    Raises:
        UsageError: when a record is damaged or rows were tested on different patients.
    """
    written = []
    for path in sorted(results.glob(f"{KIND}/*/{TABLE_FILE}")):
        text = study_page(path.parent)
        if text is not None:
            page = docs / "studies" / f"{path.parent.name}.md"
            replace_file(page, text.encode())
            written.append(page)
    return written


def study_page(folder: Path) -> str | None:
    """Return the page of one table: why, how to repeat it, picture, table, findings.

    None when no row has been run.
    """
    table = read_table(folder)
    rows = shown_rows(table, folder)
    if not rows:
        return None
    lines = build_table(table, folder)
    parts = [
        f"# Study: {folder.name}",
        f"{table.title}.",
        table.note.strip(),
        f"```\nddmseg study {folder.name} --data DATA\n```",
        *(picture(name, table.title, up="../") for name in picture_names(folder.name)),
        markdown(lines, table.references),
        how_to_read(lines, table),
        "## What was found",
        *findings(table, rows),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
