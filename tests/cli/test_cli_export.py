"""``ddmseg export``, with a model too small to know anything."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from ddmseg.models.checkpoint import load_weights
from ddmseg.models.export import files, runtimes
from ddmseg.models.export.agreement import check_image
from ddmseg.models.export.runtimes import import_openvino
from installed import need
from toy_head import everything_in


@pytest.fixture(autouse=True)
def _exported(tiny_graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """Export once for all tests: it takes seconds."""
    monkeypatch.setattr(files, "export_graph", lambda model: tiny_graph)


def facts(path: Path) -> dict:
    return json.loads(path.read_text())


def labels(folder: Path) -> np.ndarray:
    return np.asarray(nib.load(folder / "scan_dseg.nii.gz").dataobj)


def test_an_onnx_file_computes_the_coarse_logits(ddmseg, tiny_model, tmp_path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    out = tmp_path / "new" / "out"
    outcome = ddmseg("export", tiny_model, "-o", out)
    assert (outcome.code, outcome.errors) == (0, [])
    assert everything_in(out) == ["tiny_encoder.json", "tiny_encoder.onnx"]
    assert "labels agree with torch in 100.000% of voxels" in outcome.out
    told = facts(out / "tiny_encoder.json")
    model, card = load_weights(tiny_model)
    image = check_image(model)
    session = onnxruntime.InferenceSession(out / "tiny_encoder.onnx")
    assert [output.name for output in session.get_outputs()] == told["outputs"]["names"]
    (logits,) = session.run(["coarse_logits"], {told["input"]["name"]: image.numpy()})
    with torch.no_grad():
        wanted = model(image).movedim(1, -1).numpy()
    np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-4)
    assert told["outputs"]["coarse_logits"]["classes_freesurfer_id"] == list(card.labels)
    assert told["model"]["weights_sha256"] == card.checksum
    assert told["agreement_with_torch"]["labels"] >= 0.999
    digest = hashlib.sha256((out / "tiny_encoder.onnx").read_bytes()).hexdigest()
    assert told["files_sha256"] == {"tiny_encoder.onnx": digest}
    assert "not for diagnosis" in told["notice"]


def test_an_openvino_pair_computes_the_coarse_logits(ddmseg, tiny_model, tmp_path) -> None:
    need("openvino")
    outcome = ddmseg("export", tiny_model, "-o", tmp_path, "--format", "openvino")
    assert (outcome.code, outcome.errors) == (0, [])
    assert [p for p in everything_in(tmp_path) if p.startswith("tiny")] == [
        f"tiny_encoder.{suffix}" for suffix in ("bin", "json", "xml")
    ]
    model, _ = load_weights(tiny_model)
    told = facts(tmp_path / "tiny_encoder.json")
    image = torch.randn(told["input"]["shape"], generator=torch.Generator().manual_seed(0))
    assert list(image.shape) == [1, 1, 32, 32, 32]  # a training patch
    compiled = (
        import_openvino()
        .Core()
        .compile_model(tmp_path / "tiny_encoder.xml", "CPU", told["compile_with"])
    )
    with torch.no_grad():
        wanted = model(image).movedim(1, -1).numpy()
    np.testing.assert_allclose(compiled(image.numpy())[2], wanted, rtol=1e-4, atol=1e-4)


def test_a_graph_that_differs_leaves_no_file(ddmseg, tiny_model, tmp_path, monkeypatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(files, "export_graph", lambda model: b"something else")
    outcome = ddmseg("export", tiny_model, "-o", tmp_path / "out")
    assert outcome.code == 2
    assert outcome.error.startswith("format: the onnx graph does not compute this model")
    assert outcome.error.endswith("so nothing was written; try --format openvino")
    assert not (tmp_path / "out").exists()


def test_an_older_export_is_replaced_only_when_asked(ddmseg, tiny_model, tmp_path) -> None:
    pytest.importorskip("onnxruntime")
    old = tmp_path / "tiny_encoder.onnx"
    old.write_text("old")
    refused = ddmseg("export", tiny_model, "-o", tmp_path)
    assert refused.code == 1
    assert refused.error.startswith(f"{old} exists already; pass --overwrite")
    assert old.read_text() == "old"
    assert ddmseg("export", tiny_model, "-o", tmp_path, "--overwrite").code == 0
    assert old.read_bytes() != b"old"


def test_an_export_says_what_is_not_installed(ddmseg, tiny_model, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(runtimes.util, "find_spec", lambda name: None)
    outcome = ddmseg("export", tiny_model, "-o", tmp_path / "out", "--format", "openvino")
    assert outcome.code == 2
    assert "of the extra 'openvino'" in outcome.error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["anatmy", "-o", "out"], "model: got 'anatmy' (did you mean 'anatomy'?)"),
        (["anatomy", "-o", "out", "--format", "onx"], "got 'onx' (did you mean 'onnx'?)"),
        (["anatomy", "-o", "out", "--precision", "int8"], "--precision"),
        (["anatomy"], "--output is missing"),
    ],
)
def test_wrong_words_are_refused(ddmseg, words, told) -> None:
    outcome = ddmseg("export", *words)
    assert outcome.code == 2
    assert told in outcome.error
