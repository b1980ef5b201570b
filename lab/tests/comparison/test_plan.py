"""Plans: every shipped table reads, rows share their terms, and wrong names are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ddmseg.datasets.sources import labelled_source
from ddmseg.errors import SettingsError, UsageError
from ddmseg.models.settings_reader import settings_to_dict
from ddmseg_lab.comparison.plan import ONE_SPLIT, Plan, read_plan
from ddmseg_lab.folders import CONFIGS
from real_sets import write_hippocampus

TABLES = sorted(path.parent for path in CONFIGS.rglob("table.toml"))


NEVER = frozenset({"data.kind", "data.spacing_mm", "data.fold", "training.validation_cases"})
"""What no table may vary: the subjects that rows are chosen and tested on, and their grid."""
EQUAL_TERMS = NEVER | {
    "data.augment",
    "data.subjects",
    "data.synthetic_share",
    "data.degraded_share",
    "data.normalisation",
    "data.bias_field",
    "data.resample_mm",
    "training.seed",
    "training.steps",
    "training.batch",
    "training.leg_steps",
    "training.least_rise",
}
"""What rows of a comparison or an ablation share."""
DDM_OR_PLAIN = {"model.diffusion", "loss.recycling_noise_end", "sampling.coarse_share"}
"""How the row ``plain`` differs from the row ``ddm``."""
STUDIED = {
    "schedule": {"loss.schedule", "loss.schedule_shift", "model.input_scale"},
    "lambda": {"loss.diffusion_weight", "loss.temperature", "sampling.temperature"},
    "training_size": {"data.subjects", "data.synthetic_share", *DDM_OR_PLAIN},
    "preprocessing": {"data.augment", "data.normalisation", "data.bias_field", "data.resample_mm"},
    "convergence": {"training.seed", *DDM_OR_PLAIN},
}
"""All that the rows of a study may differ in, beside name and title."""


def varied(plan: Plan) -> set[str]:
    """The settings that are not the same in all rows that train."""
    flat = [
        {
            f"{table}.{name}": value
            for table, values in settings_to_dict(settings).items()
            if table not in ("name", "row")
            for name, value in values.items()
        }
        for settings in plan.rows.values()
        if not settings.row.members
    ]
    return {name for name in flat[0] if any(one[name] != flat[0][name] for one in flat)}


@pytest.mark.parametrize("folder", TABLES, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_shipped_tables_have_equal_terms(folder):
    plan = read_plan(folder)
    assert plan.rows
    trained = [settings for settings in plan.rows.values() if not settings.row.members]
    to_the_end = {"training.steps"} if trained[0].training.least_rise else set()
    samples = {s.training.steps * s.training.batch for s in trained}
    assert to_the_end or len(samples) == 1, "rows of one table must see as many examples"
    if folder.parent.name == "study":
        assert varied(plan) == STUDIED[folder.name]
    else:
        assert not varied(plan) & (EQUAL_TERMS - to_the_end)
    titles = [s.row.title for s in plan.rows.values()]
    assert all(titles)
    assert len(set(titles)) == len(titles)
    for row in plan.rows:
        for fold in plan.folds:
            settings = plan.settings(row, fold)
            assert settings.data.fold == ("" if fold == ONE_SPLIT else fold)


def test_no_study_may_vary_whom_rows_are_tested_on():
    assert all(not allowed & NEVER for allowed in STUDIED.values())
    assert {name for name, allowed in STUDIED.items() if "training.seed" in allowed} == {
        "convergence"
    }


@pytest.mark.parametrize("name", STUDIED)
def test_rows_of_a_study_choose_and_test_on_the_same_subjects(name, tmp_path):
    written = write_hippocampus(tmp_path, {"train": 5, "validation": 2, "test": 3})
    for settings in read_plan(CONFIGS / "study" / name).rows.values():
        split = labelled_source(settings.data, str(tmp_path)).split()
        assert split["validation"] == written["validation"]
        assert split["test"] == written["test"]
        some = settings.data.subjects
        assert split["train"] == written["train"][: some or None]


def test_a_study_changes_one_thing_at_a_time():
    for name in ("schedule", "lambda", "preprocessing"):
        plan = read_plan(CONFIGS / "study" / name)
        reference = plan.rows[plan.table.references[0]]
        for row, settings in plan.rows.items():
            changed = varied(replace(plan, rows={"reference": reference, row: settings}))
            if row.startswith("temperature_"):  # samples are weighted as they were trained
                changed -= {"sampling.temperature"}
            assert len(changed) == (settings is not reference), row


def test_the_seeds_of_convergence():
    plan = read_plan(CONFIGS / "study" / "convergence")
    for diffusion in (True, False):
        rows = [s for s in plan.rows.values() if s.model.diffusion is diffusion]
        assert sorted(s.training.seed for s in rows) == [0, 1, 2]


def test_there_are_tables():
    names = {folder.name for folder in TABLES}
    assert {"hippocampus", "ibsr18", *STUDIED} <= names
    for kind in ("hippocampus", "ibsr18"):
        rows = read_plan(CONFIGS / "compare" / kind).table.rows
        first = rows.index("ddm")
        assert rows[first : first + 4] == ("ddm", "ddm_detached", "ddm_maps", "ddm_plain")


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
        ({"a": "extends = 3\n", "b": ""}, "give a file name"),
        ({"a": 'extends = "c.toml"\n', "b": ""}, "c.toml: no such settings file"),
        (
            {"a": "", "b": '[row]\nweights_of = "a"\nmembers = ["a"]\n'},
            "leave it out where row.weights_of",
        ),
        (
            {
                "a": '[data]\nkind = "hippocampus"\nnormalisation = "z_score"\n',
                "b": '[data]\nkind = "hippocampus"\n[row]\nmembers = ["a"]\n',
            },
            "b: data.normalisation: got robust; 'a', whose weights it uses, has z_score",
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
