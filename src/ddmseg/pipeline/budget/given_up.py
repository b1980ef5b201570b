"""What a budget costs in accuracy, told from what validation subjects lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ddmseg.pipeline.budget.costs import Draw
from ddmseg.pipeline.budget.plan import Wish

KEY = "dice_by_draw"
"""Of the card's calibration: mean Dice of validation subjects, by what was drawn."""
NOTHING = "no samples"


def given_up(
    known: Mapping[str, float], wish: Wish, drawn: Sequence[Draw]
) -> dict[str, Any] | None:
    """Return the Dice that validation subjects lose by drawing no more than this.

    Args:
        known: of the card, see ``pipeline.calibrate_weights``.
        wish: what would be run without a budget.
        drawn: sets of samples that were.

    Returns:
        None where nothing is known of either, or all was drawn.
    """
    if not wish.first or (drawn and drawn[-1] not in wish.first[:-1]):
        return None
    most, got = str(wish.first[-1]), str(drawn[-1]) if drawn else NOTHING
    if most not in known or got not in known or most == got:
        return None
    less = round(known[most] - known[got], 5)
    return {"against": most, "drawn": got, "validation_dice_less": less}
