"""Pieces of the joint loss, and what happens to the embeddings without the push."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddmseg.errors import SettingsError
from ddmseg.maths.discrepancy import discrepancy_map, right_probability
from ddmseg.maths.losses import (
    class_fractions,
    discrepancy_loss,
    segmentation_loss,
    soft_cross_entropy,
)
from ddmseg.maths.uncertainty import auroc


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator)


def random_labels(*shape: int, classes: int, seed: int = 0) -> Tensor:
    return torch.randint(0, classes, shape, generator=torch.Generator().manual_seed(seed))


# The discrepancy's proper scoring rule


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_it_is_the_binary_cross_entropy_of_the_probability(temperature):
    D = normal(2, 1, 4, 5).square() + 0.05
    right = random_labels(2, 1, 4, 5, classes=2).float()
    expected = F.binary_cross_entropy(right_probability(D, temperature=temperature), right)
    found = discrepancy_loss(D, right, temperature=temperature)
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)


def test_it_pulls_right_voxels_down_and_pushes_wrong_ones_up():
    D = torch.full((1, 1, 2), 0.5, requires_grad=True)
    discrepancy_loss(D, torch.tensor([[[1.0, 0.0]]])).backward()
    assert D.grad[0, 0, 0] > 0  # descending lowers it
    assert D.grad[0, 0, 1] < 0


def test_without_push_wrong_voxels_do_not_count():
    D = torch.full((1, 1, 2), 0.5, requires_grad=True)
    loss = discrepancy_loss(D, torch.tensor([[[1.0, 0.0]]]), push=False)
    loss.backward()
    assert loss.item() == pytest.approx(0.25)
    assert D.grad.tolist() == [[[0.5, 0.0]]]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_best_probability_is_the_true_share_of_right_voxels(share):
    # What makes it a proper score: no other D does better on average.
    D = torch.linspace(0.01, 5, 2000)
    losses = torch.stack(
        [discrepancy_loss(d.view(1, 1, 1), torch.full((1, 1, 1), share)) for d in D]
    )
    assert math.exp(-D[losses.argmin()].item()) == pytest.approx(share, abs=0.01)


def test_agreement_on_a_wrong_voxel_costs_much_but_not_infinity():
    D = torch.zeros(1, 1, 1, requires_grad=True)
    loss = discrepancy_loss(D, torch.zeros(1, 1, 1))
    loss.backward()
    assert 5 < loss.item() < 20
    assert D.grad.isfinite().all()
    assert discrepancy_loss(torch.full((1, 1, 1), 1e4), torch.zeros(1, 1, 1)).item() == 0


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(SettingsError, match=r"temperature: got 0.0; it must be above 0"):
        discrepancy_loss(torch.ones(1, 1, 1), torch.ones(1, 1, 1), temperature=0.0)


# Collapse


def blobs(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy images of random shapes, their masks, and the masks shifted."""
    smooth = F.avg_pool2d(torch.randn(count, 1, 16, 16, generator=generator), 5, 1, 2)
    mask = (smooth > 0).float()
    image = mask + 0.3 * torch.randn(count, 1, 16, 16, generator=generator)
    return image, mask, mask.roll((2, 1), (2, 3))


def encoder() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1))


