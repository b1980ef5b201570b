"""The notebook of the documentation runs as it stands, with a small scan in place of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ddmseg import Segmentation, Segmenter
from ddmseg.outputs.names import RECEIPT
from toy_head import write_head

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "notebooks" / "first_hour.ipynb"


def cells(kind: str) -> list[dict[str, Any]]:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_it_is_small_and_stores_no_outputs() -> None:
    assert NOTEBOOK.stat().st_size < 10_000
    for cell in cells("code"):
        assert (cell["outputs"], cell["execution_count"]) == ([], None)


def test_it_segments_the_scan_that_comes_with_the_fast_model() -> None:
    first = "".join(cells("code")[0]["source"])
    assert 'files("ddmseg") / "demo" / "colin27_t1.nii.gz"' in first
    assert 'Segmenter.load("anatomy_fast")' in first


def test_its_links_lead_somewhere() -> None:
    text = "".join("".join(cell["source"]) for cell in cells("markdown"))
    links = [part.partition(")")[0] for part in text.split("](")[1:]]
    assert len(links) >= 3
    assert all((NOTEBOOK.parent / link).is_file() for link in links)
    for page in ("README.md", "docs/index.md"):
        assert "notebooks/first_hour.ipynb" in (ROOT / page).read_text(encoding="utf-8")


def test_every_cell_runs(tmp_path, monkeypatch, capsys) -> None:
    """One namespace for all cells, as in a notebook."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    monkeypatch.chdir(tmp_path)
    small = write_head(tmp_path / "small.nii.gz")
    whole = Segmenter.__call__
    monkeypatch.setattr(
        Segmenter, "__call__", lambda self, scan, **options: whole(self, small, **options)
    )
    names: dict[str, Any] = {}
    for cell in cells("code"):
        exec(compile("".join(cell["source"]), str(NOTEBOOK), "exec"), names)
    pyplot.close("all")
    assert isinstance(names["result"], Segmentation)
    assert (tmp_path / "colin27.png").is_file()
    assert (tmp_path / "results" / f"small{RECEIPT}").is_file()
    assert "Left-Hippocampus" in capsys.readouterr().out
