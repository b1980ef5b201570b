"""What ``--help`` shows of a dataclass of arguments: plain sentences and readable defaults.

tyro would break docstrings where their source does, keep their back-ticks, quote defaults as a
shell wants them, and say of every switch that it is off.
"""

from __future__ import annotations

import dataclasses
import inspect
import shutil
import textwrap
from collections.abc import Callable
from functools import partial
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, arg
from tyro.constructors import (
    MISSING_NONPROP,
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

CONFIG = (FlagCreatePairsOff, OmitArgPrefixes)
"""How tyro makes options: no --no-overwrite beside --overwrite, no --segmentation.mode."""
WIDEST = 100
"""Columns that a line of the description takes at most."""


def described(kind: type[Any], example: str) -> str:
    """Return what a command does, wrapped for this terminal, with an example of a call."""
    width = min(shutil.get_terminal_size().columns, WIDEST)
    paragraphs = (inspect.getdoc(kind) or "").replace("`", "").split("\n\n")
    # tyro joins lines but for those that are indented
    filled = (textwrap.fill(text, width, subsequent_indent="  ") for text in paragraphs)
    return "\n\n".join([*filled, *([f"Example: {example}"] if example else [])])


def bare(hint: Any) -> Any:
    """Return X for X with notes and for ``X | None``."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, UnionType):
        (hint,) = [inner for inner in get_args(hint) if inner is not type(None)]
    return hint


def choices_of(hint: Any) -> tuple[str, ...]:
    """Return the words that are allowed; none where any is."""
    return get_args(bare(hint)) if get_origin(bare(hint)) is Literal else ()


def registry() -> ConstructorRegistry:
    """Return tyro's types with ours before them."""
    rules = ConstructorRegistry()
    rules.struct_rule(_dataclass)
    rules.primitive_rule(_optional)
    return rules


def _dataclass(info: StructTypeInfo) -> StructConstructorSpec | None:
    """The fields of a dataclass with their help."""
    kind: Any = info.type
    if not (
        isinstance(kind, type) and dataclasses.is_dataclass(kind)
    ) or kind.__module__.startswith("tyro."):
        return None  # tyro wraps several commands in a dataclass of its own
    hints = get_type_hints(kind, include_extras=True)
    fields = []
    for field in dataclasses.fields(kind):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if default is dataclasses.MISSING:
            default = MISSING_NONPROP
        default = getattr(info.default, field.name, default)
        hint, helped = hints[field.name], partial(_sentence, kind, field.name, hints[field.name])
        fields.append(StructFieldSpec(field.name, _hinted(hint, default), default, helped))
    return StructConstructorSpec(instantiate=kind, fields=tuple(fields))


def _hinted(hint: Any, default: Any) -> Any:
    """Leave out what a default of nothing would say."""
    if not (default is None or default is False or default == ()):
        return hint
    bare, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    return Annotated[(bare, arg(help_behavior_hint=""), *notes)]


def _sentence(kind: type[Any], name: str, hint: Any) -> str | None:
    """Return the docstring of a field as running text that begins as sentences do, or None."""
    import docstring_parser

    for one in filter(dataclasses.is_dataclass, inspect.getmro(kind)):
        for told in docstring_parser.parse_from_object(one).params:
            if told.arg_name == name and told.description:
                text = " ".join(told.description.replace("`", "").split())
                first = text.split()[0]
                plain = first.isalpha() and first not in choices_of(hint)
                return f"{text[0].upper()}{text[1:]}" if plain else text
    return None


def _optional(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Show ``X | None`` as X: nobody types None."""
    if type(None) not in get_args(info.type):
        return None
    inner, choices = bare(info.type), choices_of(info.type) or None
    build: Callable[[str], Any] = str if choices else inner
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="{" + ",".join(choices) + "}" if choices else inner.__name__.upper(),
        instance_from_str=lambda words: build(words[0]),
        is_instance=lambda value: value is None or isinstance(value, build),  # type: ignore[arg-type]
        str_from_instance=lambda value: [str(value)],
        choices=choices,
    )
