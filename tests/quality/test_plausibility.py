"""What is odd about a result: each sentence, and silence where nothing is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ddmseg.imaging.labels import ANATOMY_LABELS, HIPPOCAMPUS_LABELS, mirror_index, structure
from ddmseg.imaging.postprocess import Cleaning
from ddmseg.imaging.volume import Volume
from ddmseg.models.checkpoint import Card
from ddmseg.quality.plausibility import HOLE_ML, implausible, plausible_volumes
from ddmseg.quality.segmentation import StructureVolume

HEAD = {"data": {"kind": "label_maps"}}
CROP = {"data": {"kind": "hippocampus"}}


def row(index, ml):
    return StructureVolume(index, structure(index).name, ml, ml, ml)


def usual():
    """Middle of each range, both sides equal."""
    ranges = plausible_volumes()
    return [row(i, math.sqrt(r.low_ml * r.high_ml)) for i, r in ranges.items()]


def scan_and_labels(spacing=(1.0, 1.0, 1.0), shape=(60, 70, 50), signs=(1, 1, 1)):
    data = np.random.default_rng(0).random(shape, np.float32)
    affine = np.diag([*(s * f for s, f in zip(spacing, signs, strict=True)), 1.0])
    labels = np.zeros(shape, np.int32)
    labels[10:-10, 10:-10, 10:-10] = 2
    return Volume(data, affine, "scan"), labels


def reasons(card=HEAD, volumes=None, cleaning=None, scan=None, labels=None):
    own_scan, own_labels = scan_and_labels()
    return implausible(
        Card("toy", (0, 17), card),
        scan or own_scan,
        own_labels if labels is None else labels,
        usual() if volumes is None else volumes,
        cleaning,
    )


def test_nothing_is_said_of_a_usual_head():
    assert reasons() == []
    assert reasons(cleaning=Cleaning(islands={2: 5})) == []


def test_the_table_knows_every_structure_but_csf_and_both_sides_alike():
    ranges = plausible_volumes()
    assert set(ranges) == {*ANATOMY_LABELS[1:], *HIPPOCAMPUS_LABELS[1:]} - {24}
    for index, found in ranges.items():
        assert 0 < found.low_ml < found.high_ml
        assert ranges[mirror_index(index)] == found
        assert math.isinf(found.log_ratio) == (mirror_index(index) == index)


def test_odd_volumes_are_named_with_what_is_usual():
    volumes = [row(17, 0.5), row(53, 0.6), row(10, 60.0), row(49, 60.0)]
    small, large = reasons(volumes=volumes)
    assert small == (
        "unusually small: Left-Hippocampus (0.5 ml, usual from 0.99), "
        "Right-Hippocampus (0.6 ml, usual from 0.99)"
    )
    assert large.startswith("unusually large: Left-Thalamus (60 ml, usual to 13.1)")


def test_a_structure_not_found_is_left_to_its_own_sentence():
    assert reasons(volumes=[row(17, 0.0), row(53, 3.0)]) == []


def test_odd_sides_are_named_once():
    (found,) = reasons(volumes=[row(2, 250.0), row(41, 150.0)])
    assert found == "unusually asymmetric: Cerebral-White-Matter (250 ml left, 150 ml right)"
    assert reasons(volumes=[row(2, 210.0), row(41, 200.0)]) == []


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (1, -1, 1)])
@pytest.mark.parametrize(("axis", "names"), [(0, ("left", "right")), (1, ("back", "front"))])
@pytest.mark.parametrize("end", [0, 1])
def test_a_cut_brain_is_seen_on_the_right_face(signs, axis, names, end):
    scan, labels = scan_and_labels(signs=signs)
    away = [slice(None)] * 3
    away[axis] = slice(0, 12) if end == 0 else slice(-12, None)
    inner = [slice(10, -10)] * 3
    inner[axis] = away[axis]
    labels[tuple(inner)] = 2
    face = names[end if signs[axis] > 0 else 1 - end]
    (found,) = reasons(scan=scan, labels=labels)
    area = round(np.prod([n - 20 for a, n in enumerate(labels.shape) if a != axis]) / 100)
    assert found == (
        f"the brain reaches the {face} of the image ({area} cm2): part of it may be missing"
    )


def test_the_neck_may_leave_below_but_not_above():
    scan, labels = scan_and_labels()
    labels[10:-10, 10:-10, :12] = 16
    assert reasons(scan=scan, labels=labels) == []
    labels[10:-10, 10:-10, -12:] = 16
    assert "top of the image" in reasons(scan=scan, labels=labels)[0]


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1)])
def test_a_structure_of_a_crop_that_reaches_an_edge_may_be_cut(signs):
    scan, labels = scan_and_labels(spacing=(1.0, 1.0, 2.0), signs=signs)
    labels[:] = 0
    labels[20:30, 20:30, 1:20] = 232
    labels[20:30, 31:35, 1:20] = 231
    told = {"scan": scan, "labels": labels}
    assert reasons(CROP, **told) == []
    labels[20:30, 20:26, 0] = 232
    labels[0, 31, 5] = 231
    side, floor = ("left", "bottom") if signs[0] > 0 else ("right", "top")
    assert reasons(CROP, **told) == [
        "at the edge of the crop, so that part of them may be missing: "
        f"HP_body ({side}, 2 mm2), HP_head ({floor}, 60 mm2)"
    ]
    assert reasons({"data": {"kind": "ibsr18"}}, **told) == []  # a brain without its skull may


def test_thick_slices_and_cut_off_intensities_are_told():
    scan, labels = scan_and_labels(spacing=(1.0, 1.0, 8.0))
    labels[:] = 0
    labels[30, 30, 20] = 2
    assert reasons(scan=scan, labels=labels) == [
        "voxels of 1 x 1 x 8 mm; slices above 6.5 mm were not seen in training"
    ]
    scan, labels = scan_and_labels()
    cut = Volume(np.minimum(scan.data, 0.9), scan.affine, "scan")
    (found,) = reasons(scan=cut, labels=labels)
    assert found == "10% of the labelled voxels have the largest value: intensities are cut off"


def test_pieces_left_are_told():
    found = reasons(cleaning=Cleaning(pieces={17: 2, 4: 3}))
    assert found == ["in several large pieces: Left-Hippocampus (2), Left-Lateral-Ventricle (3)"]


def test_holes_are_told_with_number_and_size_and_only_large_ones():
    usual_space, larger = 0.6, 1.5 * HOLE_ML  # on intact heads, and not
    # 60 ml of labels: a twentieth of them is above HOLE_ML
    assert reasons(cleaning=Cleaning(open_holes_ml=(usual_space,))) == []
    found = reasons(cleaning=Cleaning(open_holes_ml=(2 * larger, larger, usual_space)))
    assert found == ["holes without a label inside the structures: 2, the largest of 6 ml"]


def test_the_hole_of_a_small_structure_counts_by_its_share():
    scan, labels = scan_and_labels()
    labels[:] = 0
    labels[20:35, 20:35, 20:35] = 17  # 3.4 ml
    told = {"scan": scan, "labels": labels}
    assert reasons(CROP, cleaning=Cleaning(open_holes_ml=(0.16,)), **told) == []
    (found,) = reasons(CROP, cleaning=Cleaning(open_holes_ml=(0.18,)), **told)
    assert found.endswith("1, the largest of 0.18 ml")


def test_pieces_and_holes_are_told_of_raw_labels_too():
    seen = Cleaning(pieces={17: 2}, open_holes_ml=(6.0,))
    assert reasons(cleaning=seen.not_applied()) == reasons(cleaning=seen)
    assert len(reasons(cleaning=seen)) == 2


def test_the_card_says_which_slices_are_thick():
    calibration = {"training_range": {"thickest_mm": 1.5}}
    scan, labels = scan_and_labels(spacing=(1.0, 1.0, 1.6))
    card = Card("toy", (0, 17), CROP, calibration=calibration)
    (found,) = implausible(card, scan, labels, usual(), None)
    assert found == "voxels of 1 x 1 x 1.6 mm; slices above 1.5 mm were not seen in training"
    silent = Card("toy", (0, 17), CROP)
    assert implausible(silent, scan, labels, usual(), None) == []


def test_long_lists_end():
    volumes = [row(r.index, 1000.0) for r in usual()]
    assert reasons(volumes=volumes)[0].endswith(" more")
