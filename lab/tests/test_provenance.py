"""What records say of the code that made them."""

from __future__ import annotations

import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

import ddmseg
from ddmseg_lab.provenance import commit, commit_of, provenance, versions


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with code and results, all of it committed."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    for name in ("src/code.py", "lab/results/a.tsv", "lab/docs/results.md", "docs/a.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("old")
    author = ("-c", "user.name=a", "-c", "user.email=a@b.example")
    for words in (("init", "-q"), ("add", "."), (*author, "commit", "-q", "-m", "First")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


def test_a_clean_checkout_has_its_commit_alone(checkout) -> None:
    found = commit_of(checkout / "src")
    assert len(found) == 12
    assert int(found, 16) >= 0


@pytest.mark.parametrize(
    ("name", "mark"),
    [
        ("src/code.py", "+"),
        ("lab/results/a.tsv", ""),
        ("lab/docs/results.md", ""),
        ("docs/a.md", ""),
    ],
)
def test_changed_code_is_marked_and_what_runs_write_is_not(checkout, name, mark) -> None:
    clean = commit_of(checkout)
    (checkout / name).write_text("new")
    assert commit_of(checkout) == clean + mark
    assert commit_of(checkout / "src") == clean + mark  # wherever it is asked


def test_outside_a_checkout_the_commit_is_unknown(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit_of(tmp_path) == "unknown"


def test_every_record_has_the_same_words() -> None:
    assert provenance(3) == {
        "commit": commit(),
        "ddmseg": ddmseg.__version__,
        "torch": metadata.version("torch"),
        "python": platform.python_version(),
        "seed": 3,
    }
    assert provenance()["seed"] is None
    assert {"numpy", "scipy", "monai"} <= set(versions())
