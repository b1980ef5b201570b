"""Settings: frozen dataclasses that check themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ddmseg.errors import SettingsError
from ddmseg.pipeline.settings_reader import read_toml, settings_from_dict

CONTRASTS_WITH_MAPS = 3
CONTRASTS_WITH_GUIDE = 7
"""The scan, and 33 classes in 6 analog bits."""


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
    """The network; see ``networks.segmenter`` for what each size means.

    ``architecture`` other than ``ddm`` is one of the baselines, which take ``dims``,
    ``contrasts`` and ``widths`` alone.
    """

    architecture: Literal["ddm", "unet", "attention_unet", "unetr"] = "ddm"
    dims: int = 3
    contrasts: int = 1
    widths: tuple[int, ...] = (16, 32, 64, 128)
    blocks: int = 1
    fine_blocks: int = 0
    embedding: int = 8
    mask_width: int = 16
    denoiser_width: int = 16
    denoiser_form: Literal["full", "light"] = "full"
    mask_stride: int = 1
    input_scale: float = 1.0
    conditioning: Literal["discrepancy", "concat", "cross_attention", "none"] = "discrepancy"
    coarse_prior: bool = True
    target: Literal["clean", "noise"] = "clean"
    diffusion: bool = True
    norm_group: int = 1
    guided: bool = False

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        _require(self.dims in (2, 3), "model.dims", self.dims, "allowed are 2 and 3")
        for name in ("contrasts", "embedding", "mask_width", "denoiser_width", "norm_group"):
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
        _require(
            self.target == "clean" or self.mask_stride == 1,
            "model.target",
            self.target,
            "noise is predicted on the image grid alone; set model.mask_stride to 1",
        )
        _require(
            self.denoiser_form == "full"
            or (self.mask_stride == 2 and self.conditioning == "discrepancy"),
            "model.denoiser_form",
            self.denoiser_form,
            "it is for a mask on half the grid, conditioned by discrepancy; set "
            "model.mask_stride to 2",
        )
        _require_above_0(self, "model.input_scale")
        _require(
            self.architecture == "ddm" or not self.diffusion,
            "model.diffusion",
            self.diffusion,
            f"model.architecture {self.architecture} has no diffusion; set it to false",
        )
        _require(
            self.conditioning != "cross_attention" or self.denoiser_width % 2 == 0,
            "model.denoiser_width",
            self.denoiser_width,
            "must be even for conditioning by cross_attention, which has four heads",
        )


@dataclass(frozen=True)
class DataSettings:
    """What to train on.

    Attributes:
        fold: the split that is tested (and left out of training) where a set has folds.
        subjects: the first so many training subjects; 0 takes all.
        synthetic_share: of training examples, those whose image is painted from the
            subject's own label map, see ``imaging.synthesis_regions``.
        guide: ``level_one`` adds what a coarser model says of the patch, as channels of its
            encoded mask: such a model is the second level of another, see
            ``pipeline.level_two``.
        maps: channels made of the scan: ``inter_intra`` adds the two of arXiv 2405.04974,
            see ``pipeline.inter_intra``.
        normalisation: of each scan, see ``imaging.preprocess_variants``.
        bias_field: N4 before that.
        resample_mm: voxel edge to resample scans to and back from; 0 leaves them alone.
    """

    kind: Literal["label_maps", "hippocampus", "ibsr18"] = "label_maps"
    fold: str = ""
    subjects: int = 0
    spacing_mm: float = 2.0
    patch: tuple[int, ...] = (64, 80, 64)
    augment: bool = True
    skull_strip_probability: float = 0.5
    t1_probability: float = 0.6
    synthetic_share: float = 0.0
    guide: Literal["none", "level_one"] = "none"
    maps: Literal["none", "inter_intra"] = "none"
    normalisation: Literal["robust", "z_score", "min_max", "percentiles"] = "robust"
    bias_field: bool = False
    resample_mm: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        _require_above_0(self, "data.spacing_mm")
        for name in ("subjects", "resample_mm"):
            _require_least(0, self, f"data.{name}")
        _require(
            self.kind == "ibsr18" or not self.fold,
            "data.fold",
            repr(self.fold),
            f"{self.kind} has one split; leave it out",
        )
        for name in ("skull_strip_probability", "t1_probability", "synthetic_share"):
            _require_share(self, f"data.{name}")
        self._check_scans()
        _require(
            len(self.patch) in (2, 3), "data.patch", self.patch, "give one number for each axis"
        )
        _require(
            all(p > 0 and p % 8 == 0 for p in self.patch),
            "data.patch",
            self.patch,
            "each must be a multiple of 8 above 0",
        )

    def _check_scans(self) -> None:
        """Refuse what is done to scans where there are none, and what excludes each other."""
        for name in _OF_SCANS:
            value, default = getattr(self, name), type(self).__dataclass_fields__[name].default
            _require(
                self.kind != "label_maps" or value == default,
                f"data.{name}",
                value,
                "label_maps has no scans; leave it out",
            )
        _require(
            self.guide == "none" or self.kind == "label_maps",
            "data.guide",
            self.guide,
            f"{self.kind} has one level; leave it out",
        )
        _require(
            self.maps == "none" or not self.synthetic_share,
            "data.synthetic_share",
            self.synthetic_share,
            f"maps are of the real scan; with data.maps {self.maps} leave it out",
        )


_OF_SCANS = ("synthetic_share", "maps", "normalisation", "bias_field", "resample_mm")


@dataclass(frozen=True)
class LossSettings:
    """L = L_disc + lambda L_diff, plus the coarse head's own loss.

    Before ``joint_from_step`` the image encoder trains alone with its coarse head, which
    costs less than a joint step. With ``encoders_until_step`` above 0 nothing is joint:
    up to that step both encoders train without the denoiser, from there on they are
    frozen and the denoiser trains alone. With ``freeze_encoders`` it does so from the first
    step, under the encoders of ``training.start_from``. ``encoder_share`` is how much of the
    gradient of L_diff and L_disc reaches the features of f^I: 1 all of it, 0 none, so that
    they are those of the plain network; z_I is made of them by a map that always has all of it.
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
    encoders_until_step: int = 0
    freeze_encoders: bool = False
    encoder_share: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        _require_above_0(self, "loss.temperature")
        for name in ("diffusion_weight", "coarse_weight", "discrepancy_weight", "dice_weight"):
            _require_least(0, self, f"loss.{name}")
        for name in ("joint_from_step", "encoders_until_step"):
            _require_least(0, self, f"loss.{name}")
        for name in (
            "recycling_clean_end",
            "recycling_noise_end",
            "drop_image_probability",
            "encoder_share",
        ):
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
    """The loop.

    ``start_from`` names a shipped model or a weights file: every tensor of the same name
    and shape is taken from there, the others begin fresh.
    """

    start_from: str = ""
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
class RowSettings:
    """What a row of a table is beyond its training.

    Attributes:
        title: in the table.
        weights_of: row whose weights are tested with this row's sampling; empty: own.
        members: rows whose probabilities are averaged; nothing is trained then.
        adapter: program that trains and predicts in place of our networks, see
            ``pipeline.nnunet``; empty: none. Of the other settings it heeds those of the
            data, ``training.steps`` times ``training.batch`` as the examples that it may
            see, and ``training.seed``, ``threads`` and ``device``.
        configuration: of nnU-Net.
    """

    title: str = ""
    weights_of: str = ""
    members: tuple[str, ...] = ()
    adapter: Literal["", "nnunet"] = ""
    configuration: Literal["", "2d", "3d_fullres"] = ""

    def __post_init__(self) -> None:
        """Refuse what does not fit together."""
        _require(
            not (self.weights_of and self.members),
            "row.members",
            self.members,
            "leave it out where row.weights_of is given",
        )
        for name in ("weights_of", "members"):
            value = getattr(self, name)
            _require(
                not (self.adapter and value),
                f"row.{name}",
                value,
                f"leave it out where row.adapter is {self.adapter}, which trains its own",
            )
        _require(
            bool(self.adapter) == bool(self.configuration),
            "row.configuration",
            repr(self.configuration),
            "give 2d or 3d_fullres with row.adapter nnunet, and nothing without",
        )


