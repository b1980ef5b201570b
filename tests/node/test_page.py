"""The page docs/dicom_node.md, command by command, with real programs; and kill -9."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

import httpx
import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    MediaStorageDirectoryStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

import chromium
from ddmseg.imaging.dicom.series import list_series, read_series
from ddmseg.imaging.dicom.series_selection import choose_series
from ddmseg.imaging.nifti import read_volume
from dicom_files import PATIENT, base_dataset, put_pixels, read_seg, save, world_dice
from dicom_network import Orthanc, program, storescu, wait_for
from free_ports import free_ports
from review_folder import nifti_bytes

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "dicom_node.md"


def blocks() -> dict[str, str]:
    """The commands of the page, by the word after ``bash``."""
    return dict(re.findall(r"^```bash (\w+)\n(.*?)^```", PAGE.read_text(), re.S | re.M))


class Terminals:
    """Runs blocks of the page in one folder, as a reader would."""

    def __init__(self, folder: Path, settings: str) -> None:
        self.folder, self._settings = folder, settings
        self._running: list[subprocess.Popen[bytes]] = []
        shims = folder / "bin"
        shims.mkdir(parents=True)
        for name, words in (("ddmseg", "-m ddmseg"), ("python", "")):
            shim = shims / name
            shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
            shim.chmod(0o755)
        self._environment = {
            **os.environ,
            "PATH": f"{shims}:{Path(program('dcmsend')).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "src"),
        }

    def run(self, block: str) -> str:
        """Run to the end; return what it printed."""
        done = subprocess.run(
            ["bash", "-e", "-c", f"{self._settings}\n{block}"],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, name: str, block: str) -> subprocess.Popen[bytes]:
        """Run in a terminal of its own; what it prints goes to a file."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                ["bash", "-e", "-c", f"{self._settings}\n{block}"],
                cwd=self.folder,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._running.append(process)
        return process

    def text(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def wait_for(self, name: str, pattern: str) -> re.Match[str]:
        def look() -> re.Match[str] | None:
            return re.search(pattern, self.text(name))

        try:
            return wait_for(look, pattern, seconds=180)
        except AssertionError as error:
            raise AssertionError(f"{error}; {name} said: {self.text(name)}") from None

    def end(self, process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
        """Send a signal to everything in that terminal; return the exit code."""
        if process.poll() is None:
            os.killpg(process.pid, number)
        return process.wait(90)

    def close(self) -> None:
        for process in self._running:
            self.end(process, signal.SIGKILL)


@pytest.fixture
def make_terminals(tmp_path, tiny_model) -> Iterator[Callable[[str], Terminals]]:
    made: list[Terminals] = []

    def make(settings: str) -> Terminals:
        made.append(Terminals(tmp_path, settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


def correct(link: str) -> None:
    """Do what step 5 says, in a browser where there is one; by keyboard, as a person could."""
    if chromium.missing():
        correct_without_browser(link)
        return
    with chromium.opened(link) as page:
        page.wait_for_selector("#rows tr")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        chromium.until(page, chromium.READY)
        assert not page.locator("#notice").is_visible()  # the scan was found in the spool
        page.keyboard.press("c")
        chromium.until(page, "review.drawing.active")
        here = page.evaluate("review.viewer.underCrosshair()")
        page.keyboard.press("e" if here else "b")
        page.keyboard.press("x")
        assert page.evaluate("review.viewer.changed()") > 0
        page.keyboard.press("Control+s")
        page.wait_for_selector("#decision .word.corrected")


def correct_without_browser(link: str, moved: int = 20) -> None:
    """Send what the page's drawing tools would: some voxels with another label."""
    base = link.split("/?")[0]
    with httpx.Client(base_url=base, follow_redirects=True, timeout=60) as client:
        client.get(link)
        (row,) = client.get("/api/scans").json()["scans"]
        scan = client.get(f"/api/scans/{row['id']}").json()
        assert scan["has_scan"]
        image = nib.Nifti1Image.from_bytes(client.get(f"/api/scans/{row['id']}/labels.nii").content)
        data = np.asarray(image.dataobj).astype(np.uint8)
        present = [int(index) for index in np.unique(data) if index]
        data[tuple(np.argwhere(data == present[0])[:moved].T)] = 0
        answer = client.post(
            f"/api/scans/{row['id']}/correction?seen={scan['seen']}",
            content=gzip.compress(nifti_bytes(data, image.affine)),
            headers={"content-type": "application/octet-stream", "origin": base},
        )
        assert answer.status_code == 200, answer.text


def assert_the_demo_scan(folder: Path) -> None:
    """The study of the page is the demo scan, voxel by voxel and in the same place."""
    (series,) = list_series(folder)
    assert choose_series([series]).series is series
    made = read_series(series)
    demo = read_volume(str(resources.files("ddmseg") / "demo" / "colin27_t1.nii.gz"))
    np.testing.assert_array_equal(made.data, demo.data)
    np.testing.assert_allclose(made.affine, demo.affine, atol=1e-6)


def add_what_is_no_scan(folder: Path) -> None:
    """What exports hold besides: a text, a directory of the files, a picture of the screen."""
    (folder / "README").write_text("exported by nobody")
    directory = base_dataset(folder / "DICOMDIR", str(MediaStorageDirectoryStorage), "1.2.3.4")
    picture = base_dataset(
        folder / "000_screen.dcm", str(SecondaryCaptureImageStorage), generate_uid()
    )
    put_pixels(picture, np.zeros((4, 4), np.uint8))
    save([directory, picture])


def test_the_page(make_terminals, tiny_model, study, tmp_path) -> None:
    program("Orthanc")
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    node_port, archive_port, web_port = free_ports(3)
    terminals = make_terminals(
        f"MODEL='{tiny_model}' NODE_PORT={node_port} ARCHIVE_PORT={archive_port} "
        f"WEB_PORT={web_port}"
    )
    page = blocks()
    assert list(page) == [
        "settings", "study", "archive", "node", "send", "find", "review", "correction",
    ]  # fmt: skip
    names = re.findall(r"(\w+)=", page["settings"])
    assert names == ["MODEL", "NODE_PORT", "ARCHIVE_PORT", "WEB_PORT"]

    told = terminals.run(page["study"].replace("study study", "study demo"))
    assert told == "181 MR images written to demo\n"
    assert_the_demo_scan(tmp_path / "demo")
    add_what_is_no_scan(study[0].parent)

    terminals.start("archive", page["archive"])
    node = terminals.start("node", page["node"].replace("seconds 5", "seconds 1"))
    url = f"http://127.0.0.1:{web_port}"
    wait_for(lambda: _answers(url), "Orthanc")
    terminals.wait_for("node", f"listening on 127.0.0.1 port {node_port} as DDMSEG")
    terminals.run(page["send"])
    terminals.wait_for("node", rf"{len(study)} images received, 1 refused \(not an MR image\)")
    terminals.wait_for("node", "job-000001: done")
    assert f"job-000001: complete, {len(study)} images" in terminals.text("node")
    (first,) = json.loads(terminals.run(page["find"]))
    assert first["MainDicomTags"]["Modality"] == "SEG"

    review = terminals.start("review", page["review"])
    link = terminals.wait_for("review", r"open (http://\S+)")[1]
    correct(link)
    terminals.end(review, signal.SIGINT)

    told = terminals.run(page["correction"])
    assert told == (
        f"series-004_desc-corrected_dseg.dcm: sent to ORTHANC@127.0.0.1:{archive_port}\n"
    )
    assert terminals.run(page["correction"]) == told
    found = {one["ID"]: one for one in json.loads(terminals.run(page["find"]))}
    assert len(found) == 2
    (corrected,) = [one for one in found.values() if one["ID"] != first["ID"]]
    assert_is_the_correction(url, corrected, tmp_path, study)

    assert terminals.end(node) == 0
    log = terminals.text("node")
    assert log.splitlines()[-1].endswith("ended; what is unfinished is taken up at the next start")
    assert "Traceback" not in log
    uid = pydicom.dcmread(study[0]).SeriesInstanceUID
    assert not [secret for secret in (PATIENT, "SECRET-7", "mprage", str(uid)) if secret in log]


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/system").status_code == 200
    except httpx.TransportError:
        return False


def assert_is_the_correction(url: str, series: dict, folder: Path, study: list[Path]) -> None:
    assert series["MainDicomTags"]["SeriesDescription"].startswith("ddmseg labels, corrected, ")
    (instance,) = series["Instances"]  # sent twice, and the same
    path = folder / "corrected.dcm"
    path.write_bytes(httpx.get(f"{url}/instances/{instance}/file").content)
    dataset = pydicom.dcmread(path)
    assert {one.SegmentAlgorithmType for one in dataset.SegmentSequence} == {"SEMIAUTOMATIC"}
    images = {pydicom.dcmread(one).SOPInstanceUID for one in study}
    told = dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert {one.ReferencedSOPInstanceUID for one in told} == images
    stem = folder / "results" / "job-000001" / "series-004"
    labels = nib.load(f"{stem}_desc-corrected_dseg.nii.gz")
    before = nib.load(f"{stem}_dseg.nii.gz")
    values = np.asarray(labels.dataobj)
    assert (values != np.asarray(before.dataobj)).any()
    masks = read_seg(path)
    masks.pop("Background", None)
    whole = [mask for mask, _ in masks.values()]
    assert sum(int(mask.sum()) for mask in whole) == int((values != 0).sum())
    ids = [int(index) for index in np.unique(values) if index]
    if len(ids) == 1:
        assert world_dice(next(iter(masks.values())), (values == ids[0], labels.affine)) == 1.0


def test_killed_in_the_middle_of_a_job(make_terminals, make_orthanc, tiny_model, study) -> None:
    orthanc: Orthanc = make_orthanc().start()
    (port,) = free_ports(1)
    terminals = make_terminals("")
    words = (
        f"exec ddmseg dicom-node --spool spool -o results --model '{tiny_model}' --port {port} "
        f"--quiet-seconds 0.3 --send {orthanc.peer} "
    )
    slow = terminals.start("node", words + "--mode diffusion --steps 3000 --samples 9")
    terminals.wait_for("node", f"listening on 127.0.0.1 port {port}")
    assert storescu(port, study).returncode == 0
    state = terminals.folder / "spool" / "jobs" / "000001" / "job.json"
    wait_for(lambda: state.is_file() and json.loads(state.read_text())["starts"] == 1, "a start")
    assert terminals.end(slow, signal.SIGKILL) == -signal.SIGKILL
    assert json.loads(state.read_text())["state"] == "waiting"
    assert orthanc.instances("SEG") == []
    terminals.start("node", words + "--mode fast")
    terminals.wait_for("node", "1 jobs to finish")
    terminals.wait_for("node", "job-000001: done")
    assert len(orthanc.instances("SEG")) == 1
    assert json.loads(state.read_text())["starts"] == 2
    assert [path.name for path in state.parents[1].iterdir() if path.is_dir()] == ["000001"]
