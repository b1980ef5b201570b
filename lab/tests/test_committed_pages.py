"""The pages in docs/ are those that the files in results/ give; pictures are not compared."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from ddmseg.models.checkpoint import read_card
from ddmseg.models.zoo import model_path
from ddmseg_lab import STUDIED_MODEL
from ddmseg_lab.folders import DOCS, RESULTS
from ddmseg_lab.questions import NAMES, STUDIES
from ddmseg_lab.results_page import page_text, write_text
from ddmseg_lab.study import short_checksum

MEASURED = [name for name in STUDIES if (RESULTS / "study" / name / "raw.tsv").is_file()]


def test_the_page_of_results_is_that_of_the_records(tmp_path) -> None:
    for page in (DOCS / "studies").glob("*.md"):  # the page links what is there
        (tmp_path / "studies").mkdir(exist_ok=True)
        (tmp_path / "studies" / page.name).write_bytes(page.read_bytes())
    written = write_text(RESULTS, tmp_path)
    assert tmp_path / "results.md" in written
    for page in written:
        committed = DOCS / page.relative_to(tmp_path)
        assert page.read_text() == committed.read_text(), "run: ddmseg report"


@pytest.mark.parametrize("name", MEASURED)
def test_the_page_of_a_study_is_that_of_its_rows(name) -> None:
    study = STUDIES[name]
    card = read_card(model_path(STUDIED_MODEL).with_suffix(".json"))
    rows = study.rows(RESULTS, card)
    committed = (DOCS / "studies" / f"{name}.md").read_text()
    if (
        not rows.subjects
    ):  # not measured since: the page names the former weights, and has their rows
        (former,) = re.findall(r"\(([0-9a-f]{12}), \d+ steps\)", committed)
        assert former != short_checksum(card)
        rows = study.rows(RESULTS, replace(card, checksum=former))
        assert rows.subjects
        assert study.page(rows) in committed
        return
    assert page_text(study, card, rows, RESULTS) == committed, f"run: ddmseg study {name} --show"


def test_every_page_of_a_study_is_made_of_records() -> None:
    tables = {path.parent.name for path in RESULTS.glob("study/*/table.toml")}
    tables |= {f"{p.parts[-3]}_{p.parts[-2]}" for p in RESULTS.glob("*/*/table.toml")}
    pages = {page.stem for page in (DOCS / "studies").glob("*.md")}
    assert pages <= {*MEASURED, *tables, *NAMES}
    assert len(MEASURED) >= 4
