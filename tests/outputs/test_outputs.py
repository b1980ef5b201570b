"""The files of one scan: exactly those promised, true to the result, all or none."""

from __future__ import annotations

import csv
import dataclasses
import errno
import hashlib
import json
import shutil
import threading
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ddmseg.errors import OutputError, UsageError
from ddmseg.imaging.labels import structure
from ddmseg.inference.options import SegmentOptions
from ddmseg.outputs import write as outputs
from ddmseg.outputs.write import write_outputs
from ddmseg.quality.reasons import Reason
from ddmseg.quality.segmentation import INTRACRANIAL, Asymmetry, Quality, StructureVolume

PROMISED = [
    "scan_dseg.nii.gz",
    "scan_dseg.tsv",
    "scan_dseg.json",
    "scan_desc-uncertainty_map.nii.gz",
    "scan_desc-discrepancy_map.nii.gz",
    "scan_volumes.tsv",
    "scan_volumes.json",
    "scan_qc.json",
    "scan_report.html",
    "scan_receipt.json",
]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones and those in folders included."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def plain(make_segmentation, tmp_path_factory) -> Path:
    """A plain result, written once for the tests that only read it."""
    folder = tmp_path_factory.mktemp("plain")
    write_outputs(make_segmentation(), folder, stem="scan")
    return folder


def test_exactly_the_promised_files_appear_with_the_receipt_last(
    make_segmentation, tmp_path
) -> None:
    written = write_outputs(make_segmentation(), tmp_path / "a" / "b", stem="scan")
    assert [path.name for path in written] == PROMISED
    assert sorted(p.name for p in (tmp_path / "a" / "b").iterdir()) == sorted(PROMISED)


def test_labels_and_maps_come_back_on_the_grid_of_the_scan(make_segmentation, tmp_path) -> None:
    segmentation = make_segmentation(spacing_mm=(4.0, 3.0, 5.0))
    write_outputs(segmentation, tmp_path, stem="scan")
    for name, expected in (
        ("scan_dseg", segmentation.labels.data),
        ("scan_desc-uncertainty_map", segmentation.uncertainty),
        ("scan_desc-discrepancy_map", segmentation.discrepancy),
    ):
        image = nib.load(tmp_path / f"{name}.nii.gz")
        np.testing.assert_array_equal(np.asarray(image.dataobj), expected)
        np.testing.assert_allclose(image.affine, segmentation.scan.affine)
    assert nib.load(tmp_path / "scan_dseg.nii.gz").get_data_dtype().kind in "iu"


def test_the_label_table_names_and_colours_every_label(plain) -> None:
    table = rows(plain / "scan_dseg.tsv")
    assert [row["index"] for row in table] == ["2", "41", "53"]
    assert table[2] == {"index": "53", "name": structure(53).name, "color": "#dcd814"}


def test_a_structure_that_was_not_found_is_in_the_table_too(make_segmentation, tmp_path) -> None:
    segmentation = make_segmentation()
    segmentation.labels.data[segmentation.labels.data == 53] = 0
    write_outputs(segmentation, tmp_path, stem="scan")
    assert [row["index"] for row in rows(tmp_path / "scan_dseg.tsv")] == ["2", "41", "53"]


def test_volumes_are_a_table_of_millilitres(make_segmentation, plain) -> None:
    table = rows(plain / "scan_volumes.tsv")
    columns = ["index", "name", "volume_ml", "interval_low_ml", "interval_high_ml"]
    assert list(table[0])[:5] == columns
    for row, expected in zip(table, make_segmentation().volumes, strict=True):
        assert row["share_of_intracranial"] == row["asymmetry_percent"] == "n/a"
        assert int(row["index"]) == expected.index
        assert float(row["volume_ml"]) == pytest.approx(expected.volume_ml, abs=1e-4)
        assert float(row["interval_low_ml"]) <= float(row["volume_ml"])
        assert float(row["volume_ml"]) <= float(row["interval_high_ml"])
        if expected.distribution is None:
            assert row["mean_ml"] == row["sd_ml"] == "n/a"
        else:
            assert float(row["median_ml"]) == pytest.approx(
                expected.distribution.median_ml, abs=1e-4
            )
            assert float(row["lower_quartile_ml"]) <= float(row["median_ml"])


