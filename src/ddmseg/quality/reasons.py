"""Reasons of a verdict: an English sentence that also carries what it says as a code with values.

The sentence is what logs, reports and DICOM results show. The code lets a page say the same
in another language; ``_qc.json`` has both, side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ddmseg.errors import Reason as Reason
from ddmseg.errors import reason_code as reason_code

NAMED = 5
"""Structures named in one sentence."""


def about_structures(
    begin: str, code: str, structures: Iterable[tuple[str, Mapping[str, Any]]]
) -> Reason:
    """Return a reason that lists structures; a long list ends with how many more there are.

    Args:
        begin: of the sentence, such as ``not found``.
        code: of the reason.
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
