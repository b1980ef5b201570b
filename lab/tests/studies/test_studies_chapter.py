"""Studies on the index: targets from raw rows, and links to the pages."""

from __future__ import annotations

import pytest

from ddmseg.errors import UsageError
from ddmseg.models.checkpoint import read_card
from ddmseg.models.zoo import model_path
from ddmseg_lab.page import NOT_MEASURED
from ddmseg_lab.results_page import studies
from ddmseg_lab.studies.robustness import ROBUSTNESS
from ddmseg_lab.table import LETTERS


def write_rows(results, weights):
    raw = ROBUSTNESS.table(results)
    for patient in range(6):
        shared = {"weights": weights, "subject": f"patient-{patient}", "artefact": "motion"}
        shared |= {"verdict": "pass", "level": 1.0, "limit": 0.8}
        rows = [
            {**shared, "dice": 0.9, "expected": 0.85},
            {**shared, "dice": 0.5, "expected": 0.9 if patient == 0 else 0.6},
        ]
        raw.add(rows)


def shipped() -> str:
    return read_card(model_path("hippocampus").with_suffix(".json")).checksum[:LETTERS]


def claim_of(results):
    (claim,) = (claim for section in studies(results, results) for claim in section.claims)
    return claim


def test_without_rows_of_the_shipped_weights_nothing_is_claimed(tmp_path):
    claim = claim_of(tmp_path)
    assert claim.row()[2] == NOT_MEASURED
    write_rows(tmp_path, "of other weights")
    claim = claim_of(tmp_path)
    assert claim.row()[2] == NOT_MEASURED


def test_the_figure_is_that_of_the_rows(tmp_path):
    write_rows(tmp_path, shipped())
    claim = claim_of(tmp_path)
    # 6 good ones at 0.85; of 6 bad ones one is expected to be better than they all
    assert claim.value == pytest.approx(5 / 6)
    what, target, measured, outcome = claim.row()
    assert "quality control" in what
    assert target == "at least 0.900"
    assert measured.startswith("0.833 (")
    assert outcome == "**missed by 0.067**"


def test_pages_are_linked_by_their_titles(tmp_path):
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "steps.md").write_text("# Study: steps\n\nwords\n")
    pages = {section.name: section for section in studies(tmp_path, tmp_path)}
    assert pages["steps"].link == "[Study: steps](studies/steps.md)"
    assert not pages["robustness"].measured  # has a target, and no page yet
    assert "steps" not in {one.name for one in studies(tmp_path, tmp_path, {"steps"})}


def test_rows_of_an_older_form_are_told(tmp_path):
    path = tmp_path / "study/robustness/raw.tsv"
    path.parent.mkdir(parents=True)
    path.write_text("weights\tsubject\told\n")
    with pytest.raises(UsageError, match="other columns than this study has now"):
        studies(tmp_path, tmp_path)
