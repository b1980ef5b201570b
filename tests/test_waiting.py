"""Threads that wait for each other sleep: beside other work they must not fight for processors."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")

TURNS = """
import time
import ddmseg, torch
torch.set_num_threads(2)
x = torch.ones(400_000)  # enough to be shared by two threads
x.add_(1)
start = time.process_time()
for _ in range(50):
    x.add_(1)
    time.sleep(0.01)
print((time.process_time() - start) / 50)
"""


def told(code: str, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=clean | environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


def test_a_thread_without_work_takes_no_processor_time() -> None:
    # processor time, not that of the clock: the same on a busy machine. GNU's OpenMP would have
    # its second thread spin through the 10 ms of each turn; the work itself takes 0.3 ms.
    assert float(told(TURNS)) < 0.004


@pytest.mark.parametrize("own", VARIABLES[:3])
def test_what_the_user_has_set_is_left_alone(own) -> None:
    code = f"import os, ddmseg; print([os.environ.get(name) for name in {VARIABLES[:3]}])"
    assert told(code, **{own: "7"}) == str(["7" if name == own else None for name in VARIABLES[:3]])
