"""Scores of coarse and sampled masks, against hand-made ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddmseg.models.settings import SamplingSettings
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.training import validation
from ddmseg.training.validation import ValidationScores, mean_dice, validate
from toys import BoxSource, tiny_model, tiny_settings

CPU = torch.device("cpu")


def score(model, examples=None, **sampling):
    settings = replace(tiny_settings(), sampling=SamplingSettings(**{"steps": 2, **sampling}))
    return validate(model, examples or BoxSource().validation_examples(2), settings, CPU)


def test_examples_are_padded_to_what_the_network_takes():
    # Blocks and three levels ask for multiples of 8; the example has sides of 12.
    model = tiny_model(
        dims=3, encoder_form="block", widths=(4, 8, 8), denoiser_form="light", mask_stride=2
    )
    image, truth = torch.rand(1, 12, 12, 12), torch.zeros(12, 12, 12, dtype=torch.int64)
    truth[3:9, 3:9, 3:9] = 1
    assert 0 <= score(model, [(image, truth)]).sampled_dice <= 1


# Dice


def test_dice_by_hand():
    truth = torch.tensor([[0, 1, 1], [2, 2, 2]])
    answer = torch.tensor([[1, 1, 0], [2, 2, 0]])
    # class 1: 2*1/(2+2); class 2: 2*2/(3+2)
    assert mean_dice(answer, truth, 3) == pytest.approx((0.5 + 0.8) / 2)


def test_dice_of_what_is_not_there():
    empty, one = torch.zeros(3, 3, dtype=torch.int64), torch.ones(3, 3, dtype=torch.int64)
    assert mean_dice(empty, empty, 3) == 1.0
    assert mean_dice(one, empty, 3) == 1.0  # no foreground in the truth to score
    assert mean_dice(empty, one, 3) == 0.0


@given(st.integers(0, 10**6), st.integers(2, 5))
def test_dice_laws(seed, classes):
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randint(0, classes, (2, 4, 4), generator=generator)
    assert mean_dice(a, a, classes) == 1.0
    assert 0 <= mean_dice(a, b, classes) <= 1
    if torch.equal(torch.unique(a), torch.unique(b)):
        assert mean_dice(a, b, classes) == pytest.approx(mean_dice(b, a, classes))


def test_it_is_the_dice_of_our_metrics():
    from ddmseg.maths.metrics import dice

    generator = torch.Generator().manual_seed(0)
    a, b = torch.randint(0, 3, (2, 6, 6), generator=generator)
    by_class = [float(dice((a == k).numpy(), (b == k).numpy())) for k in (1, 2)]
    assert mean_dice(a, b, 3) == pytest.approx(sum(by_class) / 2)


# A model


class Oracle(DiscrepancyDiffusionSegmenter):
    """A plain network that reads the answer off the image, or sees nothing at all."""

    def __init__(self, *, blind: bool = False) -> None:
        super().__init__(2, 1, 3, widths=(4, 8, 8), diffusion=False)
        self.blind = blind

    def encode(self, image: torch.Tensor) -> Encoding:
        labels = image[:, 0].round().long() * (not self.blind)
        logits = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
        return replace(super().encode(image), coarse=logits)


def exact_examples() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Images that are their own labels, of unequal shapes."""
    examples = []
    for size in (16, 24):
        labels = torch.zeros(size, size, dtype=torch.int64)
        labels[4:8, 4:8], labels[8:12, 4:8] = 1, 2
        examples.append((labels[None].float(), labels))
    return examples


def test_a_perfect_and_an_empty_model():
    perfect, empty = (
        validate(Oracle(blind=blind), exact_examples(), tiny_settings(), CPU)
        for blind in (False, True)
    )
    assert perfect == ValidationScores(1.0, 1.0, 1.0, all_empty=False)
    assert empty == ValidationScores(0.0, 0.0, 0.0, all_empty=True)


@pytest.mark.parametrize(
    ("masks", "sampled", "expected"),
    [
        ([[1, 1, 0, 0], [1, 1, 0, 0]], 1.0, 1.0),
        ([[1, 0, 0, 0], [1, 0, 0, 0]], 2 / 3, 2 / 3),  # certain, and wrong
        ([[1, 0, 0, 0], [0, 1, 0, 0]], 2 / 3, 2 / 3 + 1 / 2),  # as wrong, and unsure
        ([[0, 0, 1, 1], [1, 1, 0, 0]], 0.0, 1 / 2 + 1 / 2),
    ],
)
def test_samples_that_differ_as_they_err_score_better(monkeypatch, masks, sampled, expected):
    drawn = [torch.tensor([mask]) for mask in masks]
    coarse = torch.tensor([[1, 0, 0, 0]])
    monkeypatch.setattr(
        validation, "_answers", lambda *_: (coarse, lambda example, number: drawn[number])
    )
    truth = torch.tensor([[1, 1, 0, 0]])
    scores = validate(Oracle(blind=False), [(truth[None].float(), truth)], tiny_settings(), CPU)
    assert scores.coarse_dice == pytest.approx(2 / 3)
    assert scores.sampled_dice == pytest.approx(sampled)
    assert scores.sampled_score == pytest.approx(expected)


@pytest.mark.parametrize("dims", [2, 3])
def test_it_repeats_itself_and_leaves_no_gradient(dims):
    model = tiny_model(dims=dims)
    examples = BoxSource(dims).validation_examples(2)
    scores = score(model, examples)
    assert scores == score(model, examples)
    assert 0 <= scores.sampled_dice <= 1
    assert scores.sampled_dice != scores.coarse_dice
    assert all(weight.grad is None for weight in model.parameters())


def test_a_plain_network_has_its_coarse_dice_twice():
    scores = score(tiny_model(diffusion=False))
    assert scores.sampled_dice == scores.sampled_score == scores.coarse_dice


def test_one_sampled_mask_that_is_not_empty_is_enough():
    model = tiny_model()
    assert not score(model).all_empty
    with torch.no_grad():  # both heads now say background everywhere
        for head in (model.image_encoder.head, model.denoiser.fine_head):
            head.logits.bias.copy_(torch.tensor([100.0, 0.0, 0.0]))
    assert score(model).all_empty


@pytest.mark.parametrize(
    "sampling",
    [
        {"sampler": "ddpm", "steps": 4},
        {"steps": 7},
        {"guidance": "energy", "guidance_scale": 3.0, "steps": 4},
        {"guidance": "classifier_free", "guidance_scale": 2.0},
    ],
    ids=str,
)
def test_masks_are_sampled_as_the_settings_say(monkeypatch, sampling):
    calls = []

    class Spy(validation.MaskSampler):
        def __call__(self, **options):
            calls.append((self.guidance, options["sampler"], options["steps"]))
            return super().__call__(**options)

    monkeypatch.setattr(validation, "MaskSampler", Spy)
    model = tiny_model()
    score(model, **sampling)
    guidance, sampler, steps = calls[0]
    assert sampler == sampling.get("sampler", "ddim")
    assert steps == sampling.get("steps", 2)
    assert guidance.kind == sampling.get("guidance", "none")
    assert guidance.scale == sampling.get("guidance_scale", 1.0)
