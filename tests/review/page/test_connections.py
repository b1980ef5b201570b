"""Slow and greedy peers: a request has a deadline, and who asks at once gets in."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn

from ddmseg.review import security as connections
from ddmseg.review.launch import _listening
from ddmseg.review.server import create_app
from ddmseg.review.session import Review
from review_client import Client

PATIENCE = 30.0
"""Seconds after which a test fails; a quiet machine needs a hundredth of it."""


class Page:
    """The page on a port of its own."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.kind: type[connections.PatientProtocol]

    def connect(self, sent: bytes = b"") -> socket.socket:
        peer = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        peer.sendall(sent)
        return peer

    def request(self, address: str = "/", end: str = "\r\n") -> bytes:
        return f"GET {address} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n{end}".encode()

    def ask(self, address: str = "/") -> bytes:
        """The first bytes of an answer."""
        with self.connect(self.request(address)) as peer:
            return peer.recv(200)


@pytest.fixture
def page(review: Review, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.4)
    monkeypatch.setattr(connections, "MOST_WAITING", 8)
    with _listening(0) as listener:
        page = Page(listener.getsockname()[1])
        page.kind = connections.protocol()
        config = uvicorn.Config(
            create_app(review, port=page.port, token=Client.TOKEN),
            http=page.kind,
            ws="none",
            backlog=connections.BACKLOG,
            log_level="error",
            lifespan="off",
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield page
        finally:
            server.should_exit = server.force_exit = True
            thread.join()


def ended(peer: socket.socket) -> bool:
    """Whether the other side ends the connection, before the patience does."""
    try:
        while peer.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def half(page: Page) -> bytes:
    return page.request(end="")


def test_a_request_that_never_ends_is_ended(page: Page) -> None:
    for sent in (b"", b"G", half(page)):
        with page.connect(sent) as peer:
            assert ended(peer), sent
    assert page.kind.waiting == {}


def test_bytes_that_drip_do_not_hold_a_connection(page: Page) -> None:
    with page.connect(half(page)) as peer:
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() < began + PATIENCE:
                peer.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() < began + PATIENCE


def test_neither_do_they_after_an_answer(page: Page) -> None:
    name = f"ddmseg_review_{page.port}"
    with page.connect(page.request(f"/?token={Client.TOKEN}")) as peer:
        answer = peer.recv(4096).decode()
    cookie = answer.partition(f"{name}=")[2].partition(";")[0]
    line = f"Cookie: {name}={cookie}\r\n"
    with page.connect(page.request("/static/icon.svg", end=f"{line}\r\n")) as peer:
        assert peer.recv(4096).startswith(b"HTTP/1.1 200")
        peer.sendall(page.request("/static/icon.svg", end=line))
        assert ended(peer)


def test_many_half_requests_do_not_shut_the_page(page: Page) -> None:
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(page.connect(half(page))) for _ in range(100)]
        assert page.ask().startswith(b"HTTP/1.1 401")
        assert len(page.kind.waiting) <= 8
        assert all(map(ended, peers))


def test_who_is_refused_is_let_go(page: Page) -> None:
    with page.connect(page.request("/api/scans")) as peer:
        answer = peer.recv(4096)
        assert b"connection: close" in answer
        assert ended(peer)
