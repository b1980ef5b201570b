"""``ddmseg replay``: the same labels again, or what differs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from bids_folder import study
from ddmseg.models.checkpoint import load_weights, save_weights
from real_command import run_quietly
from toy_head import write_head


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory, tiny_model) -> Path:
    """A folder with a head, and its results in mode fast."""
    folder = tmp_path_factory.mktemp("fast")
    words = ("-o", folder / "out", "--mode", "fast", "--no-cache", "--model", tiny_model)
    assert run_quietly("segment", write_head(folder / "scan.nii.gz"), *words).code == 0
    return folder


@pytest.fixture
def receipt(fast, tmp_path, monkeypatch) -> Path:
    """The receipt of that result, in a copy of the folder that the command stands in."""
    shutil.copytree(fast, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Path("out", "scan_receipt.json")


@pytest.mark.parametrize(
    "options",
    [
        ["--mode", "diffusion", "--samples", "2", "--seed", "3", "--temperature", "inf"],
        ["--mode", "diffusion", "--budget", "600", "--raw"],
        ["--mode", "auto"],
    ],
)
def test_the_same_labels_again(ddmseg, segment, receipt, tiny_model, options) -> None:
    done = segment("scan.nii.gz", "-o", "out", "--no-cache", "--overwrite", *options)
    assert done.code == 0
    again = ddmseg("replay", receipt, "--model", tiny_model)
    assert (again.code, again.err) == (0, "")
    assert again.out == f"the same labels as {receipt}\n"


def test_other_weights_are_told_with_what_they_change(
    ddmseg, receipt, tiny_model, tmp_path
) -> None:
    network, card = load_weights(tiny_model)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.manual_seed(1)))
    save_weights(network, card, tmp_path / "other.safetensors")
    other = ddmseg("replay", receipt, "--model", tmp_path / "other.safetensors")
    assert other.code == 1
    first, second, *structures = other.out.splitlines()
    assert first == f"other labels than those of {receipt}"
    assert second.endswith("voxels have another label")
    assert all(": Dice 0." in line for line in structures)
    assert other.err.startswith("weights: ")
    Path("out", "scan_dseg.nii.gz").unlink()
    gone = ddmseg("replay", receipt, "--model", tmp_path / "other.safetensors")
    assert gone.code == 1
    assert "is not there as it was" in gone.out


def test_a_scan_that_was_changed_or_moved_is_not_taken(
    ddmseg, receipt, tiny_model, tmp_path
) -> None:
    moved = tmp_path / "archive" / "deep"
    moved.mkdir(parents=True)
    Path("scan.nii.gz").rename(moved / "scan.nii.gz")
    write_head(tmp_path / "elsewhere" / "scan.nii.gz", seed=5)
    words = ["replay", receipt, "--model", tiny_model]
    refused = ddmseg(*words, "--scans", "elsewhere")
    assert refused.code == 1
    assert f"its scan is not in {tmp_path / 'elsewhere'}; name the folder with --scans" in (
        refused.error
    )
    assert ddmseg(*words, "--scans", "elsewhere", "archive").code == 0


def test_a_derivative_knows_where_its_scans_are(ddmseg, tiny_model, tmp_path) -> None:
    raw, out = study(tmp_path / "a study", subjects=1), tmp_path / "out"
    words = ["--model", tiny_model, "--mode", "fast"]
    assert ddmseg("bids", raw, out, "participant", *words).code == 0
    receipt = out / "sub-01" / "anat" / "sub-01_space-orig_receipt.json"
    assert ddmseg("replay", receipt, "--model", tiny_model).code == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file or directory; name the _receipt.json of a result"),
        ("{", "no receipt that this version understands"),
        ("[]", "no receipt that this version understands"),
        ('{"model": 1, "settings": {"mode": "slow"}}', "no receipt that this version understands"),
    ],
)
def test_what_is_no_receipt_is_refused_in_a_line(ddmseg, tmp_path, text, said) -> None:
    path = tmp_path / "scan_receipt.json"
    if text is not None:
        path.write_text(text)
    refused = ddmseg("replay", path)
    assert refused.code == 1
    assert refused.error.startswith(f"{path}: ")
    assert said in refused.error


def test_a_receipt_without_labels_is_refused(ddmseg, receipt, tiny_model) -> None:
    told = json.loads(receipt.read_text())
    del told["outputs"]
    receipt.write_text(json.dumps(told))
    refused = ddmseg("replay", receipt, "--model", tiny_model)
    assert "has no hash of scan_dseg.nii.gz" in refused.error
