"""``docs/results.md`` and its pictures, made of the files in ``results/`` alone.

Every figure on the page is read from a file there; what was not measured is said to be
so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddmseg.errors import UsageError
from ddmseg.models.checkpoint import replace_file
from ddmseg_lab.accuracy import (
    anatomy,
    discrepancy,
    hippocampus,
    monitor_alarms,
    robustness,
    tiers,
)
from ddmseg_lab.bench import summary as bench
from ddmseg_lab.comparison.peers import summary as peers
from ddmseg_lab.evidence.studies_chapter import studies
from ddmseg_lab.evidence.study_tables import write_study_tables
from ddmseg_lab.evidence.table_figures import draw_tables
from ddmseg_lab.evidence.tables_chapter import table_chapters
from ddmseg_lab.figures import save_figure
from ddmseg_lab.origins import origins
from ddmseg_lab.page import Chapter, Section, Summaries, claim_table
from ddmseg_lab.records import read_summary
from ddmseg_lab.speed import budget, memory, quantisation, segment, synthesis

CHAPTERS: tuple[Chapter, ...] = (
    hippocampus.CHAPTER,
    anatomy.CHAPTER,
    peers.CHAPTER,
    *discrepancy.CHAPTERS,
    robustness.CHAPTER,
    tiers.CHAPTER,
    segment.CHAPTER,
    bench.CHAPTER,
    memory.CHAPTER,
    budget.CHAPTER,
    quantisation.CHAPTER,
    synthesis.CHAPTER,
    monitor_alarms.CHAPTER,
)
"""In the order of the page; each is made of one summary."""
NAMES = tuple(chapter.record for chapter in CHAPTERS)
"""Of the summaries."""
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

    Raises:
        UsageError: when the folder is not there or a file in it is damaged.
    """
    pages = write_text(results, docs)
    images = docs / "images"
    drawn = draw_all(read_summaries(results), images)
    return [*pages, *drawn, *draw_tables(results, images)]


def write_text(results: Path, docs: Path) -> list[Path]:
    """Write what :func:`write_results_page` does, without pictures: it takes no matplotlib.

    Raises:
        UsageError: when the folder is not there or a file in it is damaged.
    """
    if not results.is_dir():
        raise UsageError(f"{results}: no such folder; name the one that holds the raw results")
    pages = write_study_tables(results, docs)  # first: the page links what is there
    text = results_page(read_summaries(results), [*table_chapters(results), studies(results, docs)])
    page = docs / "results.md"
    replace_file(page, text.encode())
    return [page, *pages]


def draw_all(summaries: Summaries, folder: Path) -> list[Path]:
    """Draw every picture that there are figures for; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for chapter in CHAPTERS:
        found = summaries.get(chapter.record)
        if found is None:
            continue
        for name, draw in chapter.pictures.items():
            figure = draw(found)
            if figure is not None:
                drawn.append(save_figure(figure, folder / name))
    return drawn


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
