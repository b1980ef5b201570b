"""Weights and states on disk: they come back bit for bit, or not at all with a reason."""

from __future__ import annotations

import json
import pickletools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ddmseg.errors import CheckpointError
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.pipeline.checkpoint import (
    Card,
    build_model,
    load_state,
    load_weights,
    replace_file,
    save_state,
    save_weights,
)
from ddmseg.pipeline.config.retired import RETIRED
from ddmseg.pipeline.settings_reader import settings_to_dict
from toys import fingerprint, shake, tiny_settings

LABELS = (0, 17, 53)


@pytest.fixture
def saved(tmp_path):
    """A model, the card it was saved with and the path of its weights."""
    return save_model(tmp_path / "model.safetensors")


def save_model(path: Path, *, dims: int = 2, **sizes: object):
    settings = tiny_settings(dims=dims, model=sizes)
    model = build_model(settings.model, len(LABELS))
    shake(model)
    card = Card(
        "toy",
        LABELS,
        settings_to_dict(settings),
        data="boxes",
        licence="Apache-2.0",
        scores={"validation": {"sampled_dice": 0.5}},
        calibration={"knots": [0.0, 1.0]},
        trained_steps=7,
    )
    return model, save_weights(model, card, path), path


def edit_card(path: Path, **changes: object) -> None:
    file = path.with_suffix(".json")
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


# Weights


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("diffusion", [True, False])
def test_weights_and_card_come_back(tmp_path, dims, diffusion):
    path = tmp_path / "new" / "folder" / "m.safetensors"
    model, card, _ = save_model(path, dims=dims, diffusion=diffusion)
    found, found_card = load_weights(path)
    assert fingerprint(found) == fingerprint(model)
    # Tuples come back as the lists of JSON inside the settings alone.
    assert found_card == replace(card, settings=json.loads(json.dumps(card.settings)))
    assert found_card.labels == LABELS
    assert not found.training
    x = torch.randn(1, 1, *(16,) * dims)
    with torch.no_grad():
        assert torch.equal(found(x), model.eval()(x))


def test_the_network_keeps_channels_last_in_memory(saved):
    weight = load_weights(saved[2])[0].image_encoder.stem.convolution.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_the_checksum_is_that_of_the_file(saved):
    import hashlib

    _, card, path = saved
    assert card.checksum == hashlib.sha256(path.read_bytes()).hexdigest()
    assert json.loads(path.with_suffix(".json").read_text())["checksum"] == card.checksum


def test_equal_weights_make_equal_files(saved, tmp_path):
    model, card, path = saved
    save_weights(model, card, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_saving_leaves_no_drafts(saved):
    _, _, path = saved
    assert {p.name for p in path.parent.iterdir()} == {"model.safetensors", "model.json"}


def test_a_file_that_fails_to_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    replace_file(path, b"old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk is full")))
    with pytest.raises(OSError, match="disk is full"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_weights(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_wrong_checksum_is_refused(saved):
    path = saved[2]
    edit_card(path, checksum="0" * 64)
    assert refusal(path) == f"{path}: checksum differs from its card; fetch the file again"


def test_one_wrong_bit_is_refused(saved):
    path = saved[2]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert "checksum differs" in refusal(path)


def test_a_truncated_file_is_refused_even_with_its_own_checksum(saved):
    import hashlib

    path = saved[2]
    path.write_bytes(path.read_bytes()[:-100])
    assert "checksum differs" in refusal(path)
    edit_card(path, checksum=hashlib.sha256(path.read_bytes()).hexdigest())
    assert "does not fit the network of its card" in refusal(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_a_missing_file_is_named(saved, suffix):
    path = saved[2]
    path.with_suffix(suffix).unlink()
    assert refusal(path).startswith(f"{path.with_suffix(suffix)}: no such file; weights need")


@pytest.mark.parametrize(
    "text", ["{", "[1, 2]", "{}", '{"labels": 3}', '{"name": "x", "labels": [], "more": 1}']
)
def test_a_card_that_is_none_is_refused(saved, text):
    path = saved[2]
    path.with_suffix(".json").write_text(text)
    assert refusal(path).startswith(f"{path.with_suffix('.json')}: not a card of weights (")


def test_a_card_that_is_not_text_is_refused(saved):
    path = saved[2]
    path.with_suffix(".json").write_bytes(b"\xff\xff")
    assert "not a card of weights" in refusal(path)


def test_weights_of_another_shape_are_refused(saved):
    path = saved[2]
    edit_card(path, labels=[0, 17, 53, 54])
    message = refusal(path)
    assert "does not fit the network of its card (size mismatch for" in message


def test_weights_of_another_kind_are_refused(saved):
    path = saved[2]
    settings = settings_to_dict(tiny_settings(model={"diffusion": False}))
    edit_card(path, settings=settings)
    assert "(Unexpected key(s) in state_dict" in refusal(path)


def test_a_card_from_before_loads_unless_it_is_of_what_is_gone(saved):
    path = saved[2]
    settings = settings_to_dict(tiny_settings())
    for table, keys in RETIRED.items():
        settings[table].update(keys)
    edit_card(path, settings=settings)
    network, card = load_weights(path)
    assert isinstance(network, DiscrepancyDiffusionSegmenter)
    assert "guided" not in card.settings["model"]
    settings["model"]["guided"] = True
    edit_card(path, settings=settings)
    assert "(model.guided: got True; second levels in patches are gone: take" in refusal(path)


def test_a_card_of_a_later_version_is_refused(saved):
    path = saved[2]
    edit_card(path, settings={"name": "x", "model": {"wavelets": 3}})
    assert "its settings are not known here (model.wavelets: unknown setting" in refusal(path)


# Training state


def tensors() -> dict[str, torch.Tensor]:
    return {
        "model.a": torch.randn(2, 3),
        "adam.0.step": torch.tensor(5.0),
        "model.b": torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
    }


def test_a_state_comes_back(tmp_path):
    path, kept = tmp_path / "state.safetensors", tensors()
    save_state(path, kept, {"step": 3, "best": 0.1, "seconds": 1e-17})
    found, numbers = load_state(path)
    assert numbers == {"step": 3, "best": 0.1, "seconds": 1e-17}
    assert found.keys() == kept.keys()
    assert all(torch.equal(found[name], kept[name]) for name in kept)


def test_no_state_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no training state to resume; start without"):
        load_state(tmp_path / "state.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 50, -10])
def test_a_damaged_state_is_refused(tmp_path, keep):
    path = tmp_path / "state.safetensors"
    save_state(path, tensors(), {"step": 3})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="damaged training state"):
        load_state(path)


def test_weights_are_no_state(saved):
    with pytest.raises(CheckpointError, match="not a training state of format 1"):
        load_state(saved[2])


# No pickles


def is_pickle(data: bytes) -> bool:
    try:
        list(pickletools.genops(data))
    except Exception:
        return False
    return True


def test_nothing_written_is_a_pickle(saved, tmp_path):
    save_state(tmp_path / "state.safetensors", tensors(), {"step": 1})
    files = list(tmp_path.iterdir())
    assert len(files) == 3
    for path in files:
        data = path.read_bytes()
        assert not data.startswith((b"PK", b"\x80"))  # torch.save's zip, a bare pickle
        assert not is_pickle(data)
    assert load_file(saved[2]).keys() == saved[0].state_dict().keys()
