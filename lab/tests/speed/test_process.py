"""Commands measured from outside: nothing here asserts how fast they are."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from ddmseg.errors import ScanError
from ddmseg.models.checkpoint import Card
from ddmseg_lab.provenance import describe_machine, measured_with
from ddmseg_lab.speed.process import measure_command

SPIN = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_memory_is_that_of_the_command_and_not_of_who_asks():
    # This process holds torch and a large array, which the command must not inherit.
    held = np.ones(50_000_000)
    small = measure_command(python("pass"))
    large = measure_command(python("x = b'1' * 200_000_000"))
    assert held.nbytes == 400_000_000
    assert small["peak_memory_gb"] < 0.1
    assert 0.2 < large["peak_memory_gb"] < 0.35


def test_sleep_is_no_work_of_the_processor():
    work, sleep = (measure_command(python(code)) for code in (SPIN, "import time; time.sleep(0.3)"))
    assert work["processor_seconds"] >= 0.3
    assert sleep["processor_seconds"] < work["processor_seconds"]
    assert min(work["seconds"], sleep["seconds"]) >= 0.3


def test_a_command_that_fails_is_told_with_its_last_line():
    failing = python("import sys; sys.stderr.write('a\\nerror: no such scan\\n'); sys.exit(3)")
    with pytest.raises(ScanError, match=r"ended with code 3: error: no such scan$"):
        measure_command(failing)
    with pytest.raises(ScanError, match="code 1: it said nothing"):
        measure_command(python("import os; os._exit(1)"))


def test_a_measured_run_leaves_no_trace_in_the_monitor(monkeypatch):
    monkeypatch.setenv("DDMSEG_MONITOR", "store")
    measure_command(python("import os; assert 'DDMSEG_MONITOR' not in os.environ"))


def test_rows_of_other_weights_devices_or_threads_are_told_apart(monkeypatch):
    card = Card("toy", (0, 2), {}, checksum="a" * 64)
    ours = measured_with(card, "cpu")
    assert ours == measured_with(card, "cpu")
    assert ours.startswith("a" * 12)
    others = {measured_with(card, "cuda"), measured_with(Card("toy", (0, 2), {}), "cpu")}
    machine = {**describe_machine(), "threads": 99}
    monkeypatch.setattr("ddmseg_lab.provenance.describe_machine", lambda: machine)
    others.add(measured_with(card, "cpu"))
    assert len(others | {ours}) == 4
