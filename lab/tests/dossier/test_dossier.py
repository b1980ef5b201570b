"""All documents together: from records alone, all of them or none."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from ddmseg.errors import CheckpointError, OutputError, UsageError
from ddmseg.models import zoo
from ddmseg.models.manifest import write_manifest
from ddmseg_lab.dossier import dossier
from ddmseg_lab.dossier.dossier import DOCUMENTS, INDEX, write_dossier
from ddmseg_lab.dossier.figures import figures
from ddmseg_lab.dossier.sbom import sbom_json

JUNIT = """<testsuites><testsuite timestamp="2026-11-23T09:00:00">
<testcase classname="tests.test_atomic" name="test_appears_complete">{}</testcase>
</testsuite></testsuites>"""


SBOMS: dict[tuple[str, ...], str] = {}
"""By names of models: making one takes most of the time."""


@pytest.fixture
def write(installed, results, root, tmp_path, monkeypatch):
    """Write the documents; return the text of one, or of all of them by name."""

    def sbom_once(cards, *, made):
        names = tuple(card.name for card in cards)
        if names not in SBOMS:
            SBOMS[names] = sbom_json(cards, made=made)
        return SBOMS[names]

    monkeypatch.setattr(dossier, "sbom_json", sbom_once)

    def apply(name=None, **options):
        places = {"docs": root / "docs", "lab_docs": root / "lab" / "docs", "overwrite": True}
        paths = write_dossier(results, tmp_path / "out", **{**places, **options})
        texts = {path.name: path.read_text(encoding="utf-8") for path in paths}
        return texts if name is None else texts[name]

    return apply


def section(text: str, model: str, title: str) -> str:
    """One chapter of a model's card."""
    card = text.partition(f"\n## {model}\n")[2].partition("\n## ")[0]
    return card.partition(f"\n### {title}\n")[2].partition("\n### ")[0]


def test_every_document_is_written_and_listed(write, tmp_path):
    texts = write()
    assert list(texts) == [*DOCUMENTS, INDEX]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(texts)
    for name in DOCUMENTS:
        assert f"[{name}]({name})" in texts[INDEX]


def test_every_document_says_that_it_is_for_research(write):
    for name, text in write().items():
        assert "Research use, not for diagnosis" in text, name


def test_an_altered_record_changes_the_documents(write, results, change):
    before = write()
    change(figures()["anatomy-dice"], {"mean": 0.123, "low": 0.1, "high": 0.2, "n": 5})
    after = write()
    changed = {name for name in after if after[name] != before[name]} - {"sbom.json"}
    assert changed == {"model_card.md", "requirements.md", INDEX}
    assert "| 0.123 (0.100 to 0.200) | 5 persons |" in section(
        after["model_card.md"], "anatomy", "Measured"
    )
    assert "0.123 (0.100 to 0.200): **missed by 0.627**" in after["requirements.md"]


def test_without_records_no_figure_appears(write, results):
    for path in results.iterdir():
        path.unlink()
    texts = write()
    for model in ("anatomy", "hippocampus"):
        measured = section(texts["model_card.md"], model, "Measured")
        shown = [row.split(" | ")[1] for row in measured.splitlines() if row.startswith("| ")][1:]
        assert shown
        assert all(cell.startswith("not measured (no ") for cell in shown)
    results_of_figures = re.findall(r"\| ([^|]*) \|$", texts["requirements.md"], re.MULTILINE)
    assert not any(re.search(r"\d\.\d", cell) for cell in results_of_figures)
    assert not re.search(r"\d\.\d{2}", texts["anomalies.md"])
    assert "No record was found." in texts[INDEX]


def test_a_card_has_what_its_weights_say(write, cards):
    text = write("model_card.md")
    for name, card in cards.items():
        assert card.data in section(text, name, "Training data and licence")
        assert card.licence in section(text, name, "Training data and licence")
        assert card.checksum in text
        settings = section(text, name, "Settings")
        assert f"| `sampling.steps` | {card.settings['sampling']['steps']} |" in settings
        scores = section(text, name, "While training")
        assert f"{card.scores['validation']['sampled_dice']:.3f}" in scores
        assert "Diagnosis" in section(text, name, "Not intended")
        assert "A-02 in anomalies.md" in section(text, name, "Known limits")


@pytest.mark.parametrize(
    ("inside", "told"), [("", "1 passed"), ("<failure/>", "**1 of 1 failed**")]
)
def test_results_of_tests_are_shown_as_they_were(write, tmp_path, inside, told):
    junit = tmp_path / "junit.xml"
    junit.write_text(JUNIT.format(inside))
    text = write("requirements.md", tests=junit)
    (line,) = [line for line in text.splitlines() if "tests/test_atomic.py`" in line]
    assert told in line
    assert "junit.xml" in write(INDEX, tests=junit)


def test_a_model_that_nobody_described_says_so(write, monkeypatch, tmp_path):
    folder = tmp_path / "weights"
    shutil.copytree(zoo.weights_folder(), folder)
    card = json.loads((folder / "hippocampus.json").read_text())
    shutil.copy(folder / "hippocampus.safetensors", folder / "hippocampus_fine.safetensors")
    (folder / "hippocampus_fine.json").write_text(
        json.dumps({**card, "name": "hippocampus_fine", "data": ""})
    )
    write_manifest(folder)
    monkeypatch.setattr(zoo, "weights_folder", lambda: folder)
    texts = write()
    text = texts["model_card.md"]
    assert "weights/hippocampus_fine.safetensors" in texts["sbom.json"]
    assert section(text, "hippocampus_fine", "Intended use").strip() == "- Not stated."
    assert section(text, "hippocampus_fine", "Measured").strip() == "Not measured."
    assert "| data | Not stated. |" in section(
        text, "hippocampus_fine", "Training data and licence"
    )


def test_weights_that_differ_from_their_card_are_refused(write, monkeypatch, tmp_path):
    folder = tmp_path / "weights"
    shutil.copytree(zoo.weights_folder(), folder)
    with (folder / "anatomy.safetensors").open("ab") as file:
        file.write(b"x")
    monkeypatch.setattr(zoo, "weights_folder", lambda: folder)
    with pytest.raises(CheckpointError, match="checksum differs from its card"):
        write()


def test_earlier_documents_stay_unless_it_is_said(write, tmp_path):
    write()
    with pytest.raises(OutputError, match=r"exists already; pass --overwrite to replace it"):
        write(overwrite=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file; the documents need a folder"):
        write_dossier(tmp_path, tmp_path / "file", docs=tmp_path, lab_docs=tmp_path)


def test_nothing_is_written_when_a_record_is_damaged(write, results, tmp_path):
    (results / "monitor_alarms.json").write_text("{")
    with pytest.raises(UsageError, match="damaged record"):
        write()
    assert not (tmp_path / "out").exists()
