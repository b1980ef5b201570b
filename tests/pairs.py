"""Cases of several parameters in which every two values meet, instead of their whole product."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any


def pairs(*axes: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return cases, one value of each axis, such that all values of any two axes meet.

    Greedy: the case that adds the most new pairs comes next, so few more than the product of
    the two longest axes are needed.
    """
    left = [tuple(enumerate(case)) for case in itertools.product(*(range(len(a)) for a in axes))]
    wanted = {pair for case in left for pair in itertools.combinations(case, 2)}
    chosen = []
    while wanted:
        best = max(left, key=lambda case: len(wanted & set(itertools.combinations(case, 2))))
        wanted -= set(itertools.combinations(best, 2))
        chosen.append(tuple(axes[axis][place] for axis, place in best))
    return chosen
