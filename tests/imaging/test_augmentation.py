"""Augmentation: drawn from the generator alone, image and labels moved as one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddmseg.imaging import augmentation
from ddmseg.imaging.augmentation import augment, centre, degraded, relight
from ddmseg.imaging.synthesis.artefacts import POOR, degrade

CLASSES = 3
SHAPE = (18, 22, 16)


def seed(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def example() -> tuple[torch.Tensor, torch.Tensor]:
    """Two boxes, brighter with the class."""
    labels = torch.zeros(SHAPE, dtype=torch.int64)
    labels[5:13, 4:11, 4:12] = 1
    labels[5:13, 11:18, 4:12] = 2
    return 0.1 + 0.4 * labels[None].float(), labels


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No movement but the mirror."""
    for name in ("ROTATION_DEG", "SCALING", "SHIFT_VOXELS", "WARP_VOXELS"):
        monkeypatch.setattr(augmentation, name, 0.0)
    return monkeypatch


# The whole


@pytest.mark.parametrize("patch", [(16, 16, 16), (24, 24, 24), (8, 24, 16)])
def test_shapes_kinds_and_classes(patch):
    for number in range(5):
        image, labels = augment(*example(), patch, CLASSES, seed(number))
        assert image.shape == (1, *patch)
        assert labels.shape == patch
        assert (image.dtype, labels.dtype) == (torch.float32, torch.int64)
        assert image.isfinite().all()
        assert 0 <= labels.min() <= labels.max() < CLASSES


def test_equal_generators_give_equal_examples_and_others_do_not():
    first, again, other = (augment(*example(), (16, 16, 16), CLASSES, seed(s)) for s in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_the_example_itself_is_left_alone():
    image, labels = example()
    augment(image, labels, (16, 16, 16), CLASSES, seed(0))
    assert torch.equal(image, example()[0])
    assert torch.equal(labels, example()[1])


@pytest.mark.parametrize("number", range(8))
def test_image_and_labels_move_together(monkeypatch, number):
    monkeypatch.setattr(augmentation, "relight", lambda image, generator: image)
    image, labels = augment(*example(), (24, 24, 24), CLASSES, seed(number))
    # Brightness is class by construction; only voxels cut by a boundary or the edge are mixed.
    assert (labels > 0).sum() > 200
    inside = image[0][labels == 1], image[0][labels == 2]
    assert inside[0].median().item() == pytest.approx(0.5, abs=0.02)
    assert inside[1].median().item() == pytest.approx(0.9, abs=0.02)


def test_every_contrast_is_moved_alike(monkeypatch):
    monkeypatch.setattr(augmentation, "relight", lambda image, generator: image)
    image, labels = example()
    moved, _ = augment(torch.cat([image, 2 * image]), labels, (16, 16, 16), CLASSES, seed(0))
    assert moved.shape[0] == 2
    torch.testing.assert_close(moved[1], 2 * moved[0])


def test_outside_the_example_there_is_background():
    image = torch.ones(1, 8, 8, 8)
    labels = torch.ones(8, 8, 8, dtype=torch.int64)
    _, moved = augment(image, labels, (32, 32, 32), 2, seed(0))
    assert not moved[0].any()
    assert moved.any()


# Movement


def test_without_movement_it_is_the_middle_or_its_mirror(still):
    still.setattr(augmentation, "relight", lambda image, generator: image)
    image, labels = example()
    seen = set()
    for number in range(8):
        moved = augment(image, labels, SHAPE, CLASSES, seed(number))
        for name, flip in (("same", ()), ("mirror", (0,))):
            if torch.equal(moved[1], labels.flip(flip)):
                torch.testing.assert_close(moved[0][0], image[0].flip(flip), atol=1e-5, rtol=0)
                seen.add(name)
    assert seen == {"same", "mirror"}


def test_without_movement_a_smaller_patch_is_the_middle(still):
    patch = (10, 12, 8)
    _, expected = centre(*example(), patch)
    found = [augment(*example(), patch, CLASSES, seed(s))[1] for s in range(4)]
    assert any(torch.equal(labels, expected) for labels in found)


def test_scaling_changes_the_size_within_its_limits(still):
    still.setattr(augmentation, "SCALING", 0.15)
    whole = (example()[1] > 0).sum().item()
    sizes = [
        (augment(*example(), (32, 32, 32), CLASSES, seed(s))[1] > 0).sum().item() / whole
        for s in range(12)
    ]
    assert 0.85**3 * 0.9 < min(sizes) < 0.95
    assert 1.05 < max(sizes) < 1.1 / 0.85**3


def test_rotation_keeps_the_volume(still):
    still.setattr(augmentation, "ROTATION_DEG", 15.0)
    image, labels = example()
    for number in range(5):
        turned = augment(image, labels, (32, 32, 32), CLASSES, seed(number))[1]
        assert (turned > 0).sum().item() == pytest.approx((labels > 0).sum().item(), rel=0.1)


@pytest.mark.parametrize("number", range(4))
def test_a_pose_without_scaling_keeps_lengths(still, number):
    still.setattr(augmentation, "ROTATION_DEG", 15.0)
    still.setattr(augmentation, "SHIFT_VOXELS", 3.0)
    matrix, shift = augmentation._pose(3, seed(number))
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(3), atol=1e-5, rtol=0)
    assert shift.abs().max() <= 3
    # an angle beyond the limit about each axis is not reached
    assert matrix.abs().diagonal().min() > 0.8


def test_bending_is_smooth_and_small():
    field = augmentation._warp((24, 24, 24), seed(1))
    assert field.shape == (24, 24, 24, 3)
    assert field.abs().max() > 0
    assert field.diff(dim=0).abs().max() < 0.7  # below 1 nothing folds over


