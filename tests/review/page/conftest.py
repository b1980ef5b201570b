"""The application over two small results, asked as a browser would."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the review page: pip install 'ddmseg[review]'")
pytest.importorskip("httpx", reason="asking the review page: pip install httpx")

from ddmseg.review.session import Review
from review_client import Client
from review_folder import write_results


@pytest.fixture
def folder(tmp_path: Path, make_segmentation) -> Path:
    return write_results(make_segmentation, tmp_path / "out", tmp_path / "scans")


@pytest.fixture
def review(folder: Path, tmp_path: Path) -> Review:
    return Review(folder, scans=[tmp_path / "scans"], reviewer="AB")


@pytest.fixture
def stranger(review: Review) -> Client:
    """Who knows the address but not the token."""
    return Client(review)


@pytest.fixture
def client(stranger: Client) -> Client:
    """Who came through the launch link."""
    assert stranger.get(f"/?token={Client.TOKEN}").status_code == 200
    return stranger
