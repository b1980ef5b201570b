"""The way to the model grid and back: right to sub-voxel precision in every orientation."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddmseg.errors import ScanError, SettingsError
from ddmseg.imaging.grid import Grid
from ddmseg.imaging.nifti import read_label_map, read_volume
from ddmseg.imaging.preprocess import Prepared, prepare
from ddmseg.imaging.volume import Volume

CENTRE_MM = np.array([4.3, -11.7, 9.1])
RADII_MM = np.array([34.0, 42.0, 30.0])

ORIENTATIONS = [
    (order, flips)
    for order in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]
SPACINGS = [(0.94, 1.5, 0.94), (1.0, 1.0, 5.0), (2.0, 2.0, 2.0), (3.1, 0.8, 1.2)]


def rotation(degrees: float, axis: tuple[float, float, float] = (1.0, 2.0, 0.5)) -> np.ndarray:
    """Source: Rodrigues' formula."""
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def scan_grid(
    spacing: tuple[float, ...] = (2.0, 2.0, 2.0),
    order: tuple[int, ...] = (0, 1, 2),
    flips: tuple[int, ...] = (1, 1, 1),
    degrees: float = 0.0,
) -> Grid:
    """A box of about 120 mm around the origin, seen along other axes."""
    directions = rotation(degrees)[:, list(order)] * np.array(flips)
    edges = np.array(spacing)[list(order)]
    shape = tuple(int(np.ceil(n / s)) for n, s in zip((120 + 4 * np.arange(3)), edges, strict=True))
    affine = np.eye(4)
    affine[:3, :3] = directions * edges
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2) + [1.3, -2.1, 0.4]
    return Grid(shape, affine)


def inside_ellipsoid(grid: Grid, softness_mm: float = 1.0) -> np.ndarray:
    """About 1 inside, 0 outside, with a soft edge in mm."""
    places = grid.world(np.stack(np.indices(grid.shape), -1).astype(float))
    radius = np.linalg.norm((places - CENTRE_MM) / RADII_MM, axis=-1)
    return 1 / (1 + np.exp((radius - 1) * RADII_MM.mean() / softness_mm))


def volume_on(grid: Grid) -> Volume:
    texture = 5 * np.sin(np.indices(grid.shape).sum(0))
    data = 100 * inside_ellipsoid(grid) + texture * inside_ellipsoid(grid)
    return Volume(data.astype(np.float32), grid.affine, "scan")


def centroid(weights: np.ndarray, grid: Grid) -> np.ndarray:
    places = grid.world(np.stack(np.indices(grid.shape), -1).astype(float))
    return (places * weights[..., None]).sum((0, 1, 2)) / weights.sum()


def two_classes(grid: Grid) -> torch.Tensor:
    inside = torch.from_numpy(inside_ellipsoid(grid)).float()
    return torch.stack([1 - inside, inside])


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def assert_truthful(prepared: Prepared, scan: Grid, spacing_mm: float) -> None:
    """Image, labels and maps all lie where the ellipsoid truly is."""
    assert prepared.grid.orientation == "RAS"
    assert prepared.grid.spacing_mm == pytest.approx((spacing_mm,) * 3, rel=1e-3)
    assert all(n % 16 == 0 for n in prepared.grid.shape)
    voxel = max(spacing_mm, *scan.spacing_mm)
    there = centroid(prepared.image, prepared.grid)
    assert np.abs(there - CENTRE_MM).max() < 0.1 * voxel

    # what a perfect network would say on the model grid comes back as the truth
    labels = prepared.labels_to_input(two_classes(prepared.grid), [0, 17])
    truth = inside_ellipsoid(scan) > 0.5
    assert labels.shape == scan.shape
    assert set(np.unique(labels)) == {0, 17}
    assert dice(labels == 17, truth) > 0.985
    assert np.abs(centroid(labels == 17, scan) - centroid(truth, scan)).max() < 0.1 * voxel

    back = prepared.map_to_input(inside_ellipsoid(prepared.grid).astype(np.float32))
    assert back.shape == scan.shape
    assert np.abs(centroid(back, scan) - CENTRE_MM).max() < 0.1 * voxel

    onto = prepared.labels_from_input(np.where(truth, 17, 0))
    assert onto.shape == prepared.grid.shape
    assert np.abs(centroid(onto == 17, prepared.grid) - CENTRE_MM).max() < 0.15 * voxel


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS[::5])
def test_all_orientations(order: tuple[int, ...], flips: tuple[int, ...]) -> None:
    grid = scan_grid((2.0, 3.0, 2.5), order, flips)
    assert_truthful(prepare(volume_on(grid), spacing_mm=3.0), grid, 3.0)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("spacing_mm", [2.0, 3.3])
def test_anisotropic_spacing(spacing: tuple[float, ...], spacing_mm: float) -> None:
    grid = scan_grid(spacing, (1, 0, 2), (-1, 1, -1))
    assert_truthful(prepare(volume_on(grid), spacing_mm=spacing_mm), grid, spacing_mm)


