"""A fixed split for sets whose persons cannot be listed in a shipped table.

Each person's share is drawn from a hash of the set's and the person's name. So the
split needs no file, is the same on every machine and for every part of a set that
somebody has, and never puts two scans of one person into two splits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from ddmseg.datasets.case import Case
from ddmseg.datasets.split_tables import SplitCases
from ddmseg.errors import UsageError

SHARES: Mapping[str, float] = {"train": 0.7, "validation": 0.1, "test": 0.2}


def split_by_person(
    cases: Iterable[Case], name: str, shares: Mapping[str, float] = SHARES
) -> SplitCases:
    """Sort cases into splits by their group.

    Args:
        cases: of one data set.
        name: of the set; another name gives another split.
        shares: of the persons, by split; they add up to 1. Met on average.

    Raises:
        UsageError: when shares are negative or do not add up to 1.
    """
    if min(shares.values(), default=-1.0) < 0 or abs(sum(shares.values()) - 1.0) > 1e-9:
        raise UsageError(f"shares: got {dict(shares)}; they must be at least 0 and add up to 1")
    by_split: dict[str, list[Case]] = {split: [] for split in shares}
    for case in cases:
        by_split[_split_of(f"{name}/{case.group}", shares)].append(case)
    return SplitCases(name, {split: tuple(found) for split, found in by_split.items()}, ())


def _split_of(key: str, shares: Mapping[str, float]) -> str:
    drawn = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    reached = 0.0
    for split, share in shares.items():
        reached += share
        if drawn < reached:
            return split
    return next(reversed([split for split, share in shares.items() if share > 0]))
