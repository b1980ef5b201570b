"""The closed-form gradient of cross-entropy plus Dice, against autograd and MONAI."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ddmseg.maths.losses import segmentation_loss


def reference(
    logits: Tensor, labels: Tensor, *, dice_weight: float = 1.0, smooth: float = 1.0
) -> Tensor:
    """The same loss in plain operations, with a gradient by autograd."""
    p = logits.softmax(1).flatten(2)
    truth = F.one_hot(labels, logits.shape[1]).movedim(-1, 1).flatten(2).to(p.dtype)
    items = []
    for p_one, truth_one in zip(p, truth, strict=True):
        loss = -(p_one * truth_one).sum(0).log().mean()
        dice = (2 * (p_one * truth_one).sum(1) + smooth) / (
            p_one.sum(1) + truth_one.sum(1) + smooth
        )
        present = truth_one.sum(1) > 0
        present[0] = False
        if present.any():
            loss = loss + dice_weight * (1 - dice[present].mean())
        items.append(loss)
    return torch.stack(items).mean()


def both_gradients(
    logits: Tensor, labels: Tensor, **options: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss and gradient of ours, and of the reference in double precision."""
    ours = logits.clone().requires_grad_()
    exact = logits.double().requires_grad_()
    found, expected = (
        segmentation_loss(ours, labels, **options),
        reference(exact, labels, **options),
    )
    found.backward()
    expected.backward()
    return found, ours.grad, expected.float(), exact.grad.float()


def assert_agrees(logits: Tensor, labels: Tensor, **options: float) -> None:
    found, gradient, expected, expected_gradient = both_gradients(logits, labels, **options)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-7)


def example(*grid: int, classes: int = 4, items: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(items, classes, *grid, generator=generator)
    return logits, torch.randint(0, classes, (items, *grid), generator=generator)


@pytest.mark.parametrize("grid", [(6, 5), (4, 5, 3)])
@pytest.mark.parametrize("dice_weight", [0.0, 0.3, 1.0, 5.0])
def test_value_and_gradient_are_those_of_autograd(grid, dice_weight):
    assert_agrees(*example(*grid), dice_weight=dice_weight)


@given(
    classes=st.integers(2, 7),
    items=st.integers(1, 3),
    side=st.integers(1, 5),
    seed=st.integers(0, 2**30),
)
def test_it_holds_for_any_sizes(classes, items, side, seed):
    assert_agrees(*example(side, 3, classes=classes, items=items, seed=seed))


def test_classes_may_be_absent():
    logits, labels = example(5, 5)
    labels[0] = 0  # no foreground at all in this item
    labels[1][labels[1] == 2] = 1
    assert_agrees(logits, labels)


def test_without_foreground_it_is_cross_entropy():
    logits, labels = example(5, 5)
    labels.zero_()
    assert segmentation_loss(logits, labels).item() == pytest.approx(
        F.cross_entropy(logits, labels).item(), rel=1e-5
    )


def test_finite_differences_agree():
    logits, labels = example(3, 3, items=1)
    gradient = both_gradients(logits, labels)[1]
    generator = torch.Generator().manual_seed(3)
    for _ in range(5):
        direction = torch.randn(logits.shape, generator=generator)
        step = 1e-2 * direction
        slope = (
            segmentation_loss(logits + step, labels) - segmentation_loss(logits - step, labels)
        ) / 2e-2
        assert slope.item() == pytest.approx((gradient * direction).sum().item(), abs=2e-3)


def test_the_gradient_scales_with_what_comes_from_above():
    logits, labels = example(4, 4)
    gradients = []
    for factor in (1.0, -2.5):
        x = logits.clone().requires_grad_()
        (factor * segmentation_loss(x, labels)).backward()
        gradients.append(x.grad)
    torch.testing.assert_close(gradients[1], -2.5 * gradients[0])


def test_the_order_in_memory_does_not_matter():
    logits, labels = example(4, 4, 4)
    last = logits.contiguous(memory_format=torch.channels_last_3d)
    a, b = both_gradients(logits, labels), both_gradients(last, labels)
    torch.testing.assert_close(a[:2], b[:2])


def test_no_shift_of_all_classes_counts():
    # The softmax ignores it, so the gradient over the classes sums to 0.
    gradient = both_gradients(*example(4, 4))[1]
    torch.testing.assert_close(gradient.sum(1), torch.zeros(2, 4, 4), atol=1e-7, rtol=0)


def test_hopeless_logits_give_finite_values():
    logits = torch.tensor([200.0, -200.0]).reshape(1, 2, 1, 1).expand(1, 2, 3, 3)
    labels = torch.ones(1, 3, 3, dtype=torch.int64)
    found, gradient, *_ = both_gradients(logits, labels)
    assert 20 < found.item() < 40
    assert gradient.isfinite().all()
    assert (gradient[:, 1] < 0).all()  # and still pulls the right way


def test_half_precision_logits_get_gradients_of_their_own_kind():
    # What mixed precision on a GPU feeds it.
    logits, labels = example(4, 4)
    x = logits.bfloat16().requires_grad_()
    loss = segmentation_loss(x, labels)
    loss.backward()
    assert loss.dtype == torch.float32
    assert x.grad.dtype == torch.bfloat16
    expected = both_gradients(x.detach().float(), labels)
    assert loss.item() == pytest.approx(expected[0].item(), rel=1e-5)
    torch.testing.assert_close(x.grad.float(), expected[1], rtol=0.02, atol=1e-4)


def test_no_gradient_is_kept_where_none_is_wanted():
    logits, labels = example(4, 4)
    assert not segmentation_loss(logits, labels).requires_grad
    with torch.no_grad():
        assert not segmentation_loss(logits.requires_grad_(), labels).requires_grad


def test_descent_finds_the_labels():
    logits, labels = example(6, 6)
    x = torch.zeros_like(logits, requires_grad=True)
    optimiser = torch.optim.Adam([x], lr=0.5)
    for _ in range(30):
        optimiser.zero_grad()
        segmentation_loss(x, labels).backward()
        optimiser.step()
    assert torch.equal(x.argmax(1), labels)


@pytest.mark.parametrize("grid", [(6, 5), (4, 5, 3)])
@pytest.mark.parametrize("dice_weight", [0.5, 1.0])
def test_it_is_monais_where_every_class_is_present(grid, dice_weight):
    from monai.losses.dice import DiceCELoss

    logits, labels = example(*grid, classes=3)
    for k in range(3):
        assert (labels == k).flatten(1).any(1).all()
    theirs = DiceCELoss(
        include_background=False,
        to_onehot_y=True,
        softmax=True,
        smooth_nr=1.0,
        smooth_dr=1.0,
        lambda_dice=dice_weight,
    )
    x = logits.clone().requires_grad_()
    expected = theirs(x, labels[:, None])
    expected.backward()
    found, gradient, *_ = both_gradients(logits, labels, dice_weight=dice_weight)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(gradient, x.grad, rtol=1e-4, atol=1e-7)
