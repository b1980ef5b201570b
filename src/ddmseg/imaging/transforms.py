"""What was done to a scan, step by step, and how it is undone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ddmseg.imaging.grid import IndexMap


@dataclass(frozen=True)
class Step:
    """One thing that was done to a scan: its name, and its values as JSON has them.

    A step that moves voxels within the scan's own axes has ``inverse``: the map from an index after
    the step to the index before it.
    """

    name: str
    values: dict[str, Any]
    inverse: IndexMap | None = None

    def describe(self) -> dict[str, Any]:
        """Return the step as plain values, ready for JSON."""
        return {"step": self.name, **self.values}


def inverse_of_all(steps: Sequence[Step]) -> IndexMap:
    """Return the map from an index after all steps to the index before the first.

    Of a turned scan, to the index after it was turned.
    """
    total = IndexMap.identity()
    for step in reversed(steps):
        if step.inverse is not None:
            total = total.then(step.inverse)
    return total
