"""Settings of older cards and records that are gone: read where they did nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ddmseg.errors import SettingsError
from ddmseg.models.settings_reader import shown

RETIRED: dict[str, dict[str, Any]] = {
    "model": {"guided": False, "norm_group": 1},
    "data": {"guide": "none"},
    "sampling": {"decides": [], "one_body": False},
    "distillation": {"method": "soft_labels"},
}
"""By table and key, the value that means nothing."""


def without_retired(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return stored settings without the keys that are gone, none of which may do anything."""
    kept = dict(stored)
    for table, keys in RETIRED.items():
        if not isinstance(kept.get(table), Mapping):
            continue
        kept[table] = dict(kept[table])
        for key, nothing in keys.items():
            value = kept[table].pop(key, nothing)
            if value != nothing:
                raise SettingsError(
                    f"{table}.{key}: got {shown(value)}, which is gone from ddmseg; train anew, or "
                    "take the version that it was trained with"
                )
    return kept
