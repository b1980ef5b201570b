"""Weights and states on disk: they come back bit for bit, or not at all with a reason."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickletools
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

from ddmseg.errors import CheckpointError, OutputError
from ddmseg.models.checkpoint import (
    Card,
    build_model,
    build_network,
    load_network,
    load_state,
    load_weights,
    replace_file,
    save_state,
    save_weights,
    sweep,
)
from ddmseg.models.settings_reader import settings_to_dict
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
    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OutputError, match="the disk is full"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def full(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


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
    with pytest.raises(CheckpointError, match="not a training state of format 2"):
        load_state(saved[2])


def test_no_bit_of_a_state_can_flip(tmp_path):
    path = tmp_path / "state.safetensors"
    save_state(path, {"model.a": torch.randn(4)}, {"step": 3})
    whole = path.read_bytes()
    for place in range(0, 8 * len(whole), 13):
        data = bytearray(whole)
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match="start without --resume"):
            load_state(path)


def test_a_state_of_before_the_checksum_is_refused(tmp_path):
    path = tmp_path / "state.safetensors"
    path.write_bytes(save({"model.a": torch.ones(2)}, {"format": "1", "numbers": '{"step": 3}'}))
    with pytest.raises(CheckpointError, match="not a training state of format 2; start without"):
        load_state(path)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"\xff", b"[" * 100_000, b"{}", b'{"__metadata__": 3}']
)
def test_an_odd_header_is_refused(tmp_path, data):
    path = tmp_path / "state.safetensors"
    path.write_bytes(len(data).to_bytes(8, "little") + data)
    with pytest.raises(CheckpointError, match="start without --resume"):
        load_state(path)


# Killed at any moment


@pytest.fixture
def moments(monkeypatch, tmp_path, tmp_path_factory):
    """What the folder holds before each call that changes or syncs something in it."""
    found: list[Path] = []

    def watch(name: str) -> None:
        call = getattr(os, name)

        def watched(*arguments, **options):
            copy = tmp_path_factory.mktemp("moment") / "folder"
            found.append(Path(shutil.copytree(tmp_path, copy)))
            return call(*arguments, **options)

        monkeypatch.setattr(os, name, watched)

    for name in ("replace", "fsync"):
        watch(name)
    return found


def test_weights_can_be_loaded_at_every_moment(saved, tmp_path, moments):
    model, card, path = saved
    before = fingerprint(model)
    shake(model)
    card = replace(card, scores={"validation": {"sampled_dice": 0.6}})
    save_weights(model, card, path)
    found = [load_weights(folder / path.name) for folder in (*moments, tmp_path)]
    pairs = [(fingerprint(one), c.scores["validation"]["sampled_dice"]) for one, c in found]
    new = (fingerprint(model), 0.6)
    number = pairs.index(new)
    assert pairs == [(before, 0.5)] * number + [new] * (len(pairs) - number)
    assert len(moments) >= 7  # two files with their folders, and three renamings
    assert {one.name for one in tmp_path.iterdir()} == {"model.safetensors", "model.json"}


def test_the_first_weights_are_there_whole_or_not_at_all(tmp_path, moments):
    _, card, path = save_model(tmp_path / "model.safetensors")
    there = [folder for folder in moments if (folder / path.name).is_file()]
    assert len(there) >= 2
    assert all(load_weights(folder / path.name)[1].checksum == card.checksum for folder in there)


def test_each_rename_follows_a_sync(saved, monkeypatch):
    order: list[str] = []
    for name in ("replace", "fsync"):
        call = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, c=call: (order.append(n), c(*a))[1])
    model, card, path = saved
    save_weights(model, card, path)
    assert order == ["fsync", "replace", "fsync"] * 2 + ["replace", "fsync"]
    order.clear()
    save_state(path.with_name("state.safetensors"), tensors(), {})
    assert order == ["fsync", "replace", "fsync"]


def test_what_a_kill_left_is_swept(tmp_path):
    (tmp_path / ".partial-0123-best.safetensors").write_bytes(b"half")
    (tmp_path / "best.safetensors").write_bytes(b"whole")
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["best.safetensors"]


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


def test_weights_stored_in_half_precision_take_half_the_room_and_stay_so(tmp_path):
    model = build_network(tiny_settings(), 3)
    shake(model)
    single, half = tmp_path / "single.safetensors", tmp_path / "half.safetensors"
    card = Card("toy", (0, 17, 53), settings_to_dict(tiny_settings()))
    save_weights(model, card, single)
    save_weights(model, replace(card, stored="half"), half)
    assert half.stat().st_size < 0.75 * single.stat().st_size
    loaded, kept = load_network(half)
    assert kept.stored == "half"
    for name, weight in model.named_parameters():
        found = loaded.get_parameter(name)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, weight, atol=1e-3, rtol=1e-3)
    before = half.read_bytes()
    save_weights(loaded, replace(kept, data="told anew"), half)
    assert half.read_bytes() == before


def test_statistics_beyond_half_precision_survive_it(tmp_path):
    settings = tiny_settings(
        model={"encoder_form": "block", "denoiser_form": "light", "mask_stride": 2}
    )
    model = build_network(settings, 3)
    name = next(name for name, _ in model.named_buffers() if name.endswith("running_var"))
    model.get_buffer(name).fill_(1e6)
    path = tmp_path / "toy.safetensors"
    card = Card("toy", (0, 17, 53), settings_to_dict(settings), stored="half")
    save_weights(model, card, path)
    assert (load_network(path)[0].get_buffer(name) == 1e6).all()


def test_weights_that_half_precision_cannot_hold_are_not_written(tmp_path):
    model = build_network(tiny_settings(), 3)
    next(model.parameters()).data.fill_(1e6)
    path = tmp_path / "toy.safetensors"
    card = Card("toy", (0, 17, 53), settings_to_dict(tiny_settings()), stored="half")
    with pytest.raises(OutputError, match="not finite"):
        save_weights(model, card, path)
    assert not path.exists()
