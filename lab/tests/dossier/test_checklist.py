"""An item is answered only where its answer can be found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ddmseg_lab.dossier.documents import Places, checklist_document
from ddmseg_lab.dossier.dossier import DOCUMENTS
from ddmseg_lab.dossier.figures import shipped_table

ITEMS = shipped_table("checklist")["item"]


@pytest.fixture
def places(tmp_path, cards):
    """A documentation of one page, and no record."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "training.md").write_text("# Training\n\n## What was run\n")
    return Places(
        tmp_path / "docs",
        tmp_path / "lab" / "docs",
        tmp_path,
        list(cards.values()),
        list(DOCUMENTS),
    )


def line_of(text, number):
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {number} |")]
    return line


def test_the_items_are_numbered_like_the_published_ones():
    assert [item["number"] for item in ITEMS] == list(range(1, 45))
    assert all(item.get("where") or item.get("lacking") for item in ITEMS)


@pytest.mark.parametrize(
    ("where", "there"),
    [
        ("docs/training.md", True),
        ("docs/training.md#What was run", True),
        ("docs/training.md#What was", False),
        ("docs/results.md", False),
        ("lab/docs/results.md", False),
        ("lab/results/anatomy.json", False),
        ("card:data", True),
        ("sbom.json", True),
        ("other.md", False),
    ],
)
def test_an_answer_is_looked_for(places, where, there):
    assert places.holds(where) == there


def test_a_field_must_be_filled_in_every_card(places):
    emptied = replace(places, cards=[*places.cards, replace(places.cards[0], data="")])
    assert not emptied.holds("card:data")
    assert emptied.holds("card:licence")
    assert not replace(places, cards=[]).holds("card:licence")


def test_missing_pages_leave_items_unanswered(places):
    text = checklist_document(places)
    assert "answered | `docs/training.md`" not in line_of(text, 1)
    assert "**not answered** | `lab/docs/results.md` is not there" in line_of(text, 1)
    assert "| answered in part | `docs/training.md`, `card:data`; `docs/datasets.md`" in line_of(
        text, 19
    )
    assert "| **not answered** | not stated |" in line_of(text, 44)


def test_the_counts_are_those_of_the_lines(places):
    lines = [line for line in checklist_document(places).splitlines() if line.startswith("| ")][1:]
    states = [line.split(" | ")[3].strip("* ") for line in lines]
    counts = ", ".join(
        f"{states.count(state)} {state}"
        for state in ("answered", "answered in part", "not answered")
    )
    assert f"44 items: {counts}." in checklist_document(places)


def test_the_pages_of_this_project_answer_what_is_said(root, cards, places):
    if not (root / "lab" / "docs" / "results.md").is_file():
        pytest.skip("the documentation of this project is not here")
    own = replace(
        places, docs=root / "docs", lab_docs=root / "lab" / "docs", results=root / "lab" / "results"
    )
    wanted = {where for item in ITEMS for where in item.get("where", ())}
    gone = {where for where in wanted if not own.holds(where)}
    # a record may still have to be measured; then the item says that it is not there
    assert all(where.startswith("lab/results/") for where in gone)
