"""A model too small to know anything, and the real command: fixtures of every test that runs it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from ddmseg.cli.main import main
from ddmseg.inference.cache import CACHE_VARIABLE, LIMIT_VARIABLE
from ddmseg.models.checkpoint import Card, build_model, save_weights
from ddmseg.models.settings import (
    DataSettings,
    ModelSettings,
    SamplingSettings,
    Settings,
)
from ddmseg.models.settings_reader import settings_to_dict
from tiny_weights import BLOCKS, SIZES

LABELS = (0, 2, 41, 53)


@dataclass(frozen=True)
class Outcome:
    """What one run of the command gave."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines of stderr that report an error."""
        return [line for line in self.err.splitlines() if line.startswith("error: ")]

    @property
    def error(self) -> str:
        """The one error line."""
        (line,) = self.errors
        assert "Traceback" not in self.err
        return line.removeprefix("error: ")


Ddmseg = Callable[..., Outcome]


def run_quietly(*words: object) -> Outcome:
    """Run the command in this process, as a fixture of a whole module must."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return Outcome(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights drawn at random for four labels."""
    torch.manual_seed(0)
    settings = Settings(
        name="tiny",
        model=ModelSettings(**BLOCKS, **{**SIZES, "widths": (4, 8, 16)}),
        data=DataSettings(spacing_mm=8.0, patch=(32, 32, 32)),
        sampling=SamplingSettings(steps=2, samples=2),
    )
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    card = Card("tiny", LABELS, settings_to_dict(settings))
    save_weights(build_model(settings.model, len(LABELS)), card, path)
    return path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the cache of the user or of another test."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "feature cache"))
    monkeypatch.delenv(LIMIT_VARIABLE, raising=False)


@pytest.fixture
def ddmseg(capsys: pytest.CaptureFixture[str]) -> Ddmseg:
    """Run the command in this process."""

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture
def segment(ddmseg: Ddmseg, tiny_model: Path) -> Ddmseg:
    """Run ``ddmseg segment`` with the tiny model."""

    def run(*words: object) -> Outcome:
        return ddmseg("segment", *words, "--model", tiny_model)

    return run
