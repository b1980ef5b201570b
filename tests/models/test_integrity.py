"""What a model is, is bound to what shipped: ids and calibration, not the weights alone."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

from ddmseg.errors import CheckpointError
from ddmseg.imaging.labels import HIPPOCAMPUS_LABELS
from ddmseg.models import manifest, zoo
from ddmseg.models.card import read_card
from ddmseg.models.checkpoint import load_network
from tiny_weights import CROPS, save_tiny

WEIGHTS = zoo.weights_folder()


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The card of hippocampus in an installation of its own."""
    for path in (WEIGHTS / "hippocampus.json", WEIGHTS / manifest.FILE):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(zoo, "weights_folder", lambda: tmp_path)
    return tmp_path / "hippocampus.json"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Weights of one's own, in no manifest."""
    return save_tiny(tmp_path, CROPS, HIPPOCAMPUS_LABELS)


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        (read_card if path.suffix == ".json" else load_network)(path)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_the_manifest_is_that_of_the_shipped_weights() -> None:
    """When this fails: ``make manifest``."""
    assert manifest.read_manifest(WEIGHTS) == manifest.manifest_of(WEIGHTS)


def test_the_digest_of_a_card_is_that_of_the_manifest_and_of_its_file(own) -> None:
    told = manifest.read_manifest(WEIGHTS)
    for card in zoo.shipped_cards():
        assert card.digest == told[f"{card.name}.json"]
    path = own.with_suffix(".json")
    assert read_card(path).digest == hashlib.sha256(path.read_bytes()).hexdigest()
    edit(path, digest="0" * 64)
    assert "digest: is of the file" in refusal(path)


def test_two_ids_swapped_in_a_shipped_card_are_noticed(shipped) -> None:
    read_card(shipped)
    edit(shipped, labels=[0, 231, 232])
    assert refusal(shipped).startswith(
        f"{shipped}: differs from what shipped (SHA256SUMS); install"
    )


def test_a_card_of_another_model_and_one_of_no_manifest_are_noticed(shipped) -> None:
    shutil.copy(WEIGHTS / "anatomy.json", shipped)
    assert "differs from what shipped" in refusal(shipped)
    other = shipped.with_name("other.json")
    shutil.copy(shipped, other)
    assert "differs from what shipped" in refusal(other)


@pytest.mark.parametrize("text", [None, "", "0123  a.json\n", "\xff", "a" * 64 + "  ../a.json\n"])
def test_without_a_whole_manifest_nothing_shipped_is_believed(shipped, text) -> None:
    path = shipped.with_name(manifest.FILE)
    if text is None:
        path.unlink()
    else:
        path.write_text(text, encoding="latin-1")
    refused = refusal(shipped)
    assert "install ddmseg again" in refused


