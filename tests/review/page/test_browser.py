"""The real command and the page in a real browser: look, step, draw, save, come back."""

# ruff: noqa: RUF001  Chinese has points and brackets of its own

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from chromium import READY, missing, opened, until
from ddmseg.quality.reasons import Reason, about_structures, on_side
from ddmseg.quality.segmentation import Quality
from ddmseg.review.results import CORRECTED, LABELS
from ddmseg.review.verification import verify_review
from review_folder import turned, write_one

image_module = pytest.importorskip("PIL.Image", reason="pictures: pip install pillow")
if missing():
    pytest.skip(missing(), allow_module_level=True)

RIGHT_HIPPOCAMPUS = (220, 216, 20)


def reasons() -> list[str]:
    """Reasons of every form: one from an older version, numbers, lists, sides, faces."""
    odd = [("Cerebral-Cortex (250 ml left, 150 ml right)", ASYMMETRY), ("CSF", {"name": "CSF"})]
    low = Reason("low", "expected_dice_low", {"dice": 0.7, "dice_limit": 0.8})
    broken = Reason("changed by <b>hand</b>", "asymmetric", {"structures": [{"name": 3}]})
    cut = Reason("cut", "brain_cut", {"face": "top", "area_cm2": 12})
    unknown = Reason("of a later version", "later", {})
    return [
        "an old <b>sentence</b>", low, about_structures("odd", "asymmetric", odd[:1]),
        about_structures("gone", "not_found", [odd[1]] * 7), cut, on_side("left", low),
        on_side("right", "it is odd"), broken, unknown,
    ]  # fmt: skip


ASYMMETRY = {"name": "Left-Cerebral-Cortex", "left_ml": 250.0, "right_ml": 150.5}
ENGLISH = [
    "an old <b>sentence</b>",
    "the expected Dice is 0.70, below 0.80",
    "unusually asymmetric: cerebral cortex (250 ml left, 150.5 ml right)",
    "not found: CSF, CSF, CSF, CSF, CSF and 2 more",
    "the brain reaches the top of the image (12 cm2): part of it may be missing",
    "left side: the expected Dice is 0.70, below 0.80",
    "right side: it is odd",
    "changed by <b>hand</b>",
    "of a later version",
]
CHINESE = [
    "an old <b>sentence</b>",
    "预期 Dice 为 0.70，低于 0.80",
    "左右异常不对称：大脑皮质（左 250 ml，右 150.5 ml）",
    "未找到：脑脊液、脑脊液、脑脊液、脑脊液、脑脊液 等，另有 2 项",
    "脑部触及影像上侧边缘（12 平方厘米）：可能有部分缺失",
    "左侧：预期 Dice 为 0.70，低于 0.80",
    "右侧：it is odd",
    "changed by <b>hand</b>",
    "of a later version",
]


@pytest.fixture
def folder(tmp_path: Path, make_segmentation) -> Path:
    """One result on an oblique grid whose first axis runs backwards."""
    quality = Quality("warn", 0.7, {}, reasons(), 10, 4)
    made = turned(make_segmentation(name="head", quality=quality))
    write_one(made, tmp_path / "out", tmp_path / "scans")
    return tmp_path / "out"


