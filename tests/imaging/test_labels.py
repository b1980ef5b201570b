"""Labels: the FreeSurfer table, left and right, protocol maps and look-ups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from ddmseg.errors import UsageError
from ddmseg.imaging import labels
from ddmseg.imaging.labels import ANATOMY_LABELS, HIPPOCAMPUS_LABELS


def test_anatomy_has_background_first_and_32_structures() -> None:
    assert ANATOMY_LABELS[0] == 0
    assert len(set(ANATOMY_LABELS)) == len(ANATOMY_LABELS) == 33
    assert list(ANATOMY_LABELS) == sorted(ANATOMY_LABELS)


@pytest.mark.parametrize(
    ("index", "name", "colour"),
    [
        (2, "Left-Cerebral-White-Matter", (245, 245, 245)),
        (16, "Brain-Stem", (119, 159, 176)),
        (24, "CSF", (60, 60, 60)),
        (52, "Right-Pallidum", (13, 48, 255)),
        (232, "HP_head", (255, 0, 0)),
    ],
)
def test_structures_are_those_of_freesurfer(
    index: int, name: str, colour: tuple[int, int, int]
) -> None:
    assert labels.structure(index) == labels.Structure(index, name, colour)


def test_own_ids_clash_with_none_of_freesurfer_s() -> None:
    theirs, own = labels.protocol_rows("freesurfer"), labels.protocol_rows("own")
    assert all(int(row["index"]) < labels.OWN_IDS for row in theirs)
    assert all(int(row["index"]) > labels.OWN_IDS for row in own)
    names = [row["name"] for row in (*theirs, *own)]
    assert len(set(names)) == len(names)
    for row in own:
        item = labels.structure(int(row["index"]))
        other = labels.structure(labels.mirror_index(item.index))
        assert item.colour == other.colour
        assert item.name.startswith(("Left-", "Right-")) == (other != item)


def test_unknown_structure_is_refused_with_what_is_allowed() -> None:
    with pytest.raises(UsageError, match=r"label: got 9999; it must be one of .*17, 18"):
        labels.structure(9999)


def test_mirroring_is_an_involution_and_stays_in_the_model() -> None:
    for index in ANATOMY_LABELS:
        assert labels.mirror_index(index) in ANATOMY_LABELS
        assert labels.mirror_index(labels.mirror_index(index)) == index


def test_mirroring_exchanges_sides_and_keeps_the_midline() -> None:
    assert labels.mirror_index(17) == 53
    assert labels.mirror_index(42) == 3
    midline = {index for index in ANATOMY_LABELS if labels.mirror_index(index) == index}
    assert midline == {0, 14, 15, 16, 24}


def test_generation_targets_are_classes_of_the_model() -> None:
    for label in labels.generation_labels():
        assert label.target in ANATOMY_LABELS
        if label.index in ANATOMY_LABELS:
            assert label.target == label.index


def test_every_structure_of_the_model_is_generated() -> None:
    assert {label.target for label in labels.generation_labels()} == set(ANATOMY_LABELS)


def test_generation_ids_rise_from_background() -> None:
    ids = [label.index for label in labels.generation_labels()]
    assert ids[0] == 0
    assert ids == sorted(set(ids))


@pytest.mark.parametrize(
    ("index", "target"), [(25, 2), (57, 41), (136, 4), (164, 44), (85, 0), (512, 0), (511, 0)]
)
def test_lesions_plexus_and_head_have_sensible_targets(index: int, target: int) -> None:
    by_index = {label.index: label for label in labels.generation_labels()}
    assert by_index[index].target == target


def test_generation_mirror_mirrors_targets_too() -> None:
    known = labels.generation_labels()
    for place, partner in enumerate(labels.generation_mirror()):
        assert labels.generation_mirror()[partner] == place
        assert known[partner].target == labels.mirror_index(known[place].target)
        assert known[partner].tissue == known[place].tissue


def test_malc_sides_agree_with_their_names() -> None:
    for row in labels.protocol_rows("malc2012"):
        target = labels.structure(int(row["target"])).name
        for side in ("Left", "Right"):
            if row["name"].startswith(side):
                assert target.startswith(side), row


def test_malc_cortex_is_even_right_odd_left() -> None:
    mapping = labels.protocol_map("malc2012")
    assert {mapping[i] for i in range(100, 208, 2)} == {42}
    assert {mapping[i] for i in range(101, 208, 2)} == {3}


def test_malc_map_reaches_every_structure_of_the_model() -> None:
    assert set(labels.protocol_map("malc2012").values()) == set(ANATOMY_LABELS) - {0}


def test_ibsr_tissues_cover_the_model_and_keep_sulcal_csf_in_grey() -> None:
    mapping = labels.protocol_map("ibsr18")
    assert set(mapping) == set(ANATOMY_LABELS) - {0}
    assert {index for index, tissue in mapping.items() if tissue == 1} == {4, 5, 14, 15, 43, 44}
    assert mapping[24] == 2
    assert all(mapping[i] == mapping[labels.mirror_index(i)] for i in mapping)


def test_hippocampus_map_gives_the_ids_of_its_model() -> None:
    assert labels.protocol_map("hippocampus") == {1: 232, 2: 231}
    assert HIPPOCAMPUS_LABELS == (0, 232, 231)


def test_unknown_protocol_is_refused() -> None:
    with pytest.raises(UsageError, match="protocol: got 'lpba'; there is no table"):
        labels.protocol_map("lpba")


def test_remap_replaces_and_drops() -> None:
    got = labels.remap(np.array([[0, 3, 700], [3, 5, 1]]), {3: 42, 5: 7})
    assert got.tolist() == [[0, 42, 0], [42, 7, 0]]


def test_remap_of_nothing_is_nothing() -> None:
    assert labels.remap(np.zeros((0, 2, 2), dtype=np.int16), {3: 1}).shape == (0, 2, 2)
    assert labels.remap(np.array([1, 2]), {}).tolist() == [0, 0]


def test_remap_refuses_negative_labels() -> None:
    with pytest.raises(UsageError, match="labels: got -4; label ids must be at least 0"):
        labels.remap(np.array([0, -4]), {3: 1})


@given(
    arrays.arrays(np.int16, (3, 4), elements=st.integers(0, 300)),
    st.dictionaries(st.integers(0, 300), st.integers(0, 99), max_size=8),
)
def test_remap_is_the_dictionary_voxel_by_voxel(
    volume: np.ndarray, mapping: dict[int, int]
) -> None:
    want = [[mapping.get(int(value), 0) for value in row] for row in volume]
    assert labels.remap(volume, mapping).tolist() == want


@given(arrays.arrays(np.uint8, 20, elements=st.integers(0, 32)))
def test_classes_and_ids_undo_each_other(classes: np.ndarray) -> None:
    ids = np.array(ANATOMY_LABELS)[classes]
    assert labels.classes_of(ids, ANATOMY_LABELS).tolist() == classes.tolist()


def test_ids_outside_the_model_become_background() -> None:
    assert labels.classes_of(np.array([17, 85, 511]), ANATOMY_LABELS).tolist() == [14, 0, 0]


def test_dseg_table_has_names_and_hexadecimal_colours() -> None:
    assert labels.dseg_table((0, 17, 2)) == [
        {"index": "17", "name": "Left-Hippocampus", "color": "#dcd814"},
        {"index": "2", "name": "Left-Cerebral-White-Matter", "color": "#f5f5f5"},
    ]


def test_colours_are_bytes() -> None:
    for index in (*ANATOMY_LABELS, *HIPPOCAMPUS_LABELS):
        assert all(0 <= part <= 255 for part in labels.structure(index).colour)


label_maps = arrays.arrays(
    np.int32, arrays.array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.integers(0, 3)
)


@given(label_maps)
def test_voxels_are_counted_like_unique_values(drawn: NDArray[np.int32]) -> None:
    found, counts = np.unique(drawn, return_counts=True)
    assert labels.count_voxels(drawn) == dict(zip(found.tolist(), counts.tolist(), strict=True))


@given(label_maps)
def test_the_box_holds_every_label_and_has_some_on_each_face(drawn: NDArray[np.int32]) -> None:
    box = labels.labelled_box(drawn)
    if not drawn.any():
        assert box == tuple(slice(0, n) for n in drawn.shape)
        return
    inner = drawn[box]
    assert np.count_nonzero(inner) == np.count_nonzero(drawn)
    for axis in range(3):
        faces = np.moveaxis(inner, axis, 0)
        assert faces[0].any()
        assert faces[-1].any()


def test_a_map_seen_through_flips_and_swaps_is_counted_the_same() -> None:
    drawn = np.arange(24, dtype=np.int32).reshape(2, 3, 4) % 5
    assert labels.count_voxels(drawn.transpose(2, 0, 1)[::-1]) == labels.count_voxels(drawn)


def test_classes_change_sides_and_a_missing_one_is_told():
    assert labels.on_other_side((0, 2, 41, 16)) == [0, 2, 1, 3]
    with pytest.raises(UsageError, match="Right-Hippocampus is not among them"):
        labels.on_other_side((0, 17, 16))
