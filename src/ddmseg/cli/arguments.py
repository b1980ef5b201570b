"""From words on the command line to a dataclass of arguments.

tyro makes the options and their help from the dataclass. The words are checked
here first, because a mistake must give one line that says what came, what is
allowed and what to do.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from ddmseg.errors import UsageError, did_you_mean

T = TypeVar("T")
_FRAME = dict.fromkeys(map(ord, "╭╮╰╯│─"), " ")
"""What tyro draws around a complaint."""
_ENGLISH: dict[Any, str] = {int: "a whole number", float: "a number", str: "a word", Path: "a path"}


@dataclass(frozen=True)
class Option:
    """One option or positional argument of a command.

    ``names`` are as typed, such as ``--output`` and ``-o``; for a positional argument the word that
    the help shows. The type ``kind`` of the value is bool for a switch without value.
    """

    names: tuple[str, ...]
    kind: Any
    choices: tuple[str, ...]
    required: bool
    positional: bool = False
    many: bool = False

    def check(self, name: str, value: str) -> None:
        """Refuse a value that cannot be, with the nearest allowed word where there is one."""
        if self.choices and value not in self.choices:
            raise UsageError(
                f"{name}: got '{value}'{did_you_mean(value, self.choices)}; "
                f"allowed are {', '.join(self.choices)}"
            )
        if self.kind in (int, float):
            try:
                self.kind(value)
            except ValueError as error:
                raise UsageError(
                    f"{name}: got '{value}'; it must be {_ENGLISH[self.kind]}"
                ) from error


def parse(kind: type[T], words: Sequence[str], *, program: str, example: str = "") -> T:
    """Return the arguments of one command; nested dataclasses add options to the same level.

    Raises:
        UsageError: when an option or a value is unknown, missing or too much.
        SystemExit: with code 0 after ``--help``.
    """
    import tyro

    from ddmseg.cli.help import CONFIG, described, registry

    if not {"-h", "--help"} & set(words):
        words = _checked(options_of(kind), words, program)
    about, rules, complaint = described(kind, example), registry(), io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                kind, prog=program, description=about, args=words, config=CONFIG, registry=rules
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        told = " ".join(complaint.getvalue().translate(_FRAME).split())
        raise UsageError(f"{told}; see {program} --help") from stop


def options_of(kind: type[Any]) -> list[Option]:
    """Return every option of a dataclass, those of nested dataclasses included."""
    from ddmseg.cli.help import bare

    hints = get_type_hints(kind, include_extras=True)
    found: list[Option] = []
    for field in dataclasses.fields(kind):
        hint = bare(hints[field.name])
        if dataclasses.is_dataclass(hint):
            assert isinstance(hint, type)
            found += options_of(hint)
        else:
            found.append(_option(field, hint, getattr(hints[field.name], "__metadata__", ())))
    return found


def _option(field: dataclasses.Field[Any], hint: Any, notes: Sequence[Any]) -> Option:
    from tyro.conf import Positional

    from ddmseg.cli.help import choices_of

    required = field.default is field.default_factory is dataclasses.MISSING
    shown = next((n.metavar for n in notes if getattr(n, "metavar", None)), field.name.upper())
    aliases = next((n.aliases for n in notes if getattr(n, "aliases", None)), ())
    positional = get_args(Positional[int])[1] in notes
    many = get_origin(hint) is tuple
    hint = get_args(hint)[0] if many else hint
    choices = choices_of(hint)
    names = (shown,) if positional else (f"--{field.name.replace('_', '-')}", *aliases)
    return Option(names, str if choices else hint, choices, required, positional, many)


def _checked(options: Sequence[Option], words: Sequence[str], program: str) -> list[str]:
    """Check every word; return them with the positional ones first, as tyro wants them."""
    by_name = {name: option for option in options if not option.positional for name in option.names}
    places: list[str] = []
    given: dict[str, list[str]] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            # what follows are paths, whatever they begin with
            places += [f"./{path}" if path.startswith("-") else path for path in rest]
            break
        if not word.startswith("-"):
            places.append(word)
            continue
        name, as_typed = _take_option(word, rest, by_name, program)
        if name in given:
            raise UsageError(f"{name}: given twice; once is allowed")
        given[name] = as_typed
    _check_complete(options, places, given, program)
    return [*places, *(word for as_typed in given.values() for word in as_typed)]


def _take_option(
    word: str, rest: list[str], by_name: dict[str, Option], program: str
) -> tuple[str, list[str]]:
    """Return the long name of an option and its words; take its values from ``rest``."""
    name, equals, value = word.partition("=")
    option = by_name.get(name)
    if option is None:
        hint = did_you_mean(name, by_name) or f"; {program} --help lists them"
        raise UsageError(f"{name}: unknown option{hint}")
    long = option.names[0]
    if option.kind is bool:
        if equals:
            raise UsageError(f"{name}: got '{value}'; it is a switch without a value")
        return long, [long]
    if not equals:
        if not rest or rest[0].startswith("--"):
            allowed = ", ".join(option.choices) or _ENGLISH[option.kind]
            raise UsageError(f"{name}: the value is missing; give {allowed}")
        value = rest.pop(0)
    values = [value]
    while option.many and not equals and rest and not rest[0].startswith("-"):
        values.append(rest.pop(0))
    for one in values:
        option.check(name, one)
    return long, [long, *values] if option.many else [f"{long}={value}"]


def _check_complete(
    options: Sequence[Option], places: Sequence[str], given: Collection[str], program: str
) -> None:
    positional = [option for option in options if option.positional]
    if len(places) < sum(option.required for option in positional):
        raise UsageError(f"{positional[len(places)].names[0]} is missing; see {program} --help")
    if len(places) > len(positional) and not any(option.many for option in positional):
        extra = places[len(positional)]
        raise UsageError(f"'{extra}': one argument too many; see {program} --help")
    for option, place in zip(positional, places, strict=False):
        if option.choices:
            option.check(option.names[0], place)
    for option in options:
        if option.required and not option.positional and option.names[0] not in given:
            raise UsageError(f"{option.names[0]} is missing; see {program} --help")
