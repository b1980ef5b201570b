"""Rows on LPBA40 and BraTS laid out as they are handed out: trained, tested, compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ddmseg.training.curve import Curve
from ddmseg_lab.comparison import row as row_module
from ddmseg_lab.comparison.plan import read_plan
from ddmseg_lab.comparison.predict import score_row
from ddmseg_lab.comparison.record import read_record
from ddmseg_lab.comparison.row import Places, is_done, run_row
from ddmseg_lab.comparison.table import build_table, markdown
from ddmseg_lab.folders import CONFIGS
from real_sets import write_brats, write_lpba40

TINY = """
[model]
widths = [4, 8, 8]
mask_stride = 2
embedding = 2
mask_width = 4
denoiser_width = 4
{model}
[data]
kind = "{kind}"
patch = [16, 16, 16]
spacing_mm = {spacing}
[training]
precision = "single"
steps = 2
batch = 1
validate_every = 2
validation_cases = 2
workers = 0
warmup_steps = 1
threads = 1
device = "cpu"
stop_on_empty_masks = false
[sampling]
steps = 1
samples = 1
"""


def places_in(folder: Path, data: Path) -> Places:
    work = folder / "work"
    return Places(folder / "results", work / "compare" / "toy", work, str(data))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Curve, "_draw", lambda self: None)
    monkeypatch.setattr(row_module, "score_apart", score_row)


def shrunk(name: str, folder: Path, model: str, spacing: float):
    """The shipped table with tiny terms: its rows are read as they are."""
    target = folder / name
    target.mkdir()
    for path in (CONFIGS / "compare" / name).glob("*.toml"):
        (target / path.name).write_text(path.read_text())
    terms = TINY.format(kind=name, model=model, spacing=spacing)
    (target / "terms.toml").write_text(terms)
    return read_plan(target)


def test_rows_of_lpba40_stand_in_a_fold(tmp_path, quick):
    folds = write_lpba40(tmp_path / "data")
    plan = shrunk("lpba40", tmp_path, "", 3.0)
    places = places_in(tmp_path, tmp_path / "data")
    for row in ("plain", "ddm", "unet"):
        record = run_row(plan, row, "fold-2", places)
        assert record.split["test"] == folds["fold-2"]
        assert is_done(plan, row, "fold-2", places)
        found = read_record(places.results / row / "fold-2")
        assert found is not None
        assert len(found[1]) == 2 * 56
        assert sum(score.truth_ml > 0 for score in found[1]) == 2 * 10  # the toy's structures
    assert not is_done(plan, "ddm", "fold-3", places)
    rows = build_table(replace(plan.table, folds=("fold-2",)), places.results)
    heading = markdown(rows, ()).splitlines()[0]  # of many structures the mean alone
    assert heading.startswith("| row | Dice mean (95%) | HD95, mm |")


def test_rows_of_brats_make_a_table_of_nested_regions(tmp_path, quick):
    names = write_brats(tmp_path / "data", bare=1)
    plan = shrunk("brats", tmp_path, "contrasts = 4", 1.0)
    places = places_in(tmp_path, tmp_path / "data")
    for row in ("plain", "ddm", "unet"):
        record = run_row(plan, row, "test", places)
        assert record.notes["left_out"] == {names["unlabelled"][0]: "no label map"}
    lines = build_table(plan.table, places.results)
    text = markdown(lines, plan.table.references)
    assert "| Dice whole-tumour | Dice tumour-core | Dice enhancing-tumour |" in text
    assert len(text.splitlines()) == 2 + 3
    found = read_record(places.results / "ddm" / "test")
    assert found is not None
    assert {score.case for score in found[1]} == set(names["test"])
