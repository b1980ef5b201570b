"""Make ``docs/results.md`` and its pictures of the summaries in ``results/``.

    python -m benchmarks.write_results

Every figure on the page is read from a file there; what was not measured is said to be
so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from benchmarks.chapters import all_chapters
from benchmarks.figures import draw_all
from benchmarks.page import Summaries, claim_table
from benchmarks.records import read_summary

NAMES = (
    "hippocampus",
    "anatomy",
    "discrepancy_hippocampus",
    "discrepancy_anatomy",
    "speed_segment",
    "speed_synthesis",
)
HEAD = """# Results

Every figure here was measured by the command above its table and read from the files that
it left in `results/`; `python -m benchmarks.write_results` makes this page, so edit nothing
here by hand. `DATA` is the folder that holds the data sets. What was aimed at is in the
column *target*, reached or not."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Options of this command."""

    results: Path = Path("results")
    """Folder that the measuring commands wrote to."""
    docs: Path = Path("docs")
    """Folder for ``results.md`` and ``images/``."""


def results_page(summaries: Summaries) -> str:
    """Return the page: all targets first, then chapter by chapter."""
    sections = all_chapters(summaries)
    claims = [claim for section in sections for claim in section.claims]
    parts = [HEAD, "## All targets", claim_table(claims)]
    return "\n\n".join([*parts, *(section.markdown() for section in sections)]) + "\n"


def run(arguments: Arguments) -> None:
    """Read the summaries, write page and pictures."""
    summaries: dict[str, dict[str, Any] | None] = {
        name: read_summary(arguments.results / f"{name}.json") for name in NAMES
    }
    page = arguments.docs / "results.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(results_page(summaries), "utf-8")
    for path in (page, *draw_all(summaries, arguments.docs / "images")):
        print(f"{path}  {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    run(tyro.cli(Arguments, description=__doc__))
