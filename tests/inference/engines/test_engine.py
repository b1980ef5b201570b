"""Engines compute what torch does, or are refused; graphs are made once."""

from __future__ import annotations

import json
from dataclasses import fields
from importlib import metadata

import numpy as np
import pytest
import torch

from ddmseg.errors import MissingExtraError, UsageError
from ddmseg.inference.engines import catalogue, engine
from ddmseg.inference.engines.agreement import Agreement, check, check_image, compare
from ddmseg.inference.engines.catalogue import AUTO, KINDS, NAMES, resolve
from ddmseg.inference.engines.engine import GraphEngine, TorchEngine, make_engine
from ddmseg.inference.engines.graph import graph_key
from ddmseg.inference.engines.graph_cache import GraphCache
from ddmseg.inference.engines.runtimes import make_runtime
from ddmseg.models.checkpoint import Card
from ddmseg.models.settings import DataSettings, ModelSettings, Settings
from ddmseg.models.settings_reader import settings_to_dict
from ddmseg.networks.tiling import encode_tiled
from installed import need
from toys import tiny_model

FLOATS = [name for name, kind in KINDS.items() if kind.precision == "fp32"]


def installed(name: str) -> None:
    need(*KINDS[name].needs)


@pytest.fixture(params=FLOATS)
def graph_engine(request, graph) -> GraphEngine:
    installed(request.param)
    return GraphEngine(request.param, make_runtime(request.param, graph))


@pytest.fixture
def card() -> Card:
    settings = Settings(
        name="toy",
        model=ModelSettings(widths=(4, 8, 8), embedding=2, mask_width=4, denoiser_width=4),
        data=DataSettings(spacing_mm=8.0, patch=(16, 16, 16)),
    )
    return Card("toy", (0, 2, 41, 53), settings_to_dict(settings))


@pytest.fixture
def ready(monkeypatch, graph):
    """Have the toy's graph at hand without exporting again; count how often it was asked for."""
    asked = []

    def exported(model) -> bytes:
        asked.append(model)
        return graph

    monkeypatch.setattr(engine, "export_graph", exported)
    return asked


@pytest.mark.parametrize("items", [1, 2])
@pytest.mark.parametrize("sides", [(8, 8, 8), (16, 12, 20)])
@torch.inference_mode()
def test_every_feature_is_that_of_torch_on_any_grid(graph_engine, model, sides, items) -> None:
    image = torch.randn(items, 1, *sides, generator=torch.Generator().manual_seed(2))
    ours, theirs = model.encode(image), graph_engine.encode(image)
    for field in fields(ours):
        a, b = getattr(ours, field.name), getattr(theirs, field.name)
        if isinstance(a, bool):
            assert a == b
            continue
        for x, y in zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)]:
            assert x.dtype == y.dtype
            torch.testing.assert_close(y, x, rtol=1e-4, atol=1e-4)
    found = compare(ours, theirs)
    assert found.labels >= 0.999
    assert found.probability <= 1e-4


@torch.inference_mode()
def test_tiles_may_come_from_an_engine(graph_engine, model) -> None:
    image = torch.randn(1, 1, 24, 20, 24, generator=torch.Generator().manual_seed(3))
    ours = encode_tiled(model, image, (16, 16, 16))
    theirs = encode_tiled(model, image, (16, 16, 16), encode=graph_engine.encode)
    assert compare(ours, theirs).suffices("fp32")
    assert compare(ours, theirs).probability <= 1e-4


@torch.inference_mode()
def test_features_stay_when_the_next_image_comes(graph_engine, model) -> None:
    first, second = (torch.full((1, 1, 8, 8, 8), value) for value in (1.0, -1.0))
    first[..., 4:] = 0
    encoding = graph_engine.encode(first)
    before = encoding.stem.clone()
    graph_engine.encode(second)
    assert torch.equal(encoding.stem, before)


