"""Known anomalies: complete, with pages that exist and figures from records alone."""

from __future__ import annotations

import re

import pytest

from ddmseg_lab.dossier.documents import Places, anomalies, anomalies_document
from ddmseg_lab.dossier.figures import figures, measure
from ddmseg_lab.dossier.records import Records

ANOMALIES = {one["id"]: one for one in anomalies()}


def written(results, cards):
    records = Records(results)
    return anomalies_document(lambda name: measure(figures()[name], records, cards))


def test_each_says_what_happens_to_whom_and_what_to_do(results, cards):
    text = written(results, cards)
    for one in ANOMALIES.values():
        assert f"## {one['id']}\n" in text
        for words in (one["what"], one["affected"], one["do"]):
            assert words.endswith(".")
            assert words in text
    assert list(ANOMALIES) == [f"A-{n:02d}" for n in range(1, len(ANOMALIES) + 1)]


def test_figures_come_from_records_and_from_nowhere_else(results, cards, tmp_path):
    shown = written(results, cards)
    assert "(`results/discrepancy_anatomy.json`): 0.911 (0.900 to 0.922), 7 persons." in shown
    (tmp_path / "empty").mkdir()
    bare = written(tmp_path / "empty", cards)
    assert "not measured (no discrepancy_anatomy.json)" in bare
    assert not re.search(r"\d\.\d{2}|\d%", bare)


@pytest.mark.parametrize("identifier", ANOMALIES)
def test_each_leads_to_a_page_a_figure_and_a_model_that_exist(identifier, root, cards):
    one = ANOMALIES[identifier]
    assert set(one["figures"]) <= set(figures())
    assert set(one["models"]) <= set(cards)
    if (root / "lab" / "docs" / "results.md").is_file():
        assert Places(root / "docs", root / "lab" / "docs", root, [], []).holds(one["source"])
