"""The card of a model: what travels with weights. It is read without torch."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddmseg.errors import CheckpointError, SettingsError
from ddmseg.pipeline.config.retired import without_retired


@dataclass(frozen=True)
class Card:
    """What travels with weights: how they were made and what they are good for.

    Attributes:
        name: of the model.
        labels: FreeSurfer id of each class, background first.
        settings: the resolved settings of the training.
        data: what it was trained on, with licence.
        licence: of the weights.
        scores: measured figures, by name.
        calibration: monotone map from raw to calibrated expected Dice, by name.
        checksum: SHA-256 of the weights file.
        trained_steps: steps of the optimiser.
        teacher: name and checksum of the model that taught a distilled one; how is in the
            settings.
    """

    name: str
    labels: tuple[int, ...]
    settings: dict[str, Any]
    data: str = ""
    licence: str = ""
    scores: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    checksum: str = ""
    trained_steps: int = 0
    teacher: dict[str, str] = field(default_factory=dict)


def next_card(path: Path) -> Path:
    """Return where a card lies until the weights that it is of are in their place."""
    return path.with_name(f".{path.stem}.next.json")


def read_card(path: Path) -> Card:
    """Read a card from its ``.json`` file; before there is one, from where the next one lies.

    Raises:
        CheckpointError: when it is missing, not a card, or of a network that is gone.
    """
    there = path if path.is_file() else next_card(path)
    if not there.is_file():
        raise CheckpointError(f"{path}: no such file; weights need a .json card beside them")
    try:
        raw = json.loads(there.read_text(encoding="utf-8"))
        settings = without_retired(raw["settings"])
        return Card(**{**raw, "labels": tuple(raw["labels"]), "settings": settings})
    except SettingsError as error:
        raise CheckpointError(f"{path}: its settings are not known here ({error})") from error
    except (ValueError, TypeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: not a card of weights ({reason})") from error


def thickest_mm(card: Card) -> float | None:
    """Return the longest voxel edge that a model accepts; None where its card is silent."""
    told = card.calibration.get("training_range")
    return None if told is None else float(told["thickest_mm"])
