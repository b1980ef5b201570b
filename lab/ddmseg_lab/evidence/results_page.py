"""``docs/results.md`` and its pictures, made of the files in ``results/`` alone.

Every figure on the page is read from a file there; what was not measured is said to be
so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddmseg.errors import UsageError
from ddmseg.pipeline.checkpoint import replace_file
from ddmseg_lab.evidence.chapters import all_chapters, table_chapters
from ddmseg_lab.evidence.chapters.studies import studies
from ddmseg_lab.evidence.figures import draw_all
from ddmseg_lab.evidence.origins import origins
from ddmseg_lab.evidence.study_tables import write_study_tables
from ddmseg_lab.evidence.table_figures import draw_tables
from ddmseg_lab.page import Section, Summaries, claim_table
from ddmseg_lab.records import read_summary

NAMES = (
    "hippocampus",
    "anatomy",
    "peers_malc2012",
    "discrepancy_hippocampus",
    "discrepancy_anatomy",
    "robustness_anatomy",
    "tiers",
    "speed_segment",
    "bench",
    "memory",
    "budget",
    "quantisation",
    "speed_synthesis",
    "monitor_alarms",
)
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


def read_summaries(results: Path) -> dict[str, dict[str, Any] | None]:
    """Return every summary by name, None where there is none."""
    return {name: read_summary(results / f"{name}.json") for name in NAMES}


def results_page(summaries: Summaries, further: Sequence[Section] = ()) -> str:
    """Return the page: all targets first, then chapter by chapter, then where all is from.

    Args:
        summaries: of the measuring commands.
        further: chapters that are not made of a summary: comparisons, ablations, studies.
    """
    sections = [*all_chapters(summaries), *further]
    claims = [claim for section in sections for claim in section.claims]
    parts = [HEAD, "## All targets", claim_table(claims)]
    parts += [section.markdown() for section in sections]
    parts.append(origins(summaries))
    return "\n\n".join(filter(None, parts)) + "\n"
