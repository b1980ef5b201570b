"""Rows and what keeps them: read back equal, by weights, and damage named."""

from __future__ import annotations

import json
import math

import pytest

from ddmseg.errors import UsageError
from ddmseg_lab.table import RawFile, Rows, read_records, write_record

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


def make(path) -> RawFile:
    return RawFile(path / "raw.tsv", ("kind",), ("steps", "dice"))


def test_what_is_read_back_is_equal(tmp_path):
    raw = make(tmp_path)
    measured = [
        {"kind": "x", "steps": 1.0, "dice": 1 / 3},
        {"kind": "y", "steps": math.inf, "dice": NAN},
    ]
    raw.add("w", "a", measured)
    again = make(tmp_path).rows("w")
    assert str(again) == str(raw.rows("w"))  # NaN differs from itself
    assert again.numbers("steps") == [1.0, math.inf]
    assert again.numbers("dice")[0] == 0.333333
    assert math.isnan(again.numbers("dice")[1])
    assert again.subjects == ["a"]


def test_models_do_not_meet(tmp_path):
    raw = make(tmp_path)
    for weights in ("v", "w"):
        raw.add(weights, "a", [{"kind": weights, "steps": 1.0, "dice": 0.5}])
    raw.forget("v")
    kept = make(tmp_path)
    assert len(kept.rows("v")) == 0
    assert kept.rows("w").words("kind") == ["w"]


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
        make(tmp_path)


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
