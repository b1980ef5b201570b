"""Rows and what keeps them: read back equal, by weights, and damage named."""

from __future__ import annotations

import json
import math

import pytest

from ddmseg.errors import UsageError
from ddmseg_lab.rows import Rows, read_typed
from ddmseg_lab.table import RawTable, read_records, write_record

NAN = math.nan


def rows(*values: tuple[str, str, float]) -> Rows:
    return Rows(tuple({"subject": s, "kind": k, "dice": d} for s, k, d in values))


MADE = rows(("a", "x", 0.5), ("a", "x", 0.7), ("b", "x", NAN), ("a", "y", 0.1), ("c", "x", 1.0))


def test_rows_are_chosen_and_averaged_by_subject():
    assert MADE.subjects == ["a", "b", "c"]
    assert MADE.kinds("kind") == ["x", "y"]
    some = MADE.where(kind="x")
    found = some.by_subject("dice")
    assert found["a"] == pytest.approx(0.6)
    assert math.isnan(found["b"])
    assert len(some.known("dice")) == 3
    assert len(MADE.among("kind", ("x", "y"))) == len(MADE) == 5
    assert len(MADE.where(kind="z")) == 0
    assert MADE.where(subject="c", kind="x").numbers("dice") == [1.0]


def test_whole_numbers_find_their_level():
    assert len(Rows(({"subject": "a", "level": 5.0},)).where(level=5)) == 1


COLUMNS = ("weights", "subject", "kind", "steps", "dice")


def make(path) -> RawTable:
    return RawTable(path / "raw.tsv", COLUMNS, weights=None)


def read(path) -> Rows:
    return read_typed(path / "raw.tsv", ("kind",), ("steps", "dice"))


def test_what_is_read_back_has_its_numbers(tmp_path):
    assert len(read(tmp_path)) == 0
    shared = {"weights": "w", "subject": "a"}
    make(tmp_path).add(
        [
            {**shared, "kind": "x", "steps": 1.0, "dice": 1 / 3},
            {**shared, "kind": "y", "steps": math.inf, "dice": NAN},
        ]
    )
    again = read(tmp_path)
    assert again.numbers("steps") == [1.0, math.inf]
    assert again.numbers("dice")[0] == 0.333333
    assert math.isnan(again.numbers("dice")[1])
    assert again.subjects == ["a"]
    assert len(again.where(kind="x", steps=1)) == 1


def test_an_empty_cell_is_no_number(tmp_path):
    (tmp_path / "raw.tsv").write_text("\t".join(COLUMNS) + "\nw\ta\tx\t1.0\t\n")
    assert math.isnan(read(tmp_path).numbers("dice")[0])


def test_models_do_not_meet(tmp_path):
    raw = make(tmp_path)
    for weights in ("v", "w"):
        raw.add([{"weights": weights, "subject": "a", "kind": weights, "steps": 1.0, "dice": 0.5}])
    make(tmp_path).forget("v")
    kept = read(tmp_path)
    assert len(kept.where(weights="v")) == 0
    assert kept.where(weights="w").words("kind") == ["w"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("weights\tsubject\tkind\tdice\n", "other columns than this study has now"),
        ("weights\tsubject\tkind\tsteps\tdice\nw\ta\tx\tmany\t1\n", "line 2: steps: got 'many'"),
        ("weights\tsubject\tkind\tsteps\tdice\nw\ta\tx\t1\n", "line 2: dice: got 'None'"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, text, message):
    (tmp_path / "raw.tsv").write_text(text)
    with pytest.raises(UsageError, match=message):
        read(tmp_path)


def test_records_stand_side_by_side(tmp_path):
    path = tmp_path / "run.json"
    assert read_records(path) == {}
    write_record(path, "v", {"a": 1})
    write_record(path, "w", {"a": 2})
    write_record(path, "v", {"a": 3})
    assert read_records(path) == {"v": {"a": 3}, "w": {"a": 2}}
    assert json.loads(path.read_text()) == read_records(path)


@pytest.mark.parametrize("text", ["[1]", "{", '{"w": 1}'])
def test_a_damaged_record_is_named(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UsageError, match="not a record of a study"):
        read_records(tmp_path / "run.json")
