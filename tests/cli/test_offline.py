"""Nothing leaves the machine: ``tests/conftest.py`` watches every test of every command so.

Here is the watch itself, and what would ask for a host if it were let.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from installed import need

OPENVINO = """
import sys
from ddmseg.models.export.runtimes import import_openvino
import_openvino().Core()
assert "openvino_telemetry" not in sys.modules
"""


def python(code: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )


def test_the_watch_reaches_the_programs_under_test(tmp_path, hosts_asked_for) -> None:
    done = python("import socket; socket.getaddrinfo('stats.example.org', 443)", tmp_path)
    assert "stats.example.org: tests have no network" in done.stderr
    with pytest.raises(OSError, match="tests have no network"):
        socket.create_connection(("192.0.2.1", 80))
    assert hosts_asked_for.read_text().split() == ["stats.example.org", "192.0.2.1"]
    hosts_asked_for.write_text("")


def test_openvino_asks_for_no_host_and_writes_nothing_as_it_is_imported(tmp_path) -> None:
    need("openvino")
    done = python(OPENVINO, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.rglob("*")) == []
