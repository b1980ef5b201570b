"""The driver's own part, with tools that keep their manners and segment nothing."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import nibabel
import numpy as np
import pytest

from ddmseg_lab.comparison.peers import driver

AFFINE = np.diag([-1.0, 1.0, 2.0, 1.0])


@pytest.fixture
def job(tmp_path) -> dict[str, object]:
    image = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    nibabel.save(nibabel.Nifti1Image(image, AFFINE), tmp_path / "scan.nii.gz")
    return {
        "image": str(tmp_path / "scan.nii.gz"),
        "labels": str(tmp_path / "labels.nii.gz"),
        "threads": 1,
    }


def test_before_it_is_asked_nothing_but_the_standard_library_is_imported():
    tree = ast.parse(Path(driver.__file__).read_text())
    names = [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
    names += [a.name for node in tree.body if isinstance(node, ast.Import) for a in node.names]
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


def test_loading_and_work_are_told_apart():
    def load(job):
        _spin(0.05)
        return lambda: _spin(0.1)

    before = time.process_time()
    found = driver.timed(load, {"threads": 3})
    assert found["loading_processor_seconds"] >= before + 0.05
    assert 0.1 <= found["processor_seconds"] < 2
    assert found["seconds"] >= found["processor_seconds"] - 0.02
    assert found["threads"] == 3
    assert 0.01 < found["peak_memory_gb"] < 100


def _spin(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_sleep_is_no_work_of_the_processor():
    found = driver.timed(lambda job: lambda: time.sleep(0.1), {"threads": 1})
    assert found["processor_seconds"] < 0.05
    assert found["seconds"] >= 0.1


def test_a_block_of_memory_shows_in_the_peak():
    before = driver.peak_memory_gb()
    block = np.ones(int((before + 0.2) * 1e9 / 8))
    assert driver.peak_memory_gb() > before + 0.1
    del block


def test_versions_name_what_is_absent():
    words = [sys.executable, driver.__file__, "versions", "numpy", "no-such-package"]
    found = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
    assert found["numpy"] == np.__version__
    assert found["no-such-package"] is None
    assert found["python"].startswith("3.")


def test_samseg_runs_as_from_its_command_line(job, tmp_path, monkeypatch):
    labels = np.full((2, 3, 4), 41, np.int32)
    seen = []

    def main() -> None:
        seen.extend(sys.argv)
        out = Path(sys.argv[sys.argv.index("-o") + 1])
        out.mkdir()
        nibabel.save(nibabel.MGHImage(labels, AFFINE), out / "seg.mgz")

    package = ModuleType("samseg.cli")
    package.run_samseg = SimpleNamespace(main=main)
    monkeypatch.setitem(sys.modules, "samseg", ModuleType("samseg"))
    monkeypatch.setitem(sys.modules, "samseg.cli", package)
    monkeypatch.setattr(sys, "argv", ["pytest"])
    (tmp_path / "job.json").write_text(json.dumps(job))
    driver.main(["samseg", str(tmp_path / "job.json")])
    options = ["-i", job["image"], "-o", str(tmp_path / "samseg"), "--threads", "1"]
    assert seen == ["run_samseg", *options]
    found = nibabel.load(job["labels"])
    assert np.allclose(found.affine, AFFINE)
    assert (np.asarray(found.dataobj) == 41).all()
    assert json.loads((tmp_path / "samseg.json").read_text())["threads"] == 1


class AntsImage:
    def __init__(self, words: str) -> None:
        self.words = words

    def __mul__(self, other: AntsImage) -> AntsImage:
        return AntsImage(f"{self.words} in {other.words}")

    def clone(self, kind: str) -> AntsImage:
        return AntsImage(f"{self.words} as {kind}")


def test_atropos_has_three_classes_inside_what_is_not_zero(job, monkeypatch):
    calls = {}
    ants = ModuleType("ants")
    ants.image_read = lambda path: AntsImage("scan")
    ants.threshold_image = lambda image, *limits: AntsImage(f"mask {limits}")

    ants.iMath = lambda image, *words: AntsImage(f"{image.words} {words[1:]}")
    ants.n4_bias_field_correction = lambda image, mask: AntsImage("even")

    def atropos(a, x, **options):
        calls.update(options, a=a.words, x=x.words)
        return {"segmentation": AntsImage("classes")}

    ants.atropos = atropos
    ants.image_write = lambda image, path: calls.update(written=(image.words, path))
    monkeypatch.setitem(sys.modules, "ants", ants)
    driver.timed(driver.atropos, job)
    assert calls == {
        "a": "even (0.01, 0.999)",
        "x": "mask (0, 0, 0, 1)",  # from 0 to 0 becomes 0, all else 1
        "i": "kmeans[3]",
        "m": "[0.2,1x1x1]",
        "c": "[5,0]",
        "written": ("classes as unsigned char", job["labels"]),
    }


def test_ddmseg_segments_in_the_mode_that_is_asked(job, monkeypatch):
    import torch

    import ddmseg.models.available_memory
    from ddmseg.imaging.volume import LabelMap
    from ddmseg.inference.segmenter import Segmenter

    asked = []

    def segment(scan, *, mode):
        asked.append(mode)
        data = np.where(scan.data > 3, 17, 0).astype(np.int32)
        return SimpleNamespace(labels=LabelMap(data, scan.affine, scan.name))

    monkeypatch.setattr(Segmenter, "load", lambda name, device: asked.append(name) or segment)
    monkeypatch.setattr(ddmseg.models.available_memory, "keep_freed_memory", lambda: True)
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    driver.timed(driver.ddmseg, {**job, "model": "anatomy", "mode": "auto"})
    assert asked == [1, "anatomy", "auto"]
    found = nibabel.load(job["labels"])
    assert np.allclose(found.affine, AFFINE)
    assert (np.asarray(found.dataobj) == 17).sum() == 20
