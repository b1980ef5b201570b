"""What the studies of trained weights aimed at, and where their pages are."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from ddmseg.models.checkpoint import read_card
from ddmseg.models.zoo import model_path
from ddmseg_lab.page import Claim, Section
from ddmseg_lab.studies import DEFAULT_MODEL
from ddmseg_lab.studies.raw import CHECKSUM_LETTERS, RAW_FILE, RawFile
from ddmseg_lab.studies.registry import STUDIES
from ddmseg_lab.studies.study import Goal, Study


def studies(results: Path, docs: Path) -> Section:
    """Targets of the studies on the shipped weights, and links to all pages.

    Args:
        results: folder that the studies left their rows in.
        docs: folder with the pages in ``studies``.

    Raises:
        UsageError: when rows are damaged or of an older form.
    """
    claims = [_claim(study, study.goal, results) for study in STUDIES.values() if study.goal]
    pages = sorted((docs / "studies").glob("*.md"))
    links = "\n".join(f"- [{_title(page)}](studies/{page.name})" for page in pages)
    return Section("Studies", "ddmseg study NAME --data DATA", [links], claims)


def _claim(study: Study, goal: Goal, results: Path) -> Claim:
    path = results / "study" / study.name / RAW_FILE
    weights = read_card(model_path(DEFAULT_MODEL).with_suffix(".json")).checksum
    rows = RawFile(path, study.words, study.numbers).rows(weights[:CHECKSUM_LETTERS])
    return Claim(goal.target, asdict(goal.measured(rows)) if len(rows) else None)


def _title(page: Path) -> str:
    first = page.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("# ").strip() or page.stem
