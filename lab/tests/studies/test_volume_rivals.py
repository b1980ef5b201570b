"""What rivals say: moments by hand, perturbed copies of a known ball, heads by their formula."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ddmseg.imaging.volume import Volume
from ddmseg.models.checkpoint import load_weights
from ddmseg.models.settings import DataSettings
from ddmseg.randomness import seeded
from ddmseg_lab.made_up_heads import INTACT
from ddmseg_lab.studies import volume_heads as heads_
from ddmseg_lab.studies import volume_rivals as rivals
from ddmseg_lab.studies import volume_scans
from tiny_weights import save_tiny

GRID = (16, 24, 16)
LABELS = (0, 2, 41, 3, 42, 17, 53, 16)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> rivals.EncodedHead:
    """A random image and a tiny model of seven structures."""
    data = DataSettings(kind="label_maps", patch=GRID, spacing_mm=2.0)
    model, card = load_weights(save_tiny(tmp_path_factory.mktemp("tiny"), data, LABELS))
    image = torch.rand((1, 1, *GRID), generator=seeded(0, 0))
    return rivals.EncodedHead(model, card, image, 3)


def ball(radius: float, *, at: float = 0.0) -> Tensor:
    """A smooth ball, shifted along the first axis."""
    i, j, k = torch.meshgrid(*[torch.arange(48.0) - 23.5] * 3, indexing="ij")
    distance = ((i - at).square() + j.square() + k.square()).sqrt()
    return torch.sigmoid(4 * (radius - distance))[None, None]


def test_mean_and_deviation_of_weighed_answers() -> None:
    said = rivals.joined([torch.tensor([1000.0, 10.0]), torch.tensor([1000.0, 20.0])])
    assert said.centre.tolist() == [1000, 15]
    assert said.spread.tolist() == pytest.approx([0, math.log(2) / math.sqrt(2)])
    assert said.effective == pytest.approx(2)


def test_an_answer_without_weight_does_not_count() -> None:
    counts = [torch.tensor([n]) for n in (100.0, 110.0, 999.0)]
    some = rivals.joined(counts, torch.tensor([0.5, 0.5, 0.0]).double())
    assert torch.allclose(some.spread, rivals.joined(counts[:2]).spread)
    assert rivals.joined(counts, torch.tensor([1.0, 0.0, 0.0]).double()).effective == 1


def test_a_structure_that_is_not_found_has_a_spread() -> None:
    assert rivals.joined([torch.zeros(1), torch.ones(1)]).spread.tolist() == [0]
    assert rivals.joined([torch.zeros(1), torch.tensor([50.0])]).spread > 1


@pytest.mark.parametrize("number", range(4))
def test_a_perturbed_ball_has_its_volume_after_undoing(number: int) -> None:
    image = ball(14)
    copy, per_voxel = rivals.perturbation(image, seeded(1, number), mirrored=False)
    found = float((copy > 0.5).sum()) * per_voxel
    assert found == pytest.approx(float((image > 0.5).sum()), rel=0.04)
    assert per_voxel != 1


def test_a_mirrored_copy_is_on_the_other_side() -> None:
    image = ball(6, at=10.0)
    same, _ = rivals.perturbation(image, seeded(1, 0), mirrored=False)
    other, _ = rivals.perturbation(image, seeded(1, 0), mirrored=True)
    assert same[0, 0, 24:].sum() > 0.9 * same.sum()
    assert torch.equal(other.flip(2), same)


@torch.inference_mode()
def test_every_rival_says_something_of_every_class(head: rivals.EncodedHead) -> None:
    nets = heads_.rival_heads(head.model.image_encoder, len(head.card.labels))
    total = math.prod(head.encoding.coarse.shape[2:])
    for name, rival in {**rivals.RIVALS, **heads_.trained_rivals(nets)}.items():
        said, again = rivals.timed(rival, head), rival(head)
        assert torch.equal(said.centre, again.centre), name  # the generator is the scan's own
        assert (said.spread >= 0).all()
        assert float(said.centre.sum()) == pytest.approx(total, rel=0.3)
        assert said.seconds > 0


@torch.inference_mode()
def test_rows_hold_the_features_of_their_voxels(head: rivals.EncodedHead) -> None:
    encoding = head.encoding
    i, j, k = 5, 3, 7
    _, rows, columns = encoding.coarse.shape[2:]
    (row,) = heads_.rows_of(encoding, torch.tensor([(i * rows + j) * columns + k]))
    places = encoding.pyramid[0][0, :, 2, 1, 3], encoding.stem[0, :, 2, 1, 3]
    corner = torch.zeros(heads_.PLACES)
    corner[0b111] = 1  # odd along every axis
    torch.testing.assert_close(row[: -len(LABELS)], torch.cat([*places, corner]))
    probabilities = torch.softmax(row[-len(LABELS) :], dim=0)
    torch.testing.assert_close(probabilities, encoding.coarse[0, :, i, j, k], atol=1e-3, rtol=0.0)


def test_a_draw_of_the_gaussian_is_its_factor_times_noise() -> None:
    net = heads_.RowHead(3, 2, 4, rank=5)
    rows, mean = torch.rand(6, 3 + 2 + 4), torch.rand(6, 4)
    assert net.factor is not None
    w = torch.randn(5, generator=seeded(0, 1))
    P = net.factor(rows[:, :3]).reshape(6, 4, 5)
    assert torch.allclose(net.drawn(mean, rows, seeded(0, 1)), mean + P @ w, atol=1e-6)


def test_a_head_corrects_the_coarse_logits() -> None:
    net = heads_.RowHead(3, 2, 4)
    torch.nn.init.zeros_(net.logits.weight)
    torch.nn.init.zeros_(net.logits.bias)
    rows = torch.rand(6, 3 + 2 + 4)
    assert torch.equal(net(rows, seeded(0, 0)), rows[:, 5:])


def test_one_dropout_mask_for_all_voxels() -> None:
    net = heads_.RowHead(3, 2, 4, dropout=0.5)
    rows = torch.rand(1, 9).expand(6, 9)
    first, second = net(rows, seeded(0, 0)), net(rows, seeded(0, 1))
    assert torch.allclose(first, first[:1].expand(6, 4))
    assert not torch.allclose(first, second)


def test_the_loss_of_a_gaussian_without_spread_is_the_cross_entropy() -> None:
    net = heads_.RowHead(3, 2, 4, rank=2)
    assert net.factor is not None
    torch.nn.init.zeros_(net.factor.weight)
    torch.nn.init.zeros_(net.factor.bias)
    rows, labels = torch.rand(6, 9), torch.tensor([0, 1, 2, 3, 0, 1])
    plain = torch.nn.functional.cross_entropy(net(rows, seeded(0, 0)), labels)
    assert torch.allclose(heads_.loss_of(net, rows, labels, seeded(0, 0)), plain)


def test_heads_learn_and_come_back_from_their_file(
    head: rivals.EncodedHead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = torch.zeros(GRID, dtype=torch.long)
    labels[4:12, 6:18, 4:12] = 2

    def same(card: object, data: object) -> object:
        while True:
            yield head.image[0], labels

    monkeypatch.setattr(heads_, "patches", same)
    path = tmp_path / "heads.safetensors"
    nets = heads_.heads_of(head.model, head.card, None, path, steps=12)
    before = heads_.rival_heads(head.model.image_encoder, len(head.card.labels))
    with torch.no_grad():
        places = torch.arange(labels.numel())
        rows = heads_.rows_of(head.model.encode(head.image), places)
        for name, net in nets.items():
            losses = [
                float(heads_.loss_of(one, rows, labels.flatten(), seeded(0, 0)))
                for one in (before[name], net)
            ]
            assert losses[1] < 0.95 * losses[0], name
    again = heads_.heads_of(head.model, head.card, None, path)
    for name, net in nets.items():
        for one, other in zip(net.parameters(), again[name].parameters(), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("kind", volume_scans.DEGRADED)
def test_a_degraded_scan_keeps_its_grid_and_is_the_same_again(kind: str) -> None:
    image = 100 * ball(14)[0, 0].numpy()
    scan = Volume(image, torch.eye(4).double().numpy(), "ball", None)
    bad = volume_scans.degraded(scan, kind, seeded(0, 0))
    assert bad.shape == scan.shape
    assert (bad.data == volume_scans.degraded(scan, kind, seeded(0, 0)).data).all()
    assert abs(bad.data - scan.data / 100).max() > 1e-3
    assert volume_scans.degraded(scan, INTACT, seeded(0, 0)) is scan
