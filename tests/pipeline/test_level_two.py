"""Level 2: where it looks, what it leaves alone, and that no seam shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ddmseg.errors import ScanError, SettingsError, UsageError
from ddmseg.imaging.preprocess import prepare
from ddmseg.imaging.volume import Volume
from ddmseg.maths.encoding import MaskEncoding
from ddmseg.maths.expected_dice import expectation
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.pipeline import refinement
from ddmseg.pipeline.checkpoint import Card
from ddmseg.pipeline.config import DataSettings
from ddmseg.pipeline.ensemble import Answer
from ddmseg.pipeline.inference import Segmenter
from ddmseg.pipeline.level_two import LevelTwo, Refined
from ddmseg.pipeline.options import SegmentOptions
from ddmseg.pipeline.quality.assessment import Assessment
from tiny_weights import save_tiny

PATCH = (16, 16, 16)
AFFINE = np.array([[0, -1.0, 0, 30], [0, 0, 1.0, -20], [1.0, 0, 0, 5], [0, 0, 0, 1.0]])
CODES = MaskEncoding(3)


class Second(DiscrepancyDiffusionSegmenter):
    """Stands for the network: answers class 2 where the image is bright, or what it was told."""

    def __init__(self, *, repeats: bool = False) -> None:
        super().__init__(3, 1 + CODES.channels, 3, widths=(4, 4, 4, 4), embedding=2)
        self.repeats = repeats
        self.views: list[Tensor] = []

    def encode(self, image: Tensor) -> Encoding:
        self.views.append(image)
        if self.repeats:
            logits = ((image[:, 1:] + 1) / 2).clamp(1e-6, 1).log()
        else:
            chosen = torch.where(image[:, :1] > 0.5, 2, 1)
            logits = torch.full((1, 3, *image.shape[2:]), -20.0).scatter(1, chosen, 20.0)
        return Encoding(image, (), image, logits)

    def discrepancy_map(self, encoding: Encoding, labels: Tensor) -> Tensor:
        return torch.full_like(labels[:, None], 0.25, dtype=torch.float32)


def level(model: Second, decides: tuple[int, ...] = ()) -> LevelTwo:
    settings = {
        "data": {"spacing_mm": 1.0, "patch": list(PATCH)},
        "loss": {"temperature": 1.0},
        "sampling": {"decides": list(decides)},
    }
    return LevelTwo(model, Card("fine", (0, 17, 53), settings, "toy", "none"))


@pytest.fixture
def scan() -> Volume:
    """A head of 40 mm with an edge at a third of it, on axes of its own order."""
    data = np.zeros((48, 40, 44), np.float32)
    data[4:44, 4:36, 4:40] = 100.0
    data[4:44, 4:36, 16:40] = 1000.0
    data += np.random.default_rng(0).normal(0, 5, data.shape).astype(np.float32)
    return Volume(np.abs(data), AFFINE, "head", None)


def first_answer(scan: Volume, doubt: float = 1.0):
    """Level 1 says class 1 throughout the head, and doubts one corner of it."""
    prepared = prepare(scan, spacing_mm=2.0, multiple=8)
    shape = prepared.image.shape
    inside = torch.from_numpy(prepared.image > 0.02)
    p = torch.zeros(1, 3, *shape)
    p[0, 1] = torch.where(inside, 0.9, 0.0)
    p[0, 2] = torch.where(inside, 0.1, 0.0)
    p[0, 0] = 1 - p[0].sum(0)
    D = torch.zeros(1, 1, *shape)
    D[..., : shape[0] // 2, : shape[1] // 2, :] = doubt
    labels = p.argmax(1)
    expected = expectation(labels[0], torch.exp(-D)[0, 0], p[0])
    answer = Answer(p, torch.zeros(0), torch.zeros(0, 3), 0)
    return prepared, answer, Assessment(labels, D, expected, expected.mean_dice)


def refine(
    scan: Volume,
    model: Second,
    *,
    doubt: float = 1.0,
    decides: tuple[int, ...] = (),
    **limits: int,
) -> Refined:
    device, first = torch.device("cpu"), first_answer(scan, doubt)
    return level(model, decides).refine(scan, *first, device=device, **limits)


def deep(image: Tensor) -> Tensor:
    """Voxels that are bright with all around them to 3 mm."""
    dark = (image < 0.3).float()[None, None]
    return functional.max_pool3d(dark, 7, stride=1, padding=3)[0, 0] == 0


def test_it_looks_only_where_there_is_doubt(scan):
    model = Second()
    refined = refine(scan, model)
    prepared, answer, assessment = first_answer(scan)
    everywhere = replace(assessment, discrepancy=torch.ones_like(assessment.discrepancy))
    whole = level(Second()).refine(scan, prepared, answer, everywhere, device=torch.device("cpu"))
    assert 0 < refined.patches < whole.patches
    assert len(model.views) == refined.patches
    assert all(view.shape == (1, 1 + CODES.channels, *PATCH) for view in model.views)


def test_without_doubt_nothing_is_looked_at(scan):
    model = Second()
    assert refine(scan, model, doubt=0.0).patches == 0
    assert model.views == []


def test_the_most_doubtful_come_first(scan):
    few, all_of_them = Second(), Second()
    refined = refine(scan, few, patches=2)
    refine(scan, all_of_them)
    assert refined.patches == len(few.views) == 2
    for ours, theirs in zip(few.views, all_of_them.views, strict=False):
        assert torch.equal(ours, theirs)


def test_the_guide_lies_where_level_1_saw_it(scan):
    model = Second()
    refine(scan, model)
    checked = 0
    for view in model.views:
        image, guide = view[0, 0], view[0, 1:]
        expected = torch.tensor([-1.0, 0.8, -0.8])[:, None]  # the mean code of 0, .9 and .1
        assert torch.allclose(guide[:, deep(image)], expected, atol=1e-4)
        checked += int(deep(image).sum())
    assert checked > 1000


def test_the_finer_answer_is_the_finer_one_where_it_looked(scan):
    refined = refine(scan, Second())
    labels = refined.answer.probabilities.argmax(1)[0]
    bright = torch.from_numpy(refined.prepared.image > 0.5)
    doubted = refined.assessment.discrepancy[0, 0] > 0.2
    assert doubted.any()
    # in the middle of what was looked at the edge runs where the image has it
    assert (labels[doubted & bright] == 2).float().mean() > 0.99


def test_what_was_not_looked_at_stays_as_level_1_said(scan):
    refined = refine(scan, Second(), doubt=0.0)
    p = refined.answer.probabilities[0]
    head = deep(torch.from_numpy(refined.prepared.image))
    assert head.sum() > 1000
    assert torch.allclose(p[1][head], torch.tensor(0.9), atol=1e-4)
    assert refined.assessment.discrepancy.max() == 0


def test_two_levels_of_one_mind_leave_no_seam(scan):
    repeated, untouched = refine(scan, Second(repeats=True)), refine(scan, Second(), doubt=0.0)
    assert repeated.patches > 0
    assert torch.allclose(repeated.answer.probabilities, untouched.answer.probabilities, atol=1e-4)


def test_patches_without_a_structure_of_its_own_are_not_looked_at(scan):
    assert refine(scan, Second(), decides=(53,)).patches == 0  # level 1 sees 17 alone
    own, whole = refine(scan, Second(), decides=(17,)), refine(scan, Second())
    assert 0 < own.patches <= whole.patches


def test_structures_that_it_does_not_decide_keep_their_odds(scan):
    """However often a voxel is looked at; and probabilities add up to one."""
    before = refine(scan, Second(), doubt=0.0).answer.probabilities[0]
    refined = refine(scan, Second(), decides=(17,))
    after = refined.answer.probabilities[0]
    changed = (after - before).abs().amax(0) > 0.05
    assert changed.sum() > 1000
    assert torch.allclose(after[0] * before[2], after[2] * before[0], atol=1e-5)
    assert torch.allclose(after.sum(0), torch.ones(after.shape[1:]), atol=1e-5)


def test_the_grid_is_fine_and_leads_back(scan):
    refined = refine(scan, Second())
    assert np.allclose(refined.prepared.grid.spacing_mm, 1.0)
    back = refined.prepared.labels_to_input(refined.answer.probabilities[0], (0, 17, 53))
    assert back.shape == scan.shape
    assert set(np.unique(back[8:40, 8:32, 8:36])) <= {17, 53}


# In the whole


@pytest.fixture
def segmenter(tmp_path) -> Segmenter:
    """A toy of two levels, the second of which finds class 2 where the image is bright."""
    data = DataSettings(kind="label_maps", patch=(32, 32, 32), spacing_mm=2.0)
    whole = Segmenter.load(str(save_tiny(tmp_path, data, (0, 17, 53))), device="cpu")
    whole.second = level(Second())
    return whole


def test_level_2_follows_when_it_is_asked_for(segmenter, scan):
    coarse = segmenter(scan, mode="fast", level="1")
    fine = segmenter(scan, mode="fast", level="2", raw=True)
    told = fine.receipt["level_two"]
    assert told["patches"] > 0
    assert told["expected_wrong_after"] == told["expected_wrong_before"] > 0  # no D has changed
    assert fine.quality.expected_dice == coarse.quality.expected_dice
    assert "level_two" not in coarse.receipt
    assert "refine" in fine.receipt["seconds"]
    assert not np.array_equal(coarse.labels.data, fine.labels.data)
    assert fine.labels.data.shape == fine.discrepancy.shape == scan.shape


@pytest.mark.parametrize(("enough", "refined"), [(0.0, False), (1.1, True)])
def test_auto_refines_what_is_expected_to_be_wanting(segmenter, scan, enough, refined, monkeypatch):
    monkeypatch.setattr(segmenter.answering, "enough", enough)
    result = segmenter(scan)
    assert ("level_two" in result.receipt) == refined
    assert result.quality.samples == 0  # patches come before samples


@pytest.mark.parametrize("level", ["auto", "2"])
@pytest.mark.parametrize("worse", [True, False])
def test_unless_asked_for_level_2_stays_only_where_it_is_expected_to_be_better(
    segmenter, scan, monkeypatch, level, worse
):
    """The toy's discrepancy tells class 2 from class 1, and level 2 changes one to the other."""
    monkeypatch.setattr(refinement, "WORSE", 0.0)
    monkeypatch.setattr(segmenter.answering, "enough", 1.1)
    changed, same = (0.9, 0.1) if worse else (0.1, 0.9)
    coarse = segmenter(scan, mode="fast", level="1", raw=True).labels.data

    def judged(encoding, labels):
        return torch.where(labels == 2, changed, same)[:, None].float()

    monkeypatch.setattr(segmenter.second.model, "discrepancy_map", judged)
    result = segmenter(scan, level=level, raw=True)
    told = result.receipt["level_two"]
    assert told["patches"] > 0
    assert (told["expected_wrong_after"] > told["expected_wrong_before"]) == worse
    kept = np.array_equal(result.labels.data, coarse)
    assert kept == (level == "auto" and worse)


