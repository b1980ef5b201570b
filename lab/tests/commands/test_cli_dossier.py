"""``ddmseg dossier`` from records to documents, and its refusals."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

NAMES = [
    "model_card.md",
    "checklist.md",
    "requirements.md",
    "anomalies.md",
    "sbom.json",
    "index.md",
]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "monitor_alarms.json").write_text('{"without_shift": {"all": {"rate": 0.042}}}')
    return folder


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        metadata.distribution("ddmseg")
    except metadata.PackageNotFoundError:
        folder = tmp_path / "site" / "ddmseg-0.0.dist-info"
        folder.mkdir(parents=True)
        head = "Metadata-Version: 2.1\nName: ddmseg\nVersion: 0.0\nRequires-Dist: numpy\n"
        (folder / "METADATA").write_text(head)
        monkeypatch.syspath_prepend(str(folder.parent))


def test_it_says_which_files_were_made(ddmseg, results, installed, tmp_path) -> None:
    out = tmp_path / "out"
    outcome = ddmseg("dossier", "--results", results, "-o", out)
    assert outcome.code == 0
    assert outcome.out.split() == [str(out / name) for name in NAMES]
    assert "0.042: reached" in (out / "requirements.md").read_text(encoding="utf-8")
    again = ddmseg("dossier", "--results", results, "-o", out)
    assert again.code == 1
    assert "exists already; pass --overwrite" in again.error


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--results", "nowhere", "-o", "out"), "nowhere: no such folder; name the one that holds"),
        (("--results", "results"), "--output is missing"),
        (
            ("--results", "results", "-o", "out", "--tests", "no.xml"),
            "no.xml: no such file; pytest",
        ),
    ],
)
def test_wrong_use_is_one_line(ddmseg, results, tmp_path, monkeypatch, words, told) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = ddmseg("dossier", *words)
    assert outcome.code == 2
    assert outcome.error.startswith(told)
    assert not (tmp_path / "out").exists()
