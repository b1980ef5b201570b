"""All trust documents of one state of records, written together."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from ddmseg.atomic import atomic_write
from ddmseg.errors import CheckpointError, OutputError
from ddmseg.models import zoo
from ddmseg.models.checkpoint import Card, read_card
from ddmseg_lab.dossier import documents
from ddmseg_lab.dossier.figures import Measured, figures, measure
from ddmseg_lab.dossier.records import JunitRun, Records, read_junit
from ddmseg_lab.dossier.sbom import sbom_json

INDEX = "index.md"
DOCUMENTS = {
    "model_card.md": "What each model is for, what made it, what was measured, what it cannot do",
    "checklist.md": "Items of a reporting checklist, and where each is answered",
    "requirements.md": "What ddmseg has to do, what proves it, and how that went",
    "anomalies.md": "What is known to be wrong, missing or easily misunderstood",
    "sbom.json": "Packages, weights and bundled files: versions, licences, hashes (CycloneDX)",
}


def write_dossier(
    results: Path, output: Path, *, docs: Path, lab_docs: Path, tests: Path | None = None,
    overwrite: bool = False,
) -> list[Path]:  # fmt: skip
    """Write every document and return the files, the index last.

    Nothing is written before all of it is made.

    Args:
        results: folder that the measuring commands wrote to.
        docs: folder of the documentation, which the checklist points into.
        lab_docs: folder of the laboratory's pages, which it points into, too.
        tests: JUnit XML file of a run of the tests; None for none.
        overwrite: replace the documents of an earlier run.
    """
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file; the documents need a folder: name another place")
    existing = [output / name for name in (*DOCUMENTS, INDEX) if (output / name).exists()]
    if existing and not overwrite:
        raise OutputError(
            f"{existing[0]} exists already; pass --overwrite to replace it, or name another folder"
        )
    records = Records(results)
    run = JunitRun() if tests is None else read_junit(tests)
    by_name = _intact_cards()
    cards, known = list(by_name.values()), figures()

    @cache
    def read(name: str) -> Measured:
        return measure(known[name], records, by_name)

    made = datetime.now(UTC).replace(microsecond=0)
    places = documents.Places(docs, lab_docs, results, cards, list(DOCUMENTS))
    texts = {
        "model_card.md": documents.model_cards_document(cards, read),
        "checklist.md": documents.checklist_document(places),
        "requirements.md": documents.requirements_document(documents.requirements(run, read), run),
        "anomalies.md": documents.anomalies_document(read),
        "sbom.json": sbom_json(cards, made=made),
    }
    texts[INDEX] = documents.render(INDEX, documents=DOCUMENTS, records=records, run=run, made=made)
    for name, text in texts.items():
        with atomic_write(output / name) as partial:
            partial.write_text(text, encoding="utf-8", newline="\n")
    return [output / name for name in texts]


def _intact_cards() -> dict[str, Card]:
    """Return the card of every weights file that ships, by the name of the file."""
    cards = {}
    for name in zoo.model_names():
        path = zoo.weights_folder() / f"{name}{zoo.SUFFIX}"
        if not zoo.is_intact(path):
            raise CheckpointError(f"{path}: checksum differs from its card; install ddmseg again")
        cards[name] = replace(read_card(path.with_suffix(".json")), name=name)
    return cards
