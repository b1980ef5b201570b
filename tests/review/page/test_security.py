"""Who is refused, with 4xx and before anything is read."""

from __future__ import annotations

import asyncio
import webbrowser
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from urllib.request import url2pathname

import pytest
import uvicorn

from ddmseg.review import launch
from ddmseg.review import server as server_module
from ddmseg.review.security import LARGEST_BODY, POLICY
from ddmseg.review.session import Review
from review_client import Client

ADDRESSES = ["/", "/static/js/app.js", "/api/session", "/api/scans", "/api/scans/0/labels.nii"]


@pytest.fixture
def untouched(review: Review, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any reading fails the test."""

    def read(*words: object, **named: object) -> None:
        raise AssertionError("something was read")

    for name in ("rows", "row", "labels", "scan_bytes", "map_bytes", "decide", "correct"):
        monkeypatch.setattr(review, name, read)
    monkeypatch.setattr(server_module, "_static", read)


@pytest.mark.usefixtures("untouched")
def test_without_the_token_nothing_is_told(stranger: Client) -> None:
    for address in ADDRESSES:
        answer = stranger.get(address)
        assert answer.status_code == 401, address
        assert answer.text == "open the link that ddmseg review printed\n"


@pytest.mark.usefixtures("untouched")
def test_a_wrong_token_is_refused(stranger: Client) -> None:
    for token in ("", "wrong", f"{Client.TOKEN}x", "é"):
        answer = stranger.get("/", params={"token": token})
        assert answer.status_code == 401, token
        assert "set-cookie" not in answer.headers


def test_the_token_is_traded_for_a_cookie_and_leaves_the_address(stranger: Client) -> None:
    answer = stranger.get(f"/?token={Client.TOKEN}", follow=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert Client.TOKEN not in cookie
    assert stranger.get("/api/scans").status_code == 200


def test_the_link_works_once(stranger: Client) -> None:
    assert stranger.get(f"/?token={Client.TOKEN}x").status_code == 401
    assert stranger.get(f"/?token={Client.TOKEN}").status_code == 200
    stranger.cookies.clear()
    answer = stranger.get(f"/?token={Client.TOKEN}")
    assert answer.status_code == 401
    assert answer.text == "this link was used; start ddmseg review again for a new one\n"
    assert "set-cookie" not in answer.headers


FROM_A_FILE = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
DOCUMENT = {**FROM_A_FILE, "sec-fetch-dest": "document"}


def test_the_file_that_opens_the_page_may_lead_to_it(stranger: Client) -> None:
    answer = stranger.get(f"/?token={Client.TOKEN}", headers=DOCUMENT)
    assert (answer.status_code, answer.headers["refresh"]) == (200, "0; url=/")
    assert "SameSite=strict" in answer.headers["set-cookie"]
    assert stranger.get("/api/scans").status_code == 200


@pytest.mark.usefixtures("untouched")
def test_no_other_site_opens_it(stranger: Client) -> None:
    for address, headers in (
        (f"/?token={Client.TOKEN}x", DOCUMENT),
        ("/", DOCUMENT),
        (f"/api/scans?token={Client.TOKEN}", DOCUMENT),
        (f"/?token={Client.TOKEN}", FROM_A_FILE),
        (f"/?token={Client.TOKEN}", {**DOCUMENT, "sec-fetch-dest": "iframe"}),
        (f"/?token={Client.TOKEN}", {**DOCUMENT, "sec-fetch-mode": "no-cors"}),
        (f"/?token={Client.TOKEN}", {**DOCUMENT, "sec-fetch-site": "same-site"}),
        (f"/?token={Client.TOKEN}", {**DOCUMENT, "origin": "null"}),
    ):
        answer = stranger.get(address, headers=headers)
        assert answer.status_code == 403, (address, headers)
        assert "set-cookie" not in answer.headers


def test_the_browser_is_told_no_token(review: Review, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a browser is started with stands in the list of processes."""
    opened: list[tuple[str, str, int, int]] = []

    def look(address: str) -> None:
        file = Path(url2pathname(urlsplit(address).path))
        modes = (path.stat().st_mode & 0o777 for path in (file, file.parent))
        opened.append((address, file.read_text(), *modes))

    monkeypatch.setattr(webbrowser, "open", look)
    monkeypatch.setattr(uvicorn.Server, "run", lambda *_, **__: None)
    told: list[str] = []
    launch.serve(review, report=told.append, browser=True)
    ((address, text, file_mode, folder_mode),) = opened
    token = parse_qs(urlsplit(told[0]).query)["token"][0]
    assert len(token) > 40
    assert token not in address
    assert token in text
    assert (file_mode, folder_mode) == (0o600, 0o700)
    assert not Path(url2pathname(urlsplit(address).path)).exists()


@pytest.mark.usefixtures("untouched")
def test_the_token_is_no_cookie_and_opens_no_other_address(stranger: Client) -> None:
    assert stranger.get(f"/api/scans?token={Client.TOKEN}").status_code == 401
    name = f"ddmseg_review_{Client.PORT}"
    answer = stranger.get("/api/scans", headers={"cookie": f"{name}={Client.TOKEN}"})
    assert answer.status_code == 401


def test_another_host_is_refused(client: Client) -> None:
    for host in (
        "evil.example",
        f"evil.example:{Client.PORT}",
        "127.0.0.1",
        "127.0.0.1:80",
        "0.0.0.0:8123",
    ):
        answer = client.get("/api/scans", headers={"host": host})
        assert answer.status_code == 421
        assert "127.0.0.1 and localhost only" in answer.text


def test_two_hosts_are_none(client: Client) -> None:
    host = ("host", f"127.0.0.1:{Client.PORT}")
    assert client.get("/api/scans", headers=[host, ("host", "evil.example")]).status_code == 421


def test_another_site_reads_nothing_even_with_the_cookie(client: Client) -> None:
    for site in ("cross-site", "same-site", "odd"):
        assert client.get("/api/scans", headers={"sec-fetch-site": site}).status_code == 403
        answer = client.get(f"/?token={Client.TOKEN}", headers={"sec-fetch-site": site})
        assert answer.status_code == 403


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_another_origin_reads_nothing_even_with_the_cookie(
    client: Client, untouched: None, method: str
) -> None:
    addresses = ("/", f"/?token={Client.TOKEN}", "/api/scans", "/static/js/app.js")
    secure = f"https://127.0.0.1:{Client.PORT}"
    named = f"http://localhost:{Client.PORT}"
    for origin in ("http://evil.com", "null", "", secure, named, "http://127.0.0.1:9"):
        # who is refused for the origin is so whatever the address
        for address in addresses if origin == "null" else ("/", "/api/scans"):
            answer = client.ask(method, address, headers={"origin": origin})
            assert answer.status_code == 403, (origin, address)
            assert "set-cookie" not in answer.headers


def test_two_origins_are_a_foreign_one(client: Client) -> None:
    headers = [("origin", Client.ORIGIN), ("origin", "http://evil.com")]
    assert client.get("/api/scans", headers=headers).status_code == 403


def test_the_page_itself_may_say_where_it_is_from(client: Client) -> None:
    assert client.get("/api/scans", headers={"origin": Client.ORIGIN}).status_code == 200


def test_another_origin_writes_nothing(client: Client, review: Review) -> None:
    for headers in (
        {"origin": None},
        {"origin": "null"},
        {"origin": "http://evil.example"},
        {"origin": f"https://127.0.0.1:{Client.PORT}"},
        {"origin": f"http://localhost:{Client.PORT}"},
        {"origin": "http://127.0.0.1:9"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ):
        identifier = next(iter(review._results))
        decision = {"action": "accept", "seen": review.seen(identifier)}
        answer = client.post(f"/api/scans/{identifier}/decision", json=decision, headers=headers)
        assert answer.status_code == 403
        assert review.log.entries() == []


def test_other_methods_are_refused(client: Client) -> None:
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        assert client.ask(method, "/api/scans").status_code == 405


def test_a_length_must_be_said(client: Client, review: Review) -> None:
    for length in (None, "-1", "many", "1e3"):

        async def chunks():
            yield b"{}"

        identifier = next(iter(review._results))
        headers = {"content-type": "application/json", "content-length": length}
        answer = client.post(f"/api/scans/{identifier}/decision", content=chunks(), headers=headers)
        assert answer.status_code == 411


def test_what_is_too_long_is_refused_before_it_is_read(client: Client, review: Review) -> None:
    for address, kind, length in (
        ("decision", "application/json", 20_000),
        ("correction?seen=" + 64 * "0", "application/octet-stream", 5_000_000),
        ("correction?seen=" + 64 * "0", "application/octet-stream", LARGEST_BODY + 1),
    ):

        async def chunks():
            raise AssertionError("the body was read")
            yield b""

        identifier = next(iter(review._results))
        headers = {"content-type": kind, "content-length": str(length)}
        answer = client.post(
            f"/api/scans/{identifier}/{address}", content=chunks(), headers=headers
        )
        assert answer.status_code == 413


def test_tricks_with_paths_lead_nowhere(client: Client) -> None:
    for address in (
        "/static/../server.py",
        "/static/%2e%2e/server.py",
        "/static/..%2fserver.py",
        "/static//etc/passwd",
        "/static/js/../../security.py",
        "/api/scans/..%2f..%2fetc%2fpasswd",
        "/api/scans/../../etc/passwd",
        "/api/scans/better",
        "/api/scans/%00/labels.nii",
        "/api/scans/0000000000000000/thumbnail.png",
        "/nothing",
        "/docs",
        "/openapi.json",
    ):
        answer = client.get(address)
        assert answer.status_code == 404
        assert "root:" not in answer.text


def test_tricks_with_kinds_lead_nowhere(client: Client, review: Review) -> None:
    for kind in ("..%2f..%2fx", "dseg", "receipt.json", "_dseg"):
        identifier = next(iter(review._results))
        assert client.get(f"/api/scans/{identifier}/{kind}.nii").status_code == 404
        assert client.get(f"/api/scans/{identifier}/{kind}/0.nii").status_code == 404


def test_every_answer_carries_the_policy(client: Client) -> None:
    for address in ("/", "/api/scans", "/static/niivue.umd.js", "/nothing"):
        headers = client.get(address).headers
        assert headers["content-security-policy"] == POLICY
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers


def test_the_policy_allows_no_inline_script_and_no_other_server() -> None:
    assert "unsafe" not in POLICY
    assert "http" not in POLICY
    assert "*" not in POLICY


def test_web_sockets_are_closed(client: Client) -> None:
    sent: list[dict] = []

    async def send(message: dict) -> None:
        sent.append(message)

    asyncio.run(client.app({"type": "websocket", "headers": []}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
