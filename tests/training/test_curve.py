"""The learning curve: means over steps, merged with validation, written and taken up again."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
import torch

from ddmseg.training.curve import COLUMNS, EVERY, Curve
from ddmseg.training.objective import Losses
from ddmseg.training.validation import ValidationScores

SCORES = ValidationScores(0.5, 0.625, 0.75, all_empty=False)


def losses(value: float) -> Losses:
    return Losses(*[torch.tensor(factor * value) for factor in (1.0, 2.0, 3.0, 4.0)])


def filled(path: Path, steps: int, *, first: int = 1) -> Curve:
    curve = Curve(path)
    for step in range(first, steps + 1):
        curve.add(step, step / 10, losses(float(step)))
    return curve


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "curve.csv"


def test_a_row_is_the_mean_of_its_steps(path):
    curve = filled(path, 2 * EVERY + 3)
    curve.write()
    rows = table(path)
    assert [row["step"] for row in rows] == [str(EVERY), str(2 * EVERY)]
    first, second = (EVERY + 1) / 2, EVERY + (EVERY + 1) / 2
    for row, mean in zip(rows, (first, second), strict=True):
        found = [float(row[name]) for name in ("total", "coarse", "diffusion", "discrepancy")]
        assert found == pytest.approx([mean, 2 * mean, 3 * mean, 4 * mean])
        assert (row["coarse_dice"], row["sampled_dice"]) == ("", "")
    assert rows[0]["seconds"] == "2.5"


def test_validation_joins_the_row_of_its_step(path):
    curve = filled(path, EVERY)
    curve.validated(EVERY, SCORES)
    curve.write()
    (row,) = table(path)
    assert (row["coarse_dice"], row["sampled_dice"]) == ("0.5", "0.625")
    assert row["total"]


def test_validation_between_two_rows_has_a_row_of_its_own(path):
    curve = filled(path, EVERY + 5)
    curve.validated(EVERY + 5, SCORES)
    curve.write()
    rows = table(path)
    assert [row["step"] for row in rows] == [str(EVERY), str(EVERY + 5)]
    assert rows[1]["total"] == ""
    assert rows[1]["sampled_dice"] == "0.625"


def test_the_columns_are_always_all_there(path):
    Curve(path).write()
    assert path.read_text() == ",".join(COLUMNS) + "\n"


def test_a_later_run_takes_up_the_rows(path):
    whole = filled(path, 3 * EVERY)
    whole.validated(3 * EVERY, SCORES)
    whole.write()
    text = path.read_text()
    taken = Curve(path)
    taken.read(up_to=3 * EVERY)
    taken.write()
    assert path.read_text() == text


def test_rows_beyond_the_state_are_dropped(path):
    filled(path, 3 * EVERY).write()
    curve = Curve(path)
    curve.read(up_to=2 * EVERY)
    assert [row["step"] for row in curve.rows] == [EVERY, 2 * EVERY]
    for step in range(2 * EVERY + 1, 3 * EVERY + 1):
        curve.add(step, step / 10, losses(float(step)))
    expected = path.read_text()
    curve.write()
    assert path.read_text() == expected


def test_reading_nothing_is_no_error(path):
    curve = Curve(path)
    curve.read(up_to=100)
    assert curve.rows == []


def test_nan_is_written_as_it_is(path):
    curve = Curve(path)
    for step in range(1, EVERY + 1):
        curve.add(step, 0.0, losses(float("nan")))
    curve.write()
    assert table(path)[0]["total"] == "nan"


# The picture


@pytest.mark.parametrize("steps", [0, EVERY, 3 * EVERY])
def test_the_picture_is_a_png_beside(path, steps):
    curve = filled(path, steps)
    curve.validated(steps, SCORES)
    curve.write()
    data = path.with_suffix(".png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) > 5000


def test_losses_of_a_plain_network_are_drawn(path):
    # Two parts are 0 throughout, which a logarithmic axis cannot show.
    curve = Curve(path)
    for step in range(1, EVERY + 1):
        curve.add(step, 0.0, Losses(*[torch.tensor(v) for v in (1.0, 1.0, 0.0, 0.0)]))
    curve.write()
    assert path.with_suffix(".png").is_file()


def test_without_matplotlib_there_is_the_table_alone(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    filled(path, EVERY).write()
    assert path.is_file()
    assert not path.with_suffix(".png").exists()
