"""Which scans an output folder holds, and what their files say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ddmseg.errors import ScanError
from ddmseg.review.results import CORRECTED, LABELS, find_results, read_summary


def test_every_scan_is_found_by_its_receipt(folder: Path) -> None:
    found = find_results(folder)
    assert [result.name for result in found] == ["better", "worse"]
    assert found[0].path(LABELS) == folder / "better_dseg.nii.gz"
    assert found[0].has(LABELS)
    assert not found[0].has(CORRECTED)


def test_identifiers_tell_scans_apart_and_nothing_else(folder: Path) -> None:
    identifiers = [result.identifier for result in find_results(folder)]
    assert len(set(identifiers)) == 2
    assert all(len(one) == 16 and int(one, 16) >= 0 for one in identifiers)
    assert identifiers == [result.identifier for result in find_results(folder)]


def test_subfolders_count_and_hidden_ones_do_not(folder: Path) -> None:
    for place in ("site-1", ".partial"):
        (folder / place).mkdir()
        for path in folder.glob("better_*"):
            (folder / place / path.name).write_bytes(path.read_bytes())
    assert [result.name for result in find_results(folder)] == ["better", "site-1/better", "worse"]


def test_a_link_out_of_the_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside_receipt.json"
    outside.write_text("{}")
    (folder / "outside_receipt.json").symlink_to(outside)
    assert "outside" not in [result.name for result in find_results(folder)]


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"no result here; name the folder that ddmseg segment"):
        find_results(tmp_path)
    with pytest.raises(ScanError, match="no such folder"):
        find_results(tmp_path / "nowhere")


def test_the_summary_is_what_was_written(folder: Path) -> None:
    better, worse = (read_summary(result) for result in find_results(folder))
    assert (better.verdict, better.expected_dice, better.reasons) == ("pass", 0.9, [])
    assert (worse.verdict, worse.steps, worse.samples) == ("warn", 10, 4)
    assert worse.expected_dice == pytest.approx(0.7)
    assert [row.index for row in better.volumes] == [2, 41, 53]
    first = better.volumes[0]
    assert first.name == "Left-Cerebral-White-Matter"
    assert first.interval_low_ml < first.volume_ml < first.interval_high_ml
    assert (first.expected_dice, better.volumes[1].expected_dice) == (0.9, None)
    assert [row.index for row in better.labels] == [2, 41, 53]
    assert all(row.colour.startswith("#") for row in better.labels)


def test_codes_of_reasons_are_read_where_there_are_any(folder: Path) -> None:
    for told, codes in (
        ([{"code": "odd", "values": {"n": 1}}], [{"code": "odd", "values": {"n": 1}}]),
        ([None], [None]),
        (None, [None]),
        ("odd", [None]),
        ([], [None]),
        ([{"code": 3, "values": {}}], [None]),
        ([{"code": "odd"}], [None]),
        ([["odd"]], [None]),
    ):
        result = find_results(folder)[1]
        path = result.path("_qc.json")
        written = json.loads(path.read_text())
        path.write_text(json.dumps({**written, "reason_codes": told}))
        summary = read_summary(result)
        assert (summary.reasons, summary.reason_codes) == (written["reasons"], codes)


def test_results_of_older_versions_have_no_codes(folder: Path) -> None:
    result = find_results(folder)[1]
    written = json.loads(result.path("_qc.json").read_text())
    del written["reason_codes"]
    result.path("_qc.json").write_text(json.dumps(written))
    assert read_summary(result).reason_codes == [None]


def test_an_unknown_dice_is_worse_than_any(folder: Path) -> None:
    result = find_results(folder)[0]
    path = result.path("_qc.json")
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, "expected_dice": None}))
    unknown = read_summary(result)
    assert unknown.expected_dice is None
    assert unknown.worst_first < read_summary(find_results(folder)[1]).worst_first


@pytest.mark.parametrize(
    ("suffix", "content", "reason"),
    [
        ("_qc.json", "{", "damaged"),
        ("_qc.json", "[]", "no table of names"),
        ("_qc.json", '{"verdict": "fine"}', "verdict 'fine'"),
        ("_qc.json", '{"verdict": "pass", "expected_dice": 3}', "damaged"),
        ("_volumes.tsv", "index\tname\nx\ty\n", "damaged"),
        ("_dseg.tsv", "index\tname\tcolor\n2\tx\tred\n", "colour 'red'"),
        ("_receipt.json", "\udcff", "not UTF-8"),
    ],
)
def test_damaged_files_are_told_in_one_line(
    folder: Path, suffix: str, content: str, reason: str
) -> None:
    result = find_results(folder)[0]
    result.path(suffix).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ScanError, match=reason) as told:
        read_summary(result)
    assert len(str(told.value).splitlines()) == 1


def test_a_missing_file_is_told(folder: Path) -> None:
    result = find_results(folder)[0]
    result.path("_volumes.tsv").unlink()
    with pytest.raises(ScanError, match="cannot be read"):
        read_summary(result)
