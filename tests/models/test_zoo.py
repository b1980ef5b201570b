"""Models by name: found, listed, and refused with the nearest name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ddmseg.errors import CheckpointError, UsageError
from ddmseg.models import zoo
from ddmseg.models.manifest import write_manifest

CARD = {"name": "anatomy", "labels": [0, 2, 41], "settings": {}, "licence": "Apache-2.0"}


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A weights folder with two models, whose checksums are right."""
    import hashlib

    for name in ("hippocampus", "anatomy"):
        data = name.encode()
        (tmp_path / f"{name}.safetensors").write_bytes(data)
        card = {**CARD, "name": name, "checksum": hashlib.sha256(data).hexdigest()}
        (tmp_path / f"{name}.json").write_text(json.dumps(card))
    monkeypatch.setattr(zoo, "weights_folder", lambda: tmp_path)
    write_manifest(tmp_path)
    return tmp_path


def test_the_folder_is_that_of_the_package() -> None:
    import ddmseg

    assert zoo.weights_folder() == Path(ddmseg.__file__).parent / "models" / "weights"


def test_every_shipped_model_is_intact_and_says_its_terms() -> None:
    for card in zoo.shipped_cards():
        assert zoo.is_intact(zoo.weights_folder() / f"{card.name}{zoo.SUFFIX}")
        assert card.licence
        assert card.data


MEASURED = (
    *("expected_dice", "structure_dice", "volume_bounds", "always_present"),
    *("usual", "standing_out", "training_range"),
)
"""What the verdict and the intervals of a shipped model are made of."""


def test_every_shipped_card_holds_all_that_was_measured_of_its_weights() -> None:
    for card in zoo.shipped_cards():
        missing = [name for name in MEASURED if not card.calibration.get(name)]
        assert not missing, f"{card.name}: calibrate it again, see lab/ddmseg_lab/limits"
        assert set(card.calibration["volume_bounds"]) >= set(
            card.calibration["usual"]["structures"]
        )


def test_names_come_with_the_default_first(shelf) -> None:
    assert zoo.model_names() == ["anatomy", "hippocampus"]
    assert [card.name for card in zoo.shipped_cards()] == ["anatomy", "hippocampus"]


def test_a_name_leads_to_its_file(shelf) -> None:
    assert zoo.model_path("hippocampus") == shelf / "hippocampus.safetensors"


def test_a_path_leads_to_itself(tmp_path) -> None:
    path = tmp_path / "best.safetensors"
    path.write_bytes(b"")
    assert zoo.model_path(str(path)) == path


def test_an_unknown_name_is_refused_with_the_nearest(shelf) -> None:
    with pytest.raises(UsageError) as caught:
        zoo.model_path("anatmy")
    assert str(caught.value) == (
        "model: got 'anatmy' (did you mean 'anatomy'?); allowed are anatomy, hippocampus, "
        "or the path of a .safetensors file with its card beside it"
    )


def test_where_nothing_shipped_it_is_said(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(zoo, "weights_folder", lambda: tmp_path / "none")
    assert zoo.shipped_cards() == []
    with pytest.raises(UsageError, match="got 'anatomy'; no model came with this installation"):
        zoo.model_path("anatomy")


def test_a_path_that_leads_nowhere_is_refused(tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"best\.safetensors: no such weights file"):
        zoo.model_path(str(tmp_path / "best.safetensors"))


def test_a_name_cannot_lead_out_of_the_folder(shelf) -> None:
    with pytest.raises(UsageError):
        zoo.model_path("../weights/anatomy")


def test_changed_weights_are_noticed(shelf) -> None:
    path = shelf / "anatomy.safetensors"
    assert zoo.is_intact(path)
    path.write_bytes(b"anatomX")
    assert not zoo.is_intact(path)


def test_weights_that_are_gone_are_refused(shelf) -> None:
    (shelf / "anatomy.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        zoo.is_intact(shelf / "anatomy.safetensors")


@pytest.mark.parametrize("text", ["", "[]", '{"name": "x"}', '{"nam": 1}', "\ud800"])
def test_a_damaged_card_is_refused(shelf, text) -> None:
    (shelf / "anatomy.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(CheckpointError, match=r"anatomy\.json: not a card of weights"):
        zoo.shipped_cards()


def test_a_missing_card_is_refused(shelf) -> None:
    (shelf / "anatomy.json").unlink()
    with pytest.raises(CheckpointError, match=r"weights need a \.json card beside them"):
        zoo.shipped_cards()
