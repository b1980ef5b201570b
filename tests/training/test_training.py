"""The loop: it learns, resumes bit for bit, stops when told and when things go wrong."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import ddmseg
import toys
from ddmseg.errors import CheckpointError, TrainingError, UsageError
from ddmseg.models.checkpoint import load_state, load_weights
from ddmseg.models.settings import Settings
from ddmseg.models.settings_reader import settings_from_dict
from ddmseg.training import curve
from ddmseg.training import trainer as training
from ddmseg.training.curve import Curve, learning_rate_factor
from ddmseg.training.objective import Losses
from ddmseg.training.trainer import Progress, Trainer
from ddmseg.training.validation import ValidationScores
from free_ports import free_ports
from toys import BoxSource, fingerprint, tiny_settings


@pytest.fixture(autouse=True)
def _no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing the curve takes longer than a toy run; one test looks at it."""
    if "all_files" not in request.node.name:
        monkeypatch.setattr(Curve, "_draw", lambda self: None)


class Stop(Exception):
    """Ends a run in the middle, like an interrupt."""


def stop_at(step: int):
    def report(progress: Progress) -> None:
        if progress.step == step:
            raise Stop

    return report


def trained(folder: Path, settings: Settings | None = None, **options: Any) -> Trainer:
    settings = settings or tiny_settings()
    trainer = Trainer(settings, BoxSource(settings.model.dims), folder, **options)
    trainer.run()
    return trainer


def interrupted(folder: Path, step: int, settings: Settings | None = None) -> None:
    settings = settings or tiny_settings()
    with pytest.raises(Stop):
        Trainer(settings, BoxSource(settings.model.dims), folder).run(report=stop_at(step))


