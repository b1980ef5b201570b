"""Cleaning: islands and holes by hand, laws on any label map."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from ddmseg.imaging.postprocess import HOLE_ML, ISLAND_ML, Cleaning, clean_labels


def ball(shape=(20, 20, 20), radius=8):
    offset = (np.indices(shape).T - (np.array(shape) - 1) / 2).T
    return np.where(np.linalg.norm(offset, axis=0) < radius, 2, 0).astype(np.int32)


def test_an_island_in_another_structure_becomes_that_structure():
    labels = ball()
    labels[2:5, 2:5, 2:5] = 17  # the structure itself, outside the ball
    labels[9, 9, 9] = 17
    cleaned, done = clean_labels(labels, voxel_ml=0.001)
    assert cleaned[9, 9, 9] == 2
    assert (cleaned == 17).sum() == 27
    assert done == Cleaning(islands={17: 1})


def test_an_island_in_the_air_becomes_air():
    labels = ball()
    labels[0, 0, 0] = 2
    cleaned, done = clean_labels(labels, voxel_ml=0.001)
    assert cleaned[0, 0, 0] == 0
    assert done.islands == {2: 1}
    assert done.changed == 1


def test_a_piece_that_is_large_beside_its_structure_stays_and_is_told():
    labels = np.zeros((20, 20, 20), np.int32)
    labels[1:5, 1:5, 1:5] = 17  # 64 voxels
    labels[10:12, 10:12, 10:12] = 17  # 8: more than a twentieth
    cleaned, done = clean_labels(labels, voxel_ml=0.001)
    assert np.array_equal(cleaned, labels)
    assert done == Cleaning(pieces={17: 2})


def test_a_piece_that_is_large_in_itself_stays():
    labels = ball((40, 40, 40), 18)
    labels[0:2, 0:2, 0:2] = 2
    big_voxels = ISLAND_ML / 8 * 1.01  # the piece has 8
    _, done = clean_labels(labels, voxel_ml=big_voxels)
    assert done == Cleaning(pieces={2: 2})
    _, done = clean_labels(labels, voxel_ml=0.99 * ISLAND_ML / 8)
    assert done == Cleaning(islands={2: 8})


def test_a_closed_hole_is_filled_and_an_open_or_large_one_is_not():
    labels = ball()
    labels[9, 9, 9] = 0
    cleaned, done = clean_labels(labels, voxel_ml=0.001)
    assert cleaned[9, 9, 9] == 2
    assert done == Cleaning(holes={2: 1})
    cleaned, done = clean_labels(labels, voxel_ml=1.01 * HOLE_ML)
    assert done == Cleaning(open_holes_ml=(0.505,))
    assert np.array_equal(cleaned, labels)
    labels[9, 9, :] = 0  # now open to the air
    cleaned, done = clean_labels(labels, voxel_ml=0.001)
    assert np.array_equal(cleaned, labels)


def test_open_holes_are_counted_largest_first():
    labels = ball((30, 30, 30), 13)
    labels[10:12, 14, 14] = 0
    labels[16:19, 14, 14] = 0
    labels[14, 20, 14] = 0  # 0.4 ml: filled
    cleaned, done = clean_labels(labels, voxel_ml=0.4)
    assert done == Cleaning(holes={2: 1}, open_holes_ml=(1.2, 0.8))
    assert (cleaned[10:19, 14, 14] == 0).sum() == 5


def test_what_was_only_looked_at_changed_nothing():
    _, done = clean_labels(ball(), voxel_ml=1)
    found = Cleaning({17: 3}, {2: 1}, {4: 2}, (0.9,)).not_applied()
    assert done.applied
    assert not found.applied
    assert found.changed == 0
    assert (found.pieces, found.open_holes_ml) == ({4: 2}, (0.9,))


def test_touching_by_a_corner_is_touching():
    labels = np.zeros((8, 8, 8), np.int32)
    labels[1:5, 1:5, 1:5] = 17
    labels[5, 5, 5] = 17
    assert clean_labels(labels, voxel_ml=0.001)[1] == Cleaning()


def test_scattered_structures_are_left_alone():
    labels = ball()
    labels[labels == 2] = 24
    labels[0, 0, 0] = 24
    assert clean_labels(labels, voxel_ml=0.001)[1].islands == {}
    labels[labels == 24] = 2
    assert clean_labels(labels, voxel_ml=0.001)[1].islands == {2: 1}


def test_the_input_is_not_changed_and_an_empty_map_stays_empty():
    labels = ball()
    labels[0, 0, 0] = 2
    before = labels.copy()
    clean_labels(labels, voxel_ml=0.001)
    assert np.array_equal(labels, before)
    empty = np.zeros((5, 6, 7), np.int32)
    cleaned, done = clean_labels(empty, voxel_ml=0.001)
    assert not cleaned.any()
    assert done == Cleaning()


maps = arrays(np.int32, (7, 6, 5), elements=st.sampled_from([0, 0, 2, 17, 24]))


@settings(max_examples=60, deadline=None)
@given(maps, st.sampled_from([0.0001, 0.01, 1.0]))
def test_laws(labels, voxel_ml):
    cleaned, done = clean_labels(labels, voxel_ml=voxel_ml)
    assert set(np.unique(cleaned)) <= set(np.unique(labels))  # nothing is made up
    for index in np.unique(labels[labels > 0]):
        before = ndimage.label(labels == index, np.ones((3, 3, 3)))[0]
        sizes = np.bincount(before.ravel())[1:]
        largest = before == 1 + sizes.argmax()
        assert (cleaned[largest] == index).all()  # the largest piece is never touched
    # A voxel can be moved and filled again, never more than that.
    assert (cleaned != labels).sum() <= done.changed
    if done.changed == 0:
        assert np.array_equal(cleaned, labels)
    assert all(volume_ml > HOLE_ML for volume_ml in done.open_holes_ml)
    closed = ndimage.binary_fill_holes(cleaned > 0) & (cleaned == 0)
    assert sum(done.open_holes_ml) == pytest.approx(closed.sum() * voxel_ml, abs=0.01)
    if labels.size * voxel_ml < HOLE_ML:
        assert np.array_equal(ndimage.binary_fill_holes(cleaned > 0), cleaned > 0)


@pytest.mark.parametrize("axis", [0, 1, 2])
@settings(max_examples=15, deadline=None)
@given(labels=maps)
def test_cleaning_counts_alike_from_every_side(axis, labels):
    here, there = (
        clean_labels(np.ascontiguousarray(one), voxel_ml=0.01)[1]
        for one in (labels, np.flip(labels, axis))
    )
    assert (here.islands, here.pieces) == (there.islands, there.pieces)


@pytest.mark.parametrize("value", [0, 2])
def test_a_map_of_nothing_or_of_one_piece_is_left_alone(value):
    labels = np.full((4, 4, 4), value, np.int32)
    cleaned, done = clean_labels(labels, voxel_ml=1.0)
    assert np.array_equal(cleaned, labels)
    assert done == Cleaning()