def test_level_2_without_room_is_left_out_or_refused(segmenter, scan, monkeypatch):
    monkeypatch.setattr(segmenter.answering, "enough", 1.1)
    needed = segmenter(scan).receipt["level_two"]["estimated_gb"]
    monkeypatch.setattr(refinement, "memory_for_this_process", lambda: 0.3e9)
    result = segmenter(scan)
    said = f"level 2 needs {needed:.1f} GB of memory and 0.3 GB is there"
    assert result.receipt["level_two"]["left_out"].startswith(said)
    coarse = segmenter(scan, mode="fast", level="1")
    assert np.array_equal(result.labels.data, coarse.labels.data)
    with pytest.raises(ScanError, match="leave it out with --level 1"):
        segmenter(scan, level="2")


def test_steps_and_budgets_are_spent_on_level_1(segmenter, scan, monkeypatch):
    monkeypatch.setattr(segmenter.answering, "enough", 1.1)
    assert "level_two" not in segmenter(scan, steps=1).receipt
    with pytest.raises(SettingsError, match="level: got 2 with a budget"):
        SegmentOptions(level="2", budget=5.0)


def test_samples_of_level_1_are_still_shown(segmenter, scan):
    result = segmenter(scan, mode="diffusion", level="2", steps=2, samples=2, trace=True)
    assert result.sample_labels.shape == (*scan.shape, 2)
    assert result.step_labels.shape == (*scan.shape, 2)
    assert result.quality.samples == 2
    assert result.quality.sample_agreement is not None


def test_a_model_of_one_level_says_so(segmenter, scan):
    segmenter.second = None
    with pytest.raises(UsageError, match="level: got 2; tiny has one level"):
        segmenter(scan, level="2")


def test_the_second_level_lies_beside_the_first(tmp_path):
    data = DataSettings(kind="label_maps", patch=(16, 16, 16), spacing_mm=1.0)
    first = save_tiny(tmp_path, data, (0, 17, 53), name="mine")
    assert Segmenter.load(str(first), device="cpu").second is None
    save_tiny(tmp_path, data, (0, 17, 53), name="mine_fine")
    found = Segmenter.load(str(first), device="cpu").second
    assert found is not None
    assert found.card.name == "mine_fine"


def test_the_second_level_of_other_structures_is_not_taken(tmp_path):
    data = DataSettings(kind="label_maps", patch=(16, 16, 16), spacing_mm=1.0)
    first = save_tiny(tmp_path, data, (0, 17, 53), name="mine")
    save_tiny(tmp_path, data, (0, 17, 18), name="mine_fine")
    assert Segmenter.load(str(first), device="cpu").second is None
