"""From a file to scores on its own grid, for the DDM and for the plain network."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ddmseg.datasets.case import Case
from ddmseg.errors import UsageError
from ddmseg.imaging.labels import HIPPOCAMPUS_LABELS, protocol_map, remap
from ddmseg.models.checkpoint import Card, load_weights, save_weights
from ddmseg.models.settings import DataSettings, Settings
from ddmseg.models.settings_reader import settings_to_dict
from ddmseg_lab.studies import hippocampus as bench
from ddmseg_lab.table import RawTable
from toys import tiny_model, tiny_settings

SHAPE = (15, 18, 14)


def crop_settings(*, diffusion: bool) -> Settings:
    toy = tiny_settings(dims=3, model={"diffusion": diffusion})
    data = DataSettings(kind="hippocampus", spacing_mm=1.0, patch=(16, 16, 16))
    return Settings("toy", toy.model, data, toy.loss, toy.sampling, toy.training)


def saved(folder: Path, *, diffusion: bool) -> Path:
    path = folder / f"{'ddm' if diffusion else 'plain'}.safetensors"
    card = Card("toy", HIPPOCAMPUS_LABELS, settings_to_dict(crop_settings(diffusion=diffusion)))
    save_weights(tiny_model(dims=3, diffusion=diffusion), card, path)
    return path


@pytest.fixture
def case(tmp_path) -> Case:
    """A crop with both structures, whose axes run right to left."""
    truth = np.zeros(SHAPE, np.uint8)
    truth[4:10, 9:14, 4:9], truth[4:10, 4:9, 4:9] = 1, 2
    image = 100.0 * truth + np.random.default_rng(0).normal(0, 5, SHAPE)
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    for name, data in (("image", image.astype(np.float32)), ("labels", truth)):
        nib.save(nib.Nifti1Image(data, affine), tmp_path / f"{name}.nii.gz")
    return Case("one", (tmp_path / "image.nii.gz",), tmp_path / "labels.nii.gz", "one")


def truth_of(case: Case) -> np.ndarray:
    labels = np.asarray(nib.load(case.labels).dataobj)
    return remap(labels, protocol_map("hippocampus"))


def test_the_manual_labels_score_1(case):
    found = bench.score(case, (truth_of(case), 0.9))
    assert found["anterior_dice"] == found["posterior_dice"] == found["dice"] == 1.0
    assert found["hd95_mm"] == 0.0
    assert found["expected_dice"] == 0.9


def test_each_structure_is_scored_on_its_own(case):
    labels = truth_of(case)
    labels[labels == bench.STRUCTURES["posterior"]] = 0
    found = bench.score(case, (labels, math.nan))
    assert found["anterior_dice"] == 1.0
    assert found["posterior_dice"] == 0.0
    assert found["posterior_hd95_mm"] == math.inf
    assert found["dice"] == 0.5


def test_every_way_to_sample_answers_on_the_grid_of_the_file(case, tmp_path):
    methods = bench.ddm_methods(*load_weights(saved(tmp_path, diffusion=True)))
    names = [f"{kind}_{n}{x}" for n in bench.STEPS for kind, x in (("ddm", "x8"), ("sample", ""))]
    assert list(methods) == ["fast", *names]
    for name in ("fast", "ddm_1x8", "sample_5"):
        labels, expected_dice = methods[name].segment(case.images[0])
        assert labels.shape == SHAPE
        assert set(np.unique(labels)) <= set(HIPPOCAMPUS_LABELS)
        assert 0 <= expected_dice <= 1


def test_single_samples_leave_the_coarse_head_out(tmp_path):
    _, card = load_weights(saved(tmp_path, diffusion=True))
    alone = bench._without_coarse(card)
    assert alone.settings["sampling"]["coarse_share"] == 0.0
    assert card.settings["sampling"]["coarse_share"] > 0.0


def test_the_plain_network_answers_like_the_coarse_head_of_equal_weights(case, tmp_path):
    model, card = load_weights(saved(tmp_path, diffusion=True))
    path = tmp_path / "plain.safetensors"
    plain = tiny_model(dims=3, diffusion=False)
    shared = {name: w for name, w in model.state_dict().items() if name in plain.state_dict()}
    plain.load_state_dict(shared)
    settings = settings_to_dict(crop_settings(diffusion=False))
    save_weights(plain, Card("toy", HIPPOCAMPUS_LABELS, settings), path)
    method = bench.plain_method(path)
    fast, _ = bench.ddm_methods(model, card)["fast"].segment(case.images[0])
    np.testing.assert_array_equal(method.segment(case.images[0])[0], fast)


def test_a_network_with_diffusion_is_no_plain_one(tmp_path):
    with pytest.raises(UsageError, match="a network with diffusion; --plain takes one without"):
        bench.plain_method(saved(tmp_path, diffusion=True))


def test_what_was_measured_is_not_measured_again(case, tmp_path):
    asked: list[Path] = []

    def segment(path: Path) -> bench.Prediction:
        asked.append(path)
        return truth_of(case), 1.0

    card = Card("toy", HIPPOCAMPUS_LABELS, {}, checksum="aaa")
    for _ in range(2):
        table = RawTable(tmp_path / "raw.tsv", bench.COLUMNS, ["aaa"])
        bench.measure([case], {"fast": bench.Method(card, segment)}, table)
    assert len(asked) == 1
    assert len(table.rows) == 1
