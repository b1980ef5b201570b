"""Results of tests as pytest writes them: what passed, what failed, what was not run."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ddmseg.errors import UsageError
from ddmseg_lab.dossier.records import JunitRun, read_junit

XML = """<?xml version="1.0" encoding="utf-8"?><testsuites>
<testsuite name="pytest" timestamp="2026-11-23T09:00:00+00:00">
<testcase classname="tests.imaging.test_a" name="test_one" time="0.1"/>
<testcase classname="tests.imaging.test_a" name="test_many[1]"/>
<testcase classname="tests.imaging.test_a" name="test_many[2]"><failure>y</failure></testcase>
<testcase classname="tests.imaging.test_a.TestClass" name="test_one"><error message="e"/></testcase>
<testcase classname="tests.imaging.test_a_more" name="test_one"><skipped/></testcase>
<testcase classname="" name="tests.imaging.test_broken"><error message="import"/></testcase>
</testsuite></testsuites>"""


@pytest.fixture
def junit(tmp_path: Path) -> JunitRun:
    path = tmp_path / "junit.xml"
    path.write_text(XML)
    return read_junit(path)


@pytest.mark.parametrize(
    ("test", "counts"),
    [
        ("tests/imaging/test_a.py", {"passed": 2, "failed": 2}),
        ("tests/imaging/test_a.py::test_one", {"passed": 1, "failed": 1}),
        ("tests/imaging/test_a.py::test_many", {"passed": 1, "failed": 1}),
        ("tests/imaging/test_a.py::test_man", {}),
        ("tests/imaging/test_a_more.py", {"skipped": 1}),
        ("tests/imaging/test_broken.py", {"failed": 1}),
        ("tests/imaging/test_broken.py::test_inside", {"failed": 1}),
        ("tests/imaging/test_b.py", {}),
    ],
)
def test_outcomes_are_counted_by_file_and_by_name(junit, test, counts):
    assert junit.outcomes(test) == counts


def test_a_run_is_known_by_file_hash_and_time(junit, tmp_path):
    assert (junit.source, junit.time) == ("junit.xml", "2026-11-23T09:00:00+00:00")
    assert junit.sha256 == hashlib.sha256(XML.encode()).hexdigest()
    assert JunitRun().outcomes("tests/imaging/test_a.py") == {}


def test_it_reads_what_pytest_writes(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('x', [1, 2])\n"
        "def test_good(x): pass\n"
        "def test_bad(): assert False, '<!DOCTYPE html>'\n"
        "def test_skip(): pytest.skip('no data')\n"
        "@pytest.fixture\n"
        "def broken(): raise ValueError\n"
        "def test_error(broken): pass\n"
    )
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=out.xml"]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    subprocess.run(
        [*words, "--rootdir=.", "tests"], cwd=tmp_path, env=environment, capture_output=True
    )
    run = read_junit(tmp_path / "out.xml")
    found = {
        name: dict(run.outcomes(f"tests/test_it.py::test_{name}"))
        for name in ("good", "bad", "skip", "error")
    }
    assert found == {
        "good": {"passed": 2},
        "bad": {"failed": 1},
        "skip": {"skipped": 1},
        "error": {"failed": 1},
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no XML"),
        ("<testsuites>", "no XML"),
        ("<html/>", "holds <html>; give the file that pytest --junitxml wrote"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><testsuites/>', "has a document type"),
        ("<!DOCTYPE x><other/>", "has a document type"),
    ],
)
def test_what_is_no_result_of_tests_is_refused(tmp_path, text, told):
    path = tmp_path / "junit.xml"
    path.write_text(text)
    with pytest.raises(UsageError, match=told):
        read_junit(path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"no such file; pytest --junitxml=a\.xml writes one"):
        read_junit(tmp_path / "a.xml")