@pytest.mark.parametrize("degrees", [7.0, 20.0, -35.0])
@pytest.mark.parametrize("crop", [True, False])
def test_oblique_scans(degrees: float, crop: bool) -> None:
    grid = scan_grid((1.5, 2.0, 3.0), (2, 0, 1), (1, -1, 1), degrees)
    prepared = prepare(volume_on(grid), spacing_mm=2.5, crop_to_head=crop)
    assert_truthful(prepared, grid, 2.5)


def test_orientation_does_not_change_the_image() -> None:
    """The same voxels, stored in another order, give the same image in the same place."""
    scan = volume_on(scan_grid((2.0, 2.5, 3.0)))
    plain = prepare(scan, spacing_mm=3.0)
    for order, flips in ORIENTATIONS[::7]:
        slices = tuple(slice(None, None, f) for f in flips)
        data = scan.data.transpose(order)[slices]
        matrix = np.zeros((4, 4))
        matrix[3, 3] = 1
        for new, (old, flip) in enumerate(zip(order, flips, strict=True)):
            matrix[old, new] = flip
            matrix[old, 3] = 0 if flip > 0 else scan.shape[old] - 1
        other = prepare(Volume(data, scan.affine @ matrix), spacing_mm=3.0)
        assert other.grid.same_as(plain.grid)
        assert np.allclose(other.image, plain.image, atol=1e-5)


@settings(max_examples=15)
@given(
    st.tuples(*[st.integers(5, 40)] * 3),
    st.tuples(*[st.floats(0.5, 6.0)] * 3),
    st.sampled_from(ORIENTATIONS),
    st.floats(0.8, 5.0),
    st.sampled_from([1, 8, 16]),
    st.booleans(),
)
def test_labels_always_return_on_the_input_grid(
    shape: Any, spacing: Any, orientation: Any, spacing_mm: float, multiple: int, crop: bool
) -> None:
    order, flips = orientation
    affine = np.eye(4)
    affine[:3, :3] = np.diag(spacing)[:, order] * flips
    data = np.random.default_rng(0).random(shape).astype(np.float32)
    scan = Volume(data, affine)
    prepared = prepare(scan, spacing_mm=spacing_mm, multiple=multiple, crop_to_head=crop)
    assert prepared.input_grid.same_as(Grid(scan.shape, affine))
    assert all(n % multiple == 0 for n in prepared.grid.shape)
    assert prepared.image.dtype == np.float32
    assert 0 <= prepared.image.min() <= prepared.image.max() <= 1.5
    probabilities = torch.softmax(torch.randn(3, *prepared.grid.shape), 0)
    assert prepared.labels_to_input(probabilities, [0, 4, 9]).shape == shape
    assert prepared.probabilities_to_input(probabilities).shape == (*shape, 3)
    # where the index map says a model voxel is, there the affine puts it too
    corner = np.array(prepared.grid.shape, float) - 1
    there = prepared.to_input.matrix @ np.append(corner, 1)
    assert np.allclose(prepared.grid.world(corner), prepared.input_grid.world(there[:3]), atol=1e-6)


def test_equal_spacing_round_trip_is_exact() -> None:
    scan = volume_on(scan_grid())
    prepared = prepare(scan, spacing_mm=2.0, crop_to_head=False)
    truth = np.random.default_rng(0).integers(0, 4, scan.shape)
    onto = prepared.labels_from_input(truth)
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(onto), 4).permute(3, 0, 1, 2)
    assert np.array_equal(prepared.labels_to_input(one_hot.float(), [0, 1, 2, 3]), truth)
    scale = next(step for step in prepared.describe() if step["step"] == "normalise")
    low, width = scale["low"], scale["high"] - scale["low"]
    back = prepared.map_to_input(prepared.image * width + low)
    kept = (scan.data > low) & (scan.data < low + 1.5 * width)
    assert np.allclose(back[kept], scan.data[kept], atol=1e-3)


def test_class_indices_come_back_as_ids_where_they_were() -> None:
    scan = volume_on(scan_grid())
    prepared = prepare(scan, spacing_mm=2.0, crop_to_head=False)
    truth = np.random.default_rng(0).integers(0, 4, scan.shape)
    back = prepared.classes_to_input(prepared.labels_from_input(truth), [0, 4, 9, 17])
    assert np.array_equal(back, np.array([0, 4, 9, 17])[truth])
    with pytest.raises(ScanError, match="the model grid has"):
        prepared.classes_to_input(truth[1:], [0, 4, 9, 17])


def test_labels_agree_with_full_probabilities() -> None:
    scan = volume_on(scan_grid((1.5, 2.0, 2.5)))
    prepared = prepare(scan, spacing_mm=3.0)
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.softmax(3 * torch.randn(5, *prepared.grid.shape, generator=generator), 0)
    full = prepared.probabilities_to_input(probabilities)
    assert np.allclose(full.sum(-1), 1, atol=1e-5)
    ordered = np.sort(full, -1)
    clear = ordered[..., -1] - ordered[..., -2] > 1e-5
    labels = prepared.labels_to_input(probabilities, [0, 10, 20, 30, 40])
    assert np.array_equal(labels[clear], 10 * full.argmax(-1)[clear])