def test_totals_have_no_id_and_shares_and_asymmetry_where_there_are_some(
    make_segmentation, tmp_path
) -> None:
    head = StructureVolume(0, INTRACRANIAL, 1000.0, 900.0, 1100.0)
    pair = StructureVolume(0, "Hippocampus", 7.0, 6.0, 8.0)
    sides = Asymmetry("Hippocampus", 5.0, -2.0, 12.0)
    segmentation = dataclasses.replace(
        make_segmentation(), totals=[pair, head], asymmetries=[sides]
    )
    write_outputs(segmentation, tmp_path, stem="scan")
    told = {row["name"]: row for row in rows(tmp_path / "scan_volumes.tsv")}
    row = told["Hippocampus"]
    assert (row["index"], row["share_of_intracranial"]) == ("0", "0.007000")
    assert [row[f"asymmetry_{end}"] for end in ("percent", "low", "high")] == [
        *("5.00", "-2.00", "12.00"),
    ]
    assert told[INTRACRANIAL]["asymmetry_percent"] == "n/a"
    assert told[segmentation.volumes[0].name]["share_of_intracranial"] != "n/a"


@pytest.mark.parametrize("table", ["scan_dseg", "scan_volumes"])
def test_beside_each_table_stands_what_its_columns_mean(plain, table) -> None:
    told = json.loads((plain / f"{table}.json").read_text())
    assert told.pop("notice") == "research use, not for diagnosis"
    assert list(told) == list(rows(plain / f"{table}.tsv")[0])
    for name, column in told.items():
        assert set(column) == {"Description", "Units"}, name
        unit = "mL" if name.endswith("_ml") else "%" if name.startswith("asymmetry") else "n/a"
        assert column["Units"] == unit


def test_the_quality_file_holds_the_verdict(make_segmentation, tmp_path) -> None:
    dim = Reason("It is dim.", "dim", {"percent": 3})
    quality = Quality("warn", 0.8, {"Left-Hippocampus": 0.7}, ["It is dark.", dim], 25, 4)
    write_outputs(make_segmentation(quality=quality), tmp_path, stem="scan")
    told = json.loads((tmp_path / "scan_qc.json").read_text())
    # beside each sentence what it says in code, where it has one
    assert told.pop("reason_codes") == [None, {"code": "dim", "values": {"percent": 3}}]
    assert told.pop("notice") == "research use, not for diagnosis"
    assert told.pop("reason_subjects") == ["scan", "scan"]
    assert told.pop("verdicts") == {"scan": "warn", "anatomy": "pass", "result": "pass"}
    assert told.pop("stands_out") is None  # the card of the fixture does not say what is usual
    assert told == dataclasses.asdict(quality)


def test_what_is_no_number_becomes_null_and_numpy_becomes_plain(
    make_segmentation, tmp_path
) -> None:
    quality = Quality("fail", float("nan"), {"Left-Hippocampus": float("inf")}, [], 0, 0)
    segmentation = dataclasses.replace(
        make_segmentation(quality=quality),
        receipt={"dice": np.float32(0.5), "shape": np.array([1, 2]), "path": Path("x"), 3: None},
    )
    write_outputs(segmentation, tmp_path, stem="scan")
    told = json.loads((tmp_path / "scan_qc.json").read_text())
    assert told["expected_dice"] is None
    assert told["expected_dice_by_structure"] == {"Left-Hippocampus": None}
    receipt = json.loads((tmp_path / "scan_receipt.json").read_text())
    del receipt["outputs"]
    assert receipt == {"dice": 0.5, "shape": [1, 2], "path": "x", "3": None}


def test_the_receipt_holds_the_hash_of_every_other_file(make_segmentation, plain) -> None:
    receipt = json.loads((plain / "scan_receipt.json").read_text())
    hashes = receipt.pop("outputs")
    assert receipt == make_segmentation().receipt
    assert list(hashes) == PROMISED[:-1]
    for name, expected in hashes.items():
        assert hashlib.sha256((plain / name).read_bytes()).hexdigest() == expected


def test_the_same_segmentation_gives_the_same_bytes(make_segmentation, plain, tmp_path) -> None:
    write_outputs(make_segmentation(), tmp_path, stem="scan")
    assert contents(tmp_path) == contents(plain)


def test_seconds_change_the_receipt_alone(make_segmentation, tmp_path) -> None:
    for seconds in ("1", "2"):
        slower = dataclasses.replace(make_segmentation(), receipt={"seconds": float(seconds)})
        write_outputs(slower, tmp_path / seconds, stem="scan")
    first, second = contents(tmp_path / "1"), contents(tmp_path / "2")
    assert [name for name in first if first[name] != second[name]] == ["scan_receipt.json"]


