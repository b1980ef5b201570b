"""Settings of older records that are gone from ddmseg: read where they did nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ddmseg.errors import SettingsError
from ddmseg.models.settings_reader import shown

RETIRED: dict[str, dict[str, Any]] = {
    "model": {"guided": False},
    "data": {"guide": "none"},
    "sampling": {"decides": []},
}
"""By table and key, the value that means nothing. All are of the second level in patches."""


def without_retired(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return stored settings without the keys that are gone.

    Args:
        stored: settings as a record has them, table by table.

    Raises:
        SettingsError: when one of the keys held a value that did something.
    """
    kept = dict(stored)
    for table, keys in RETIRED.items():
        if not isinstance(kept.get(table), Mapping):
            continue
        kept[table] = dict(kept[table])
        for key, nothing in keys.items():
            value = kept[table].pop(key, nothing)
            if value != nothing:
                raise SettingsError(
                    f"{table}.{key}: got {shown(value)}; second levels in patches are gone, "
                    "and with them what this record is of"
                )
    return kept