def test_outside_the_model_grid_is_background() -> None:
    grid = scan_grid((2.0, 2.0, 2.0))
    prepared = prepare(volume_on(grid), spacing_mm=2.0, multiple=1)
    assert prepared.grid.shape < grid.shape
    everywhere = torch.zeros(2, *prepared.grid.shape)
    everywhere[1] = 1
    labels = prepared.labels_to_input(everywhere, [0, 3])
    assert (labels == 3).sum() == np.prod(prepared.grid.shape)
    assert (prepared.map_to_input(np.ones(prepared.grid.shape), fill=-2.0) == -2).any()
    assert (prepared.probabilities_to_input(everywhere)[labels == 0] == [1, 0]).all()


def test_padding_is_zero_and_evenly_spread() -> None:
    grid = scan_grid((2.0, 2.0, 2.0))
    tight = prepare(volume_on(grid), spacing_mm=2.0, multiple=1)
    padded = prepare(volume_on(grid), spacing_mm=2.0, multiple=32)
    extra = np.array(padded.grid.shape) - np.array(tight.grid.shape)
    start = extra // 2
    inner = tuple(slice(s, s + n) for s, n in zip(start, tight.grid.shape, strict=True))
    assert np.array_equal(padded.image[inner], tight.image)
    assert padded.image.sum() == pytest.approx(tight.image.sum(), rel=1e-5)


def test_steps_are_plain_and_complete() -> None:
    prepared = prepare(volume_on(scan_grid()), spacing_mm=2.5)
    described = json.loads(json.dumps(prepared.describe()))
    assert [step["step"] for step in described] == [
        "reorient", "crop", "resample", "normalise", "pad",
    ]  # fmt: skip
    assert described[0]["axes"] == [0, 1, 2]
    assert described[-1]["shape"] == list(prepared.grid.shape)
    again = prepare(volume_on(scan_grid()), spacing_mm=2.5, crop_to_head=False)
    assert "crop" not in [step["step"] for step in again.describe()]


def test_scan_is_left_alone_and_result_repeats() -> None:
    scan = volume_on(scan_grid())
    before = scan.data.copy()
    one, two = prepare(scan, spacing_mm=2.0), prepare(scan, spacing_mm=2.0)
    assert np.array_equal(scan.data, before)
    assert np.array_equal(one.image, two.image)


# refusals


@pytest.mark.parametrize("spacing_mm", [0.0, -1.0, 0.05, 25.0, float("nan")])
def test_spacing_out_of_range(spacing_mm: float) -> None:
    with pytest.raises(SettingsError, match=r"spacing_mm: got .*; it must be between 0.1 and 20"):
        prepare(volume_on(scan_grid()), spacing_mm=spacing_mm)


def test_multiple_out_of_range() -> None:
    with pytest.raises(SettingsError, match="multiple: got 0; it must be 1 or above"):
        prepare(volume_on(scan_grid()), spacing_mm=2.0, multiple=0)


def test_model_grid_too_large() -> None:
    with pytest.raises(ScanError, match=r"scan: 0.1 mm voxels would make .* choose a larger"):
        prepare(volume_on(scan_grid()), spacing_mm=0.1, crop_to_head=False)


def test_no_contrast() -> None:
    with pytest.raises(ScanError, match="scan: the image has no contrast"):
        prepare(Volume(np.ones((8, 8, 8), np.float32), np.eye(4), "scan"), spacing_mm=1.0)


def test_results_of_another_grid() -> None:
    prepared = prepare(volume_on(scan_grid()), spacing_mm=3.0)
    with pytest.raises(ScanError, match=r"shape \(4, 4, 4\) came; the model grid has"):
        prepared.labels_to_input(torch.zeros(2, 4, 4, 4), [0, 1])
    with pytest.raises(ScanError, match="2 classes came with 3 label ids"):
        prepared.labels_to_input(torch.zeros(2, *prepared.grid.shape), [0, 1, 2])
    with pytest.raises(ScanError, match="the model grid has"):
        prepared.map_to_input(np.zeros((4, 4, 4), np.float32))
    with pytest.raises(ScanError, match=r"label map of shape \(4, 4, 4\); the scan has"):
        prepared.labels_from_input(np.zeros((4, 4, 4), int))


# real data


def test_real_labels_survive_the_round_trip(data_folder: Path) -> None:
    image, labels = (
        data_folder / "ibsr18" / name for name in ("IBSR_08.nii.gz", "IBSR_08_seg.nii.gz")
    )
    if not image.exists():
        pytest.skip("real data: the folder has no ibsr18/IBSR_08.nii.gz")
    scan, truth = read_volume(image), read_label_map(labels)
    prepared = prepare(scan, spacing_mm=1.0)
    onto = torch.from_numpy(prepared.labels_from_input(truth.data).astype(np.int64))
    one_hot = torch.nn.functional.one_hot(onto, 4).permute(3, 0, 1, 2).float()
    back = prepared.labels_to_input(one_hot, [0, 1, 2, 3])
    assert back.shape == truth.shape
    for label in (1, 2, 3):
        assert dice(back == label, truth.data == label) > 0.93
