"""Every code of the table is one of the standard's, or says that it is ours."""

from __future__ import annotations

import pytest
from pydicom.sr._concepts_dict import concepts
from pydicom.sr.codedict import codes

from ddmseg.errors import UsageError
from ddmseg.imaging.dicom.seg import (
    CATEGORIES,
    PRIVATE_SCHEME,
    SIDES,
    Code,
    coded_structure,
)
from ddmseg.imaging.labels import ANATOMY_LABELS, HIPPOCAMPUS_LABELS, protocol_rows, structure

INDICES = [int(row["index"]) for row in protocol_rows("dicom_codes")]


def meanings(code: Code) -> set[str]:
    """What the standard's dictionary calls a value."""
    return {entry[code.value][0] for entry in concepts[code.scheme].values() if code.value in entry}


def test_codes_are_those_of_the_dictionary() -> None:
    for coded in map(coded_structure, INDICES):
        for code in (coded.category, coded.type, coded.side, coded.region):
            if code is not None and code.scheme != PRIVATE_SCHEME:
                assert code.meaning in meanings(code)


def test_every_structure_that_a_model_draws_is_in_the_table() -> None:
    assert {*ANATOMY_LABELS, *HIPPOCAMPUS_LABELS} - {0} <= set(INDICES)
    assert {int(row["index"]) for row in protocol_rows("freesurfer")} - {0} == set(INDICES)


def test_what_freesurfer_does_not_draw_has_a_code_of_its_own() -> None:
    coded = coded_structure(40021)
    assert coded.type == Code("OWN40021", PRIVATE_SCHEME, "Left-Superior-Frontal-Gyrus")


def test_own_codes_are_marked_and_lie_in_a_coded_region() -> None:
    own = [one for one in INDICES if coded_structure(one).type.scheme == PRIVATE_SCHEME]
    assert own == [31, 63, 226, 231, 232, 251, 252, 253, 254, 255]
    for index in own:
        coded = coded_structure(index)
        assert coded.type.value == f"FS{index}"
        assert coded.region is not None
        assert coded.region.scheme == "SCT"


def test_sides_are_those_of_the_names() -> None:
    for index in INDICES:
        side = coded_structure(index).side
        word = structure(index).name.split("-")[0]
        assert (side.meaning if side else None) == (word if word in ("Left", "Right") else None)


def test_values_fit_their_elements() -> None:
    for index in INDICES:
        coded = coded_structure(index)
        assert len(coded.type.value) <= 16
        assert len(coded.type.meaning) <= 64


def test_context_groups_hold_what_they_should() -> None:
    brain = {getattr(codes.cid7140, name).value for name in codes.cid7140.dir()}
    assert {"5366008", "4958002", "119238007", "110700", "53118009"} <= brain
    categories = {getattr(codes.cid7150, name).value for name in codes.cid7150.dir()}
    assert {code.value for code in CATEGORIES.values()} <= categories
    sides = {getattr(codes.cid244, name).value for name in codes.cid244.dir()}
    assert {code.value for code in SIDES.values()} <= sides


def test_an_id_outside_the_table_gets_a_code_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddmseg.imaging.dicom.seg._table", dict)
    coded = coded_structure(17)
    assert coded.type == Code("FS17", PRIVATE_SCHEME, "Left-Hippocampus")
    with pytest.raises(UsageError, match="label: got 12345"):
        coded_structure(12345)
