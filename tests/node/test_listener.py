"""What the node takes, refuses and survives, asked with dcmtk and with raw connections."""

from __future__ import annotations

import socket
import struct
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode

from ddmseg.node.listener import Listener
from ddmseg.node.server import Limits
from ddmseg.node.spool import Quota, Spool
from dicom_files import PATIENT, STUDY
from dicom_network import storescu, wait_for

MR = "1.2.840.10008.5.1.4.1.1.4"
COMMITMENT = "1.2.840.10008.1.20.1"


def images_in(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.rglob("*.dcm"))


def uid_of(path: Path) -> str:
    return str(pydicom.dcmread(path).SOPInstanceUID)


def altered(path: Path, **elements: object) -> Path:
    """A copy of a file beside it, with other values."""
    dataset = pydicom.dcmread(path)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    if "SOPClassUID" in elements:
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    made = path.with_name(f"altered-{len(list(path.parent.iterdir()))}.dcm")
    dataset.save_as(made)
    return made


def send(port: int, path: Path, **changes: str) -> int:
    """Send one file as it is, whatever dcmtk would make of it; return the status."""
    dataset = pydicom.dcmread(path)
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    entity = AE("SCANNER")
    entity.add_requested_context(dataset.SOPClassUID)
    association = entity.associate("127.0.0.1", port, ae_title="DDMSEG")
    assert association.is_established
    try:
        return int(association.send_c_store(dataset).Status)
    finally:
        association.release()


@pytest.mark.usefixtures("scanner")
def test_only_known_titles_may_call(make_node, study) -> None:
    node = make_node(allowed=("SCANNER", "PACS"), quiet_seconds=60.0).start()
    stranger = storescu(node.port, study[:1], calling="STRANGER")
    assert stranger.returncode != 0
    assert "Calling AE Title Not Recognized" in stranger.stderr
    node.wait_for("refused an association from 'STRANGER'")
    other = storescu(node.port, study[:1], called="OTHER")
    assert "Called AE Title Not Recognized" in other.stderr
    assert images_in(node.spool) == []
    assert storescu(node.port, study[:1]).returncode == 0
    assert images_in(node.spool) == [uid_of(study[0])]


@pytest.mark.usefixtures("scanner")
def test_a_picture_among_the_slices_is_refused_and_they_are_kept(make_node, study) -> None:
    capture = altered(
        study[1], SOPClassUID="1.2.840.10008.5.1.4.1.1.7", SOPInstanceUID=generate_uid()
    )
    node = make_node(quiet_seconds=60.0).start()
    sent = storescu(node.port, [study[0], capture, study[1]])
    assert "Refused: SOPClassNotSupported" in sent.stderr
    assert images_in(node.spool) == sorted(map(uid_of, study[:2]))
    (line,) = node.wait_for("refused (not an MR image)")
    assert line.startswith("2 images received, 1 refused (not an MR image)")


def test_a_study_is_open_as_long_as_its_association(tmp_path, study) -> None:
    spool = Spool(tmp_path / "spool")
    listener = Listener(spool, title="DDMSEG", report=lambda line: None)
    entity = AE("SCANNER")
    entity.add_requested_context(MR)
    association = entity.associate("127.0.0.1", listener.port, ae_title="DDMSEG")
    assert listener.open_studies() == set()
    assert association.send_c_store(pydicom.dcmread(study[0])).Status == 0
    assert listener.open_studies() == {STUDY}
    association.release()
    wait_for(lambda: not listener.open_studies(), "the end of the association")
    listener.stop()
    spool.close()


def test_storage_commitment_is_not_offered(make_node) -> None:
    node = make_node().start()
    entity = AE("SCANNER")
    entity.add_requested_context(COMMITMENT)
    entity.add_requested_context(MR)
    association = entity.associate("127.0.0.1", node.port, ae_title="DDMSEG")
    assert [str(context.abstract_syntax) for context in association.accepted_contexts] == [MR]
    association.release()


def test_uids_that_are_none_are_refused(make_node, study, tmp_path) -> None:
    node = make_node(quiet_seconds=60.0).start()
    before = {path for path in tmp_path.rglob("*") if node.spool not in path.parents}
    wrong = (
        {"StudyInstanceUID": "../../../../tmp/x"},
        {"SeriesInstanceUID": "1.2/../../.."},
        {"StudyInstanceUID": ""},
        {"SeriesInstanceUID": "."},
        {"StudyInstanceUID": "1." * 40 + "1"},
    )
    for changes in wrong:
        assert send(node.port, study[0], **changes) == 0xC000, changes
    for line in node.wait_for("refused", len(wrong)):
        assert "a UID is absent or not made of digits and points" in line
        assert PATIENT not in line
    assert images_in(node.spool) == []
    assert {path for path in tmp_path.rglob("*") if node.spool not in path.parents} == before


def test_an_object_that_is_called_something_else_is_refused(make_node, study) -> None:
    node = make_node(quiet_seconds=60.0).start()
    entity = AE("SCANNER")
    entity.add_requested_context(MR)
    association = entity.associate("127.0.0.1", node.port, ae_title="DDMSEG")
    dataset = pydicom.dcmread(study[0])
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = MR, "1.2.3"
    request.DataSet = BytesIO(encode(dataset, True, True) or b"")
    association._reactor_checkpoint.clear()
    association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    association.release()
    assert answer.Status == 0xC000
    node.wait_for("its SOP Instance UID is not the one it was sent under")


@pytest.mark.usefixtures("scanner")
def test_a_full_spool_says_so_and_takes_more_when_there_is_room(make_node, study) -> None:
    node = make_node(quiet_seconds=60.0, quota=Quota(objects=3)).start()
    sent = storescu(node.port, study[:5])
    assert sent.stderr.count("Refused: OutOfResources") == 2
    assert images_in(node.spool) == sorted(map(uid_of, study[:3]))
    (line,) = node.wait_for("the spool is full")
    assert line.startswith("3 images received, 2 refused (the spool is full (3 objects")
    node.stop()
    node.start(quota=Quota(objects=5))
    assert storescu(node.port, study[:5]).returncode == 0
    assert images_in(node.spool) == sorted(map(uid_of, study[:5]))


def test_a_full_spool_in_bytes(make_node, study) -> None:
    size = study[0].stat().st_size
    node = make_node(quiet_seconds=60.0, quota=Quota(gigabytes=2.5 * size / 1e9)).start()
    assert [send(node.port, path) for path in study[:3]] == [0, 0, 0xA700]


def hold(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def closed_by_the_node(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_a_unit_of_four_gigabytes_closes_the_connection(make_node, study) -> None:
    node = make_node(quiet_seconds=60.0).start()
    with hold(node.port) as connection:
        connection.sendall(struct.pack(">BBL", 1, 0, 0xFFFFFFFF) + b"x" * 64)
        assert closed_by_the_node(connection)
    assert send(node.port, study[0]) == 0


@pytest.mark.usefixtures("scanner")
def test_an_object_above_the_limit_closes_the_connection(make_node, tmp_path, study) -> None:
    node = make_node(quiet_seconds=60.0, limits=Limits(object_megabytes=1)).start()
    large = altered(study[0], PixelData=b"\0" * (2 << 20))
    assert storescu(node.port, [large]).returncode != 0
    assert images_in(node.spool) == []
    assert send(node.port, study[0]) == 0
