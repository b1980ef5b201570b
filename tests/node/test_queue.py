"""The queue on the disk: arrivals, room, and what comes again."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddmseg.errors import OutputError, ScanError, UsageError
from ddmseg.node import jobs
from ddmseg.node.delivery import Backoff
from ddmseg.node.spool import Spool, check_uid
from dicom_files import STUDY
from dicom_network import storescu
from dicom_spool import fill, make_worker, put

# arrivals


def test_a_study_is_complete_when_nothing_came_for_long_enough(open_spool, study, clock) -> None:
    spool = open_spool()
    put(spool, study[0])
    clock.seconds += 4
    put(spool, study[1])
    clock.seconds += 4
    assert spool.close_quiet(5) == []
    clock.seconds += 1
    (job,) = spool.close_quiet(5)
    assert (job.name, job.record.instances, spool.receiving) == ("job-000001", 2, 0)
    assert spool.close_quiet(5) == []


def test_a_study_that_is_still_being_sent_is_not_complete(open_spool, study, clock) -> None:
    spool = open_spool()
    put(spool, study[0])
    clock.seconds += 100
    assert spool.close_quiet(5, still_open={STUDY}) == []
    assert len(spool.close_quiet(5, still_open={"1.2.3"})) == 1


def test_what_came_before_a_crash_is_taken_up_and_half_a_file_is_not(
    open_spool, study, clock, tmp_path
) -> None:
    spool = open_spool()
    put(spool, study[0])
    half = tmp_path / "spool" / "incoming" / "0123.dcm"
    half.write_bytes(study[1].read_bytes()[:300])
    spool = open_spool()
    assert not half.exists()
    assert spool.receiving == 1
    put(spool, study[1])
    clock.seconds += 10
    (job,) = spool.close_quiet(5)
    assert job.record.instances == 2


def test_an_image_that_comes_again_is_no_new_job(open_spool, study, clock) -> None:
    spool = open_spool()
    assert put(spool, study[0])
    assert not put(spool, study[0])
    clock.seconds += 10
    assert len(spool.close_quiet(5)) == 1
    assert not put(spool, study[0])
    clock.seconds += 10
    assert spool.close_quiet(5) == []


def fail(spool: Spool, job: jobs.Job) -> jobs.Job:
    return spool.queue.update(job, state="failed", starts=3, reason="a bug", ended=1.0)


def test_a_failed_study_that_comes_again_is_a_new_job(open_spool, study, clock) -> None:
    spool = open_spool()
    fail(spool, fill(spool, study, clock))
    spool = open_spool()
    again = fill(spool, study, clock)  # each of them counts as new
    assert (again.number, again.record.state, again.record.instances) == (2, "waiting", len(study))
    assert not put(spool, study[0])  # the new job has it
    spool.queue.update(again, state="done")
    assert not put(spool, study[0])


def test_one_slice_of_a_failed_study_brings_the_others_along(open_spool, study, clock) -> None:
    spool = open_spool()
    fail(spool, fill(spool, study, clock))
    again = fill(spool, study[:1], clock)
    assert (again.number, again.record.instances) == (2, len(study))


def test_failed_jobs_are_tried_again_when_the_operator_asks(
    open_spool, study, clock, segmenter, tmp_path
) -> None:
    spool = open_spool()
    fail(spool, fill(spool, study, clock))
    spool = open_spool()
    (job,) = spool.retry_failed()
    assert job.record == replace(job.record, state="waiting", starts=0, reason="", ended=0.0)
    step, _ = make_worker(open_spool(), segmenter, tmp_path / "out")
    assert step.step()
    (job,) = step._queue.all()
    assert (job.record.state, job.record.starts) == ("segmented", 1)


def test_what_came_again_or_is_gone_is_not_tried_again(open_spool, study, clock) -> None:
    spool = open_spool(keep_days=1)
    first = fail(spool, fill(spool, study, clock))
    put(spool, study[0])  # on its way again
    assert spool.retry_failed() == []
    clock.seconds += 10
    (second,) = spool.close_quiet(5)
    assert spool.retry_failed() == []
    fail(spool, second)
    assert [job.number for job in spool.retry_failed()] == [second.number]
    fail(spool, second)
    clock.seconds += 1e9
    spool.remove_old()
    assert not first.images.exists()
    assert spool.retry_failed() == []


@pytest.mark.usefixtures("scanner")
def test_a_node_tries_failed_jobs_again_once_it_is_told_to(make_node, study, segmenter) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise KeyError("Doe^Jane")

    node = make_node(backoff=Backoff(0.1, 0.1))
    node.segmenter = broken
    node.start()
    assert storescu(node.port, study).returncode == 0
    node.wait_for("job-000001: 22 images, not segmented: unexpected KeyError")
    node.stop()
    node.segmenter = segmenter
    node.start(retry_failed=True)
    node.wait_for("failed jobs are tried again: job-000001")
    node.wait_for("job-000001: done")
    node.stop()
    node.start(retry_failed=True)
    node.wait_for("failed jobs are tried again: none has its images still")
    assert not any("Doe" in line for line in node.lines)


def test_slices_that_come_late_make_their_series_whole(open_spool, study, clock) -> None:
    spool = open_spool()
    first = fill(spool, study[:3], clock)
    second = fill(spool, study[3:], clock)
    assert (first.number, second.number) == (1, 2)
    assert second.record.instances == len(study)
    assert len(list(second.images.rglob("*.dcm"))) == len(study)


def test_numbers_are_never_used_twice(open_spool, study, clock) -> None:
    spool = open_spool(keep_days=1)
    job = fill(spool, study[:1], clock)
    spool.queue.end(job, "done")
    clock.seconds += 86_399
    assert spool.remove_old() == 0
    clock.seconds += 1
    assert spool.remove_old() == 1
    assert not job.images.exists()
    assert spool.remove_old() == 0
    # what was removed is new again
    again = fill(open_spool(), study[:1], clock)
    assert again.number == 2


def test_removing_makes_room(open_spool, study, clock) -> None:
    spool = open_spool(objects=2, keep_days=0)
    job = fill(spool, study[:2], clock)
    with pytest.raises(OutputError, match=r"the spool is full \(2 objects, 0\.0 GB\)"):
        put(spool, study[2])
    spool.queue.end(job, "failed")
    spool.remove_old()
    assert put(spool, study[2])


def test_a_full_disk_refuses_and_leaves_nothing(open_spool, study, monkeypatch) -> None:
    spool = open_spool(objects=1)

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ddmseg.atomic._sync", full)
    with pytest.raises(OutputError, match="the disk is full"):
        put(spool, study[0])
    monkeypatch.undo()
    assert put(spool, study[0])  # neither counted nor kept


def test_one_node_a_spool(open_spool, tmp_path) -> None:
    open_spool()
    with pytest.raises(UsageError, match="another node uses"):
        Spool(tmp_path / "spool")


def test_others_cannot_read_the_spool(open_spool, tmp_path) -> None:
    open_spool()
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "uid", ["", ".", "..", "1..2", "1.2/3", "1.2\n", "a", "1" * 65, "\u0661.\u0662"]
)
def test_uids_that_could_lead_elsewhere(uid: str) -> None:
    with pytest.raises(ScanError, match="a UID is absent or not made of digits"):
        check_uid(uid)


@given(st.text("0123456789./\\\0 ", max_size=70))
def test_a_uid_that_passes_is_one_plain_name(uid: str) -> None:
    try:
        checked = check_uid(uid)
    except ScanError:
        return
    assert Path("folder", checked).parts == ("folder", uid)
    assert checked not in (".", "..")
