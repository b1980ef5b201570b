"""Plans: every shipped table reads, rows share their terms, and wrong names are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddmseg.errors import SettingsError, UsageError
from ddmseg.pipeline.experiments.plan import ONE_SPLIT, read_plan

CONFIGS = Path(__file__).parents[3] / "configs"
TABLES = sorted(path.parent for path in CONFIGS.rglob("table.toml"))


@pytest.mark.parametrize("folder", TABLES, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_shipped_tables_have_equal_terms(folder):
    plan = read_plan(folder)
    assert plan.rows
    samples = {s.training.steps * s.training.batch for s in plan.rows.values() if not s.row.members}
    assert len(samples) == 1, "rows of one table must see as many examples"
    kinds = {(s.data.kind, s.data.augment, s.data.subjects) for s in plan.rows.values()}
    assert len(kinds) == 1
    assert len({s.training.seed for s in plan.rows.values()}) == 1
    titles = [s.row.title for s in plan.rows.values()]
    assert all(titles)
    assert len(set(titles)) == len(titles)
    for row in plan.rows:
        for fold in plan.folds:
            settings = plan.settings(row, fold)
            assert settings.data.fold == ("" if fold == ONE_SPLIT else fold)


def test_there_are_tables():
    assert {"hippocampus", "ibsr18"} <= {folder.name for folder in TABLES}


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text)
    return folder


TABLE = 'title = "t"\nrows = ["a", "b"]\nreferences = ["a"]\n'


def test_rows_hold_only_what_differs(tmp_path):
    plan = read_plan(
        write(
            tmp_path,
            table=TABLE,
            base="[training]\nsteps = 7\nbatch = 3\n",
            a='extends = "base.toml"\n',
            b='extends = "a.toml"\n[training]\nsteps = 9\n',
        )
    )
    assert plan.rows["a"].training.steps == 7
    assert (plan.rows["b"].training.steps, plan.rows["b"].training.batch) == (9, 3)
    assert plan.rows["b"].name == "b"


def test_borrowed_weights(tmp_path):
    plan = read_plan(write(tmp_path, table=TABLE, a="", b='[row]\nweights_of = "a"\n'))
    assert plan.trained_row("b") == "a"
    assert plan.trained_row("a") == "a"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a": ""}, "b.toml: no such settings file"),
        ({"a": "", "b": '[row]\nweights_of = "aa"\n'}, "row.weights_of: got 'aa'"),
        ({"a": "", "b": '[row]\nmembers = ["c"]\n'}, "row.members: got 'c'"),
        (
            {"a": '[row]\nmembers = ["b"]\n', "b": '[row]\nmembers = ["a"]\n'},
            "has no weights of its own",
        ),
        ({"a": 'extends = "b.toml"\n', "b": 'extends = "a.toml"\n'}, "extends itself"),
        ({"a": "extends = 3\n", "b": ""}, "must be a file name"),
        ({"a": 'extends = "c.toml"\n', "b": ""}, "c.toml: no such settings file"),
        (
            {"a": "", "b": '[row]\nweights_of = "a"\nmembers = ["a"]\n'},
            "leave it out where row.weights_of",
        ),
    ],
)
def test_refusals(tmp_path, files, message):
    with pytest.raises(SettingsError, match=message):
        read_plan(write(tmp_path, table=TABLE, **files))


def test_unknown_row(tmp_path):
    plan = read_plan(write(tmp_path, table=TABLE, a="", b=""))
    with pytest.raises(UsageError, match="row: got 'c'"):
        plan.settings("c", ONE_SPLIT)
