"""A node in a thread of this process, with a model that knows nothing."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddmseg.inference.options import SegmentOptions
from ddmseg.node.spool import Quota, Spool
from dicom_files import affine_of, rotation, save, slice_datasets
from dicom_network import Orthanc, program, wait_for
from dicom_spool import Clock
from toy_head import head_voxels

AFFINE = affine_of(rotation(0.2, -0.1, 0.3), (6, 6, 6), (-70, -80, -60))


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no disk: no test cuts its power, and those that watch it watch the calls."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="session")
def segmenter(tiny_model: Path):
    from ddmseg.inference.segmenter import Segmenter

    return Segmenter.load(str(tiny_model), device="cpu")


@pytest.fixture
def study(tmp_path: Path) -> list[Path]:
    """The files of a head, one a slice."""
    voxels = np.clip(head_voxels(), 0, None).astype(np.uint16)
    return save(slice_datasets(tmp_path / "study", voxels, AFFINE))


@dataclass
class RunningNode:
    """A node that can be ended and started again over the same folders."""

    folder: Path
    segmenter: Any
    options: dict[str, Any]
    lines: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def output(self) -> Path:
        return self.folder / "results"

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    def start(self, **changes: Any) -> RunningNode:
        from ddmseg.node.delivery import Backoff
        from ddmseg.node.node import NodeSettings, run_node
        from ddmseg.node.worker import Work

        options = {**self.options, **changes}
        hold = options.pop("hold_failed", False)
        settings = NodeSettings(
            **{
                "spool": self.spool,
                "quiet_seconds": 0.3,
                "backoff": Backoff(0.1, 0.5),
                **options,
            }
        )
        work = Work(self.segmenter, self.output, SegmentOptions(mode="fast"), hold_failed=hold)
        self._stop = threading.Event()
        self._error: list[BaseException] = []
        begun = len(self.lines)

        def serve() -> None:
            try:
                run_node(settings, work, stop=self._stop, report=self.lines.append)
            except BaseException as error:
                self._error.append(error)

        self._thread = threading.Thread(target=serve)
        self._thread.start()

        def opening() -> str:
            assert not self._error, self._error
            return next((one for one in self.lines[begun:] if one.startswith("listening")), "")

        self.port = int(wait_for(opening, "the node").split(" port ")[1].split()[0])
        return self

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert not self._error, self._error

    def wait_for(self, words: str, count: int = 1) -> list[str]:
        """Wait for lines of the log that hold these words."""

        def look() -> list[str]:
            found = [line for line in self.lines if words in line]
            return found if len(found) >= count else []

        try:
            return wait_for(look, words)
        except AssertionError as error:
            raise AssertionError(f"{error}; the log has {self.lines}") from None


@pytest.fixture
def make_node(tmp_path: Path, segmenter) -> Iterator[Callable[..., RunningNode]]:
    """Return what makes nodes; they are ended with the test."""
    made: list[RunningNode] = []

    def make(name: str = "node", **options: Any) -> RunningNode:
        node = RunningNode(tmp_path / name, segmenter, options)
        made.append(node)
        return node

    yield make
    for node in made:
        if hasattr(node, "_stop"):
            node.stop()


@pytest.fixture
def scanner() -> None:
    """Skip a test whose scanner is not installed, before it starts a node."""
    program("storescu")


@pytest.fixture
def make_orthanc(tmp_path: Path) -> Iterator[Callable[..., Orthanc]]:
    """Return what makes servers, not yet started; they are ended with the test."""
    made: list[Orthanc] = []

    def make(**options: Any) -> Orthanc:
        made.append(Orthanc(tmp_path / f"orthanc-{len(made)}", **options))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_spool(tmp_path, clock):
    """Open the same spool again and again, as after a crash."""
    opened: list[Spool] = []

    def opener(**quota: float) -> Spool:
        if opened:
            opened[-1].close()
        opened.append(Spool(tmp_path / "spool", Quota(**quota), now=clock))
        return opened[-1]

    yield opener
    opened[-1].close()