def test_probabilities_are_written_when_asked_for(make_segmentation, tmp_path) -> None:
    segmentation = make_segmentation(probabilities=True)
    written = write_outputs(
        segmentation, tmp_path, stem="scan", options=SegmentOptions(probabilities=True)
    )
    assert [path.name for path in written] == [*PROMISED[:-1], "scan_probseg.nii.gz", PROMISED[-1]]
    image = nib.load(tmp_path / "scan_probseg.nii.gz")
    assert image.header.get_data_dtype() == np.uint8
    np.testing.assert_allclose(
        np.asarray(image.dataobj), segmentation.probabilities, atol=0.5 / 255 + 1e-6
    )


def test_labels_for_freesurfer_and_the_image_of_the_brain_are_written_when_asked_for(
    make_segmentation, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("ddmseg.quality.segmentation.WHOLE_BRAIN", 1)
    segmentation = make_segmentation()
    options = SegmentOptions(brain=True, mgz=True)
    write_outputs(segmentation, tmp_path, stem="scan", options=options)
    labels = nib.load(tmp_path / "scan_dseg.mgz")
    np.testing.assert_array_equal(np.asarray(labels.dataobj), segmentation.labels.data)
    mask = np.asarray(nib.load(tmp_path / "scan_desc-brain_mask.nii.gz").dataobj) > 0
    image = np.asarray(nib.load(tmp_path / "scan_desc-brain_image.nii.gz").dataobj)
    np.testing.assert_array_equal(image, np.where(mask, segmentation.scan.data, 0))
    assert 0 < mask.sum() < mask.size


def test_probabilities_that_are_not_there_are_refused(make_segmentation, tmp_path) -> None:
    with pytest.raises(UsageError, match="probabilities: this segmentation has none"):
        write_outputs(
            make_segmentation(), tmp_path, stem="scan", options=SegmentOptions(probabilities=True)
        )
    assert contents(tmp_path) == {}


def test_two_scans_share_a_folder(make_segmentation, tmp_path) -> None:
    for stem in ("one", "two"):
        write_outputs(make_segmentation(), tmp_path, stem=stem)
    assert len(contents(tmp_path)) == 2 * len(PROMISED)


def test_existing_results_are_kept_unless_told_otherwise(make_segmentation, plain) -> None:
    before = contents(plain)
    with pytest.raises(OutputError, match=r"scan_dseg\.nii\.gz exists already; pass --overwrite"):
        write_outputs(make_segmentation(seed=1), plain, stem="scan")
    assert contents(plain) == before


def test_overwriting_replaces_the_whole_set(make_segmentation, tmp_path) -> None:
    older = make_segmentation(probabilities=True)
    write_outputs(older, tmp_path, stem="scan", options=SegmentOptions(probabilities=True))
    before = contents(tmp_path)
    write_outputs(make_segmentation(seed=1), tmp_path, stem="scan", overwrite=True)
    after = contents(tmp_path)
    assert sorted(after) == sorted(PROMISED), "the old probabilities belong to the old labels"
    changed = "scan_desc-discrepancy_map.nii.gz"
    assert after[changed] != before[changed]


def break_writer(monkeypatch, suffix: str, error: BaseException) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setitem(outputs._WRITERS, suffix, broken)


@pytest.mark.parametrize("suffix", ["_report.html", "_desc-discrepancy_map.nii.gz"])
def test_a_full_disk_leaves_nothing_behind(
    make_segmentation, tmp_path, monkeypatch, suffix
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    break_writer(monkeypatch, suffix, full)
    folder = tmp_path / "new" / "deep"
    with pytest.raises(OutputError, match=r"cannot write .*deep: No space left on device; mend"):
        write_outputs(make_segmentation(), folder, stem="scan")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_with_the_place_the_user_knows(
    make_segmentation, tmp_path, monkeypatch
) -> None:
    def no_space(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OutputError) as caught:  # noqa: PT012
        patched.setattr(Path, "write_text", no_space)
        write_outputs(make_segmentation(), tmp_path, stem="scan")
    assert str(caught.value).startswith(f"cannot write {tmp_path / 'scan_dseg.tsv'}: ")
    assert "the disk is full" in str(caught.value)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_an_older_set_survives_a_failure(make_segmentation, tmp_path, monkeypatch, error) -> None:
    write_outputs(make_segmentation(), tmp_path, stem="scan")
    before = contents(tmp_path)
    break_writer(monkeypatch, "_qc.json", error)
    with pytest.raises((OutputError, KeyboardInterrupt)):
        write_outputs(make_segmentation(seed=1), tmp_path, stem="scan", overwrite=True)
    assert contents(tmp_path) == before


def test_ctrl_c_as_the_packing_thread_starts_leaves_nobody_writing(
    make_segmentation, tmp_path, monkeypatch
) -> None:
    """A thread that Ctrl-C meets at its start is one that its pool does not know of."""
    begun, written = threading.Event(), threading.Event()
    start, remove = threading.Thread.start, shutil.rmtree
    left_behind = []

    def starting(thread: threading.Thread) -> None:
        start(thread)
        raise KeyboardInterrupt

    def slow(*_: object) -> None:
        begun.set()
        written.wait(1)
        written.set()

    def removing(folder: Path, **options: bool) -> None:
        if begun.wait(0.2) and not written.is_set():
            left_behind.append(folder)
        remove(folder, **options)

    monkeypatch.setattr(threading.Thread, "start", starting)
    monkeypatch.setitem(outputs._WRITERS, "_dseg.nii.gz", slow)
    monkeypatch.setattr(shutil, "rmtree", removing)
    with pytest.raises(KeyboardInterrupt):
        write_outputs(make_segmentation(), tmp_path / "out", stem="scan")
    assert not left_behind
    assert not (tmp_path / "out").exists()


# before and after the first old file has gone and the last one, before the new receipt comes
@pytest.mark.parametrize("allowed", [0, 1, 9, 10, 11, 2 * len(PROMISED) - 1])
def test_an_older_set_is_put_back_when_moving_fails(
    make_segmentation, plain, tmp_path, monkeypatch, allowed
) -> None:
    shutil.copytree(plain, tmp_path, dirs_exist_ok=True)
    before = contents(tmp_path)
    move, moves = Path.replace, []

    def breaks_once(source: Path, target: Path) -> Path:
        # the moves within the staging folder are those of the single writers
        if target.parent.name.startswith(".") or target.parent == source.parent:
            return move(source, target)
        moves.append(source)
        if len(moves) == allowed + 1:
            raise OSError(errno.EIO, "Input/output error")
        return move(source, target)

    monkeypatch.setattr(Path, "replace", breaks_once)
    with pytest.raises(OutputError, match="Input/output error"):
        write_outputs(make_segmentation(seed=1), tmp_path, stem="scan", overwrite=True)
    assert contents(tmp_path) == before


def test_a_file_in_place_of_the_folder_is_refused(make_segmentation, tmp_path) -> None:
    (tmp_path / "results").write_text("a file")
    with pytest.raises(OutputError, match="results is a file; the results need a folder"):
        write_outputs(make_segmentation(), tmp_path / "results", stem="scan")
    with pytest.raises(OutputError, match="results is a file; the results need a folder"):
        write_outputs(make_segmentation(), tmp_path / "results" / "below", stem="scan")


def test_a_name_that_is_too_long_is_refused(make_segmentation, tmp_path) -> None:
    with pytest.raises(OutputError, match=r"File name too long\); rename the scan"):
        write_outputs(make_segmentation(), tmp_path, stem="x" * 300)
    assert contents(tmp_path) == {}


def test_a_model_of_the_whole_brain_also_leaves_its_mask_and_freesurfers_table(
    make_segmentation, tmp_path, monkeypatch
) -> None:
    segmentation = make_segmentation()
    ids = segmentation.labels.data
    ids[ids == 53] = 24  # fluid around the brain is no part of it
    few = {path.name for path in write_outputs(segmentation, tmp_path / "few", stem="scan")}
    monkeypatch.setattr("ddmseg.quality.segmentation.WHOLE_BRAIN", 1)
    written = {path.name for path in write_outputs(segmentation, tmp_path, stem="scan")}
    assert written - few == {"scan_desc-brain_mask.nii.gz", "scan_aseg.stats"}
    mask = nib.load(tmp_path / "scan_desc-brain_mask.nii.gz")
    np.testing.assert_array_equal(np.asarray(mask.dataobj), (ids > 0) & (ids != 24))
    np.testing.assert_allclose(mask.affine, segmentation.scan.affine)
