"""Starting and stopping the review server."""

from __future__ import annotations

import contextlib
import secrets
import socket
import tempfile
import webbrowser
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path

from ddmseg.errors import UsageError, optional
from ddmseg.review.session import Review

ADDRESS = "127.0.0.1"
"""The only address that is listened on: the scans are for nobody but who sits here."""


def check_packages() -> None:
    """Raise MissingExtraError when a package of the page is not installed."""
    for package in ("fastapi", "uvicorn", "filelock"):
        optional(package, "review")


def serve(
    review: Review, *, port: int = 0, report: Callable[[str], None] = print, browser: bool = False
) -> None:
    """Serve the page until Ctrl-C; ``report`` gets the launch link, and the browser if asked for.

    Port 0 takes a free one; UsageError when the port is taken or not allowed.
    """
    import uvicorn

    from ddmseg.review.security import BACKLOG, protocol
    from ddmseg.review.server import create_app

    with _listening(port) as listener:
        token = secrets.token_urlsafe(32)
        chosen = listener.getsockname()[1]
        app = create_app(review, port=chosen, token=token)
        # no access log: addresses hold the token, and names of scans have no place in logs
        config = uvicorn.Config(
            app,
            http=protocol(),
            ws="none",
            backlog=BACKLOG,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
        )
        link = f"http://{ADDRESS}:{chosen}/?token={token}"
        report(link)
        with contextlib.ExitStack() as stack:
            if browser:
                webbrowser.open(stack.enter_context(opening_page(link)).as_uri())
            uvicorn.Server(config).run(sockets=[listener])


@contextlib.contextmanager
def opening_page(link: str) -> Iterator[Path]:
    """Yield a page that leads to the link and that nobody else can read.

    What a browser is told to open stands in the list of processes, for all users of the machine.
    """
    with tempfile.TemporaryDirectory(prefix="ddmseg-review-") as folder:
        page = Path(folder) / "open.html"
        page.touch(mode=0o600)
        page.write_text(
            '<!doctype html><meta charset="utf-8"><title>ddmseg review</title>'
            '<meta name="referrer" content="no-referrer">'
            f'<meta http-equiv="refresh" content="0; url={escape(link)}">'
            f'<a href="{escape(link)}">ddmseg review</a>\n',
            encoding="utf-8",
        )
        yield page


def _listening(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((ADDRESS, port))
    except (OSError, OverflowError) as error:
        listener.close()
        reason = error.strerror if isinstance(error, OSError) else "no such port"
        raise UsageError(
            f"port: got {port} ({reason}); give a free one from 1024 to 65535, or 0 for any"
        ) from error
    listener.listen()
    return listener
