"""A teacher that knows the toys, and settings of a student."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ddmseg.training.curve import Curve
from ddmseg.training.distillation.plan import Teacher, read_plan
from ddmseg.training.trainer import Trainer
from toys import BoxSource, shake, tiny_settings

MakePlan = Callable[..., tuple]

LIGHT_MODEL = """
[model]
dims = 2
widths = [4, 4, 4]
embedding = 1
mask_width = 2
denoiser_width = 2
"""

CONFIG = """
name = "student"

[distillation]
teacher = "{teacher}"
teacher_steps = 4
{distillation}

[sampling]
steps = {steps}

[training]
steps = 10
batch = 2
learning_rate = 0.01
warmup_steps = 2
validate_every = 5
validation_cases = 2
workers = 0
device = "cpu"
threads = 1
ema = 0.5
precision = "single"
{rest}
"""


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing the curve takes longer than a toy run."""
    monkeypatch.setattr(Curve, "_draw", lambda self: None)


@pytest.fixture(scope="session")
def teacher_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that find the boxes, and whose steps differ from each other."""
    folder = tmp_path_factory.mktemp("teacher")
    settings = tiny_settings(steps=60, validate_every=60, ema=0.9, batch=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Curve, "_draw", lambda self: None)
        trainer = Trainer(settings, BoxSource(), folder)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            shake(trainer.model.denoiser.step_head or trainer.model.denoiser.fine_head.logits)
        return trainer.run()


@pytest.fixture
def teacher(teacher_path: Path) -> Teacher:
    return Teacher.load(str(teacher_path))


@pytest.fixture
def make_plan(teacher_path: Path, tmp_path: Path) -> MakePlan:
    """Write a student's settings file and read it with its teacher."""

    def make(
        *,
        distillation: str = "",
        rest: str = LIGHT_MODEL,
        steps: int = 1,
        teacher: Path | str = teacher_path,
    ) -> tuple:
        path = tmp_path / "student.toml"
        text = CONFIG.format(teacher=teacher, distillation=distillation, rest=rest, steps=steps)
        path.write_text(text)
        return read_plan(path)

    return make