def test_the_manifest_is_written_anew_after_a_change(shipped) -> None:
    edit(shipped, data="more")
    manifest.write_manifest(shipped.parent)
    assert read_card(shipped).data == "more"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"labels": [232, 0, 231]}, "labels: the first must be background, 0"),
        ({"labels": [0, 232, 232]}, "labels: each id may occur once"),
        ({"labels": [0, -1, 232]}, "labels: an id has 31 bits"),
        ({"labels": [0, 2**31, 232]}, "labels: an id has 31 bits"),
        ({"labels": [0]}, "labels: give 2 to 4096 ids"),
        ({"labels": [0, True, 3]}, "labels: got True; it must be a whole number"),
        ({"labels": [0, 1.0, 3]}, "labels: got 1.0; it must be a whole number"),
        ({"labels": "023"}, "labels: got '023'; it must be a list"),
        (
            {"calibration": {"volume_ratios": {"CSF": [0.5]}}},
            "calibration.volume_ratios: got 1 values; give 2",
        ),
        (
            {"calibration": {"standing_out": {"intensity": {"CSF": -1.0}}}},
            "calibration.standing_out: must be at least 0",
        ),
        ({"name": ""}, "name: must be a short word"),
        ({"name": "a\nb"}, "name: must be a short word"),
        ({"checksum": "../x"}, "checksum: must be a SHA-256"),
        ({"trained_steps": -1}, "trained_steps: must be at least 0"),
        ({"trained_steps": "7"}, "trained_steps: got '7'; it must be a whole number"),
        ({"teacher": {"name": 3}}, "teacher: got 3; it must be text"),
        ({"scores": []}, "scores: got []; it must be a table"),
        ({"calibration": {"always_present": [17]}}, "calibration.always_present: unknown ids"),
        ({"calibration": {"expected_dice": {"a": 1.0, "b": 1.0}}}, "expected_dice.c: missing"),
        ({"calibration": {"expected_dice": {"a": -1, "b": 1, "c": 0}}}, "a curve must rise"),
        ({"calibration": {"volume_ratios": {"x": [float("nan"), 1]}}}, "NaN is no number"),
        ({"calibration": {"volume_ratios": {"x": [0.1, 0.2]}}}, "to either side of 0"),
        ({"calibration": {"drawn_bias": {"x": -51.0}}}, "drawn_bias: must be within -50 and 50"),
        ({"calibration": {"usual": {"expected_dice": 7, "structures": {}}}}, "within 0 and 1"),
        ({"calibration": {"training_range": {"thickest_mm": 3}}}, "features: missing"),
        ({"surprise": 1}, "surprise: unknown setting"),
    ],
)
def test_a_card_is_checked_whole(own, changes, told) -> None:
    path = own.with_suffix(".json")
    edit(path, **changes)
    refused = refusal(path)
    assert refused.startswith(f"{path}: not a card of weights (")
    assert told in refused


def test_a_card_that_is_endless_or_no_file_is_refused(own) -> None:
    path = own.with_suffix(".json")
    path.write_text("[" + "0," * (1 << 22))
    assert "longer than" in refusal(path)
    path.unlink()
    path.mkdir()
    assert "no such file" in refusal(path)


def replaced(path: Path, **tensors: torch.Tensor) -> None:
    """Change tensors and give the card the checksum of the new file."""
    data = save({**load_file(path), **tensors})
    path.write_bytes(data)
    edit(path.with_suffix(".json"), checksum=hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(own, number) -> None:
    name, tensor = next(iter(load_file(own).items()))
    tensor.view(-1)[0] = number
    replaced(own, **{name: tensor})
    assert f"({name} holds numbers that are not finite)" in refusal(own)


def test_weights_of_another_precision_are_refused(own) -> None:
    name, tensor = next(iter(load_file(own).items()))
    replaced(own, **{name: tensor.double()})
    assert f"({name} holds torch.float64 in place of torch.float32)" in refusal(own)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({"widths": [4096, 4096, 4096]}, "bytes of weights and the file holds"),
        ({"widths": [10**9, 8, 8]}, "model.widths: got (1000000000, 8, 8); must be at most 4096"),
        ({"blocks": 10**9}, "model.blocks: got 1000000000; must be at most 64"),
        ({"embedding": 10**9}, "model.embedding: got 1000000000; must be at most 4096"),
        ({"widths": [8] * 40}, "give at most 8 levels"),
    ],
)
def test_a_card_cannot_ask_for_more_memory_than_its_weights_take(
    own, model, told, monkeypatch
) -> None:
    path = own.with_suffix(".json")
    settings = json.loads(path.read_text())["settings"]
    edit(path, settings={**settings, "model": {**settings["model"], **model}})
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("the file was read"))
    assert told in refusal(own)


def test_a_file_far_larger_than_its_network_is_not_read(own, monkeypatch) -> None:
    with own.open("r+b") as file:
        file.truncate(1 << 36)  # no blocks are taken on the disk
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("the file was read"))
    assert "bytes of weights and the file holds 68719476736" in refusal(own)
