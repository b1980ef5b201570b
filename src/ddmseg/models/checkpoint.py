"""Weights and training state on disk: safetensors with JSON beside, never pickles.

Weights and their card are two files, and a program can be killed, or the power cut, between
their two renamings. So the new card is there first, under a name of its own, and is taken for
the card of the weights that it fits.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddmseg.atomic import PARTIAL, sync_folder, system_reason, write_bytes
from ddmseg.errors import CheckpointError, MissingExtraError, OutputError, SettingsError
from ddmseg.models.card import Card as Card
from ddmseg.models.card import next_card
from ddmseg.models.card import read_card as read_card
from ddmseg.models.settings import ModelSettings, Settings
from ddmseg.models.settings_reader import settings_from_dict, settings_to_dict
from ddmseg.models.views import checksum_of_wide, views_of
from ddmseg.networks.baselines import BaselineSegmenter
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter

STATE_FORMAT = "2"
_NO_SUM = b"0" * 64
_SUM = b'"sha256":"'
SIZE_SLACK = 16 << 20
"""Bytes by which a file may miss what its card asks for before it is read: what is wrong with a
small one is better told by name."""


Network = DiscrepancyDiffusionSegmenter | BaselineSegmenter


def build_network(settings: Settings, classes: int) -> Network:
    """Make the network of a run with fresh weights: ours or a baseline."""
    model = settings.model
    if model.architecture == "ddm":
        return build_model(model, classes)
    shape = {"widths": model.widths, "patch": settings.data.patch}
    return BaselineSegmenter(model.architecture, model.dims, model.contrasts, classes, **shape)


def build_model(settings: ModelSettings, classes: int) -> DiscrepancyDiffusionSegmenter:
    """Make our network as the settings describe it, with fresh weights."""
    sizes = settings_to_dict(settings)
    del sizes["architecture"]
    image = sizes.pop("dims"), sizes.pop("contrasts")
    model = DiscrepancyDiffusionSegmenter(*image, classes, **sizes)
    form = torch.channels_last if settings.dims == 2 else torch.channels_last_3d
    return model.to(memory_format=form)  # type: ignore[call-overload, no-any-return]


def save_weights(model: Network, card: Card, path: Path) -> Card:
    """Write ``path`` and its card ``path.with_suffix('.json')``; return the card.

    The card gets the checksum of the weights, and of those that it looks through beside. At
    every moment, before and after a power cut too, the old pair or the new one can be loaded.
    An OutputError leaves the old ones.
    """
    from safetensors.torch import save

    half = {name for name, _ in model.named_parameters()} if card.stored == "half" else set()
    state = {n: w.half() if n in half else w for n, w in model.state_dict().items()}
    if not all(weight.isfinite().all() for weight in state.values()):
        raise OutputError(f"cannot write {path}: it would hold numbers that are not finite")
    sampling = card.settings.get("sampling", {})
    wide = checksum_of_wide(sampling.get("wide", ""))
    # Records and caches know a model by its checksum, and with other views it is another one.
    views = {"views": f"mirrored {sampling.get('mirrored', False)}, wide {wide or None}"}
    told = views if wide or sampling.get("mirrored") else None
    data = save({name: w.detach().cpu().contiguous() for name, w in state.items()}, metadata=told)
    card = replace(card, checksum=hashlib.sha256(data).hexdigest(), wide=wide)
    text = card.as_text().encode()
    _replace_pair(path, data, text)
    return replace(card, digest=hashlib.sha256(text).hexdigest())


def _replace_pair(path: Path, data: bytes, card: bytes) -> None:
    card_path = path.with_suffix(".json")
    replace_file(next_card(card_path), card)
    replace_file(path, data)  # from here on that card is the one that fits
    try:
        next_card(card_path).replace(card_path)
        sync_folder(path.parent)
    except OSError as error:
        raise OutputError(f"cannot write {card_path}: {system_reason(error)}") from error


def _read_pair(path: Path) -> tuple[bytes, Card, Settings]:
    """Read weights, the card that fits them, and its settings."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; weights need a .json card beside them")
    card_path = path.with_suffix(".json")
    refused: list[CheckpointError] = []
    for place in filter(Path.is_file, (card_path, next_card(card_path))):
        try:
            card = read_card(place)
            settings = _settings_of(card, place)
            _check_size(path, settings, len(card.labels))
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() == card.checksum:
                return data, card, settings
            raise CheckpointError(f"{path}: checksum differs from its card; fetch the file again")
        except CheckpointError as error:
            refused.append(error)
    if refused:
        raise refused[0]
    raise CheckpointError(f"{card_path}: no such file; weights need a .json card beside them")


def _settings_of(card: Card, path: Path) -> Settings:
    try:
        return settings_from_dict(Settings, card.settings)
    except SettingsError as error:
        raise CheckpointError(f"{path}: its settings are not known here ({error})") from error


