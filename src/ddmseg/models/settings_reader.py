"""The strict reader of settings: dataclasses from TOML, nothing unknown let through.

A file may begin with ``extends = "other.toml"``: it then holds only what differs from
that file, so that rows of one table share their terms by construction.
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
import tomllib
from dataclasses import MISSING
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from ddmseg.errors import SettingsError, did_you_mean
from ddmseg.models.json_reader import check_depth, read_bounded

S = TypeVar("S")

EXTENDS = "extends"
_ENGLISH = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
MOST_BYTES = 1 << 16
"""Of a settings file."""
LONGEST_LINE = 1000
"""tomllib takes memory with the square of a dotted key."""
LONGEST_CHAIN = 16
"""Files that extend each other."""
HIGHEST = 10**12
"""Whole numbers beyond it, and below its negative, are a slip of the hand."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
LONGEST = 200
"""Letters of a value that is told as it came."""


def read_toml(path: Path) -> dict[str, Any]:
    """Return the values of a TOML file, those of the file it extends filled in."""
    try:
        return _read_chain(path)
    except RecursionError:  # of tables within tables, and nothing else here calls itself
        raise SettingsError(f"{path}: nested too deeply; give tables of settings") from None


def _read_chain(path: Path) -> dict[str, Any]:
    raw: dict[str, Any] = {}
    seen: list[Path] = []
    following: Path | None = path
    while following is not None:
        # a path can be written in many ways
        if following.resolve() in seen:
            raise SettingsError(f"{path}: extends itself; name another file")
        seen.append(following.resolve())
        if len(seen) > LONGEST_CHAIN:
            raise SettingsError(f"{path}: extends more than {LONGEST_CHAIN} files, one by one")
        layer = _read_layer(following)
        base = layer.pop(EXTENDS, None)
        raw = _merged(layer, raw)
        if base is not None and not isinstance(base, str):
            raise SettingsError(f"{following}: {EXTENDS}: got {shown(base)}; give a file name")
        following = None if base is None else following.parent / base
    return raw


def _read_layer(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise SettingsError(f"{path}: no such settings file; give the path of a .toml file")
    try:
        text = read_bounded(path, most_bytes=MOST_BYTES).decode("utf-8")
        if max(map(len, text.split("\n"))) > LONGEST_LINE:
            raise ValueError(f"a line of more than {LONGEST_LINE} characters")
        layer = tomllib.loads(text)
        check_depth(layer)
        return layer
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        reason = " ".join(str(error).split())[:200]
        raise SettingsError(f"{path}: not a TOML file ({reason})") from error


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return both, table by table; ``over`` wins."""
    result = dict(base)
    for key, value in over.items():
        both_tables = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both_tables else value
    return result


def shown(value: object) -> str:
    """Return a value as it is told in a message: one short line, however long or deep it is."""
    return _SHORT.repr(value)


def settings_from_dict(kind: type[S], raw: dict[str, Any], *, prefix: str = "") -> S:
    """Build a settings dataclass from plain values, strictly.

    Args:
        raw: values by name, tables as dicts; what is left out keeps its default.
        prefix: where in the file this table stands, for the messages.

    Raises:
        SettingsError: a key is unknown or missing, or a value is not allowed.
    """
    hints = get_type_hints(kind)
    unknown = [key for key in raw if key not in hints]
    if unknown:
        name = shown(unknown[0])[1:-1]
        raise SettingsError(
            f"{prefix}{name}: unknown setting{did_you_mean(name, hints)}; "
            f"allowed are {', '.join(hints)}"
        )
    values = {key: _checked(value, hints[key], f"{prefix}{key}") for key, value in raw.items()}
    for entry in dataclasses.fields(kind):  # type: ignore[arg-type]
        has_default = entry.default is not MISSING or entry.default_factory is not MISSING
        if entry.name not in values and not has_default:
            raise SettingsError(f"{prefix}{entry.name}: missing; it has no default, so give it")
    return kind(**values)


def _checked(value: Any, hint: Any, name: str) -> Any:
    if hint is Any:
        return value
    if isinstance(hint, UnionType):  # of one kind and None, which is left out in a file
        hint = get_args(hint)[0]
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise SettingsError(f"{name}: got {shown(value)}; it must be a table")
        return settings_from_dict(hint, value, prefix=f"{name}.")
    if get_origin(hint) is Literal:
        words = get_args(hint)
        if value not in words:
            raise SettingsError(
                f"{name}: got {shown(value)}; allowed are {', '.join(words)}"
                f"{did_you_mean(shown(value), words)}"
            )
        return value
    if get_origin(hint) is tuple:
        inner, *others = get_args(hint)
        if not isinstance(value, list | tuple):
            raise SettingsError(f"{name}: got {shown(value)}; it must be a list")
        if others != [...] and len(value) != 1 + len(others):
            raise SettingsError(f"{name}: got {len(value)} values; give {1 + len(others)}")
        return tuple(_checked(item, inner, name) for item in value)
    if get_origin(hint) is dict:
        if not isinstance(value, dict):
            raise SettingsError(f"{name}: got {shown(value)}; it must be a table")
        return {key: _checked(item, get_args(hint)[1], name) for key, item in value.items()}
    return _checked_plain(value, hint, name)


def _checked_plain(value: Any, hint: Any, name: str) -> Any:
    """Return a number, text or truth value; a whole number may stand for another."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if whole and abs(value) > HIGHEST:
        raise SettingsError(f"{name}: got {shown(value)}; it must be within ±{HIGHEST:.0e}")
    if hint is float and whole:
        return float(value)
    if not isinstance(value, hint) or (hint is int and not whole):
        raise SettingsError(f"{name}: got {shown(value)}; it must be {_ENGLISH[hint]}")
    if hint is float and not math.isfinite(value):
        raise SettingsError(f"{name}: got {value}; it must be a finite number")
    return value


def settings_to_dict(settings: Any) -> dict[str, Any]:
    """Return plain values, ready for JSON; undone by :func:`settings_from_dict`."""
    return dataclasses.asdict(settings)


def require(ok: bool, settings: object, name: str, allowed: str) -> None:
    """Refuse ``table.name`` of the settings, or of that table of them, unless ``ok``."""
    if not ok:
        came = value_of(settings, name)
        told = shown(came) if came == "" or len(str(came)) > LONGEST else came
        raise SettingsError(f"{name}: got {told}; {allowed}")


def value_of(settings: object, name: str) -> Any:
    """Return ``table.name`` of all settings, or of that table."""
    table, key = name.split(".")
    return getattr(getattr(settings, table, settings), key)


def require_least(least: int, settings: object, *names: str) -> None:
    """Refuse each ``table.name`` below a number."""
    for name in names:
        ok = value_of(settings, name) >= least
        require(ok, settings, name, f"must be at least {least}")


def require_above_0(settings: object, *names: str) -> None:
    """Refuse each ``table.name`` unless above 0."""
    for name in names:
        require(value_of(settings, name) > 0, settings, name, "must be above 0")


def require_share(settings: object, *names: str) -> None:
    """Refuse each ``table.name`` outside [0, 1]."""
    for name in names:
        require(0 <= value_of(settings, name) <= 1, settings, name, "must be within 0 and 1")


def require_default(settings: object, name: str, allowed: str) -> None:
    """Refuse ``table.name`` unless it was left out, or given as its default."""
    table, key = name.split(".")
    kind: Any = type(getattr(settings, table, settings))
    default = kind.__dataclass_fields__[key].default
    require(value_of(settings, name) == default, settings, name, allowed)
