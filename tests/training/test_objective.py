"""The joint loss: what it trains, what it noises, and what each setting changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ddmseg.maths.losses import segmentation_loss
from ddmseg.models.settings import LossSettings
from ddmseg.networks.denoiser import CONDITIONINGS
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.training import objective
from ddmseg.training.objective import Losses, Objective, stage_at
from ddmseg.training.trainer import freeze_encoders
from toys import BoxSource, tiny_model


def batch(dims: int = 2, items: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*BoxSource(dims).validation_examples(items), strict=True)
    return torch.stack(images), torch.stack(labels)


def losses(
    model: DiscrepancyDiffusionSegmenter, *, seed: int = 0, dims: int = 2, **settings: Any
) -> Losses:
    generator = torch.Generator().manual_seed(seed)
    return Objective(model, LossSettings(**settings))(*batch(dims), generator)


# Gradients


SHAPES = [
    *((2, {"conditioning": c, "mask_stride": s}) for c in CONDITIONINGS for s in (1, 2)),
    *((3, {"mask_stride": s}) for s in (1, 2)),
    *((dims, {"mask_stride": 2, "denoiser_form": "light"}) for dims in (2, 3)),
]


@pytest.mark.parametrize(("dims", "shape"), SHAPES, ids=str)
def test_gradients_reach_every_weight(dims, shape):
    model = tiny_model(dims=dims, **shape).train()
    losses(model, dims=dims).total.backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.any(), name


def test_each_part_trains_what_it_should():
    parts = {"coarse_weight": 0.0, "diffusion_weight": 0.0, "discrepancy_weight": 0.0}
    reached = {}
    for only in parts:
        model = tiny_model().train()
        losses(model, **{**parts, only: 1.0}).total.backward()
        reached[only] = {
            name.split(".")[0]
            for name, weight in model.named_parameters()
            if weight.grad is not None and weight.grad.any()
        }
    assert reached == {
        "coarse_weight": {"image_encoder"},
        "diffusion_weight": {"image_encoder", "segmentation_encoder", "denoiser"},
        "discrepancy_weight": {"image_encoder", "segmentation_encoder"},
    }


def gradients(share: float, **weights: float) -> dict[str, torch.Tensor]:
    model = tiny_model().train()
    losses(model, encoder_share=share, **weights).total.backward()
    return {
        name: weight.grad
        for name, weight in model.named_parameters()
        if weight.grad is not None and weight.grad.any()
    }


def test_a_share_of_the_gradient_reaches_the_features_and_all_of_it_their_map():
    whole, half, none = (gradients(share) for share in (1.0, 0.5, 0.0))
    alone = gradients(1.0, diffusion_weight=0.0, discrepancy_weight=0.0)
    for name, grad in whole.items():
        if name.startswith("image_encoder.") and ".embed." not in name:
            torch.testing.assert_close(none[name], alone[name])  # the plain network's
            torch.testing.assert_close(half[name], (grad + alone[name]) / 2)
        else:
            torch.testing.assert_close(none[name], grad)
    first = "image_encoder.stem.convolution.weight"
    assert not torch.allclose(none[first], whole[first])


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_share_changes_no_loss(share):
    found, usual = losses(tiny_model(), encoder_share=share), losses(tiny_model())
    torch.testing.assert_close(found.total, usual.total)


@pytest.mark.parametrize("stride", [1, 2])
def test_half_precision_gives_about_the_same(stride):
    # What mixed precision on a GPU does, on the CPU.
    model = tiny_model(mask_stride=stride).train()
    exact = losses(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = losses(model)
    rounded.total.backward()
    assert rounded.total.item() == pytest.approx(exact.total.item(), rel=0.1)
    assert all(weight.grad.isfinite().all() for weight in model.parameters())


# Values


def test_the_total_is_the_weighted_sum():
    weights = {"coarse_weight": 0.5, "diffusion_weight": 2.0, "discrepancy_weight": 3.0}
    found = losses(tiny_model(), **weights)
    by_hand = 0.5 * found.coarse + 2 * found.diffusion + 3 * found.discrepancy
    assert found.total.item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert not any(part.requires_grad for part in (found.coarse, found.diffusion))


def test_equal_generators_give_equal_losses_and_others_do_not():
    model = tiny_model()
    first, again, other = (losses(model, seed=s) for s in (0, 0, 1))
    assert torch.equal(first.total, again.total)
    assert torch.equal(first.discrepancy, again.discrepancy)
    assert torch.equal(first.coarse, other.coarse)  # nothing is drawn for it
    assert not torch.equal(first.diffusion, other.diffusion)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_plain_network_has_its_coarse_loss_alone(dims):
    model = tiny_model(dims=dims, diffusion=False)
    images, labels = batch(dims)
    found = losses(model, dims=dims, dice_weight=0.7)
    expected = segmentation_loss(model(images), labels, dice_weight=0.7)
    assert found.total.item() == pytest.approx(expected.item())
    assert found.total.requires_grad
    assert (found.diffusion.item(), found.discrepancy.item()) == (0, 0)


def test_before_the_joint_steps_the_encoder_trains_alone():
    model = tiny_model()
    generator = torch.Generator().manual_seed(0)
    alone = Objective(model, LossSettings())(*batch(), generator, stage="image_encoder")
    assert torch.equal(alone.total, alone.coarse)
    assert (alone.diffusion.item(), alone.discrepancy.item()) == (0, 0)
    alone.total.backward()
    assert all(weight.grad is None for weight in model.denoiser.parameters())
    assert not torch.equal(alone.total, losses(model).total)


def test_the_push_is_part_of_the_discrepancy_loss():
    model = tiny_model()
    with_push, without = losses(model), losses(model, push=False)
    assert with_push.discrepancy > without.discrepancy
    assert torch.equal(with_push.diffusion, without.diffusion)


@pytest.mark.parametrize(
    "settings",
    [{"temperature": 2.0}, {"dice_weight": 0.0}, {"schedule": "linear"}, {"schedule_shift": -2.0}],
    ids=str,
)
def test_every_other_setting_counts_too(settings):
    model = tiny_model()
    assert not torch.equal(losses(model).total, losses(model, **settings).total)


# Recycling


class Seen:
    """Remembers what the denoiser saw at each call: whose noisy mask, when, and the estimate."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, model: DiscrepancyDiffusionSegmenter
    ) -> None:
        self.model = model
        self.noised: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self.asked: list[tuple[torch.Tensor, torch.Tensor]] = []
        noise, denoise = objective.noise, model.denoise

        def spy(x_0, eps, t, schedule):
            x_t = noise(x_0, eps, t, schedule)
            self.noised += list(zip(x_t, x_0, eps, t, strict=True))
            return x_t

        def ask(x_t, log_snr, conditions, encoding, estimate):
            self.asked.append((x_t, estimate))
            return denoise(x_t, log_snr, conditions, encoding, estimate)

        monkeypatch.setattr(objective, "noise", spy)
        monkeypatch.setattr(model, "denoise", ask)

    def of(self, seed: int, **settings: Any):
        """Clean mask, noise and time of each item, one list a call of the denoiser."""
        self.noised.clear()
        self.asked.clear()
        losses(self.model, seed=seed, **settings)
        return [[self._origin(item) for item in x_t] for x_t, _ in self.asked]

    def _origin(self, item: torch.Tensor):
        return next(rest for x_t, *rest in self.noised if torch.equal(x_t, item))


