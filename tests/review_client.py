"""A client of the review application that sends the headers of a browser."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from ddmseg.review.server import create_app
from ddmseg.review.session import Review


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
