"""Where a training starts from, which parts learn when, and what is averaged."""

from __future__ import annotations

import pytest
import torch

from ddmseg.errors import UsageError
from ddmseg.models.checkpoint import load_weights
from ddmseg.training.trainer import Progress, Trainer
from toys import BoxSource, tiny_settings


def test_starting_from_weights_takes_what_fits(tmp_path):
    Trainer(tiny_settings(), BoxSource(), tmp_path / "old").run()
    old = tmp_path / "old" / "best.safetensors"
    settings = tiny_settings(start_from=str(old), model={"embedding": 4})
    new = Trainer(settings, BoxSource(), tmp_path / "new").model.state_dict()
    before = load_weights(old)[0].state_dict()
    name = "image_encoder.stem.convolution.weight"
    assert torch.equal(new[name], before[name])
    assert new["image_encoder.embed.weight"].shape != before["image_encoder.embed.weight"].shape


def test_starting_from_an_unknown_model(tmp_path):
    with pytest.raises(UsageError, match="model: got 'nothing'"):
        Trainer(tiny_settings(start_from="nothing"), BoxSource(), tmp_path)


def test_encoders_first_then_the_denoiser_alone(tmp_path):
    settings = tiny_settings(loss={"encoders_until_step": 5}, steps=10)
    snapshots = {}

    def keep(progress: Progress) -> None:
        if progress.step in (5, 10):
            state = trainer.model.state_dict()
            snapshots[progress.step] = {n: w.clone() for n, w in state.items()}

    trainer = Trainer(settings, BoxSource(), tmp_path)
    begin = {n: w.clone() for n, w in trainer.model.state_dict().items()}
    trainer.run(report=keep)

    def moved(before, after) -> set[str]:
        return {n.split(".")[0] for n in before if not torch.equal(before[n], after[n])}

    assert moved(begin, snapshots[5]) == {"image_encoder", "segmentation_encoder"}
    assert moved(snapshots[5], snapshots[10]) == {"denoiser"}


def test_the_averaged_model_has_the_statistics_of_batch_normalisation(tmp_path):
    settings = tiny_settings(model={"architecture": "attention_unet", "diffusion": False})
    trainer = Trainer(settings, BoxSource(), tmp_path)
    trainer.run()
    kept, now = dict(trainer.ema.named_buffers()), dict(trainer.model.named_buffers())
    means = [name for name in kept if name.endswith("running_mean")]
    assert means
    assert all(torch.equal(kept[name], now[name]) for name in kept)
    assert any(kept[name].any() for name in means)  # no longer what they began with


def test_what_is_frozen_is_not_averaged_between_processes(tmp_path, monkeypatch):
    # A gradient of zero would let the weight decay of the optimiser move it.
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda gradient: None)
    settings = tiny_settings(loss={"encoders_until_step": 5}, steps=8, weight_decay=0.5)
    trainer = Trainer(settings, BoxSource(), tmp_path)
    trainer.ranks = 2
    seen = []

    def keep(progress: Progress) -> None:
        if progress.step in (6, 8):
            encoder = trainer.model.image_encoder.state_dict()
            seen.append({name: weight.clone() for name, weight in encoder.items()})

    trainer._any = lambda here: here
    trainer.run(report=keep)
    assert all(torch.equal(seen[0][name], seen[1][name]) for name in seen[0])


BLOCK = {
    "encoder_form": "block",
    "widths": (4, 8, 8),
    "denoiser_form": "light",
    "mask_stride": 2,
}


def test_with_frozen_features_the_rest_learns_on_them(tmp_path):
    settings = tiny_settings(model=BLOCK, loss={"freeze_features": True}, weight_decay=0.5)
    trainer = Trainer(settings, BoxSource(), tmp_path)
    begin = {n: w.clone() for n, w in trainer.model.state_dict().items()}
    trainer.run()
    after = trainer.model.state_dict()
    moved = {name for name in begin if not torch.equal(begin[name], after[name])}
    assert {n for n in moved if n.startswith("image_encoder.")} == {
        "image_encoder.embed.weight",
        "image_encoder.embed.bias",
    }
    assert {n.split(".")[0] for n in moved} == {
        "image_encoder",
        "segmentation_encoder",
        "denoiser",
    }


def test_scored_on_some_blocks_it_learns_as_on_all(tmp_path):
    shares = {"foreground_share": 0.5, "background_share": 0.25}
    coarse = {}
    for name, loss in (("all", {}), ("some", shares)):
        settings = tiny_settings(dims=3, model=BLOCK, loss=loss, steps=60, validate_every=60)
        trainer = Trainer(settings, BoxSource(3), tmp_path / name)
        trainer.run()
        coarse[name] = trainer.curve.rows[-1]["coarse_dice"]
    assert coarse["some"] > 0.6
    assert abs(coarse["some"] - coarse["all"]) < 0.3
