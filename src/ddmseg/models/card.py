"""The card of a model: what travels with weights. It is read without torch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ddmseg.errors import CheckpointError, SettingsError, printable
from ddmseg.imaging.dicom.series_selection import Trained
from ddmseg.models.json_reader import parse_json, read_bounded
from ddmseg.models.manifest import check_shipped
from ddmseg.models.settings.retired import without_retired
from ddmseg.models.settings_reader import settings_from_dict
from ddmseg.models.zoo import model_path

HIGHEST_ID = 2**31 - 1
"""Label maps are stored in 32 bits."""
MOST_CLASSES = 4096
LARGEST_LOG = 50.0
"""Of a ratio of volumes; beyond it numbers overflow."""
_CHECKSUM = re.compile(r"([0-9a-f]{64})?")


@dataclass(frozen=True)
class Card:
    """What travels with weights: how they were made and what they are good for.

    Attributes:
        labels: FreeSurfer id of each class, background first.
        settings: the resolved settings of the training.
        data: what it was trained on, with licence.
        calibration: monotone map from raw to calibrated expected Dice, by name.
        checksum: SHA-256 of the weights file.
        teacher: name and checksum of the model that taught a distilled one; how is in the
            settings.
        wide: checksum of the weights that ``settings.sampling.wide`` names; the calibrations
            hold with these alone.
        stored: precision of the weights in their file, ``single`` or ``half``. Computing is
            another matter; statistics of normalisations are single in any case, for a variance
            may be larger than half precision holds.
        digest: SHA-256 of its file: what the model is, ids and calibration included. It is
            not in the file; empty for a card that has none.
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
    wide: str = ""
    stored: Literal["single", "half"] = "single"
    digest: str = field(default="", compare=False)

    def __repr__(self) -> str:
        count = len(self.labels) - 1
        return f"<Card '{printable(self.name)}': {count} structures, {printable(self.licence)}>"

    @property
    def crops_to_head(self) -> bool:
        """Whether air and neck are cut off its scans first: it was trained on heads."""
        return self.settings["data"]["kind"] in HEAD_KINDS

    @property
    def works_on_crops(self) -> bool:
        """Whether its scans are crops around one structure, which is found on a head first."""
        return bool(self.settings["data"]["kind"] == "hippocampus")

    @property
    def views(self) -> str:
        """What its coarse head looks at beside the scan as it is; empty for nothing."""
        own = self.settings.get("sampling", {})
        looks = ["the mirrored scan"] if own.get("mirrored") else []
        if own.get("wide"):
            looks.append(f"{'both' if looks else 'the scan'} by {own['wide']} on half the grid")
        return ", ".join(looks)

    def as_text(self) -> str:
        """Return the text of its file."""
        told = asdict(self)
        del told["digest"]
        return json.dumps(told, indent=2, sort_keys=True) + "\n"


@dataclass(frozen=True)
class _Curve:
    """The numbers of ``maths.calibration.DiceCalibration``."""

    a: float
    b: float
    c: float


@dataclass(frozen=True)
class _Features:
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    largest_distance: float


@dataclass(frozen=True)
class _TrainingRange:
    thickest_mm: float
    features: _Features
    intensities: dict[str, tuple[float, ...]]
    examples: int = 0


@dataclass(frozen=True)
class _Usual:
    expected_dice: float
    structures: dict[str, float]
    spread: dict[str, float] = field(default_factory=dict)
    scans: int = 0


@dataclass(frozen=True)
class _Calibration:
    """What is known of a card's ``calibration``, each where it is given; more may be in it."""

    always_present: tuple[int, ...] = ()
    expected_dice: _Curve | None = None
    structure_dice: _Curve | None = None
    masks: int = 0
    training_range: _TrainingRange | None = None
    usual: _Usual | None = None
    standing_out: dict[str, dict[str, float]] = field(default_factory=dict)
    volume_bounds: dict[str, tuple[float, float]] = field(default_factory=dict)
    volume_ratios: dict[str, tuple[float, float]] = field(default_factory=dict)
    sample_bounds: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    usual_width: float = 0.0
    asymmetry_ratios: dict[str, tuple[float, float]] = field(default_factory=dict)
    drawn_bias: dict[str, float] = field(default_factory=dict)


def next_card(path: Path) -> Path:
    """Return where a card lies until the weights that it is of are in their place."""
    return path.with_name(f".{path.stem}.next.json")


