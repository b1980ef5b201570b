"""The page at 1280 x 800 by keyboard alone: everything that a mouse can do, and nothing cut off."""

# ruff: noqa: RUF001  Chinese has points and brackets of its own

from __future__ import annotations

import io
import json
import os
import re
import threading
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromium import READY, missing, opened, until
from ddmseg.review.launch import serve
from ddmseg.review.results import CORRECTED, LABELS
from ddmseg.review.session import Review
from ddmseg.review.verification import verify_review

image_module = pytest.importorskip("PIL.Image", reason="pictures: pip install pillow")
if missing():
    pytest.skip(missing(), allow_module_level=True)

SIDEWAYS = "document.documentElement.scrollWidth - innerWidth"
PICTURES = "DDMSEG_SCREENSHOTS"
"""Folder for pictures of the page, for who wants to look at them."""


@pytest.fixture
def page(review: Review, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The page of two scans, from a server in a thread of this process."""
    import uvicorn

    servers: list[uvicorn.Server] = []
    run = uvicorn.Server.run
    monkeypatch.setattr(
        uvicorn.Server, "run", lambda self, sockets: (servers.append(self), run(self, sockets))
    )
    links: list[str] = []
    told = threading.Event()

    def keep(link: str) -> None:
        links.append(link)
        told.set()

    thread = threading.Thread(target=serve, args=(review,), kwargs={"report": keep})
    thread.start()
    assert told.wait(60)
    try:
        # Chromium tells every refusal of a server
        refused = "the server responded with a status of 4"
        with opened(links[0], width=1280, height=800, expected=refused) as page:
            page.wait_for_selector("#rows tr")
            yield page
    finally:
        servers[0].should_exit = True
        thread.join(60)


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def look(page: Any, name: str) -> np.ndarray:
    """Nothing is cut off sideways; return the picture of the canvas."""
    assert page.evaluate(SIDEWAYS) <= 0
    folder = os.environ.get(PICTURES)
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png")
    data = page.locator("#canvas").screenshot() if page.locator("#canvas").is_visible() else None
    if data is None:
        return np.zeros((1, 1, 3))
    return np.asarray(image_module.open(io.BytesIO(data)).convert("RGB")).astype(int)


def differ(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())


def open_second(page: Any) -> str:
    press(page, "ArrowDown", "ArrowDown", "Enter")
    until(page, READY)
    return str(page.evaluate("document.body.dataset.ready"))


def test_a_scan_is_looked_at_corrected_and_left_by_keyboard(page: Any, folder: Path) -> None:
    look(page, "table")
    opened_scan = open_second(page)
    planes(page)
    grey_window(page)
    in_three_dimensions(page)
    # a doubtful place, and a correction there
    press(page, "0")
    page.wait_for_selector("#list .entry")
    press(page, "n")
    page.wait_for_selector("#list .entry[aria-current=true]")
    look(page, "place")
    press(page, "c")
    until(page, "review.drawing.active")
    press(page, "t", "x", "ArrowRight", "x")
    until(page, "review.viewer.changed() > 0")
    look(page, "correcting")
    press(page, "Control+s")
    page.wait_for_selector("#decision .word.corrected")
    look(page, "corrected")
    assert (folder / f"better{CORRECTED}").is_file()
    # a note, and back to where one came from
    press(page, "m")
    page.keyboard.type("good now")
    press(page, "Escape", "a")
    page.wait_for_selector("#decision .word.accepted")
    press(page, "Escape")
    until(page, f"document.activeElement.closest('tr')?.dataset.id === '{opened_scan}'")
    look(page, "table-after")
    press(page, "ArrowUp", "Enter")
    until(page, f"document.body.dataset.ready && document.body.dataset.ready !== '{opened_scan}'")
    log = verify_review(folder)
    assert (log.entries, log.problem) == (2, "")


def planes(page: Any) -> None:
    seen = {}
    for key, view in zip("1230", ("axial", "coronal", "sagittal", "all"), strict=True):
        press(page, key)
        pressed = page.locator("#views [aria-pressed=true]").get_attribute("data-view")
        assert pressed == view
        seen[view] = look(page, view)
        assert seen[view].max(axis=2).std() > 15
    assert differ(seen["axial"], seen["coronal"]) > 1
    press(page, "1")
    before = page.locator("#readout").inner_text()
    press(page, "ArrowLeft", "PageUp")
    assert page.locator("#readout").inner_text() != before


def grey_window(page: Any) -> None:
    press(page, "l")
    first = look(page, "window")
    press(page, "j", "j")
    assert look(page, "window-bright").mean() > first.mean() + 1
    press(page, "h", "h", "h", "h")
    assert look(page, "window-dark").mean() < first.mean() - 1
    press(page, "v", "q", "q")
    assert np.ptp(look(page, "window-flat")) < np.ptp(first)
    press(page, "w", "w")
    assert differ(look(page, "window-again"), first) < 0.5
    press(page, "w", "w", "v", "l")


def in_three_dimensions(page: Any) -> None:
    press(page, "4")
    front = look(page, "volume")
    assert front.max(axis=2).std() > 15
    press(page, "ArrowRight", "ArrowRight")
    turned = look(page, "volume-turned")
    assert differ(front, turned) > 1
    press(page, "ArrowUp")
    assert differ(turned, look(page, "volume-up")) > 0.5
    press(page, "ArrowDown", "ArrowLeft", "ArrowLeft")
    assert differ(front, look(page, "volume-again")) < 0.1
    press(page, "PageUp")
    assert differ(front, look(page, "volume-near")) > 0.5


def test_the_keys_are_listed_in_both_languages(page: Any) -> None:
    press(page, "?")
    english = page.locator("#help").inner_text()
    look(page, "help")
    assert page.evaluate(
        "help => help.scrollHeight <= help.clientHeight", page.query_selector("#help")
    )
    press(page, "Escape", "g")
    until(page, "document.documentElement.lang === 'zh-Hans'")
    look(page, "table-zh")
    press(page, "?")
    chinese = page.locator("#help").inner_text()
    look(page, "help-zh")
    for words in ("In 3-D", "Turn left", "More contrast", "Brighter", "Grey window as at first"):
        assert words in english
    for words in ("三维视图", "向左转", "增强对比度", "调亮"):
        assert words in chinese
    assert not re.search(r"keys\.", english + chinese)
    press(page, "Escape")
    open_second(page)
    look(page, "scan-zh")


OUTSIDE = """() => {
  const wrong = [];
  for (const element of document.querySelectorAll(".side > section *")) {
    const section = element.closest(".side > section"), box = section.getBoundingClientRect();
    const inner = box.right - parseFloat(getComputedStyle(section).paddingRight);
    // a row may reach the edge to be lit as a whole; what is in it may not
    const row = element.matches(".list, .list > *");
    if (!row && element.getBoundingClientRect().right > inner + 0.5) wrong.push(element.outerHTML);
    const clipped = element.scrollWidth > element.clientWidth && element.clientWidth;
    if (clipped && getComputedStyle(element).display !== "inline") wrong.push(element.outerHTML);
  }
  return wrong;
}"""
"""What of the panel sticks out of its padding or is cut."""
LONGEST = """names => {
  for (const scale of document.querySelectorAll(".scale")) scale.lastChild.textContent = "0.0012";
  for (const [at, name] of document.querySelectorAll("#list .name").entries())
    name.textContent = names[at % names.length];
}"""
"""Put the longest name and number that can occur where the toy result has short ones."""


@pytest.mark.parametrize("language", ["en", "zh"])
def test_nothing_of_the_panel_is_cut_or_runs_over_its_edge(page: Any, language: str) -> None:
    text = resources.files("ddmseg.review") / "static" / "i18n" / f"{language}.json"
    words = json.loads(text.read_text(encoding="utf-8"))
    names = {words[key] for key in words if key.startswith("structure.")}
    longest = sorted(names | {words["places.beside"].format(name=name) for name in names}, key=len)
    if language == "zh":
        press(page, "g")
        until(page, "document.documentElement.lang === 'zh-Hans'")
    open_second(page)
    press(page, "d", "u")
    until(page, "!!document.querySelector('[data-layer=uncertainty][aria-checked=true]')")
    for tab in ("places", "volumes"):
        page.locator(f"#tab-{tab}").click()
        page.wait_for_selector("#list .entry")
        assert page.evaluate(OUTSIDE) == []
        page.evaluate(LONGEST, longest[::-1])
        assert page.evaluate(OUTSIDE) == []
        look(page, f"panel-{tab}-{language}")
        # name and volume stand on one line, what belongs to them on the next
        entry = page.locator("#list .entry").first
        tops = [one.bounding_box()["y"] for one in entry.locator("small").all()]
        assert tops[0] == tops[1]


def test_errors_are_told_in_the_language_of_the_page(page: Any, folder: Path) -> None:
    press(page, "g")
    until(page, "document.documentElement.lang === 'zh-Hans'")
    open_second(page)
    # somebody else corrects meanwhile
    (folder / f"better{CORRECTED}").write_bytes(b"other labels")
    press(page, "a")
    until(page, "document.querySelector('#toast').innerText.startsWith('标签在此期间已被更改')")
    assert page.locator("#toast").get_attribute("lang") == "zh-Hans"
    # and the files of the other scan are damaged
    (folder / "worse_qc.json").write_text("{")
    press(page, "Escape")
    page.wait_for_selector("#problems li")
    (problem,) = page.locator("#problems li").all_inner_texts()
    assert "worse_qc.json：文件已损坏（" in problem
    look(page, "problem-zh")
    # and the labels of this one are cut off
    labels = folder / f"better{LABELS}"
    labels.write_bytes(labels.read_bytes()[:-20])
    page.locator("#rows .name").first.click()
    until(page, "document.querySelector('#toast').innerText.includes('：gzip 数据提前结束')")
    assert page.locator("#toast").get_attribute("lang") == "zh-Hans"
    look(page, "damaged-zh")
    press(page, "Escape", "g")
    until(page, "document.documentElement.lang === 'en'")
    until(page, "document.querySelector('#problems').innerText.includes('segment the scan again')")
