"""Results of tests from a JUnit XML file, as ``pytest --junitxml`` writes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from ddmseg.errors import UsageError
from ddmseg_lab.dossier.records import hash_of

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
