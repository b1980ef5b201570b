"""Artefacts: level 0 changes nothing, higher levels change more, and each does what it says."""

from __future__ import annotations

import itertools

import pytest
import torch

from ddmseg_lab.studies import artefacts
from ddmseg_lab.studies.artefacts import ARTEFACTS, LEVELS, degrade


@pytest.fixture(scope="module")
def head() -> torch.Tensor:
    """Two bright balls in a grey one: smooth, and different in every direction."""
    axes = [torch.linspace(-1, 1, n) for n in (24, 30, 20)]
    i, j, k = torch.meshgrid(*axes, indexing="ij")
    image = 0.5 * torch.sigmoid(30 * (0.8 - (i**2 + j**2 + k**2).sqrt()))
    for place in (-0.3, 0.4):
        inside = 0.25 - ((i - place) ** 2 + (j - 0.1) ** 2 + (k + place / 2) ** 2).sqrt()
        image = image + 0.5 * torch.sigmoid(30 * inside)
    return image[None]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rms(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).square().mean().sqrt())


@pytest.mark.parametrize("name", ARTEFACTS)
def test_level_0_is_the_image(head, name):
    same = degrade(head, name, 0, seeded())
    assert torch.equal(same, head)
    assert same is not head


@pytest.mark.parametrize("name", ARTEFACTS)
@pytest.mark.parametrize("seed", [0, 1])
def test_each_level_is_worse_than_the_one_before(head, name, seed):
    before = head.clone()
    changes = [rms(degrade(head, name, n, seeded(seed)), head) for n in range(LEVELS + 1)]
    assert changes == sorted(changes)
    assert all(low < high for low, high in itertools.pairwise(changes))
    assert torch.equal(head, before)  # never in place


@pytest.mark.parametrize("name", ARTEFACTS)
def test_equal_generators_give_equal_images(head, name):
    one, two = (degrade(head, name, 3, seeded(5)) for _ in range(2))
    assert torch.equal(one, two)
    assert one.shape == head.shape
    assert one.dtype == torch.float32
    assert type(one) is torch.Tensor
    assert one.isfinite().all()


@pytest.mark.parametrize("name", sorted(set(ARTEFACTS) - {"low_resolution", "gamma"}))
def test_other_generators_give_other_images(head, name):
    drawn = [degrade(head, name, 3, seeded(seed)) for seed in range(4)]
    assert not all(torch.equal(drawn[0], other) for other in drawn[1:])


@pytest.mark.parametrize("name", ARTEFACTS)
def test_strengths_rise(name):
    strengths = ARTEFACTS[name].strengths
    assert len(strengths) == LEVELS
    assert list(strengths) == sorted(set(strengths))


@pytest.mark.parametrize("slice_axis", [0, 1, 2])
def test_missing_slices_are_whole_slices_and_grow(head, slice_axis):
    lost: set[int] = set()
    for level in range(1, LEVELS + 1):
        image = degrade(head + 0.1, "missing_slices", level, seeded(), slice_axis=slice_axis)
        rows = image[0].movedim(slice_axis, 0).flatten(1)
        now = {number for number, row in enumerate(rows) if not row.any()}
        assert lost < now
        kept = [number for number in range(len(rows)) if number not in now]
        whole = (head[0] + 0.1).movedim(slice_axis, 0).flatten(1)
        assert torch.equal(rows[kept], whole[kept])
        lost = now
    share = ARTEFACTS["missing_slices"].strengths[-1]
    assert len(lost) == round(share * head.shape[1 + slice_axis])


def test_ghosts_lie_a_part_of_the_image_away():
    point = torch.zeros(1, 24, 24, 24)
    point[0, 12, 12, 12] = 1.0
    ghosted = degrade(point, "ghosting", 3, seeded())
    bright = (ghosted > 0.02).nonzero()[:, 1:]
    moved = (bright - 12).abs()
    axis = int(moved.sum(0).argmax())
    assert (moved[:, [a for a in range(3) if a != axis]] == 0).all()  # along the phase axis alone
    assert (moved[:, axis] >= 24 // 4 - 1).any()


def test_motion_of_nothing_is_nothing(head):
    still = artefacts.motion(head, 0.0, seeded(), 1)
    assert torch.allclose(still, head, atol=1e-5)


def test_a_pose_turns_and_shifts():
    image = torch.zeros(1, 9, 9, 9)
    image[0, 6, 4, 4] = 1.0
    quarter = artefacts._posed(image, torch.tensor([90.0, 0, 0]), torch.zeros(3))
    assert float(quarter[0, 4, 2, 4] + quarter[0, 4, 6, 4]) == pytest.approx(1.0, abs=1e-4)
    shifted = artefacts._posed(image, torch.zeros(3), torch.tensor([2.0, 0, 0]))
    assert float(shifted[0, 4, 4, 4]) == pytest.approx(1.0, abs=1e-4)


def test_motion_keeps_the_head_where_the_labels_are(head):
    moved = degrade(head, "motion", 3, seeded(1))
    assert float(moved.mean()) == pytest.approx(float(head.mean()), rel=0.05)
    assert rms(moved, head) < rms(head.roll(4, 2), head)


def test_noise_is_as_strong_as_said():
    flat = torch.full((1, 20, 20, 20), 2.0)
    noisy = degrade(flat, "noise", 2, seeded())
    assert float(noisy.std()) == pytest.approx(ARTEFACTS["noise"].strengths[1], rel=0.05)


def test_a_spike_is_a_wave(head):
    change = degrade(head, "spikes", 4, seeded()) - head
    spectrum = torch.fft.fftn(change[0]).abs().flatten().sort(descending=True).values
    assert float(spectrum[10]) < 1e-2 * float(spectrum[0])  # a few points of k-space alone


def test_low_resolution_keeps_the_mean_and_gamma_the_range(head):
    low = degrade(head, "low_resolution", 3, seeded())
    assert float(low.mean()) == pytest.approx(float(head.mean()), rel=0.02)
    assert low.diff(dim=1).abs().max() < head.diff(dim=1).abs().max()
    bent = degrade(head, "gamma", 4, seeded())
    assert float(bent.min()) == pytest.approx(float(head.min()), abs=1e-4)
    assert float(bent.max()) == pytest.approx(float(head.max()), abs=1e-4)


def test_gamma_goes_both_ways(head):
    brighter = [float(degrade(head, "gamma", 3, seeded(s)).mean() - head.mean()) for s in range(8)]
    assert min(brighter) < 0 < max(brighter)
