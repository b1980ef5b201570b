"""What stands before the review server: who may ask, from where, how much and how slowly.

The page shows scans of people, and every page open in the browser can send requests to
127.0.0.1. So each request must name this server as its host (against DNS rebinding), hold
the cookie that only the launch link gives, and only once, and name no page but this one as its
origin; when it writes, it must name this one and say how long it is. Whatever fails is answered
before anything is read, and its connection ends.

Whoever opens a connection and says nothing, or little at a time, holds a file of this process,
of which there are about a thousand. So each request has a deadline, and of the connections that
have not asked for anything yet the oldest gives way to the newest: who asks at once gets in.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Iterable
from urllib.parse import parse_qs

import h11
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

READING = frozenset({"GET", "HEAD"})
WRITING = frozenset({"POST"})
LARGEST_BODY = 1 << 30
"""Bytes of a request that are never exceeded; each address has its own, lower limit."""
HEADER_SECONDS = 10.0
"""How long the header of a request may take, from the connection or the answer before it."""
MOST_WAITING = 64
"""Connections whose first request has not come yet."""
BACKLOG = 64
"""Connections that are accepted at once; with those that wait far fewer than a process may have."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy: nothing but what this server sends, and no inline script or style.
NiiVue carries its letters and colour bars inside itself, as data addresses."""

_HEADERS = {
    "content-security-policy": POLICY,
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Gate:
    """Lets through to an application what may pass, and answers everything else with 4xx."""

    def __init__(self, app: ASGIApp, *, port: int, token: str) -> None:
        self._app = app
        self._hosts = frozenset({f"127.0.0.1:{port}", f"localhost:{port}"})
        self._token: str | None = token  # None once it was traded
        # cookies are shared by all ports of a host, hence the port in the name
        self._cookie = f"ddmseg_review_{port}"
        self._session = secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            # no page of ours opens web sockets
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = Headers(scope=scope)
        answer = self._refusal(scope, headers) or self._entrance(scope, headers)
        if answer is None and not self._has_session(headers):
            answer = _refused(401, "open the link that ddmseg review printed")
        if answer is None and scope["method"] in WRITING:
            answer = self._refused_write(headers)
        await (answer or self._app)(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        if headers.getlist("host") not in [[host] for host in self._hosts]:
            return _refused(421, "this server answers to 127.0.0.1 and localhost only")
        if scope["method"] not in READING | WRITING:
            return _refused(405, "only GET, HEAD and POST are answered")
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not (
            _from_a_page(scope, headers) and self._is_token(scope)
        ):
            return _refused(403, "another site asked; open the link that ddmseg review printed")
        # browsers without Sec-Fetch-Site still name the page that asks across origins; readings of
        # our own page name none
        if headers.getlist("origin") not in ([], [f"http://{headers['host']}"]):
            return _refused(403, "another page asked; open the link that ddmseg review printed")
        return None

    def _entrance(self, scope: Scope, headers: Headers) -> Response | None:
        """Trade the token of the launch link for the cookie, once, and take it out of the address.

        A browser keeps a strict cookie to itself while it follows a link of another page, also
        over a redirection; so who comes from one is sent on by our own answer.
        """
        if scope["path"] != "/" or scope["method"] != "GET" or _token_of(scope) is None:
            return None
        if self._token is None:
            return _refused(401, "this link was used; start ddmseg review again for a new one")
        if not self._is_token(scope):
            return _refused(401, "a wrong token; open the link that ddmseg review printed")
        self._token = None
        answer: Response = RedirectResponse("/", status_code=303)
        if _from_a_page(scope, headers):
            answer = PlainTextResponse("", headers={"refresh": "0; url=/"})
        answer.set_cookie(self._cookie, self._session, httponly=True, samesite="strict", path="/")
        return answer

    def _is_token(self, scope: Scope) -> bool:
        return self._token is not None and _same(_token_of(scope) or [], self._token)

    def _has_session(self, headers: Headers) -> bool:
        pairs = (pair.partition("=") for pair in headers.get("cookie", "").split(";"))
        return _same([v for k, _, v in pairs if k.strip() == self._cookie], self._session)

    def _refused_write(self, headers: Headers) -> Response | None:
        if "origin" not in headers:  # a foreign one was refused already
            return _refused(403, "only the review page itself may write")
        length = headers.get("content-length", "")
        if "transfer-encoding" in headers or not (length.isascii() and length.isdigit()):
            return _refused(411, "the length of what is sent must be said first")
        if int(length) > LARGEST_BODY:
            return _refused(413, f"at most {LARGEST_BODY} bytes are taken")
        return None


def _token_of(scope: Scope) -> list[str] | None:
    return parse_qs(scope["query_string"].decode("latin-1")).get("token")


def _from_a_page(scope: Scope, headers: Headers) -> bool:
    """Whether a person followed a link of another page, such as the file that opens this one."""
    return (
        scope["path"] == "/"
        and scope["method"] == "GET"
        and headers.get("sec-fetch-site") == "cross-site"
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )


def _same(given: Iterable[str], secret: str) -> bool:
    """Compare in a time that tells nothing; exactly one must be given."""
    values = list(given)
    return len(values) == 1 and hmac.compare_digest(values[0].encode(), secret.encode())


def _refused(status: int, reason: str) -> Response:
    return PlainTextResponse(f"{reason}\n", status_code=status, headers={"connection": "close"})


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(_HEADERS)
        await send(message)

    return sending


class PatientProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, with a deadline for each request and a bound on silence."""

    waiting: dict[PatientProtocol, None]
    """Connections without a first request, the oldest first; shared by those of one server."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request; where too many do, let the oldest go."""
        super().connection_made(transport)
        self.waiting[self] = None
        self._wait()
        if len(self.waiting) > MOST_WAITING:
            next(iter(self.waiting)).leave()

    def data_received(self, data: bytes) -> None:
        """Read on; the waiting is over when the header of a request is whole."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self.waiting.pop(self, None)
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """Wait for the next request of this connection."""
        self._wait()
        super().on_response_complete()
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.waiting.pop(self, None)
        self._stop_waiting()
        super().connection_lost(exc)

    def leave(self) -> None:
        """End the connection without a word."""
        self.waiting.pop(self, None)
        self.transport.abort()

    def _wait(self) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(HEADER_SECONDS, self.leave)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def protocol() -> type[PatientProtocol]:
    """Return the protocol of one server."""
    return type("PatientProtocol", (PatientProtocol,), {"waiting": {}})
