"""Other tools as ``ddmseg bench`` sees them; none of them is run here."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import nibabel
import numpy as np
import pytest

from ddmseg.errors import UsageError
from ddmseg_lab.comparison.foreign_python import DEEPBET, NNUNET, SAMSEG
from ddmseg_lab.comparison.peers import driver, tools
from ddmseg_lab.comparison.peers.tools import MODEL_VARIABLE, find_peers, segment

COST = {"seconds": 5, "processor_seconds": 9, "loading_processor_seconds": 1, "peak_memory_gb": 2}


@pytest.fixture
def scan(tmp_path) -> Path:
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones((3, 4, 5), np.float32), np.eye(4)), path)
    return path


@pytest.fixture
def runs(monkeypatch) -> list[tuple]:
    """Tools that do nothing; returns what they were asked."""
    seen: list[tuple] = []

    def run(python, program, job, folder, environment):
        seen.append((python, program, job, environment["OMP_NUM_THREADS"]))
        return COST

    monkeypatch.setattr(tools, "run_scan", run)
    return seen


def test_a_tool_gets_scan_and_threads_and_gives_its_costs(scan, runs, tmp_path):
    costs = segment(SAMSEG, "python", {}, scan, tmp_path, 2)
    assert costs == {"seconds": 5.0, "processor_seconds": 9.0, "peak_memory_gb": 2.0}
    ((python, program, job, threads),) = runs
    assert (python, program, threads, job["threads"]) == ("python", "samseg", "2", 2)
    assert job["image"] == str(scan)


def test_a_tool_is_told_its_model(scan, runs, tmp_path):
    segment(NNUNET, "python", {"model": "trained"}, scan, tmp_path, 1)
    assert runs[0][2]["model"] == "trained"


def test_tools_are_found_by_their_variables(monkeypatch, tmp_path):
    monkeypatch.setenv(SAMSEG.variable, sys.executable)
    monkeypatch.setenv(NNUNET.variable, sys.executable)
    (tmp_path / "plans.json").touch()
    monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path))
    versions = {"samseg": "0.5", "nnunetv2": "2.6"}
    monkeypatch.setattr(tools, "read_versions", lambda tool, python: versions)
    samseg, nnunet = find_peers(["samseg", "nnunet", "samseg"])
    assert (samseg.name, samseg.title, samseg.version) == ("samseg", "SAMSEG", "0.5")
    assert nnunet.version == "2.6"
    jobs = [peer.segment.args[2] for peer in (samseg, nnunet)]
    assert jobs == [{}, {"model": str(tmp_path)}]


def test_what_is_not_there_is_refused(monkeypatch):
    for name in (DEEPBET.variable, MODEL_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="pip install deepbet; then set the variable DDMSEG_DEEPB"):
        find_peers(["deepbet"])
    with pytest.raises(UsageError, match="no weights of its own; train one and set DDMSEG_NNUNET_"):
        find_peers(["nnunet"])
    with pytest.raises(UsageError, match=r"got 'deepbed' \(did you mean 'deepbet'\?\)"):
        find_peers(["deepbed"])


def test_deepbet_is_loaded_before_and_run_within_the_time(scan, tmp_path, monkeypatch):
    told = []

    class BrainExtraction:
        def __init__(self, no_gpu):
            told.append(("load", no_gpu))

        def run(self, image, mask_path):
            told.append((image, mask_path))

    monkeypatch.setitem(sys.modules, "deepbet", module("deepbet", BrainExtraction=BrainExtraction))
    work = driver.deepbet({"image": str(scan), "labels": "mask.nii.gz", "threads": 1})
    assert told == [("load", True)]
    work()
    assert told[1:] == [(str(scan), "mask.nii.gz")]


def test_nnunet_predicts_with_its_best_weights(scan, monkeypatch):
    told = []
    files = SimpleNamespace(
        read_images=lambda paths: (paths, "properties"), write_seg=lambda *words: told.append(words)
    )

    class Predictor:
        plans_manager = SimpleNamespace(image_reader_writer_class=lambda: files)

        def __init__(self, **options):
            assert str(options["device"]) == "cpu"

        def initialize_from_trained_model_folder(self, *words):
            told.append(words)

        def predict_single_npy_array(self, image, properties):
            return "labels of " + image[0]

    name = "nnunetv2.inference.predict_from_raw_data"
    monkeypatch.setitem(sys.modules, name, module(name, nnUNetPredictor=Predictor))
    job = {"image": "scan.nii.gz", "labels": "out.nii.gz", "threads": 1, "model": "trained"}
    work = driver.nnunet(job)
    assert told == [("trained", (0,), "checkpoint_best.pth")]
    work()
    assert told[1] == ("labels of scan.nii.gz", "out.nii.gz", "properties")


def module(name: str, **members: object) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(members)
    return made
