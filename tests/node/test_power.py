"""What was acknowledged survives a power cut; clocks that jump; states that are damaged."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from pathlib import Path

import pydicom
import pytest

from ddmseg.errors import OutputError
from ddmseg.node import jobs
from ddmseg.node.delivery import Backoff, Delivery
from ddmseg.node.destinations import RefusedError, UnreachableError
from ddmseg.node.jobs import JobQueue, RunningClock
from ddmseg.node.spool import Spool
from dicom_files import STUDY
from dicom_spool import Lines, fill, make_worker, put

DAY = 86_400.0

# Power cuts


@pytest.fixture
def calls(monkeypatch) -> list[tuple[str, str]]:
    """Renamings, by their new names, and what is synced, by the name that it has then."""
    found: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def syncing(descriptor: int) -> None:
        found.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        fsync(descriptor)

    def renaming(source: Path, target: Path) -> None:
        found.append(("rename", Path(target).name))
        replace(source, target)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(os, "replace", renaming)
    return found


def test_file_and_folders_are_on_the_disk_before_an_image_counts(open_spool, study, calls) -> None:
    spool = open_spool()
    calls.clear()
    put(spool, study[0])
    dataset = pydicom.dcmread(study[0])
    name = f"{dataset.SOPInstanceUID}.dcm"
    assert calls[0][0] == "sync"  # the content, before it has any name
    assert calls[0][1].startswith(".partial-")
    last = calls.index(("rename", name))
    synced = [place for what, place in calls[last:] if what == "sync"]
    assert synced == [dataset.SeriesInstanceUID, STUDY, "incoming"]


def test_a_new_job_is_on_the_disk_before_the_old_place_is_left(
    open_spool, study, clock, calls
) -> None:
    spool = open_spool()
    put(spool, study[0])
    calls.clear()
    clock.seconds += 10
    spool.close_quiet(5)
    last = calls.index(("rename", STUDY))
    assert [place for what, place in calls[:last] if what == "sync"][-2:] == ["000001", "jobs"]
    assert calls[last + 1 :] == [("sync", "images"), ("sync", "incoming")]


def test_a_disk_that_does_not_keep_the_name_has_the_image_refused(
    open_spool, study, monkeypatch, tmp_path
) -> None:
    spool, fsync = open_spool(), os.fsync
    broken = [True]

    def syncing(descriptor: int) -> None:
        if broken and os.path.isdir(f"/proc/self/fd/{descriptor}"):
            place = os.readlink(f"/proc/self/fd/{descriptor}")
            if place.endswith(STUDY):
                raise OSError(errno.EIO, "Input/output error")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", syncing)
    for _ in range(2):  # nor is it taken for kept when it comes again
        with pytest.raises(OutputError, match="cannot keep it: Input/output error"):
            put(spool, study[0])
    assert not list((tmp_path / "spool" / "incoming").rglob("*.dcm"))
    broken.clear()
    assert put(spool, study[0])


def arrived(spool: Path, path: Path) -> Path:
    """As a power cut leaves it: whole, acknowledged, and under our name again."""
    return Path(shutil.copy(path, spool / "incoming" / "0123456789abcdef.dcm"))


def test_what_is_whole_gets_its_name_at_the_next_start(open_spool, study, clock, tmp_path) -> None:
    put(open_spool(), study[0])
    left = arrived(tmp_path / "spool", study[1])
    spool = open_spool()
    assert not left.exists()
    assert (spool.receiving, spool.trouble) == (1, [])
    assert not put(spool, study[1])  # it is here
    clock.seconds += 10
    (job,) = spool.close_quiet(5)
    assert job.record.instances == 2
    assert spool._objects == 2


def test_what_is_here_already_is_not_counted_twice(open_spool, study, tmp_path) -> None:
    put(open_spool(), study[0])
    left = arrived(tmp_path / "spool", study[0])
    spool = open_spool()
    assert not left.exists()
    assert spool._objects == 1


@pytest.mark.parametrize("cut", [300, -1])
def test_half_a_file_is_never_taken_for_an_image(open_spool, study, tmp_path, cut) -> None:
    open_spool()
    left = arrived(tmp_path / "spool", study[0])
    left.write_bytes(left.read_bytes()[:cut])
    (left.parent / ".partial-0123-x.dcm").write_bytes(b"half")
    spool = open_spool()
    assert list(left.parent.iterdir()) == []
    assert (spool._objects, spool._bytes, spool.receiving) == (0, 0, 0)
    assert put(spool, study[0])


# Clocks


def test_a_running_clock_goes_on_where_it_was(tmp_path) -> None:
    now = [5.0]
    clock = RunningClock(tmp_path / "clock", lambda: now[0])
    assert clock() == 0.0
    now[0] = 65.0
    clock.save()
    now[0] = 0.0  # the machine was started again
    assert RunningClock(tmp_path / "clock", lambda: now[0])() == 60.0


@pytest.mark.parametrize("text", ["", "nan", "inf", "-1", "1e999", "\u0661", "[" * 99])
def test_a_damaged_clock_begins_anew(tmp_path, text) -> None:
    (tmp_path / "clock").write_text(text)
    assert RunningClock(tmp_path / "clock", lambda: 0.0)() == 0.0


def test_no_time_of_day_removes_images(open_spool, study, clock, monkeypatch) -> None:
    spool = open_spool(keep_days=7)
    done = spool.queue.end(fill(spool, study[:1], clock), "done")
    for years in (50, -50):
        monkeypatch.setattr(time, "time", lambda years=years: 1.8e9 + years * 365 * DAY)
        assert spool.remove_old() == 0
        spool = open_spool(keep_days=7)
        assert spool.remove_old() == 0
    clock.seconds += 7 * DAY
    assert spool.remove_old() == 1
    assert not done.images.exists()


def test_what_is_not_delivered_is_never_removed(open_spool, study, clock) -> None:
    spool = open_spool(keep_days=0)
    job = fill(spool, study[:1], clock)
    for state in ("waiting", "segmented"):
        spool.queue.update(job, state=state)
        clock.seconds += 1000 * DAY
        assert spool.remove_old() == 0


def test_a_job_that_another_clock_ended_counts_from_now(open_spool, study, clock) -> None:
    spool = open_spool(keep_days=7)
    job = fill(spool, study[:1], clock)
    spool.queue.update(job, state="done", ended=1.8e9)  # as the node told it before
    spool = open_spool(keep_days=7)
    assert spool.queue.all()[0].record.ended == spool.queue.clock()
    spool = open_spool(keep_days=7)
    clock.seconds += 6.9 * DAY
    assert spool.remove_old() == 0
    clock.seconds += 0.2 * DAY
    assert spool.remove_old() == 1


@pytest.mark.parametrize("error", [UnreachableError("x is down"), RefusedError("x refuses")])
def test_no_time_of_day_holds_a_retry_up(open_spool, study, clock, monkeypatch, error) -> None:
    spool = open_spool()
    spool.queue.update(fill(spool, study[:1], clock), state="segmented", files=("1.dcm",))

    class Place:
        name, tries = "x", 0

        def send(self, files: list[Path]) -> list[Path]:
            self.tries += 1
            if self.tries == 1:
                raise error
            return []

    place, ticks = Place(), [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: ticks[0])
    delivery = Delivery(spool.queue, [place], Path("out"), backoff=Backoff(10, 10), report=Lines())
    assert delivery.step()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert not delivery.step()
    ticks[0] += 10
    assert delivery.step()
    assert place.tries == 2


def test_one_place_that_refuses_does_not_keep_another_waiting(open_spool, study, clock) -> None:
    spool = open_spool()
    spool.queue.update(fill(spool, study[:1], clock), state="segmented", files=("1.dcm",))
    got: list[str] = []

    class Place:
        def __init__(self, name: str) -> None:
            self.name = name

        def send(self, files: list[Path]) -> list[Path]:
            if self.name == "never":
                raise RefusedError("never takes it")
            got.append(self.name)
            return []

    places = [Place("never"), Place("good")]
    delivery = Delivery(spool.queue, places, Path("out"), backoff=Backoff(60, 60), report=Lines())
    while delivery.step():
        pass
    assert got == ["good"]
    assert spool.queue.all()[0].record.state == "segmented"  # one place has not got it


def test_what_was_sent_is_not_sent_again_where_it_cannot_be_noted(
    open_spool, study, clock, monkeypatch
) -> None:
    spool = open_spool()
    for path in study[:2]:
        job = fill(spool, [path], clock)
        spool.queue.update(job, state="segmented", files=(f"{job.number}.dcm",))
    got: list[str] = []

    class Place:
        name = "x"

        def send(self, files: list[Path]) -> list[Path]:
            got.append(files[0].name)
            return []

    write = jobs._write_record

    def broken(folder: Path, record: jobs.Record) -> None:
        if folder.name == "000001":
            raise OutputError("cannot write")
        write(folder, record)

    monkeypatch.setattr(jobs, "_write_record", broken)
    delivery = Delivery(spool.queue, [Place()], Path("o"), backoff=Backoff(1, 1), report=Lines())
    for _ in range(4):
        try:
            delivery.step()
        except OutputError:
            continue
    assert got == ["1.dcm", "2.dcm"]  # the second does not wait for the first
    monkeypatch.undo()
    while delivery.step():
        continue
    assert got == ["1.dcm", "2.dcm"]
    assert {job.record.state for job in spool.queue.all()} == {"done"}


# States


DAMAGED = {
    "empty": "",
    "no JSON": "{",
    "no object": "[1]",
    "deep": "[" * 100_000,
    "other state": '{"state": "elsewhere"}',
    "text for a number": '{"state": "waiting", "starts": "3"}',
    "half a start": '{"state": "waiting", "starts": 0.5}',
    "true for a number": '{"state": "waiting", "starts": true}',
    "no end": '{"state": "done", "ended": Infinity}',
    "not a number": '{"state": "done", "ended": NaN}',
    "another folder": '{"state": "segmented", "files": ["../../x.dcm"]}',
    "numbers for files": '{"state": "segmented", "files": [1]}',
    "null": '{"state": null}',
    "huge": '{"reason": "' + "x" * (2 << 20) + '"}',
}


def make_jobs(folder: Path, states: list[bytes]) -> JobQueue:
    """Jobs with an image each and these states."""
    for number, state in enumerate(states, start=1):
        images = folder / f"{number:06d}" / "images" / f"1.2.{number}" / "1.3"
        images.mkdir(parents=True)
        (images / "1.4.dcm").write_bytes(b"an image")
        (folder / f"{number:06d}" / jobs.STATE_FILE).write_bytes(state)
    return JobQueue(folder)


def test_each_damaged_state_costs_a_line_and_the_job_is_done_again(tmp_path) -> None:
    states = [text.encode() for text in DAMAGED.values()] + [b"\xff\xfe"]
    whole = b'{"state": "done", "reason": "\\ud800", "next_try": 1e999}'  # odd, and no harm in it
    queue = make_jobs(tmp_path, [*states, whole])
    for number, state in enumerate(states, start=1):
        job = queue.all()[number - 1]
        told = list(DAMAGED)[number - 1 : number]
        assert (job.record.state, job.record.instances, job.record.starts) == ("waiting", 1, 0), (
            told
        )
        assert (job.folder / "job.json.damaged").read_bytes() == state
    assert queue.all()[-1].record.state == "done"
    assert queue.trouble == [
        f"job-{number:06d}: its state was damaged and is now job.json.damaged; the job is done "
        "again"
        for number in range(1, len(states) + 1)
    ]
    assert [job.number for job in queue.holding("1.2.3")] == [3]
    assert JobQueue(tmp_path).trouble == []


def test_a_damaged_state_without_images_keeps_its_number(open_spool, study, clock) -> None:
    spool = open_spool()
    job = fill(spool, study[:1], clock)
    spool.queue.drop_images(job)
    (job.folder / jobs.STATE_FILE).write_text("{")
    spool = open_spool()
    (told,) = spool.trouble
    assert told.endswith("its images are gone: it counts as failed")
    assert fill(open_spool(), study[:1], clock).number == 2


def test_a_part_of_an_examination_is_not_segmented_for_a_damaged_state(
    open_spool, study, clock
) -> None:
    spool = open_spool(objects=2, wait_hours=0)
    for path in study[:3]:
        try:
            put(spool, path)
        except OutputError:
            continue
    clock.seconds += 10
    spool.close_quiet(5)
    spool.hold_quiet(5)
    (job,) = spool.give_up()
    (job.folder / jobs.STATE_FILE).write_text("{")
    (again,) = open_spool().queue.all()
    assert (again.record.state, again.record.missing) == ("failed", 1)


def test_odd_things_in_a_spool_keep_nothing_from_starting(open_spool, study, clock, tmp_path):
    open_spool()
    spool = tmp_path / "spool"
    (spool / "jobs" / "000003").write_text("a file")
    (spool / "jobs" / "notes.txt").write_text("a file")
    (spool / "jobs" / "000002").mkdir()
    os.mkfifo(spool / "jobs" / "000002" / "job.json")
    (spool / "refused" / "1.2").mkdir()
    (spool / "refused" / "1.3").write_bytes(b"\xff1.4/1.5.dcm\n1.4/1.6.dcm\n")
    (spool / "incoming" / "notes.txt").write_text("a file")
    job = fill(open_spool(), study[:1], clock)
    assert job.number == 4  # the file in the way keeps its name
    assert [one.number for one in open_spool().queue.all()] == [4]


def test_old_jobs_cost_an_image_nothing(open_spool, study, clock, monkeypatch, tmp_path) -> None:
    spool = open_spool()
    for path in study[:5]:
        spool.queue.end(fill(spool, [path], clock), "done")
    folder = tmp_path / "spool" / "jobs"
    for number in range(100, 400):  # of other studies, their images removed long ago
        (folder / f"{number:06d}").mkdir()
        (folder / f"{number:06d}" / jobs.STATE_FILE).write_text(json.dumps({"state": "done"}))
    spool = open_spool()
    looked: list[Path] = []
    is_dir, exists = Path.is_dir, Path.exists
    monkeypatch.setattr(Path, "is_dir", lambda path: (looked.append(path), is_dir(path))[1])
    monkeypatch.setattr(Path, "exists", lambda path: (looked.append(path), exists(path))[1])
    put(spool, study[5])
    assert spool.queue.due("waiting") == []
    spool.remove_old()
    old = {folder / f"{number:06d}" for number in range(100, 400)}
    assert len(looked) < 40
    assert not any(old & {path, *path.parents} for path in looked)


def test_a_place_that_cannot_be_written_holds_only_its_own_job_up(
    open_spool, study, clock, tmp_path, monkeypatch
) -> None:
    spool = open_spool()
    for part in (study[:2], study[2:4]):
        fill(spool, part, clock)
    step, _ = make_worker(spool, None, tmp_path / "out")

    def segment(job: jobs.Job) -> jobs.Job:
        if job.number == 1:
            raise OutputError("cannot write OUT/job-000001: a part of this path is a file")
        return spool.queue.update(job, state="segmented")

    monkeypatch.setattr(step, "_segment", segment)
    with pytest.raises(OutputError):
        step.step()
    assert step.step()
    assert [job.record.state for job in spool.queue.all()] == ["waiting", "segmented"]
    with pytest.raises(OutputError):
        step.step()  # and it is not forgotten


def test_an_unusable_spool_is_one_line(tmp_path) -> None:
    (tmp_path / "jobs").write_text("a file")
    with pytest.raises(OutputError, match="as spool: "):
        Spool(tmp_path)
    assert JobQueue(tmp_path / "other").all() == []
