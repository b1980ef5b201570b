"""The four files of an evaluation: all or none, and true to their scores."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from pathlib import Path

import pytest

from ddmseg.errors import OutputError
from ddmseg.evaluation import files as evaluation_files
from ddmseg.evaluation.evaluate import Evaluation
from ddmseg.evaluation.files import FILES, check_folder, write_evaluation
from ddmseg.evaluation.pairs import Pair
from ddmseg.evaluation.scores import agreement, read_scores, summarise
from ddmseg.maths.case_scores import Score
from toy_head import everything_in


@pytest.fixture
def found() -> Evaluation:
    scores = (
        Score("a", "S", 17, 0.5, 2.0, 1.0, 0.9, 0.8, 1.0, 1.5),
        Score("b", "S", 17, 0.0, math.inf, math.inf, 0.0, 0.0, 1.0, 0.0),
        Score("c", "S", 17, *[math.nan] * 5, 0.0, 0.0),
    )
    return Evaluation(
        scores=scores,
        summary=summarise(scores),
        agreement=agreement(scores),
        pairs=tuple(Pair(c, Path("P", f"{c}.nii"), Path("T", f"{c}.nii")) for c in "abc"),
        problems=("d: no truth",),
        notes=("a note",),
        predictions=Path("P"),
        truth=Path("T"),
        labels=None,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_all_files_come_and_nothing_else(found, tmp_path) -> None:
    out = tmp_path / "new" / "out"
    assert write_evaluation(found, out) == [out / name for name in FILES]
    assert everything_in(out) == sorted(FILES)
    assert read_scores(out / "scores.tsv")[:2] == list(found.scores[:2])
    assert (out / "evaluation.html").read_text().startswith("<!doctype html>")


def test_the_summary_is_the_same_in_both_forms(found, tmp_path) -> None:
    write_evaluation(found, tmp_path)
    told = json.loads((tmp_path / "summary.json").read_text())
    with (tmp_path / "summary.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) == 10
    for row in rows:
        figures = told["summary"][row["structure"]][row["metric"]]
        for name in ("mean", "low", "high", "n", "undefined", "infinite"):
            if figures[name] is None:
                assert row[name] == ""
            else:
                assert float(row[name]) == pytest.approx(figures[name], abs=1e-6)
    assert told["summary"]["S"]["hd95_mm"] == {
        "mean": 1.0,
        "low": None,
        "high": None,
        "n": 1,
        "undefined": 1,
        "infinite": 1,
    }
    assert told["volume_difference"]["S"]["bias_ml"] == -0.25
    assert (told["problems"], told["notes"]) == (["d: no truth"], ["a note"])
    assert told["pairs"][0] == {"case": "a", "prediction": "P/a.nii", "truth": "T/a.nii"}
    assert told["settings"]["surface_tolerance_mm"] == 1.0


def test_the_same_evaluation_gives_the_same_bytes(found, tmp_path) -> None:
    for name in ("x", "y"):
        write_evaluation(found, tmp_path / name)
    assert contents(tmp_path / "x") == contents(tmp_path / "y")


def test_results_that_are_there_are_kept_unless_told_otherwise(found, tmp_path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "summary.json").write_text("old")
    told = r"summary\.json exists already; pass --overwrite to replace it, or name another folder"
    with pytest.raises(OutputError, match=told):
        write_evaluation(found, tmp_path)
    assert everything_in(tmp_path) == ["mine.txt", "summary.json"]
    write_evaluation(found, tmp_path, overwrite=True)
    assert everything_in(tmp_path) == sorted([*FILES, "mine.txt"])
    assert (tmp_path / "summary.json").read_text() != "old"


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="out is a file; the results need a folder"):
        check_folder(tmp_path / "out", overwrite=True)


def test_a_failure_leaves_no_trace(found, tmp_path, monkeypatch) -> None:
    def fail(evaluation: Evaluation) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(evaluation_files, "render_page", fail)
    out = tmp_path / "new" / "out"
    with pytest.raises(OutputError, match=r"out: No space left on device; mend that or choose"):
        write_evaluation(found, out)
    assert everything_in(tmp_path) == []


def test_a_failure_at_the_last_step_brings_the_old_files_back(found, tmp_path) -> None:
    write_evaluation(found, tmp_path)
    before = contents(tmp_path)
    changed = dataclasses.replace(found, notes=("another",))
    real, refused = Path.replace, []

    def replace(self: Path, target: Path) -> Path:
        if target == tmp_path / "evaluation.html" and not refused:
            refused.append(target)
            raise OSError(13, "Permission denied")
        return real(self, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises(OutputError, match="Permission denied"):
            write_evaluation(changed, tmp_path, overwrite=True)
    assert contents(tmp_path) == before


def test_a_folder_that_cannot_be_made_is_named(found, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*out: .*; mend that or choose another"):
        write_evaluation(found, tmp_path / "file" / "out")
