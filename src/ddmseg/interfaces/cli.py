"""The command ``ddmseg``: finds the sub-command and turns errors into one line.

Only the module of the command that was asked for is imported: ``ddmseg --help``
must not wait for torch.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType

from ddmseg import __version__
from ddmseg.errors import DdmsegError, UsageError, did_you_mean
from ddmseg.interfaces.messages import say_error

COMMANDS = {
    "segment": "label brain MRI scans: NIfTI, BIDS or DICOM, files and folders",
    "train": "train a model as a TOML file says",
    "distill": "teach a student in fewer steps, or a smaller one, as a TOML file says",
    "dicom-node": "take scans over the DICOM network, segment them, send the results on",
    "dicom-send": "send the results of a scan, or their correction, as DICOM",
    "review": "look at results in the browser: accept, reject or correct them",
    "monitor": "say whether scans or results have shifted, from a store of all runs",
    "evaluate": "score label maps of any tool against a truth",
    "compare": "train and test methods on equal terms, as a folder of settings says",
    "ablate": "the same for the model without one of its parts",
    "bench": "measure seconds and memory on this machine, beside other tools",
    "report": "write the page of results from the raw files",
    "dossier": "write model cards, requirements, anomalies and a bill of materials from records",
    "study": "answer one question about trained weights with a table, a picture and a page",
    "export": "write the image encoder of a model for other engines: ONNX or OpenVINO",
    "models": "list the models at hand with what is known of them",
    "doctor": "check this installation",
}
"""Each command and what it does; ``interfaces/commands`` has a module of each name,
with underscores for hyphens."""

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and the number of the signal, as shells have it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: words after ``ddmseg``; None takes those of the process.

    Returns:
        0 when all was done, 1 when something failed, 2 for wrong usage.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    try:
        with _ending_like_ctrl_c():
            return _dispatch(words)
    except DdmsegError as error:
        say_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # whoever read our output has gone; closing it again would complain once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        say_error(error, debug=debug)
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
        print(_help())
        return 0
    if name == "--version":
        print(f"ddmseg {__version__}")
        return 0
    if name not in COMMANDS:
        kind = "option" if name.startswith("-") else "command"
        raise UsageError(
            f"'{name}': unknown {kind}{did_you_mean(name, COMMANDS)}; "
            f"allowed are {', '.join(COMMANDS)}"
        )
    return _run(name, rest)


def _run(name: str, words: Sequence[str]) -> int:
    from ddmseg.interfaces.arguments import parse

    module = name.replace("-", "_")
    command = importlib.import_module(f"ddmseg.interfaces.commands.{module}")
    try:
        arguments = parse(command.Arguments, words, program=f"ddmseg {name}")
    except SystemExit:  # the help has been shown
        return 0
    code: int = command.run(arguments)
    return code


def _help() -> str:
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:<{width}}  {what}" for name, what in COMMANDS.items())
    return f"""usage: ddmseg COMMAND ...

Segments brain MRI with a discrepancy-based diffusion model.
Research software: not a medical device and not for diagnosis.

commands:
{listed}

  ddmseg COMMAND --help   options of a command
  ddmseg --version        version

exit codes: 0 all done; 1 some scan failed, the others are done; 2 wrong usage"""