@pytest.mark.parametrize("name", FLOATS)
def test_an_engine_is_exported_and_checked_once(name, model, card, ready, tmp_path) -> None:
    installed(name)
    cache = GraphCache(tmp_path)
    checks = []
    for _ in range(2):
        made = make_engine(name, model, card, cache=cache)
        checks.append(made.describe())
    assert len(ready) == 1
    assert checks[0] == checks[1]
    assert checks[0]["name"] == name
    assert checks[0]["version"] == metadata.version(KINDS[name].package)
    assert checks[0]["labels_as_torch"] >= 0.999
    assert made.features_key.startswith(name)
    assert len(list(tmp_path.glob("*.onnx"))) == len(list(tmp_path.glob("*.json"))) == 1


def test_a_damaged_graph_is_made_again(model, card, ready, tmp_path) -> None:
    installed("onnx")
    cache = GraphCache(tmp_path)
    make_engine("onnx", model, card, cache=cache)
    (path,) = tmp_path.glob("*.onnx")
    path.write_bytes(path.read_bytes()[:-7])
    make_engine("onnx", model, card, cache=cache)
    assert len(ready) == 2
    assert cache.get(graph_key(model, "fp32")) is not None


def test_a_graph_that_computes_something_else_is_refused(card, ready, tmp_path) -> None:
    installed("onnx")
    other = tiny_model(dims=3, classes=4, seed=5)
    with pytest.raises(UsageError, match="'onnx' does not compute this model as torch does") as e:
        make_engine("onnx", other, card, cache=GraphCache(tmp_path))
    assert "use --engine torch" in str(e.value)
    assert list(tmp_path.glob("*.json")) == []


def test_a_graph_with_another_grid_is_refused(card, ready, tmp_path) -> None:
    installed("openvino")
    other = tiny_model(dims=3, classes=7)
    with pytest.raises(UsageError, match=r"does not compute this model.*agree with torch in 0"):
        make_engine("openvino", other, card, cache=GraphCache(tmp_path))


@pytest.mark.parametrize("name", FLOATS)
def test_what_no_engine_can_read_is_refused_in_one_line(name, model, card, monkeypatch) -> None:
    installed(name)
    monkeypatch.setattr(engine, "export_graph", lambda model: b"no graph at all")
    with pytest.raises(UsageError, match=f"'{name}' does not compute this model") as refused:
        make_engine(name, model, card, cache=GraphCache(None))
    assert "\n" not in str(refused.value)


def test_a_network_that_cannot_be_exported_is_refused(model, monkeypatch) -> None:
    pytest.importorskip("onnxscript")
    from ddmseg.inference.engines.graph import export_graph

    def fail(*_: object, **__: object) -> None:
        raise torch.onnx.OnnxExporterError("no such operator\nand much more")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(UsageError) as refused:
        export_graph(model)
    assert str(refused.value) == (
        "this model cannot be written as a graph (no such operator); use --engine torch"
    )


@pytest.mark.parametrize("name", ["auto", "torch"])
def test_torch_needs_no_graph(name, model, card, ready) -> None:
    made = make_engine(name, model, card)
    assert isinstance(made, TorchEngine)
    assert made.describe() == {"name": "torch", "version": torch.__version__}
    assert made.features_key == ""
    assert ready == []
    image = check_image(model)
    assert torch.equal(made.encode(image).coarse_logits, model.encode(image).coarse_logits)


def test_the_default_is_of_the_core_install() -> None:
    assert AUTO not in KINDS
    assert resolve("auto") == AUTO


def test_an_engine_that_is_not_installed_names_the_install_line(monkeypatch) -> None:
    monkeypatch.setattr(catalogue.util, "find_spec", lambda name: None)
    for name, kind in KINDS.items():
        with pytest.raises(MissingExtraError) as refused:
            resolve(name)
        assert f"pip install 'ddmseg[{kind.extra}]'" in str(refused.value)


def test_an_unknown_engine_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError) as refused:
        resolve("openvin")
    assert str(refused.value) == (
        f"engine: got 'openvin'; allowed are {', '.join(NAMES)} (did you mean 'openvino'?)"
    )


@pytest.mark.parametrize("name", list(KINDS))
def test_engines_of_the_cpu_refuse_a_gpu(name) -> None:
    with pytest.raises(UsageError, match=f"'{name}' computes on the CPU and the device is cuda"):
        resolve(name, device="cuda")