def read_card(path: Path) -> Card:
    """Read a card from its ``.json`` file and check it whole.

    Before there is one, it is read from where the next one lies.

    Raises:
        CheckpointError: when it is missing, not a card, or a shipped one that was changed.
    """
    there = path if path.is_file() else next_card(path)
    if not there.is_file():
        raise CheckpointError(f"{path}: no such file; weights need a .json card beside them")
    try:
        data = read_bounded(there)
        card = card_from(parse_json(data))
    except (OSError, ValueError, SettingsError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: not a card of weights ({reason})") from error
    digest = hashlib.sha256(data).hexdigest()
    check_shipped(there, digest)
    return replace(card, digest=digest)


def card_of(name: str) -> Card:
    """Return the card of a shipped model, or of a file of weights.

    Raises:
        UsageError: when no model is called so.
        CheckpointError: when its card is missing or damaged.
    """
    return read_card(model_path(name).with_suffix(".json"))


def card_from(raw: Any) -> Card:
    """Return the card that plain values describe, or raise a SettingsError."""
    if not isinstance(raw, dict):
        raise SettingsError("no table of names")
    card = settings_from_dict(Card, raw)
    card = replace(card, settings=without_retired(card.settings))
    _require("digest" not in raw, "digest", "is of the file, so it cannot be in it")
    _check_labels(card.labels)
    _require(card.name.isprintable() and 0 < len(card.name) <= 200, "name", "must be a short word")
    for name in ("checksum", "wide"):
        fits = _CHECKSUM.fullmatch(getattr(card, name)) is not None
        _require(fits, name, "must be a SHA-256")
    _require(card.trained_steps >= 0, "trained_steps", "must be at least 0")
    _check_calibration(card)
    return card


def _require(ok: bool, name: str, allowed: str) -> None:
    if not ok:
        raise SettingsError(f"{name}: {allowed}")


def _check_labels(labels: tuple[int, ...]) -> None:
    """Refuse ids that cannot be those of classes; a swap of two the manifest tells."""
    _require(2 <= len(labels) <= MOST_CLASSES, "labels", f"give 2 to {MOST_CLASSES} ids")
    _require(labels[0] == 0, "labels", "the first must be background, 0")
    _require(len(set(labels)) == len(labels), "labels", "each id may occur once")
    _require(0 <= min(labels) <= max(labels) <= HIGHEST_ID, "labels", "an id has 31 bits")


def _check_calibration(card: Card) -> None:
    """Refuse figures by which nothing can be judged."""
    names = [entry.name for entry in dataclasses.fields(_Calibration)]
    given = {name: card.calibration[name] for name in names if name in card.calibration}
    told = settings_from_dict(_Calibration, given, prefix="calibration.")
    known = set(told.always_present) <= set(card.labels)
    _require(known, "calibration.always_present", "unknown ids")
    for curve in (told.expected_dice, told.structure_dice):
        _require(curve is None or min(curve.a, curve.b) > 0, "calibration", "a curve must rise")
    for name in ("volume_bounds", "volume_ratios", "asymmetry_ratios"):
        for low, high in getattr(told, name).values():
            fits = -LARGEST_LOG <= low <= 0 <= high <= LARGEST_LOG
            _require(fits, f"calibration.{name}", "give a bound to either side of 0")
    for usual, low, high in told.sample_bounds.values():
        ends = -LARGEST_LOG <= usual * low <= usual * high <= LARGEST_LOG
        fits = ends and 0 < usual <= LARGEST_LOG
        _require(fits, "calibration.sample_bounds", "give a usual spread above 0 and two ends")
    _require(told.usual_width >= 0, "calibration.usual_width", "must be at least 0")
    largest = max(map(abs, told.drawn_bias.values()), default=0.0)
    allowed = f"must be within -{LARGEST_LOG:g} and {LARGEST_LOG:g}"
    _require(largest <= LARGEST_LOG, "calibration.drawn_bias", allowed)
    limits = [limit for of in told.standing_out.values() for limit in of.values()]
    _require(min(limits, default=0) >= 0, "calibration.standing_out", "must be at least 0")
    if told.usual is not None:
        dice = (told.usual.expected_dice, *told.usual.structures.values())
        _require(0 <= min(dice) <= max(dice) <= 1, "calibration.usual", "must be within 0 and 1")
    if told.training_range is not None:
        _check_range(told.training_range)


def _check_range(told: _TrainingRange) -> None:
    place = "calibration.training_range"
    features = told.features
    _require(told.thickest_mm > 0, f"{place}.thickest_mm", "must be above 0")
    _require(len(features.mean) == len(features.deviation), place, "as many means as deviations")
    _require(min(features.deviation, default=0) >= 0, place, "deviations must be at least 0")
    for name, bounds in told.intensities.items():
        fits = len(bounds) == 2 and bounds[0] <= bounds[1]
        _require(fits, f"{place}.{name}", "give low and high")


HEAD_KINDS = ("label_maps", "lpba40")
"""Kinds of data whose scans are whole heads, seen in patches while training."""


def require_one_pass(kind: str, encoder_form: str) -> None:
    """Refuse an encoder that measures what is in view for scans larger than its patches.

    These are whole heads (``data.kind``) without blocks (``model.encoder_form``).
    """
    if kind in HEAD_KINDS and encoder_form != "block":
        raise SettingsError(
            f"model.encoder_form: got {encoder_form}, trained on patches of whole heads (data.kind "
            f'{kind}), which it cannot see at once; train with "block"'
        )


def thickest_mm(card: Card) -> float | None:
    """Return the longest voxel edge that a model accepts; None where its card is silent."""
    told = card.calibration.get("training_range")
    return None if told is None else float(told["thickest_mm"])


LARGEST_CROP_MM = 80.0
"""A scan no wider than this on any axis is taken for a crop by a model that learned from crops."""


def trained_on(name: str) -> Trained:
    """Return what a shipped model, or one of a file of weights, was trained on.

    Errors as of :func:`card_of`.
    """
    return of_card(card_of(name))


def of_card(card: Card) -> Trained:
    """Return what a card says of it; where it says nothing, nothing is too thick."""
    data = card.settings.get("data", {})
    kind = data.get("kind", "label_maps")
    return Trained(
        card.name,
        largest_crop_mm=LARGEST_CROP_MM if kind == "hippocampus" else 0.0,
        max_slice_mm=thickest_mm(card) or math.inf,
        # images synthesised from label maps have any contrast, most often that of T1
        t1_alone=kind != "label_maps" and not data.get("synthetic_share"),
    )
