"""The files of the page: words in both languages, no other server, licences."""

from __future__ import annotations

import ast
import base64
import errno
import hashlib
import json
import os
import re
from importlib import resources
from pathlib import Path

import pytest

from ddmseg.imaging.labels import ANATOMY_LABELS, HIPPOCAMPUS_LABELS, structure

STATIC = Path(str(resources.files("ddmseg.review"))) / "static"
SOURCE = Path(str(resources.files("ddmseg")))
READERS = ("nifti", "nifti_guard", "nifti_header", "scan_checks", "source_file")
"""Of imaging, what reads the files of a result."""
OURS = sorted([*STATIC.glob("js/*.js"), STATIC / "index.html", STATIC / "style.css"])


def words(language: str) -> dict[str, str]:
    return json.loads((STATIC / "i18n" / f"{language}.json").read_text(encoding="utf-8"))


def test_both_languages_have_the_same_keys_and_the_same_gaps() -> None:
    english, chinese = words("en"), words("zh")
    assert list(english) == list(chinese)
    for key, text in english.items():
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", chinese[key]))
        assert text
        assert chinese[key]


def test_every_word_that_the_page_asks_for_is_there() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in OURS)
    asked = set(re.findall(r'\bt\("([a-z.]+)"', text))
    asked |= set(re.findall(r'data-t(?:-label|-placeholder)?="([a-z.]+)"', text))
    # the table of keys: [["x"], "words", action]
    asked |= set(re.findall(r'\], "([a-z]+(?:\.[a-z]+)+)", ', text))
    asked |= set(re.findall(r'title: "([a-z.]+)"', text))
    asked |= {f"error.{code}" for code in re.findall(r'code: "([a-z_]+)"', text)}
    assert len(asked) > 60
    assert asked - set(words("en")) == set()


def codes_of(folder: Path) -> list[str | None]:
    """The code of each reason that the files of a folder give; None where it is no literal."""
    place = {"Reason": 1, "about_file": 2, "_unfit": 1}
    calls = [
        call
        for path in folder.glob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in place
    ]
    codes = [call.args[place[call.func.id]] for call in calls]
    return [code.value if isinstance(code, ast.Constant) else None for code in codes]


def test_every_error_with_a_code_is_told_in_both_languages() -> None:
    codes = codes_of(Path(str(resources.files("ddmseg.review"))))
    given = {code for code in codes if code is not None}
    # one takes its code from the error of a reader, one from those who call it
    assert codes.count(None) == 2
    imaging = Path(str(resources.files("ddmseg.imaging")))
    readers = "\n".join((imaging / f"{n}.py").read_text("utf-8") for n in READERS)
    known = {key.removeprefix("error.") for key in words("en") if key.startswith("error.")}
    of_the_page = {"ended", "drawing_misfit"}
    of_readers = {key for key in known if f'"{key}"' in readers}
    assert {key for key in known if "." not in key} == given | of_readers | of_the_page
    # each refusal of the readers names its code at the end of a statement of its own
    refused = set(re.findall(r"raise coded_error\(.*\"(\w+)\"[,)]", readers))
    assert len(of_readers) >= len(refused) >= 15


def test_words_within_errors_are_those_that_the_program_says() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    of_the_system = {os.strerror(number) for number in errno.errorcode}
    for key, value in words("en").items():
        if key.startswith("part."):
            assert key == f"part.{value}"
            assert value in of_the_system or f'"{value}' in text, value


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_structure_of_the_shipped_models_has_a_name(language: str) -> None:
    names = {structure(i).name for i in (*ANATOMY_LABELS, *HIPPOCAMPUS_LABELS) if i}
    assert {f"structure.{name}" for name in names} <= set(words(language))


def test_chinese_is_chinese() -> None:
    latin = [key for key, text in words("zh").items() if not re.search(r"[一-鿿]", text)]
    # a name and numbers in brackets are the same in both
    items = ["weak_structures.item", "not_found.item", "pieces.item", "comma"]
    assert latin == ["count", *(f"reason.{item}" for item in items), "volumes.dice", "edit.dice"]


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_no_file_of_ours_names_another_server(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|@import|innerHTML|eval\(|\bstyle=", text)
    assert len(text.splitlines()) <= 500


def test_niivue_ships_with_its_licence() -> None:
    licence = (STATIC / "niivue.LICENSE.txt").read_text(encoding="utf-8")
    assert "BSD 2-Clause License" in licence
    assert "Copyright (c) 2021, Niivue" in licence
    for part in ("fflate", "gl-matrix", "nifti-reader-js", "zarrita"):
        assert part in licence
    assert (STATIC / "niivue.umd.js").stat().st_size > 2_000_000


def test_the_browser_takes_no_other_viewer_than_the_one_that_was_looked_at() -> None:
    digest = hashlib.sha384((STATIC / "niivue.umd.js").read_bytes()).digest()
    (told,) = re.findall(
        r'<script src="/static/niivue.umd.js"[^>]*integrity="sha384-([^"]+)"',
        (STATIC / "index.html").read_text(encoding="utf-8"),
    )
    assert told == base64.b64encode(digest).decode()
