"""The records under ``results/`` and results of tests, read strictly; which were used is kept."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

from ddmseg.errors import UsageError
from ddmseg.imaging.source_file import file_sha256
from ddmseg.models.json_reader import read_json
from ddmseg_lab.table import WEIGHTS, read_rows


class Records:
    """What was measured: the folder that the measuring commands wrote to.

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

    def summary(self, name: str) -> dict[str, Any] | None:
        """Return a record, None where there is none."""
        found: object = self._read(name, read_json)
        if found is None or isinstance(found, dict):
            return found
        raise _damaged(self.folder / name, "no table of names")

    def weights_of_rows(self, name: str) -> set[str] | None:
        """Return which weights a raw table has rows of, None where there is no table."""
        rows = self._read(name, read_rows)
        return None if rows is None else {row[WEIGHTS] for row in rows if row.get(WEIGHTS)}

    def _read(self, name: str, reader: Callable[[Path], Any]) -> Any:
        """Note that a file is used and read it; None where there is none."""
        path = self.folder / name
        if not path.is_file():
            return None
        try:
            self.used[name] = self.used.get(name) or file_sha256(path)
            return reader(path)
        except (OSError, ValueError, csv.Error) as error:
            raise _damaged(path, error) from error


def _damaged(path: Path, error: object) -> UsageError:
    return UsageError(f"{path}: damaged record ({error}); measure again, or take the file away")


Outcome = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class JunitCase:
    """One test as it went; errors count as failed.

    Its place is module and class with dots, its name has the parameters in brackets.
    """

    place: str
    name: str
    outcome: Outcome

    def belongs(self, module: str, name: str) -> bool:
        """Say whether it is of this module and, unless it is empty, of this name."""
        if not self.place and self.name == module:
            return True  # the file could not even be imported
        if not f"{self.place}.".startswith(f"{module}."):
            return False
        return not name or self.name.partition("[")[0] == name


@dataclass(frozen=True)
class JunitRun:
    """One run of tests, from a file of this name and hash; without one nothing was run."""

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
        return Counter(case.outcome for case in self.cases if case.belongs(module, name))


def read_junit(path: Path) -> JunitRun:
    """Read a run of tests."""
    if not path.is_file():
        raise UsageError(f"{path}: no such file; pytest --junitxml={path.name} writes one")
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
    cases = []
    for element in root.iter("testcase"):
        tags = {child.tag for child in element}
        outcome: Outcome = "skipped" if "skipped" in tags else "passed"
        if tags & {"failure", "error"}:
            outcome = "failed"
        cases.append(JunitCase(element.get("classname", ""), element.get("name", ""), outcome))
    time = next((suite.get("timestamp", "") for suite in root.iter("testsuite")), "")
    return JunitRun(cases, path.name, file_sha256(path), time)
