"""``ddmseg train``: to the end, to the minute, and to Ctrl-C, each time ready to go on."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import ddmseg.datasets.sources as sources_module
from ddmseg.cli.commands.train import StopRequest
from ddmseg.models.checkpoint import load_state, load_weights
from ddmseg.training.curve import Curve
from real_command import Outcome, run_quietly
from toy_head import write_head
from toy_source import ToySource

CONFIG = """
name = "toy"

[model]
encoder_form = "block"
denoiser_form = "light"
widths = [4, 8, 16]
embedding = 2
mask_width = 4
denoiser_width = 4
mask_stride = 2

[data]
patch = [16, 16, 16]

[sampling]
steps = 1

[training]
steps = {steps}
validate_every = 2
validation_cases = 1
warmup_steps = 1
workers = 0
threads = 1
precision = "single"
"""


def train_on_toys(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Have the command train on toys; return the list of the folders that it asks for."""
    asked: list[str | None] = []

    def make(settings: object, root: str | None = None, **run: object) -> ToySource:
        asked.append(root)
        return ToySource()

    monkeypatch.setattr(sources_module, "make_source", make)
    monkeypatch.setattr(Curve, "_draw", lambda self: None)  # takes longer than all the rest
    monkeypatch.setattr(ToySource, "drawn", 0)
    monkeypatch.setattr(ToySource, "signal_at", None)
    return asked