@dataclass(frozen=True)
class DistillationSettings:
    """Who teaches a student and how, see ``pipeline.distillation``.

    Attributes:
        teacher: name of a shipped model or path of its weights; empty: no distillation.
        method: ``consistency`` and ``progressive`` bring the denoiser from ``teacher_steps``
            to ``sampling.steps``; ``soft_labels`` teaches a network of any size.
        teacher_steps: of each of the teacher's samples.
        teacher_samples: that its soft labels are the mean of, beside the coarse head's; with
            0 that answers alone.
        temperature: by which soft labels are softened, above 0.
        truth_share: of the truth in the loss; the rest is the teacher's.
    """

    teacher: str = ""
    method: Literal["consistency", "progressive", "soft_labels"] = "soft_labels"
    teacher_steps: int = 8
    teacher_samples: int = 0
    temperature: float = 1.0
    truth_share: float = 0.0

    @property
    def of_steps(self) -> bool:
        """Whether steps are saved, rather than parameters."""
        return self.method != "soft_labels"

    def __post_init__(self) -> None:
        """Refuse values out of range, and those that a method has no use for."""
        _require_least(1, self, "distillation.teacher_steps")
        _require_least(0, self, "distillation.teacher_samples")
        _require_above_0(self, "distillation.temperature")
        _require_share(self, "distillation.truth_share")
        for name in ("teacher_samples", "temperature"):
            value, default = getattr(self, name), type(self).__dataclass_fields__[name].default
            _require(
                not self.of_steps or value == default,
                f"distillation.{name}",
                value,
                f"of soft_labels alone; with method {self.method} leave it out",
            )


