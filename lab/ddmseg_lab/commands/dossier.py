"""``ddmseg dossier``: trust documents from the records of what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from ddmseg_lab.folders import DOCS, PRODUCT_DOCS, RESULTS, DocsFolder, ResultsFolder


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Write model cards, checklist, requirements, anomalies and a bill of materials.

    From records only: what was not measured is said not to be. Research software: not a medical
    device and not for diagnosis.
    """

    output: Annotated[Path, arg(aliases=("-o",), metavar="OUT")]
    """Folder for the documents."""
    results: ResultsFolder = RESULTS
    """Folder that the measuring commands wrote to."""
    docs: Annotated[Path, arg(metavar="DIR", help_behavior_hint="(docs)")] = PRODUCT_DOCS
    """Folder of the documentation, which the checklist points into."""
    lab_docs: DocsFolder = DOCS
    """Folder of the laboratory's pages, which it points into, too."""
    tests: Annotated[Path | None, arg(metavar="XML", help_behavior_hint="(no test was run)")] = None
    """Results of the tests, written by pytest --junitxml."""
    overwrite: bool = False
    """Replace earlier documents."""
    debug: bool = False
    """Show where an unexpected error came from."""


def run(arguments: Arguments) -> int:
    """Write the documents and say which files were made."""
    from ddmseg_lab.dossier.dossier import write_dossier

    options = vars(arguments)
    places = {name: options[name] for name in ("docs", "lab_docs", "tests", "overwrite")}
    for path in write_dossier(arguments.results, arguments.output, **places):
        print(path)
    return 0
