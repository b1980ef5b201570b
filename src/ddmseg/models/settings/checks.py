"""Refusals of settings: what came, what is allowed."""

from __future__ import annotations

from ddmseg.errors import SettingsError


def require(ok: bool, name: str, came: object, allowed: str) -> None:
    """Refuse a value unless ``ok``.

    Raises:
        SettingsError: names the setting, what came and what is allowed.
    """
    if not ok:
        raise SettingsError(f"{name}: got {came}; {allowed}")


def require_least(least: int, settings: object, name: str) -> None:
    """Refuse ``table.name`` of the settings below a number; errors as of :func:`require`."""
    value = getattr(settings, name.split(".")[1])
    require(value >= least, name, value, f"must be at least {least}")


def require_above_0(settings: object, name: str) -> None:
    """Refuse ``table.name`` of the settings unless above 0; errors as of :func:`require`."""
    value = getattr(settings, name.split(".")[1])
    require(value > 0, name, value, "must be above 0")


def require_share(settings: object, name: str) -> None:
    """Refuse ``table.name`` of the settings outside [0, 1]; errors as of :func:`require`."""
    value = getattr(settings, name.split(".")[1])
    require(0 <= value <= 1, name, value, "must be within 0 and 1")
