"""Sending: places that are down, places that refuse, and what is never sent twice."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddmseg.errors import ScanError, SettingsError
from ddmseg.node.delivery import Backoff, Delivery
from ddmseg.node.destinations import RefusedError, UnreachableError
from ddmseg.node.spool import Quota, Spool
from dicom_spool import Lines, fill


class Place:
    """A destination that does as it is told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.trouble: list[Exception] = []
        self.got: list[list[str]] = []
        self.knows_no: tuple[str, ...] = ()

    def send(self, files: list[Path]) -> list[Path]:
        if self.trouble:
            raise self.trouble.pop(0)
        self.got.append([path.name for path in files if path.name not in self.knows_no])
        return [path for path in files if path.name in self.knows_no]


@pytest.fixture
def segmented(open_spool, study, clock):
    """A spool with two jobs to send."""
    spool = open_spool()
    for path in study[:2]:
        job = fill(spool, [path], clock)
        spool.queue.update(job, state="segmented", files=(f"{job.number}.dcm",))
    return spool


def deliver(spool: Spool, *places: Place) -> tuple[Delivery, Lines]:
    lines = Lines()
    backoff = Backoff(1e-6, 1e-6)
    return Delivery(spool.queue, places, Path("out"), backoff=backoff, report=lines), lines


def run_out(delivery: Delivery) -> None:
    for _ in range(60):
        delivery.step()
        time.sleep(1e-5)


def test_each_place_gets_each_result_once(segmented) -> None:
    one, other = Place("one"), Place("other")
    delivery, lines = deliver(segmented, one, other)
    run_out(delivery)
    assert one.got == other.got == [["1.dcm"], ["2.dcm"]]
    assert [job.record.state for job in segmented.queue.all()] == ["done", "done"]
    assert sum("1 files sent to one" in line for line in lines) == 2
    assert sum("done" in line for line in lines) == 2


def test_who_does_not_answer_is_left_alone_by_all(segmented) -> None:
    place = Place("one")
    place.trouble = [UnreachableError("one does not answer")]
    lines = Lines()
    delivery = Delivery(
        segmented.queue, [place], Path("out"), backoff=Backoff(60, 60), report=lines
    )
    assert delivery.step()
    assert not delivery.step()
    assert len(lines) == 1
    assert lines[0].startswith("job-000001: one does not answer; tried again in ")
    assert place.got == []


def test_who_refuses_one_gets_the_others(segmented) -> None:
    place = Place("one")
    place.trouble = [RefusedError("one refuses 1.dcm (status 0x0122)")]
    lines = Lines()
    delivery = Delivery(
        segmented.queue, [place], Path("out"), backoff=Backoff(60, 60), report=lines
    )
    run_out(delivery)
    assert place.got == [["2.dcm"]]
    assert [job.record.state for job in segmented.queue.all()] == ["segmented", "done"]
    assert segmented.queue.all()[0].record.failures == 1


def test_what_a_place_does_without_is_told_and_the_job_is_done(segmented) -> None:
    place = Place("one")
    place.knows_no = ("volumes.dcm",)
    job = segmented.queue.all()[0]
    segmented.queue.update(job, files=("labels.dcm", "volumes.dcm"))
    delivery, lines = deliver(segmented, place)
    run_out(delivery)
    assert place.got == [["labels.dcm"], ["2.dcm"]]
    assert lines[0].startswith("job-000001: 1 files sent to one, ")
    assert lines[0].endswith(" s; without volumes.dcm: Comprehensive 3D SR is not taken there")
    assert {job.record.state for job in segmented.queue.all()} == {"done"}


def test_what_one_place_has_is_not_sent_there_again(segmented, open_spool) -> None:
    good, bad = Place("good"), Place("bad")
    bad.trouble = [UnreachableError("bad does not answer")] * 3
    delivery, _ = deliver(segmented, good, bad)
    for _ in range(2):
        delivery.step()
    # killed and started again
    spool = open_spool()
    delivery, _ = deliver(spool, good, bad)
    run_out(delivery)
    assert sorted(good.got) == sorted(bad.got) == [["1.dcm"], ["2.dcm"]]


def test_a_result_that_is_gone_fails(segmented) -> None:
    place = Place("one")
    place.trouble = [ScanError("1.dcm: the result to send is gone or damaged")]
    delivery, lines = deliver(segmented, place)
    run_out(delivery)
    assert segmented.queue.all()[0].record.state == "failed"
    assert lines[0] == "job-000001: not sent: 1.dcm: the result to send is gone or damaged"


def test_without_a_destination_a_job_is_done(segmented) -> None:
    delivery, _ = deliver(segmented)
    run_out(delivery)
    assert {job.record.state for job in segmented.queue.all()} == {"done"}


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_waits_double_up_to_the_longest(failures: int, draw: float) -> None:
    backoff = Backoff(10, 900)
    wait = backoff.seconds(failures, draw)
    full = min(900, 10 * 2 ** min(failures - 1, 60))
    assert full / 2 <= wait <= full


def test_waits_that_make_no_sense() -> None:
    with pytest.raises(SettingsError, match="retry: got 0 to 5 s"):
        Backoff(0, 5)
    with pytest.raises(SettingsError, match="retry: got 9 to 5 s"):
        Backoff(9, 5)
    with pytest.raises(SettingsError, match="spool: got 0 GB"):
        Quota(gigabytes=0)
