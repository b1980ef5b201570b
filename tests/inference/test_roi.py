"""Finding the region of a structure in any orientation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ddmseg.imaging.volume import Volume
from ddmseg.inference.roi import REGION_MM, _Side, _traces, region_box

SHAPE = (120, 140, 110)


def head(affine: np.ndarray, shape: tuple[int, int, int] = SHAPE) -> Volume:
    return Volume(np.zeros(shape, np.float32), affine, "head", None)


def ball(shape: tuple[int, int, int], centre: tuple[int, int, int], radius: float) -> np.ndarray:
    places = np.stack(np.indices(shape), -1) - np.array(centre)
    return np.linalg.norm(places, axis=-1) <= radius


def test_the_region_has_the_size_of_the_training_crops() -> None:
    box = region_box(head(np.eye(4)), ball(SHAPE, (60, 70, 50), 8))
    assert box is not None
    assert [side.stop - side.start for side in box] == list(REGION_MM)
    middle = [(side.start + side.stop) / 2 for side in box]
    assert middle == pytest.approx([60, 70, 50], abs=1)


def test_front_to_back_is_longest_whatever_the_axis_order() -> None:
    affine = np.eye(4)[[1, 0, 2, 3]]  # i runs to the front, j to the right
    box = region_box(head(affine), ball(SHAPE, (60, 70, 50), 8))
    assert box is not None
    lengths = [side.stop - side.start for side in box]
    assert lengths == [REGION_MM[1], REGION_MM[0], REGION_MM[2]]


def test_a_large_structure_gets_a_margin() -> None:
    box = region_box(head(np.eye(4)), ball(SHAPE, (60, 70, 50), 25))
    assert box is not None
    assert box[0].stop - box[0].start >= 55


def test_stray_voxels_do_not_stretch_it() -> None:
    inside = ball(SHAPE, (60, 70, 50), 8)
    clean = region_box(head(np.eye(4)), inside)
    inside[2, 2, 2] = True
    assert region_box(head(np.eye(4)), inside) == clean


def test_it_stays_inside_the_scan() -> None:
    box = region_box(head(np.eye(4)), ball(SHAPE, (4, 136, 5), 7))
    assert box is not None
    for side, n in zip(box, SHAPE, strict=True):
        assert 0 <= side.start < side.stop <= n


def test_too_little_is_not_found() -> None:
    assert region_box(head(np.eye(4)), ball(SHAPE, (60, 70, 50), 3)) is None


def test_traces_of_both_sides_share_their_frames(make_segmentation) -> None:
    scan = head(np.eye(4), (8, 6, 5))
    part = make_segmentation()
    left = replace(part, step_labels=np.full((3, 6, 5, 2), 231, np.int32))
    left.step_labels[..., 0] = 0
    right = replace(part, step_labels=np.full((3, 6, 5, 3), 232, np.int32))
    rest = (slice(0, 6), slice(0, 5))
    sides = [_Side("left", (slice(0, 3), *rest), left), _Side("right", (slice(5, 8), *rest), right)]
    frames = _traces(scan, sides)
    assert set(frames) == {"step_labels"}  # neither kept its samples
    found = frames["step_labels"]
    assert found.shape == (8, 6, 5, 3)
    assert found[0, 0, 0].tolist() == [0, 231, 231]  # stays as its last step left it
    assert found[4, 0, 0].tolist() == [0, 0, 0]
    assert found[7, 0, 0].tolist() == [232, 232, 232]
