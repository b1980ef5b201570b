"""From the queue to results: every point at which the program can be killed, and full disks."""

from __future__ import annotations

import errno
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.tag import BaseTag, tag_in_exception

from ddmseg import atomic
from ddmseg.errors import OutputError
from ddmseg.imaging.dicom.series_selection import Trained
from ddmseg.node import jobs, worker
from ddmseg.node.worker import StopError
from dicom_files import PATIENT, STUDY, save, scan, slice_datasets
from dicom_network import storescu
from dicom_spool import fill, make_worker, put


def seg_uids(output: Path) -> list[str]:
    return [str(pydicom.dcmread(path).SOPInstanceUID) for path in sorted(output.rglob("*.dcm"))]


# the monitor


def test_each_segmentation_adds_a_line_to_the_monitor(
    open_spool, study, clock, segmenter, tmp_path
) -> None:
    pytest.importorskip("pyarrow", reason="needs ddmseg[monitor]")
    from ddmseg.monitoring.statistics import keyed_hash
    from ddmseg.monitoring.store import Store

    spool, store = open_spool(), Store(tmp_path / "store")
    fill(spool, study, clock)
    worker, lines = make_worker(spool, segmenter, tmp_path / "out", monitor=store.folder)
    assert worker.step()
    (line,) = store.read().lines
    (labels,) = (tmp_path / "out").rglob("*_dseg.nii.gz")
    sha256 = hashlib.sha256(labels.read_bytes()).hexdigest()
    assert (line["input"], line["vendor"]) == ("DICOM", "TOYS")
    assert line["labels_key"] == keyed_hash(store.salt(), sha256)
    assert not any("monitor" in said for said in lines)
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
    open_spool, make_segmentation, tmp_path, monkeypatch, error, told
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr("ddmseg.monitoring.recorder.labels_hash", fail)
    worker, lines = make_worker(open_spool(), None, tmp_path / "out", monitor=tmp_path / "store")
    worker._recorder.record(make_segmentation())
    (line,) = lines
    assert line.startswith(f"warning: not added to the monitor: {told}")
    assert PATIENT not in line
    assert STUDY not in line


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
    step, lines = make_worker(spool, segmenter, tmp_path / "out")
    assert step.step()
    (job,) = spool.queue.all()
    assert (job.record.state, job.record.starts) == ("segmented", 2)
    assert not hidden.exists()
    assert job.record.files in (
        ("series-004_dseg.dcm", "series-004_volumes.dcm", "series-004_report.dcm"),
        ("series-004_report.dcm",),
    )
    assert lines[0].startswith(f"job-000001: series 4, {len(study)} images, ")
    assert not step.step()


def test_killed_after_writing_is_not_segmented_again(
    open_spool, study, clock, segmenter, tmp_path, monkeypatch
) -> None:
    spool = open_spool()
    fill(spool, study, clock)
    before = make_worker(spool, segmenter, tmp_path / "out")[0]
    before.step()
    for folder in (tmp_path / "out", tmp_path / "out" / "job-000001"):  # for nobody else's eyes
        assert folder.stat().st_mode & 0o777 == 0o700
    for path in (tmp_path / "out").rglob("*.dcm"):
        assert path.stat().st_mode & 0o777 == 0o600
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
    step, lines = make_worker(spool, None, tmp_path / "out")
    step.step()
    assert lines == [
        f"job-000001: {len(study)} images, not segmented: the segmentation was begun 3 times and "
        "never ended well"
    ]
    assert not step.step()


# segmenting


def test_a_scan_that_cannot_be_segmented_fails_once_with_the_reason(
    open_spool, study, clock, segmenter, tmp_path
) -> None:
    spool = open_spool()
    fill(spool, [*study[:9], *study[12:]], clock)
    step, lines = make_worker(spool, segmenter, tmp_path / "out")
    assert step.step()
    assert not step.step()
    (job,) = spool.queue.all()
    assert job.record.state == "failed"
    (line,) = lines
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
        chosen = worker._choose(tmp_path, Trained("toy", max_slice_mm=35.0, t1_alone=t1_alone))
        assert (chosen.number, chosen.description) == (number, "")


@pytest.mark.parametrize("length", [0, 300])
def test_a_damaged_file_is_told_without_its_uid(
    open_spool, study, clock, segmenter, tmp_path, length
) -> None:
    spool = open_spool()
    job = fill(spool, study, clock)
    by_place = {
        float(pydicom.dcmread(path).ImagePositionPatient[2]): path
        for path in job.images.rglob("*.dcm")
    }
    image = by_place[max(by_place)]  # without this one the rest is a whole scan
    image.write_bytes(image.read_bytes()[:length])
    step, lines = make_worker(spool, segmenter, tmp_path / "out")
    step.step()
    assert spool.queue.all()[0].record.state == "failed"
    assert image.stem not in lines[0]
    assert str(tmp_path) not in lines[0]


def test_a_full_disk_of_results_waits(
    open_spool, study, clock, segmenter, tmp_path, monkeypatch
) -> None:
    spool = open_spool()
    fill(spool, study, clock)
    made: list[object] = []

    def once(*arguments: object, **options: object) -> object:
        made[:] = made or [segmenter(*arguments, **options)]
        return made[0]

    step, lines = make_worker(spool, once, tmp_path / "out")

    def full(*arguments: object, **options: object) -> None:
        raise OutputError("cannot write OUT: the disk is full")

    monkeypatch.setattr(worker, "write_outputs", full)
    for _ in range(worker.MAX_STARTS + 2):
        with pytest.raises(OutputError, match="the disk is full"):
            step.step()
    monkeypatch.undo()
    assert step.step()
    assert spool.queue.all()[0].record.state == "segmented"
    assert len(lines) == 1


@pytest.mark.parametrize("place", ["the disk", "pydicom"])
@pytest.mark.usefixtures("scanner")
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
            if isinstance(path, Path):  # else it is tried in memory, where there is room
                fill(path)
        save(dataset, path, **options)

    if place == "pydicom":
        monkeypatch.setattr(pydicom.Dataset, "save_as", saving)
    else:
        monkeypatch.setattr(atomic, "_sync", syncing)
    node = make_node().start()
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

    step, lines = make_worker(spool, broken, tmp_path / "out")
    for _ in range(worker.MAX_STARTS - 1):
        with pytest.raises(KeyError):
            step.step()
    step.step()
    assert lines == [f"job-000001: {len(study)} images, not segmented: unexpected KeyError"]


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
    (tmp_path / "file").touch()  # and no store to which the monitor could add
    more = {"hold_failed": True, "monitor": tmp_path / "file"}
    step, lines = make_worker(spool, segmenter, tmp_path / "out", **more)
    step.step()
    assert [line for line in lines if "not added to the monitor" in line]
    (job,) = spool.queue.all()
    assert (job.record.verdict == "fail") == (job.record.files == ())
    assert (tmp_path / "out" / "job-000001" / "series-004_receipt.json").exists()
