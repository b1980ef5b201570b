"""The driver's own part, with a trainer that keeps nnU-Net's manners and trains nothing."""

from __future__ import annotations

import ast
import json
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ddmseg_lab.comparison.nnunet import driver

JOB = {
    "dataset": "Dataset001_x",
    "configuration": "2d",
    "threads": 0,
    "device": "cpu",
    "seed": 3,
    "epochs": [2, 3, 1],
    "validation_iterations": 2,
    "precision": "single",
    "minutes": None,
}


class Trainer:
    """What the driver needs of ``nnUNetTrainer``; its Dice is a list."""

    def __init__(self, folder: Path, dice: list[float]) -> None:
        self.output_folder = str(folder)
        self.dice = dice
        self.current_epoch = 0
        self.device = torch.device("cpu")
        self.network = torch.nn.Linear(2, 3)
        self.calls: list[str] = []
        names = ("epoch_start_timestamps", "epoch_end_timestamps", "ema_fg_dice")
        self.log: dict[str, list[float]] = {
            name: [] for name in (*names, "train_losses", "val_losses", "mean_fg_dice")
        }
        self.logger = SimpleNamespace(get_checkpoint=lambda: self.log)
        self.dataloader_train = iter(lambda: float(np.random.rand()), None)
        self.dataloader_val = iter(lambda: 0, None)
        self.drawn: list[float] = []

    def on_train_start(self) -> None:
        self.calls.append("start")

    def on_epoch_start(self) -> None:
        self.log["epoch_start_timestamps"].append(10.0 * self.current_epoch)

    def on_train_epoch_start(self) -> None:
        self.calls.append(f"epoch {self.current_epoch}")

    def train_step(self, batch: float) -> dict[str, float]:
        self.drawn.append(batch)
        return {"loss": batch}

    def on_train_epoch_end(self, losses: list[dict[str, float]]) -> None:
        self.log["train_losses"].append(len(losses))

    def on_validation_epoch_start(self) -> None:
        assert not torch.is_grad_enabled()

    def validation_step(self, batch: float) -> int:
        return 1

    def on_validation_epoch_end(self, found: list[int]) -> None:
        self.log["val_losses"].append(sum(found))
        self.log["mean_fg_dice"].append(self.dice[self.current_epoch])
        self.log["ema_fg_dice"].append(self.dice[self.current_epoch])

    def on_epoch_end(self) -> None:
        self.log["epoch_end_timestamps"].append(10.0 * self.current_epoch + 4)
        self.current_epoch += 1

    def save_checkpoint(self, path: str) -> None:
        # as nnU-Net's, called from within an epoch
        Path(path).write_text(json.dumps({"current_epoch": self.current_epoch + 1}))


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    made = Trainer(tmp_path, [0.2, 0.6, 0.6])
    monkeypatch.setattr(driver, "make_trainer", lambda job: made)
    monkeypatch.setenv(driver.WORKERS, "1")
    return made


def test_all_epochs_are_trained_and_told(trainer, capsys):
    found = driver.train(JOB)
    assert (found["step"], found["steps"]) == (6, 6)
    assert trainer.log["train_losses"] == [2, 3, 1]
    assert trainer.log["val_losses"] == [2, 2, 2]
    lines = capsys.readouterr().out.splitlines()
    told = [json.loads(line.removeprefix(driver.PROGRESS)) for line in lines]
    assert [now["step"] for now in told] == [1, 2, 3, 4, 5, 6]
    assert [now["loss"] for now in told] == trainer.drawn


def test_the_best_is_the_first_of_equals(trainer):
    found = driver.train(JOB)
    assert found["best"] == 0.6
    assert found["best_step"] == 5  # the end of the second epoch
    assert found["seconds"] == 12.0  # between epochs nothing is counted
    assert [epoch["step"] for epoch in found["curve"]] == [2, 5, 6]
    assert [epoch["seconds"] for epoch in found["curve"]] == [4.0, 8.0, 12.0]
    assert found["parameters"] == 9


def test_when_the_minutes_end_one_epoch_is_done_and_kept(trainer):
    found = driver.train({**JOB, "minutes": 0.0})
    assert found["step"] == 2
    latest = Path(trainer.output_folder, driver.LATEST)
    assert json.loads(latest.read_text()) == {"current_epoch": 1}  # where to go on
    assert trainer.current_epoch == 1
    assert [path.name for path in latest.parent.iterdir()] == [driver.LATEST]
    found = driver.train(JOB)
    assert found["step"] == 6
    assert trainer.calls == ["start", "epoch 0", "start", "epoch 1", "epoch 2"]


def test_a_resumed_run_draws_what_an_uninterrupted_one_would(trainer, tmp_path, monkeypatch):
    driver.train(JOB)
    resumed = Trainer(tmp_path, [0.2, 0.6, 0.6])
    monkeypatch.setattr(driver, "make_trainer", lambda job: resumed)
    driver.train({**JOB, "minutes": 0.0})
    random.seed(99)
    np.random.seed(99)
    driver.train(JOB)
    assert resumed.drawn == trainer.drawn
    assert len(set(resumed.drawn)) == 6  # and no epoch repeats another


class Deep(torch.nn.Module):
    """Answers on two levels, as nnU-Net does where its supervision is deep."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(64, 3)
        self.seen: list[torch.dtype] = []

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        y = self.layer(x)
        self.seen.append(y.dtype)
        return [y, y[:1]]


@pytest.mark.parametrize("network", [Deep(), torch.nn.Linear(64, 3)])
def test_half_precision_is_of_the_network_alone(network):
    x = torch.rand(2, 64)
    exact = network(x)
    driver.compute_in_half(network)
    found = network(x)
    for one, other in zip(found, exact, strict=True):
        assert one.dtype == torch.float32  # what the loss is computed from
        assert 0 < (one - other).abs().max() < 0.05
    found[0].sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in network.parameters())
    if isinstance(network, Deep):
        assert network.seen == [torch.float32, torch.bfloat16]


def test_a_finished_training_is_only_summed_up(trainer):
    first = driver.train(JOB)
    assert driver.train(JOB) == first
    assert trainer.calls.count("start") == 1


def test_seeds_reach_all_three_generators():
    def draw(seed: int, epoch: int) -> tuple[float, float, float]:
        driver.reseed(seed, epoch)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    assert draw(0, 1) == draw(0, 1)
    for one, two in zip(draw(0, 1), draw(0, 2), strict=True):
        assert one != two
    assert draw(0, 1) != draw(1, 0)


def test_a_stage_leaves_its_result_beside_the_job(tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "prepare", lambda job: {"batch": job["seed"]})
    (tmp_path / "job.json").write_text(json.dumps(JOB))
    driver.main(["prepare", str(tmp_path / "job.json")])
    assert json.loads((tmp_path / "prepare.json").read_text()) == {"batch": 3}
    assert len(list(tmp_path.iterdir())) == 2


def test_the_driver_imports_nothing_of_ours():
    tree = ast.parse(Path(driver.__file__).read_text())
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    assert {name.split(".")[0] for name in modules} == {
        "__future__", "json", "nnunetv2", "numpy", "os", "pathlib", "random", "statistics",
        "sys", "time", "torch", "typing",
    }  # fmt: skip


def test_peak_memory_is_that_of_this_process():
    found = driver.peak_memory_mb()
    assert found is None or 50 < found < 50_000
