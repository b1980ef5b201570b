"""Reasons of a verdict: an English sentence that also carries what it says as a code with values.

The sentence is what logs, reports and DICOM results show. The code lets a page say the same
in another language; ``_qc.json`` has both, side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

from ddmseg.errors import Reason as Reason
from ddmseg.errors import reason_code as reason_code

Subject = Literal["scan", "anatomy", "result"]
"""What a reason is about: how the scan was made, who was scanned, or how it was labelled."""
SUBJECTS: tuple[Subject, ...] = get_args(Subject)
ANATOMY = frozenset(
    ("volumes_small", "volumes_large", "asymmetric", "unlike_structure", "tissue_missing")
)
"""Codes of reasons that name something which a healthy head seldom has."""
RESULT = frozenset(
    (
        *("nothing_found", "expected_dice_low", "weak_structures", "not_found"),
        *("samples_disagree", "pieces", "holes", "side_missing"),
    )
)
"""Codes of reasons that doubt the labels; all others are about the scan."""
NAMED = 5
"""Structures named in one sentence."""


def subject(reason: str) -> Subject:
    """Return what a reason is about; a sentence without a code comes from the scan's file.

    >>> subject(Reason("unusually large: CSF", "volumes_large", {})), subject("it is odd")
    ('anatomy', 'scan')
    """
    return subject_of(reason_code(reason))


def subject_of(told: Mapping[str, Any] | None) -> Subject:
    """Return what a reason is about, by its code and values as ``_qc.json`` has them."""
    code = (told or {}).get("code")
    if told and code == "on_side":
        return subject_of(told["values"].get("reason"))
    return "anatomy" if code in ANATOMY else "result" if code in RESULT else "scan"


def about_structures(
    begin: str, code: str, structures: Iterable[tuple[str, Mapping[str, Any]]]
) -> Reason:
    """Return a reason that lists structures; a long list ends with how many more there are.

    Args:
        begin: of the sentence, such as ``not found``.
        structures: how each is told in the sentence, and its values, ``name`` among them.

    >>> about_structures("not found", "not_found", [("CSF", {"name": "CSF"})])
    'not found: CSF'
    """
    told = list(structures)
    more = max(0, len(told) - NAMED)
    rest = f" and {more} more" if more else ""
    sentence = f"{begin}: {', '.join(words for words, _ in told[:NAMED])}{rest}"
    listed = [dict(values) for _, values in told[:NAMED]]
    return Reason(sentence, code, {"structures": listed, "more": more})


def on_side(side: str, reason: str) -> Reason:
    """Return a reason that holds for one side of the head, ``left`` or ``right``.

    >>> on_side("left", "it is odd")
    'left side: it is odd'
    """
    values = {"side": side, "sentence": str(reason), "reason": reason_code(reason)}
    return Reason(f"{side} side: {reason}", "on_side", values)
