"""A row of nnU-Net from its settings to its record, by a Python that answers the protocol."""

from __future__ import annotations

import csv
import json
import os
import shutil
from dataclasses import replace

import pytest

from ddmseg.errors import SettingsError, TrainingError, UsageError
from ddmseg.models.settings import Settings
from ddmseg.models.settings_reader import settings_from_dict
from ddmseg_lab.comparison import foreign_python
from ddmseg_lab.comparison.plan import read_plan
from ddmseg_lab.comparison.record import read_record
from ddmseg_lab.comparison.row import Places, is_done, run_row
from ddmseg_lab.comparison.runs import Unfinished
from ddmseg_lab.comparison.table import build_table, markdown
from fake_nnunet import make_python
from real_sets import write_hippocampus

TERMS = """
[data]
kind = "hippocampus"
patch = [16, 24, 16]
[training]
steps = 64
batch = 1
threads = 2
precision = "half"
"""
NNUNET = """
extends = "terms.toml"
[row]
title = "nnU-Net"
adapter = "nnunet"
configuration = "3d_fullres"
"""


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.delenv("FAKE_NNUNET", raising=False)
    monkeypatch.delenv(foreign_python.NNUNET.variable, raising=False)
    return make_table(tmp_path, make_python(tmp_path))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A row that has been run: its plan, places, record and what was told meanwhile."""
    root, told = tmp_path_factory.mktemp("done"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FAKE_NNUNET", raising=False)
        plan, places = make_table(root, make_python(root))
        record = run_row(plan, "nnunet", "test", places, report=told.append)
    return plan, places, record, told


def make_table(root, python):
    folder = root / "toy"
    folder.mkdir()
    text = 'title = "t"\nrows = ["nnunet"]\nreferences = ["nnunet"]\n'
    for name, content in {"table": text, "terms": TERMS, "nnunet": NNUNET}.items():
        (folder / f"{name}.toml").write_text(content)
    write_hippocampus(root / "data", {"train": 4, "validation": 2, "test": 3})
    places = Places(root / "results", root / "work", root / "work", str(root / "data"), python)
    return read_plan(folder), places


def left(places):
    return places.work / "nnunet" / "test" / "nnunet"


def calls(places):
    lines = (left(places) / "calls.txt").read_text().splitlines()
    return [(stage, json.loads(job)) for stage, job in (line.split(" ", 1) for line in lines)]


def test_a_row_from_settings_to_scores(done):
    _, places, record, told = done
    # 64 examples in batches of 3: 21 iterations in two epochs
    assert [now.step for now in told] == list(range(1, 22))
    assert {now.steps for now in told} == {21}
    assert record.samples_seen == 63
    assert (record.trained_steps, record.validation_dice) == (10, 0.5)
    assert (record.parameters, record.threads) == (17, 2)
    assert (record.train_seconds, record.seconds_a_scan) == (4.0, 0.25)
    assert record.peak_memory_mb == 99.0
    found, scores = read_record(places.results / "nnunet" / "test")
    assert found == record
    assert {score.case for score in scores} == set(record.split["test"])
    assert {score.structure for score in scores} == {"anterior", "posterior"}
    assert {score.dice for score in scores} == {1.0}  # the stand-in knows the grey values
    kept = {path.name for path in (places.results / "nnunet" / "test").iterdir()}
    assert kept == {"run.json", "scores.tsv", "curve.csv"}
    assert str(places.work) not in (places.results / "nnunet" / "test" / "run.json").read_text()


def test_the_record_says_what_was_cut(done):
    _, places, record, _ = done
    assert record.versions["nnunetv2"] == "9.9"
    assert "ddmseg" in record.versions
    notes = record.notes["nnunet"]
    assert notes["configuration"] == "3d_fullres"
    assert (notes["iterations"], notes["iterations_uncut"]) == (21, 250_000)
    assert notes["plan"] == {"batch": 3, "patch": [8, 8, 8]}
    with (places.results / "nnunet" / "test" / "curve.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["10", "21"]


def test_the_job_is_the_rows(done):
    _, places, _, _ = done
    (_, prepared), (_, trained), (_, predicted) = calls(places)
    shared = {
        "dataset": "Dataset001_hippocampus",
        "configuration": "3d_fullres",
        "threads": 2,
        "device": "auto",
        "seed": 0,
    }
    assert prepared == predicted == shared
    more = {"epochs": [10, 11], "validation_iterations": 3, "precision": "half", "minutes": None}
    assert trained == {**shared, **more}


def test_stopped_and_gone_on_with(table):
    plan, places = table
    with pytest.raises(Unfinished, match="nnunet, test: iteration 10 of 21"):
        run_row(plan, "nnunet", "test", places, max_minutes=0.5)
    assert not is_done(plan, "nnunet", "test", places)
    record = run_row(plan, "nnunet", "test", places)
    assert is_done(plan, "nnunet", "test", places)
    assert record.train_seconds == 4.0
    assert [stage for stage, _ in calls(places)] == ["prepare", "train", "train", "predict"]
    shutil.rmtree(places.results)  # only the scoring is lost
    run_row(plan, "nnunet", "test", places)
    assert [stage for stage, _ in calls(places)][4:] == ["predict"]


def test_another_budget_begins_anew(table):
    plan, places = table
    with pytest.raises(Unfinished):
        run_row(plan, "nnunet", "test", places, max_minutes=0.5)
    row = plan.rows["nnunet"]
    plan.rows["nnunet"] = replace(row, training=replace(row.training, steps=32))
    record = run_row(plan, "nnunet", "test", places)
    assert record.notes["nnunet"]["iterations"] == 10
    assert [stage for stage, _ in calls(places)] == ["prepare", "train", "predict"]
    titled = replace(row, row=replace(row.row, title="other"))
    plan.rows["nnunet"] = replace(titled, training=plan.rows["nnunet"].training)
    run_row(plan, "nnunet", "test", places)  # a title alone trains nothing again
    assert [stage for stage, _ in calls(places)] == ["prepare", "train", "predict", "predict"]


def test_the_table_takes_the_row_as_any_other(done):
    plan, places, _, _ = done
    lines = build_table(plan.table, places.results)
    assert [line.title for line in lines.values()] == ["nnU-Net"]
    assert "| nnU-Net | 1.000 | 1.000 |" in markdown(lines, ())


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("crash", TrainingError, "nnU-Net: prepare ended with code 3"),
        ("other-grid", TrainingError, r"predicted \(13, 17, 13\) voxels"),
        ("no-prediction", TrainingError, "left no prediction"),
        ("no-nnunetv2", UsageError, "has no nnunetv2"),
    ],
)
def test_faults_are_named_and_leave_no_record(table, monkeypatch, fault, error, message):
    plan, places = table
    monkeypatch.setenv("FAKE_NNUNET", fault)
    with pytest.raises(error, match=message):
        run_row(plan, "nnunet", "test", places)
    assert read_record(places.results / "nnunet" / "test") is None
    if fault == "crash":
        monkeypatch.delenv("FAKE_NNUNET")
        run_row(plan, "nnunet", "test", places)


def test_without_a_python_the_row_says_how_to_get_one(table):
    plan, places = table
    with pytest.raises(UsageError, match="needs a Python of its own; make one with"):
        run_row(plan, "nnunet", "test", replace(places, nnunet_python=None))


def test_records_without_notes_are_still_read(done, tmp_path):
    path = tmp_path / "run.json"
    shutil.copytree(done[1].results / "nnunet" / "test", tmp_path, dirs_exist_ok=True)
    old = json.loads(path.read_text())
    del old["notes"], old["settings"]["row"]["title"]
    path.write_text(json.dumps(old))
    assert read_record(path.parent)[0].notes == {}


# Settings

ROW = {"adapter": "nnunet", "configuration": "2d"}
REAL = {"kind": "hippocampus"}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"row": {"adapter": "nnunet"}}, "row.configuration: got ''; give 2d or 3d_fullres"),
        ({"row": {"configuration": "2d"}}, "row.configuration: got 2d; .* nothing without"),
        ({"row": {**ROW, "members": ["a"]}}, "row.members: .* leave it out where row.adapter"),
        ({"row": {**ROW, "weights_of": "a"}}, "row.weights_of: got a; leave it out"),
        ({"row": {**ROW, "adapter": "nnunets"}}, r"row.adapter: .* \(did you mean 'nnunet'"),
        ({"row": ROW, "data": {}}, "data.kind: got label_maps; row.adapter nnunet needs real"),
        ({"row": ROW, "data": {**REAL, "augment": False}}, "data.augment: got False"),
        ({"row": ROW, "data": {**REAL, "synthetic_share": 0.5}}, "data.synthetic_share: got 0.5"),
        ({"row": ROW, "training": {"start_from": "anatomy"}}, "training.start_from: got anatomy"),
    ],
)
def test_settings_that_do_not_fit_together(raw, message):
    with pytest.raises(SettingsError, match=message):
        settings_from_dict(Settings, {"name": "x", "data": REAL, **raw})


def test_no_row_can_use_what_nnunet_trained(table):
    plan, _ = table
    (plan.folder / "more.toml").write_text('extends = "terms.toml"\n[row]\nweights_of = "nnunet"\n')
    text = (plan.folder / "table.toml").read_text().replace('["nnunet"]', '["nnunet", "more"]', 1)
    (plan.folder / "table.toml").write_text(text)
    with pytest.raises(SettingsError, match="more: 'nnunet' has no weights of its own"):
        read_plan(plan.folder)


# The real one


def test_the_real_nnunet_runs_a_row(tmp_path):
    python = os.environ.get(foreign_python.NNUNET.variable)
    if not python:
        name = foreign_python.NNUNET.variable
        pytest.skip(f"nnU-Net: set {name} to a Python that has nnunetv2; takes a minute")
    plan, places = make_table(tmp_path, python)
    row = plan.rows["nnunet"]
    plan.rows["nnunet"] = replace(row, training=replace(row.training, threads=1))
    record = run_row(plan, "nnunet", "test", places)
    assert record.samples_seen <= 64
    assert record.notes["nnunet"]["plan"]["batch"] >= 2
    found, scores = read_record(places.results / "nnunet" / "test")
    assert found == record
    assert len(scores) == 6
