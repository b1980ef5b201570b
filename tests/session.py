"""What every test run starts with: one thread each, signals as in a shell, the folder of data.

Imported by the conftest of the product's tests and that of the laboratory's, first of all.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# before anything imports torch: several test processes side by side must not fight for the cores
os.environ.setdefault("OMP_NUM_THREADS", "1")

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
