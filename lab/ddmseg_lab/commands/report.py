"""``ddmseg report``: the page of results from the raw files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Write docs/results.md and its pictures from the files under results/, and only from them."""

    results: Annotated[Path, arg(metavar="DIR")] = Path("results")
    """Folder that the measuring commands wrote to."""
    docs: Annotated[Path, arg(metavar="DIR")] = Path("docs")
    """Folder for results.md and images/."""
    debug: bool = False
    """Show where an unexpected error came from."""


def run(arguments: Arguments) -> int:
    """Write the page and say which files were made.

    Raises:
        DdmsegError: when the folder is not there or a file in it is damaged.
    """
    from ddmseg.pipeline.evidence.results_page import write_results_page

    for path in write_results_page(arguments.results, arguments.docs):
        print(path)
    return 0
