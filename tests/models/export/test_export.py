"""What an exported graph computes is what torch does, or it is refused and nothing is written."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ddmseg.errors import MissingExtraError, UsageError
from ddmseg.models.export import runtimes
from ddmseg.models.export.agreement import Agreement, Encode, check, check_image, compare
from ddmseg.models.export.files import check_graph
from ddmseg.models.export.graph import export_graph
from ddmseg.models.export.runtimes import FORMATS, load_encoder, require
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from installed import need
from toys import tiny_model

FORMAT_NAMES = list(FORMATS)


FORMS = {
    "plain": {"widths": (4, 8, 16)},
    "block": {"widths": (4, 8), "encoder_form": "block", "denoiser_form": "light"},
}
"""Both kinds of encoder, for grids that are multiples of 4."""


def make_model(form: str, **other: int) -> DiscrepancyDiffusionSegmenter:
    return tiny_model(**{"dims": 3, "classes": 4, "mask_stride": 2, **FORMS[form], **other})


@pytest.fixture(scope="module", params=FORMS)
def form(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(form) -> DiscrepancyDiffusionSegmenter:
    return make_model(form)


@pytest.fixture(scope="module")
def graph(model) -> bytes:
    need("onnx", "onnxscript")
    return export_graph(model)


@pytest.fixture(params=FORMAT_NAMES)
def encode(request, graph) -> Encode:
    need(*FORMATS[request.param].needs)
    return load_encoder(request.param, graph)


@pytest.mark.parametrize(("items", "sides"), [(1, (8, 8, 8)), (1, (16, 12, 20)), (2, (16, 12, 20))])
@torch.inference_mode()
def test_every_feature_is_that_of_torch_on_any_grid(encode, model, items, sides) -> None:
    image = torch.randn(items, 1, *sides, generator=torch.Generator().manual_seed(2))
    ours, theirs = model.encode(image), encode(image)
    for name in ("stem", "embedding", "coarse", "pyramid"):
        torch.testing.assert_close(getattr(theirs, name), getattr(ours, name), rtol=1e-4, atol=1e-4)
    assert theirs.decided == ours.decided
    assert compare(ours, theirs).suffices


@torch.inference_mode()
def test_features_stay_when_the_next_image_comes(encode) -> None:
    first, second = (torch.full((1, 1, 8, 8, 8), value) for value in (1.0, -1.0))
    first[..., 4:] = 0
    encoding = encode(first)
    before = encoding.embedding.clone()
    encode(second)
    assert torch.equal(encoding.embedding, before)


@pytest.mark.parametrize("format", FORMAT_NAMES)
@pytest.mark.parametrize("other", [{"seed": 5}, {"classes": 7}], ids=["weights", "classes"])
def test_a_graph_that_computes_something_else_is_refused(format, other, form, graph) -> None:
    need(*FORMATS[format].needs)
    with pytest.raises(UsageError, match=f"the {format} graph does not compute this model") as said:
        check_graph(format, make_model(form, **other), graph)
    assert "nothing was written; try --format " in str(said.value)


@pytest.mark.parametrize("format", FORMAT_NAMES)
def test_what_no_runtime_can_read_is_refused_in_one_line(format) -> None:
    need(*FORMATS[format].needs)
    with pytest.raises(UsageError, match=f"the {format} graph does not compute") as refused:
        check_graph(format, tiny_model(dims=3), b"no graph at all")
    assert "\n" not in str(refused.value)


def test_a_network_that_cannot_be_exported_is_refused(monkeypatch) -> None:
    pytest.importorskip("onnxscript")

    def fail(*_: object, **__: object) -> None:
        raise torch.onnx.OnnxExporterError("no such operator\nand much more")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(UsageError) as refused:
        export_graph(tiny_model(dims=3))
    assert str(refused.value) == (
        "this model cannot be written as a graph (no such operator); use it with ddmseg segment"
    )


@pytest.mark.parametrize("format", FORMAT_NAMES)
def test_a_format_that_is_not_installed_names_the_install_line(format, monkeypatch) -> None:
    monkeypatch.setattr(runtimes.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=rf"of the extra '{format}'"):
        require(format)


@torch.inference_mode()
def test_a_check_sees_what_is_wrong(model) -> None:
    ours = model.encode(check_image(model))
    assert compare(ours, ours) == Agreement(1.0, 0.0, 0.0)
    assert compare(ours, ours).suffices
    flipped = replace(ours, coarse=-ours.coarse_logits)
    broken = replace(ours, embedding=ours.embedding * float("nan"))
    smaller = replace(ours, stem=ours.stem[..., :-1])
    fewer = replace(ours, pyramid=ours.pyramid[:-1])
    for wrong in (flipped, broken, smaller, fewer):
        assert not compare(ours, wrong).suffices
    assert check(model, model.encode) == Agreement(1.0, 0.0, 0.0)