@pytest.fixture
def link(folder: Path, tmp_path: Path) -> Iterator[str]:
    source = Path(sys.modules["ddmseg"].__file__ or "").parent.parent
    environment = {**os.environ, "PYTHONPATH": str(source)}
    words = ["review", str(folder), "--scans", str(tmp_path / "scans"), "--reviewer", "AB"]
    with subprocess.Popen(
        [sys.executable, "-m", "ddmseg", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process.stdout.readline().split()[1]
        finally:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
    assert (process.returncode, out.splitlines()[-1], err) == (0, "review ended", "")


@pytest.fixture
def page(link: str) -> Iterator[object]:
    with opened(link) as page:
        yield page


def open_scan(page) -> None:
    page.wait_for_selector("#rows tr")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    until(page, READY)
    # one plane, filled: every pixel of a label has its colour
    page.keyboard.press("1")
    page.keyboard.press("o")
    page.evaluate("review.viewer.setLayer('labels', { opacity: 1 })")
    page.evaluate("review.viewer.goTo(review.viewer.middleOf(53))")


def picture(page) -> np.ndarray:
    data = page.locator("#canvas").screenshot()
    return np.asarray(image_module.open(io.BytesIO(data)).convert("RGB")).astype(int)


def test_reasons_are_told_in_the_language_of_the_page(page) -> None:
    page.wait_for_selector("#rows tr")
    assert page.locator("#rows .reasons li").all_inner_texts() == ENGLISH
    page.keyboard.press("g")
    until(page, "document.documentElement.lang === 'zh-Hans'")
    items = page.locator("#rows .reasons li")
    until(page, "document.querySelector('#rows .reasons li:nth-child(2)').innerText[0] === '预'")
    assert items.all_inner_texts() == CHINESE
    in_english = [item.get_attribute("lang") for item in items.all()]
    assert in_english == ["en", *[None] * 6, "en", "en"]
    page.locator("#filter-text").fill("大脑皮质")
    assert page.locator("#rows tr").count() == 1


def pixels_of(page, colour: tuple[int, int, int]) -> int:
    return int((np.abs(picture(page) - colour).max(axis=2) < 12).sum())


def ids(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_the_whole_way_from_the_link_to_the_log(page, folder: Path) -> None:
    # one test for all of it: the browser and the command take longer to start than to use
    assert "token" not in page.url
    open_scan(page)
    look_and_step(page)
    find_places_and_change_the_language(page)
    leave_without_saving(page, folder)
    correct_save_and_come_back(page, folder)


def look_and_step(page) -> None:
    assert picture(page).max(axis=2).std() > 20
    assert pixels_of(page, RIGHT_HIPPOCAMPUS) > 200
    # the first step does not hold the hippocampus yet, the second one does
    page.keyboard.press(".")
    until(page, "review.viewer.source.kind === 'steps'")
    slider = page.locator("#frame")
    slider.focus()
    page.keyboard.press("Home")
    until(page, "review.viewer.source.place === 0")
    assert pixels_of(page, RIGHT_HIPPOCAMPUS) == 0
    page.keyboard.press("ArrowRight")
    until(page, "review.viewer.source.place === 1")
    assert pixels_of(page, RIGHT_HIPPOCAMPUS) > 200


def find_places_and_change_the_language(page) -> None:
    page.wait_for_selector("#list .entry")
    page.keyboard.press("l")
    before = picture(page)
    assert pixels_of(page, RIGHT_HIPPOCAMPUS) == 0
    page.keyboard.press("d")
    until(page, "!!document.querySelector('[data-layer=discrepancy][aria-checked=true]')")
    assert np.abs(picture(page) - before).mean() > 1
    page.keyboard.press("n")
    (x, y, z) = page.evaluate("review.panel.places.discrepancy[0].position_mm")
    shown = page.locator("#readout").inner_text()
    there = [
        float(word) for word in shown.split("R ")[1].replace("A", "").replace("S", "").split()[:3]
    ]
    assert np.abs(np.subtract(there, (x, y, z))).max() <= 2.1  # half a voxel
    page.keyboard.press("g")
    until(page, "document.documentElement.lang === 'zh-Hans'")
    assert "仅供研究" in page.locator(".use").inner_text()
    page.reload()
    until(page, "document.documentElement.lang === 'zh-Hans'")
    until(page, READY)
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()
    page.keyboard.press("g")
    until(page, "document.documentElement.lang === 'en'")


def leave_without_saving(page, folder: Path) -> None:
    page.keyboard.press("c")
    until(page, "review.drawing.active")
    page.evaluate("review.drawing.setLabel(53)")
    page.keyboard.press("x")
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.keyboard.press("Escape")
    assert page.evaluate("review.drawing.active")
    page.once("dialog", lambda dialog: dialog.accept())
    page.keyboard.press("Escape")
    until(page, "!review.drawing.active")
    page.keyboard.press("Escape")
    page.wait_for_selector("#rows tr")
    assert page.locator("#rows .state").inner_text() == "open"
    assert not (folder / f"head{CORRECTED}").exists()
    assert verify_review(folder).entries == 0


def correct_save_and_come_back(page, folder: Path) -> None:
    original = ids(folder / f"head{LABELS}")
    before = (folder / f"head{LABELS}").read_bytes()
    open_scan(page)
    page.keyboard.press("c")
    until(page, "review.drawing.active")
    # by keyboard: one voxel, at a place that is known in mm and so in voxels of the file
    affine = nib.load(folder / f"head{LABELS}").affine
    voxel = np.argwhere(original == 41)[100]
    page.evaluate("mm => review.viewer.goTo(mm)", list((affine @ [*voxel, 1])[:3]))
    page.evaluate("review.drawing.setLabel(53)")
    for _ in range(4):
        page.keyboard.press("-")
    page.keyboard.press("x")
    assert page.evaluate("review.viewer.changed()") == 1
    # by mouse: a stroke that undo takes back, then another that stays
    box = page.locator("#canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for keep in (False, True):
        page.mouse.move(x - 60, y)
        page.mouse.down()
        page.mouse.move(x + 60, y + 20, steps=6)
        page.mouse.up()
        assert page.evaluate("review.viewer.changed()") > 3
        if not keep:
            page.keyboard.press("z")
            assert page.evaluate("review.viewer.changed()") == 1
    changed = page.evaluate("review.viewer.changed()")
    page.keyboard.press("Control+s")
    page.wait_for_selector("#decision .word.corrected")
    corrected = ids(folder / f"head{CORRECTED}")
    assert corrected[tuple(voxel)] == 53
    assert int((corrected != original).sum()) == changed
    assert (folder / f"head{LABELS}").read_bytes() == before
    assert f"{changed} voxels" in page.locator("#decision .edit summary").inner_text()
    page.reload()
    page.wait_for_selector("#decision .word.corrected")
    until(page, "review.viewer.source.kind === 'corrected'")
    assert page.evaluate("review.viewer.shown.labels.img.includes(53)")
    page.keyboard.press("a")
    page.wait_for_selector("#decision .word.accepted")
    found = verify_review(folder)
    assert (found.entries, found.problem) == (2, "")
