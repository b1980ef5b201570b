"""A folder of two results, one worse than the other, and their scans."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ddmseg.review.session import Review
from review_folder import write_results


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no disk: no test cuts its power, and those that watch it watch the calls."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory, make_segmentation) -> Path:
    """Results and scans, written once; each test gets a copy."""
    place = tmp_path_factory.mktemp("written")
    write_results(make_segmentation, place / "out", place / "scans")
    return place


@pytest.fixture
def scans(tmp_path: Path, written: Path) -> Path:
    return Path(shutil.copytree(written / "scans", tmp_path / "scans"))


@pytest.fixture
def folder(tmp_path: Path, written: Path, scans: Path) -> Path:
    return Path(shutil.copytree(written / "out", tmp_path / "out"))


@pytest.fixture
def make_review(folder: Path, tmp_path: Path) -> Callable[[str], Review]:
    """Review a copy of the folder."""

    def make(name: str) -> Review:
        return Review(Path(shutil.copytree(folder, tmp_path / f"copy-{name}")))

    return make


@pytest.fixture
def review(folder: Path, scans: Path) -> Review:
    return Review(folder, scans=[scans], reviewer="AB")
