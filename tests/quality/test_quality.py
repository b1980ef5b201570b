"""How far the samples agree, and what the verdict makes of everything that is odd."""

from __future__ import annotations

import pytest
import torch

from ddmseg.imaging.postprocess import Cleaning
from ddmseg.maths.schedule import make_schedule
from ddmseg.models.checkpoint import Card
from ddmseg.models.settings import Settings
from ddmseg.models.settings_reader import settings_to_dict
from ddmseg.networks.ensemble import Answer, coarse_answer, sampled_answer
from ddmseg.networks.sampling import Guidance, MaskSampler
from ddmseg.quality.assessment import AGREEMENT, assess, judge, sample_agreement
from toys import tiny_model

CARD = Card("tiny", (0, 17, 53), settings_to_dict(Settings(name="tiny")))


def answer_of(*samples, classes=3):
    """An answer whose winner is the first map given, and these samples."""
    whole, *drawn = (torch.tensor(one, dtype=torch.uint8) for one in samples)
    p = torch.nn.functional.one_hot(whole.long(), classes).movedim(-1, 0)[None].float()
    labels = torch.stack(drawn) if drawn else torch.zeros(0, dtype=torch.uint8)
    return Answer(p, torch.ones(len(drawn)), torch.zeros(len(drawn), classes), 1, labels)


def test_agreement_by_hand():
    same = [[1, 1], [2, 0]]
    assert sample_agreement(answer_of(same, same, same)) == 1.0
    other = [[1, 0], [2, 0]]  # class 1: 2 * 1 / 3, class 2: 1
    assert sample_agreement(answer_of(same, same, other)) == pytest.approx((1 + 1 + 2 / 3 + 1) / 4)
    missing = [[1, 1], [0, 0]]  # class 2 found by one alone: 0
    assert sample_agreement(answer_of(same, missing)) == pytest.approx(0.5)


def test_without_samples_there_is_no_agreement():
    assert sample_agreement(answer_of([[1, 2]])) is None
    assert sample_agreement(answer_of([[0, 0]], [[0, 0]])) is None  # nothing found by any


def sampled(model, **options):
    image = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    sampler = MaskSampler(model, model.encode(image), make_schedule("cosine"), Guidance())
    choices = {"algorithm": "ddim", "steps": 3, "samples": 2, "temperature": 1.0, **options}
    return sampled_answer(
        sampler,
        coarse_share=0.25,
        generator=torch.Generator().manual_seed(1),
        **choices,
    )


@torch.inference_mode()
def test_a_trace_holds_each_sample_and_each_step_of_the_first():
    model = tiny_model()
    bare, traced = sampled(model), sampled(model, trace=True)
    assert bare.step_labels is None
    assert torch.equal(bare.probabilities, traced.probabilities)  # watching changes nothing
    assert traced.sample_labels.shape == (2, 16, 16)
    assert traced.step_labels.shape[0] == 3
    assert torch.equal(traced.step_labels[-1], traced.sample_labels[0])
    alone = sampled(model, trace=True, samples=1)
    assert torch.equal(alone.sample_labels[0], traced.sample_labels[0])


@torch.inference_mode()
def test_the_verdict_names_what_was_seen_and_what_was_changed():
    model, card = tiny_model(), CARD
    encoding = model.encode(torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)))
    answer = coarse_answer(encoding)
    assessment = assess(model, card, encoding, answer)
    bare = judge(card, answer, assessment)
    assert bare.postprocessing == {"applied": False}
    assert bare.sample_agreement is None
    cleaning = Cleaning({17: 3}, {53: 2}, {4: 2}, (0.7,))
    told = judge(card, answer, assessment, seen=["it is odd"], cleaning=cleaning, distance=1.5)
    assert (bare.training_distance, told.training_distance) == (None, 1.5)
    assert told.reasons == [*bare.reasons, "it is odd"]
    assert told.verdict != "pass"
    assert told.postprocessing == {
        "applied": True,
        "voxels_changed": 5,
        "island_voxels_removed": {"Left-Hippocampus": 3},
        "hole_voxels_filled": {"Right-Hippocampus": 2},
        "large_pieces": {"Left-Lateral-Ventricle": 2},
        "large_holes_ml": [0.7],
    }
    raw = judge(card, answer, assessment, cleaning=cleaning.not_applied())
    assert raw.postprocessing == {
        "applied": False,
        "large_pieces": {"Left-Lateral-Ventricle": 2},
        "large_holes_ml": [0.7],
    }


@torch.inference_mode()
def test_samples_that_disagree_are_a_reason():
    model, card = tiny_model(), CARD
    encoding = model.encode(torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)))
    drawn = sampled(model)
    assessment = assess(model, card, encoding, drawn)
    opposite = (drawn.probabilities.argmax(1) + 1) % 3
    divided = Answer(
        drawn.probabilities, drawn.weights, drawn.sample_volumes, 3, opposite.to(torch.uint8)
    )
    assert sample_agreement(divided) < AGREEMENT
    reasons = judge(card, divided, assessment).reasons
    assert any(reason.startswith("the samples disagree: their mean Dice") for reason in reasons)
