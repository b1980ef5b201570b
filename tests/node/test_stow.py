"""What a DICOMweb service may answer, and what of it counts as stored."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pydicom
import pytest

from ddmseg.errors import OutputError, ScanError
from ddmseg.node import destinations
from ddmseg.node.destinations import (
    RefusedError,
    StowDestination,
    UnreachableError,
)
from dicom_files import affine_of, rotation, scan, write_series

SR, MR = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.4"


class Service(BaseHTTPRequestHandler):
    """Takes everything, and answers as it is told."""

    status, body, pause = 200, b"", 0.0
    asked: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append(self.path)
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        for byte in self.body if self.pause else ():
            self.wfile.write(bytes([byte]))
            time.sleep(self.pause)
        if not self.pause:
            self.wfile.write(self.body)
        else:
            self.asked.append("the whole answer was taken")

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@pytest.fixture
def service(monkeypatch) -> Iterator[StowDestination]:
    server = HTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    monkeypatch.setattr(Service, "asked", [])
    yield StowDestination(f"http://127.0.0.1:{server.server_address[1]}/dicom-web")
    server.shutdown()
    thread.join()
    server.server_close()


def answer(uid: str, sequence: str = "00081199") -> dict[str, Any]:
    item = {"00081155": {"vr": "UI", "Value": [uid]}}
    return {"00081190": {"vr": "UR"}, sequence: {"vr": "SQ", "Value": [item]}}


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> list[Path]:
    """One file is enough here."""
    folder = tmp_path_factory.mktemp("result")
    return write_series(folder, scan(), affine_of(rotation(0, 0, 0)))[:1]


@pytest.fixture
def uid(study: list[Path]) -> str:
    return str(pydicom.dcmread(study[0]).SOPInstanceUID)


@pytest.mark.parametrize("status", [200, 202])
@pytest.mark.parametrize("listed", [False, True])
def test_an_answer_that_names_the_instance_counts(
    service, study, uid, monkeypatch, status, listed
) -> None:
    told = [answer(uid)] if listed else answer(uid)
    monkeypatch.setattr(Service, "status", status)
    monkeypatch.setattr(Service, "body", json.dumps(told).encode())
    service.send(study[:1])
    assert Service.asked == ["/dicom-web/studies"]


NO_ANSWERS = {
    "login page": "<!DOCTYPE html><title>Log in</title><form><input name=user></form>",
    "nothing": "",
    "other JSON": '{"status": "ok"}',
    "text": '"stored"',
    "number": "1",
    "null": "null",
    "empty list": "[]",
    "empty data set": "{}",
    "another instance": json.dumps(answer("1.2.3")),
    "no item": '{"00081199": {"vr": "SQ"}}',
    "odd items": '{"00081199": {"vr": "SQ", "Value": [1, null, "x"]}}',
    "odd sequence": '{"00081199": "x"}',
    "deep": "[" * 100_000,
    "cut off": json.dumps(answer("1.2.3"))[:-5],
}


@pytest.mark.parametrize(("reason", "kind"), [(290, SR), (290, MR), (272, SR)])
def test_reports_that_a_service_does_not_know_are_done_without(
    service, study, uid, tmp_path, monkeypatch, reason, kind
) -> None:
    dataset = pydicom.dcmread(study[0])
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = kind
    dataset.save_as(tmp_path / "scan_volumes.dcm")
    told = answer(uid, "00081198")
    told["00081198"]["Value"][0]["00081197"] = {"vr": "US", "Value": [reason]}
    monkeypatch.setattr(Service, "status", 409)
    monkeypatch.setattr(Service, "body", json.dumps(told).encode())
    # the status 409 names nobody; what counts is which instance failed, and why
    if (reason, kind) == (290, SR):
        assert service.send([tmp_path / "scan_volumes.dcm"]) == [tmp_path / "scan_volumes.dcm"]
    else:
        with pytest.raises(RefusedError, match=r"refuses scan_volumes.dcm \(HTTP 409\)"):
            service.send([tmp_path / "scan_volumes.dcm"])


@pytest.mark.parametrize("body", NO_ANSWERS.values(), ids=NO_ANSWERS.keys())
def test_anything_else_does_not_count(service, study, monkeypatch, body) -> None:
    monkeypatch.setattr(Service, "body", body.encode())
    with pytest.raises(RefusedError, match="does not say in DICOM JSON that it has") as caught:
        service.send(study[:1])
    assert "counts as not sent; give the address of the DICOMweb service" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("status", [200, 202, 409])
def test_an_instance_that_failed_is_refused(service, study, uid, monkeypatch, status) -> None:
    told = {**answer(uid), **answer(uid, "00081198")}
    monkeypatch.setattr(Service, "status", status)
    monkeypatch.setattr(Service, "body", json.dumps(told).encode())
    with pytest.raises(RefusedError, match=rf"refuses .* \(HTTP {status}\)"):
        service.send(study[:1])


@pytest.mark.parametrize("status", [201, 204, 302, 401, 403, 404])
def test_no_other_status_counts(service, study, uid, monkeypatch, status) -> None:
    monkeypatch.setattr(Service, "status", status)
    monkeypatch.setattr(Service, "body", json.dumps(answer(uid)).encode())
    with pytest.raises(RefusedError, match=f"HTTP {status}"):
        service.send(study[:1])


def test_an_answer_that_drips_is_given_up(service, study, monkeypatch) -> None:
    monkeypatch.setattr(destinations, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(destinations, "SLOWEST", 1e12)
    monkeypatch.setattr(Service, "body", b" " * 4000)
    monkeypatch.setattr(Service, "pause", 0.02)
    with pytest.raises(OutputError) as caught:
        service.send(study[:1])
    assert isinstance(caught.value, UnreachableError | RefusedError)
    assert Service.asked == ["/dicom-web/studies"]


def test_a_result_that_is_damaged_is_not_sent(service, tmp_path) -> None:
    junk = tmp_path / "junk.dcm"
    junk.write_bytes(b"no DICOM" * 40)
    with pytest.raises(ScanError, match=r"junk\.dcm: the result to send is gone or damaged"):
        service.send([junk])
    assert Service.asked == []
