"""Corruptions: wrong in the way they promise, within the classes, from the generator alone."""

from __future__ import annotations

import pytest
import torch

from ddmseg.training.corruption import (
    CORRUPTIONS,
    another_subject,
    blob,
    corrupt,
    dilate,
    erode,
    shift,
    swap_classes,
)

CLASSES = 4


def seed(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def masks(dims: int, *, items: int = 2) -> torch.Tensor:
    """A box of classes 1, 2 and 3 side by side; items differ by where it is."""
    labels = torch.zeros(items, *(20,) * dims, dtype=torch.int64)
    for item in range(items):
        for k in (1, 2, 3):
            low = 4 * k - 1 + item
            labels[(item, slice(low, low + 4), *[slice(4, 14)] * (dims - 1))] = k
    return labels


NAMED = pytest.mark.parametrize("name", list(CORRUPTIONS))


@NAMED
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("items", [1, 2])
def test_each_changes_something_and_keeps_kind_and_classes(name, dims, items):
    labels = masks(dims, items=items)
    before = labels.clone()
    changed = 0
    for number in range(12):
        wrong = CORRUPTIONS[name](labels, CLASSES, seed(number))
        assert wrong.shape == labels.shape
        assert wrong.dtype == labels.dtype
        assert 0 <= wrong.min() <= wrong.max() < CLASSES
        changed += not torch.equal(wrong, labels)
    assert changed >= 10  # a draw may by chance leave things as they are
    assert torch.equal(labels, before)


@NAMED
def test_each_is_fixed_by_its_generator(name):
    runs = [[CORRUPTIONS[name](masks(3), CLASSES, seed(s)) for s in range(6)] for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    if name != "another_subject":  # which draws nothing in a batch
        assert any(not torch.equal(runs[0][0], other) for other in runs[0][1:])


@NAMED
def test_each_takes_a_mask_without_foreground(name):
    empty = torch.zeros(1, 8, 8, 8, dtype=torch.int64)
    for number in range(6):
        wrong = CORRUPTIONS[name](empty, CLASSES, seed(number))
        assert 0 <= wrong.min() <= wrong.max() < CLASSES
        if name != "blob":
            assert not wrong.any()


@NAMED
def test_each_takes_a_mask_that_is_all_one_class(name):
    full = torch.full((1, 8, 8), 2)
    wrong = CORRUPTIONS[name](full, CLASSES, seed(0))
    assert wrong.shape == full.shape


def test_corrupt_draws_from_all_of_them():
    labels = masks(2)
    results = {corrupt(labels, CLASSES, seed(s)).numpy().tobytes() for s in range(40)}
    assert len(results) > 20
    assert torch.equal(corrupt(labels, CLASSES, seed(3)), corrupt(labels, CLASSES, seed(3)))


def test_corrupt_uses_one_or_two(monkeypatch):
    calls = []

    def spy(labels, classes, generator):
        calls.append(1)
        return labels

    monkeypatch.setattr("ddmseg.training.corruption.CORRUPTIONS", {"spy": spy})
    counts = set()
    for number in range(20):
        calls.clear()
        corrupt(masks(2), CLASSES, seed(number))
        counts.add(len(calls))
    assert counts == {1, 2}


# What each one promises


def test_shift_moves_all_by_at_most_four():
    labels = masks(3, items=1)
    for number in range(10):
        moved = shift(labels, CLASSES, seed(number))
        assert torch.equal(moved.flatten().bincount(), labels.flatten().bincount())
        start = [int(axis.min()) for axis in (moved[0] == 1).nonzero(as_tuple=True)]
        before = [int(axis.min()) for axis in (labels[0] == 1).nonzero(as_tuple=True)]
        assert all(abs(a - b) <= 4 for a, b in zip(start, before, strict=True))


def test_another_subject_is_the_next_item():
    labels = masks(3)
    other = another_subject(labels, CLASSES, seed(0))
    assert torch.equal(other[0], labels[1])
    assert torch.equal(other[1], labels[0])


def test_another_subject_alone_is_mirrored_and_moved():
    labels = masks(3, items=1)
    other = another_subject(labels, CLASSES, seed(0))
    assert torch.equal(other.flatten().bincount(), labels.flatten().bincount())
    assert not torch.equal(other, labels)


def test_swapping_exchanges_two_classes():
    labels = masks(3)
    for number in range(10):
        swapped = swap_classes(labels, CLASSES, seed(number))
        moved = torch.unique(torch.stack([labels, swapped])[:, labels != swapped], dim=1)
        a, b = moved[0].tolist()
        assert moved.tolist() == [[a, b], [b, a]]
        again = swapped.clone()
        again[swapped == a], again[swapped == b] = b, a
        assert torch.equal(again, labels)


@pytest.mark.parametrize("dims", [2, 3])
def test_dilation_grows_one_class_by_one_or_two_voxels(dims):
    labels = masks(dims, items=1)
    sizes = set()
    for number in range(12):
        grown = dilate(labels, CLASSES, seed(number))
        (new,) = torch.unique(grown[grown != labels]).tolist()
        assert new > 0
        assert (grown[labels == new] == new).all()
        before, after = ((m[0] == new).nonzero()[:, 0] for m in (labels, grown))
        sizes.add(int(before.min() - after.min()))
    assert sizes == {1, 2}


@pytest.mark.parametrize("dims", [2, 3])
def test_erosion_turns_the_rim_into_background(dims):
    labels = masks(dims, items=1)
    for number in range(8):
        eroded = erode(labels, CLASSES, seed(number))
        lost = eroded != labels
        assert lost.any()
        assert not eroded[lost].any()
        assert (labels[lost] > 0).all()


def test_a_blob_is_a_ball_of_one_class():
    labels = torch.full((1, 30, 30, 30), 1)
    seen = set()
    for number in range(20):
        changed = blob(labels, CLASSES, seed(number))
        classes = torch.unique(changed[changed != 1]).tolist()
        assert len(classes) <= 1
        seen |= set(classes)
        where = (changed[0] != 1).nonzero()
        if len(where):
            assert (where.amax(0) - where.amin(0)).max() <= 20
    assert seen == {0, 2, 3}