@dataclass(frozen=True)
class Settings:
    """A whole run: what ``ddmseg train CONFIG.toml`` reads."""

    name: str
    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    row: RowSettings = field(default_factory=RowSettings)
    distillation: DistillationSettings = field(default_factory=DistillationSettings)

    def __post_init__(self) -> None:
        """Refuse what does not fit together."""
        multiple = 2 ** (len(self.model.widths) - 1)
        _require(
            all(p % multiple == 0 for p in self.data.patch),
            "data.patch",
            self.data.patch,
            f"with {len(self.model.widths)} model.widths each must be a multiple of {multiple}",
        )
        _require(
            self.data.maps == "none" or self.model.contrasts == CONTRASTS_WITH_MAPS,
            "model.contrasts",
            self.model.contrasts,
            f"with data.maps {self.data.maps} there are {CONTRASTS_WITH_MAPS}: the scan and two "
            "maps",
        )
        _require(
            self.data.guide == "none" or self.model.contrasts == CONTRASTS_WITH_GUIDE,
            "model.contrasts",
            self.model.contrasts,
            f"with data.guide {self.data.guide} there are {CONTRASTS_WITH_GUIDE}: the scan and "
            "six of the coarser mask",
        )
        _require(
            self.model.guided == (self.data.guide != "none"),
            "model.guided",
            self.model.guided,
            f"with data.guide {self.data.guide} it must be {self.data.guide != 'none'}",
        )
        self._check_adapter()

    def _check_adapter(self) -> None:
        """Refuse what an adapter would pass over: it augments by itself and starts fresh."""
        if not self.row.adapter:
            return
        _require(
            self.data.kind != "label_maps",
            "data.kind",
            self.data.kind,
            f"row.adapter {self.row.adapter} needs real scans: hippocampus or ibsr18",
        )
        for place, value, wanted in (
            ("data.augment", self.data.augment, True),
            ("data.maps", self.data.maps, "none"),
            ("data.synthetic_share", self.data.synthetic_share, 0.0),
            ("training.start_from", self.training.start_from, ""),
        ):
            _require(
                value == wanted,
                place,
                value,
                f"row.adapter {self.row.adapter} has no such choice; leave it out",
            )


def read_settings(path: Path) -> Settings:
    """Read a run's TOML file; unknown keys and wrong types stop with the place named.

    Raises:
        SettingsError: file missing or not TOML, a key unknown, a value not allowed.
    """
    raw = read_toml(path)
    raw.setdefault("name", path.stem)
    return settings_from_dict(Settings, raw)
