"""A client of the review application that sends the headers of a browser."""

from __future__ import annotations

import asyncio
import gzip
import json
from importlib import resources
from typing import Any

import httpx
import numpy as np

from ddmseg.review.server import create_app
from ddmseg.review.session import Review
from review_folder import nifti_bytes

_ENGLISH = resources.files("ddmseg.review") / "static" / "i18n" / "en.json"
WORDS = json.loads(_ENGLISH.read_text(encoding="utf-8"))


class Client:
    """Asks the application directly, without a socket; keeps cookies and follows redirects."""

    TOKEN = "a-token-for-tests"
    PORT = 8123
    ORIGIN = f"http://127.0.0.1:{PORT}"

    def __init__(self, review: Review) -> None:
        self.app = create_app(review, port=self.PORT, token=self.TOKEN)
        self.cookies = httpx.Cookies()

    def get(self, address: str, **options: Any) -> httpx.Response:
        return self.ask("GET", address, **options)

    def post(self, address: str, *, headers: Any = None, **options: Any) -> httpx.Response:
        given = {"origin": self.ORIGIN, "sec-fetch-site": "same-origin", **(headers or {})}
        kept = {name: value for name, value in given.items() if value is not None}
        return self.ask("POST", address, headers=kept, **options)

    def ask(
        self, method: str, address: str, *, follow: bool = True, **options: Any
    ) -> httpx.Response:
        return asyncio.run(self._ask(method, address, follow, options))

    async def _ask(self, method: str, address: str, follow: bool, options: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport,
            base_url=self.ORIGIN,
            cookies=self.cookies,
            follow_redirects=follow,
        ) as client:
            answer = await client.request(method, address, **options)
            self.cookies = client.cookies
            return answer


def upload(review: Review, scan: dict, voxels: int = 4) -> bytes:
    labels = review.labels(scan["id"])
    data = labels.data.astype(np.uint8)
    data[tuple(np.argwhere(data == 41)[:voxels].T)] = 2
    return gzip.compress(nifti_bytes(data, labels.affine))


def correct(client: Client, scan: dict, data: bytes, **headers: str):
    return client.post(
        f"/api/scans/{scan['id']}/correction?seen={scan['seen']}",
        content=data,
        headers={"content-type": "application/octet-stream", **headers},
    )


def decide(client: Client, scan: dict, **decision: object):
    wanted = {"action": "accept", "seen": scan["seen"], **decision}
    return client.post(f"/api/scans/{scan['id']}/decision", json=wanted)


def told_in_english(answer) -> str:
    """What an English page shows: the words of the code, with its values."""
    told = answer.json()
    return WORDS[f"error.{told['code']['code']}"].format(**told["code"]["values"])
