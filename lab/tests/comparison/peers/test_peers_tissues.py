"""Tissues of the challenge's own table, and SAMSEG's labels brought to its protocol."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ddmseg.datasets.malc2012 import EVALUATION_LABELS
from ddmseg.imaging.labels import mirror_index, protocol_map
from ddmseg_lab.comparison.peers import tissues
from ddmseg_lab.scans import mean_dice

LESIONS = (53, 54)
"""Without a class in the table; the protocol's map makes them white matter."""
FLUID = 24


def test_every_structure_is_in_one_tissue():
    members = [index for ids in tissues.TISSUES.values() for index in ids]
    assert sorted(members) == sorted(EVALUATION_LABELS)


@pytest.mark.parametrize("ids", tissues.TISSUES.values(), ids=tissues.TISSUES)
def test_both_sides_are_of_one_tissue(ids):
    assert {mirror_index(index) for index in ids} == set(ids)


def test_tissues_are_those_of_the_challenges_table():
    folder = os.environ.get("DDMSEG_DATA")
    path = Path(folder or "") / "malc2012" / "MICCAI-Challenge-2012-Label-Information.csv"
    if folder is None or not path.is_file():
        pytest.skip("the table of labels of MALC2012 is not at hand (DDMSEG_DATA)")
    with path.open(encoding="utf-8-sig") as file:
        classes = {int(row["Label Number"]): row["Class"] for row in csv.DictReader(file)}
    place = {"csf": "CSF", "grey": "GM", "white": "WM"}
    target = {index: name for name, ids in tissues.TISSUES.items() for index in ids}
    for label, structure in protocol_map("malc2012").items():
        if label not in LESIONS and structure != FLUID:
            assert place[target[structure]] == classes[label], label


def test_tissues_of_ids():
    ids = np.array([0, 4, 3, 2, 24, 85, 17, 16])
    assert tissues.tissues_of(ids).tolist() == [0, 1, 2, 3, 0, 0, 2, 3]


def test_samsegs_own_labels_find_their_place():
    labels = np.array([0, 2, 31, 63, 30, 62, 24, 72, 80, 85, 165, 258, 259, 53])
    found = tissues.samseg_structures(labels.reshape(1, 1, -1)).ravel()
    assert found.tolist() == [0, 2, 4, 43, 2, 41, 0, 0, 0, 0, 0, 0, 0, 53]


def test_a_lesion_goes_to_the_nearer_white_matter():
    line = np.array([41, 77, 77, 77, 77, 3, 2, 77, 0])
    found = tissues.samseg_structures(line.reshape(1, 1, -1)).ravel()
    assert found.tolist() == [41, 41, 41, 41, 2, 3, 2, 2, 0]


def test_without_white_matter_a_lesion_is_nothing():
    assert tissues.samseg_structures(np.array([[[77, 3]]])).tolist() == [[[0, 3]]]


def test_fluid_that_the_truth_does_not_draw_counts_in_one_figure_only():
    truth = np.array([1, 1, 0, 0, 2, 3])
    found = np.array([1, 2, 1, 1, 2, 3])
    scores = tissues.tissue_dice(found, truth)
    assert scores["csf"] == pytest.approx(2 * 1 / (3 + 2))
    assert scores["csf_drawn"] == pytest.approx(2 * 1 / (1 + 2))
    assert scores["grey"] == scores["grey_drawn"] == pytest.approx(2 * 1 / (2 + 1))
    assert scores["white"] == 1


def test_a_tissue_that_neither_has_is_no_score():
    zeros = np.zeros(3, int)
    assert all(math.isnan(value) for value in tissues.tissue_dice(zeros, zeros).values())


def test_the_mean_is_of_the_structures_that_either_has():
    truth = np.array([17, 17, 53, 24])
    found = np.array([17, 0, 53, 85])
    assert mean_dice(found, truth, EVALUATION_LABELS) == pytest.approx((2 / 3 + 1) / 2)


LABELS = st.sampled_from([0, 2, 3, 4, 24, 41, 77, 85, 258])


@given(arrays(np.int32, (2, 3, 4), elements=LABELS))
def test_nothing_is_left_that_the_protocol_does_not_draw(labels):
    before = labels.copy()
    found = tissues.samseg_structures(labels)
    assert set(np.unique(found)) <= {0, *EVALUATION_LABELS}
    kept = np.isin(labels, EVALUATION_LABELS)
    assert (found[kept] == labels[kept]).all()
    assert (labels == before).all()
