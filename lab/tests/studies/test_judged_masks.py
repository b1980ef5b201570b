"""Scores of masks: the same as calibration fits, and silent where the truth is not known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from ddmseg.imaging.labels import structure
from ddmseg.models.checkpoint import Card
from ddmseg.models.settings_reader import settings_to_dict
from ddmseg.training.calibration import try_masks
from ddmseg_lab.studies.judged_masks import Subject, measure_masks, score_mask
from toys import BoxSource, tiny_model, tiny_settings

CARD = Card("toy", BoxSource.labels, settings_to_dict(tiny_settings()))


def one_hot(labels: torch.Tensor, classes: int) -> torch.Tensor:
    p = torch.full((classes, *labels.shape), 0.05)
    return p.scatter(0, labels[None], 1 - 0.05 * (classes - 1))


def scored(
    labels: torch.Tensor, subject: Subject, *, classes: int = 3, kind: str = "coarse", card=CARD
):
    wrong = (labels != subject.truth).float()
    right = 1 - 0.9 * wrong
    return score_mask(card, kind, labels, one_hot(labels, classes), wrong, right, subject)


def square(n: int, value: int) -> torch.Tensor:
    labels = torch.zeros((12, 12), dtype=torch.int64)
    labels[2 : 2 + n, 2 : 2 + n] = value
    return labels


def test_masks_and_scores_are_those_that_the_calibration_is_fitted_on():
    model = tiny_model()
    examples = BoxSource().validation_examples(2)
    trials = try_masks(model, CARD, examples)
    scores = [
        score
        for number, example in enumerate(examples)
        for score in measure_masks(model, CARD, Subject.whole(*example), number=number)
    ]
    assert [s["kind"] for s in scores] == [t.kind for t in trials]
    for ours, theirs in zip(scores, trials, strict=True):
        assert ours["expected"] == pytest.approx(theirs.expected, rel=1e-4)
        assert ours["true"] == pytest.approx(theirs.true)
        assert ours["auroc"] == pytest.approx(theirs.auroc, nan_ok=True)
        if ours["kind"] != "corrupted":
            assert ours["auroc_entropy"] == pytest.approx(theirs.auroc_entropy, nan_ok=True)


def test_a_mask_that_is_right_has_dice_1_and_no_error_to_find():
    truth = square(4, 1)
    score = scored(truth, Subject.whole(torch.zeros(1, 12, 12), truth))
    assert score["true"] == 1.0
    assert math.isnan(score["auroc"])
    assert score["ece"] == pytest.approx(0.0)


def test_dice_is_the_mean_over_structures_of_mask_or_truth():
    truth, labels = square(4, 1), square(2, 1)
    labels[10:, 10:] = 2
    score = scored(labels, Subject.whole(torch.zeros(1, 12, 12), truth))
    assert score["true"] == pytest.approx((2 * 4 / (4 + 16) + 0.0) / 2)
    assert score["auroc"] == 1.0


def test_confidence_is_scored_against_what_is_right():
    truth, labels = square(4, 1), square(4, 2)
    score = scored(labels, Subject.whole(torch.zeros(1, 12, 12), truth))
    # 16 of 144 voxels are wrong and said to be right with probability 0.1.
    assert score["ece"] == pytest.approx(0.1 * 16 / 144, rel=1e-5)
    # The largest probability is 0.9 everywhere, and 128 of 144 voxels are right.
    assert score["ece_softmax"] == pytest.approx(0.9 - 128 / 144, rel=1e-4)


def test_the_largest_probability_is_no_confidence_in_a_corrupted_mask():
    truth = square(4, 1)
    subject = Subject.whole(torch.zeros(1, 12, 12), truth)
    assert math.isnan(scored(square(3, 1), subject, kind="corrupted")["ece_softmax"])


def test_errors_where_the_truth_is_not_known_do_not_count():
    truth, labels = square(4, 1), square(4, 1)
    labels[8:] = 2
    known = torch.ones_like(truth, dtype=torch.bool)
    known[8:] = False
    subject = Subject(torch.zeros(1, 12, 12), truth, known)
    assert scored(labels, subject)["true"] == 1.0
    assert scored(labels, Subject.whole(subject.image, truth))["true"] < 1.0


def test_a_structure_that_is_not_evaluated_is_no_error():
    truth, labels = square(4, 1), square(4, 1)
    labels[8:] = 2
    known = torch.ones_like(truth, dtype=torch.bool)
    subject = Subject(torch.zeros(1, 12, 12), truth, known, evaluated=(1,))
    score = scored(labels, subject)
    assert score["true"] == 1.0
    assert score["expected"] == pytest.approx(1.0)


@pytest.mark.parametrize(("low", "share"), [(0.0, 0.5), (-8.0, 1.0)])
def test_an_interval_holds_the_true_volume_or_does_not(low, share):
    """Class 1 is right; class 2 has 8 voxels for 4, and the 4 too many are right by 0.1 each."""
    truth, labels = square(4, 1), square(4, 1)
    truth[10:, 10:], labels[10:, 8:] = 2, 2
    names = [structure(index).name for index in CARD.labels[1:]]
    bounds = {name: [low, 0.0] for name in names}
    card = replace(CARD, calibration={"volume_ratios": bounds})
    subject = Subject.whole(torch.zeros(1, 12, 12), truth)
    assert scored(labels, subject, card=card)["covered"] == share


def test_volumes_are_not_judged_where_the_mask_is_corrupt_or_the_truth_in_part_unknown():
    truth = square(4, 1)
    subject = Subject.whole(torch.zeros(1, 12, 12), truth)
    assert math.isnan(scored(truth, subject, kind="corrupted")["covered"])
    assert math.isnan(scored(truth, replace(subject, evaluated=(1,)))["covered"])