def train_encoders(*, push: bool) -> tuple[nn.Module, nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        image_encoder, mask_encoder = encoder(), encoder()
    generator = torch.Generator().manual_seed(0)
    parameters = [*image_encoder.parameters(), *mask_encoder.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=1e-2)
    for _ in range(150):
        image, mask, wrong = blobs(8, generator)
        masks = torch.cat([mask, wrong])
        right = (masks == torch.cat([mask, mask])).float()
        D = discrepancy_map(image_encoder(torch.cat([image, image])), mask_encoder(masks))
        optimiser.zero_grad()
        discrepancy_loss(D, right, push=push).backward()
        optimiser.step()
    return image_encoder, mask_encoder


@torch.no_grad()
def detection(image_encoder: nn.Module, mask_encoder: nn.Module) -> tuple[float, float, float]:
    """AUROC of D for wrong voxels, spread of the embeddings, mean D of wrong voxels."""
    image, mask, wrong = blobs(32, torch.Generator().manual_seed(9))
    z_image, z_mask = image_encoder(image), mask_encoder(wrong)
    D = discrepancy_map(z_image, z_mask)
    spread = torch.stack([z.flatten(2).std(dim=2).mean() for z in (z_image, z_mask)]).max()
    return auroc(D, wrong != mask), spread.item(), D[wrong != mask].mean().item()


def test_without_the_push_the_embeddings_collapse_and_with_it_they_do_not():
    blind, collapsed, low = detection(*train_encoders(push=False))
    seeing, alive, high = detection(*train_encoders(push=True))
    assert collapsed < 0.03  # constants: the cheapest way to agree
    assert low < 0.01
    assert blind < 0.75
    assert alive > 0.15
    assert high > 1.0
    assert seeing > 0.98


# Segmentation


def plain_segmentation_loss(logits: Tensor, labels: Tensor, dice_weight: float) -> Tensor:
    """The same loss from ordinary operations, for its value and its gradient."""
    classes = logits.shape[1]
    p, truth = logits.softmax(1), F.one_hot(labels, classes).movedim(-1, 1).to(logits)
    total = F.cross_entropy(logits, labels)
    for b in range(len(labels)):
        present = [k for k in range(1, classes) if (labels[b] == k).any()]
        scores = [
            (2 * (p * truth)[b, k].sum() + 1) / (p[b, k].sum() + truth[b, k].sum() + 1)
            for k in present
        ]
        if scores:
            total = total + dice_weight * (1 - torch.stack(scores).mean()) / len(labels)
    return total


@pytest.mark.parametrize("grid", [(4, 5), (4, 5, 6)])
@pytest.mark.parametrize("dice_weight", [0.0, 0.5, 1.0])
def test_it_is_cross_entropy_and_dice_with_their_gradient(grid, dice_weight):
    labels = random_labels(3, *grid, classes=3)
    labels[1][labels[1] == 2] = 0  # the second item lacks a class
    labels[2] = 0  # and the third is background alone
    logits = normal(3, 4, *grid).requires_grad_()  # no item holds the last class
    expected = plain_segmentation_loss(logits, labels, dice_weight)
    found = segmentation_loss(logits, labels, dice_weight=dice_weight)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    (plain,) = torch.autograd.grad(expected, logits)
    (ours,) = torch.autograd.grad(3.0 * found, logits)
    assert torch.allclose(ours, 3.0 * plain, atol=1e-6)


def test_a_sure_and_right_answer_costs_nothing():
    labels = random_labels(2, 4, 5, classes=3)
    logits = 100 * F.one_hot(labels, 3).movedim(-1, 1).float()
    assert segmentation_loss(logits, labels).item() == pytest.approx(0, abs=1e-5)
    assert segmentation_loss(-logits, labels).item() > 20


def test_a_class_that_an_item_lacks_adds_nothing_to_dice():
    labels = torch.zeros(1, 4, 5, dtype=torch.long)
    labels[:, 1] = 1
    sure = 100 * F.one_hot(labels, 3).movedim(-1, 1).float()
    sure[:, :, 3] = torch.tensor([0.0, 0.0, 100.0])[None, :, None]  # a row of class 2
    dice = segmentation_loss(sure, labels) - segmentation_loss(sure, labels, dice_weight=0.0)
    assert dice.item() == pytest.approx(0, abs=1e-5)  # class 1 alone counts, and is perfect


def test_a_patch_of_background_alone_still_teaches():
    logits = normal(1, 3, 4, 5).requires_grad_()
    loss = segmentation_loss(logits, torch.zeros(1, 4, 5, dtype=torch.long))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.abs().sum() > 0


def test_descending_the_loss_finds_the_labels():
    labels = random_labels(1, 6, 6, classes=3)
    logits = torch.zeros(1, 3, 6, 6, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.3)
    for _ in range(40):
        optimiser.zero_grad()
        segmentation_loss(logits, labels).backward()
        optimiser.step()
    assert torch.equal(logits.argmax(1), labels)


# Soft targets


def test_soft_cross_entropy_of_hard_targets_is_the_hard_one():
    logits, labels = normal(2, 3, 4, 5), random_labels(2, 4, 5, classes=3)
    target = F.one_hot(labels, 3).movedim(-1, 1).float()
    expected = F.cross_entropy(logits, labels)
    assert soft_cross_entropy(logits, target).item() == pytest.approx(expected.item(), rel=1e-5)


def test_soft_cross_entropy_is_least_at_the_target():
    target = normal(2, 3, 4, 5).softmax(1)
    best = soft_cross_entropy(target.log(), target)
    assert best < soft_cross_entropy(target.log() + 0.3 * normal(2, 3, 4, 5, seed=1), target)


@pytest.mark.parametrize(
    ("grid", "stride"), [((4, 6), 2), ((4, 6, 8), 2), ((6, 9), 3), ((4, 4), 1)]
)
def test_class_fractions_are_the_mean_of_one_hot_blocks(grid, stride):
    labels = random_labels(2, *grid, classes=5)
    pool = F.avg_pool2d if len(grid) == 2 else F.avg_pool3d
    expected = pool(F.one_hot(labels, 5).movedim(-1, 1).float(), stride)
    found = class_fractions(labels, 5, stride)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=1e-6)
    assert torch.allclose(found.sum(1), torch.ones(()), atol=1e-6)
