"""``ddmseg distill``: to the end, to the minute, and to Ctrl-C, each time ready to go on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import ddmseg.datasets.sources as sources_module
from ddmseg.models.checkpoint import Card, build_model, load_weights, save_weights
from ddmseg.models.settings import DataSettings, ModelSettings, SamplingSettings, Settings
from ddmseg.models.settings_reader import settings_to_dict
from ddmseg.training.curve import Curve
from tiny_weights import BLOCKS, SIZES
from toy_head import write_head
from toy_source import ToySource
from toys import shake

CONFIG = """
name = "toy"

[distillation]
teacher = "{teacher}"
teacher_steps = 4

[sampling]
steps = 1

[model]
encoder_form = "block"
widths = [4, 4, 4]
embedding = 1
mask_stride = 2
mask_width = 2
denoiser_form = "light"
denoiser_width = 2

[training]
steps = 2
validate_every = 2
validation_cases = 1
warmup_steps = 1
workers = 0
threads = 1
"""


@pytest.fixture(autouse=True)
def _toy_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Curve, "_draw", lambda self: None)  # takes longer than all the rest
    monkeypatch.setattr(sources_module, "make_source", lambda *_, **__: ToySource())
    monkeypatch.setattr(ToySource, "drawn", 0)
    monkeypatch.setattr(ToySource, "signal_at", None)


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    settings = Settings(
        name="teacher",
        model=ModelSettings(**BLOCKS, **{**SIZES, "widths": (4, 8, 16)}),
        data=DataSettings(patch=(16, 16, 16)),
        sampling=SamplingSettings(steps=2, samples=2),
    )
    model = build_model(settings.model, len(ToySource.labels))
    shake(model)
    path = tmp_path / "teacher.safetensors"
    save_weights(model, Card("teacher", ToySource.labels, settings_to_dict(settings)), path)
    return path


@pytest.fixture
def config(teacher: Path, tmp_path: Path) -> Path:
    path = tmp_path / "toy run.toml"
    path.write_text(CONFIG.format(teacher=teacher))
    return path


def test_a_student_segments_and_is_calibrated(ddmseg, config, tmp_path) -> None:
    outcome = ddmseg("distill", config, "-o", tmp_path / "run")
    assert (outcome.code, outcome.errors) == (0, [])
    best = tmp_path / "run" / "best.safetensors"
    _, card = load_weights(best)
    sampled = card.scores["validation"]["sampled_score"]
    assert outcome.out == f"step 2 of 2; best weights (validation score {sampled:.3f}): {best}\n"
    assert card.teacher["name"] == "teacher"
    assert card.calibration["masks"] > 0
    scan = write_head(tmp_path / "scan.nii")
    words = ("segment", scan, "-o", tmp_path / "out", "--model", best, "--mode", "fast")
    assert ddmseg(*words).code == 0


def test_ctrl_c_says_where_it_stands_and_how_to_go_on(
    ddmseg, config, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(ToySource, "signal_at", 1)
    run = tmp_path / "my run"
    outcome = ddmseg("distill", config, "-o", run)
    assert outcome.code == 130
    how = f"ddmseg distill '{config}' --resume -o '{run}'"
    assert outcome.out == f"step 1 of 2; go on with: {how}\n"
    resumed = ddmseg("distill", config, "--resume", "-o", run)
    assert resumed.code == 0
    assert resumed.out.startswith("step 2 of 2; best weights (validation score ")


def test_the_last_minute_is_not_passed_and_calibration_waits(ddmseg, config, tmp_path) -> None:
    outcome = ddmseg("distill", config, "-o", tmp_path / "run", "--max-minutes", "1e-9")
    assert outcome.code == 0
    assert outcome.out.startswith("step 1 of 2; go on with: ddmseg distill")
    assert not (tmp_path / "run" / "best.safetensors").exists()


def test_the_folder_has_a_default(ddmseg, config, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ddmseg("distill", config, "--max-minutes", "1e-9").code == 0
    assert (tmp_path / "runs" / "toy" / "teacher.json").is_file()


@pytest.mark.parametrize("kept", ["teacher.json", "state.safetensors"])
def test_an_old_run_is_not_overwritten(ddmseg, config, tmp_path, kept) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / kept).write_bytes(b"precious")
    outcome = ddmseg("distill", config, "-o", tmp_path / "run")
    assert outcome.code == 1
    assert outcome.error == (
        f"{tmp_path / 'run' / kept} exists already; pass --resume to go on with that run, or name "
        "another folder with -o"
    )
    assert (tmp_path / "run" / kept).read_bytes() == b"precious"


def test_a_student_above_the_fast_tier_is_said(ddmseg, config, tmp_path, monkeypatch) -> None:
    from ddmseg.training.distillation import run

    monkeypatch.setattr(run, "LIGHT", 1000)
    outcome = ddmseg("distill", config, "-o", tmp_path / "run", "--max-minutes", "1e-9")
    assert outcome.code == 0
    assert "parameters, more than the 1000 of the fast tier; model.widths makes it" in outcome.err


def test_nothing_to_resume_is_refused(ddmseg, config, tmp_path) -> None:
    outcome = ddmseg("distill", config, "-o", tmp_path / "run", "--resume")
    assert outcome.code == 1
    assert "no distillation to resume; start without --resume" in outcome.error


def test_a_plain_training_refuses_the_file_of_a_distillation(ddmseg, config, tmp_path) -> None:
    outcome = ddmseg("train", config, "-o", tmp_path / "run")
    assert outcome.code == 2
    assert "but this is a plain training; run ddmseg distill" in outcome.error
    assert not (tmp_path / "run").exists()


def test_a_file_without_a_teacher_is_wrong_usage(ddmseg, tmp_path) -> None:
    (tmp_path / "plain.toml").write_text("[training]\nsteps = 3\n")
    outcome = ddmseg("distill", tmp_path / "plain.toml", "-o", tmp_path / "run")
    assert outcome.code == 2
    assert "distillation.teacher: missing; name a shipped model" in outcome.error


@pytest.mark.parametrize("minutes", ["0", "nan"])
def test_minutes_must_be_above_zero(ddmseg, config, minutes) -> None:
    outcome = ddmseg("distill", config, "--max-minutes", minutes)
    assert outcome.code == 2
    assert outcome.error == f"max-minutes: got {float(minutes):g}; it must be above 0"
