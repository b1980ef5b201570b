"""Settings: frozen dataclasses that check themselves, and a strict TOML reader."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from ddmseg.errors import SettingsError, did_you_mean

S = TypeVar("S")


def _require(ok: bool, name: str, came: object, allowed: str) -> None:
    if not ok:
        raise SettingsError(f"{name}: got {came}; {allowed}")


def _require_least(least: int, settings: object, name: str) -> None:
    value = getattr(settings, name.split(".")[1])
    _require(value >= least, name, value, f"must be at least {least}")


def _require_above_0(settings: object, name: str) -> None:
    value = getattr(settings, name.split(".")[1])
    _require(value > 0, name, value, "must be above 0")


def _require_share(settings: object, name: str) -> None:
    value = getattr(settings, name.split(".")[1])
    _require(0 <= value <= 1, name, value, "must be within 0 and 1")


@dataclass(frozen=True)
class ModelSettings:
    """The network; see ``networks.segmenter`` for what each size means."""

    dims: int = 3
    contrasts: int = 1
    widths: tuple[int, ...] = (16, 32, 64, 128)
    blocks: int = 1
    fine_blocks: int = 0
    embedding: int = 8
    mask_width: int = 16
    denoiser_width: int = 16
    mask_stride: int = 1
    input_scale: float = 1.0
    conditioning: Literal["discrepancy", "concat", "cross_attention", "none"] = "discrepancy"
    coarse_prior: bool = True
    diffusion: bool = True

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        _require(self.dims in (2, 3), "model.dims", self.dims, "allowed are 2 and 3")
        for name in ("contrasts", "embedding", "mask_width", "denoiser_width"):
            _require_least(1, self, f"model.{name}")
        for name in ("blocks", "fine_blocks"):
            _require_least(0, self, f"model.{name}")
        _require(
            len(self.widths) >= 3 and all(w > 0 for w in self.widths),
            "model.widths",
            self.widths,
            "give at least 3 numbers above 0",
        )
        _require(
            self.mask_stride in (1, 2), "model.mask_stride", self.mask_stride, "allowed are 1 and 2"
        )
        _require_above_0(self, "model.input_scale")
        _require(
            self.conditioning != "cross_attention" or self.denoiser_width % 2 == 0,
            "model.denoiser_width",
            self.denoiser_width,
            "must be even for conditioning by cross_attention, which has four heads",
        )


@dataclass(frozen=True)
class DataSettings:
    """What to train on."""

    kind: Literal["label_maps", "hippocampus"] = "label_maps"
    spacing_mm: float = 2.0
    patch: tuple[int, ...] = (64, 80, 64)
    augment: bool = True
    skull_strip_probability: float = 0.5
    t1_probability: float = 0.6

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        _require_above_0(self, "data.spacing_mm")
        for name in ("skull_strip_probability", "t1_probability"):
            _require_share(self, f"data.{name}")
        _require(
            len(self.patch) in (2, 3), "data.patch", self.patch, "give one number for each axis"
        )
        _require(
            all(p > 0 and p % 8 == 0 for p in self.patch),
            "data.patch",
            self.patch,
            "each must be a multiple of 8 above 0",
        )


@dataclass(frozen=True)
class LossSettings:
    """L = L_disc + lambda L_diff, plus the coarse head's own loss.

    Before ``joint_from_step`` the image encoder trains alone with its coarse head, which
    costs less than a joint step.
    """

    diffusion_weight: float = 1.0
    coarse_weight: float = 1.0
    discrepancy_weight: float = 1.0
    dice_weight: float = 1.0
    temperature: float = 1.0
    push: bool = True
    schedule: Literal["linear", "cosine"] = "cosine"
    schedule_shift: float = 0.0
    recycling_clean_end: float = 1.0
    recycling_noise_end: float = 1.0
    drop_image_probability: float = 0.0
    joint_from_step: int = 0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        _require_above_0(self, "loss.temperature")
        for name in ("diffusion_weight", "coarse_weight", "discrepancy_weight", "dice_weight"):
            _require_least(0, self, f"loss.{name}")
        _require_least(0, self, "loss.joint_from_step")
        for name in ("recycling_clean_end", "recycling_noise_end", "drop_image_probability"):
            _require_share(self, f"loss.{name}")


@dataclass(frozen=True)
class SamplingSettings:
    """How masks are sampled, in validation and later by default."""

    sampler: Literal["ddim", "ddpm", "dpm", "one-step"] = "ddim"
    steps: int = 10
    samples: int = 4
    temperature: float = 1.0
    guidance: Literal["none", "energy", "classifier_free", "classifier"] = "none"
    guidance_scale: float = 1.0
    coarse_share: float = 0.5

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("steps", "samples"):
            _require_least(1, self, f"sampling.{name}")
        for name in ("temperature", "guidance_scale"):
            _require_least(0, self, f"sampling.{name}")
        _require_share(self, "sampling.coarse_share")


@dataclass(frozen=True)
class TrainingSettings:
    """The loop."""

    steps: int = 1000
    batch: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 100
    clip_norm: float = 1.0
    ema: float = 0.999
    validate_every: int = 250
    validation_cases: int = 10
    seed: int = 0
    workers: int = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0
    stop_on_empty_masks: bool = True

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("steps", "batch", "validate_every", "validation_cases"):
            _require_least(1, self, f"training.{name}")
        for name in ("weight_decay", "warmup_steps", "workers", "threads"):
            _require_least(0, self, f"training.{name}")
        for name in ("learning_rate", "clip_norm"):
            _require_above_0(self, f"training.{name}")
        _require(0 <= self.ema < 1, "training.ema", self.ema, "must be within 0 and 1, 1 excluded")


@dataclass(frozen=True)
class Settings:
    """A whole run: what ``ddmseg train CONFIG.toml`` reads."""

    name: str
    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)

    def __post_init__(self) -> None:
        """Refuse what does not fit together."""
        multiple = 2 ** (len(self.model.widths) - 1)
        _require(
            all(p % multiple == 0 for p in self.data.patch),
            "data.patch",
            self.data.patch,
            f"with {len(self.model.widths)} model.widths each must be a multiple of {multiple}",
        )


def read_settings(path: Path) -> Settings:
    """Read a TOML file; unknown keys and wrong types stop with the place named.

    Raises:
        SettingsError: file missing or not TOML, a key unknown, a value not allowed.
    """
    if not path.is_file():
        raise SettingsError(f"{path}: no such settings file; give the path of a .toml file")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not a TOML file ({error})") from error
    raw.setdefault("name", path.stem)
    return settings_from_dict(Settings, raw)


def settings_from_dict(kind: type[S], raw: dict[str, Any], *, prefix: str = "") -> S:
    """Build a settings dataclass from plain values, strictly.

    Args:
        kind: the dataclass.
        raw: values by name, tables as dicts; what is left out keeps its default.
        prefix: where in the file this table stands, for the messages.

    Raises:
        SettingsError: a key is unknown or missing, or a value is not allowed.
    """
    hints = get_type_hints(kind)
    unknown = [key for key in raw if key not in hints]
    if unknown:
        raise SettingsError(
            f"{prefix}{unknown[0]}: unknown setting{did_you_mean(unknown[0], hints)}; "
            f"allowed are {', '.join(hints)}"
        )
    values = {key: _checked(value, hints[key], f"{prefix}{key}") for key, value in raw.items()}
    for entry in dataclasses.fields(kind):  # type: ignore[arg-type]
        has_default = entry.default is not MISSING or entry.default_factory is not MISSING
        if entry.name not in values and not has_default:
            raise SettingsError(f"{prefix}{entry.name}: missing; it has no default, so give it")
    return kind(**values)


def _checked(value: Any, hint: Any, name: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise SettingsError(f"{name}: got {value!r}; it must be a table")
        return settings_from_dict(hint, value, prefix=f"{name}.")
    if get_origin(hint) is Literal:
        words = get_args(hint)
        if value not in words:
            raise SettingsError(
                f"{name}: got {value!r}; allowed are {', '.join(words)}"
                f"{did_you_mean(str(value), words)}"
            )
        return value
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        if not isinstance(value, list | tuple):
            raise SettingsError(f"{name}: got {value!r}; it must be a list")
        return tuple(_checked(item, inner, name) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise SettingsError(f"{name}: got {value!r}; it must be {_english(hint)}")
    return value


def _english(hint: Any) -> str:
    return {int: "a whole number", float: "a number", str: "text", bool: "true or false"}[hint]


def settings_to_dict(settings: Any) -> dict[str, Any]:
    """Return plain values, ready for JSON; undone by :func:`settings_from_dict`."""
    return dataclasses.asdict(settings)
