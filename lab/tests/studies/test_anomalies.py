"""What is painted lies where it should and looks as it should; what is told of it, by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ddmseg.imaging.volume import LabelMap, Volume
from ddmseg.models.checkpoint import read_card
from ddmseg.models.zoo import model_path
from ddmseg.quality.plausibility import UNLIKE_ML
from ddmseg.quality.segmentation import Quality, Segmentation
from ddmseg.quality.standing_out import StandingOut
from ddmseg.randomness import seeded
from ddmseg_lab.studies import anomalies, painted_heads
from ddmseg_lab.studies.painted_heads import EMPTIED, INTACT, KINDS, PAINTED, REAL, TEST, Scan
from ddmseg_lab.study import short_checksum

pytestmark = pytest.mark.usefixtures("quick_intervals")

FLUID, GREY, WHITE = 20.0, 60.0, 100.0
SHAPE = (48, 40, 40)
CARDS = {name: read_card(model_path(name).with_suffix(".json")) for name in anomalies.MODELS}


@pytest.fixture(scope="module")
def head() -> tuple[Volume, np.ndarray]:
    """Two halves of white matter with a rind of cortex, and a ventricle in each."""
    labels = np.zeros(SHAPE, np.int32)
    for low, high, white, cortex, ventricle in ((4, 24, 41, 42, 43), (24, 44, 2, 3, 4)):
        labels[low:high, 4:36, 4:36] = cortex
        labels[low + 2 : high - 2, 6:34, 6:34] = white
        middle = (low + high) // 2
        labels[middle - 2 : middle + 2, 16:26, 16:26] = ventricle
    image = np.zeros(SHAPE, np.float32)
    for level, ids in ((WHITE, (2, 41)), (GREY, (3, 42)), (FLUID, (4, 43))):
        image[np.isin(labels, ids)] = level
    noise = np.random.default_rng(0).normal(size=SHAPE)
    return Volume((image + noise).astype(np.float32), np.diag([1.0, 1.0, 1.0, 1.0])), labels


def painted(head: tuple[Volume, np.ndarray], kind: str, seed: int = 1):
    volume, labels = head
    return painted_heads.paint(volume, labels, kind, 1.0, seeded(seed, 0))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_painted_has_its_volume_within_one_side(head, kind: str) -> None:
    new, mask = painted(head, kind)
    ids = set(np.unique(head[1][mask]))
    assert 800 < mask.sum() <= 1000
    assert ids <= {2, 3} or ids <= {41, 42}
    changed = np.abs(new.data - head[0].data) > 1e-3
    assert changed[mask].mean() > 0.95
    box = tuple(slice(max(0, a.min() - 6), a.max() + 7) for a in np.nonzero(mask))
    changed[box] = False
    assert not changed.any()


def test_each_kind_looks_as_it_is_named(head) -> None:
    look = painted_heads.levels(head[0].data, head[1])
    assert (look.fluid, look.grey, look.white) == pytest.approx((FLUID, GREY, WHITE), abs=2)
    assert look.noise == pytest.approx(1, abs=0.3)
    median = {}
    for kind in KINDS:
        new, mask = painted(head, kind)
        median[kind] = float(np.median(new.data[mask]))
        if kind == "ring":
            assert np.percentile(new.data[mask], 90) > WHITE
    assert median["cavity"] == pytest.approx(FLUID, abs=8)  # with its soft border
    assert FLUID < median["mass"] < GREY + 10


def test_a_seed_fixes_the_place(head) -> None:
    first, again, other = (painted(head, "mass", seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[0].data, again[0].data)
    assert not np.array_equal(first[1], other[1])


def test_an_emptied_half_is_fluid_and_the_other_is_untouched(head) -> None:
    new = painted_heads.emptied(*head).data
    left = np.isin(head[1], (2, 3, 4))
    left[:26] = False  # the border is soft
    assert np.median(new[left]) == pytest.approx(FLUID, abs=2)
    np.testing.assert_allclose(new[:20], head[0].data[:20], atol=1e-3)


def row(
    name: str,
    of: str,
    head: str,
    kind: str,
    ml: float,
    unlike: float,
    *,
    missing: float = 0.0,
    reasons: str = "",
):
    values = {
        **{
            "weights": short_checksum(CARDS[name]),
            "set": of,
            "head": head,
            "person": head,
            "kind": kind,
        },
        **{"ml": f"{ml:g}", "unlike_ml": unlike, "structure": "CSF", "missing_ml": missing},
        "reasons": reasons,
    }
    return {column: str(value) for column, value in values.items()}


def rows() -> list[dict[str, str]]:
    """Two heads; a mass of 10 ml is seen in both, one cavity looks like an intact head."""
    found = []
    for head, intact, cavity in (("a", 0.2, 0.2), ("b", 1.1 * UNLIKE_ML, 2 * UNLIKE_ML)):
        of = anomalies.MODELS[0]
        found.append(row(of, PAINTED, head, INTACT, 0, intact))
        found.append(row(of, PAINTED, head, "mass", 10, 9, reasons="unlike_structure"))
        found.append(row(of, PAINTED, head, "cavity", 10, cavity, missing=0.5))
        found.append(row(of, TEST, f"t{head}", INTACT, 0, 0.1))
    found.append(row(anomalies.MODELS[0], REAL, "p", "vestibular schwannoma", 0, 2))
    found.append(row(anomalies.MODELS[0], PAINTED, "a", EMPTIED, 0, 3, reasons="asymmetric"))
    return found


@pytest.fixture(scope="module")
def found(quick_intervals: None) -> dict[str, object]:
    """The summary of them, as the page gets it."""
    model = {"name": "m", "weights": "w", "trained_steps": 1, "batch": 2}
    return {"models": {"m": model}, **anomalies.summarise(rows(), CARDS)}


def test_aurocs_and_what_is_told_are_by_hand(found) -> None:
    of = found["results"][anomalies.MODELS[0]]
    assert of["painted"]["mass"]["10"]["auroc"]["mean"] == 1
    # By looks, of four pairs the cavity wins two, ties one and loses one; by both it wins three.
    assert of["painted"]["cavity"]["10"]["by_looks"]["mean"] == pytest.approx(2.5 / 4)
    assert of["painted"]["cavity"]["10"]["auroc"]["mean"] == pytest.approx(3 / 4)
    assert of["intact"]["scores"] == pytest.approx([0.2 / UNLIKE_ML, 1.1])
    assert of["painted"]["cavity"]["10"]["told"] == 1
    assert (of["intact"]["told"], of["intact"]["any_reason"]) == (1, 0)
    assert of["painted"]["mass"]["10"]["any_reason"] == 2
    assert of["test"]["share"]["mean"] == 0
    assert [one["kind"] for one in of["real"]] == ["vestibular schwannoma", EMPTIED]


def test_a_model_without_rows_is_left_out(found) -> None:
    assert list(found["results"]) == [anomalies.MODELS[0]]


def test_the_chapter_shows_them(found) -> None:
    section = anomalies.CHAPTER.section(found)
    text = "\n".join(section.body)
    assert "| cavity, 10 ml | 1 of 2 |" in text
    assert "2 T1 heads of 2 persons" in text
    assert "| a | hemisphere emptied | 3.00 | CSF | 0.00 | asymmetric |" in text
    by_name = {claim.target.what: claim.value for claim in section.claims}
    assert by_name["`anatomy_fast`: AUROC of a painted cavity of 10 ml"] == 0.75
    assert by_name["`anatomy`: AUROC of a painted cavity of 10 ml"] is None
    assert len(anomalies.figure(found).axes) == 1


def test_without_a_record_every_target_stands_unmeasured() -> None:
    claims = anomalies.CHAPTER.section(None).claims
    assert len(claims) == 10
    assert all(claim.measured is None for claim in claims)


def test_limits_of_a_development_head_are_those_of_other_persons(head) -> None:
    scan, flat = head[0], np.zeros(SHAPE, np.float32)
    labels = LabelMap(np.where(head[1] == 4, 2, head[1]), scan.affine)  # fluid called white
    quality = Quality("pass", 0.8, {}, [], 0, 0)
    found = StandingOut(flat > 0, [], 0.5, 3)
    result = Segmentation(scan, labels, flat, flat, [], quality, {}, standing_out=found)
    wide, tight = ({"intensity": {"Left-Cerebral-White-Matter": ml}} for ml in (1e6, 1e-3))
    judge = anomalies.Judge.__new__(anomalies.Judge)
    judge.usual = {"a": [wide], "b": [tight]}
    assert judge.unlike(result, "nobody of these") == (0.5, 3)
    assert judge.unlike(result, "a")[0] > 0.2  # against b
    assert judge.unlike(result, "b")[0] == 0  # against a


def test_every_head_comes_intact_and_with_each_thing(tmp_path, monkeypatch) -> None:
    case = SimpleNamespace(identifier="1", group="1", images=(Path("1.nii.gz"),))
    monkeypatch.setattr(painted_heads, "HEADS", SimpleNamespace(cases=lambda split, data: [case]))
    for name in ("scans", "open_ms", "dicom"):
        (tmp_path / name).mkdir()
    of = list(painted_heads.scans(str(tmp_path)))
    assert sum(one.kind == INTACT for one in of) == 3
    assert sum(one.kind in KINDS for one in of) == 3 * len(KINDS) * len(painted_heads.SIZES_ML)
    assert sum(one.set == REAL for one in of) == 7
    assert len(list(painted_heads.scans(str(tmp_path), test=True))) == len(of) + 1


def test_an_intact_scan_is_opened_as_it_is(tmp_path, head, monkeypatch) -> None:
    monkeypatch.setattr(painted_heads, "read_volume", lambda path: head[0])
    scan = Scan(PAINTED, "a", "a", INTACT, 0.0, Path("a.nii.gz"))
    assert painted_heads.opened(scan, lambda volume: head[1]) is head[0]
    mass = painted_heads.opened(
        Scan(PAINTED, "a", "a", "mass", 2.0, Path("a.nii.gz")), lambda volume: head[1]
    )
    assert (mass.data != head[0].data).any()
