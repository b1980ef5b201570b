"""Weights and training state on disk: safetensors with JSON beside, never pickles."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddmseg.errors import CheckpointError, SettingsError
from ddmseg.networks.baselines import BaselineSegmenter
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.pipeline.card import Card as Card
from ddmseg.pipeline.card import read_card as read_card
from ddmseg.pipeline.config import ModelSettings, Settings
from ddmseg.pipeline.settings_reader import settings_from_dict, settings_to_dict

STATE_FORMAT = 1


Network = DiscrepancyDiffusionSegmenter | BaselineSegmenter


def build_network(settings: Settings, classes: int) -> Network:
    """Make the network of a run with fresh weights: ours or a baseline."""
    model = settings.model
    if model.architecture == "ddm":
        return build_model(model, classes)
    return BaselineSegmenter(
        model.architecture,
        model.dims,
        model.contrasts,
        classes,
        widths=model.widths,
        patch=settings.data.patch,
    )


def build_model(settings: ModelSettings, classes: int) -> DiscrepancyDiffusionSegmenter:
    """Make our network as the settings describe it, with fresh weights."""
    sizes = {
        name: value
        for name, value in settings_to_dict(settings).items()
        if name not in ("architecture", "dims", "contrasts")
    }
    model = DiscrepancyDiffusionSegmenter(settings.dims, settings.contrasts, classes, **sizes)
    form = torch.channels_last if settings.dims == 2 else torch.channels_last_3d
    return model.to(memory_format=form)  # type: ignore[call-overload, no-any-return]


def save_weights(model: Network, card: Card, path: Path) -> Card:
    """Write ``path`` and its card ``path.with_suffix('.json')``; return the card.

    Both appear whole or not at all; the card gets the checksum of the weights.
    """
    from safetensors.torch import save

    data = save({name: w.detach().cpu().contiguous() for name, w in model.state_dict().items()})
    card = replace(card, checksum=hashlib.sha256(data).hexdigest())
    replace_file(path, data)
    text = json.dumps(asdict(card), indent=2, sort_keys=True) + "\n"
    replace_file(path.with_suffix(".json"), text.encode())
    return card


def load_weights(path: Path) -> tuple[DiscrepancyDiffusionSegmenter, Card]:
    """Read weights of our model and their card, as :func:`load_network` does.

    Raises:
        CheckpointError: when a file is missing, damaged or of a baseline.
    """
    network, card = load_network(path)
    if not isinstance(network, DiscrepancyDiffusionSegmenter):
        name = card.settings["model"]["architecture"]
        raise CheckpointError(f"{path}: weights of a baseline ({name}); give those of a ddm")
    return network, card


def load_network(path: Path) -> tuple[Network, Card]:
    """Read weights and card, check the checksum and build the network, in eval mode.

    Raises:
        CheckpointError: when a file is missing, damaged or does not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    card_path = path.with_suffix(".json")
    for needed in (path, card_path):
        if not needed.is_file():
            raise CheckpointError(f"{needed}: no such file; weights need a .json card beside them")
    data = path.read_bytes()
    card = read_card(card_path)
    if hashlib.sha256(data).hexdigest() != card.checksum:
        raise CheckpointError(f"{path}: checksum differs from its card; fetch the file again")
    try:
        settings = settings_from_dict(Settings, card.settings)
    except SettingsError as error:
        raise CheckpointError(f"{card_path}: its settings are not known here ({error})") from error
    model = build_network(settings, len(card.labels))
    try:
        model.load_state_dict(load(data))
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: does not fit the network of its card ({first_reason(error)})"
        ) from error
    return model.eval(), card


def adopt_weights(model: Network, path: Path) -> list[str]:
    """Copy what fits from a weights file into a network; return the names taken.

    A tensor fits when name and shape are equal, so that a network of other classes or a
    wider embedding still begins with the encoder of the old one.

    Raises:
        CheckpointError: when the file is not usable or nothing of it fits.
    """
    source = load_network(path)[0].state_dict()
    own = model.state_dict()
    fits = {n: w for n, w in source.items() if n in own and own[n].shape == w.shape}
    if not fits:
        raise CheckpointError(f"{path}: no tensor fits this network; start from other weights")
    with torch.no_grad():
        for name, value in fits.items():
            own[name].copy_(value)
    return sorted(fits)


def first_reason(error: Exception) -> str:
    """Return the first line that says something; torch puts a heading above it."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines[1:] if line), lines[0])


def replace_file(path: Path, data: bytes) -> None:
    """Write a file beside its place, then rename it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    draft.write_bytes(data)
    os.replace(draft, path)


def save_state(path: Path, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
    """Write a resumable training state: tensors, and plain numbers as metadata."""
    from safetensors.torch import save

    meta = {"format": str(STATE_FORMAT), "numbers": json.dumps(numbers)}
    flat = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    replace_file(path, save(flat, metadata=meta))


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a training state: tensors and plain numbers.

    Raises:
        CheckpointError: when it is missing, damaged or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"{path}: no training state to resume; start without --resume")
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{path}: damaged training state ({error})") from error
    if meta.get("format") != str(STATE_FORMAT):
        raise CheckpointError(
            f"{path}: not a training state of format {STATE_FORMAT}; start without --resume"
        )
    return tensors, json.loads(meta["numbers"])


def state_numbers(path: Path) -> dict[str, Any]:
    """Return the plain numbers of a training state, without its tensors.

    Raises:
        CheckpointError: as :func:`load_state`.
    """
    return load_state(path)[1]
