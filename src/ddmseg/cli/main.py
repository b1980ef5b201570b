"""The command ``ddmseg``: finds the sub-command and turns errors into one line.

Only the module of the command that was asked for is imported: ``ddmseg --help``
must not wait for torch.
"""

from __future__ import annotations

import contextlib
import importlib
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType

from ddmseg import __version__
from ddmseg.cli.command_table import Command, find_command, list_commands
from ddmseg.errors import DdmsegError
from ddmseg.messages import open_streams, say, say_error, show, stdout_is_whole

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and the number of the signal, as shells have it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, by default of the words of the process; return its exit code.

    That is 0 when all was done, 1 when something failed, 2 for wrong usage.
    """
    open_streams()
    code = _outcome(list(sys.argv[1:] if argv is None else argv))
    return code if stdout_is_whole() else code or 1


def _outcome(words: list[str]) -> int:
    """Run one command; whatever it raises becomes a line and an exit code."""
    try:
        with _ending_like_ctrl_c():
            return _dispatch(words)
    except DdmsegError as error:
        say_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        say("stopped")
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError):
            return 0 if {"-h", "--help"} & set(words) else 1  # who reads help stops when he likes
        if isinstance(error, OSError) and not stdout_is_whole():
            return 1
        say_error(error, debug="--debug" in words)
        return 1


@contextlib.contextmanager
def _ending_like_ctrl_c() -> Iterator[None]:
    """Have a request to end (a batch system's, say) clean up behind itself as Ctrl-C does."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _dispatch(words: list[str]) -> int:
    name, rest = (words[0], words[1:]) if words else ("--help", [])
    if name in ("-h", "--help"):
        all(show(line) for line in _help().splitlines())  # until nobody reads any more
        return 0
    if name == "--version":
        print(f"ddmseg {__version__}")
        return 0
    return _run(name, find_command(name), rest)


def _run(name: str, command: Command, words: Sequence[str]) -> int:
    from ddmseg.cli.arguments import parse

    module = importlib.import_module(command.module)
    try:
        arguments = parse(
            module.Arguments, words, program=f"ddmseg {name}", example=command.example
        )
    except SystemExit:  # the help has been shown
        return 0
    code: int = module.run(arguments)
    return code


def _help() -> str:
    return f"""usage: ddmseg COMMAND ...

Segments brain MRI with a discrepancy-based diffusion model.
Research software: not a medical device and not for diagnosis.

{list_commands()}

  ddmseg COMMAND --help   options of a command
  ddmseg --version        version

exit codes: 0 all done; 1 some scan failed, the others are done; 2 wrong usage"""
