"""Reasons are sentences that carry a code, and the code says the same as the sentence."""

from __future__ import annotations

import copy
import json
import re
from importlib import resources

import nibabel as nib
import numpy as np
import pytest

from ddmseg.imaging.nifti_header import mended, place
from ddmseg.imaging.postprocess import Cleaning
from ddmseg.imaging.transforms import Step
from ddmseg.imaging.volume import Volume
from ddmseg.models.checkpoint import Card
from ddmseg.quality.assessment import _dice
from ddmseg.quality.plausibility import empty_slices, implausible, turned, unlike
from ddmseg.quality.reasons import (
    ANATOMY,
    RESULT,
    SUBJECTS,
    Reason,
    about_structures,
    on_side,
    reason_code,
    subject,
)
from ddmseg.quality.segmentation import Quality, StructureVolume
from ddmseg.quality.standing_out import StandingOut
from ddmseg.quality.training_range import Profile, outside_training
from toy_head import two_sided_brain

I18N = resources.files("ddmseg.review") / "static" / "i18n"
LEFT, RIGHT = "Left-Hippocampus", "Right-Hippocampus"


def words(language: str) -> dict[str, str]:
    return json.loads((I18N / f"{language}.json").read_text(encoding="utf-8"))


def in_words(told: dict, text: dict[str, str]) -> str:
    """Say a code as the page does, but for the names of structures."""
    code, values = told["code"], dict(told["values"])
    for name, value in values.items():
        if name.startswith("dice"):
            values[name] = f"{value:.2f}"
        elif name in ("side", "face"):
            values[name] = text[f"reason.{name}.{value}"]
        elif isinstance(value, float):
            values[name] = f"{value:g}"
    if code == "on_side":
        values["reason"] = in_words(values["reason"], text)
    if "structures" in values:
        item = text[f"reason.{code}.item"]
        listed = []
        for one in values["structures"]:
            shown = {k: f"{v:g}" if isinstance(v, int | float) else v for k, v in one.items()}
            if "face" in one:
                shown["face"] = text[f"reason.face.{one['face']}"]
            if "dice" in one:
                shown["dice"] = f"{one['dice']:.2f}"
            if code == "asymmetric":
                shown["name"] = one["name"].removeprefix("Left-")
            listed.append(item.format(**shown))
        more = text["reason.more"].format(count=values["more"]) if values["more"] else ""
        values["structures"] = text["reason.comma"].join(listed) + more
    return text[f"reason.{code}"].format(**values)


def test_every_code_is_about_one_subject_and_the_lists_name_no_other() -> None:
    codes = {
        key.split(".")[1]
        for key in words("en")
        if key.startswith("reason.") and "{" in words("en")[key]
    } | {"nothing_found", "qform_damaged", "sides_unknown"}
    assert not ANATOMY & RESULT
    assert codes >= ANATOMY | RESULT


def test_a_side_is_about_what_its_reason_is_about() -> None:
    large = Reason("unusually large: CSF", "volumes_large", {})
    assert subject(on_side("left", large)) == "anatomy"
    assert subject(on_side("left", "it is odd")) == "scan"


@pytest.mark.parametrize(
    ("verdict", "codes", "apart"),
    [
        ("pass", (), ("pass", "pass", "pass")),
        ("warn", ("thick_slices",), ("warn", "pass", "pass")),
        ("warn", ("volumes_large", "holes"), ("pass", "warn", "warn")),
        ("fail", ("asymmetric",), ("pass", "warn", "fail")),
        ("fail", ("thick_slices", "expected_dice_low"), ("warn", "pass", "fail")),
    ],
)
def test_the_verdicts_on_scan_anatomy_and_result_are_apart(verdict, codes, apart) -> None:
    quality = Quality(verdict, 0.8, {}, [Reason(code, code, {}) for code in codes], 0, 0)
    assert tuple(quality.verdicts.values()) == apart
    assert tuple(quality.verdicts) == SUBJECTS


def odd_head() -> list[str]:
    """Every reason that looking at the scan and its labels can give."""
    data = np.random.default_rng(0).random((60, 70, 50), np.float32)
    scan = Volume(np.minimum(data, 0.9), np.diag([1.0, 1.0, 8.0, 1.0]), "scan")
    labels = np.zeros(data.shape, np.int32)
    labels[10:, 10:-10, 10:-10] = 2
    volumes = [
        StructureVolume(17, LEFT, 0.5, 0.4, 0.6),
        StructureVolume(53, RIGHT, 30.0, 29.0, 31.0),
        StructureVolume(2, "Left-Cerebral-White-Matter", 250.0, 240.0, 260.0),
        StructureVolume(41, "Right-Cerebral-White-Matter", 150.0, 140.0, 160.0),
    ]
    card = Card("toy", (0, 17), {"data": {"kind": "label_maps"}})
    cleaning = Cleaning(pieces={17: 2, 4: 3}, open_holes_ml=(1234.5, 2.13))
    crop = Card("toy", (0, 2), {"data": {"kind": "hippocampus"}})
    usual = Volume(data, np.eye(4), "crop")
    hollow = two_sided_brain()
    hollow[8:20, 23:37, 23:37] = 24
    half = Volume(np.ones(hollow.shape, np.float32), np.diag([2.0, 2.0, 2.0, 1.0]), "half")
    gaps = [Step("fill_slices", {"filled": [9, 10], "left": [20, 21, 22]})]
    turn = Step("turn", {"oblique_degrees": 31.4, "shear_degrees": 2.345})
    return [
        *turned([turn]),
        *empty_slices(gaps),
        *implausible(card, scan, labels, volumes, cleaning),
        *implausible(crop, usual, labels, [], None),
        *(one for one in implausible(card, half, hollow, [], None) if "missing on" in one),
        *unlike(StandingOut(labels > 0, [], unlike_ml=23.4, unlike_index=17)),
    ]


