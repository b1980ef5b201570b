"""Another Python: found or asked for, its faults named in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ddmseg.errors import ScanError, UsageError
from ddmseg_lab.comparison.foreign_python import (
    NNUNET,
    SAMSEG,
    find_python,
    foreign_environment,
    own_environment,
    read_versions,
)
from ddmseg_lab.comparison.peers.tools import run_scan

TOOLS = pytest.mark.parametrize("tool", [SAMSEG, NNUNET], ids=["samseg", "nnunet"])


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch):
    for tool in (SAMSEG, NNUNET):
        monkeypatch.delenv(tool.variable, raising=False)


def shell(folder: Path, script: str) -> str:
    """Write a program that stands for a tool's Python: $1 driver, $2 program, $3 job."""
    path = folder / "python-of-tool"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@TOOLS
def test_the_option_wins_over_the_variable(tool, tmp_path, monkeypatch):
    python = shell(tmp_path, "true")
    assert find_python(tool) is None
    monkeypatch.setenv(tool.variable, python)
    assert find_python(tool) == python
    assert find_python(tool, "sh").endswith("/sh")


@TOOLS
def test_a_python_that_is_not_there_is_refused_with_the_way_to_make_one(tool):
    with pytest.raises(UsageError, match="got the Python 'none-such', which cannot") as caught:
        find_python(tool, "none-such")
    text = str(caught.value)
    assert "\n" not in text
    for needed in ("python -m venv", "pip install", tool.packages[0], tool.variable):
        assert needed in text


def test_versions(tmp_path):
    python = shell(tmp_path, 'echo "{\\"python\\": \\"3\\", \\"samseg\\": \\"$4\\"}"')
    assert read_versions(SAMSEG, python) == {"python": "3", "samseg": "surfa"}
    python = shell(tmp_path, 'echo "{\\"python\\": \\"3\\", \\"samseg\\": null}"')
    with pytest.raises(UsageError, match="has no samseg; make one with: python -m venv"):
        read_versions(SAMSEG, python)
    with pytest.raises(UsageError, match="/bin/false is no Python that works"):
        read_versions(SAMSEG, "/bin/false")


def test_the_environment_is_the_tools_and_not_ours(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/of/ddmseg")
    monkeypatch.setenv("VIRTUAL_ENV", "/ours")
    theirs, ours = foreign_environment(3), own_environment(2)
    assert not {"PYTHONPATH", "VIRTUAL_ENV"} & set(theirs)
    assert ours["PYTHONPATH"] == "/of/ddmseg"
    assert theirs["OMP_NUM_THREADS"] == "3"
    assert theirs["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] == "3"
    assert ours["OMP_NUM_THREADS"] == "2"


WORKS = """echo chatter
echo "$2" >> "$(dirname "$3")/calls"
: > "$(dirname "$3")/labels"
echo '{"seconds": 2.5}' > "$(dirname "$3")/$2.json"
"""


def run(python: str, folder: Path, **changes: object) -> dict[str, object]:
    job = {"labels": str(folder / "labels"), "threads": 1, **changes}
    return run_scan(python, "samseg", job, folder, foreign_environment(1))


def test_a_scan_is_run_once(tmp_path):
    python = shell(tmp_path, WORKS)
    assert run(python, tmp_path) == {"seconds": 2.5}
    assert json.loads((tmp_path / "job.json").read_text())["threads"] == 1
    assert (tmp_path / "log.txt").read_text() == "chatter\n"
    run(python, tmp_path)
    assert (tmp_path / "calls").read_text() == "samseg\n"
    run(python, tmp_path, threads=2)  # another job
    assert (tmp_path / "calls").read_text() == "samseg\nsamseg\n"
    (tmp_path / "labels").unlink()
    run(python, tmp_path, threads=2)
    assert (tmp_path / "calls").read_text().count("samseg") == 3


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'ValueError: no luck' >&2; exit 3", r"ended with code 3 \(ValueError: no luck\)"),
        ("exit 0", r"ended with code 0 \(it said nothing\)"),
        (WORKS + 'rm "$(dirname "$3")/labels"', r"ended with code 0 \(chatter\)"),
    ],
)
def test_a_scan_that_fails_says_why(tmp_path, script, message):
    (tmp_path / "samseg.json").write_text("{}")  # of an earlier run: not to be taken for this one
    with pytest.raises(ScanError, match=f"^samseg {message}"):
        run(shell(tmp_path, script), tmp_path)
