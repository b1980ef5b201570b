"""The table and page of a group: the same bytes in any order, a damaged result its own row."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ddmseg.cohort.group import missing, read_group, write_tables
from ddmseg.cohort.group_page import mixtures, render_group
from ddmseg.errors import ScanError

DICTIONARY = {
    "volume_ml": {"Description": "Volume", "Units": "mL"},
    "share_of_icv": {"Description": "Share of the intracranial volume", "Units": "n/a"},
}


def write_result(
    folder: Path, stem: str, volumes: dict[str, float], *, version: str = "1", seconds: float = 1.0
) -> Path:
    """Write what a group reads of one result; return its receipt."""
    folder.mkdir(parents=True, exist_ok=True)
    head = "index\tname\tvolume_ml\tinterval_low_ml\tinterval_high_ml\tshare_of_icv"
    rows = [f"{n}\t{name}\t{ml}\t0\t9\t{ml / 1000}" for n, (name, ml) in enumerate(volumes.items())]
    texts = {
        "_volumes.tsv": "\n".join([head, *rows]) + "\n",
        "_volumes.json": json.dumps(DICTIONARY),
        "_qc.json": json.dumps(
            {
                "verdict": "warn",
                "expected_dice": 0.5,
                "reasons": ["a <b>", "c"],
                "reason_codes": [{"code": "odd", "values": {}}, None],
            }
        ),
    }
    for suffix, text in texts.items():
        (folder / f"{stem}{suffix}").write_text(text)
    receipt = folder / f"{stem}_receipt.json"
    told = {
        "software": {"ddmseg": version},
        "model": {"name": "tiny", "weights_sha256": "ab"},
        "spent": {"device": "cpu", "threads": 1},
        "seconds": {"encode": seconds, "restore": 0.5},
        "outputs": {f"{stem}{s}": hashlib.sha256(t.encode()).hexdigest() for s, t in texts.items()},
    }
    receipt.write_text(json.dumps(told))
    return receipt


def cohort(root: Path, count: int = 30) -> list[Path]:
    """Results of scans, the last of which has one volume far from the others."""
    draw = np.random.default_rng(0)
    made = []
    for number in range(1, count + 1):
        left, right = draw.normal(4, 0.2, 2).round(4)
        volumes = {"Left-Hippocampus": 30.0 if number == count else left}
        volumes |= {"Right-Hippocampus": right, "Brain-Stem": 20.0}
        stem = f"sub-{number}_ses-a_space-orig"
        made.append(write_result(root / f"sub-{number}" / "ses-a" / "anat", stem, volumes))
    return made


def written(folders: list[Path], out: Path) -> dict[str, bytes]:
    group = read_group(folders)
    assert group.problems == []
    write_tables(group, out)
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_one_row_per_scan_in_natural_order_with_a_dictionary_of_every_column(tmp_path) -> None:
    cohort(tmp_path / "out", 11)
    written([tmp_path / "out"], tmp_path / "group")
    rows = table(tmp_path / "group" / "group_volumes.tsv")
    assert [row["participant_id"] for row in rows] == [f"sub-{n}" for n in range(1, 12)]
    last = rows[-1]
    assert last["session_id"] == "ses-a"
    assert last["scan"] == "sub-11/ses-a/anat/sub-11_ses-a_space-orig"
    assert (last["verdict"], last["reasons"], last["expected_dice"]) == (
        "warn",
        "a <b>; c",
        "0.5000",
    )
    assert last["Left-Hippocampus_ml"] == "30.0"
    assert last["Left-Hippocampus_share_of_icv"] == "0.03"
    times = table(tmp_path / "group" / "group_runtime.tsv")
    assert times[0] == {
        "scan": rows[0]["scan"], "device": "cpu", "encode_s": "1.000", "restore_s": "0.500",
        "seconds": "1.500", "threads": "1",
    }  # fmt: skip
    for name, columns in (("group_volumes", rows[0]), ("group_runtime", times[0])):
        told = json.loads((tmp_path / "group" / f"{name}.json").read_text())
        assert list(told) == ["notice", *columns]
        assert all(told[column]["Description"] for column in columns)
    told = json.loads((tmp_path / "group" / "group_volumes.json").read_text())
    assert told["Left-Hippocampus_ml"] == {
        "Description": "Left-Hippocampus: Volume", "Units": "mL",
    }  # fmt: skip


def test_shards_merge_in_any_order_to_the_same_bytes(tmp_path) -> None:
    cohort(tmp_path / "whole", 12)
    shards = [tmp_path / name for name in ("z", "a", "m")]
    for number in range(12, 0, -1):
        name = f"sub-{number}"
        shutil.copytree(tmp_path / "whole" / name, shards[number % 3] / name)
    # a scan that stands in two shards, of another duration, is one
    again = write_result(tmp_path / "m" / "sub-12" / "ses-a" / "anat", "x", {})
    shutil.copytree(tmp_path / "whole" / "sub-12", tmp_path / "a" / "sub-12", dirs_exist_ok=True)
    for path in again.parent.glob("x_*"):
        path.unlink()
    whole = written([tmp_path / "whole"], tmp_path / "0")
    assert len(whole) == 4
    assert written(shards, tmp_path / "1") == whole
    assert written(shards[::-1], tmp_path / "2") == whole


def test_what_differs_between_equal_runs_is_not_in_the_table(tmp_path) -> None:
    for name, seconds in (("slow", 9.0), ("fast", 1.0)):
        write_result(tmp_path / name, "s", {"CSF": 1.0}, seconds=seconds)
    slow, fast = (written([tmp_path / n], tmp_path / f"g {n}") for n in ("slow", "fast"))
    differ = [name for name in slow if slow[name] != fast[name]]
    assert differ == ["group_runtime.tsv"]


def damage_missing(receipt: Path) -> None:
    receipt.with_name(receipt.name.replace("_receipt.json", "_qc.json")).unlink()


def damage_half(receipt: Path) -> None:
    path = receipt.with_name(receipt.name.replace("_receipt.json", "_volumes.tsv"))
    path.write_bytes(path.read_bytes()[:-9])


def damage_receipt(receipt: Path) -> None:
    receipt.write_bytes(receipt.read_bytes()[:40])


def damage_list(receipt: Path) -> None:
    receipt.write_text("[]")


def damage_version(receipt: Path) -> None:
    told = json.loads(receipt.read_text())
    del told["model"]
    receipt.write_text(json.dumps(told))


def damage_other(receipt: Path) -> None:
    told = {**json.loads(receipt.read_text()), "spent": None}
    receipt.write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_missing, "_qc.json: cannot be read (No such file or directory)"),
        (damage_half, "_volumes.tsv: not what its receipt says"),
        (damage_receipt, "_receipt.json: is damaged"),
        (damage_list, "_receipt.json: is damaged"),
        (damage_version, "a receipt or table of another version (KeyError('model'))"),
        (damage_other, "a receipt or table of another version"),
    ],
)
def test_a_damaged_result_costs_its_own_row_with_a_line(tmp_path, damage, said) -> None:
    made = cohort(tmp_path, 3)
    damage(made[1])
    group = read_group([tmp_path])
    assert [row.about["participant_id"] for row in group.rows] == ["sub-1", "sub-3"]
    (problem,) = group.problems
    assert said in str(problem)
    assert str(problem).endswith("segment the scan again")


def test_what_is_being_written_is_not_read(tmp_path) -> None:
    cohort(tmp_path, 1)
    write_result(tmp_path / ".scan.writing", "scan", {"CSF": 1.0})
    assert len(read_group([tmp_path]).rows) == 1


def test_two_different_results_of_one_scan_are_told(tmp_path) -> None:
    for name, ml in (("a", 1.0), ("b", 2.0)):
        write_result(tmp_path / name, "s", {"CSF": ml})
    group = read_group([tmp_path / "b", tmp_path / "a"])
    (problem,) = group.problems
    assert "s has other results at" in str(problem)
    assert group.rows[0].values["CSF_ml"] == "1.0"
    with pytest.raises(ScanError, match="no such folder"):
        read_group([tmp_path / "c"])


def test_versions_that_are_mixed_are_told(tmp_path) -> None:
    for name in ("1", "2", "1"):
        write_result(tmp_path, f"s{name}", {"CSF": 1.0}, version=name)
    assert mixtures(read_group([tmp_path])) == [
        "results of different versions stand side by side: 1 of 1, 1 of 2"
    ]


def test_a_measurement_that_no_scan_has_is_no_column(tmp_path) -> None:
    for name in ("s", "t"):
        write_result(tmp_path, name, {"CSF": 1.0, "Intracranial-Volume": float("nan")})
    columns = read_group([tmp_path]).columns
    assert columns == ["CSF_ml", "CSF_share_of_icv"]


def test_scans_without_a_result_are_found_by_name(tmp_path) -> None:
    cohort(tmp_path, 2)
    expected = [f"sub-{n}_ses-a_space-orig" for n in (10, 9, 1)]
    assert missing(expected, read_group([tmp_path])) == expected[1::-1]


def test_the_page_leads_from_an_outlier_to_its_report_and_names_what_is_missing(tmp_path) -> None:
    cohort(tmp_path / "out")
    group = read_group([tmp_path / "out"])
    page = render_group(group, tmp_path / "page", {"sub-<x>": "no anat"}, ["a note & more"])
    link = "../out/sub-30/ses-a/anat/sub-30_ses-a_space-orig_report.html"
    assert (tmp_path / "page" / link).resolve() == group.rows[-1].report.resolve()
    hippocampus = page.partition("<h3>Hippocampus</h3>")[2].partition("</div>")[0]
    # of the left side and of the difference, not of the right one
    assert hippocampus.count(f'<a href="{link}"><circle') == 2
    assert ": 30 ml</title>" in hippocampus
    assert f'<tr class="warn"><th><a href="{link}">' in page
    assert page.count("<a href=") == 2 + 1 + 1
    for told in ("sub-&lt;x&gt;", "no anat", "a note &amp; more", "<td>30</td>", "30 scans"):
        assert told in page
    assert "sub-<x>" not in page
    assert page == render_group(group, tmp_path / "page", {"sub-<x>": "no anat"}, ["a note & more"])


def test_a_page_of_few_scans_calls_nothing_out(tmp_path) -> None:
    cohort(tmp_path, 2)
    page = render_group(read_group([tmp_path]), tmp_path, {}, [])
    assert "None failed, and none lies far from the others." in page
    assert "<circle" not in page


def test_scans_without_any_volume_make_a_page(tmp_path) -> None:
    write_result(tmp_path, "s", {})
    write_result(tmp_path, "t", {"Left-Thalamus": 0.0, "Right-Thalamus": 0.0})
    page = render_group(read_group([tmp_path]), tmp_path, {}, [])
    assert "<h3>Thalamus</h3>" in page


def test_many_outliers_do_not_make_the_page_large(tmp_path) -> None:
    draw = np.random.default_rng(1)
    for number in range(400):
        ml = float(draw.standard_cauchy() ** 2)
        write_result(tmp_path, f"s{number}", {"CSF": ml})
    page = render_group(read_group([tmp_path]), tmp_path, {}, [])
    assert page.count("<circle") == 20
    assert len(page) < 150_000
