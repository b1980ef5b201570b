"""What the joint model is trained on: L = L_disc + lambda L_diff, plus the coarse head.

L_disc is the binary cross-entropy of exp(-D / sigma_D^2) and "this voxel of the
mask is right". On right voxels it pulls D to 0, on wrong ones it pushes D up;
the push is what keeps the embeddings from collapsing to constants.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ddmseg.maths.discrepancy import energy
from ddmseg.types import ClassMap, Labels, VoxelMap

ClassFractions = Float[Tensor, "b k *blocks"]
"""Share of each class in each block of voxels, on a grid coarser than the labels'."""

# exp(-D) is 1 at D = 0, where "wrong" would cost infinity.
SMALLEST_ENERGY = 1e-4
SMOOTH = 1.0
"""Voxels added to both parts of a soft Dice, so that small structures do not jump."""


def discrepancy_loss(
    D: VoxelMap, right: VoxelMap, *, temperature: float = 1.0, push: bool = True
) -> Tensor:
    """Return the mean cross-entropy of exp(-D / sigma_D^2) against ``right``.

    Args:
        D: discrepancy map, at least 0.
        right: probability mass that the mask gives to the true label, in [0, 1]
            (0 or 1 for hard masks).
        temperature: sigma_D, above 0.
        push: without it only right voxels count, for the ablation that collapses.
    """
    E = energy(D, temperature=temperature).clamp_min(SMALLEST_ENERGY)
    pull = right * E
    if not push:
        return pull.mean()
    return (pull - (1 - right) * torch.log(-torch.expm1(-E))).mean()


def segmentation_loss(logits: ClassMap, labels: Labels, *, dice_weight: float = 1.0) -> Tensor:
    """Return cross-entropy plus soft Dice loss over the foreground classes present.

    Each item is scored on its own. A class that an item does not hold adds nothing
    to its Dice part, so a patch is not punished for what lies outside it.

    Source: soft Dice of Milletari et al. 2016, arXiv 1606.04797, without squares.
    """
    rows = logits.movedim(1, -1).flatten(1, -2)
    arguments = (rows, labels.flatten(1), dice_weight)
    loss: Tensor = _CrossEntropyAndDice.apply(*arguments)  # type: ignore[no-untyped-call]
    return loss


class _CrossEntropyAndDice(torch.autograd.Function):
    """Both losses, averaged over the items, with one softmax and a gradient in closed form.

    With p the softmax, P_k = sum_v p_vk, I_k = sum of p_vk over voxels of class k and
    T_k their number, dice_k = (2 I_k + s) / (P_k + T_k + s). The gradient needs one
    pass over ``voxels x classes`` numbers; plain operations take seven, which with
    33 classes costs more than the network.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, dice_weight: float) -> Tensor:
        p = torch.softmax(rows.float(), dim=2)
        p_true = p.gather(2, index[..., None])[..., 0]
        cross_entropy = -p_true.clamp_min(1e-12).log().mean()
        zeros = torch.zeros(p.shape[0], p.shape[2], dtype=p.dtype, device=p.device)
        T = zeros.scatter_add(1, index, torch.ones_like(p_true))
        hits = zeros.scatter_add(1, index, p_true)
        whole = p.sum(1) + T + SMOOTH
        dice = (2 * hits + SMOOTH) / whole
        present = T > 0
        present[:, 0] = False
        number = present.sum(1, keepdim=True).clamp_min(1)
        share = present * (dice_weight / (number * p.shape[0]))
        # dL/dI_k and dL/dP_k, per item and class.
        ctx.save_for_backward(p, p_true, index, -share * 2 / whole, share * dice / whole)
        return cross_entropy + (share * (1 - dice)).sum()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        p, p_true, index, at_I, at_P = ctx.saved_tensors
        voxel = 1 / index.numel()
        at_true = at_I.gather(1, index) * p_true
        along = torch.bmm(p, at_P[..., None])[..., 0] + at_true
        gradient = (at_P + voxel)[:, None] - along[..., None]
        gradient.mul_(p)
        gradient.scatter_add_(2, index[..., None], (at_true - voxel)[..., None])
        return gradient.mul_(upstream), None, None


def soft_cross_entropy(logits: ClassMap, target: ClassMap) -> Tensor:
    """Return the mean cross-entropy against class fractions that sum to 1."""
    return -(target * F.log_softmax(logits, dim=1)).sum(dim=1).mean()


def code_cross_entropy(logits: Tensor, code: Tensor) -> Tensor:
    """Return the cross-entropy of a code's bits, summed over them, mean over the voxels.

    Args:
        logits: that a bit is 1 (``b m *grid``).
        code: expected bits in [-1, 1], of the same shape.
    """
    target = (code + 1) / 2
    bits = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return bits.sum(dim=1).mean()


def class_fractions(labels: Labels, classes: int, stride: int) -> ClassFractions:
    """Return how much of each class lies in each block of ``stride`` voxels a side."""
    dims = labels.dim() - 1
    shape = (len(labels), classes, *(n // stride for n in labels.shape[1:]))
    share = torch.zeros(shape, device=labels.device)
    for place in itertools.product(range(stride), repeat=dims):
        there = labels[(slice(None), *(slice(start, None, stride) for start in place))]
        share.scatter_(1, there[:, None], 1 / stride**dims, reduce="add")
    return share
