"""A study goes in with dcmtk's storescu, and its labels come out in a real Orthanc server."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from ddmseg.imaging.labels import structure
from ddmseg.node.addresses import parse_peer
from ddmseg.node.destinations import (
    RefusedError,
    StoreDestination,
    StowDestination,
    UnreachableError,
)
from dicom_files import PATIENT, STUDY, read_seg, world_dice
from dicom_network import dcmtk, storescu

SEG = "1.2.840.10008.5.1.4.1.1.66.4"


def store_to(orthanc) -> StoreDestination:
    return StoreDestination(parse_peer(orthanc.peer, option="send"), "DDMSEG")


def assert_nothing_identifies(node, study: list[Path]) -> None:
    """No line of the log may hold a name, an id or a UID."""
    told = "\n".join(node.lines)
    first = pydicom.dcmread(study[0])
    uids = (first.StudyInstanceUID, first.SeriesInstanceUID, first.SOPInstanceUID)
    for secret in (PATIENT, "Doe", "SECRET", "MPRAGE", "mprage", *uids):
        assert secret not in told


@pytest.fixture(params=["store", "stow"])
def orthanc_and_destination(request, make_orthanc):
    orthanc = make_orthanc().start()
    if request.param == "store":
        return orthanc, store_to(orthanc)
    return orthanc, StowDestination(f"{orthanc.url}/dicom-web")


def test_the_labels_of_a_study_come_back(
    orthanc_and_destination, make_node, study, tmp_path
) -> None:
    orthanc, destination = orthanc_and_destination
    assert storescu(orthanc.port, study, called="ORTHANC").returncode == 0
    node = make_node(destinations=(destination,)).start()
    assert dcmtk("echoscu", "-aec", "DDMSEG", "127.0.0.1", node.port).returncode == 0
    sent = storescu(node.port, study)
    assert sent.returncode == 0, sent.stderr
    node.wait_for("job-000001: done")

    (instance,) = orthanc.wait_for("SEG")
    tags = orthanc.get(f"/instances/{instance}/simplified-tags")
    assert tags["SOPClassUID"] == SEG
    assert tags["PatientName"] == PATIENT
    assert tags["StudyInstanceUID"] == STUDY
    (reference,) = tags["ReferencedSeriesSequence"]
    images = {pydicom.dcmread(path).SOPInstanceUID for path in study}
    told = {one["ReferencedSOPInstanceUID"] for one in reference["ReferencedInstanceSequence"]}
    assert told == images
    in_orthanc = {
        orthanc.get(f"/instances/{one}")["MainDicomTags"]["SOPInstanceUID"]
        for one in orthanc.instances("MR")
    }
    assert told == in_orthanc
    (series,) = [
        one for one in orthanc.get("/series?expand") if one["MainDicomTags"]["Modality"] == "MR"
    ]
    assert reference["SeriesInstanceUID"] == series["MainDicomTags"]["SeriesInstanceUID"]
    assert len(orthanc.instances("OT")) == 1
    (report,) = orthanc.instances("SR")
    of_report = orthanc.get(f"/instances/{report}/simplified-tags")
    assert (of_report["StudyInstanceUID"], of_report["PatientName"]) == (STUDY, PATIENT)
    assert tags["SOPInstanceUID"] in json.dumps(of_report["ContentSequence"])

    returned = tmp_path / "returned.dcm"
    returned.write_bytes(orthanc.raw(f"/instances/{instance}/file"))
    labels = nib.load(node.output / "job-000001" / "series-004_dseg.nii.gz")
    values = np.asarray(labels.dataobj)
    found = read_seg(returned)
    found.pop("Background", None)
    assert set(found) == {structure(int(index)).name for index in np.unique(values) if index}
    for index in np.unique(values):
        if index:
            here = found[structure(int(index)).name]
            assert world_dice(here, (values == index, labels.affine)) == 1.0
    assert_nothing_identifies(node, study)


def test_an_archive_that_comes_late_gets_everything(make_orthanc, make_node, study) -> None:
    orthanc = make_orthanc()
    node = make_node(destinations=(store_to(orthanc),)).start()
    assert storescu(node.port, study).returncode == 0
    lines = node.wait_for("does not answer; tried again in", 2)
    assert all(line.startswith("job-000001: ORTHANC@127.0.0.1:") for line in lines)
    # ended and started again, it still knows
    node.stop()
    node.start()
    orthanc.start()
    (instance,) = orthanc.wait_for("SEG")
    node.wait_for("job-000001: done")
    sent = pydicom.dcmread(node.output / "job-000001" / "series-004_dseg.dcm")
    tags = orthanc.get(f"/instances/{instance}/simplified-tags")
    assert tags["SOPInstanceUID"] == sent.SOPInstanceUID


def test_what_an_archive_does_not_take_is_told(make_orthanc, study, tmp_path) -> None:
    orthanc = make_orthanc(UnknownSopClassAccepted=False).start()
    strange = pydicom.dcmread(study[0])
    strange.SOPClassUID = strange.file_meta.MediaStorageSOPClassUID = "1.2.3.4.5"
    path = tmp_path / "strange.dcm"
    strange.save_as(path)
    with pytest.raises(RefusedError, match="takes none of the SOP classes of the results"):
        store_to(orthanc).send([path])
    with pytest.raises(RefusedError, match=r"does not take strange\.dcm"):
        store_to(orthanc).send([study[0], path])
    assert len(orthanc.instances("MR")) == 1


def test_stow_tells_what_is_refused(make_orthanc, study) -> None:
    orthanc = make_orthanc().start()
    with pytest.raises(RefusedError, match="HTTP 404"):
        StowDestination(f"{orthanc.url}/nowhere").send(study[:1])
    StowDestination(f"{orthanc.url}/dicom-web").send(study[:1])
    StowDestination(f"{orthanc.url}/dicom-web").send(study[:1])  # again, and it has it still
    assert len(orthanc.instances("MR")) == 1
    orthanc.stop()
    with pytest.raises(UnreachableError, match="does not answer"):
        StowDestination(f"{orthanc.url}/dicom-web").send(study[:1])
