"""Metrics against hand-computed masks, against other packages, and their laws."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.ndimage import gaussian_filter

from ddmseg.errors import ScanError, SettingsError
from ddmseg.maths.metrics import (
    dice,
    evaluate_labels,
    surface_distances,
    volume_similarity,
)

SPACING = (0.9, 1.5, 2.0)


def hausdorff(A, B, *, spacing_mm) -> float:
    return surface_distances(A, B, spacing_mm=spacing_mm).hausdorff_mm


def hd95(A, B, *, spacing_mm) -> float:
    return surface_distances(A, B, spacing_mm=spacing_mm).hd95_mm


def mean_surface_distance(A, B, *, spacing_mm) -> float:
    return surface_distances(A, B, spacing_mm=spacing_mm).mean_mm


def surface_dice(A, B, *, spacing_mm, tolerance_mm) -> float:
    return surface_distances(A, B, spacing_mm=spacing_mm).surface_dice(tolerance_mm)


def box(*corners: tuple[int, int], shape=(12, 12, 12)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(*c) for c in corners)] = True
    return mask


def blob(seed: int, shape=(20, 18, 16), mixed_with: int | None = None) -> np.ndarray:
    """A smooth random shape; mixed with another seed, one that nearly agrees with it."""
    noise = np.random.default_rng(seed).normal(size=shape)
    if mixed_with is not None:
        noise += 0.4 * np.random.default_rng(mixed_with).normal(size=shape)
    return gaussian_filter(noise, 2.5) > 0.03


# By hand


def test_half_overlapping_boxes():
    A, B = box((2, 6), (2, 6), (2, 6)), box((4, 8), (2, 6), (2, 6))
    assert dice(A, B) == pytest.approx(0.5)
    assert volume_similarity(A, B) == 1.0
    assert hausdorff(A, B, spacing_mm=(1, 1, 1)) == 2.0
    assert hausdorff(A, B, spacing_mm=(0.5, 1, 1)) == 1.0


def test_two_points_at_a_known_distance():
    A, B = box((1, 2), (1, 2), (1, 2)), box((4, 5), (1, 2), (5, 6))
    # 3 voxels of 1 mm and 4 voxels of 2 mm: sqrt(9 + 64)
    for metric in (hausdorff, hd95, mean_surface_distance):
        assert metric(A, B, spacing_mm=(1, 1, 2)) == pytest.approx(math.sqrt(73))
    assert dice(A, B) == 0.0


def test_one_stray_voxel_moves_hausdorff_but_not_hd95():
    A = box((2, 8), (2, 8), (2, 8))
    B = A.copy()
    B[11, 2, 2] = True  # 4 mm off the corner at (7, 2, 2); 1 of 153 surface voxels
    assert hausdorff(A, B, spacing_mm=(1, 1, 1)) == 4.0
    assert hd95(A, B, spacing_mm=(1, 1, 1)) == 0.0


def test_volume_similarity_ignores_place():
    A, B = box((0, 2), (0, 2), (0, 2)), box((6, 8), (6, 8), (6, 9))  # 8 and 12 voxels
    assert volume_similarity(A, B) == pytest.approx(1 - 4 / 20)
    assert dice(A, B) == 0.0


def test_surface_dice_counts_surface_voxels_within_the_tolerance():
    A, B = np.zeros((1, 12), bool), np.zeros((1, 12), bool)
    A[0, 2:6], B[0, 3:8] = True, True  # a row one voxel thick: all of it is surface
    # from A: 1 0 0 0 mm; from B: 0 0 0 1 2 mm
    expected = {0.0: 6 / 9, 0.9: 6 / 9, 1.0: 8 / 9, 2.0: 1.0}
    for tolerance_mm, share in expected.items():
        found = surface_dice(A, B, spacing_mm=(1, 1), tolerance_mm=tolerance_mm)
        assert found == pytest.approx(share)
    assert mean_surface_distance(A, B, spacing_mm=(1, 1)) == pytest.approx(4 / 9)


def test_a_tolerance_equal_to_a_distance_counts_despite_rounding():
    A, B = box((1, 2), (1, 2), (1, 2)), box((4, 5), (1, 2), (1, 2))
    assert surface_dice(A, B, spacing_mm=(0.1, 1, 1), tolerance_mm=0.3) == 1.0


def test_the_inside_of_a_mask_is_no_surface():
    distances = surface_distances(
        box((2, 7), (2, 7), (2, 7)), blob(0)[:12, :12, :12], spacing_mm=SPACING
    )
    assert len(distances.to_truth) == 5**3 - 3**3


def test_voxels_at_the_edge_of_the_image_are_surface():
    full = np.ones((4, 4, 4), bool)
    distances = surface_distances(full, full, spacing_mm=(1, 1, 1))
    assert len(distances.to_truth) == 4**3 - 2**3
    assert distances.hausdorff_mm == 0.0


# Empty masks


EMPTY, SOME = np.zeros((12, 12, 12), bool), box((2, 4), (2, 4), (2, 4))


def all_metrics(A, B, tolerance_mm: float = 1) -> dict[str, float]:
    return {
        "dice": dice(A, B),
        "volume_similarity": volume_similarity(A, B),
        "surface_dice": surface_dice(A, B, spacing_mm=SPACING, tolerance_mm=tolerance_mm),
        "hausdorff": hausdorff(A, B, spacing_mm=SPACING),
        "hd95": hd95(A, B, spacing_mm=SPACING),
        "mean": mean_surface_distance(A, B, spacing_mm=SPACING),
    }


@pytest.mark.parametrize(("A", "B"), [(EMPTY, SOME), (SOME, EMPTY)])
def test_one_empty_mask_is_all_wrong_and_infinitely_far(A, B):
    assert list(all_metrics(A, B).values()) == [0, 0, 0, math.inf, math.inf, math.inf]


def test_two_empty_masks_say_nothing():
    assert all(math.isnan(value) for value in all_metrics(EMPTY, EMPTY).values())


# Laws


MASKS = arrays.arrays(bool, (4, 5, 3)).filter(np.any)


@settings(max_examples=40, deadline=None)
@given(MASKS, MASKS)
def test_every_metric_is_symmetric(A, B):
    assert all_metrics(A, B) == pytest.approx(all_metrics(B, A))


@settings(max_examples=30, deadline=None)
@given(MASKS)
def test_a_mask_agrees_with_itself(A):
    assert list(all_metrics(A, A).values()) == [1, 1, 1, 0, 0, 0]


@settings(max_examples=40, deadline=None)
@given(MASKS, MASKS, st.tuples(*[st.integers(0, 5)] * 3))
def test_moving_both_masks_changes_nothing(A, B, offset):
    def place(mask, start):
        out = np.zeros((12, 12, 12), bool)
        out[tuple(slice(s, s + n) for s, n in zip(start, mask.shape, strict=True))] = mask
        return out

    here, there = ([place(m, start) for m in (A, B)] for start in ((0, 0, 0), offset))
    assert all_metrics(*here) == pytest.approx(all_metrics(*there))


@settings(max_examples=40, deadline=None)
@given(MASKS, MASKS, st.floats(0.1, 10))
def test_distances_grow_with_the_spacing_and_overlaps_do_not(A, B, factor):
    larger = tuple(s * factor for s in SPACING)
    for metric in (hausdorff, hd95, mean_surface_distance):
        scaled = factor * metric(A, B, spacing_mm=SPACING)
        assert metric(A, B, spacing_mm=larger) == pytest.approx(scaled)


@settings(max_examples=40, deadline=None)
@given(MASKS, MASKS)
def test_ranges_and_order(A, B):
    found = all_metrics(A, B)
    for name in ("dice", "volume_similarity", "surface_dice"):
        assert 0 <= found[name] <= 1
    assert found["dice"] <= found["volume_similarity"] + 1e-12
    assert 0 <= found["hd95"] <= found["hausdorff"]
    assert found["mean"] <= found["hausdorff"] + 1e-12


# References


def speckle(seed: int) -> np.ndarray:
    """Voxels here and there: all surface, in pieces, up to the border."""
    return np.random.default_rng(seed).random((9, 8, 7)) < 0.2


DOT, WALL = box((3, 4), (5, 6), (2, 3)), box((0, 12), (6, 7), (0, 12))
LINE, EVERYTHING = box((4, 5), (0, 12), (7, 8)), box((0, 12), (0, 12), (0, 12))
PAIRS = {
    **{f"blobs {seed}": (blob(seed), blob(seed + 100)) for seed in range(4)},
    **{f"speckles {seed}": (speckle(seed), speckle(seed + 100)) for seed in range(4)},
    "equal": (blob(0), blob(0)),
    "equal dots": (DOT, DOT),
    "two dots": (DOT, box((9, 10), (1, 2), (8, 9))),
    "a dot and a wall": (DOT, WALL),
    "a wall and a line": (WALL, LINE),
    "a dot in everything": (DOT, EVERYTHING),
    "everything": (EVERYTHING, EVERYTHING),
    "a hole": (EVERYTHING & ~DOT, EVERYTHING),
    "apart": (box((0, 3), (0, 3), (0, 3)), box((9, 12), (9, 12), (9, 12))),
}
NOTHING = np.zeros((12, 12, 12), bool)
SAME = {"rel": 1e-6, "abs": 1e-6}  # MONAI computes distances with 24 bits


def monai_metrics(A: np.ndarray, B: np.ndarray) -> dict[str, float]:
    """The figures of an independent package."""
    monai = pytest.importorskip("monai.metrics")
    pair = [torch.from_numpy(mask)[None, None] for mask in (A, B)]
    of_surfaces = {"include_background": True, "spacing": SPACING}
    counts = monai.get_confusion_matrix(*(mask.float() for mask in pair))
    hit, more, _, fewer = counts[0, 0].tolist()
    figures = {
        "dice": monai.compute_dice(*pair),
        "hausdorff": monai.compute_hausdorff_distance(*pair, **of_surfaces),
        "hd95": monai.compute_hausdorff_distance(*pair, percentile=95, **of_surfaces),
        "mean": monai.compute_average_surface_distance(*pair, symmetric=True, **of_surfaces),
        "surface_dice": monai.compute_surface_dice(*pair, class_thresholds=[1.6], **of_surfaces),
    }
    total = 2 * hit + more + fewer
    overlap = {"volume_similarity": 1 - abs(fewer - more) / total if total else math.nan}
    return overlap | {name: figure.item() for name, figure in figures.items()}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.filterwarnings("ignore")  # of the reference, not ours
def test_monai_gives_the_same(name):
    A, B = PAIRS[name]
    theirs = monai_metrics(A, B)
    ours = all_metrics(A, B, tolerance_mm=1.6)
    assert ours == {name: pytest.approx(theirs[name], **SAME) for name in ours}


@pytest.mark.parametrize("pair", [(NOTHING, NOTHING), (NOTHING, DOT), (WALL, NOTHING)])
@pytest.mark.filterwarnings("ignore")  # of the reference, not ours
def test_monai_too_finds_no_distance_to_nothing(pair):
    theirs, ours = monai_metrics(*pair), all_metrics(*pair, tolerance_mm=1.6)
    for name in ("hausdorff", "hd95", "mean"):
        assert not math.isfinite(ours[name])
        assert not math.isfinite(theirs[name])
    assert ours["volume_similarity"] == pytest.approx(theirs["volume_similarity"], nan_ok=True)


@pytest.mark.filterwarnings("ignore")  # of the reference, not ours
def test_surface_distance_gives_the_same_where_definitions_meet():
    # It measures between surface elements, weighed by area: equal for a moved box, whose
    # surfaces keep their place relative to the voxels.
    reference = pytest.importorskip("surface_distance")
    A, B = box((2, 7), (2, 7), (2, 7)), box((4, 9), (2, 7), (2, 7))
    distances = reference.compute_surface_distances(A, B, SPACING)
    theirs = reference.compute_robust_hausdorff(distances, 100)
    assert hausdorff(A, B, spacing_mm=SPACING) == pytest.approx(theirs)
    assert dice(A, B) == pytest.approx(reference.compute_dice_coefficient(A, B))


@pytest.mark.filterwarnings("ignore")  # of the reference, not ours
@pytest.mark.parametrize("seed", range(3))
def test_surface_distance_is_near_on_smooth_shapes(seed):
    reference = pytest.importorskip("surface_distance")
    A, B = blob(seed), blob(seed, mixed_with=seed + 100)
    distances = reference.compute_surface_distances(A, B, (1, 1, 1))
    theirs = reference.compute_surface_dice_at_tolerance(distances, 1.5)
    ours = surface_dice(A, B, spacing_mm=(1, 1, 1), tolerance_mm=1.5)
    assert ours == pytest.approx(theirs, abs=0.05)
    theirs = reference.compute_robust_hausdorff(distances, 95)
    assert hd95(A, B, spacing_mm=(1, 1, 1)) == pytest.approx(theirs, abs=1.0)


# Label maps


def label_maps() -> tuple[np.ndarray, np.ndarray]:
    prediction, truth = np.zeros((2, 12, 12, 12), dtype=np.int32)
    truth[2:6, 2:6, 2:6], prediction[4:8, 2:6, 2:6] = 17, 17
    truth[8:10, 8:10, 8:10] = 15160
    prediction[0, 0, 0] = 99  # not asked for
    return prediction, truth


def test_each_row_is_what_the_masks_alone_give():
    prediction, truth = label_maps()
    rows = evaluate_labels(prediction, truth, [17, 15160, 5], spacing_mm=SPACING, tolerance_mm=2)
    assert [row.label for row in rows] == [17, 15160, 5]
    for row in rows:
        A, B = prediction == row.label, truth == row.label
        expected = {
            "label": row.label,
            "dice": dice(A, B),
            "surface_dice": surface_dice(A, B, spacing_mm=SPACING, tolerance_mm=2),
            "volume_similarity": volume_similarity(A, B),
            "hausdorff_mm": hausdorff(A, B, spacing_mm=SPACING),
            "hd95_mm": hd95(A, B, spacing_mm=SPACING),
            "mean_surface_distance_mm": mean_surface_distance(A, B, spacing_mm=SPACING),
            "prediction_ml": A.sum() * 0.0027,
            "truth_ml": B.sum() * 0.0027,
        }
        assert asdict(row) == pytest.approx(expected, nan_ok=True)
    assert [row.truth_ml for row in rows] == pytest.approx([64 * 0.0027, 8 * 0.0027, 0])


def test_tensors_and_two_dimensions_do_too():
    prediction, truth = (torch.from_numpy(m[4]) for m in label_maps())
    (row,) = evaluate_labels(prediction, truth, [17], spacing_mm=(1, 1))
    assert (row.dice, row.hausdorff_mm) == (1.0, 0.0)
    assert dice(prediction == 17, truth == 17) == 1.0


def test_no_labels_give_no_rows():
    assert evaluate_labels(*label_maps(), [], spacing_mm=SPACING) == []


# Refusals


def test_masks_on_two_grids_are_refused():
    with pytest.raises(ScanError, match=r"shape \(12, 12, 12\) and truth of shape \(4, 4\); bring"):
        dice(EMPTY, np.zeros((4, 4)))


@pytest.mark.parametrize(
    ("spacing_mm", "message"),
    [
        ((1, 1, 0), r"spacing_mm: got \(1, 1, 0\); each must be above 0"),
        ((1, 1, math.nan), "each must be above 0"),
        ((1, 1, math.inf), "each must be above 0"),
        ((1, 1), r"got \(1, 1\); give 3 numbers"),
    ],
)
def test_a_bad_spacing_is_refused(spacing_mm, message):
    with pytest.raises(SettingsError, match=message):
        hausdorff(SOME, SOME, spacing_mm=spacing_mm)
    with pytest.raises(SettingsError, match=message):
        evaluate_labels(*label_maps(), [17], spacing_mm=spacing_mm)


@pytest.mark.parametrize("tolerance_mm", [-1.0, math.nan])
def test_a_bad_tolerance_is_refused(tolerance_mm):
    with pytest.raises(SettingsError, match=r"tolerance_mm: got .* must not be negative"):
        evaluate_labels(*label_maps(), [17], spacing_mm=SPACING, tolerance_mm=tolerance_mm)


def test_background_is_not_scored():
    with pytest.raises(SettingsError, match="labels: got 0; ids must be above 0"):
        evaluate_labels(*label_maps(), [17, 0], spacing_mm=SPACING)
