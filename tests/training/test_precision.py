"""Half precision where it is faster, and a training that is told which it had."""

from __future__ import annotations

import json

import pytest
import torch

from ddmseg.training import precision
from ddmseg.training.curve import Curve
from ddmseg.training.precision import convolution_seconds, find_precision
from ddmseg.training.trainer import Trainer
from toys import BoxSource, fingerprint, tiny_settings

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Curve, "_draw", lambda self: None)


def machine(monkeypatch: pytest.MonkeyPatch, *, half: float, single: float) -> None:
    seconds = {True: half, False: single}
    monkeypatch.setattr(precision, "convolution_seconds", lambda *, half: seconds[half])


@pytest.mark.parametrize(("half", "single", "found"), [(1.0, 2.0, "half"), (70.0, 1.0, "single")])
def test_auto_takes_what_is_faster_here(monkeypatch, half, single, found):
    machine(monkeypatch, half=half, single=single)
    assert find_precision("auto", CPU) == found


@pytest.mark.parametrize("wanted", ["single", "half"])
def test_what_is_asked_for_is_not_timed(monkeypatch, wanted):
    monkeypatch.delattr(precision, "convolution_seconds")
    assert find_precision(wanted, CPU) == wanted
    assert find_precision("auto", torch.device("cuda")) == "half"


@pytest.mark.parametrize(
    ("half", "single", "before", "found"),
    [
        (2.0, 1.0, "half", "half"),
        (70.0, 1.0, "half", "single"),
        (1.0, 2.0, "single", "single"),
        (1.0, 8.0, "single", "half"),
    ],
)
def test_a_resumed_training_keeps_its_precision_unless_far_slower(
    monkeypatch, half, single, before, found
):
    machine(monkeypatch, half=half, single=single)
    assert find_precision("auto", CPU, before=before) == found


def test_a_convolution_is_timed_each_way():
    assert convolution_seconds(half=False) > 0
    assert convolution_seconds(half=True) > 0


def run(folder, *, resume: bool = False, **loop) -> Trainer:
    model = {"encoder_form": "block", "widths": (4, 8, 8), "denoiser_form": "light"}
    settings = tiny_settings(model={**model, "mask_stride": 2}, **loop)
    trainer = Trainer(settings, BoxSource(), folder, resume=resume)
    trainer.run(should_stop=lambda: trainer.step == loop.get("stop_at", -1))
    return trainer


@pytest.mark.parametrize("chosen", ["single", "half"])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path, monkeypatch, chosen):
    whole = run(tmp_path / "whole", precision=chosen)
    settings = whole.settings
    part = Trainer(settings, BoxSource(), tmp_path / "parts")
    part.run(should_stop=lambda: part.step == 4)
    resumed = run(tmp_path / "parts", resume=True, precision=chosen)
    assert fingerprint(resumed.model) == fingerprint(whole.model)
    assert fingerprint(resumed.ema) == fingerprint(whole.ema)


def test_half_precision_is_another_training(tmp_path):
    single, half = (run(tmp_path / name, precision=name) for name in ("single", "half"))
    assert fingerprint(single.model) != fingerprint(half.model)


def test_card_and_curve_say_which_precision_it_was(tmp_path, monkeypatch):
    machine(monkeypatch, half=1.0, single=2.0)
    trainer = run(tmp_path, precision="auto")
    asked = json.loads((tmp_path / "settings.json").read_text())
    found = json.loads((tmp_path / "best.json").read_text())["settings"]
    assert [one["training"]["precision"] for one in (asked, found)] == ["auto", "half"]
    assert "half precision" in trainer.curve.title
