"""Made-up records that hold every figure, and ddmseg as a package that is installed."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from ddmseg import __version__
from ddmseg.models.checkpoint import Card
from ddmseg.models.zoo import shipped_cards
from ddmseg_lab.dossier.figures import Figure, figures

ROOT = Path(__file__).parents[3]
VALUE = {"mean": 0.911, "low": 0.9, "high": 0.922, "n": 7}


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the project."""
    return ROOT


@pytest.fixture(scope="session")
def cards() -> Mapping[str, Card]:
    return {card.name: card for card in shipped_cards()}


@pytest.fixture
def results(tmp_path: Path, cards) -> Path:
    """Records that hold 0.911 for every figure, of the weights that ship."""
    folder = tmp_path / "results"
    folder.mkdir()
    records: dict[str, dict[str, Any]] = {}
    for figure in figures().values():
        if figure.study:
            continue  # computed from rows: tests of it write their own
        record = records.setdefault(figure.record, {})
        place = record
        for step in figure.path[:-1]:
            place = place.setdefault(step, {})
        place[figure.path[-1]] = dict(VALUE)
        if figure.model:
            weights = cards[figure.model].checksum[:12]
            named = record.setdefault("models", {})
            named[figure.model] = {"name": figure.model, "weights": weights}
            if figure.raw:
                raw = folder / figure.raw
                rows = raw.read_text() if raw.exists() else "weights\tdice\n"
                raw.write_text(f"{rows}{weights}\t0.911\n")
    for name, record in records.items():
        (folder / name).write_text(json.dumps(record))
    return folder


Change = Callable[..., None]


@pytest.fixture
def change(results: Path) -> Change:
    """Change a record on the disk: the value of one figure, or other names of it."""

    def apply(figure: Figure, value: Any = None, **others: Any) -> None:
        path = results / figure.record
        record = json.loads(path.read_text())
        place = record
        for step in figure.path[:-1]:
            place = place[step]
        if value is not None:
            place[figure.path[-1]] = value
        path.write_text(json.dumps({**record, **others}))

    return apply


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ddmseg with the metadata that an installation of this folder would have."""
    try:
        metadata.distribution("ddmseg")
    except metadata.PackageNotFoundError:
        place = tmp_path / "site"
        write_metadata(place, "ddmseg", __version__)
        monkeypatch.syspath_prepend(str(place))


def write_metadata(place: Path, name: str, version: str) -> None:
    """Write what an installer would: name, version and needs as pyproject.toml has them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {need}" for need in project["dependencies"]]
    for extra, needs in project["optional-dependencies"].items():
        lines.append(f"Provides-Extra: {extra}")
        lines += [f'Requires-Dist: {need}; extra == "{extra}"' for need in needs]
    folder = place / f"{name}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("\n".join(lines) + "\n")
