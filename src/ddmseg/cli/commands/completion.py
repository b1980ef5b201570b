"""``ddmseg completion``: what a shell needs to complete commands, options and their values."""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from ddmseg.cli.arguments import Option, options_of
from ddmseg.cli.command_table import Command, commands_at_hand
from ddmseg.messages import show

HELP = Option(("--help", "-h"), bool, (), required=False)

_BASH = """\
_ddmseg() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} command=${{COMP_WORDS[1]}} words=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        words={commands}
    else
        case "$command $COMP_CWORD $current" in
            {places}
            *) case "$command ${{COMP_WORDS[COMP_CWORD-1]}} $current" in
                {values}
            esac ;;
        esac
    fi
    COMPREPLY=( $(compgen -W "$words" -- "$current") )
}}
complete -o default -F _ddmseg ddmseg"""
"""Where no word fits, ``-o default`` completes the names of files."""
_ZSH = """\
autoload -U +X compinit bashcompinit
(( $+functions[compdef] )) || compinit
bashcompinit
"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Print a script that completes commands, options and values at the press of TAB.

    In bash add this line to ~/.bashrc: eval "$(ddmseg completion bash)"

    In zsh add this line to ~/.zshrc: eval "$(ddmseg completion zsh)"

    In fish, once: ddmseg completion fish > ~/.config/fish/completions/ddmseg.fish
    """

    shell: Annotated[Positional[Literal["bash", "zsh", "fish"]], arg(metavar="SHELL")]
    """Which shell: bash, zsh or fish."""
    debug: bool = False
    """Show where an unexpected error came from."""


def run(arguments: Arguments) -> int:
    """Print the script, for the commands of other packages too; return 0."""
    commands = {name: one for name, one in commands_at_hand().items() if one.module}
    options = {
        name: [*options_of(importlib.import_module(one.module).Arguments), HELP]
        for name, one in commands.items()
    }
    if arguments.shell == "fish":
        script = "\n".join(_fish(commands, options))
    else:
        script = (_ZSH if arguments.shell == "zsh" else "") + _bash(options)
    all(show(line) for line in script.splitlines())  # until nobody reads any more
    return 0


def _bash(options: Mapping[str, list[Option]]) -> str:
    """Cases of commands: first words by their place, then values of options, then options."""
    places, values, names = [], [], []
    for command, found in options.items():
        named = [option for option in found if not option.positional]
        every = [name for option in named for name in option.names]
        names.append(f'"{command} "*" -"*) words={_words(every)} ;;')
        for place, option in enumerate((one for one in found if one.positional), start=2):
            at, words = f"{command} {place} ", _words(option.choices)
            places += [f'"{at}"[!-]*|"{at}") words={words} ;;'] if option.choices else []
        for option in named:
            ends = f"words={_words(option.choices)} ;;"
            values += [f'"{command} {n} "*) {ends}' for n in option.names if option.choices]
    return _BASH.format(
        commands=_words([*options, "--help", "--version"]),
        places="\n            ".join(places),
        values="\n                ".join([*values, *names]),
    )


def _fish(commands: Mapping[str, Command], options: Mapping[str, list[Option]]) -> Iterator[str]:
    """Yield a line for each command and each option, with the values that it takes."""
    for name, command in commands.items():
        about = shlex.quote(command.summary)
        yield f"complete -c ddmseg -f -n __fish_use_subcommand -a {name} -d {about}"
        when = f"complete -c ddmseg -n '__fish_seen_subcommand_from {name}'"
        for option in options[name]:
            if option.positional:
                takes = f"-f -a {_words(option.choices)}" if option.choices else ""
            else:
                takes = " ".join(
                    f"-l {one[2:]}" if one.startswith("--") else f"-s {one[1:]}"
                    for one in option.names
                )
                if option.kind is not bool:
                    takes += f" -x -a {_words(option.choices)}" if option.choices else " -r"
            if takes:
                yield f"{when} {takes}"


def _words(words: tuple[str, ...] | list[str]) -> str:
    return shlex.quote(" ".join(words))
