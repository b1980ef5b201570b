"""What others wrote is read or refused in one line, whatever is wrong with it.

A thousand inputs from fixed seeds; ``DDMSEG_FUZZ=20000 pytest tests/test_fuzz.py`` tries more.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from ddmseg.errors import DdmsegError
from ddmseg.evaluation.labels import read_label_table
from ddmseg.imaging.labels import HIPPOCAMPUS_LABELS
from ddmseg.imaging.nifti import read_label_map, read_volume
from ddmseg.inference.cache import FeatureCache
from ddmseg.models.card import read_card
from ddmseg.models.checkpoint import load_network
from ddmseg.models.json_reader import parse_json
from ddmseg.models.settings import Settings, read_settings
from ddmseg.models.settings_reader import settings_from_dict
from ddmseg.models.zoo import weights_folder
from fuzzing import damaged, twisted, twisted_header
from tiny_weights import CROPS, save_tiny

INPUTS = int(os.environ.get("DDMSEG_FUZZ", "1000"))
CONFIGS = Path(__file__).parents[1] / "configs"


def attack(path: Path, make: Callable[[int], bytes], read: Callable[[Path], object], n: int) -> int:
    """Read each input; return how many were refused. Any other error names its seed."""
    refused = 0
    for seed in range(max(1, n)):
        path.write_bytes(make(seed))
        try:
            read(path)
        except DdmsegError as error:
            refused += 1
            told = str(error)
            assert told.isprintable(), f"seed {seed}: {told!r}"
            assert len(told) < 1000, f"seed {seed}: {told!r}"
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    return refused


@pytest.fixture(scope="module")
def card() -> dict:
    return json.loads((weights_folder() / "hippocampus.json").read_text())


def read_whole(path: Path) -> None:
    settings_from_dict(Settings, read_card(path).settings)


def test_twisted_cards(tmp_path, card) -> None:
    refused = attack(
        tmp_path / "a.json", lambda seed: twisted(card, seed), read_whole, INPUTS * 3 // 10
    )
    assert refused


def test_damaged_cards(tmp_path, card) -> None:
    text = json.dumps(card).encode()
    assert attack(tmp_path / "a.json", lambda s: damaged(text, s), read_whole, INPUTS // 10)


def test_settings(tmp_path) -> None:
    text = (CONFIGS / "hippocampus.toml").read_bytes()
    assert attack(tmp_path / "a.toml", lambda s: damaged(text, s), read_settings, INPUTS // 5)


def test_label_tables(tmp_path) -> None:
    text = b"name\tprediction\ttruth\nhead\t1, 2\t3\nbody\t4\t5\n"
    assert attack(tmp_path / "a.tsv", lambda s: damaged(text, s), read_label_table, INPUTS // 10)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti(tmp_path, suffix) -> None:
    path = tmp_path / f"a{suffix}"
    data = np.random.default_rng(0).integers(0, 900, (6, 7, 5)).astype(np.int16)
    nib.save(nib.Nifti1Image(data, np.diag([2.0, 2, 2, 1])), path)
    whole = path.read_bytes()

    def make(seed: int) -> bytes:
        if suffix == ".nii":
            return twisted_header(whole, seed, 348)
        if seed % 2:
            return gzip.compress(twisted_header(gzip.decompress(whole), seed, 348), 1)
        return damaged(whole, seed)

    def read(path: Path) -> None:
        (read_volume if path.stat().st_size % 2 else read_label_map)(path)

    assert attack(path, make, read, INPUTS // 10)


def test_weights_whose_checksum_is_right(tmp_path) -> None:
    path = save_tiny(tmp_path, CROPS, HIPPOCAMPUS_LABELS)
    whole = path.read_bytes()
    told = json.loads(path.with_suffix(".json").read_text())

    def make(seed: int) -> bytes:
        # the header first, where it hurts
        made = damaged(whole[:2000], seed) + whole[2000:]
        told["checksum"] = hashlib.sha256(made).hexdigest()
        path.with_suffix(".json").write_text(json.dumps(told))
        return made

    assert attack(path, make, load_network, INPUTS // 20)


def test_a_damaged_cache_is_a_miss(tmp_path) -> None:
    FeatureCache(tmp_path).put("key", {"a": torch.arange(40.0)})
    (path,) = (entry for entry in tmp_path.rglob("*") if entry.is_file())
    whole = path.read_bytes()
    for seed in range(INPUTS // 20):
        path.write_bytes(damaged(whole, seed))
        found = FeatureCache(tmp_path).get("key")
        assert found is None or torch.equal(found["a"], torch.arange(40.0)), f"seed {seed}"


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 50_000, '{"a": 1, "a": 2}', "9" * 5000, "\ufeff{}", ""]
)
def test_json_has_one_kind_of_error(text) -> None:
    with pytest.raises(ValueError, match=r"nested|twice|digit|Expecting|BOM"):
        parse_json(text)


@pytest.mark.parametrize(
    "text", [".".join(["a"] * 30_000) + " = 1", "a = " + "[" * 400 + "]" * 400]
)
def test_deep_settings_are_refused_before_they_take_memory(tmp_path, text) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(DdmsegError, match=r"a\.toml: not a TOML file"):
        read_settings(tmp_path / "a.toml")
