"""The queue on the disk: every point at which the program can be killed, and full disks."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.tag import BaseTag, tag_in_exception

from ddmseg.errors import OutputError, ScanError, UsageError
from ddmseg.imaging import atomic
from ddmseg.imaging.dicom_choice import Trained
from ddmseg.interfaces.dicom_node import jobs, worker
from ddmseg.interfaces.dicom_node.backoff import Backoff
from ddmseg.interfaces.dicom_node.jobs import JobQueue
from ddmseg.interfaces.dicom_node.spool import Spool, check_uid
from ddmseg.interfaces.dicom_node.worker import StopError, Work, Worker
from ddmseg.pipeline.monitoring.recorder import Recorder
from ddmseg.pipeline.options import SegmentOptions
from dicom_files import PATIENT, STUDY, save, scan, slice_datasets
from dicom_network import storescu
from dicom_spool import Tell, fill, put


def make_worker(spool: Spool, segmenter, output: Path, **changes) -> tuple[Worker, Tell]:
    tell = Tell()
    work = replace(Work(segmenter, output, SegmentOptions(mode="fast")), **changes)
    return Worker(spool.queue, work, stop=threading.Event(), tell=tell), tell


def seg_uids(output: Path) -> list[str]:
    return [str(pydicom.dcmread(path).SOPInstanceUID) for path in sorted(output.rglob("*.dcm"))]


# the monitor


def test_each_segmentation_adds_a_line_to_the_monitor(
    open_spool, study, clock, segmenter, tmp_path
) -> None:
    pytest.importorskip("pyarrow", reason="needs ddmseg[monitor]")
    from ddmseg.pipeline.monitoring.statistics import keyed_hash
    from ddmseg.pipeline.monitoring.store import Store

    spool, store = open_spool(), Store(tmp_path / "store")
    fill(spool, study, clock)
    worker, tell = make_worker(spool, segmenter, tmp_path / "out", monitor=store.folder)
    assert worker.step()
    (line,) = store.read().lines
    (labels,) = (tmp_path / "out").rglob("*_dseg.nii.gz")
    sha256 = hashlib.sha256(labels.read_bytes()).hexdigest()
    assert (line["input"], line["vendor"]) == ("DICOM", "TOYS")
    assert line["labels_key"] == keyed_hash(store.salt(), sha256)
    assert not any("monitor" in said for said in tell)
    everything = b"".join(path.read_bytes() for path in store.folder.rglob("*") if path.is_file())
    for secret in (PATIENT, STUDY):
        assert secret.encode() not in everything


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError(f"{PATIENT} of {STUDY}"), "unexpected ValueError"),
        (OutputError(f"cannot write {STUDY}: the disk is full"), "cannot write (UID): the disk"),
    ],
)
def test_trouble_of_the_monitor_costs_one_line_without_names(
    open_spool, study, clock, segmenter, tmp_path, monkeypatch, error, told
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(Recorder, "_append", fail)
    spool = open_spool()
    fill(spool, study, clock)
    worker, tell = make_worker(spool, segmenter, tmp_path / "out", monitor=tmp_path / "store")
    assert worker.step()
    assert spool.queue.all()[0].record.state == "segmented"
    (line,) = [said for said in tell if "monitor" in said]
    assert line.startswith(f"warning: not added to the monitor: {told}")
    assert PATIENT not in line
    assert STUDY not in line


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
    spool.remove_old(1e9)
    assert not first.images.exists()
    assert spool.retry_failed() == []


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
    spool.queue.update(job, state="done", ended=0.0)
    assert spool.remove_old(86_399.0) == 0
    assert spool.remove_old(86_400.0) == 1
    assert not job.images.exists()
    assert spool.remove_old(1e9) == 0
    # what was removed is new again
    again = fill(open_spool(), study[:1], clock)
    assert again.number == 2


def test_removing_makes_room(open_spool, study, clock) -> None:
    spool = open_spool(objects=2, keep_days=0)
    job = fill(spool, study[:2], clock)
    with pytest.raises(OutputError, match=r"the spool is full \(2 objects, 0\.0 GB\)"):
        put(spool, study[2])
    spool.queue.update(job, state="failed", ended=1.0)
    spool.remove_old(2.0)
    assert put(spool, study[2])


def test_a_full_disk_refuses_and_leaves_nothing(open_spool, study, monkeypatch) -> None:
    spool = open_spool(objects=1)

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ddmseg.imaging.atomic._sync", full)
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


# the points at which the program can be killed


def test_killed_before_the_images_had_moved(open_spool, study, clock, tmp_path) -> None:
    spool = open_spool()
    put(spool, study[0])
    (tmp_path / "spool" / "jobs" / "000001" / "images").mkdir(parents=True)
    spool = open_spool()
    assert spool.queue.all() == []
    clock.seconds += 10
    assert [job.number for job in spool.close_quiet(5)] == [1]


def test_killed_before_the_first_state(open_spool, study, clock) -> None:
    fill(open_spool(), study, clock)
    (job,) = open_spool().queue.all()
    assert (job.record.state, job.record.instances) == ("waiting", len(study))


def test_killed_while_segmenting(open_spool, study, clock, segmenter, tmp_path) -> None:
    spool = open_spool()
    spool.queue.update(fill(spool, study, clock), starts=1)
    hidden = tmp_path / "out" / "job-000001" / ".series-004.abc"
    hidden.mkdir(parents=True)
    (hidden.parent / "series-004_dseg.nii.gz").write_bytes(b"moved in, and no receipt yet")
    spool = open_spool()
    step, tell = make_worker(spool, segmenter, tmp_path / "out")
    assert step.step()
    (job,) = spool.queue.all()
    assert (job.record.state, job.record.starts) == ("segmented", 2)
    assert not hidden.exists()
    assert set(job.record.files) <= {"series-004_dseg.dcm", "series-004_report.dcm"}
    assert tell[0].startswith(f"job-000001: series 4, {len(study)} images, ")
    assert not step.step()


def test_others_cannot_read_the_results(open_spool, study, clock, segmenter, tmp_path) -> None:
    spool = open_spool()
    fill(spool, study, clock)
    step, _ = make_worker(spool, segmenter, tmp_path / "out")
    assert step.step()
    for folder in (tmp_path / "out", tmp_path / "out" / "job-000001"):
        assert folder.stat().st_mode & 0o777 == 0o700
    for path in (tmp_path / "out").rglob("*.dcm"):
        assert path.stat().st_mode & 0o777 == 0o600


def test_killed_after_writing_is_not_segmented_again(
    open_spool, study, clock, segmenter, tmp_path, monkeypatch
) -> None:
    spool = open_spool()
    fill(spool, study, clock)
    before = make_worker(spool, segmenter, tmp_path / "out")[0]
    before.step()
    uids = seg_uids(tmp_path / "out")
    (job,) = spool.queue.all()
    (job.folder / jobs.STATE_FILE).write_text(json.dumps({"state": "waiting", "starts": 1}))
    spool = open_spool()

    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("segmented twice")

    step, _ = make_worker(spool, never, tmp_path / "out")
    assert step.step()
    (job,) = spool.queue.all()
    assert job.record.state == "segmented"
    assert seg_uids(tmp_path / "out") == uids


def test_killed_again_and_again_by_one_scan(open_spool, study, clock, tmp_path) -> None:
    spool = open_spool()
    spool.queue.update(fill(spool, study, clock), starts=worker.MAX_STARTS)
    step, tell = make_worker(spool, None, tmp_path / "out")
    step.step()
    assert tell == [
        f"job-000001: {len(study)} images, not segmented: the segmentation was begun 3 times and "
        "never ended well"
    ]
    assert not step.step()


def test_a_damaged_state_is_told(open_spool, study, clock) -> None:
    spool = open_spool()
    job = fill(spool, study[:1], clock)
    (job.folder / jobs.STATE_FILE).write_text('{"state": "elsewhere"}')
    with pytest.raises(ScanError, match="the state of this job is damaged; remove this file"):
        JobQueue(job.folder.parent)


# segmenting


def test_a_scan_that_cannot_be_segmented_fails_once_with_the_reason(
    open_spool, study, clock, segmenter, tmp_path
) -> None:
    spool = open_spool()
    fill(spool, [*study[:9], *study[12:]], clock)
    step, tell = make_worker(spool, segmenter, tmp_path / "out")
    assert step.step()
    assert not step.step()
    (job,) = spool.queue.all()
    assert job.record.state == "failed"
    (line,) = tell
    assert "job-000001" in line
    assert "not segmented: series-004: " in line
    assert "MPRAGE" not in line.upper()
    assert not (tmp_path / "out").exists()


def test_the_series_is_chosen_for_the_model(tmp_path) -> None:
    for number, (description, edge) in enumerate((("t1", 45.0), ("flair", 30.0)), start=1):
        datasets = slice_datasets(
            tmp_path / description, scan((5, 5, 5)), np.diag([edge] * 3 + [1])
        )
        for dataset in datasets:
            dataset.SeriesNumber, dataset.SeriesDescription = number, description
        save(datasets)
    for t1_alone, number in ((True, 1), (False, 2)):
        chosen = worker._choose(tmp_path, Trained("toy", thickest_mm=35.0, t1_alone=t1_alone))
        assert (chosen.number, chosen.description) == (number, "")


def test_a_damaged_file_is_told_without_its_uid(
    open_spool, study, clock, segmenter, tmp_path
) -> None:
    spool = open_spool()
    job = fill(spool, study, clock)
    image = sorted(job.images.rglob("*.dcm"))[0]
    image.write_bytes(image.read_bytes()[:900])
    step, tell = make_worker(spool, segmenter, tmp_path / "out")
    step.step()
    assert spool.queue.all()[0].record.state == "failed"
    assert image.stem not in tell[0]
    assert str(tmp_path) not in tell[0]


def test_a_full_disk_of_results_waits(
    open_spool, study, clock, segmenter, tmp_path, monkeypatch
) -> None:
    spool = open_spool()
    fill(spool, study, clock)
    step, tell = make_worker(spool, segmenter, tmp_path / "out")

    def full(*arguments: object, **options: object) -> None:
        raise OutputError("cannot write OUT: the disk is full")

    monkeypatch.setattr(worker, "write_outputs", full)
    for _ in range(worker.MAX_STARTS + 2):
        with pytest.raises(OutputError, match="the disk is full"):
            step.step()
    monkeypatch.undo()
    assert step.step()
    assert spool.queue.all()[0].record.state == "segmented"
    assert len(tell) == 1


@pytest.mark.parametrize("place", ["the disk", "pydicom"])
def test_a_full_disk_is_told_in_one_line_and_then_everything_is_done(
    make_node, study, monkeypatch, place
) -> None:
    full = [True]
    sync, save = atomic._sync, pydicom.Dataset.save_as

    def fill(path: Path) -> None:
        # the spool lies on another disk
        if full and "results" in path.parts:
            raise OSError(errno.ENOSPC, "No space left on device")

    def syncing(path: Path) -> None:
        fill(path)
        sync(path)

    def saving(dataset: pydicom.Dataset, path: Path, **options: object) -> None:
        with tag_in_exception(BaseTag(0x52009230)):  # makes an error of its own of it
            fill(path)
        save(dataset, path, **options)

    if place == "pydicom":
        monkeypatch.setattr(pydicom.Dataset, "save_as", saving)
    else:
        monkeypatch.setattr(atomic, "_sync", syncing)
    node = make_node(backoff=Backoff(0.5, 1.0)).start()
    assert storescu(node.port, study).returncode == 0
    for line in node.wait_for("the disk is full", 2):  # it goes on waiting
        assert re.fullmatch(
            r"segmentation: cannot write \S+/job-000001/\S+: the disk is full; free some space or "
            r"choose another folder; tried again in \d s",
            line,
        )
    assert not list(node.output.rglob("series-*"))
    full.clear()
    node.wait_for("job-000001: done")
    assert (node.output / "job-000001" / "series-004_dseg.dcm").is_file()


def test_what_ends_unexpectedly_is_tried_three_times(open_spool, study, clock, tmp_path) -> None:
    spool = open_spool()
    fill(spool, study, clock)

    def broken(*arguments: object, **options: object) -> None:
        raise KeyError("Doe^Jane")

    step, tell = make_worker(spool, broken, tmp_path / "out")
    for _ in range(worker.MAX_STARTS - 1):
        with pytest.raises(KeyError):
            step.step()
    step.step()
    assert tell == [f"job-000001: {len(study)} images, not segmented: unexpected KeyError"]


def test_the_end_gives_a_segmentation_up_and_does_not_count_it(
    open_spool, study, clock, segmenter, tmp_path
) -> None:
    spool = open_spool()
    fill(spool, study, clock)
    step, _ = make_worker(spool, segmenter, tmp_path / "out")
    step._stop.set()
    with pytest.raises(StopError):
        step.step()
    (job,) = open_spool().queue.all()
    assert (job.record.state, job.record.starts) == ("waiting", 0)
    assert not (tmp_path / "out").exists()


def test_failed_quality_can_be_held_back(open_spool, study, clock, segmenter, tmp_path) -> None:
    spool = open_spool()
    fill(spool, study, clock)
    step, _ = make_worker(spool, segmenter, tmp_path / "out", hold_failed=True)
    step.step()
    (job,) = spool.queue.all()
    assert (job.record.verdict == "fail") == (job.record.files == ())
    assert (tmp_path / "out" / "job-000001" / "series-004_receipt.json").exists()
