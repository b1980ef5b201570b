"""Another Python: found or asked for, its progress told, its faults named in one line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddmseg.errors import TrainingError, UsageError
from ddmseg_lab.comparison.foreign_python import NNUNET, require_python
from ddmseg_lab.comparison.nnunet.adapter import cut_schedule, run_stage
from fake_nnunet import make_python

JOB = {"dataset": "d", "threads": 2, "epochs": [2, 1], "precision": "single", "minutes": None}


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch):
    monkeypatch.delenv(NNUNET.variable, raising=False)
    monkeypatch.delenv("FAKE_NNUNET", raising=False)


def test_without_one_the_error_says_how_to_make_it():
    with pytest.raises(UsageError) as caught:
        require_python(NNUNET)
    text = str(caught.value)
    assert "\n" not in text
    for needed in ("python -m venv", "torch==2.13.0", "nnunetv2", "--nnunet-python"):
        assert needed in text
    assert NNUNET.variable in text
    assert text.index("install torch") < text.index("install nnunetv2")


def test_progress_is_told_and_the_rest_logged(tmp_path):
    told = []
    found = run_stage(make_python(tmp_path), "train", JOB, tmp_path, {}, told.append)
    assert [now["step"] for now in told] == [1, 2, 3]
    assert {now["steps"] for now in told} == {3}
    assert found["step"] == 3
    log = (tmp_path / "nnunet.log").read_text()
    assert "chatter of nnU-Net" in log
    assert "ddmseg-progress" not in log
    assert json.loads((tmp_path / "job.json").read_text()) == JOB


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("crash", r"train ended with code 3 \(RuntimeError: no luck\); .*nnunet\.log has"),
        ("silent", r"train ended with code 0 \(chatter of nnU-Net\)"),
    ],
)
def test_a_stage_that_fails_says_why(tmp_path, monkeypatch, fault, message):
    (tmp_path / "train.json").write_text("{}")  # of an earlier run: must not be taken for this one
    monkeypatch.setenv("FAKE_NNUNET", fault)
    with pytest.raises(TrainingError, match=message) as caught:
        run_stage(make_python(tmp_path), "train", JOB, tmp_path, {})
    assert "\n" not in str(caught.value)


def shell(tmp_path, script: str) -> str:
    path = tmp_path / "shell"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_the_environment_is_nnunets_and_not_ours(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/of/ddmseg")
    python = shell(tmp_path, f'env > {tmp_path}/env.$2; echo "{{}}" > {tmp_path}/$2.json')
    for stage in ("train", "predict"):
        run_stage(python, stage, JOB, tmp_path, {"nnUNet_raw": "/raw"})
    lines = (tmp_path / "env.train").read_text().splitlines()
    for wanted in ("nnUNet_raw=/raw", "nnUNet_compile=F", "nnUNet_n_proc_DA=1"):
        assert wanted in lines
    assert "OMP_NUM_THREADS=2" in lines
    assert "nnUNet_def_n_proc=2" in lines
    assert "MALLOC_MMAP_MAX_=0" in lines
    assert not any(line.startswith("PYTHONPATH=") for line in lines)


def test_when_telling_fails_the_stage_is_stopped(tmp_path):
    class StopNow(Exception):
        pass

    def stop(now):
        raise StopNow

    python = shell(tmp_path, "echo 'ddmseg-progress {\"step\": 1}'; exec sleep 60")
    with pytest.raises(StopNow):  # at once: the test would take a minute
        run_stage(python, "train", JOB, tmp_path, {}, stop)


def test_by_hand():
    schedule = cut_schedule(3000, 6)
    assert schedule.iterations == 500
    assert schedule.examples == 3000
    assert schedule.epochs == (10,) * 50
    assert schedule.validation_iterations == 2  # one for five, as nnU-Net has 50 for 250


def test_what_does_not_divide_is_left_out():
    schedule = cut_schedule(4800, 42)
    assert (schedule.iterations, schedule.examples) == (114, 4788)
    assert len(schedule.epochs) == 11
    assert set(schedule.epochs) == {10, 11}
    assert schedule.validation_iterations == 3


def test_fewer_examples_than_a_batch_are_one_iteration():
    assert cut_schedule(2, 6).epochs == (1,)
    assert cut_schedule(19, 1).epochs == (19,)


@given(st.integers(1, 100_000), st.integers(1, 200))
def test_laws(examples, batch):
    schedule = cut_schedule(examples, batch)
    assert schedule.examples <= max(examples, batch)
    assert examples - schedule.examples < batch  # the next iteration would be too many
    assert max(schedule.epochs) - min(schedule.epochs) <= 1
    assert min(schedule.epochs) >= 1
    assert schedule.validation_iterations >= 1
