"""Slices: the same for all 48 axis orders, the right way round, in the right proportions."""

from __future__ import annotations

import dataclasses
import io
import itertools

import numpy as np
import pytest

from ddmseg.imaging.volume import LabelMap, Volume
from ddmseg.outputs.report.figures import (
    LARGEST_SIDE,
    LEAST_LUMA,
    PLANES,
    Upright,
    colour_of,
    scale_top,
    to_steps,
)
from ddmseg.outputs.report.thumbnail import report_thumbnail
from ddmseg.quality.segmentation import Segmentation

AXIAL, CORONAL, SAGITTAL = PLANES
ORDERS = [
    (axes, signs)
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def rearranged(segmentation: Segmentation, axes: tuple, signs: tuple) -> Segmentation:
    """The same head, its voxels stored in another axis order and direction."""
    flip = tuple(slice(None, None, sign) for sign in signs)

    def turn(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array.transpose(axes)[flip])

    old = segmentation.scan
    shape = np.array(old.shape)[list(axes)]
    index = np.zeros((4, 4))
    index[3, 3] = 1
    for new, axis in enumerate(axes):
        index[axis, new] = signs[new]
        index[axis, 3] = 0 if signs[new] > 0 else shape[new] - 1
    affine = old.affine @ index
    return dataclasses.replace(
        segmentation,
        scan=Volume(turn(old.data), affine, old.name),
        labels=LabelMap(turn(segmentation.labels.data), affine, old.name),
        uncertainty=turn(segmentation.uncertainty),
        discrepancy=turn(segmentation.discrepancy),
    )


@pytest.mark.parametrize(("axes", "signs"), ORDERS)
def test_every_axis_order_gives_the_same_pictures(make_segmentation, axes, signs) -> None:
    plain = make_segmentation(shape=(12, 15, 9), spacing_mm=(8.0, 6.0, 9.0))
    turned = Upright.of(rearranged(plain, axes, signs))
    for plane in PLANES:
        for expected, found in zip(
            Upright.of(plain).slices(plane, 3), turned.slices(plane, 3), strict=True
        ):
            np.testing.assert_array_equal(found.labels, expected.labels)
            np.testing.assert_allclose(found.grey, expected.grey, atol=1)
            np.testing.assert_array_equal(found.discrepancy, expected.discrepancy)
            assert found.position_mm == pytest.approx(expected.position_mm)
            assert found.pixel_mm == pytest.approx(expected.pixel_mm)


def marked(make_segmentation, place: tuple[int, int, int]) -> Upright:
    """A head with one bright, labelled voxel; axes R, A, S."""
    plain = make_segmentation()
    labels = np.zeros_like(plain.labels.data)
    labels[2:22, 2:28, 2:18] = 2
    labels[place] = 53
    return Upright.of(
        dataclasses.replace(plain, labels=LabelMap(labels, plain.labels.affine, "scan"))
    )


@pytest.mark.parametrize(
    ("plane", "place", "half"),
    [
        (AXIAL, (20, 15, 10), "left"),
        (AXIAL, (4, 15, 10), "right"),
        (AXIAL, (12, 25, 10), "top"),
        (CORONAL, (20, 15, 10), "left"),
        (CORONAL, (12, 15, 16), "top"),
        (SAGITTAL, (12, 25, 10), "left"),
        (SAGITTAL, (12, 15, 3), "bottom"),
    ],
)
def test_right_is_on_the_left_and_the_face_looks_up_or_left(
    make_segmentation, plane, place, half
) -> None:
    upright = marked(make_segmentation, place)
    index = int(np.argwhere(upright.labels == 53)[0][plane.axis])
    picture = upright.cut(plane, index).labels
    row, column = np.argwhere(picture == 53)[0] / np.array(picture.shape)
    where = {"left": column < 0.4, "right": column > 0.6, "top": row < 0.4, "bottom": row > 0.6}
    assert where[half]


def test_marks_name_the_sides_of_the_picture() -> None:
    assert AXIAL.marks == CORONAL.marks == ("R", "L")
    assert SAGITTAL.marks == ("A", "P")


def test_thick_slices_keep_their_proportions(make_segmentation) -> None:
    upright = Upright.of(make_segmentation(shape=(40, 44, 10), spacing_mm=(2.0, 2.0, 8.0)))
    extent = np.array(upright.labels.shape) * (2.0, 2.0, 8.0)
    assert upright.slices(AXIAL, 1)[0].size_mm == pytest.approx((extent[0], extent[1]))
    assert upright.slices(CORONAL, 1)[0].size_mm == pytest.approx((extent[0], extent[2]))
    assert upright.slices(SAGITTAL, 1)[0].size_mm == pytest.approx((extent[1], extent[2]))


def test_positions_are_millimetres_of_the_scan(make_segmentation) -> None:
    upright = Upright.of(make_segmentation(shape=(21, 21, 21)))
    assert upright.slices(AXIAL, 1)[0].position_mm == pytest.approx(0.0)
    low, high = (cut.position_mm for cut in upright.slices(CORONAL, 2))
    assert low == pytest.approx(-high, abs=4.0)
    assert low < 0 < high


def test_slices_spread_over_the_labels_and_are_never_doubled(make_segmentation) -> None:
    upright = Upright.of(make_segmentation())
    cuts = upright.slices(AXIAL, 4)
    assert all((cut.labels != 0).any() for cut in cuts)
    halves = upright.labels.copy()
    halves[:, :, 4:-4] = 0
    apart = dataclasses.replace(upright, labels=halves).slices(AXIAL, 4)
    assert all((cut.labels != 0).any() for cut in apart), "the gap between them shows nothing"
    flat = np.zeros_like(upright.labels)
    flat[..., 5] = 2
    assert len(dataclasses.replace(upright, labels=flat).slices(AXIAL, 6)) == 1


def test_pictures_are_cut_to_the_labels_and_a_margin(make_segmentation) -> None:
    plain = make_segmentation(shape=(60, 60, 60), spacing_mm=(2.0, 2.0, 2.0))
    labels = np.zeros((60, 60, 60), dtype=np.int32)
    labels[30, 30, 30] = 17
    small = Upright.of(dataclasses.replace(plain, labels=LabelMap(labels, plain.scan.affine)))
    assert small.labels.shape == (15, 15, 15)  # one voxel and 14 mm on each side
    empty = Upright.of(dataclasses.replace(plain, labels=LabelMap(0 * labels, plain.scan.affine)))
    assert empty.labels.shape == (60, 60, 60)


def test_large_slices_are_averaged_down(make_segmentation) -> None:
    plain = make_segmentation(shape=(301, 400, 4), spacing_mm=(0.5, 0.5, 9.0))
    plain.labels.data[:] = 2
    upright = Upright.of(plain)
    cut = upright.slices(AXIAL, 1)[0]
    assert max(cut.grey.shape) <= LARGEST_SIDE
    assert cut.grey.shape == cut.labels.shape == cut.uncertainty.shape
    assert cut.pixel_mm == (1.0, 1.0)


def test_voxels_that_are_no_number_are_black(make_segmentation) -> None:
    plain = make_segmentation()
    plain.scan.data[:12] = np.nan
    cut = Upright.of(plain).slices(AXIAL, 1)[0]
    assert cut.grey[:, -3:].max() == 0
    assert cut.grey.max() > 150


@pytest.mark.parametrize("value", [0.0, 1000.0, -5.0])
def test_a_constant_scan_can_be_drawn(make_segmentation, value) -> None:
    plain = make_segmentation()
    plain.scan.data[:] = value
    assert Upright.of(plain).slices(AXIAL, 1)[0].grey.dtype == np.uint8


@pytest.mark.parametrize(
    ("values", "top"),
    [
        ([0.0, 0.0], 1.0),
        ([np.nan], 1.0),
        ([0.3], 0.5),
        ([0.5], 0.5),
        ([1.2, np.inf], 2.0),
        ([7.0], 10.0),
        ([0.0011], 0.002),
    ],
)
def test_scales_end_at_round_numbers(values, top) -> None:
    assert scale_top(np.array(values, dtype=np.float32)) == top


def test_steps_run_from_0_to_255_and_stop_there() -> None:
    values = np.array([np.nan, -1.0, 0.0, 1.0, 2.0, 9.0], dtype=np.float32)
    assert to_steps(values, 2.0).tolist() == [0, 0, 0, 128, 255, 255]


def test_colours_show_on_black_and_are_freesurfers_where_those_do() -> None:
    assert colour_of(17) == (220, 216, 20)  # FreeSurfer's hippocampus
    weights = np.array([0.2126, 0.7152, 0.0722])
    for index in (4, 10, 13, 43, 49, 987654):
        assert np.array(colour_of(index)) @ weights >= LEAST_LUMA - 1


def test_the_thumbnail_is_a_picture_of_the_asked_height(make_segmentation) -> None:
    image = pytest.importorskip("PIL.Image", reason="reading PNG back needs Pillow")
    segmentation = make_segmentation(shape=(48, 60, 40), spacing_mm=(3.0, 3.0, 4.0))
    png = report_thumbnail(segmentation, height=120)
    assert png == report_thumbnail(segmentation, height=120)
    with image.open(io.BytesIO(png)) as opened:
        picture = np.asarray(opened.convert("RGB")).astype(int)
    assert abs(picture.shape[0] - 136) <= 3
    assert picture.shape[1] > 300
    # outlines are in colour: some pixels are far from grey
    assert (picture.max(axis=2) - picture.min(axis=2)).max() > 100
