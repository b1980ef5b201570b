"""Doubt: by hand, by brute force, and its laws."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ddmseg.errors import SettingsError
from ddmseg.maths.uncertainty import auroc, entropy


def probabilities(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).mul(2).softmax(dim=-3)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    return torch.nn.functional.one_hot(labels, classes).movedim(-1, -3).float()


def test_entropy_runs_from_certain_to_no_idea():
    p = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25, 0.25, 0.25, 0.25]])
    found = entropy(p.T[None, :, :, None])  # three voxels, four classes
    assert found.shape == (1, 1, 3, 1)
    assert found.flatten().tolist() == pytest.approx([0, 0.5, 1])


@pytest.mark.parametrize("classes", [2, 3, 33])
def test_entropy_is_the_textbook_sum(classes):
    p = probabilities(2, classes, 4, 5)
    by_hand = -(p * p.log()).sum(1, keepdim=True) / math.log(classes)
    assert torch.allclose(entropy(p), by_hand, atol=1e-6)
    assert (entropy(p) <= 1).all()


def test_entropy_of_one_class_is_refused():
    with pytest.raises(SettingsError, match="got 1 class; entropy needs at least 2"):
        entropy(torch.ones(1, 1, 2, 2))


def maps(*rows: list[int]) -> Tensor:
    """Label maps of one item, one row each: ``s b i j``."""
    return torch.tensor(rows)[:, None, None, :]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30),
)
def test_auroc_is_the_share_of_pairs_won(pairs):
    score = torch.tensor([float(s) for s, _ in pairs])
    positive = torch.tensor([p for _, p in pairs])
    hits, misses = score[positive].tolist(), score[~positive].tolist()
    found = auroc(score, positive)
    if not hits or not misses:
        assert math.isnan(found)
        return
    won = sum((h > m) + 0.5 * (h == m) for h in hits for m in misses)
    assert found == pytest.approx(won / len(hits) / len(misses))


def test_auroc_ends():
    positive = torch.tensor([False, False, True, True])
    assert auroc(torch.tensor([0.1, 0.2, 0.3, 0.4]), positive) == 1.0
    assert auroc(torch.tensor([0.4, 0.3, 0.2, 0.1]), positive) == 0.0
    assert auroc(torch.ones(4), positive) == 0.5


def test_auroc_sees_order_only():
    generator = torch.Generator().manual_seed(0)
    score = torch.rand(50, 60, generator=generator)
    positive = torch.rand(50, 60, generator=generator) < score**2
    found = auroc(score, positive)
    assert found > 0.7
    assert auroc(score.double().exp(), positive) == pytest.approx(found, abs=1e-6)
    assert auroc(-score, positive) == pytest.approx(1 - found)


def test_auroc_counts_millions_exactly():
    # Float32 sums of ranks would be off in the third digit here.
    n = 1_000_000
    score = torch.arange(n).remainder(2).float()
    positive = torch.zeros(n, dtype=torch.bool)
    positive[: n // 4] = True
    assert auroc(score, positive) == 0.5


def test_bad_pairs_are_refused():
    with pytest.raises(SettingsError, match=r"got shapes \(2,\) and \(3,\); both must be the same"):
        auroc(torch.zeros(2), torch.zeros(3))
    with pytest.raises(SettingsError, match="scores: got NaN, which has no rank"):
        auroc(torch.tensor([0.0, math.nan]), torch.zeros(2))