def state(folder: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Everything that is kept, bit for bit, but for the seconds it took."""
    tensors, numbers = load_state(folder / "state.safetensors")
    numbers.pop("seconds")
    return {name: value.numpy().tobytes() for name, value in tensors.items()}, numbers


# Learning


@pytest.mark.parametrize("diffusion", [True, False])
def test_a_short_run_lowers_the_loss_and_finds_the_boxes(tmp_path, diffusion):
    settings = tiny_settings(
        steps=60, validate_every=30, ema=0.9, batch=4, model={"diffusion": diffusion}
    )
    seen: list[Progress] = []
    trainer = Trainer(settings, BoxSource(), tmp_path)
    best = trainer.run(report=seen.append)
    first, last = (sum(p.loss for p in part) / 10 for part in (seen[:10], seen[-10:]))
    assert last < 0.7 * first
    assert trainer.best > 0.6
    assert [p.step for p in seen] == list(range(1, 61))
    assert {p.steps for p in seen} == {60}
    assert [p.step for p in seen if p.sampled_dice is not None] == [30, 60]
    # What was saved is the averaged model of the best validation.
    model, card = load_weights(best)
    assert card.scores["validation"]["sampled_dice"] == trainer.best
    assert card.labels == BoxSource.labels
    assert (card.data, card.licence) == (BoxSource.data, BoxSource.licence)
    again = training.validate(
        model, BoxSource().validation_examples(2), settings, torch.device("cpu")
    )
    assert again.sampled_dice == pytest.approx(trainer.best)


def test_all_files_of_a_run_are_there(tmp_path, monkeypatch):
    monkeypatch.setattr(curve, "EVERY", 5)
    settings = tiny_settings()
    trained(tmp_path / "run", settings)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        "settings.json",
        "curve.csv",
        "curve.png",
        "state.safetensors",
        "best.safetensors",
        "best.json",
    }
    plain = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings_from_dict(Settings, plain) == settings
    rows = (tmp_path / "run" / "curve.csv").read_text().splitlines()
    assert len(rows) == 3
    assert rows[1].startswith("5,")
    assert not rows[1].endswith(",")  # the validation is beside its losses
    assert (tmp_path / "run" / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_equal_settings_train_equal_models(tmp_path):
    runs = [trained(tmp_path / name) for name in "ab"]
    other = trained(tmp_path / "c", tiny_settings(seed=1))
    assert fingerprint(runs[0].model) == fingerprint(runs[1].model)
    assert fingerprint(runs[0].model) != fingerprint(other.model)


def test_threads_that_draw_ahead_change_nothing(tmp_path):
    runs = [trained(tmp_path / str(n), tiny_settings(workers=n)) for n in (0, 2)]
    assert fingerprint(runs[0].model) == fingerprint(runs[1].model)


def test_the_average_follows_the_weights(tmp_path):
    slow, none = (trained(tmp_path / str(ema), tiny_settings(ema=ema)) for ema in (0.9, 0.0))
    assert fingerprint(none.ema) == fingerprint(none.model)
    assert fingerprint(slow.ema) != fingerprint(slow.model)
    assert fingerprint(slow.model) == fingerprint(none.model)


# Resuming


@pytest.mark.parametrize(("dims", "workers"), [(2, 0), (3, 1)])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path, dims, workers):
    settings = tiny_settings(dims=dims, workers=workers)
    trained(tmp_path / "whole", settings)
    interrupted(tmp_path / "parts", 7, settings)  # two steps after the last state
    resumed = Trainer(settings, BoxSource(dims), tmp_path / "parts", resume=True)
    assert resumed.step == 5
    resumed.run()
    assert state(tmp_path / "parts") == state(tmp_path / "whole")
    weights = [(tmp_path / name / "best.safetensors").read_bytes() for name in ("parts", "whole")]
    assert weights[0] == weights[1]


def test_any_number_of_stops_changes_nothing(tmp_path):
    whole = trained(tmp_path / "whole")
    settings = tiny_settings()
    for resume in (False, *[True] * 9):
        part = Trainer(settings, BoxSource(), tmp_path / "parts", resume=resume)
        part.run(max_minutes=0)  # one step
    assert part.step == 10
    assert fingerprint(part.model) == fingerprint(whole.model)
    assert state(tmp_path / "parts")[0] == state(tmp_path / "whole")[0]


def test_the_turn_to_joint_steps_is_resumed_across(tmp_path):
    # At the stop the denoiser has no moments yet.
    settings = tiny_settings(loss={"joint_from_step": 6})
    trained(tmp_path / "whole", settings)
    interrupted(tmp_path / "parts", 5, settings)
    trained(tmp_path / "parts", settings, resume=True)
    assert state(tmp_path / "parts") == state(tmp_path / "whole")
    assert not any(
        torch.equal(weight, fresh)
        for weight, fresh in zip(
            *(
                Trainer(settings, BoxSource(), tmp_path / "parts", resume=resume).model.parameters()
                for resume in (True, False)
            ),
            strict=True,
        )
        if weight.dim() > 1
    )


def test_the_moments_keep_the_memory_order_of_their_weights(tmp_path):
    trained(tmp_path)
    resumed = Trainer(tiny_settings(), BoxSource(), tmp_path, resume=True)
    for weight, moments in resumed.optimiser.state.items():
        assert moments["exp_avg"].stride() == weight.stride()


def test_the_curve_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(curve, "EVERY", 5)
    trained(tmp_path / "whole")
    interrupted(tmp_path / "parts", 8)
    trained(tmp_path / "parts", resume=True)
    whole, parts = (
        [
            [cell for i, cell in enumerate(row.split(",")) if i != 1]
            for row in (tmp_path / name / "curve.csv").read_text().splitlines()
        ]
        for name in ("whole", "parts")
    )
    assert whole == parts


def test_a_finished_run_stays_finished(tmp_path):
    before = fingerprint(trained(tmp_path).model)
    again = trained(tmp_path, resume=True)
    assert again.step == 10
    assert fingerprint(again.model) == before


def test_a_new_run_in_an_old_folder_starts_anew(tmp_path):
    first = trained(tmp_path)
    again = Trainer(tiny_settings(), BoxSource(), tmp_path)
    assert again.step == 0
    assert again.best < 0
    again.run()
    assert fingerprint(again.model) == fingerprint(first.model)


def test_there_must_be_something_to_resume(tmp_path):
    with pytest.raises(CheckpointError, match="no training state to resume; start without"):
        Trainer(tiny_settings(), BoxSource(), tmp_path, resume=True)


def test_another_network_cannot_resume(tmp_path):
    trained(tmp_path, tiny_settings(steps=1))
    other = tiny_settings(model={"embedding": 4})
    with pytest.raises(CheckpointError, match="is of another network than the settings") as caught:
        Trainer(other, BoxSource(), tmp_path, resume=True)
    assert "\n" not in str(caught.value)


# Processes of their own


def start(folder: Path, *options: str, **variables: str) -> subprocess.Popen[str]:
    paths = [str(Path(ddmseg.__file__).parents[1]), str(Path(toys.__file__).parent)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        **variables,
    }
    return subprocess.Popen(
        [sys.executable, toys.__file__, str(folder), *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process: subprocess.Popen[str]) -> list[str]:
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, err
    return out.splitlines()


def test_a_killed_process_is_resumed_to_the_same_weights(tmp_path):
    with start(tmp_path / "killed", "--stop-at", "8") as process:
        watch = threading.Timer(120, process.kill)
        watch.start()
        assert process.stdout.readline() == "hanging\n"
        watch.cancel()
        process.send_signal(signal.SIGKILL)
        assert process.wait(timeout=60) == -signal.SIGKILL
    assert state(tmp_path / "killed")[1]["step"] == 5
    trained(tmp_path / "killed", resume=True)
    trained(tmp_path / "whole")
    assert state(tmp_path / "killed") == state(tmp_path / "whole")


def test_two_processes_train_one_model_and_stop_together(tmp_path):
    # What torchrun sets, without its own process.
    (port,) = free_ports(1)
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    pair = [
        start(tmp_path / "pair", "--pair", RANK=str(n), LOCAL_RANK=str(n), **shared) for n in (0, 1)
    ]
    first, second = (output(process) for process in pair)
    assert first == second
    assert first[0].split()[0] == "1"  # only one of them had no time left
    assert first[-1].split()[0] == "10"
    # Two processes with one example each see the batches of one with two. Noise differs, so the
    # weights do too; but the start is the same and both have learnt.
    alone = trained(tmp_path / "alone")
    assert state(tmp_path / "pair")[1]["step"] == 10
    assert first[-1].split()[1] != fingerprint(alone.model)


def test_two_processes_average_what_plain_networks_see(tmp_path, monkeypatch):
    # Without drawn noise, the mean gradient of two halves is the gradient of the whole batch.
    settings = tiny_settings(model={"diffusion": False}, clip_norm=1e6, steps=1)
    whole = Trainer(settings, BoxSource(), tmp_path / "whole")
    whole.run()
    halves = []
    for rank in (0, 1):
        one = replace(settings, training=replace(settings.training, batch=1))
        half = Trainer(one, BoxSource(), tmp_path / str(rank))
        half.rank, half.ranks = rank, 2
        sent = []
        monkeypatch.setattr(
            torch.distributed, "all_reduce", lambda x, sent=sent: sent.append(x.clone())
        )
        half.run()
        halves.append(sent)
    ((one_half,), (other_half,)) = halves  # one message each, whatever the number of weights
    weights = list(whole.model.parameters())
    mean = ((one_half + other_half) / 2).split([weight.numel() for weight in weights])
    for weight, gradient in zip(weights, mean, strict=True):
        # z_I is not used by a plain network; among processes that counts as zero.
        expected = torch.zeros_like(weight) if weight.grad is None else weight.grad
        torch.testing.assert_close(gradient.view_as(weight), expected, rtol=1e-4, atol=1e-6)


# Stopping


def test_the_minutes_stop_it_cleanly(tmp_path):
    trainer = Trainer(tiny_settings(steps=10**6), BoxSource(), tmp_path)
    began = time.monotonic()
    trainer.run(max_minutes=0.2 / 60)
    assert 0.15 < time.monotonic() - began < 30
    assert 0 < trainer.step < 10**6
    assert state(tmp_path)[1]["step"] == trainer.step
    assert Trainer(tiny_settings(), BoxSource(), tmp_path, resume=True).step == trainer.step


def test_it_stops_when_asked_and_can_go_on(tmp_path):
    trainer = Trainer(tiny_settings(), BoxSource(), tmp_path)
    trainer.run(should_stop=lambda: trainer.step == 4)
    assert state(tmp_path)[1]["step"] == 4
    trained(tmp_path, resume=True)
    trained(tmp_path / "whole")
    assert state(tmp_path)[0] == state(tmp_path / "whole")[0]


def test_time_spent_is_added_up(tmp_path):
    trainer = Trainer(tiny_settings(), BoxSource(), tmp_path)
    trainer.seconds = 1000.0
    trainer.run(max_minutes=0)
    assert 1000 < trainer.seconds < 1060
    assert Trainer(tiny_settings(), BoxSource(), tmp_path, resume=True).seconds > 1000


class Poisoned(BoxSource):
    """An example of the sixth step is not finite (two are drawn for validation)."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def training_example(self, generator):
        image, labels = super().training_example(generator)
        self.count += 1
        return (image * float("nan") if self.count == 13 else image), labels


def test_a_loss_that_is_not_finite_stops_with_the_reason(tmp_path):
    trainer = Trainer(tiny_settings(), Poisoned(), tmp_path)
    with pytest.raises(TrainingError, match=r"step 6: the loss is nan.*lower training.learn") as e:
        trainer.run()
    assert "resume from the last state" in str(e.value)
    assert all(weight.isfinite().all() for weight in trainer.model.parameters())
    assert state(tmp_path)[1]["step"] == 5
    assert Trainer(tiny_settings(), BoxSource(), tmp_path, resume=True).step == 5


def test_a_gradient_that_is_not_finite_does_not_reach_the_weights(tmp_path):
    trainer = Trainer(tiny_settings(), BoxSource(), tmp_path)
    weight = next(trainer.model.parameters())

    def objective(image, labels, generator, *, stage):
        total = (weight * 0).sum().sqrt()  # 0, with an infinite slope
        return Losses(total, total.detach(), total.detach(), total.detach())

    trainer.objective = objective
    with pytest.raises(TrainingError, match=r"the loss is 0.0, the norm of its gradient (nan|inf)"):
        trainer.run()
    assert all(w.isfinite().all() for w in trainer.model.parameters())


def test_empty_masks_stop_it_once_it_should_know_better(tmp_path, monkeypatch):
    empty = ValidationScores(0.0, 0.0, 0.0, all_empty=True)
    monkeypatch.setattr(training, "validate", lambda *_: empty)
    monkeypatch.setattr(training, "EMPTY_MASKS_UNTIL", 5)
    trainer = Trainer(tiny_settings(), BoxSource(), tmp_path)
    with pytest.raises(TrainingError, match="step 10: every sampled mask is empty; the model has"):
        trainer.run()
    assert trainer.step == 10  # not yet at step 5
    allowed = tiny_settings(stop_on_empty_masks=False)
    Trainer(allowed, BoxSource(), tmp_path).run()


def test_a_model_that_collapsed_is_found_by_its_masks(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "EMPTY_MASKS_UNTIL", 0)
    trainer = Trainer(tiny_settings(learning_rate=1e-9), BoxSource(), tmp_path)
    for model in (trainer.model, trainer.ema):
        with torch.no_grad():
            model.image_encoder.head.logits.bias[0] = 100.0
    with pytest.raises(TrainingError, match="every sampled mask is empty"):
        trainer.run()


def test_something_to_validate_on_is_needed(tmp_path):
    class Untested(BoxSource):
        def validation_examples(self, count):
            return []

    with pytest.raises(TrainingError, match="no validation examples"):
        Trainer(tiny_settings(), Untested(), tmp_path).run()


# The best weights


def test_the_best_scored_weights_are_kept_and_no_others(tmp_path, monkeypatch):
    # Both Dice rise throughout; the score of the samples peaks in the middle.
    scores = iter([0.2, 0.6, 0.5, 0.6, 0.1])
    dice = iter([0.1, 0.2, 0.3, 0.4, 0.5])

    def scored(*_: object) -> ValidationScores:
        rising = next(dice)
        return ValidationScores(rising, rising, next(scores), all_empty=False)

    monkeypatch.setattr(training, "validate", scored)
    trainer = Trainer(tiny_settings(validate_every=2), BoxSource(), tmp_path)
    kept = {}

    def report(progress: Progress) -> None:
        kept[progress.step] = fingerprint(trainer.ema)

    best = trainer.run(report=report)
    model, card = load_weights(best)
    assert card.trained_steps == 4
    assert card.scores["validation"] == {
        "coarse_dice": 0.2,
        "sampled_dice": 0.2,
        "sampled_score": 0.6,
        "all_empty": False,
    }
    assert fingerprint(model) == kept[4]
    assert trainer.best == 0.6


def test_a_resumed_run_does_not_forget_the_best(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "validate", lambda *_: ValidationScores(0.5, 0.5, 0.9, False))
    interrupted(tmp_path, 6)
    monkeypatch.setattr(training, "validate", lambda *_: ValidationScores(0.5, 0.5, 0.3, False))
    resumed = trained(tmp_path, resume=True)
    assert resumed.best == 0.9
    assert load_weights(tmp_path / "best.safetensors")[1].trained_steps == 5


# Learning rate and device


def test_the_learning_rate_rises_and_falls():
    factors = [learning_rate_factor(step, 10, 110) for step in range(110)]
    assert factors[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert factors[10] == pytest.approx(1.0)
    assert factors[60] == pytest.approx(0.01 + 0.99 / 2)
    assert all(a >= b for a, b in itertools.pairwise(factors[10:]))
    assert 0.01 <= factors[-1] < 0.02
    assert learning_rate_factor(10**6, 10, 110) == pytest.approx(0.01)
    assert learning_rate_factor(0, 0, 1) == pytest.approx(1.0)


def test_the_optimiser_gets_the_rate_of_the_step(tmp_path):
    trainer = Trainer(tiny_settings(), BoxSource(), tmp_path)
    rates = []
    trainer.run(report=lambda _: rates.append(trainer.optimiser.param_groups[0]["lr"]))
    assert rates == pytest.approx([0.01 * learning_rate_factor(s, 2, 10) for s in range(10)])


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_cuda_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"training.device: no CUDA device is here; use cpu or"):
        Trainer(tiny_settings(device="cuda"), BoxSource(), tmp_path)
    assert Trainer(tiny_settings(device="auto"), BoxSource(), tmp_path).device.type == "cpu"