def recycling(clean_end: float, noise_end: float) -> dict[str, float]:
    return {"recycling_clean_end": clean_end, "recycling_noise_end": noise_end}


def are_truth(model: DiscrepancyDiffusionSegmenter, masks) -> list[bool]:
    truth = model.mask_encoding.of_labels(batch()[1])
    return [torch.allclose(mask, one) for mask, one in zip(masks, truth, strict=True)]


@pytest.mark.parametrize("number", range(3))
def test_never_recycled_the_truth_is_noised_and_seen_once(monkeypatch, number):
    model = tiny_model()
    calls = Seen(monkeypatch, model).of(number, **recycling(0.0, 0.0))
    for items in calls:
        assert are_truth(model, [mask for mask, _, _ in items]) == [True, True]
    # Under the same noise at the same time: another look would tell more of the truth.
    for (_, eps, t), (_, other, time) in zip(calls[0], calls[-1], strict=True):
        assert torch.equal(eps, other)
        assert torch.equal(t, time)


@pytest.mark.parametrize("number", range(3))
def test_always_recycled_the_own_estimate_is_noised(monkeypatch, number):
    model = tiny_model()
    seen = Seen(monkeypatch, model)
    calls = seen.of(number, **recycling(1.0, 1.0))
    for items in calls:
        assert are_truth(model, [mask for mask, _, _ in items]) == [False, False]
    # What is noised is the very estimate that the discrepancy is taken of.
    assert torch.equal(torch.stack([mask for mask, _, _ in calls[-1]]), seen.asked[-1][1])


