"""Weights are given the views that their card names, or refused in a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ddmseg.cli.commands.models import describe
from ddmseg.errors import CheckpointError, SettingsError, UsageError
from ddmseg.models.checkpoint import load_weights, read_card, save_weights
from ddmseg.models.settings import DataSettings, SamplingSettings
from ddmseg.training.calibration import calibrate_weights
from ddmseg.training.trainer import Trainer
from tiny_weights import save_tiny
from toys import BoxSource, tiny_settings

LABELS = (0, 17, 53, 16)


def head(spacing_mm: float) -> DataSettings:
    return DataSettings(kind="label_maps", patch=(16, 24, 16), spacing_mm=spacing_mm)


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    return save_tiny(tmp_path, head(2.0), LABELS, name="wide")


Saved = Callable[..., Path]


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    """Weights at 1 mm whose sampling is as asked."""

    def save(labels: tuple[int, ...] = LABELS, **sampling: Any) -> Path:
        path = save_tiny(tmp_path, head(1.0), labels, name="own")
        model, card = load_weights(path)
        own = {**card.settings["sampling"], **sampling}
        save_weights(model, replace(card, settings={**card.settings, "sampling": own}), path)
        return path

    return save


def test_no_view_unless_it_is_asked_for(saved) -> None:
    assert load_weights(saved())[0].views is None


def test_views_as_the_card_names_them(saved, wide) -> None:
    model, card = load_weights(saved(mirrored=True, wide=str(wide)))
    assert card.wide == read_card(wide.with_suffix(".json")).checksum
    assert model.views.own.encoder is model.image_encoder
    assert model.views.own.mirrored
    assert model.views.wide.mirrored
    alone = load_weights(saved(mirrored=True))[0].views
    assert alone.own.mirrored
    assert alone.wide is None


def test_with_other_views_it_is_another_model(saved, wide) -> None:
    chosen = [{}, {"mirrored": True}, {"wide": str(wide)}, {"mirrored": True, "wide": str(wide)}]
    checksums = [load_weights(saved(**views))[1].checksum for views in chosen]
    assert len(set(checksums)) == len(chosen)


def test_a_card_says_what_it_looks_at(saved, wide) -> None:
    told = load_weights(saved(mirrored=True, wide=str(wide)))[1]
    assert told.views == f"the mirrored scan, both by {wide} on half the grid"
    assert f"  views    {told.views}" in describe(told, 1.0)
    alone = load_weights(saved(wide=str(wide)))[1]
    assert alone.views == f"the scan by {wide} on half the grid"
    plain = load_weights(saved())[1]
    assert plain.views == ""
    assert not any("views" in line for line in describe(plain, 1.0))


def test_other_wide_weights_are_refused(saved, wide) -> None:
    path = saved(wide=str(wide))
    model, card = load_weights(wide)
    model.image_encoder.embed.bias.data.add_(1)
    save_weights(model, card, wide)
    with pytest.raises(CheckpointError, match=r"look through \S*wide.safetensors \w+ as well, and"):
        load_weights(path)


def test_wide_weights_that_are_gone_are_told(saved, wide) -> None:
    path = saved(wide=str(wide))
    wide.unlink()
    with pytest.raises(CheckpointError, match="no such weights file"):
        load_weights(path)


@pytest.mark.parametrize(
    ("spacing_mm", "labels"), [(1.0, LABELS), (3.0, LABELS), (2.0, (0, 17, 53))]
)
def test_wide_weights_must_fit(tmp_path, saved, spacing_mm, labels) -> None:
    other = save_tiny(tmp_path, head(spacing_mm), labels, name="other")
    path = saved(wide=str(other))
    with pytest.raises(CheckpointError, match="with the same 4 classes at 2 mm"):
        load_weights(path)


def test_an_unknown_wide_model_is_told_with_those_there_are(saved) -> None:
    with pytest.raises(UsageError, match="anatomy_fast"):
        saved(wide="anatomy_fats")


def test_a_class_without_its_other_side_cannot_be_mirrored(saved) -> None:
    path = saved((0, 17, 16), mirrored=True)
    with pytest.raises(CheckpointError, match="has no other side among its labels"):
        load_weights(path)


def test_a_checksum_of_another_form_is_no_card(saved, wide) -> None:
    path = saved(wide=str(wide)).with_suffix(".json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "wide": "abc"}))
    with pytest.raises(CheckpointError, match="wide: must be a SHA-256"):
        read_card(path)


@pytest.mark.parametrize(
    ("sampling", "dims"),
    [({"mirrored": True}, 2), ({"wide": "anatomy_fast"}, 2), ({"wide": "anatomy_fast"}, 3)],
)
def test_views_that_an_encoder_cannot_take_are_refused(sampling, dims) -> None:
    settings = tiny_settings(dims=dims)
    with pytest.raises(SettingsError, match=f"sampling.{next(iter(sampling))}: .* in 3-D"):
        replace(settings, sampling=SamplingSettings(**sampling))


def test_an_encoder_on_the_image_grid_sees_the_mirrored_crop(tmp_path) -> None:
    data = DataSettings(kind="hippocampus", patch=(16, 24, 16))
    path = save_tiny(tmp_path, data, (0, 232, 231), name="crops")
    model, card = load_weights(path)
    own = {**card.settings["sampling"], "mirrored": True}
    save_weights(model, replace(card, settings={**card.settings, "sampling": own}), path)
    found, told = load_weights(path)
    assert told.views == "the mirrored scan"
    assert told.checksum != card.checksum
    image = torch.randn(1, 1, 16, 24, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        here, there = (found.encode(x).coarse_probabilities for x in (image, image.flip(2)))
        straight = model.encode(image).coarse_probabilities
    torch.testing.assert_close(here, there.flip(2))
    assert not torch.allclose(here, straight)


def views_run(folder: Path, **sampling: Any) -> Trainer:
    blocks = {"encoder_form": "block", "denoiser_form": "light", "mask_stride": 2}
    settings = tiny_settings(dims=3, model=blocks, steps=2, validate_every=2)
    own = replace(settings.sampling, samples=2, **sampling)
    return Trainer(replace(settings, sampling=own), BoxSource(dims=3), folder / "run")


def test_a_run_is_calibrated_with_its_views(tmp_path) -> None:
    run = views_run(tmp_path, mirrored=True)
    run.run()
    path = tmp_path / "run" / "best.safetensors"
    calibrate_weights(path, BoxSource(dims=3), cases=2)
    model, card = load_weights(path)
    assert model.views.own.mirrored
    assert card.calibration["masks"] > 0


def test_a_run_whose_views_cannot_be_stops_before_its_first_step(tmp_path) -> None:
    other = save_tiny(tmp_path, head(2.0), (0, 17, 53, 16), name="other")
    with pytest.raises(CheckpointError, match="with the same 3 classes at 4 mm"):
        views_run(tmp_path, wide=str(other))
