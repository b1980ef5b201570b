"""The bill of materials: valid, complete, and with the hashes of what ships."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from importlib import metadata, resources
from pathlib import Path

import pytest

from ddmseg.errors import OutputError, UsageError
from ddmseg.models import zoo
from ddmseg.models.zoo import weights_folder
from ddmseg_lab.dossier import sbom as installed_module
from ddmseg_lab.dossier.figures import shipped_table
from ddmseg_lab.dossier.sbom import sbom_json

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
PACKAGE = Path(str(resources.files("ddmseg")))


MADE: list[str] = []


@pytest.fixture
def text(installed, cards) -> str:
    """Made once for all tests: it takes seconds."""
    if not MADE:
        MADE.append(sbom_json(list(cards.values()), made=NOW))
    return MADE[0]


@pytest.fixture
def components(text) -> dict[str, dict]:
    return {one["name"]: one for one in json.loads(text)["components"]}


def test_it_keeps_to_the_schema(text):
    pytest.importorskip("jsonschema", reason="pip install 'cyclonedx-python-lib[json-validation]'")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    damaged = text.replace('"SHA-256"', '"SHA-257"', 1)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(damaged) is not None


def test_it_says_what_it_is_of_and_when(text):
    told = json.loads(text)["metadata"]
    assert told["component"]["name"] == "ddmseg"
    assert told["timestamp"].startswith("2026-11-23T09:00:00")
    assert told["properties"] == [
        {"name": "ddmseg:use", "value": "Research use, not for diagnosis."}
    ]


def test_it_lists_the_hashes_of_the_weights_with_their_licence(components, cards):
    for name, card in cards.items():
        one = components[f"weights/{name}.safetensors"]
        sha256 = hashlib.sha256((weights_folder() / f"{name}.safetensors").read_bytes()).hexdigest()
        assert one["hashes"] == [{"alg": "SHA-256", "content": sha256}]
        assert one["type"] == "machine-learning-model"
        assert one["licenses"] == [{"expression": card.licence}]


def test_it_lists_what_others_made_and_ships_inside(components):
    for row in shipped_table("bundled")["file"]:
        sha256 = hashlib.sha256((PACKAGE / row["file"]).read_bytes()).hexdigest()
        assert components[row["name"]]["hashes"][0]["content"] == sha256
    niivue = components["@niivue/niivue"]
    bundle = (PACKAGE / "review/static/niivue.umd.js").read_text(encoding="utf-8")
    assert f'version:"{niivue["version"]}"' in bundle
    assert niivue["purl"] == "pkg:npm/%40niivue/niivue@0.69.0"


def test_versions_are_those_that_are_installed(components):
    for name in ("torch", "numpy", "nibabel", "safetensors"):
        assert components[name]["version"] == metadata.version(name)
        assert components[name]["scope"] == "required"
    assert components["nibabel"]["licenses"][0]["expression"] == "MIT"


def test_extras_are_optional_and_tools_of_developers_are_left_out(components):
    if "pydicom" in components:
        assert components["pydicom"]["scope"] == "optional"
    assert not {"pytest", "ruff", "mypy", "cyclonedx-python-lib"} & set(components)


def test_what_needs_what_is_told(text):
    needs = {one["ref"]: one.get("dependsOn", []) for one in json.loads(text)["dependencies"]}
    assert {"pypi/torch", "pypi/numpy", "weights/anatomy"} <= set(needs["ddmseg"])
    assert "pypi/numpy" in needs["pypi/nibabel"]
    assert "pypi/mpmath" not in needs["ddmseg"]  # sympy's, which is torch's


def test_from_a_source_folder_it_is_refused(cards, monkeypatch):
    def gone(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(installed_module.metadata, "distribution", gone)
    with pytest.raises(UsageError, match="is not installed, so what it needs is not known"):
        sbom_json(list(cards.values()), made=NOW)


def test_a_shipped_file_that_is_gone_is_told(installed, cards, monkeypatch, tmp_path):
    monkeypatch.setattr(zoo, "weights_folder", lambda: tmp_path)
    with pytest.raises(OutputError, match="belongs to ddmseg but is gone; install ddmseg again"):
        sbom_json(list(cards.values()), made=NOW)


@pytest.mark.parametrize(
    ("lines", "licence"),
    [
        (["License-Expression: MIT OR BSD-2-Clause"], ("MIT OR BSD-2-Clause", True)),
        (["License: MIT License"], ("MIT License", False)),
        (["Classifier: License :: OSI Approved :: BSD License"], ("BSD License", False)),
        ([f"License: {'long ' * 40}", "Classifier: License :: X :: Y"], ("Y", False)),
        ([], ("", False)),
    ],
)
def test_licences_are_taken_as_told(tmp_path, monkeypatch, lines, licence):
    folder = tmp_path / "thing-1.0.dist-info"
    folder.mkdir()
    head = ["Metadata-Version: 2.4", "Name: thing", "Version: 1.0"]
    (folder / "METADATA").write_text("\n".join([*head, *lines]) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert installed_module._licence(metadata.distribution("thing")) == licence
