"""A log that cannot be written, and parts of the node that end: acknowledged is acknowledged."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable

import pytest

from ddmseg.errors import DdmsegError
from ddmseg.inference.options import SegmentOptions
from ddmseg.node import log as logs
from ddmseg.node import node as nodes
from ddmseg.node.log import Log
from ddmseg.node.node import NodeError, NodeSettings, run_node
from ddmseg.node.worker import Work, Worker
from dicom_network import storescu, wait_for
from dicom_spool import Lines, put


class Broken(Lines):
    """A log that takes lines again once it is mended."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error: Exception | None = error
        self.tries = 0

    def __call__(self, line: str) -> None:
        self.tries += 1
        if self.error is not None:
            raise self.error
        super().__call__(line)


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("error", [FULL, BrokenPipeError(), ValueError("closed file")])
def test_a_line_does_not_raise_and_what_was_lost_is_told(error, capsys) -> None:
    broken = Broken(error)
    log = Log(broken)
    log("one")
    log("two")
    wait_for(lambda: broken.tries == 2, "two tries")
    broken.error = None
    log("three")
    log.close()
    assert broken == ["2 lines of this log could not be written", "three"]
    assert capsys.readouterr().err.count("warning: cannot write the log") == 1


def test_a_name_that_cannot_be_shown_is_written_in_ascii() -> None:
    told: list[str] = []

    def write(line: str) -> None:
        told.append(line.encode("ascii").decode())

    log = Log(write)
    log("cannot write /scans/M\u00fcller")
    log.close()
    assert told == ["cannot write /scans/M\\xfcller"]


def test_a_log_that_nobody_reads_holds_nobody_up(monkeypatch) -> None:
    monkeypatch.setattr(logs, "MOST_LINES", 3)
    monkeypatch.setattr(logs, "END_SECONDS", 0.05)
    begun, read, told = threading.Event(), threading.Event(), Lines()

    def write(line: str) -> None:
        begun.set()
        read.wait()
        told(line)

    log = Log(write)
    log("first")
    assert begun.wait(60)
    for number in range(10):
        log(f"{number}")
    log.close()  # it does not wait for ever
    read.set()
    wait_for(lambda: "2" in told, "the lines that waited")
    assert told == ["first", "7 lines of this log could not be written", "0", "1", "2"]


class Deaf(list[str]):
    """Takes the line that says the port, and no other."""

    def append(self, line: str) -> None:
        super().append(line)
        if "listening" not in line:
            raise FULL


@pytest.mark.usefixtures("scanner")
def test_studies_are_segmented_without_a_log(make_node, study) -> None:
    node = make_node()
    node.lines = Deaf()
    node.start()
    assert storescu(node.port, study).returncode == 0
    wait_for(lambda: list(node.output.rglob("*_receipt.json")), "the results")


# A part that ends


@pytest.fixture
def run(tmp_path, segmenter) -> Callable[[], None]:
    """Run a node until it ends by itself."""

    def serve() -> None:
        settings = NodeSettings(tmp_path / "spool", quiet_seconds=0.1)
        work = Work(segmenter, tmp_path / "out", SegmentOptions(mode="fast"))
        run_node(settings, work, stop=threading.Event(), report=Lines())

    return serve


def test_a_worker_that_ends_ends_the_node(run, monkeypatch, open_spool, study) -> None:
    put(open_spool(), study[0])
    open_spool().close()

    def end(worker: Worker) -> bool:
        raise SystemExit("Doe^Jane")

    monkeypatch.setattr(Worker, "step", end)
    with pytest.raises(NodeError, match="ended unexpectedly: segmentation") as caught:
        run()
    assert issubclass(NodeError, DdmsegError)
    assert caught.value.exit_code == 1
    assert "Doe" not in str(caught.value)
    assert open_spool().receiving + len(open_spool().queue.all()) == 1  # nothing is lost


def test_a_listener_that_ends_ends_the_node(run, monkeypatch) -> None:
    monkeypatch.setattr(nodes.Listener, "is_alive", lambda listener: False)
    with pytest.raises(NodeError, match="ended unexpectedly: listening"):
        run()


def test_the_command_ends_with_an_error(ddmseg, tiny_model, tmp_path, monkeypatch) -> None:
    def end(worker: Worker) -> bool:
        time.sleep(0.05)
        raise SystemExit

    monkeypatch.setattr(Worker, "step", end)
    outcome = ddmseg(
        *("dicom-node", "-o", tmp_path / "out", "--spool", tmp_path / "spool"),
        *("--model", tiny_model, "--port", 0),
    )
    assert outcome.code == 1
    assert "ended unexpectedly: segmentation" in outcome.error
    assert "start the node again" in outcome.error
