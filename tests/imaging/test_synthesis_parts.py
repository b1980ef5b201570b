"""The parts of synthesis one by one: compact heads, contrasts, deformation, artefacts, draws."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddmseg.imaging.labels import generation_labels
from ddmseg.imaging.synthesis import artefacts
from ddmseg.imaging.synthesis.contrast import (
    BLEND,
    FAMILIES,
    LEAST_GAP,
    TISSUES,
    draw_contrast,
    draw_tissue_means,
)
from ddmseg.imaging.synthesis.deform import (
    Pose,
    compact_head,
    draw_displacement,
    draw_matrix,
    sample_positions,
)
from ddmseg.randomness import draw_choice, draw_integer, draw_uniform


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- the compact head --------------------------------------------------------


def test_compact_head_keeps_labels_and_adds_an_empty_rim() -> None:
    labels = torch.zeros(20, 20, 20, dtype=torch.int16)
    labels[4:10, 5:9, 6:12] = 511
    labels[6:8, 6:8, 8:10] = 17
    head = compact_head(labels)
    assert head.shape == (8, 6, 8)
    ids = torch.tensor([label.index for label in generation_labels()])
    restored = ids[head.classes.view(head.shape).int()]
    assert torch.equal(restored[1:-1, 1:-1, 1:-1], labels[4:10, 5:9, 6:12].long())
    assert not restored[0].any()
    assert not restored[:, :, -1].any()
    assert head.head_box.tolist() == [[1, 1, 1], [6, 4, 6]]
    assert head.brain_box.tolist() == [[3, 2, 3], [4, 3, 4]]


# --- contrast ---------------------------------------------------------------


def test_every_generated_tissue_has_an_intensity() -> None:
    assert {label.tissue for label in generation_labels()} <= set(TISSUES)


@given(st.integers(0, 10_000), st.sampled_from(FAMILIES))
@settings(max_examples=40, deadline=None)
def test_means_exist_for_every_tissue_and_are_moderate(seed: int, family: str) -> None:
    means = draw_tissue_means(rng(seed), family)
    assert set(means) == set(TISSUES)
    assert all(-0.1 <= value <= 1.3 for value in means.values())


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_families_keep_their_order(seed: int) -> None:
    t1 = draw_tissue_means(rng(seed), "t1")
    assert t1["ventricle"] < t1["cortex"] <= t1["white_matter"] - LEAST_GAP["t1"] + 1e-9
    t2 = draw_tissue_means(rng(seed), "t2")
    assert t2["white_matter"] - LEAST_GAP["t2"] - 1e-9 <= t2["cortex"] < t2["ventricle"]
    flair = draw_tissue_means(rng(seed), "flair")
    assert flair["ventricle"] < flair["white_matter"] < flair["cortex"] < flair["lesion"] + 0.1


def test_deep_grey_lies_on_the_way_from_cortex_to_white_matter() -> None:
    means = draw_tissue_means(rng(1), "t1")
    for tissue, (low, high) in BLEND.items():
        span = means["white_matter"] - means["cortex"]
        assert low - 1e-6 <= (means[tissue] - means["cortex"]) / span <= high + 1e-6


def test_contrast_shares_means_of_a_tissue_but_for_jitter() -> None:
    contrast = draw_contrast(rng(), ["cortex", "cortex", "air"], family="t1", side_jitter=0.0)
    assert contrast.mean[0] == contrast.mean[1]
    assert contrast.spread[2] == contrast.texture[2] == 0
    jittered = draw_contrast(rng(), ["cortex", "cortex", "air"], family="t1", side_jitter=0.02)
    assert 0 < abs(jittered.mean[0] - jittered.mean[1]) < 0.2


# --- deformation ------------------------------------------------------------


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=30, deadline=None)
def test_pure_rotation_is_orthogonal_and_flip_reverses_it(seed: int, flip: bool) -> None:
    matrix = draw_matrix(rng(seed), rotation_deg=30.0, scaling=0.0, shear=0.0, flip=flip)
    assert torch.allclose(matrix @ matrix.T, torch.eye(3), atol=1e-5)
    assert torch.det(matrix).item() == pytest.approx(-1 if flip else 1, abs=1e-5)


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_scaling_bounds_the_volume(seed: int) -> None:
    matrix = draw_matrix(rng(seed), rotation_deg=20.0, scaling=0.1, shear=0.05, flip=False)
    assert 0.9**3 - 1e-4 <= torch.det(matrix).item() <= 1.1**3 + 1e-4


def test_identity_pose_reads_a_regular_grid() -> None:
    pose = Pose(torch.tensor([10.0, 20.0, 30.0]), torch.eye(3), torch.zeros(3, 2, 2, 2))
    i, j, k = sample_positions(pose, (3, 4, 5), 2.0)
    assert i[:, 0, 0].tolist() == [8, 10, 12]
    assert j[0, :, 0].tolist() == [17, 19, 21, 23]
    assert k[0, 0, :].tolist() == [26, 28, 30, 32, 34]


def test_positions_follow_the_matrix() -> None:
    matrix = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    pose = Pose(torch.zeros(3), matrix, torch.zeros(3, 2, 2, 2))
    positions = torch.stack(sample_positions(pose, (3, 3, 3), 1.0))
    assert positions[:, 2, 1, 1].tolist() == [0, 1, 0]
    assert positions[:, 1, 2, 1].tolist() == [-1, 0, 0]


def test_displacement_has_the_asked_size() -> None:
    extent = (160.0, 192.0, 160.0)
    stds = [
        draw_displacement(rng(s), extent_mm=extent, spacing_mm=16.0, largest_std_mm=4.0).std()
        for s in range(20)
    ]
    assert max(stds) < 4.5
    assert 0.5 < sum(stds) / len(stds) < 2.5
    none = draw_displacement(rng(), extent_mm=extent, spacing_mm=16.0, largest_std_mm=0.0)
    assert not none.any()


# --- artefacts --------------------------------------------------------------


def test_blur_keeps_the_sum_and_has_the_asked_width() -> None:
    point = torch.zeros(21, 21, 21)
    point[10, 10, 10] = 1
    blurred = artefacts.blur(point, (1.5, 0.0, 1.0))
    assert blurred.sum().item() == pytest.approx(1, abs=1e-5)
    steps = torch.arange(21.0) - 10
    assert (blurred.sum((1, 2)) * steps**2).sum().item() == pytest.approx(1.5**2, rel=0.1)
    assert (blurred.sum((0, 2)) * steps**2).sum().item() == 0
    assert (blurred.sum((0, 1)) * steps**2).sum().item() == pytest.approx(1.0, rel=0.1)


def test_blur_does_not_darken_the_edge() -> None:
    assert torch.allclose(artefacts.blur(torch.ones(9, 9, 9), (2.0, 2.0, 2.0)), torch.ones(9, 9, 9))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_thick_slices_vary_less_along_their_axis_only(axis: int) -> None:
    noise = torch.rand(24, 24, 24, generator=rng())
    thick = artefacts.thicken_slices(noise, axis=axis, factor=3.0)
    assert thick.shape == noise.shape
    assert thick.mean().item() == pytest.approx(noise.mean().item(), abs=0.01)
    steps = [thick.diff(dim=a).abs().mean().item() for a in range(3)]
    assert min(range(3), key=steps.__getitem__) == axis


def test_noise_is_rician() -> None:
    air = artefacts.add_noise(torch.zeros(40, 40, 40), rng(), std=0.1)
    assert air.mean().item() == pytest.approx(0.1 * (torch.pi / 2) ** 0.5, rel=0.02)
    bright = artefacts.add_noise(torch.ones(40, 40, 40), rng(), std=0.05)
    assert bright.std().item() == pytest.approx(0.05, rel=0.03)
    assert artefacts.add_noise(torch.ones(4, 4, 4), rng(), std=0.0).eq(1).all()


def test_bias_is_smooth_positive_and_absent_when_zero() -> None:
    ones = torch.ones(32, 32, 32)
    assert torch.equal(artefacts.multiply_bias(ones, rng(), largest_std=0.0), ones)
    fields = [artefacts.multiply_bias(ones, rng(s), largest_std=0.5) for s in range(8)]
    assert all(field.min() > 0 for field in fields)
    assert all(field.log().diff(dim=0).abs().max() < 0.35 for field in fields)
    stds = [field.log().std().item() for field in fields]
    assert 0.1 < max(stds) < 0.6


def test_motion_and_ghosts_keep_the_centre_of_k_space() -> None:
    image = torch.zeros(32, 32, 32)
    image[8:24, 8:24, 8:24] = 1
    for spoilt in (
        artefacts.add_motion(image, rng(1), largest_voxels=2.0),
        artefacts.add_ghosts(image, rng(1)),
    ):
        assert spoilt.shape == image.shape
        assert not torch.equal(spoilt, image)
        assert spoilt.sum().item() == pytest.approx(image.sum().item(), rel=0.3)


def test_still_head_has_no_motion_artefact() -> None:
    image = torch.rand(16, 16, 16, generator=rng())
    assert torch.allclose(artefacts.add_motion(image, rng(), largest_voxels=0.0), image, atol=1e-5)


@pytest.mark.parametrize("shift_mm", [-3.0, 0.0, 4.0])
def test_stripped_edge_moves_by_the_shift(shift_mm: float) -> None:
    """On a half-space the mask's edge lies ``shift_mm`` outside the brain's on average."""
    brain = torch.zeros(60, 20, 20, dtype=torch.bool)
    brain[:30] = True
    depths = [
        artefacts.stripped_brain(brain, rng(s), spacing_mm=1.0, range_mm=(shift_mm, shift_mm))
        .sum(0)
        .mean()
        for s in range(20)
    ]
    assert float(sum(depths)) / 20 == pytest.approx(30 + shift_mm, abs=0.8)


def test_field_of_view_keeps_the_upper_half() -> None:
    for seed in range(10):
        seen = artefacts.field_of_view((12, 12, 24), rng(seed), lowest=0.3)
        assert seen.shape == (12, 12, 24)
        assert seen[:, :, 16:].all()
        assert (seen.int().diff(dim=2) >= 0).all()


# --- draws ------------------------------------------------------------------


def test_draws_respect_bounds_and_weights() -> None:
    generator = rng()
    values = [draw_uniform(generator, -2.0, 3.0) for _ in range(500)]
    assert -2 <= min(values) < -1.8
    assert 2.8 < max(values) < 3
    assert {draw_integer(generator, 1, 4) for _ in range(100)} == {1, 2, 3}
    picks = [draw_choice(generator, {"a": 3.0, "b": 0.0, "c": 1.0}) for _ in range(800)]
    assert "b" not in picks
    assert picks.count("a") / 800 == pytest.approx(0.75, abs=0.06)
