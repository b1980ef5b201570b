"""The whole path from files to scores, against hand, other packages and its laws."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, gaussian_filter

from ddmseg.errors import ScanError
from ddmseg.evaluation.evaluate import check_same_grid, evaluate, structure_names
from ddmseg.evaluation.labels import LabelTable, StructureIds, load_label_table
from ddmseg.evaluation.scores import METRICS
from ddmseg.imaging.volume import LabelMap
from ddmseg.maths.case_scores import Score

SPACING = (0.9, 1.5, 2.0)
SHAPE = (18, 16, 14)


def write(path: Path, labels: np.ndarray, spacing_mm=SPACING, shift_mm: float = 0.0) -> None:
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = (-10 + shift_mm, 20, 5)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(labels.astype(np.int32), affine).to_filename(path)


def blob(seed: int, mixed_with: int | None = None) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=SHAPE)
    if mixed_with is not None:
        noise += 0.4 * np.random.default_rng(mixed_with).normal(size=SHAPE)
    return gaussian_filter(noise, 2.0) > 0.03


def degenerate(kind: str) -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=bool)
    place = {
        "voxel": (slice(5, 6), slice(6, 7), slice(7, 8)),
        "corner": (slice(0, 1), slice(0, 1), slice(13, 14)),
        "line": (slice(0, 18), slice(3, 4), slice(3, 4)),
        "plane": (slice(0, 18), slice(15, 16), slice(0, 14)),
        "full": (slice(0, 18), slice(0, 16), slice(0, 14)),
    }
    mask[place[kind]] = True
    return mask


MASKS = {
    **{f"blobs {n}": (blob(n), blob(n, mixed_with=n + 50)) for n in range(3)},
    "noise": tuple(np.random.default_rng(9).random((2, *SHAPE)) > 0.7),
    **{
        f"{a} and {b}": (degenerate(a), degenerate(b))
        for a, b in [
            ("voxel", "voxel"),
            ("voxel", "corner"),
            ("corner", "plane"),
            ("line", "plane"),
            ("full", "line"),
            ("full", "full"),
        ]
    },
}


FEW = ("blobs 0", "noise", "voxel and corner", "line and plane")


@pytest.fixture
def scored(tmp_path):
    """Write one pair of masks as files and evaluate them."""

    def run(prediction: np.ndarray, truth: np.ndarray) -> Score:
        write(tmp_path / "p.nii.gz", prediction)
        write(tmp_path / "t.nii.gz", truth)
        (score,) = evaluate(tmp_path / "p.nii.gz", tmp_path / "t.nii.gz").scores
        return score

    return run


def surface(mask: np.ndarray) -> np.ndarray:
    """Voxels with a face neighbour outside, found by shifting: no morphology."""
    padded = np.pad(mask, 1)
    inner = np.ones_like(mask)
    for axis in range(3):
        for step in (-1, 1):
            inner &= np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
    return mask & ~inner


def by_distance_transform(A: np.ndarray, B: np.ndarray) -> dict[str, float]:
    edges = surface(A), surface(B)
    there = distance_transform_edt(~edges[1], sampling=SPACING)[edges[0]]
    back = distance_transform_edt(~edges[0], sampling=SPACING)[edges[1]]
    return {
        "dice": 2 * (A & B).sum() / (A.sum() + B.sum()),
        "hausdorff_mm": max(there.max(), back.max()),
        "hd95_mm": max(np.percentile(there, 95), np.percentile(back, 95)),
        "volume_similarity": 1 - abs(int(A.sum()) - int(B.sum())) / (A.sum() + B.sum()),
        "surface_dice": (np.concatenate([there, back]) <= 1 + 1e-9).mean(),
    }


@pytest.mark.parametrize("name", MASKS)
def test_every_metric_is_that_of_distance_transforms(scored, name) -> None:
    A, B = MASKS[name]
    found = scored(A, B)
    expected = by_distance_transform(A, B)
    assert {m: getattr(found, m) for m in METRICS} == pytest.approx(expected, abs=1e-6)
    assert found.prediction_ml == pytest.approx(A.sum() * 0.0027, abs=1e-6)
    assert found.truth_ml == pytest.approx(B.sum() * 0.0027, abs=1e-6)


@pytest.mark.filterwarnings("ignore")  # of the reference, not ours
@pytest.mark.parametrize("name", FEW)
def test_monai_gives_the_same(scored, name) -> None:
    monai = pytest.importorskip("monai.metrics")
    import torch

    A, B = MASKS[name]
    found = scored(A, B)
    pair = [torch.from_numpy(m)[None, None].double() for m in (A, B)]
    more = {"include_background": True, "spacing": SPACING}
    expected = {
        "dice": monai.compute_dice(*pair, include_background=True),
        "hausdorff_mm": monai.compute_hausdorff_distance(*pair, **more),
        "hd95_mm": monai.compute_hausdorff_distance(*pair, percentile=95, **more),
        "surface_dice": monai.compute_surface_dice(*pair, class_thresholds=[1.0], **more),
    }
    for metric, theirs in expected.items():
        # they compute in single precision
        assert getattr(found, metric) == pytest.approx(theirs.item(), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", FEW)
def test_exchanging_prediction_and_truth_keeps_every_metric(scored, name) -> None:
    A, B = MASKS[name]
    there, back = scored(A, B), scored(B, A)
    for metric in METRICS:
        assert getattr(there, metric) == pytest.approx(getattr(back, metric), abs=1e-12)
    assert (there.truth_ml, there.prediction_ml) == (back.prediction_ml, back.truth_ml)


# Which structures


def evaluated(tmp_path: Path, cases: dict[str, tuple[np.ndarray, np.ndarray]], **more):
    for name, (prediction, truth) in cases.items():
        write(tmp_path / "P" / f"{name}_dseg.nii.gz", prediction)
        write(tmp_path / "T" / f"{name}.nii.gz", truth)
    return evaluate(tmp_path / "P", tmp_path / "T", **more)


def labels(**boxes: int) -> np.ndarray:
    """A map with a cube each: ``x3=17`` puts 17 at i = 3 and 4."""
    volume = np.zeros((14, 6, 6), dtype=np.int32)
    for place, index in boxes.items():
        start = int(place[1:])
        volume[start : start + 2, 2:4, 2:4] = index
    return volume


def table_of(**structures: tuple[tuple[int, ...], tuple[int, ...]]) -> LabelTable:
    return LabelTable("t", tuple(StructureIds(name, *ids) for name, ids in structures.items()))


def test_without_a_table_every_id_of_any_case_is_a_structure_of_all(tmp_path) -> None:
    cases = {
        "a": (labels(x2=17, x6=4), labels(x2=17, x6=4)),
        "b": (labels(x2=17), labels(x2=17, x9=53)),
        "c": (labels(), labels()),
    }
    found = evaluated(tmp_path, cases)
    assert [(s.case, s.index) for s in found.scores] == [
        (case, index) for case in "abc" for index in (4, 17, 53)
    ]
    assert found.scores[1].structure == "Left-Hippocampus"
    dice = {(s.case, s.index): s.dice for s in found.scores}
    assert (dice["a", 17], dice["b", 53]) == (1.0, 0.0)
    assert math.isnan(dice["b", 4])
    assert math.isnan(dice["c", 17])
    assert found.summary["Left-Hippocampus"]["dice"].undefined == 1
    assert found.notes == (
        "c: the prediction holds none of the structures",
        "Left-Lateral-Ventricle, 2 patients (b, c): in neither map: left out",
        "Left-Hippocampus, 1 patient (c): in neither map: left out",
        "Right-Hippocampus, 1 patient (b): in the truth but not predicted: overlaps count as 0, "
        "the infinite distance is left out",
        "Right-Hippocampus, 2 patients (a, c): in neither map: left out",
    )
    assert found.problems == ()


def test_a_table_brings_two_protocols_together(tmp_path) -> None:
    cases = {"a": (labels(x2=3, x5=42, x8=99), labels(x2=7, x5=7, x10=8))}
    found = evaluated(tmp_path, cases, table=table_of(cortex=((3, 42), (7, 9))))
    (score,) = found.scores
    assert (score.structure, score.index, score.dice) == ("cortex", 7, 1.0)
    assert found.notes == (
        "label ids of the prediction that the table does not name, left out: 99 (1 of 1)",
        "label ids of the truth that the table does not name, left out: 8 (1 of 1)",
        "one patient only: no interval, no limits of agreement",
    )


def test_structures_of_a_table_may_lie_in_each_other(tmp_path) -> None:
    cases = {"a": (labels(x2=1, x4=2), labels(x2=1, x4=3))}
    table = table_of(whole=((1, 2), (1, 3)), core=((1,), (1,)), rim=((2,), (1,)))
    scores = evaluated(tmp_path, cases, table=table).scores
    assert [(s.structure, s.index, s.dice) for s in scores] == [
        ("whole", 1, 1.0),
        ("core", 1, 1.0),
        ("rim", 1, 0.0),
    ]


def test_ids_of_any_size_are_compared(tmp_path) -> None:
    cases = {"a": (labels(x2=2_000_000_000), labels(x2=2_000_000_000))}
    (score,) = evaluated(tmp_path, cases).scores
    assert (score.dice, score.structure) == (1.0, "label 2000000000")
    table = table_of(S=((2_000_000_000,), (2_000_000_000,)))
    assert evaluated(tmp_path, cases, table=table).scores[0].dice == 1.0


def test_the_shipped_hippocampus_table_meets_the_ids_of_the_model(tmp_path) -> None:
    cases = {"a": (labels(x2=232, x4=231), labels(x2=1, x4=2))}
    found = evaluated(tmp_path, cases, table=load_label_table("hippocampus"))
    assert [(s.structure, s.dice) for s in found.scores] == [("Anterior", 1.0), ("Posterior", 1.0)]
    without = evaluated(tmp_path, cases)
    assert without.notes[0] == (
        "no label id is in both predictions and truth, so nothing overlaps; name what belongs "
        "together with --labels"
    )


def test_ids_that_no_truth_has_are_named(tmp_path) -> None:
    cases = {n: (labels(x2=17, x5=24), labels(x2=17)) for n in "ab"}
    assert evaluated(tmp_path, cases).notes[:2] == (
        "label ids of the prediction that no truth has, scored as wrong: 24 (2 of 2); "
        "a table with --labels leaves them out",
        "CSF, 2 patients (a, b): predicted but not in the truth: overlaps count as 0, the "
        "infinite distance is left out",
    )


def test_several_scans_of_a_person_are_named(tmp_path) -> None:
    cases = {f"sub-01_ses-{n}": (labels(x2=17), labels(x2=17)) for n in "ab"}
    assert evaluated(tmp_path, cases).notes == (
        "several scans of one person (sub-01): intervals take each scan as a patient, so they "
        "are too narrow",
    )


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        ([17], ["Left-Hippocampus"]),
        ([1, 2, 3], ["label 1", "label 2", "label 3"]),
        ([4, 11, 100, 101, 102], ["label 4", "label 11", "label 100", "label 101", "label 102"]),
        ([], []),
    ],
)
def test_names_are_freesurfers_only_where_the_ids_are(ids, names) -> None:
    assert list(structure_names(ids).values()) == names


# What is refused


def grid(shape=(20, 20, 20), shift_mm=0.0, turned=0.0) -> LabelMap:
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[0, 3], affine[0, 1] = shift_mm, turned
    return LabelMap(np.zeros(shape, dtype=np.int32), affine)


def test_a_tenth_of_a_voxel_is_the_tolerance() -> None:
    check_same_grid(grid(shift_mm=0.099), grid())
    check_same_grid(grid(turned=0.005), grid())
    with pytest.raises(ScanError, match=r"affines up to 0\.101 mm apart, allowed are 0\.1 mm"):
        check_same_grid(grid(shift_mm=0.101), grid())
    # 19 voxels from the corner this turn has moved by 0.19 mm
    with pytest.raises(ScanError, match=r"up to 0\.19 mm apart, .* different grids; bring"):
        check_same_grid(grid(turned=0.01), grid())


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ScanError, match="of 20 x 20 x 21 voxels and truth of 20 x 20 x 20: diff"):
        check_same_grid(grid((20, 20, 21)), grid())


@pytest.mark.parametrize("table", [None, table_of(S=((17,), (17,)))])
def test_a_pair_that_fails_is_one_line_and_the_others_are_scored(tmp_path, table) -> None:
    good = labels(x2=17)
    cases = {n: (good, good) for n in ("a", "b", "c", "d", "e", "f")}
    evaluated(tmp_path, cases)
    write(tmp_path / "P" / "b_dseg.nii.gz", good, shift_mm=2)
    write(tmp_path / "P" / "c_dseg.nii.gz", good[1:])
    write(tmp_path / "P" / "d_dseg.nii.gz", -good)
    (tmp_path / "P" / "e_dseg.nii.gz").write_bytes(b"no image")
    (tmp_path / "T" / "f.nii.gz").unlink()
    seen = []
    found = evaluate(
        tmp_path / "P", tmp_path / "T", table=table, progress=lambda n, of: seen.append((n, of))
    )
    assert [(s.case, s.dice) for s in found.scores] == [("a", 1.0)]
    missing, shifted, shape, negative, damaged = found.problems
    assert "f_dseg.nii.gz: no truth for it" in missing
    assert shifted.startswith("b: prediction and truth have affines up to 2 mm apart")
    assert shape.startswith("c: prediction of 13 x 6 x 6 voxels and truth of 14 x 6 x 6")
    assert negative == "d: the prediction holds the label id -17; ids must be at least 0"
    assert damaged.startswith("e: ")
    assert "e_dseg.nii.gz" in damaged
    assert all("\n" not in line for line in found.problems)
    assert seen == [(n, 5) for n in range(6)]
