"""Where the laboratory keeps its records, pages and settings: in a clone, not in the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import arg


def _home() -> Path:
    """Return the folder ``lab`` of the clone that runs, else ``lab`` below the working folder."""
    clone = Path(__file__).parents[1]
    return clone if (clone / "pyproject.toml").is_file() else Path("lab")


HOME = _home()
RESULTS = HOME / "results"
"""Raw rows and summaries; what was measured with the same weights is not repeated."""
DOCS = HOME / "docs"  # the page of results, a page per question and their pictures
CONFIGS = HOME / "configs"  # settings of tables and studies
PRODUCT_DOCS = HOME.parent / "docs"  # pages of the product
RECIPES = HOME.parent / "configs"  # settings that the shipped models were trained with

Output = Annotated[Path, arg(aliases=("-o",), metavar="DIR", help_behavior_hint="(lab/results)")]
"""Option that says where a measurement goes; its default is RESULTS."""
ResultsFolder = Annotated[Path, arg(metavar="DIR", help_behavior_hint="(lab/results)")]
"""Option that says where measurements lie; its default is RESULTS."""
DocsFolder = Annotated[Path, arg(metavar="DIR", help_behavior_hint="(lab/docs)")]
"""Option that says where pages go; its default is DOCS."""
