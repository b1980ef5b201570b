"""A folder of two results, one worse than the other, and their scans."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ddmseg.review.session import Review
from review_folder import write_results


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    return tmp_path / "scans"


@pytest.fixture
def folder(tmp_path: Path, scans: Path, make_segmentation) -> Path:
    return write_results(make_segmentation, tmp_path / "out", scans)


@pytest.fixture
def make_review(folder: Path, tmp_path: Path) -> Callable[[str], Review]:
    """Review a copy of the folder."""

    def make(name: str) -> Review:
        return Review(Path(shutil.copytree(folder, tmp_path / f"copy-{name}")))

    return make


@pytest.fixture
def review(folder: Path, scans: Path) -> Review:
    return Review(folder, scans=[scans], reviewer="AB")
