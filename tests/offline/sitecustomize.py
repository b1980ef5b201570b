"""No test reaches another machine, nor asks for its address; neither do the programs it starts.

Python imports this module as it starts, wherever its folder is on the path: ``tests/conftest.py``
puts it there for the programs under test, and imports it itself.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from typing import Any

RECORD = "DDMSEG_TEST_HOSTS"
"""Variable that names the file to which each host that was asked for is added."""

_LOCAL = ("", socket.gethostname(), "localhost", "::1", "0.0.0.0", "::")


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    host = os.fsdecode(host or "")
    if host in _LOCAL or host.startswith("127."):
        return
    with contextlib.suppress(OSError, KeyError), open(os.environ[RECORD], "a") as file:
        file.write(f"{host}\n")
    raise OSError(f"{host}: tests have no network")


if os.environ.get(RECORD):
    sys.addaudithook(_refuse)
