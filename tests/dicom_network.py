"""Real DICOM programs for tests: an Orthanc server, dcmtk's tools, and waiting with a deadline."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from free_ports import free_ports

T = TypeVar("T")

DEADLINE_SECONDS = 90.0
PLUGINS = tuple(
    Path(folder, "libOrthancDicomWeb.so")
    for folder in ("/usr/share/orthanc/plugins", "/usr/lib/orthanc", "/usr/local/lib/orthanc")
)


@functools.cache
def program(name: str) -> str:
    """The path of a program of Orthanc or dcmtk; the test is skipped without it."""
    for folder in (*os.get_exec_path(), "/usr/sbin", "/usr/local/sbin"):
        found = shutil.which(name, path=folder)
        # pynetdicom brings programs of the same names
        if found and re.search("orthanc|dcmtk", _version(found), re.IGNORECASE):
            return found
    pytest.skip(f"{name} is not installed (Debian packages: orthanc, orthanc-dicomweb, dcmtk)")


def _version(path: str) -> str:
    done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60)
    return done.stdout


def wait_for(
    look: Callable[[], T], what: str, *, seconds: float = DEADLINE_SECONDS, pause: float = 0.05
) -> T:
    """Return what ``look`` gives as soon as it is something."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(pause)
    return found


class Orthanc:
    """A server with an empty archive; started by ``start``, which may come late."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self._program = program("Orthanc")
        plugin = next((path for path in PLUGINS if path.is_file()), None)
        if plugin is None:
            pytest.skip("Orthanc's DICOMweb plugin is not installed (orthanc-dicomweb)")
        self.folder = folder
        self.port, self.web_port = free_ports(2)
        self.peer = f"ORTHANC@127.0.0.1:{self.port}"
        self.url = f"http://127.0.0.1:{self.web_port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._settings = {
            "StorageDirectory": str(folder / "archive"),
            "IndexDirectory": str(folder / "archive"),
            "DicomAet": "ORTHANC",
            "DicomPort": self.port,
            "HttpPort": self.web_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "Plugins": [str(plugin)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            **options,
        }

    def start(self) -> Orthanc:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(self._settings))
        log = (self.folder / "orthanc.log").open("wb")
        self._process = subprocess.Popen([self._program, str(path)], stdout=log, stderr=log)
        log.close()
        wait_for(self._answers, "Orthanc")
        return self

    def stop(self) -> None:
        if self._process is not None:
            # its end in good order takes seconds, and its archive goes with the test
            self._process.kill()
            self._process.wait(30)
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        log = self.folder / "orthanc.log"
        assert self._process.poll() is None, log.read_text()
        try:
            return bool(self.get("/system"))
        except OSError:
            return False

    def raw(self, address: str) -> bytes:
        with urllib.request.urlopen(f"{self.url}{address}", timeout=30) as answer:
            return bytes(answer.read())

    def get(self, address: str) -> Any:
        return json.loads(self.raw(address))

    def instances(self, modality: str) -> list[str]:
        """Orthanc's names of the images of that modality."""
        return [
            instance
            for series in self.get("/series?expand")
            if series["MainDicomTags"].get("Modality") == modality
            for instance in series["Instances"]
        ]

    def wait_for(self, modality: str, count: int = 1) -> list[str]:
        """Wait for so many images of a modality."""

        def look() -> list[str]:
            found = self.instances(modality)
            return found if len(found) >= count else []

        return wait_for(look, f"{count} {modality} in Orthanc")


def dcmtk(name: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run one of dcmtk's tools."""
    return subprocess.run(
        [program(name), *map(str, words)], capture_output=True, text=True, timeout=120
    )


def storescu(
    port: int, files: Sequence[Path], *, called: str = "DDMSEG", calling: str = "SCANNER"
) -> subprocess.CompletedProcess[str]:
    """Send files as a scanner does."""
    words = ("-v", "-nh", "-aec", called, "-aet", calling, "127.0.0.1", port, *files)
    return dcmtk("storescu", *words)
