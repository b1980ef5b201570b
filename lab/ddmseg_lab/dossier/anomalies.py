"""Known anomalies: what happens, to whom, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ddmseg_lab.dossier.document import bullets, document
from ddmseg_lab.dossier.figures import Measured
from ddmseg_lab.dossier.shipped import shipped_table

TITLE = "Known anomalies"


@dataclass(frozen=True)
class Anomaly:
    """Something that is wrong, missing or easily misunderstood.

    Attributes:
        identifier: such as ``A-01``.
        what: happens.
        affected: whom or what it touches.
        do: what to do.
        source: page and heading that tells more.
        figures: names of what was measured of it.
        models: whose card points here.
    """

    identifier: str
    what: str
    affected: str
    do: str
    source: str
    figures: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


def anomalies() -> list[Anomaly]:
    """Return every known anomaly."""
    return [_anomaly(row) for row in shipped_table("anomalies")["anomaly"]]


def _anomaly(row: dict[str, Any]) -> Anomaly:
    return Anomaly(
        row["id"],
        row["what"],
        row["affected"],
        row["do"],
        row["source"],
        figures=tuple(row.get("figures", ())),
        models=tuple(row.get("models", ())),
    )


def anomalies_document(read: Callable[[str], Measured]) -> str:
    """Return the list of anomalies with what was measured of them."""
    found = anomalies()
    parts = [
        f"{len(found)} anomalies that are known. What nobody has noticed yet is not among them."
    ]
    for one in found:
        lines = [
            f"**What happens.** {one.what}",
            f"**Who is affected.** {one.affected}",
            f"**What to do.** {one.do}",
            *(_measured(read(name)) for name in one.figures),
            f"More: `{one.source}`",
        ]
        parts += [f"## {one.identifier}", bullets(lines)]
    return document(TITLE, parts)


def _measured(measured: Measured) -> str:
    of = f", {measured.count}" if measured.count else ""
    figure = measured.figure
    return f"**Measured.** {figure.what} (`results/{figure.record}`): {measured.shown}{of}."
