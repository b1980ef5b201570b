"""What a distillation is to be: the teacher, and the student's settings.

A settings file says how the student differs. What it leaves out of ``data``, ``loss`` and
``sampling`` is as the teacher was trained; ``model`` and ``training`` are the file's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddmseg.datasets.source import Source
from ddmseg.errors import CheckpointError, SettingsError
from ddmseg.models.checkpoint import Card, load_weights
from ddmseg.models.settings import Settings
from ddmseg.models.settings.retired import without_retired
from ddmseg.models.settings_reader import read_toml, settings_from_dict, settings_to_dict
from ddmseg.models.zoo import model_path
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter

LIGHT = 150_000
"""Parameters that a student of the fast tier should have at most."""

INHERITED = ("data", "loss", "sampling")
"""Tables whose gaps are filled from the teacher."""
OF_THE_RUN = ("joint_from_step", "encoders_until_step", "freeze_encoders")
"""Of the loss, what belongs to the steps of one training and is not inherited."""
SEEN_ALIKE = (
    *(("model", name) for name in ("dims", "contrasts")),
    *(("data", n) for n in ("spacing_mm", "maps", "normalisation", "bias_field", "resample_mm")),
)
"""What decides how a network sees a scan."""


@dataclass(frozen=True)
class Teacher:
    """A trained model that teaches: in eval mode, its weights out of reach of gradients."""

    model: DiscrepancyDiffusionSegmenter
    card: Card
    settings: Settings

    @classmethod
    def load(cls, name: str) -> Teacher:
        """Load a shipped model by name or a trained one by the path of its weights.

        UsageError for an unknown name, CheckpointError for weights damaged or of a baseline.
        """
        model, card = load_weights(model_path(name))
        model.requires_grad_(False)
        return cls(model, card, settings_from_dict(Settings, card.settings))

    def as_dict(self) -> dict[str, str]:
        """Return what a student's card says of it."""
        return {"name": self.card.name, "checksum": self.card.checksum}


def read_plan(path: Path) -> tuple[Settings, Teacher]:
    """Return the student's settings by a file, complete, and the teacher that it names.

    Raises:
        SettingsError: when the file is wrong, or teacher and student do not fit together.
        UsageError, CheckpointError: of the teacher, see :meth:`Teacher.load`.
    """
    raw = without_retired(read_toml(path))
    raw.setdefault("name", path.stem)
    own = settings_from_dict(Settings, raw)
    if not own.distillation.teacher:
        raise SettingsError(
            f"{path}: distillation.teacher: missing; name a shipped model or give the path of "
            "its weights"
        )
    teacher = Teacher.load(own.distillation.teacher)
    settings = settings_from_dict(Settings, _completed(raw, teacher))
    _check_sight(settings, teacher)
    samples = settings.distillation.teacher_samples
    if samples and teacher.model.denoiser is None:
        raise SettingsError(
            f"distillation.teacher_samples: got {samples}; the teacher "
            f"{teacher.card.name} is a plain network and draws none; set it to 0"
        )
    return settings, teacher


def check_labels(teacher: Teacher, source: Source) -> None:
    """Raise CheckpointError for a teacher of other structures than the data have."""
    both = teacher.card.labels, tuple(int(index) for index in source.labels)
    if both[0] != both[1]:
        theirs, ours = (
            f"{len(ids) - 1} structures (FreeSurfer ids {ids[1]} to {ids[-1]})" for ids in both
        )
        raise CheckpointError(
            f"distillation.teacher: {teacher.card.name} knows {theirs} and the data have {ours}; "
            "they must be the same, so name a teacher of these data"
        )


def _completed(raw: dict[str, Any], teacher: Teacher) -> dict[str, Any]:
    """Return the tables of the file with the teacher's settings in their gaps."""
    theirs = settings_to_dict(teacher.settings)
    theirs["loss"] = {k: v for k, v in theirs["loss"].items() if k not in OF_THE_RUN}
    return {**raw, **{table: {**theirs[table], **raw.get(table, {})} for table in INHERITED}}


def _check_sight(settings: Settings, teacher: Teacher) -> None:
    """Refuse a student to which the same scan looks different, or that needs another patch."""
    for table, name in SEEN_ALIKE:
        own, theirs = (getattr(getattr(s, table), name) for s in (settings, teacher.settings))
        if own != theirs:
            raise SettingsError(
                f"{table}.{name}: got {own}; the teacher {teacher.card.name} has {theirs}, and "
                "both must see a scan alike"
            )
    multiple = teacher.model.multiple
    if any(n % multiple for n in settings.data.patch):
        raise SettingsError(
            f"data.patch: got {settings.data.patch}; for the teacher {teacher.card.name} each "
            f"must be a multiple of {multiple}"
        )
