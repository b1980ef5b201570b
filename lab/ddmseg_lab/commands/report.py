"""``ddmseg report``: the page of results from the raw files."""

from __future__ import annotations

from dataclasses import dataclass

from ddmseg_lab.folders import DOCS, RESULTS, DocsFolder, ResultsFolder


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Write results.md and its pictures from the files of measurements, and only from them."""

    results: ResultsFolder = RESULTS
    """Folder that the measuring commands wrote to."""
    docs: DocsFolder = DOCS
    """Folder for results.md and images/."""
    debug: bool = False
    """Show where an unexpected error came from."""


def run(arguments: Arguments) -> int:
    """Write the page and say which files were made."""
    from ddmseg_lab.results_page import write_results_page

    for path in write_results_page(arguments.results, arguments.docs):
        print(path)
    return 0
