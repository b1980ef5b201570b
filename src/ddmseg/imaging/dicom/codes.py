"""What a FreeSurfer id is called in DICOM: coded category, type, side and region.

The table ``protocols/dicom_codes.tsv`` takes SNOMED CT and DICOM codes from the
context groups of the standard; what has no code there gets one of our own scheme,
with the coded structure that it is a part of as its region.

Source: DICOM PS3.16, CID 7140 (Brain Structure for Volumetric Measurement), CID 7153
(CNS Segmentation Type), CID 7150 (Segmentation Property Category), CID 244 (Laterality).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from ddmseg.imaging.labels import OWN_IDS, protocol_rows, structure

PRIVATE_SCHEME = "99DDMSEG"
"""Designator of codes that are ours; the standard reserves names that begin with 99."""


@dataclass(frozen=True)
class Code:
    """A coded concept: value, designator of its scheme, and meaning in words."""

    value: str
    scheme: str
    meaning: str


CATEGORIES = {
    "structure": Code("91723000", "SCT", "Anatomical Structure"),
    "substance": Code("91720002", "SCT", "Body Substance"),
    "abnormal": Code("49755003", "SCT", "Morphologically Abnormal Structure"),
}
SIDES = {"left": Code("7771000", "SCT", "Left"), "right": Code("24028007", "SCT", "Right")}


@dataclass(frozen=True)
class CodedStructure:
    """A structure in codes.

    Attributes:
        category: what sort of thing it is.
        type: what it is.
        side: left or right; None on the midline and where the id names no side.
        region: what it is a part of; None where the type says it all.
    """

    category: Code
    type: Code
    side: Code | None
    region: Code | None


def coded_structure(index: int) -> CodedStructure:
    """Return the codes of a label id; one of our own where the table has none.

    >>> coded_structure(17).type.meaning, coded_structure(17).side.meaning
    ('Hippocampus', 'Left')

    Raises:
        UsageError: when the id is unknown.
    """
    found = _table().get(index)
    if found is not None:
        return found
    whose = "FS" if index < OWN_IDS else "OWN"
    own = Code(f"{whose}{index}", PRIVATE_SCHEME, structure(index).name)
    return CodedStructure(CATEGORIES["structure"], own, None, None)


@cache
def _table() -> dict[int, CodedStructure]:
    return {int(row["index"]): _coded(row) for row in protocol_rows("dicom_codes")}


def _coded(row: dict[str, str]) -> CodedStructure:
    region = Code(row["region"], "SCT", row["region_meaning"]) if row["region"] else None
    return CodedStructure(
        CATEGORIES[row["category"]],
        Code(row["value"], row["scheme"], row["meaning"]),
        SIDES.get(row["side"]),
        region,
    )