def load_weights(path: Path) -> tuple[DiscrepancyDiffusionSegmenter, Card]:
    """Read weights of our model and their card, with the views that it names."""
    model, card = _load_ours(path)
    model.views = views_of(model, card, _load_ours)
    return model, card


def check_views(model: Network, card: Card) -> None:
    """Refuse views that weights with these settings and labels could not be given."""
    if isinstance(model, DiscrepancyDiffusionSegmenter):
        wide = checksum_of_wide(card.settings["sampling"]["wide"])
        views_of(model, replace(card, wide=wide), _load_ours)


def _load_ours(path: Path) -> tuple[DiscrepancyDiffusionSegmenter, Card]:
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
    data, card, settings = _read_pair(path)
    with _fitting(path):
        half = card.stored == "half"
        return _filled(build_network(settings, len(card.labels)), data, half=half).eval(), card


@contextlib.contextmanager
def _fitting(path: Path) -> Iterator[None]:
    """Turn what torch, safetensors and MONAI say of weights that do not fit into one error."""
    try:
        yield
    except (MissingExtraError, MemoryError):
        raise
    except Exception as error:
        raise CheckpointError(
            f"{path}: does not fit the network of its card ({first_reason(error)})"
        ) from error


def _check_size(path: Path, settings: Settings, classes: int) -> None:
    """Refuse a file far from the size that its card asks for, before memory is taken."""
    with _fitting(path), torch.device("meta"):  # shapes alone
        state = build_network(settings, classes).state_dict()
        needed = sum(w.numel() * w.element_size() for w in state.values())
        held = path.stat().st_size
        if not needed / 2 - SIZE_SLACK <= held <= 4 * needed + SIZE_SLACK:
            raise ValueError(f"it needs {needed} bytes of weights and the file holds {held}")


def _filled(model: Network, data: bytes, *, half: bool) -> Network:
    """Put the tensors of a safetensors file, stored in half precision or not, in a network."""
    from safetensors.torch import load

    tensors, own = load(data), model.state_dict()
    learnt = {name for name, _ in model.named_parameters()}
    for name, tensor in tensors.items():
        wanted = torch.float16 if half and name in learnt else own.get(name, tensor).dtype
        if tensor.dtype != wanted:
            raise ValueError(f"{name} holds {tensor.dtype} in place of {wanted}")
        if not tensor.isfinite().all():
            raise ValueError(f"{name} holds numbers that are not finite")
    model.load_state_dict(tensors)
    return model


def adopt_weights(model: Network, path: Path) -> list[str]:
    """Copy what fits from a weights file into a network; return the names taken.

    A tensor fits when name and shape are equal, so that a network of other classes or a
    wider embedding still begins with the encoder of the old one. A CheckpointError when none does.
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
    lines = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
    return next((line for line in lines[1:] if line), lines[0])


replace_file = write_bytes
"""What training and laboratory call it."""


def save_state(path: Path, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
    """Write a resumable training state: tensors, and plain numbers as metadata.

    The metadata hold the checksum of the file, which is made with zeros in its place.
    An OutputError leaves an older state.
    """
    from safetensors.torch import save

    meta = {"format": STATE_FORMAT, "numbers": json.dumps(numbers), "sha256": _NO_SUM.decode()}
    flat = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    data = save(flat, metadata=meta)
    checksum = hashlib.sha256(data).hexdigest().encode()
    replace_file(path, data.replace(_SUM + _NO_SUM, _SUM + checksum, 1))


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a training state: tensors and plain numbers.

    Raises:
        CheckpointError: when it is missing, damaged or of another kind.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    if not path.is_file():
        raise CheckpointError(f"{path}: no training state to resume; start without --resume")
    try:
        data = path.read_bytes()
        meta = _metadata(data)
        told = meta.get("sha256", "").encode()
        plain = data.replace(_SUM + told, _SUM + _NO_SUM, 1)
        if meta.get("format") == STATE_FORMAT:
            if hashlib.sha256(plain).hexdigest().encode() != told:
                raise ValueError("its checksum differs")
            return load(data), json.loads(meta["numbers"])
    except (OSError, SafetensorError, ValueError, KeyError, RecursionError) as error:
        why = f"{path}: damaged training state ({error}); start without --resume"
        raise CheckpointError(why) from error
    why = f"{path}: not a training state of format {STATE_FORMAT}"
    raise CheckpointError(f"{why}; start without --resume")


def _metadata(data: bytes) -> dict[str, str]:
    """The metadata of a safetensors file; empty where it has none.

    Source: the safetensors format (eight bytes of length, a header in JSON, the tensors).
    """
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    meta = header.get("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(meta, dict):
        raise ValueError("no header")
    return {str(key): str(value) for key, value in meta.items()}


def sweep(folder: Path) -> None:
    """Remove what a killed program was writing in a folder."""
    for leftover in folder.glob(f"{PARTIAL}*"):
        leftover.unlink(missing_ok=True)
