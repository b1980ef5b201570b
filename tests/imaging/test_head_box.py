"""The head is found whatever the noise, spikes and field of view."""

from __future__ import annotations

import numpy as np
import pytest

from ddmseg.imaging.head_box import HEAD_HEIGHT_MM, MARGIN_MM, find_head
from ddmseg.imaging.resample import Box

SPACING = (2.0, 2.5, 2.0)
SHAPE = (110, 100, 120)
CENTRE_MM = np.array([100.0, 130.0, 120.0])
RADII_MM = np.array([70.0, 90.0, 75.0])


def head(noise: float = 4.0, seed: int = 0) -> np.ndarray:
    """An ellipsoid of texture in Rician noise."""
    rng = np.random.default_rng(seed)
    places = np.indices(SHAPE).T * np.array(SPACING)
    inside = (((places - CENTRE_MM) / RADII_MM) ** 2).sum(-1).T < 1
    clean = np.where(inside, rng.uniform(60, 120, SHAPE), 0.0)
    return np.hypot(clean + rng.normal(0, noise, SHAPE), rng.normal(0, noise, SHAPE)).astype(
        np.float32
    )


def assert_fits(box: Box, slack_mm: float = 6.0) -> None:
    """The box holds the ellipsoid and is larger by the margin, give or take a block."""
    for side, spacing, centre, radius in zip(box, SPACING, CENTRE_MM, RADII_MM, strict=True):
        assert side.start * spacing <= centre - radius
        assert (side.stop - 1) * spacing >= centre + radius
        assert (centre - radius) - side.start * spacing <= MARGIN_MM + slack_mm
        assert side.stop * spacing - (centre + radius) <= MARGIN_MM + slack_mm


@pytest.mark.parametrize("noise", [0.0, 4.0, 20.0])
def test_noise_in_air_does_not_matter(noise: float) -> None:
    assert_fits(find_head(head(noise), SPACING))


def test_hot_voxels_do_not_matter() -> None:
    image = head()
    image[2, 2, 2] = image[-3, -3, -3] = 1e6
    image[105, 3, 60] = 5e3
    assert_fits(find_head(image, SPACING))


def test_a_small_marker_is_ignored() -> None:
    image = head()
    image[100:105, 90:95, 100:105] = 120
    assert_fits(find_head(image, SPACING))


def test_a_stripped_brain_has_no_noise_at_all() -> None:
    image = head(0.0)
    assert (image == 0).mean() > 0.5
    assert_fits(find_head(image, SPACING))


def test_shading_does_not_cut_the_dim_side() -> None:
    shade = np.linspace(0.45, 1.6, SHAPE[2], dtype=np.float32)
    assert_fits(find_head(head() * shade, SPACING))


def test_long_necks_are_cut() -> None:
    image = np.zeros((80, 80, 200), np.float32)
    image[10:70, 10:70, 20:190] = np.random.default_rng(0).uniform(60, 120, (60, 60, 170))
    _, _, k = find_head(image, (2.0, 2.0, 2.0))
    assert k.stop * 2.0 >= 190 * 2.0
    kept_mm = 190 * 2.0 - k.start * 2.0
    assert kept_mm == pytest.approx(HEAD_HEIGHT_MM, abs=5)


def test_small_crops_come_back_whole() -> None:
    image = np.random.default_rng(0).uniform(0, 100, (35, 51, 35)).astype(np.float32)
    assert find_head(image, (1.0, 1.0, 1.0)) == (slice(0, 35), slice(0, 51), slice(0, 35))


def test_thin_stacks_keep_all_their_slices() -> None:
    image = head()[:, :, 58:62]
    i, j, k = find_head(image, (2.0, 2.5, 6.0))
    assert k == slice(0, 4)
    assert i.stop - i.start < SHAPE[0]
    assert j.stop - j.start <= SHAPE[1]
