"""What every test run starts with: one thread each, no network, the folder of data.

Imported by the conftest of the product's tests and that of the laboratory's, first of all.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# before anything imports torch: several test processes side by side must not fight for the cores
os.environ.setdefault("OMP_NUM_THREADS", "1")

# whoever asks for another machine is put on a list: here and in the programs that tests start
_OFFLINE = Path(__file__).parent / "offline"
# one list a process: pytest imports this module a second time when it looks for examples in it
_HOSTS = Path(tempfile.gettempdir()) / f"ddmseg-hosts-{os.getpid()}"
_HOSTS.write_text("")
os.environ["DDMSEG_TEST_HOSTS"] = str(_HOSTS)
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, (str(_OFFLINE), os.environ.get("PYTHONPATH")))
)
_SPEC = importlib.util.spec_from_file_location("offline", _OFFLINE / "sitecustomize.py")
_SPEC.loader.exec_module(importlib.util.module_from_spec(_SPEC))

# a shell has what it starts in the background ignore ctrl-c, and programs under test would, too
signal.signal(signal.SIGINT, signal.default_int_handler)

# a time limit on each example would fail on a busy machine and say nothing of the code
settings.register_profile("ddmseg", deadline=None)
settings.load_profile("ddmseg")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data named by ``DDMSEG_DATA``; the test is skipped without it."""
    named = os.environ.get("DDMSEG_DATA")
    if not named or not Path(named).is_dir():
        pytest.skip("real data: set DDMSEG_DATA to the folder that holds it")
    return Path(named)


@pytest.fixture(scope="session", autouse=True)
def hosts_asked_for() -> Iterator[Path]:
    """The file that lists the hosts of other machines that somebody asked for."""
    yield _HOSTS
    _HOSTS.unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def nothing_leaves_the_machine(hosts_asked_for: Path) -> Iterator[None]:
    """Fail a test in which anything, a program it started too, asked for another machine."""
    yield
    asked, _ = hosts_asked_for.read_text(), hosts_asked_for.write_text("")
    assert not asked, f"the network was asked for {asked.split()}"
