"""What a reader of scores must know: each fact in one line."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ddmseg.errors import first_of
from ddmseg.evaluation.labels import LabelTable
from ddmseg.evaluation.pairs import bids_subject
from ddmseg.maths.case_scores import Score

_SHOWN = 5


def notes_on_labels(
    predicted: Counter[int], true: Counter[int], table: LabelTable | None, cases: int
) -> list[str]:
    """Name ids, counted by cases, that are scored or left out in a way that may surprise."""
    if table is not None:
        sides = (("prediction", predicted, table.prediction_ids), ("truth", true, table.truth_ids))
        return [
            f"label ids of the {side} that the table does not name, left out: "
            f"{_ids_listed(found, unknown, cases)}"
            for side, found, known in sides
            if (unknown := sorted(set(found) - known))
        ]
    if predicted and true and not set(predicted) & set(true):
        return [
            "no label id is in both predictions and truth, so nothing overlaps; name what "
            "belongs together with --labels"
        ]
    extra = sorted(set(predicted) - set(true))
    if not extra:
        return []
    return [
        "label ids of the prediction that no truth has, scored as wrong: "
        f"{_ids_listed(predicted, extra, cases)}; a table with --labels leaves them out"
    ]


def notes_on_rounding(rounded: Mapping[Path, float]) -> list[str]:
    """Name in one line which label maps held ids that were only nearly whole, and how far off."""
    if not rounded:
        return []
    files = f"{len(rounded)} label map{'s' * (len(rounded) != 1)}"
    return [
        f"{files} ({first_of([str(path) for path in rounded], _SHOWN)}): ids up to "
        f"{max(rounded.values()):.2g} from whole numbers, rounded"
    ]


def notes_on_scores(scores: Sequence[Score]) -> list[str]:
    """Name empty structures, empty predictions and what limits the intervals."""
    cases = list(dict.fromkeys(score.case for score in scores))
    notes = []
    if len(cases) == 1:
        notes.append("one patient only: no interval, no limits of agreement")
    people = Counter(subject.split("_")[0] for c in cases if (subject := bids_subject(c)))
    twice = [person for person, count in people.items() if count > 1]
    if twice:
        notes.append(
            f"several scans of one person ({first_of(twice, _SHOWN)}): intervals take each scan "
            "as a patient, so they are too narrow"
        )
    for case in cases:
        if all(score.prediction_ml == 0 for score in scores if score.case == case):
            notes.append(f"{case}: the prediction holds none of the structures")
    for structure in dict.fromkeys(score.structure for score in scores):
        notes += _notes_on_structure(structure, [s for s in scores if s.structure == structure])
    return notes


def _notes_on_structure(structure: str, scores: Sequence[Score]) -> Iterable[str]:
    missed = [s.case for s in scores if math.isinf(s.hausdorff_mm) and s.prediction_ml == 0]
    invented = [s.case for s in scores if math.isinf(s.hausdorff_mm) and s.truth_ml == 0]
    absent = [s.case for s in scores if math.isnan(s.dice)]
    counted = "overlaps count as 0, the infinite distance is left out"
    for found, what in (
        (missed, f"in the truth but not predicted: {counted}"),
        (invented, f"predicted but not in the truth: {counted}"),
        (absent, "in neither map: left out"),
    ):
        if found:
            patients = f"{len(found)} patient{'s' * (len(found) != 1)}"
            yield f"{structure}, {patients} ({first_of(found, _SHOWN)}): {what}"


def _ids_listed(found: Counter[int], ids: Sequence[int], cases: int) -> str:
    return ", ".join(f"{index} ({found[index]} of {cases})" for index in ids)
