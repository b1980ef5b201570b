"""Examinations of which images were refused for lack of room are not segmented as they are."""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path

import pytest

from ddmseg.errors import OutputError, SettingsError
from ddmseg.node.missing_images import MissingImages
from ddmseg.node.spool import Held, Quota, Spool
from dicom_files import PATIENT, STUDY
from dicom_network import storescu
from dicom_spool import Clock, put

DAY = 86_400.0


def send(spool: Spool, files: list[Path]) -> int:
    """Store what there is room for; return how many were refused."""
    refused = 0
    for path in files:
        try:
            put(spool, path)
        except OutputError:
            refused += 1
    return refused


def quiet(spool: Spool, clock: Clock) -> tuple[list[int], list[Held]]:
    """Let the quiet period pass; return images of new jobs, and what is held."""
    clock.seconds += 10
    jobs = [job.record.instances for job in spool.close_quiet(5)]
    return jobs, spool.hold_quiet(5)


def test_a_study_with_refused_images_is_held_until_they_come(open_spool, study, clock) -> None:
    spool = open_spool(objects=15)
    assert send(spool, study) == 7
    assert quiet(spool, clock) == ([], [Held(15, 7)])
    assert quiet(spool, clock) == ([], [])  # told once
    assert (spool.queue.all(), spool.receiving) == ([], 1)
    spool = open_spool(objects=40)
    assert quiet(spool, clock) == ([], [Held(15, 7)])  # remembered
    assert send(spool, study[15:20]) == 0
    assert quiet(spool, clock) == ([], [Held(20, 2)])
    spool = open_spool(objects=40)
    assert quiet(spool, clock) == ([], [Held(20, 2)])
    assert send(spool, study[20:]) == 0
    assert quiet(spool, clock) == ([22], [])


def test_a_full_resend_makes_one_job(open_spool, study, clock, tmp_path) -> None:
    spool = open_spool(objects=15)
    send(spool, study)
    quiet(spool, clock)
    spool = open_spool(objects=40)
    assert send(spool, study) == 0
    assert quiet(spool, clock) == ([22], [])
    assert list((tmp_path / "spool" / "refused").iterdir()) == []


def test_what_is_here_already_is_not_refused_again(open_spool, study) -> None:
    spool = open_spool(objects=15)
    assert send(spool, study[:15]) == 0
    assert send(spool, study[:15]) == 0
    assert send(spool, study[15:16]) == 1


def test_the_first_images_may_be_the_refused_ones(open_spool, study, clock, tmp_path) -> None:
    spool = open_spool(objects=1)
    put(spool, study[0])
    job = spool.queue.add(tmp_path / "spool" / "incoming" / STUDY, 1)  # of another examination
    (job.images / STUDY).rename(job.images / "1.2.3")
    assert send(spool, study[1:3]) == 2
    spool = open_spool(objects=20)
    assert send(spool, study[3:]) == 0
    assert quiet(spool, clock) == ([], [Held(19, 2)])


def test_a_full_disk_holds_as_well(open_spool, study, clock, monkeypatch) -> None:
    spool = open_spool()
    put(spool, study[0])

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ddmseg.atomic._sync", full)
    with pytest.raises(OutputError, match="the disk is full"):
        put(spool, study[1])
    monkeypatch.undo()
    assert quiet(spool, clock) == ([], [Held(1, 1)])


def test_what_never_comes_is_given_up_with_the_reason(open_spool, study, clock) -> None:
    spool = open_spool(objects=15, wait_hours=2)
    send(spool, study)
    quiet(spool, clock)
    clock.seconds += 7000
    assert spool.give_up() == []
    clock.seconds += 300
    (job,) = spool.give_up()
    record = json.loads((job.folder / "job.json").read_text())
    assert (record["state"], record["instances"], record["missing"]) == ("failed", 15, 7)
    assert record["reason"] == (
        "7 more were refused for lack of room and did not come within 2 h; make room and send "
        "the study again"
    )
    assert spool.retry_failed() == []  # it would be segmented as it is
    assert spool.give_up() == []
    assert quiet(spool, clock) == ([], [])


@pytest.mark.parametrize("again", [slice(0, 22), slice(15, 22)], ids=["all", "the missing"])
def test_what_was_given_up_and_comes_again_is_one_job(open_spool, study, clock, again) -> None:
    spool = open_spool(objects=15)
    send(spool, study)
    quiet(spool, clock)
    clock.seconds += DAY
    assert len(spool.give_up()) == 1
    spool = open_spool(objects=100)
    assert send(spool, study[16:19]) == 0
    assert quiet(spool, clock) == ([], [Held(3, 4)])  # a part is held as before
    assert send(spool, study[again]) == 0
    assert quiet(spool, clock) == ([22], [])
    assert [job.record.state for job in spool.queue.all()] == ["failed", "waiting"]


def test_nothing_is_given_up_before_it_was_told(open_spool, study, clock) -> None:
    spool = open_spool(objects=15, wait_hours=0)
    send(spool, study)
    clock.seconds += DAY
    assert spool.give_up() == []


def test_what_is_refused_is_forgotten_with_its_study(open_spool, study, clock, tmp_path) -> None:
    spool = open_spool(objects=15)
    send(spool, study)
    quiet(spool, clock)
    clock.seconds += DAY
    spool.give_up()
    names = tmp_path / "spool" / "refused"
    clock.seconds += 5 * DAY
    spool.remove_old()
    assert [path.name for path in names.iterdir()] == [STUDY]
    clock.seconds += 4 * DAY
    spool.remove_old()
    spool.remove_old()
    assert list(names.iterdir()) == []


def test_a_line_that_was_cut_off_holds_nothing(tmp_path) -> None:
    (tmp_path / "1.2").write_text("1.3/1.4.dcm\n1.3/1.")
    assert MissingImages(tmp_path, lambda: 0.0).missing("1.2") == 1


def test_the_wait_must_not_be_negative() -> None:
    with pytest.raises(SettingsError, match="wait_hours: got -1; it must be at least 0"):
        Quota(wait_hours=-1)


@pytest.mark.usefixtures("scanner")
def test_a_node_holds_and_then_segments_the_whole(make_node, study) -> None:
    node = make_node(quota=Quota(objects=15)).start()
    assert storescu(node.port, study).stderr.count("Refused: OutOfResources") == 7
    (line,) = node.wait_for("held")
    assert line == (
        "an examination of 15 images is held, not segmented: 7 more were refused for lack of room; "
        "it waits for them at most 24 h"
    )
    node.stop()
    assert not node.output.exists()
    node.start(quota=Quota(objects=40))
    assert storescu(node.port, study).returncode == 0
    node.wait_for("job-000001: complete, 22 images")
    node.wait_for("job-000001: done")
    assert not any(re.search(f"job-000002|{re.escape(PATIENT)}|1\\.2\\.8", x) for x in node.lines)


@pytest.mark.usefixtures("scanner")
def test_a_node_gives_up(make_node, study) -> None:
    node = make_node(quota=Quota(objects=15, wait_hours=0)).start()
    storescu(node.port, study)
    node.wait_for("job-000001: 15 images, not segmented: 7 more were refused for lack of room")
    assert not node.output.exists()
