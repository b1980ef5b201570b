"""A cavity is missing tissue; equal fluid on both sides and a cut image are not."""

from __future__ import annotations

import numpy as np
import pytest

from ddmseg.quality.missing_tissue import missing_tissue
from toy_head import two_sided_brain

MM = (2.0, 2.0, 2.0)


def ball(centre: tuple[int, int, int], radius: float, shape: tuple[int, ...]) -> np.ndarray:
    """Voxels of 2 mm within so many mm of a place."""
    away = np.indices(shape).T - np.array(centre)
    return np.asarray(radius >= np.linalg.norm(2 * away, axis=-1).T)


def with_cavity(index: int, centre: tuple[int, int, int] = (14, 30, 30)) -> np.ndarray:
    labels = two_sided_brain()
    labels[ball(centre, 14.0, labels.shape)] = index
    return labels


def test_a_brain_of_two_equal_halves_misses_nothing() -> None:
    assert missing_tissue(two_sided_brain(), MM) == (0.0, None)


@pytest.mark.parametrize("index", [0, 4, 24])
def test_a_cavity_is_missing_tissue_whatever_fluid_it_is_called(index: int) -> None:
    # The first axis runs to the right, and the left half comes first.
    ml, side = missing_tissue(with_cavity(index), MM)
    assert side == "left"
    assert 2 < ml < 4 / 3 * np.pi * 1.4**3


def test_the_side_follows_the_labels_and_not_the_axes() -> None:
    ml, side = missing_tissue(with_cavity(24), MM)
    mirrored = missing_tissue(with_cavity(24)[::-1].copy(), MM)
    assert mirrored == (pytest.approx(ml, rel=0.1), "left")
    assert missing_tissue(with_cavity(24, (45, 30, 30)), MM)[1] == side.replace("left", "right")


def test_equal_cavities_on_both_sides_are_not_told_apart_from_anatomy() -> None:
    both = with_cavity(24)
    both[ball((45, 30, 30), 14.0, both.shape)] = 24
    assert missing_tissue(both, MM)[0] == 0


def test_a_turned_brain_is_its_own_mirror_image_too() -> None:
    from scipy import ndimage

    turned = ndimage.rotate(two_sided_brain(), 15, axes=(0, 1), order=0, reshape=True)
    assert missing_tissue(turned, MM)[0] == 0


def test_what_the_edge_of_the_image_cuts_off_is_not_missing() -> None:
    assert missing_tissue(two_sided_brain()[10:], MM)[0] == 0


def test_voxels_of_other_sizes_give_about_the_same_volume() -> None:
    fine = with_cavity(24).repeat(2, axis=0)
    coarse = missing_tissue(with_cavity(24), MM)[0]
    assert missing_tissue(fine, (1.0, 2.0, 2.0))[0] == pytest.approx(coarse, rel=0.1)


def test_without_structures_on_both_sides_nothing_can_be_told() -> None:
    labels = with_cavity(24)
    assert missing_tissue(np.where(np.isin(labels, (2, 41)), labels, 0), MM) == (0.0, None)
    assert missing_tissue(np.zeros((9, 9, 9), np.int32), MM) == (0.0, None)