def test_recycling_may_depend_on_the_time(monkeypatch):
    # Always at the clean end, never at the noise end: with probability 1 - t.
    model = tiny_model()
    seen = Seen(monkeypatch, model)
    early, late = [], []
    for number in range(60):
        items = seen.of(number, **recycling(1.0, 0.0))[-1]
        own = are_truth(model, [mask for mask, _, _ in items])
        for (_, _, t), truth in zip(items, own, strict=True):
            (early if t < 0.3 else late if t > 0.7 else []).append(not truth)
    assert sum(early) / len(early) > 0.65
    assert sum(late) / len(late) < 0.35


def test_the_recycled_estimate_comes_from_an_earlier_noisier_time(monkeypatch):
    seen = Seen(monkeypatch, tiny_model())
    lengths = set()
    for number in range(20):
        calls = seen.of(number, **recycling(1.0, 1.0))
        lengths.add(len(calls))
        if len(calls) == 2:
            for (_, eps, earlier), (_, other, t) in zip(*calls, strict=True):
                assert earlier >= t
                assert not torch.equal(eps, other)
    assert lengths == {1, 2}  # at times the first estimate is the coarse head's


def test_the_target_is_the_truth_even_when_recycled(monkeypatch):
    targets = []
    original = segmentation_loss

    def spy(logits, labels, **options):
        targets.append(labels)
        return original(logits, labels, **options)

    monkeypatch.setattr(objective, "segmentation_loss", spy)
    losses(tiny_model(), **recycling(1.0, 1.0))
    assert len(targets) == 2  # coarse and fine
    assert all(torch.equal(target, batch()[1]) for target in targets)


@pytest.mark.parametrize(("probability", "blind"), [(0.0, False), (1.0, True)])
def test_the_image_may_be_dropped(monkeypatch, probability, blind):
    model = tiny_model()
    seen = []
    original = model.denoise

    def denoise(x_t, log_snr, conditions, encoding, estimate):
        seen.append(conditions.blind)
        return original(x_t, log_snr, conditions, encoding, estimate)

    monkeypatch.setattr(model, "denoise", denoise)
    losses(model, drop_image_probability=probability)
    assert set(seen) == {blind}


# Stages and targets


def learning(model: DiscrepancyDiffusionSegmenter, stage: str, **settings: Any) -> set[str]:
    """Parts of the model that a stage gives a gradient."""
    model.train()
    generator = torch.Generator().manual_seed(0)
    Objective(model, LossSettings(**settings))(*batch(), generator, stage=stage).total.backward()
    return {
        name.split(".")[0]
        for name, weight in model.named_parameters()
        if weight.grad is not None and weight.grad.any()
    }


def test_each_stage_trains_its_parts():
    assert learning(tiny_model(), "image_encoder") == {"image_encoder"}
    assert learning(tiny_model(), "encoders") == {"image_encoder", "segmentation_encoder"}
    model = tiny_model()
    freeze_encoders(model)
    # With frozen encoders conditioning by discrepancy still runs through f^S.
    assert learning(model, "denoiser") == {"denoiser"}


def test_stages_follow_the_steps():
    joint = LossSettings(joint_from_step=3)
    assert [stage_at(step, joint) for step in (0, 2, 3)] == ["image_encoder"] * 2 + ["joint"]
    apart = LossSettings(encoders_until_step=3)
    assert [stage_at(step, apart) for step in (0, 2, 3)] == ["encoders"] * 2 + ["denoiser"]
    frozen = LossSettings(freeze_encoders=True, joint_from_step=3)
    assert [stage_at(step, frozen) for step in (0, 3)] == ["denoiser"] * 2


def test_predicting_noise_is_scored_against_the_noise():
    model = tiny_model(target="noise", fresh=True)  # its head says zero
    # The mean square of unit noise, whatever the labels.
    assert losses(model).diffusion.item() == pytest.approx(1.0, abs=0.15)
    assert losses(tiny_model(fresh=True)).diffusion.item() > 1.3  # cross-entropy and Dice


def test_without_weight_the_discrepancy_is_not_computed():
    found = losses(tiny_model(), discrepancy_weight=0.0)
    assert found.discrepancy.item() == 0
    assert losses(tiny_model()).discrepancy.item() > 0
