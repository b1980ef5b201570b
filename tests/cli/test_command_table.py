"""The list of commands: grouped, with examples that parse, and open to other packages."""

from __future__ import annotations

import importlib
import shlex
import sys
from importlib import metadata
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from ddmseg.cli.arguments import parse
from ddmseg.cli.command_table import (
    COMMANDS,
    ENTRY_POINTS,
    LABORATORY,
    find_command,
    list_commands,
)
from ddmseg.errors import UsageError

ADDED = """
from dataclasses import dataclass

from ddmseg.cli.command_table import Command

GREET = Command(__name__, "greetings", "say hello", "ddmseg greet you")

@dataclass(frozen=True)
class Arguments:
    loud: bool = False

def run(arguments):
    print("HELLO" if arguments.loud else "hello")
    return 3
"""


@pytest.fixture
def add(monkeypatch):
    """Have packages that add these commands, ``name="module:object"``, and no others."""

    def install(**commands: str) -> None:
        found = [EntryPoint(name, value, ENTRY_POINTS) for name, value in commands.items()]
        monkeypatch.setattr(metadata, "entry_points", lambda **_: EntryPoints(found))

    return install


@pytest.fixture
def greeting(add, tmp_path, monkeypatch):
    """A package that adds ``ddmseg greet``."""
    (tmp_path / "another_package.py").write_text(ADDED)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "another_package", raising=False)
    add(greet="another_package:GREET")


def test_the_product_alone_lists_its_commands_under_headings(add):
    add()
    blocks = dict(block.split(":\n", 1) for block in list_commands().split("\n\n"))
    assert list(blocks) == ["scans and results", "training", "hospital", "installation"]
    listed = [line.split()[0] for block in blocks.values() for line in block.splitlines()[::2]]
    assert listed == list(COMMANDS)
    assert not set(LABORATORY) & set(listed)


def test_each_command_says_what_it_does_and_shows_one_call(add):
    add()
    lines = list_commands().splitlines()
    for name, command in COMMANDS.items():
        (at,) = [n for n, line in enumerate(lines) if line.startswith(f"  {name} ")]
        assert lines[at].endswith(f"  {command.summary}")
        assert lines[at + 1].strip() == command.example
        assert command.summary == command.summary.strip() != ""
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_is_a_call_that_the_command_takes(name):
    command = COMMANDS[name]
    program, first, *words = shlex.split(command.example)
    assert (program, first) == ("ddmseg", name)
    parse(importlib.import_module(command.module).Arguments, words, program=f"ddmseg {name}")


@pytest.mark.parametrize("name", LABORATORY)
def test_without_the_laboratory_its_commands_say_where_they_are(add, ddmseg, name):
    add()
    outcome = ddmseg(name)
    assert outcome.code == 2
    assert outcome.error == (
        f"'{name}': a command of the laboratory, which is not installed; in a clone of ddmseg "
        "run pip install --editable ./lab"
    )


def test_another_package_adds_a_command(greeting, ddmseg):
    assert find_command("greet").summary == "say hello"
    assert "\n\ngreetings:\n  greet       say hello\n                ddmseg greet you" in (
        list_commands()
    )
    outcome = ddmseg("greet", "--loud")
    assert (outcome.code, outcome.out) == (3, "HELLO\n")
    assert "usage: ddmseg greet" in ddmseg("greet", "--help").out


def test_a_name_of_ours_is_not_taken_over(add):
    add(segment="no_such_package:SEGMENT")
    assert find_command("segment") is COMMANDS["segment"]
    assert "no_such_package" not in list_commands()


@pytest.mark.parametrize("value", ["no_such_package:X", f"{COMMANDS['doctor'].module}:NOTHING"])
def test_a_broken_package_is_named_and_breaks_nothing_else(add, ddmseg, value):
    add(greet=value)
    outcome = ddmseg("greet")
    assert outcome.code == 2
    assert outcome.error.startswith(f"'greet': {value} cannot be loaded (")
    assert outcome.error.endswith("install the package that adds it again")
    listed = ddmseg("--help")
    assert listed.code == 0
    assert f"'greet': {value} cannot be loaded" in listed.out
    assert ddmseg("models", "--help").code == 0


def test_what_is_no_command_is_refused(add):
    add(greet="ddmseg:__version__")
    with pytest.raises(UsageError, match=r"'greet': ddmseg:__version__ is no command of this ver"):
        find_command("greet")


def test_an_unknown_command_is_told_with_those_of_other_packages(greeting):
    with pytest.raises(UsageError, match=r"'gret': unknown command \(did you mean 'greet'\?\)"):
        find_command("gret")
