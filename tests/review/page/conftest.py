"""The application over two small results, asked as a browser would."""

from __future__ import annotations

import pytest

pytest.importorskip("fastapi", reason="the review page: pip install 'ddmseg[review]'")
pytest.importorskip("httpx", reason="asking the review page: pip install httpx")

from ddmseg.review.session import Review
from review_client import Client


@pytest.fixture
def stranger(review: Review) -> Client:
    """Who knows the address but not the token."""
    return Client(review)


@pytest.fixture
def client(stranger: Client) -> Client:
    """Who came through the launch link."""
    assert stranger.get(f"/?token={Client.TOKEN}").status_code == 200
    return stranger


@pytest.fixture
def worse(client: Client) -> dict:
    """The first row of the table, in full."""
    rows = client.get("/api/scans").json()["scans"]
    return client.get(f"/api/scans/{rows[0]['id']}").json()
