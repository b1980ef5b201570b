"""What a newcomer reads and types first: the help of every command, and the TAB key."""

from __future__ import annotations

import importlib
import itertools
import re
import subprocess

import pytest

from ddmseg.cli.arguments import options_of
from ddmseg.cli.command_table import COMMANDS, commands_at_hand, list_commands


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_reads_well_in_80_columns(ddmseg, narrow, name) -> None:
    outcome = ddmseg(name, "--help")
    shown = outcome.out
    usage, *lines = shown.splitlines()
    assert outcome.code == 0
    assert callable(importlib.import_module(COMMANDS[name].module).run)
    assert usage.startswith(f"usage: ddmseg {name} ")
    assert max(map(len, lines)) <= 80
    assert f"\nExample: {COMMANDS[name].example}\n" in shown
    for odd in ("`", "None", "(default: False)", "(default: )", "'\"'", "TODO"):
        assert odd not in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_does_in_a_sentence(ddmseg, narrow, name) -> None:
    shown = " ".join(ddmseg(name, "--help").out.replace("│", " ").split())
    for option in options_of(importlib.import_module(COMMANDS[name].module).Arguments):
        told = shown.partition(f" {option.names[0]} ")[2] or shown
        assert re.search(r"[a-z][.)]", told), option.names


def test_sentences_are_not_broken_where_their_source_is(ddmseg, narrow) -> None:
    shown = ddmseg("segment", "--help").out
    lines = [line.strip("│ ") for line in shown.splitlines() if line.startswith("│  ")]
    # a line that ends early is the end of a sentence, or no further word fits
    broken = [
        (line, after)
        for line, after in itertools.pairwise(lines)
        if len(line) + 1 + len(after.split()[0]) < 55 and line[-1] not in ".)}" and "-" not in line
    ]
    assert broken == []


def test_a_default_of_zero_is_shown(ddmseg, narrow) -> None:
    assert "(default: 0)" in ddmseg("segment", "--help").out


def test_the_list_of_commands_fits_80_columns() -> None:
    assert max(map(len, list_commands().splitlines())) <= 80


BASH = """
source "$1"
complete -p ddmseg
answer() {
    COMP_WORDS=("$@") COMP_CWORD=$(( $# - 1 )) COMPREPLY=()
    _ddmseg
    echo "${COMPREPLY[*]}"
}
"""


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """Ask bash, many lines at once, what it would complete."""
    from ddmseg.cli.commands import completion

    found = {
        name: [*options_of(importlib.import_module(one.module).Arguments), completion.HELP]
        for name, one in COMMANDS.items()
    }
    script = tmp_path_factory.mktemp("completion") / "ddmseg.bash"
    script.write_text(completion._bash(found))

    def ask(*asked: tuple[str, ...]) -> list[list[str]]:
        calls = "\n".join(
            "answer " + " ".join(f"'{word}'" for word in ("ddmseg", *words)) for words in asked
        )
        done = subprocess.run(
            ["bash", "--norc", "-c", BASH + calls, "bash", str(script)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        first, *answers = done.stdout.splitlines()
        assert first == "complete -o default -F _ddmseg ddmseg"  # other words are names of files
        return [answer.split() for answer in answers]

    return ask


def test_bash_completes_commands_options_and_values(complete) -> None:
    answers = complete(
        ("seg",),
        ("",),
        ("segment", "--mod"),
        ("segment", "a.nii.gz", "--mode", ""),
        ("segment", "a.nii.gz", "--on-fail", "w"),
        ("completion", ""),
        ("bids", "study", "out", "p"),
    )
    assert answers[0] == ["segment"]
    assert answers[1] == [*COMMANDS, "--help", "--version"]
    assert answers[2:] == [
        ["--mode", "--model"],
        ["auto", "fast", "diffusion"],
        ["warn"],
        ["bash", "zsh", "fish"],
        ["participant"],
    ]


def test_bash_leaves_names_of_files_to_itself(complete) -> None:
    asked = [("segment", "sc"), ("segment", "-o", ""), ("bids", ""), ("no-command", "x"), ("x",)]
    assert complete(*asked) == [[]] * len(asked)


@pytest.mark.parametrize("name", COMMANDS)
def test_bash_knows_every_option(complete, name) -> None:
    (known,) = complete((name, "-"))
    options = options_of(importlib.import_module(COMMANDS[name].module).Arguments)
    assert set(known) == {
        *(one for option in options if not option.positional for one in option.names),
        *("--help", "-h"),
    }


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_the_commands_of_other_packages_too(ddmseg, shell) -> None:
    outcome = ddmseg("completion", shell)
    assert outcome.code == 0
    for name, command in commands_at_hand().items():
        assert name in outcome.out or not command.module
    assert "ddim" in outcome.out


def test_the_script_of_fish_has_a_line_for_each_option(ddmseg) -> None:
    lines = ddmseg("completion", "fish").out.splitlines()
    assert all(line.startswith("complete -c ddmseg ") for line in lines)
    seen = "complete -c ddmseg -n '__fish_seen_subcommand_from segment'"
    assert f"{seen} -l mode -x -a 'auto fast diffusion'" in lines
    assert f"{seen} -l output -s o -r" in lines
    assert f"{seen} -l overwrite" in lines


def test_another_shell_is_refused(ddmseg) -> None:
    assert "got 'tcsh'; allowed are bash, zsh, fish" in ddmseg("completion", "tcsh").error
