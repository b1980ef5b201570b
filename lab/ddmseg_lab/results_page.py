"""``docs/results.md`` and its pictures, made of the files in ``results/`` alone.

Every figure on the page is read from a file there; what was not measured is said to be
so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ddmseg.errors import UsageError
from ddmseg.models.checkpoint import read_card, replace_file
from ddmseg.models.zoo import model_path
from ddmseg_lab import STUDIED_MODEL
from ddmseg_lab.comparison.table_page import draw_tables, table_chapters, write_study_tables
from ddmseg_lab.figures import save_figure
from ddmseg_lab.page import Claim, Section, Summaries, claim_table, origins
from ddmseg_lab.questions import CHAPTERS, NAMES, STUDIES
from ddmseg_lab.study import Goal, Study, short_checksum
from ddmseg_lab.table import read_summary

HEAD = """# Results

Every figure here was measured by the command above its table and read from the files that
it left in `results/`; `ddmseg report` makes this page, so edit nothing here by hand. `DATA`
is the folder that holds the data sets. What was aimed at is in the column *target*, reached
or not."""


def write_results_page(results: Path, docs: Path) -> list[Path]:
    """Write ``results.md``, the pages of study tables and all pictures; return the files.

    Args:
        results: folder that the measuring commands wrote to.
        docs: folder for ``results.md``, ``studies/`` and ``images/``.
    """
    pages = write_text(results, docs)
    images = docs / "images"
    drawn = draw_all(read_summaries(results), images)
    return [*pages, *drawn, *draw_tables(results, images)]


def write_text(results: Path, docs: Path) -> list[Path]:
    """Write what :func:`write_results_page` does, without pictures: it takes no matplotlib."""
    if not results.is_dir():
        raise UsageError(f"{results}: no such folder; name the one that holds the raw results")
    pages = write_study_tables(results, docs)  # first: the page links what is there
    text = results_page(read_summaries(results), [*table_chapters(results), studies(results, docs)])
    page = docs / "results.md"
    replace_file(page, text.encode())
    return [page, *pages]


def draw_all(summaries: Summaries, folder: Path) -> list[Path]:
    """Draw every picture that there are figures for; return the files."""
    return [
        save_figure(figure, folder / name)
        for chapter in CHAPTERS
        if (found := summaries.get(chapter.record)) is not None
        for name, draw in chapter.pictures.items()
        if (figure := draw(found)) is not None
    ]


def read_summaries(results: Path) -> dict[str, dict[str, Any] | None]:
    """Return every summary by name, None where there is none."""
    return {name: read_summary(results / f"{name}.json") for name in NAMES}


def results_page(summaries: Summaries, further: Sequence[Section] = ()) -> str:
    """Return the page: all targets first, then chapter by chapter, then where all is from.

    Args:
        summaries: of the measuring commands.
        further: chapters that are not made of a summary: comparisons, ablations, studies.
    """
    sections = [chapter.section(summaries.get(chapter.record)) for chapter in CHAPTERS]
    sections += further
    claims = [claim for section in sections for claim in section.claims]
    parts = [HEAD, "## All targets", claim_table(claims)]
    parts += [section.markdown() for section in sections]
    parts.append(origins(summaries))
    return "\n\n".join(filter(None, parts)) + "\n"


def studies(results: Path, docs: Path) -> Section:
    """Return the targets of the studies on the shipped weights, and links to all pages."""
    claims = [_claim(study, study.goal, results) for study in STUDIES.values() if study.goal]
    pages = sorted((docs / "studies").glob("*.md"))
    links = "\n".join(f"- [{_title(page)}](studies/{page.name})" for page in pages)
    return Section("Studies", "ddmseg study NAME --data DATA", [links], claims)


def _claim(study: Study, goal: Goal, results: Path) -> Claim:
    card = read_card(model_path(STUDIED_MODEL).with_suffix(".json"))
    rows = study.raw(results).rows(short_checksum(card))
    return Claim(goal.target, asdict(goal.measured(rows)) if len(rows) else None)


def _title(page: Path) -> str:
    first = page.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("# ").strip() or page.stem