def test_the_key_of_a_graph_is_of_weights_and_layers(model) -> None:
    pytest.importorskip("onnxscript")
    key = graph_key(model, "fp32")
    assert key == graph_key(tiny_model(dims=3, classes=4), "fp32")
    others = [
        graph_key(model, "int8"),
        graph_key(tiny_model(dims=3, classes=4, seed=1), "fp32"),
        graph_key(tiny_model(dims=3, classes=4, norm_group=2), "fp32"),
    ]
    assert len({key, *others}) == 4


@torch.inference_mode()
def test_a_check_sees_what_is_wrong(model) -> None:
    from dataclasses import replace

    ours = model.encode(check_image(model))
    assert compare(ours, ours) == Agreement(1.0, 0.0, 0.0)
    assert compare(ours, ours).suffices("fp32")
    flipped = replace(ours, coarse=-ours.coarse_logits)
    broken = replace(ours, embedding=ours.embedding * float("nan"))
    smaller = replace(ours, stem=ours.stem[..., :-1])
    fewer = replace(ours, pyramid=ours.pyramid[:-1])
    for wrong in (flipped, broken, smaller, fewer):
        assert not compare(ours, wrong).suffices("fp32")
    for wrong in (broken, smaller, fewer):
        assert not compare(ours, wrong).suffices("int8")
    assert check(model, model.encode) == Agreement(1.0, 0.0, 0.0)


def test_a_finding_is_kept_for_its_engine_alone(tmp_path) -> None:
    cache = GraphCache(tmp_path)
    cache.note(b"graph", "onnx 1", {"labels": 1.0})
    assert cache.finding(b"graph", "onnx 1") == {"labels": 1.0}
    assert cache.finding(b"graph", "onnx 2") is None
    assert cache.finding(b"another", "onnx 1") is None
    (path,) = tmp_path.glob("*.json")
    assert json.loads(path.read_text()) == {"labels": 1.0}
    path.write_text("{")
    assert cache.finding(b"graph", "onnx 1") is None


def test_only_so_many_graphs_are_kept(tmp_path, monkeypatch) -> None:
    from ddmseg.inference.engines import graph_cache

    monkeypatch.setattr(graph_cache, "MAX_GRAPHS", 2)
    cache = GraphCache(tmp_path / "new")
    for number in range(4):
        cache.put(f"{number}" * 64, bytes([number]))
        cache.note(bytes([number]), "onnx", {})
    assert [cache.get(f"{n}" * 64) is not None for n in range(4)].count(True) == 2
    assert cache.get("3" * 64) == b"\x03"
    assert len(list((tmp_path / "new").glob("*.json"))) <= 3


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    for cache in (GraphCache(None), GraphCache(tmp_path / "file" / "below")):
        cache.put("a" * 64, b"graph")
        cache.note(b"graph", "onnx", {})
        assert cache.get("a" * 64) is None
        assert cache.finding(b"graph", "onnx") is None


@pytest.mark.parametrize("name", ["openvino"])
def test_openvino_keeps_a_compiled_graph_for_each_of_a_few_shapes(name, graph) -> None:
    installed(name)
    from ddmseg.inference.engines.runtimes import SHAPES_KEPT, OpenVino

    runtime = OpenVino(graph)
    for side in range(2, 2 + SHAPES_KEPT + 2):
        outputs = runtime(np.zeros((1, 1, 8, 8, 4 * side), np.float32))
        assert outputs[0].shape == (1, 8, 8, 4 * side, 4)
    assert len(runtime._requests) == SHAPES_KEPT


def test_an_encoder_on_blocks_is_computed_by_torch() -> None:
    need("onnxruntime")
    model = tiny_model(dims=3, encoder_form="block", denoiser_form="light", mask_stride=2)
    card = Card("blocks", (0, 2, 41), {})
    assert make_engine("torch", model, card).name == "torch"
    with pytest.raises(UsageError, match="engine: got onnx; blocks is computed by torch"):
        make_engine("onnx", model, card)
