"""The records under ``results/`` and results of tests, read strictly; which were used is kept."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

from ddmseg.errors import UsageError
from ddmseg.models.json_reader import read_json
from ddmseg_lab.table import WEIGHTS, read_rows

MAX_BYTES = 256 << 20
"""The largest record that is read."""


class Records:
    """What was measured.

    Args:
        folder: that the measuring commands wrote to.

    Attributes:
        used: SHA-256 of each file that was read, by its name below the folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UsageError(
                f"{folder}: no such folder; name the one that holds the raw results with --results"
            )
        self.folder = folder
        self.used: dict[str, str] = {}

    def has(self, name: str) -> bool:
        """Say whether a file is there."""
        return (self.folder / name).is_file()

    def summary(self, name: str) -> dict[str, Any] | None:
        """Return a record, None where there is none."""
        path = self.folder / name
        if not self._take(name):
            return None
        try:
            found = read_json(path, most_bytes=MAX_BYTES)
        except (OSError, ValueError) as error:
            raise _damaged(path, error) from error
        if not isinstance(found, dict):
            raise _damaged(path, ValueError("no table of names"))
        return found

    def weights_of_rows(self, name: str) -> set[str] | None:
        """Return which weights a raw table has rows of, None where there is no table."""
        path = self.folder / name
        if not self._take(name):
            return None
        try:
            return {row[WEIGHTS] for row in read_rows(path) if row.get(WEIGHTS)}
        except (OSError, ValueError, csv.Error) as error:
            raise _damaged(path, error) from error

    def _take(self, name: str) -> bool:
        """Note that a file is used; return whether it is there."""
        path = self.folder / name
        if not path.is_file():
            return False
        if name not in self.used:
            self.used[name] = hash_of(path)
        return True


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path}: above {MAX_BYTES >> 20} MB; name the right file or folder")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from error


def _damaged(path: Path, error: Exception) -> UsageError:
    return UsageError(f"{path}: damaged record ({error}); measure again, or take the file away")


Outcome = Literal["passed", "failed", "skipped"]
NOT_RUN = "not run"


@dataclass(frozen=True)
class JunitCase:
    """One test as it went.

    Attributes:
        place: module and class with dots, such as ``tests.imaging.test_nifti``.
        name: with its parameters in brackets.
        outcome: errors count as failed.
    """

    place: str
    name: str
    outcome: Outcome


@dataclass(frozen=True)
class JunitRun:
    """One run of tests; without a file nothing was run.

    Attributes:
        cases: every test of the run.
        source: name of the file, "" for none.
        sha256: of the file.
        time: when it was run, as the file says.
    """

    cases: Sequence[JunitCase] = ()
    source: str = ""
    sha256: str = ""
    time: str = ""

    def outcomes(self, test: str) -> Counter[Outcome]:
        """Count the outcomes of a test file, or of one test of it with all its parameters.

        Args:
            test: ``tests/imaging/test_nifti.py``, or that with ``::test_name``.
        """
        file, _, name = test.partition("::")
        module = file.removesuffix(".py").replace("/", ".")
        return Counter(case.outcome for case in self.cases if _belongs(case, module, name))


def _belongs(case: JunitCase, module: str, name: str) -> bool:
    if not case.place and case.name == module:
        return True  # the file could not even be imported
    if case.place != module and not case.place.startswith(f"{module}."):
        return False
    return not name or case.name == name or case.name.startswith(f"{name}[")


def read_junit(path: Path) -> JunitRun:
    """Read a run of tests."""
    if not path.is_file():
        raise UsageError(f"{path}: no such file; pytest --junitxml={path.name} writes one")
    sha256 = hash_of(path)
    text = path.read_bytes()
    # entities of a document type could grow without end, and no writer of JUnit needs one
    if b"<!DOCTYPE" in text[: text.find(b"<testsuite") + 1 or None]:
        raise UsageError(f"{path}: has a document type; give the file that pytest --junitxml wrote")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise UsageError(f"{path}: no XML ({error}); run the tests again") from error
    if root.tag not in ("testsuites", "testsuite"):
        raise UsageError(f"{path}: holds <{root.tag}>; give the file that pytest --junitxml wrote")
    suites = list(root.iter("testsuite"))
    cases = [_case(element) for element in root.iter("testcase")]
    time = next((suite.get("timestamp", "") for suite in suites), "")
    return JunitRun(cases, path.name, sha256, time)


def _case(element: ElementTree.Element) -> JunitCase:
    tags = {child.tag for child in element}
    outcome: Outcome = "passed"
    if tags & {"failure", "error"}:
        outcome = "failed"
    elif "skipped" in tags:
        outcome = "skipped"
    return JunitCase(element.get("classname", ""), element.get("name", ""), outcome)