def unlike_training() -> list[str]:
    """Every reason that the card's training range can give."""
    features = {"mean": [0.0, 0.0], "deviation": [1.0, 1.0], "largest_distance": 2.0}
    ranges = {"p05": [0.1, 0.2], "p50": [0.4, 0.5], "contrast": [-0.2, 0.4]}
    told = {"thickest_mm": 6.5, "intensities": ranges, "features": features}
    card = Card("toy", (0, 17), {}, calibration={"training_range": told})
    seen = {"p05": 0.31, "p50": 0.45, "contrast": -0.612}
    return list(outside_training(card, Profile(seen, np.array([5.0, 5.005]))))


def contradicted() -> list[str]:
    """Every reason that a NIfTI header can give."""
    las, away = np.diag([-1.0, 1, 1, 1]), np.eye(4)
    away[:3, :3], away[0, 3] = [[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]], 3.25
    found: list[str] = []
    for qform, codes, fields in [
        (np.eye(4), (0, 0), {}),
        (las, (1, 1), {"pixdim": [-1, 2, 1, 1, 0, 0, 0, 0]}),
        (away, (1, 1), {}),
        (np.eye(4), (1, 1), {"quatern_b": 5.0}),
        (np.eye(4), (0, 1), {"pixdim": [-3, 1, 1, 1, 0, 0, 0, 0], "xyzt_units": 3}),
    ]:
        header = nib.Nifti1Header()
        header.set_data_shape((9, 9, 9))
        header.set_qform(qform, 1)
        header.set_sform(np.eye(4), 1)
        header["sform_code"], header["qform_code"] = codes
        for name, value in fields.items():
            header[name] = value
        better, notes = mended(header, "scan")
        found += [*notes, *place(better, "scan")[1]]
    return found


def judged() -> list[str]:
    """The reasons of the verdict itself, and those of a head whose sides were cut out."""
    named = [(name, {"name": name}) for name in ("CSF", LEFT, RIGHT, "a", "b", "c", "d")]
    weak = [(f"{LEFT} (0.40)", {"name": LEFT, "dice": 0.4})]
    low = Reason("the expected Dice is 0.70, below 0.80", "expected_dice_low", _dice(0.7, 0.8))
    divided = "the samples disagree: their mean Dice with the answer is 0.50, below 0.80"
    begin = "the image supports these structures poorly"
    return [
        Reason("no structure was found in the scan", "nothing_found", {}),
        low,
        about_structures(begin, "weak_structures", weak),
        about_structures("not found", "not_found", named),
        Reason(divided, "samples_disagree", _dice(0.5, 0.8)),
        on_side("left", low),
        Reason("no hippocampus was found on the right side", "side_missing", {"side": "right"}),
    ]


SQUARED = {("2", "brain_cut"), ("2", "structures_cut")}
"""Of cm2 and mm2, which are words in Chinese."""
EVERY = [*contradicted(), *odd_head(), *unlike_training(), *judged()]


@pytest.mark.parametrize("reason", EVERY, ids=lambda reason: reason.code)
def test_the_code_says_what_the_sentence_says(reason):
    assert in_words(reason_code(reason), words("en")) == reason


@pytest.mark.parametrize("reason", EVERY, ids=lambda reason: reason.code)
def test_it_can_be_said_in_chinese(reason):
    told = in_words(reason_code(reason), words("zh"))
    assert re.search(r"[一-鿿]", told)
    assert not re.search(r"[{}]", told)
    assert re.findall(r"\d+(?:\.\d+)?", told) == [
        n for n in re.findall(r"\d+(?:\.\d+)?", in_words(reason_code(reason), words("en")))
        if (n, reason.code) not in SQUARED
    ]  # fmt: skip


def test_every_word_for_a_reason_has_a_reason():
    codes = {reason.code for reason in EVERY}
    keys = {key.split(".")[1] for key in words("en") if key.startswith("reason.")}
    assert keys - codes == {"left", "comma", "more", "side", "face"}
    assert codes <= keys


def test_a_reason_is_a_sentence_for_whoever_knows_no_codes():
    reason = EVERY[0]
    assert isinstance(reason, str)
    assert json.loads(json.dumps([reason])) == [str(reason)]
    assert f"{reason}" == "".join(reason)


def test_a_copy_keeps_its_code():
    for reason in EVERY:
        for twin in (copy.copy(reason), copy.deepcopy(reason)):
            assert (twin, reason_code(twin)) == (reason, reason_code(reason))


def test_codes_are_ready_for_json_and_sentences_alone_have_none():
    told = [reason_code(reason) for reason in EVERY]
    assert json.loads(json.dumps(told)) == told
    assert reason_code("it is odd") is None
    told = reason_code(on_side("left", "it is odd"))
    assert told["values"] == {"side": "left", "sentence": "it is odd", "reason": None}


def test_long_lists_end_with_how_many_more():
    (reason,) = [one for one in EVERY if one.code == "not_found"]
    assert reason.endswith("a, b and 2 more")
    assert (len(reason.values["structures"]), reason.values["more"]) == (5, 2)
