"""The strict reader of settings: dataclasses from TOML, nothing unknown let through.

A file may begin with ``extends = "other.toml"``: it then holds only what differs from
that file, so that rows of one table share their terms by construction.
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import MISSING
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from ddmseg.errors import SettingsError, did_you_mean

S = TypeVar("S")

EXTENDS = "extends"


def read_toml(path: Path) -> dict[str, Any]:
    """Return the values of a TOML file, those of the file it extends filled in.

    Raises:
        SettingsError: a file is missing, not TOML, or extends itself.
    """
    raw: dict[str, Any] = {}
    seen: list[Path] = []
    following: Path | None = path
    while following is not None:
        if following in seen:
            raise SettingsError(f"{path}: extends itself; name another file")
        seen.append(following)
        layer = _read_layer(following)
        base = layer.pop(EXTENDS, None)
        raw = _merged(layer, raw)
        if base is not None and not isinstance(base, str):
            raise SettingsError(f"{following}: {EXTENDS}: got {base!r}; it must be a file name")
        following = None if base is None else following.parent / base
    return raw


def _read_layer(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise SettingsError(f"{path}: no such settings file; give the path of a .toml file")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not a TOML file ({error})") from error


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return both, table by table; ``over`` wins."""
    result = dict(base)
    for key, value in over.items():
        both_tables = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both_tables else value
    return result


def settings_from_dict(kind: type[S], raw: dict[str, Any], *, prefix: str = "") -> S:
    """Build a settings dataclass from plain values, strictly.

    Args:
        kind: the dataclass.
        raw: values by name, tables as dicts; what is left out keeps its default.
        prefix: where in the file this table stands, for the messages.

    Raises:
        SettingsError: a key is unknown or missing, or a value is not allowed.
    """
    hints = get_type_hints(kind)
    unknown = [key for key in raw if key not in hints]
    if unknown:
        raise SettingsError(
            f"{prefix}{unknown[0]}: unknown setting{did_you_mean(unknown[0], hints)}; "
            f"allowed are {', '.join(hints)}"
        )
    values = {key: _checked(value, hints[key], f"{prefix}{key}") for key, value in raw.items()}
    for entry in dataclasses.fields(kind):  # type: ignore[arg-type]
        has_default = entry.default is not MISSING or entry.default_factory is not MISSING
        if entry.name not in values and not has_default:
            raise SettingsError(f"{prefix}{entry.name}: missing; it has no default, so give it")
    return kind(**values)


def _checked(value: Any, hint: Any, name: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise SettingsError(f"{name}: got {value!r}; it must be a table")
        return settings_from_dict(hint, value, prefix=f"{name}.")
    if get_origin(hint) is Literal:
        words = get_args(hint)
        if value not in words:
            raise SettingsError(
                f"{name}: got {value!r}; allowed are {', '.join(words)}"
                f"{did_you_mean(str(value), words)}"
            )
        return value
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        if not isinstance(value, list | tuple):
            raise SettingsError(f"{name}: got {value!r}; it must be a list")
        return tuple(_checked(item, inner, name) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise SettingsError(f"{name}: got {value!r}; it must be {_english(hint)}")
    return value


def _english(hint: Any) -> str:
    return {int: "a whole number", float: "a number", str: "text", bool: "true or false"}[hint]


def settings_to_dict(settings: Any) -> dict[str, Any]:
    """Return plain values, ready for JSON; undone by :func:`settings_from_dict`."""
    return dataclasses.asdict(settings)
