"""Everything a user can do wrong, as one small tree of exceptions.

Each message is one line that says what came, what is allowed and what to do.
``exit_code`` is what the command line returns: 1 when a scan failed, 2 for
wrong usage.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class DdmsegError(Exception):
    """Base of every error that ddmseg raises on purpose; one line, whatever came."""

    exit_code = 1

    def __str__(self) -> str:
        """Return the message, its lines joined and what is not printable escaped."""
        lines = (line.strip() for line in super().__str__().splitlines())
        return printable(" ".join(line for line in lines if line))


class ScanError(DdmsegError):
    """A scan or label map cannot be read or is not usable."""


class OutputError(DdmsegError):
    """A result cannot be written where it was asked for."""


class QualityError(DdmsegError):
    """A result failed the quality check and was asked not to be written."""


class TrainingError(DdmsegError):
    """Training stopped because it went wrong; the message gives the reason."""


class CheckpointError(DdmsegError):
    """A weights file is missing, damaged or does not fit the network."""


class UsageError(DdmsegError):
    """A command, option or argument is wrong."""

    exit_code = 2


class SettingsError(UsageError):
    """A setting is unknown or out of its range."""


class MissingExtraError(UsageError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"the package '{package}' of the extra '{extra}' is needed for this: install it with "
            f"{install_line(extra)}"
        )


def optional(name: str, extra: str) -> Any:
    """Return a package of an extra, or a module of one; else raise a MissingExtraError."""
    package = name.partition(".")[0]
    try:
        importlib.import_module(package)
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(package, extra) from error


def install_line(extra: str) -> str:
    """Return a command that brings an extra to the Python that runs, wherever ddmseg came from.

    It names the packages themselves: a line with ``ddmseg[dicom]`` would be looked for in an
    index, and one with the folder or the wheel fails once that has moved.
    """
    import shlex

    return shlex.join([*_installer(), *(_packages(extra) or [f"ddmseg[{extra}]"])])


def _packages(extra: str) -> list[str]:
    """The packages of an extra as the clone that this file lies in says, or the installation."""
    import re
    import tomllib
    from importlib import metadata
    from pathlib import Path

    with contextlib.suppress(OSError, ValueError, KeyError):
        text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
        project = tomllib.loads(text)["project"]
        if project["name"] == "ddmseg":
            return list(project["optional-dependencies"][extra])
    own = re.compile(rf"""\bextra\s*==\s*['"]{re.escape(extra)}['"]""")
    with contextlib.suppress(metadata.PackageNotFoundError):
        pairs = [line.partition(";") for line in metadata.requires("ddmseg") or []]
        return [need.strip() for need, _, when in pairs if own.search(when)]
    return []


def _installer() -> list[str]:
    """The words that install into this environment: uv makes some that have no pip."""
    import shutil
    import sys
    from importlib.util import find_spec
    from pathlib import Path

    if find_spec("pip") is None:
        return ["uv", "pip", "install", "--python", sys.executable]
    found = shutil.which("pip")
    if found is not None and Path(found).parent == Path(sys.executable).parent:
        return ["pip", "install"]
    return [sys.executable, "-m", "pip", "install"]


class Reason(str):
    """A sentence, with its code and the values in it.

    Errors and reasons of a verdict are told in it; a page can then say them in another language.

    Attributes:
        code: what is said, in a word, such as ``expected_dice_low``.
        values: the numbers and names in the sentence, as they are shown; ready for JSON.
    """

    __slots__ = ("code", "values")

    code: str
    values: Mapping[str, Any]

    def __new__(cls, sentence: str, code: str, values: Mapping[str, Any]) -> Reason:
        """Make a reason."""
        reason = super().__new__(cls, sentence)
        reason.code, reason.values = code, values
        return reason

    def __getnewargs__(self) -> tuple[str, str, Mapping[str, Any]]:  # type: ignore[override]
        """Let a copy keep its code."""
        return str(self), self.code, self.values


def about_file(path: object, sentence: str, code: str, **values: Any) -> Reason:
    """Return a reason that begins with the file it is about, which is among its values too."""
    return Reason(f"{path}: {sentence}", code, {"file": str(path), **values})


def reason_code(reason: str) -> dict[str, Any] | None:
    """Return code and values of a reason, None where there is only a sentence.

    >>> reason_code(Reason("it is thick", "thick", {"mm": 8}))
    {'code': 'thick', 'values': {'mm': 8}}
    >>> reason_code("it is odd") is None
    True
    """
    if not isinstance(reason, Reason):
        return None
    return {"code": reason.code, "values": dict(reason.values)}


def printable(text: str) -> str:
    r"""Return a text that is one line and that steers no terminal.

    Names of files may hold line ends, commands for terminals and bytes that are not UTF-8.

    >>> printable("M\udcfcller\n.nii")
    'M\\xfcller\\n.nii'
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _escaped(one) for one in text)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python holds a byte that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def first_of(words: Sequence[str], most: int) -> str:
    """Return the first words, and how many more there are.

    >>> first_of(["a", "b", "c"], 2), first_of(["a", "b"], 2)
    ('a, b and 1 more', 'a, b')
    """
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the nearest allowed word, or ``""``.

    >>> did_you_mean("step", ["steps", "samples"])
    " (did you mean 'steps'?)"
    """
    # a long word is like none of them, and comparing it would take long
    near = difflib.get_close_matches(word[:80], list(allowed), n=1, cutoff=0.6)
    return f" (did you mean '{near[0]}'?)" if near else ""
