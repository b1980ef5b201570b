"""Expected Dice against masks counted by hand and against what it predicts."""

from __future__ import annotations

import pytest
import torch

from ddmseg.maths.expected_dice import MISSED_VOXELS, expectation


def test_a_certain_mask_has_dice_one() -> None:
    labels = torch.tensor([[0, 1], [2, 1]])
    probabilities = torch.nn.functional.one_hot(labels, 3).movedim(-1, 0).float()
    found = expectation(labels, torch.ones(2, 2), probabilities)
    assert found.dice.tolist() == [1.0, 1.0, 1.0]
    assert found.mean_dice == 1.0


def test_two_voxels_by_hand() -> None:
    """One voxel of class 1, right with 0.8; one of background, right with 0.5.

    The doubt of the background voxel can only be class 1, so class 1 expects 0.8 hits
    and 0.5 missed: 2 * 0.8 / (1 + 0.8 + 0.5).
    """
    labels = torch.tensor([1, 0])
    probabilities = torch.tensor([[0.3, 0.6], [0.7, 0.4]])
    found = expectation(labels, torch.tensor([0.8, 0.5]), probabilities)
    assert found.hits[1].item() == pytest.approx(0.8)
    assert found.missed[1].item() == pytest.approx(0.5)
    assert found.dice[1].item() == pytest.approx(1.6 / 2.3)


def test_doubt_is_shared_by_the_other_classes() -> None:
    labels = torch.tensor([0])
    probabilities = torch.tensor([[0.2], [0.6], [0.2]])
    found = expectation(labels, torch.tensor([0.0]), probabilities)
    assert found.missed[1].item() == pytest.approx(0.75)
    assert found.missed[2].item() == pytest.approx(0.25)


def test_a_missed_structure_counts_as_nothing() -> None:
    count = int(4 * MISSED_VOXELS)
    labels = torch.zeros(count, dtype=torch.int64)
    labels[0] = 1
    probabilities = torch.full((3, count), 0.0)
    probabilities[2] = 1.0
    right = torch.zeros(count)
    right[0] = 1.0
    found = expectation(labels, right, probabilities)
    assert found.dice[2].isnan()
    assert found.mean_dice == pytest.approx(found.dice[1].item() / 2)


def test_an_empty_mask_without_doubt_has_no_dice() -> None:
    labels = torch.zeros(4, dtype=torch.int64)
    found = expectation(labels, torch.ones(4), torch.tensor([[1.0] * 4, [0.0] * 4]))
    assert found.mean_dice == 0.0


def test_it_predicts_the_dice_of_calibrated_masks() -> None:
    """Labels drawn from known probabilities: the expected Dice is the mean true Dice."""
    generator = torch.Generator().manual_seed(0)
    foreground = torch.rand(20_000, generator=generator)
    probabilities = torch.stack([1 - foreground, foreground])
    labels = (foreground > 0.5).long()
    right = probabilities.gather(0, labels[None])[0]
    truth = (torch.rand(20_000, generator=generator) < foreground).long()
    hits = ((labels == 1) & (truth == 1)).sum()
    true = 2 * hits / ((labels == 1).sum() + (truth == 1).sum())
    expected = expectation(labels, right, probabilities).dice[1]
    assert expected.item() == pytest.approx(true.item(), abs=0.01)