@pytest.fixture
def toy_data(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Train on toys; the list gets the folders that the command asked for."""
    return train_on_toys(monkeypatch)


@dataclass(frozen=True)
class Whole:
    """A training from beginning to end, and where it looked for data."""

    folder: Path
    outcome: Outcome
    asked: list[str | None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    (folder / "toy.toml").write_text(CONFIG.format(steps=4))
    with pytest.MonkeyPatch.context() as patch:
        asked = train_on_toys(patch)
        words = ("train", folder / "toy.toml", "-o", folder / "run", "--data", folder)
        return Whole(folder, run_quietly(*words), asked)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "toy run.toml"
    path.write_text(CONFIG.format(steps=4))
    return path


def test_training_leaves_weights_that_segment(ddmseg, whole, tmp_path) -> None:
    outcome, run = whole.outcome, whole.folder / "run"
    assert (outcome.code, outcome.errors) == (0, [])
    assert whole.asked == [str(whole.folder)]
    best = run / "best.safetensors"
    _, card = load_weights(best)
    sampled = card.scores["validation"]["sampled_score"]
    assert outcome.out == f"step 4 of 4; best weights (validation score {sampled:.3f}): {best}\n"
    files = {path.name for path in run.iterdir()}
    assert files >= {"settings.json", "curve.csv", "state.safetensors", "best.json"}
    scan = write_head(tmp_path / "scan.nii")
    assert ddmseg("segment", scan, "-o", tmp_path / "out", "--model", best).code == 0


def test_progress_tells_step_loss_and_dice(whole) -> None:
    lines = whole.outcome.err.splitlines()
    assert lines[0].startswith("step 1 of 4, loss ")
    assert ", about " in lines[0]
    assert lines[-1].startswith("step 4 of 4, loss ")
    assert "sampled Dice 0." in lines[-1]


def test_the_folder_has_a_default(ddmseg, toy_data, config, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ddmseg("train", config, "--max-minutes", "1e-9").code == 0
    assert (tmp_path / "runs" / "toy" / "state.safetensors").is_file()
    assert toy_data == [None]


def test_ctrl_c_saves_the_state_and_says_how_to_go_on_to_the_same_weights(
    ddmseg, toy_data, config, whole, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(ToySource, "signal_at", 3)
    handler = signal.getsignal(signal.SIGINT)
    run = tmp_path / "my run"
    outcome = ddmseg("train", config, "-o", run)
    assert outcome.code == 130
    assert "stopping after this step" in outcome.err
    assert outcome.out.startswith("step 3 of 4; best weights (validation score ")
    how = f"ddmseg train '{config}' --resume -o '{run}'"
    assert outcome.out.endswith(f"; go on with: {how}\n")
    assert signal.getsignal(signal.SIGINT) is handler
    _, numbers = load_state(run / "state.safetensors")
    assert numbers["step"] == 3
    resumed = ddmseg("train", config, "--resume", "-o", run)
    assert resumed.code == 0
    assert resumed.out.startswith("step 4 of 4")
    # a stopped and resumed run is the run that was not
    expected, _ = load_state(whole.folder / "run" / "state.safetensors")
    parts, _ = load_state(run / "state.safetensors")
    assert expected.keys() == parts.keys()
    assert all(torch.equal(expected[name], parts[name]) for name in expected)


def test_a_second_ctrl_c_stops_at_once(capsys) -> None:
    stop = StopRequest()

    def press_twice() -> None:
        with stop.listening():
            os.kill(os.getpid(), signal.SIGINT)
            assert stop()
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        press_twice()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_the_last_minute_is_not_passed(ddmseg, toy_data, config, tmp_path) -> None:
    outcome = ddmseg("train", config, "-o", tmp_path / "run", "--max-minutes", "1e-9")
    assert outcome.code == 0
    assert outcome.out.startswith("step 1 of 4; go on with: ddmseg train")
    assert not (tmp_path / "run" / "best.safetensors").exists()


def test_an_old_run_is_not_overwritten(ddmseg, toy_data, config, tmp_path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state.safetensors").write_bytes(b"precious")
    outcome = ddmseg("train", config, "-o", tmp_path / "run")
    assert outcome.code == 1
    assert outcome.error == (
        f"{tmp_path / 'run' / 'state.safetensors'} exists already; pass --resume to go on with "
        "that run, or name another folder with -o"
    )
    assert (tmp_path / "run" / "state.safetensors").read_bytes() == b"precious"


def test_nothing_to_resume_is_refused(ddmseg, toy_data, config, tmp_path) -> None:
    outcome = ddmseg("train", config, "-o", tmp_path / "run", "--resume")
    assert outcome.code == 1
    assert "no training state to resume" in outcome.error


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[training]\nstep = 3", "training.step: unknown setting (did you mean 'steps'?)"),
        ("[training]\nsteps = 0", "training.steps: got 0; must be at least 1"),
        ("[training", "not a TOML file"),
    ],
)
def test_wrong_settings_are_wrong_usage(ddmseg, tmp_path, text, reason) -> None:
    (tmp_path / "bad.toml").write_text(text)
    outcome = ddmseg("train", tmp_path / "bad.toml", "-o", tmp_path / "run")
    assert outcome.code == 2
    assert reason in outcome.error
    assert not (tmp_path / "run").exists()


def test_settings_that_are_not_there_are_refused(ddmseg, tmp_path) -> None:
    outcome = ddmseg("train", tmp_path / "no.toml")
    assert outcome.code == 2
    assert "no such settings file" in outcome.error


@pytest.mark.parametrize("minutes", ["0", "-1", "nan"])
def test_minutes_must_be_above_zero(ddmseg, config, minutes) -> None:
    outcome = ddmseg("train", config, "--max-minutes", minutes)
    assert outcome.code == 2
    assert outcome.error == f"max-minutes: got {float(minutes):g}; it must be above 0"


def test_data_that_are_not_there_are_refused(ddmseg, config, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("DDMSEG_DATA", raising=False)
    outcome = ddmseg("train", config, "-o", tmp_path / "run")
    assert outcome.code == 1
    assert "--data" in outcome.error
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_one_line(ddmseg, toy_data, config, tmp_path, monkeypatch) -> None:
    import ddmseg.training.trainer as training_module

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(training_module, "replace_file", full)
    outcome = ddmseg("train", config, "-o", tmp_path / "run")
    assert outcome.code == 1
    assert outcome.error == (
        f"cannot write {tmp_path / 'run'}: No space left on device; "
        "mend that and go on with --resume"
    )


def test_heads_without_blocks_are_refused_before_training(ddmseg, toy_data, config) -> None:
    text = config.read_text().replace('encoder_form = "block"\ndenoiser_form = "light"\n', "")
    config.write_text(text)
    assert ddmseg("train", config).error == (
        "model.encoder_form: got voxel, trained on patches of whole heads (data.kind "
        'label_maps), which it cannot see at once; train with "block"'
    )
    config.write_text(text.replace("mask_stride = 2", "mask_stride = 2\ndiffusion = false"))
    assert toy_data == []
