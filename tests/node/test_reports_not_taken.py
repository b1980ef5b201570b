"""Archives that do not know Structured Reports, as pynetdicom plays them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pynetdicom import AE, evt

from ddmseg.node.addresses import parse_peer
from ddmseg.node.correction import files_to_send
from ddmseg.node.destinations import OPTIONAL, RefusedError, StoreDestination
from dicom_files import affine_of, rotation, scan, write_series

MR = "1.2.840.10008.5.1.4.1.1.4"
(SR,) = OPTIONAL


class Archive:
    """Takes the kinds of objects that it was told, with the status that it was told."""

    def __init__(self, kinds: tuple[str, ...], status_of_reports: int = 0x0000) -> None:
        self.got: list[str] = []
        self._status = status_of_reports
        entity = AE("ARCHIVE")
        for kind in kinds:
            entity.add_supported_context(kind)
        handlers: list[Any] = [(evt.EVT_C_STORE, self._store)]
        self._server: Any = entity.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=handlers
        )
        self.peer = f"ARCHIVE@127.0.0.1:{self._server.socket.getsockname()[1]}"

    def _store(self, event: evt.Event) -> int:
        status = self._status if event.request.AffectedSOPClassUID == SR else 0x0000
        if status == 0x0000:
            self.got.append(str(event.request.AffectedSOPClassUID))
        return status

    def stop(self) -> None:
        self._server.shutdown()


@pytest.fixture
def start() -> Iterator[Any]:
    started: list[Archive] = []

    def make(*words: Any) -> Archive:
        started.append(Archive(*words))
        return started[-1]

    yield make
    for archive in started:
        archive.stop()


@pytest.fixture
def result(tmp_path: Path) -> list[Path]:
    """Two files that look like labels and their volumes to who sends them."""
    files = []
    for suffix, kind in (("dseg", MR), ("volumes", SR)):
        path = write_series(tmp_path / suffix, scan(), affine_of(rotation(0, 0, 0)))[0]
        dataset = pydicom.dcmread(path)
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = kind
        files.append(tmp_path / f"series-004_{suffix}.dcm")
        dataset.save_as(files[-1])
    return files


def send(archive: Archive, files: list[Path]) -> list[str]:
    destination = StoreDestination(parse_peer(archive.peer, option="send"), "DDMSEG")
    return [path.name for path in destination.send(files)]


def test_who_knows_reports_gets_them(start, result) -> None:
    archive = start((MR, SR))
    assert send(archive, result) == []
    assert archive.got == [MR, SR]


def test_who_does_not_know_reports_gets_the_labels(start, result) -> None:
    archive = start((MR,))
    assert send(archive, result) == ["series-004_volumes.dcm"]
    assert archive.got == [MR]


def test_who_says_so_by_status_gets_the_labels(start, result) -> None:
    archive = start((MR, SR), 0x0122)
    assert send(archive, result) == ["series-004_volumes.dcm"]
    assert archive.got == [MR]


def test_who_refuses_a_report_for_another_reason_has_refused(start, result) -> None:
    with pytest.raises(RefusedError, match=r"refuses series-004_volumes.dcm \(status 0xA900\)"):
        send(start((MR, SR), 0xA900), result)


def test_labels_cannot_be_done_without(start, result) -> None:
    archive = start((SR,))
    with pytest.raises(RefusedError, match=r"does not take series-004_dseg.dcm"):
        send(archive, result)


def test_dicom_send_sends_the_volumes_and_says_who_does_without(
    start, result, ddmseg, tmp_path
) -> None:
    stem = tmp_path / "series-004"
    assert files_to_send(stem, None) == result
    archive = start((MR,))
    outcome = ddmseg("dicom-send", stem, "--send", archive.peer)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == (
        f"series-004_dseg.dcm: sent to {archive.peer}; without series-004_volumes.dcm: "
        "Comprehensive 3D SR is not taken there\n"
    )
