"""Refusals of settings: what came, what is allowed."""

from __future__ import annotations

from typing import Any

from ddmseg.errors import SettingsError


def require(ok: bool, settings: object, name: str, allowed: str) -> None:
    """Refuse ``table.name`` of the settings, or of that table of them, unless ``ok``.

    Raises:
        SettingsError: names the setting, what came and what is allowed.
    """
    if not ok:
        came = value_of(settings, name)
        raise SettingsError(f"{name}: got {repr(came) if came == '' else came}; {allowed}")


def value_of(settings: object, name: str) -> Any:
    """Return ``table.name`` of all settings, or of that table."""
    table, key = name.split(".")
    return getattr(getattr(settings, table, settings), key)


def require_least(least: int, settings: object, *names: str) -> None:
    """Refuse each ``table.name`` below a number; errors as of :func:`require`."""
    for name in names:
        ok = value_of(settings, name) >= least
        require(ok, settings, name, f"must be at least {least}")


def require_above_0(settings: object, *names: str) -> None:
    """Refuse each ``table.name`` unless above 0; errors as of :func:`require`."""
    for name in names:
        require(value_of(settings, name) > 0, settings, name, "must be above 0")


def require_share(settings: object, *names: str) -> None:
    """Refuse each ``table.name`` outside [0, 1]; errors as of :func:`require`."""
    for name in names:
        require(0 <= value_of(settings, name) <= 1, settings, name, "must be within 0 and 1")
