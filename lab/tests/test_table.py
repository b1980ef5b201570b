"""Raw tables go on where they stopped, of one model; summaries are plain JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

import ddmseg
from ddmseg_lab.provenance import provenance
from ddmseg_lab.table import RawTable, numbers, read_rows, read_summary, text, write_summary

COLUMNS = ("weights", "case", "dice")


def row(case: str, dice: float, weights: str = "aaa") -> dict[str, object]:
    return {"weights": weights, "case": case, "dice": dice}


def open_table(path: Path, *weights: str, columns=COLUMNS, fresh=False) -> RawTable:
    return RawTable(path, columns, weights or ("aaa",), fresh=fresh)


def test_a_new_table_has_its_header_and_no_row(tmp_path):
    path = tmp_path / "deep" / "a.tsv"
    assert open_table(path).rows == []
    assert path.read_text() == "weights\tcase\tdice\n"


def test_rows_are_on_disk_as_soon_as_they_are_added(tmp_path):
    path = tmp_path / "a.tsv"
    open_table(path).add([row("one", 0.5), row("two", 1 / 3)])
    assert path.read_text() == "weights\tcase\tdice\naaa\tone\t0.5\naaa\ttwo\t0.333333\n"
    assert [p.name for p in tmp_path.iterdir()] == ["a.tsv"]


def test_an_earlier_run_is_gone_on_with(tmp_path):
    path = tmp_path / "a.tsv"
    open_table(path).add([row("one", 0.5)])
    table = open_table(path)
    assert table.has(case="one")
    assert not table.has(case="two")
    table.add([row("two", 0.25)])
    assert numbers(read_rows(path), "dice") == [0.5, 0.25]


def test_rows_of_other_weights_are_dropped(tmp_path):
    path = tmp_path / "a.tsv"
    open_table(path, "aaa", "bbb").add([row("one", 0.5), row("one", 0.6, "bbb")])
    assert [r["weights"] for r in open_table(path, "bbb").rows] == ["bbb"]
    assert [r["weights"] for r in read_rows(path)] == ["bbb"]


def test_a_table_of_other_columns_is_begun_anew(tmp_path):
    path = tmp_path / "a.tsv"
    open_table(path).add([row("one", 0.5)])
    assert open_table(path, columns=(*COLUMNS, "hd95_mm")).rows == []


def test_fresh_drops_everything(tmp_path):
    path = tmp_path / "a.tsv"
    open_table(path).add([row("one", 0.5)])
    assert open_table(path, fresh=True).rows == []


def test_rows_are_selected_by_the_values_that_were_added(tmp_path):
    table = open_table(tmp_path / "a.tsv")
    table.add([row("one", 0.1234567), row("two", 0.5)])
    assert [r["case"] for r in table.select(dice=0.1234567)] == ["one"]
    assert table.select(case="one", dice=0.5) == []


def test_rows_without_a_column_are_refused_and_none_is_added(tmp_path):
    table = open_table(tmp_path / "a.tsv")
    with pytest.raises(KeyError):
        table.add([row("one", 0.5), {"weights": "aaa", "case": "two"}])
    assert table.rows == []
    assert read_rows(table.path) == []


@pytest.mark.parametrize(
    ("value", "shown"), [(0.5, "0.5"), (math.nan, "nan"), (math.inf, "inf"), (7, "7"), ("x", "x")]
)
def test_values_as_they_stand_in_a_table(value, shown):
    assert text(value) == shown


def test_nan_and_infinity_come_back_from_a_table(tmp_path):
    table = open_table(tmp_path / "a.tsv")
    table.add([row("one", math.nan), row("two", math.inf)])
    dice = numbers(read_rows(table.path), "dice")
    assert math.isnan(dice[0])
    assert dice[1] == math.inf


def test_a_summary_is_rounded_and_has_no_nan(tmp_path):
    path = tmp_path / "deep" / "a.json"
    write_summary(path, {"mean": 1 / 3, "low": math.nan, "rows": [(1, math.inf)], "name": "x"})
    written = json.loads(path.read_text())
    assert set(written.pop("provenance")) == {"commit", "ddmseg", "torch", "python", "seed"}
    assert written == {"mean": 0.333333, "low": None, "rows": [[1, None]], "name": "x"}
    assert read_summary(path)["mean"] == 0.333333


def test_a_summary_says_what_code_made_it(tmp_path):
    path = tmp_path / "a.json"
    write_summary(path, {}, seed=7)
    made = read_summary(path)["provenance"]
    assert made == provenance(7)
    assert (made["seed"], made["ddmseg"]) == (7, ddmseg.__version__)
    write_summary(path, {})
    assert read_summary(path)["provenance"]["seed"] is None


def test_there_is_no_summary_where_there_is_no_file(tmp_path):
    assert read_summary(tmp_path / "a.json") is None
    assert read_rows(tmp_path / "a.tsv") == []