# Light


@pytest.mark.parametrize("number", range(8))
def test_light_keeps_the_order_of_tissues(number):
    image, labels = example()
    lit = relight(image, seed(number))
    means = [lit[0][labels == k].mean().item() for k in range(CLASSES)]
    assert means[0] < means[1] < means[2]
    assert lit.shape == image.shape
    assert not torch.equal(lit, image)


def test_light_takes_an_empty_image_and_values_below_zero():
    for image in (torch.zeros(1, 8, 8, 8), torch.full((2, 8, 8, 8), -1.0)):
        for number in range(5):
            assert relight(image, seed(number)).isfinite().all()


# Poor acquisitions


def test_poor_images_come_as_often_as_asked_and_keep_what_is_not_a_scan():
    image = torch.cat([relight(example()[0], seed(0)), example()[1][None].float()])
    found = [degraded(image, 0.5, 1.0, seed(n)) for n in range(200)]
    changed = [not torch.equal(one[0], image[0]) for one in found]
    assert 0.4 < sum(changed) / len(changed) < 0.6
    assert all(torch.equal(one[1], image[1]) for one in found)
    assert all(one.shape == image.shape and one.isfinite().all() for one in found)


def test_without_poor_images_nothing_is_drawn():
    generator = seed(0)
    image = example()[0]
    assert degraded(image, 0.0, 1.0, generator) is image
    assert torch.equal(generator.get_state(), seed(0).get_state())


@pytest.mark.parametrize("kind", POOR)
def test_each_kind_of_poor_image_takes_its_own_from_a_scan(kind):
    image = relight(example()[0], seed(0))[0]
    poor = degrade(image, kind, seed(1), spacing_mm=(1.0, 1.0, 1.0))
    assert not torch.equal(image, poor)
    rough = [(x[1:] - x[:-1]).abs().mean() for x in (image, poor)]
    if kind != "motion":
        assert (rough[1] < rough[0]) == (kind in ("thick", "low"))


def test_a_slice_is_made_worse_as_a_volume_is():
    flat = relight(example()[0], seed(0))[..., 6]
    found = [degraded(flat, 1.0, 1.0, seed(n)) for n in range(20)]
    assert all(one.shape == flat.shape and one.isfinite().all() for one in found)
    assert sum(not torch.equal(one, flat) for one in found) >= 15  # thick slices may lie across


# Cutting and padding


@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    patch=st.tuples(*[st.integers(1, 9)] * 3),
)
def test_centre_cuts_or_pads_evenly(shape, patch):
    labels = torch.arange(1, 1 + shape[0] * shape[1] * shape[2]).reshape(shape)
    image = labels[None].float()
    cut_image, cut = centre(image, labels, patch)
    assert cut.shape == patch
    assert torch.equal(cut_image[0], cut.float())
    assert int((cut > 0).sum()) == min(shape[0], patch[0]) * min(shape[1], patch[1]) * min(
        shape[2], patch[2]
    )
    assert cut.dtype == torch.int64


@given(grow=st.tuples(*[st.integers(0, 3)] * 3))
def test_centre_undoes_its_own_even_padding(grow):
    image, labels = example()
    larger = tuple(n + 2 * g for n, g in zip(SHAPE, grow, strict=True))
    back = centre(*centre(image, labels, larger), SHAPE)
    assert torch.equal(back[0], image)
    assert torch.equal(back[1], labels)


# Patches of scans


def test_a_patch_lies_about_the_voxel_that_is_named(still):
    image, labels = example()
    for middle in ((9, 11, 8), (6, 6, 6), (12, 15, 9)):
        _, found = augment(image, labels, (4, 4, 4), CLASSES, seed(0), middle=middle)
        box = tuple(slice(at - 2, at + 2) for at in middle)
        # An even patch lies about the corner of four voxels; half a voxel is the interpolation's.
        at_corner = [m - 0.5 for m in middle]
        _, exact = augment(image, labels, (4, 4, 4), CLASSES, seed(0), middle=at_corner)
        assert torch.equal(exact, labels[box]) or torch.equal(exact, labels[box].flip(0))
        assert found.shape == exact.shape


def test_no_middle_is_the_middle():
    image, labels = example()
    middle = [(n - 1) / 2 for n in SHAPE]
    one = augment(image, labels, (16, 16, 16), CLASSES, seed(3))
    other = augment(image, labels, (16, 16, 16), CLASSES, seed(3), middle=middle)
    torch.testing.assert_close(one[0], other[0], rtol=0, atol=1e-4)
    assert (one[1] == other[1]).float().mean() > 0.999  # positions are rounded otherwise


def test_each_scan_is_re_lit_by_itself():
    image, labels = example()
    moved, _ = augment(image.repeat(3, 1, 1, 1), labels, (16,) * 3, CLASSES, seed(0), scans=2)
    assert not torch.allclose(moved[0], moved[1], atol=0.01)
    assert not torch.allclose(moved[0], moved[2], atol=0.01)
    assert 0 <= moved[2].min() <= moved[2].max() < 0.9001  # only moved: no noise, no gain


def test_sides_are_exchanged_in_the_mirror_alone(still):
    labels = torch.zeros(SHAPE, dtype=torch.int64)
    labels[:9], labels[9:] = 1, 2  # left and right
    partners = torch.tensor([0, 2, 1])
    told, kept = set(), set()
    for number in range(8):
        sided = augment(labels[None].float(), labels, SHAPE, 3, seed(number), mirrored=partners)[1]
        plain = augment(labels[None].float(), labels, SHAPE, 3, seed(number))[1]
        told.add(int(sided[0, 0, 0]))
        kept.add(int(plain[0, 0, 0]))
    assert told == {1}
    assert kept == {1, 2}
