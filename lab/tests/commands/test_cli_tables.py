"""``ddmseg compare`` and ``ddmseg report`` as a user runs them."""

from __future__ import annotations

import json

import pytest

from ddmseg.training.curve import Curve
from ddmseg_lab.comparison import row as row_module
from ddmseg_lab.comparison.predict import score_row
from real_sets import write_ibsr18

TERMS = """
[model]
dims = 2
widths = [4, 8, 8]
embedding = 2
mask_width = 4
denoiser_width = 4
[data]
kind = "ibsr18"
patch = [16, 16]
[training]
precision = "single"
steps = 2
batch = 2
validate_every = 2
validation_cases = 2
workers = 0
warmup_steps = 1
threads = 1
stop_on_empty_masks = false
[sampling]
steps = 1
samples = 1
"""
ROWS = {
    "plain": 'extends = "terms.toml"\n[model]\ndiffusion = false\n[row]\ntitle = "Plain"\n',
    "ddm": 'extends = "terms.toml"\n[row]\ntitle = "DDM"\n',
    "broken": 'extends = "terms.toml"\n[data]\npatch = [16, 16, 16]\n[row]\ntitle = "Broken"\n',
}


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(Curve, "_draw", lambda self: None)
    monkeypatch.setattr(row_module, "score_apart", score_row)
    table = tmp_path / "toy"
    table.mkdir()
    text = f'title = "Toy"\nrows = {json.dumps(list(ROWS))}\nreferences = ["ddm", "plain"]\n'
    text += 'folds = ["fold-1", "fold-2"]\n'
    for name, content in {"table": text, "terms": TERMS, **ROWS}.items():
        (table / f"{name}.toml").write_text(content)
    write_ibsr18(tmp_path / "data")
    monkeypatch.setenv("DDMSEG_DATA", str(tmp_path / "data"))
    return table, tmp_path


def test_rows_are_run_once_and_one_that_fails_stops_no_other(ddmseg, folders):
    table, root = folders
    words = (str(table), "--results", str(root / "results"), "--work", str(root / "runs"))
    first = ddmseg("compare", *words)
    assert first.code == 1
    assert "cut in slices" in first.error
    assert first.out.startswith("# Toy")
    assert "| Plain |" in first.out
    assert "| DDM |" in first.out
    records = sorted((root / "results" / "compare" / "toy").rglob("run.json"))
    assert len(records) == 4  # two rows in two folds
    stamps = [path.stat().st_mtime_ns for path in records]
    second = ddmseg("compare", *words, "--rows", "plain,ddm")
    assert second.code == 0
    assert [path.stat().st_mtime_ns for path in records] == stamps
    assert second.out == first.out
    assert "recorded already: plain, ddm; to run them again" in second.err
    shown = ddmseg("compare", *words, "--show")
    assert shown.out == first.out
    page = ddmseg("report", "--results", str(root / "results"), "--docs", str(root / "docs"))
    assert page.code == 0
    assert "- [Toy](studies/compare_toy.md)\n" in (root / "docs" / "results.md").read_text()
    text = (root / "docs" / "studies" / "compare_toy.md").read_text()
    assert text.startswith("# Toy\n")
    assert "Not run yet: broken." in text


def test_a_recorded_row_is_reproduced_beside_the_record(ddmseg, folders):
    table, root = folders

    def scores(name: str) -> list[str]:
        words = ("--results", str(root / name), "--work", str(root / f"runs-{name}"))
        found = ddmseg("compare", str(table), "--rows", "plain", *words)
        assert found.code == 0
        assert "recorded already" not in found.err
        return [path.read_text() for path in sorted((root / name).rglob("scores.tsv"))]

    ours = scores("ours")
    assert len(ours) == 2  # folds
    assert scores("again") == ours


def test_wrong_use(ddmseg, folders):
    table, root = folders
    assert (
        "row: got 'plan' (did you mean 'plain'?)"
        in ddmseg("compare", str(table), "--rows", "plan").error
    )
    assert "table.toml: no such settings file" in ddmseg("ablate", str(root / "none")).error
    assert "no such folder" in ddmseg("report", "--results", str(root / "none")).error
    minutes = ddmseg("compare", str(table), "--max-minutes", "0")
    assert minutes.code == 2
    assert "above 0" in minutes.error
