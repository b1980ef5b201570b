"""Pictures of study tables: drawn of what was run, linked where they are drawn."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from ddmseg.maths.case_scores import Score
from ddmseg.models.settings import ModelSettings, RowSettings, Settings, TrainingSettings
from ddmseg_lab.comparison.plan import TABLE_FILE, read_table
from ddmseg_lab.comparison.record import Record, write_record
from ddmseg_lab.comparison.table import TableRow, build_table
from ddmseg_lab.comparison.table_page import (
    dice_of_rows,
    draw_tables,
    learning_curves,
    picture_names,
    table_chapters,
)
from ddmseg_lab.results_page import write_results_page

CURVE = """step,seconds,total,coarse,diffusion,discrepancy,coarse_dice,sampled_dice
25,1,3,1,1,1,,
50,2,2,0.5,0.8,0.4,0.6,{dice}
"""


def write_table(results: Path, name: str, rows: dict[str, float], *, kind: str = "study") -> Path:
    """Leave a table whose rows have a known mean Dice of five patients."""
    folder = results / kind / name
    folder.mkdir(parents=True)
    listed = json.dumps([*rows, "later"])
    (folder / TABLE_FILE).write_text(
        f'title = "About {name}"\nrows = {listed}\nreferences = ["{next(iter(rows))}"]\n'
    )
    for number, (row, dice) in enumerate(rows.items()):
        settings = Settings(
            name=row,
            model=ModelSettings(diffusion=row.startswith("ddm")),
            training=TrainingSettings(seed=number),
            row=RowSettings(title=f"Row {row}"),
        )
        record = Record(
            table=name, row=row, fold="test", settings=json.loads(json.dumps(asdict(settings))),
            split={}, versions={}, commit="abc", threads=1, parameters=10, trained_steps=50,
            samples_seen=100, validation_dice=dice, train_seconds=1.0, seconds_a_scan=0.1,
            peak_memory_mb=None,
        )  # fmt: skip
        scores = [
            Score(f"case_{i}", "whole", 1, dice + 0.01 * i, 3.0, 2.0, 0.9, 0.8, 1.0, 1.0)
            for i in range(-2, 3)
        ]
        curve = folder / f"{row}.csv"
        curve.write_text(CURVE.format(dice=dice))
        write_record(folder / row / "test", record, scores, curve)
        curve.unlink()
    return folder


def test_rows_that_have_been_run_are_shown_in_order(tmp_path):
    folder = write_table(tmp_path, "schedule", {"ddm_b": 0.7, "ddm_a": 0.8, "plain": 0.6})
    rows = build_table(read_table(folder / "."), folder)
    assert list(rows) == ["ddm_b", "ddm_a", "plain"]
    assert rows["ddm_a"].title == "Row ddm_a"
    assert np.mean(list(rows["ddm_a"].dice.values())) == pytest.approx(0.8)
    assert [row.diffusion for row in rows.values()] == [True, True, False]
    assert all(len(row.curves) == 1 for row in rows.values())


def points(axes) -> list[tuple[float, float]]:
    """Places of the dots of an errorbar."""
    line = axes.containers[0].lines[0]
    return list(zip(*line.get_data(), strict=True))


def test_the_picture_shows_means_and_differences():
    dice = {f"case_{i}": 0.8 + 0.01 * i for i in range(5)}
    rows = {
        "a": TableRow("A", dice, True, []),
        "b": TableRow("B", {case: value - 0.1 for case, value in dice.items()}, True, []),
    }
    figure = dice_of_rows(rows, ["a"])
    left, right = figure.axes
    assert points(left) == [(pytest.approx(0.82), 2), (pytest.approx(0.72), 1)]
    assert points(right) == [(pytest.approx(0.0), 2), (pytest.approx(-0.1), 1)]
    assert [label.get_text() for label in left.get_yticklabels()] == ["A", "B"]
    assert len(dice_of_rows(rows, ["not run"]).axes) == 1


def test_curves_are_one_line_a_row(tmp_path):
    folder = write_table(tmp_path, "convergence", {"ddm_0": 0.7, "ddm_1": 0.8, "plain_0": 0.6})
    rows = build_table(read_table(folder), folder)
    dice, coarse, others = learning_curves(list(rows.values())).axes
    drawn = [line for line in dice.lines if len(line.get_xdata())]
    assert [line.get_ydata()[-1] for line in drawn] == [0.7, 0.8, 0.6]
    assert len(coarse.lines) == 3
    assert list(coarse.lines[0].get_ydata()) == [1.0, 0.5]
    assert len(others.lines) == 4  # diffusion and discrepancy of the two that have them
    assert len({line.get_color() for line in drawn}) == 2


def test_only_studies_with_a_row_are_drawn(tmp_path):
    results = tmp_path / "results"
    write_table(results, "convergence", {"ddm_0": 0.7})
    write_table(results, "hippocampus", {"ddm": 0.7}, kind="compare")
    empty = write_table(results, "lambda", {"ddm": 0.7})
    (empty / "ddm" / "test" / "run.json").unlink()
    drawn = draw_tables(results, tmp_path / "images")
    assert [path.name for path in drawn] == picture_names("convergence")
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)
    first = drawn[0].read_bytes()
    assert draw_tables(results, tmp_path / "images")[0].read_bytes() == first
    assert draw_tables(tmp_path / "nothing", tmp_path / "none") == []


def test_pages_of_studies_link_what_is_drawn(tmp_path):
    results = tmp_path / "results"
    write_table(results, "convergence", {"ddm_0": 0.7, "plain_0": 0.6})
    empty = write_table(results, "lambda", {"ddm": 0.7})
    (empty / "ddm" / "test" / "run.json").unlink()
    written = write_results_page(results, tmp_path / "docs")
    page = tmp_path / "docs" / "studies" / "convergence.md"
    text = page.read_text()
    for name in picture_names("convergence"):
        assert f"(../images/{name})" in text
        assert tmp_path / "docs" / "images" / name in written
    assert page in written
    assert text.startswith("# Study: convergence\n\nAbout convergence.")
    assert "```\nddmseg study convergence --data DATA\n```" in text
    assert "--rows NAME" in text
    assert table_chapters(results) == []
    whole = (tmp_path / "docs" / "results.md").read_text()
    assert "(studies/convergence.md)" in whole
    assert "lambda" not in whole
    assert not (tmp_path / "docs" / "studies" / "lambda.md").exists()
