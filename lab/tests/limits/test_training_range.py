"""The range of training, from a few examples and from real crops."""

from __future__ import annotations

import json

import pytest
import torch

from ddmseg.models.checkpoint import Card, save_weights
from ddmseg.models.settings import DataSettings, ModelSettings, Settings
from ddmseg.models.settings_reader import settings_to_dict
from ddmseg_lab.limits.training_range import of_examples, run
from ddmseg_lab.study import ModelOptions
from toys import tiny_model


def card_of(kind: str = "hippocampus", *, fails: float = 0.0) -> Card:
    data = DataSettings(kind=kind, patch=(32, 32, 32))
    model = ModelSettings(widths=(4, 8, 8), embedding=2, mask_width=4, denoiser_width=4)
    usual = {"expected_dice": fails + 0.2, "structures": {}, "scans": 1}
    settings = settings_to_dict(Settings(name="tiny", data=data, model=model))
    return Card("tiny", (0, 232, 231), settings, calibration={"usual": usual})


@torch.inference_mode()
def test_examples_that_the_model_does_not_cope_with_are_left_out() -> None:
    model = tiny_model(dims=3)
    image = torch.randn(1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    classes = model.encode(image[None]).coarse_logits.argmax(1)[0]
    assert classes.any()
    right, wrong = (image, classes), (image, (classes + 1) % 3)
    found = list(of_examples(model, card_of(fails=0.99), [right, wrong, right]))
    assert len(found) == 2
    assert set(found[0].intensities) == {"p05", "p50", "p95"}


def test_the_card_of_a_hippocampus_model_is_written(
    tmp_path, data_folder, capsys, monkeypatch
) -> None:
    if not (data_folder / "hippocampus").is_dir():
        pytest.skip("the hippocampus data are not in DDMSEG_DATA")
    monkeypatch.setattr("ddmseg_lab.limits.training_range.AUGMENTED", 3)
    path = tmp_path / "tiny.safetensors"
    before = save_weights(tiny_model(dims=3), card_of(), path)
    run(ModelOptions(model=str(path), data=str(data_folder), cases=4))
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["checksum"] == before.checksum
    told = card["calibration"]["training_range"]
    assert (told["examples"], told["thickest_mm"]) == (8, 1.5)
    assert card["calibration"]["usual"] == before.calibration["usual"]
    assert capsys.readouterr().out.startswith("tiny: 8 examples, voxels to 1.5 mm")
