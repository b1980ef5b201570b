"""Volumes as groups of measurements of a Structured Report, in codes.

Each structure with a segment is a group that refers to it; what has none (both sides, totals,
structures that were not found) is a group without a reference. The ends of the 95% interval are
how far the volume may lie above and below: the standard has codes for that (CID 225), and none
for an interval or its 95%.

Source: DICOM PS3.16, TID 1411 and 1501 (groups), TID 310 (properties of a measurement), CID 7472
and 7462 (volumes and their units).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ddmseg.imaging.dicom.reference import MAKER, lasting_uid, software_version
from ddmseg.imaging.dicom.seg import (
    ARTIFICIAL_INTELLIGENCE,
    CATEGORIES,
    PRIVATE_SCHEME,
    Code,
    CodedStructure,
    coded_structure,
    concept,
    tracking_name,
    tracking_uid,
)
from ddmseg.imaging.dicom.series import Series
from ddmseg.quality.segmentation import INTRACRANIAL, Segmentation, StructureVolume

if TYPE_CHECKING:
    from pydicom import Dataset

DECIMALS = 4
"""Of a volume in ml, as in the table of volumes."""

VOLUME = Code("118565006", "SCT", "Volume")
MILLILITRE = Code("cm3", "UCUM", "cubic centimeter")
"""The standard's units of volume have no ml; this is the same."""
BILATERAL = Code("51440002", "SCT", "Bilateral")
ABOVE = Code("371886008", "SCT", "+, range of upper measurement uncertainty")
BELOW = Code("371885007", "SCT", "-, range of lower measurement uncertainty")
TOTALS = {
    "Brain": Code("12738006", "SCT", "Brain"),
    "Grey-Matter": Code("389081007", "SCT", "Gray Matter"),
    "White-Matter": Code("389080008", "SCT", "White Matter"),
    "Ventricles": Code("35764002", "SCT", "Brain ventricle"),
    INTRACRANIAL: Code("128319008", "SCT", "Intracranial structure"),
}
"""Codes of what structures add up to (CID 7140 and 7153)."""


class MeasurementGroups:
    """The groups of measurements of one scan."""

    def __init__(self, highdicom: Any, series: Series, seg: Dataset, model: str) -> None:
        self._highdicom, self._series, self._seg, self._model = highdicom, series, seg, model
        self._segments = {
            # the background of a label map has no mark
            str(one.get("TrackingUID", "")): int(one.SegmentNumber)
            for one in seg.SegmentSequence
        }

    def all(self, segmentation: Segmentation) -> list[Any]:
        """Return structures, then both sides together and totals, as in the table."""
        index_of = {row.name: row.index for row in segmentation.volumes}
        return [
            *(self._structure(row) for row in segmentation.volumes),
            *(self._total(row, index_of) for row in segmentation.totals),
        ]

    def _structure(self, row: StructureVolume) -> Any:
        mark = tracking_uid(self._series, row.index)
        coded, name = coded_structure(row.index), tracking_name(row.index)
        return self._group(row, coded, coded.side, mark, name, self._segments.get(mark))

    def _total(self, row: StructureVolume, index_of: dict[str, int]) -> Any:
        mark = lasting_uid(MAKER, self._series.uid, row.name)
        if row.name in TOTALS:
            coded = CodedStructure(CATEGORIES["structure"], TOTALS[row.name], None, None)
            return self._group(row, coded, None, mark, row.name)
        coded = coded_structure(index_of[f"Left-{row.name}"])
        if coded.type.scheme == PRIVATE_SCHEME and coded.side is None:  # it names the left one
            own = Code(f"B{coded.type.value}", PRIVATE_SCHEME, row.name)
            coded = CodedStructure(coded.category, own, None, coded.region)
        return self._group(row, coded, BILATERAL, mark, row.name)

    def _group(
        self,
        row: StructureVolume,
        coded: CodedStructure,
        side: Code | None,
        mark: str,
        name: str,
        segment: int | None = None,
    ) -> Any:
        sr = self._highdicom.sr
        content = {
            "tracking_identifier": sr.TrackingIdentifier(uid=mark, identifier=name),
            "finding_category": concept(coded.category),
            "finding_type": concept(coded.type),
            "finding_sites": self._sites(coded, side),
            "algorithm_id": sr.AlgorithmIdentification(
                name=MAKER,
                version=software_version(),
                parameters=[f"model {self._model}"],
                family=concept(ARTIFICIAL_INTELLIGENCE),
            ),
            "measurements": [self._measurement(row)],
        }
        if segment is None:
            return sr.MeasurementsAndQualitativeEvaluations(**content)
        return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            referenced_segment=sr.ReferencedSegment(
                sop_class_uid=str(self._seg.SOPClassUID),
                sop_instance_uid=str(self._seg.SOPInstanceUID),
                segment_number=segment,
                source_series=sr.SourceSeriesForSegmentation(self._series.uid),
            ),
            **content,
        )

    def _sites(self, coded: CodedStructure, side: Code | None) -> list[Any] | None:
        """Where it lies: the structure itself, or what it is a part of; a fluid lies nowhere."""
        site = coded.region or coded.type
        if coded.category == CATEGORIES["substance"] and coded.region is None:
            return None
        laterality = side and concept(side)
        return [self._highdicom.sr.FindingSite(concept(site), laterality=laterality)]

    def _measurement(self, row: StructureVolume) -> Any:
        sr, unit = self._highdicom.sr, concept(MILLILITRE)
        volume = round(float(row.volume_ml), DECIMALS)
        properties = sr.MeasurementProperties()
        above = round(round(float(row.interval_high_ml), DECIMALS) - volume, DECIMALS)
        below = round(volume - round(float(row.interval_low_ml), DECIMALS), DECIMALS)
        if min(above, below) >= 0 and above < math.inf:  # a range of uncertainty has no sign
            how = {"unit": unit, "relationship_type": sr.RelationshipTypeValues.HAS_PROPERTIES}
            for code, value in ((ABOVE, above), (BELOW, below)):
                properties.append(sr.NumContentItem(name=concept(code), value=value, **how))
        return sr.Measurement(name=concept(VOLUME), value=volume, unit=unit, properties=properties)
