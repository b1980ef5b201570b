"""A subject encoded once: answers lie on its grid and are those of the other paths."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from ddmseg.datasets.source import padded
from ddmseg.datasets.subject import Subject
from ddmseg.errors import CheckpointError, UsageError
from ddmseg.imaging.labels import HIPPOCAMPUS_LABELS
from ddmseg.models.checkpoint import Card, save_weights
from ddmseg.models.settings import DataSettings
from ddmseg.models.settings_reader import settings_to_dict
from ddmseg.networks.sampling import Guidance
from ddmseg.quality.assessment import assess
from ddmseg_lab.comparison.predict import Member, predict
from ddmseg_lab.studies.encoded import EncodedSubject, weighted_mean
from ddmseg_lab.study import noise_of, open_model
from tiny_weights import SLICES, save_tiny
from toys import tiny_model, tiny_settings


@pytest.fixture
def subject(trained):
    return next(iter(trained.source.subjects("test")))


@pytest.fixture
def encoded(trained, subject):
    with torch.inference_mode():
        yield EncodedSubject(trained, subject)


def test_padding_and_cutting_are_inverse(encoded, subject):
    channels = torch.rand(3, *subject.labels.shape)
    whole = encoded._padded(channels)
    assert all(n % 8 == 0 for n in whole.shape[2:])
    assert torch.equal(encoded._cut(whole), channels)


def test_everything_lies_on_the_subjects_grid(encoded, subject):
    grid = subject.labels.shape
    classes = encoded.trained.model.classes
    p = encoded.own_answer(noise_of(0))
    for shares in (p, encoded.coarse(), encoded.sample(noise_of(0))):
        assert shares.shape == (classes, *grid)
        assert torch.allclose(shares.sum(0), torch.ones(grid), atol=1e-5)
    assert encoded.discrepancy(subject.labels).shape == grid
    assert float(encoded.right(encoded.discrepancy(subject.labels)).max()) <= 1


def test_the_cards_answer_is_that_of_the_tables(trained, subject):
    """With plain means, the two ways of joining samples are one."""
    settings = trained.settings
    plain = replace(settings, sampling=replace(settings.sampling, temperature=math.inf))
    with torch.inference_mode():
        here = (
            EncodedSubject(replace(trained, settings=plain), subject)
            .own_answer(noise_of(3))
            .argmax(0)
        )
    there = predict([Member(trained.model, plain)], subject, noise_of(3))
    assert torch.equal(here, there)


def test_the_assessment_is_that_of_a_segmentation(trained):
    image = torch.rand(1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    subject = Subject("s", *padded(image, torch.zeros(16, 16, 16).long()), (1.0, 1.0, 1.0))
    with torch.inference_mode():
        encoded = EncodedSubject(trained, subject)
        p = encoded.own_answer(noise_of(0))
        here = encoded.assess(p)
        encoding = trained.model.encode(image[None])
        there = assess(trained.model, trained.card, encoding, encoded.spent(p))
    assert here.expected_dice == pytest.approx(there.expected_dice)
    assert torch.allclose(here.discrepancy, there.discrepancy)
    assert torch.equal(here.labels, there.labels)


def test_weights_go_from_the_best_to_the_mean(encoded):
    drawn = encoded.samples(noise_of(0), 3)
    D = torch.stack([encoded.discrepancy(p.argmax(0)).mean() for p in drawn])
    assert encoded.weights(drawn, 0.0).argmax() == D.argmin()
    assert torch.allclose(encoded.weights(drawn, math.inf), torch.full((3,), 1 / 3))
    mean = weighted_mean(drawn, torch.full((3,), 1 / 3))
    assert torch.allclose(mean, torch.stack(drawn).mean(0), atol=1e-6)


def test_equal_noise_gives_equal_masks(encoded):
    one, two = (encoded.sample(noise_of(4)) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, encoded.sample(noise_of(5)))


def test_guidance_needs_no_other_mode(encoded):
    free = encoded.sample(noise_of(0))
    pulled = encoded.sample(noise_of(0), guidance=Guidance("energy", 1.0, 0.3))
    assert not torch.equal(free, pulled)
    assert torch.equal(free, encoded.sample(noise_of(0)))


def test_a_withheld_discrepancy_changes_what_is_conditioned_on_it(encoded):
    seen = encoded.sample(noise_of(0))
    assert not torch.equal(seen, encoded.sample(noise_of(0), sees_discrepancy=False))
    assert torch.equal(seen, encoded.sample(noise_of(0)))  # nothing is left behind


def test_what_is_not_conditioned_on_it_stays(trained, subject):
    model = tiny_model(dims=3, classes=3, conditioning="concat")
    with torch.inference_mode():
        encoded = EncodedSubject(replace(trained, model=model), subject)
        seen = encoded.sample(noise_of(0))
        assert torch.equal(seen, encoded.sample(noise_of(0), sees_discrepancy=False))


def test_a_plain_network_is_refused(tmp_path, data_root):
    settings = tiny_settings(dims=3, model={"diffusion": False})
    path = tmp_path / "plain.safetensors"
    network = tiny_model(dims=3, diffusion=False)
    save_weights(network, Card("plain", HIPPOCAMPUS_LABELS, settings_to_dict(settings)), path)
    with pytest.raises(CheckpointError, match="a plain network without diffusion"):
        open_model(str(path), data_root)


def test_a_network_of_slices_is_refused(tmp_path, data_root):
    path = save_tiny(tmp_path, SLICES, (0, 24, 3, 2))
    with pytest.raises(CheckpointError, match="a network of slices; give one in 3-D"):
        open_model(str(path), data_root)


def test_a_model_without_test_scans_is_refused(tmp_path, data_root, monkeypatch):
    monkeypatch.setattr("ddmseg.datasets.label_maps.LabelMapSource.__init__", lambda *_: None)
    path = save_tiny(tmp_path, DataSettings(patch=(16, 16, 16)), (0, 2, 41))
    with pytest.raises(UsageError, match="label_maps has no test scans"):
        open_model(str(path), data_root)
