"""Everything that can be wrong with what is given: one line, nothing half-written, no scan lost.

The bad scans are run beside a good one through the real command.
"""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ddmseg import atomic
from real_command import Outcome, run_quietly
from toy_head import PROMISED, everything_in, head_affine, head_voxels, write_head

FILES = len(PROMISED)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write_head(tmp_path / "good.nii.gz")


def save(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> None:
    nib.Nifti1Image(data, head_affine() if affine is None else affine).to_filename(path)


def with_voxel(value: float) -> np.ndarray:
    data = head_voxels()
    data[3, 4, 5] = value
    return data


def patch(path: Path, offset: int, data: bytes) -> None:
    """Write a head whose header is changed at one place."""
    write_head(path)
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[offset : offset + len(data)] = data
    path.write_bytes(gzip.compress(bytes(raw)))


def truncated(path: Path) -> None:
    write_head(path)
    path.write_bytes(path.read_bytes()[:-2000])


def wrong_checksum(path: Path) -> None:
    write_head(path)
    data = bytearray(path.read_bytes())
    data[-8] ^= 1
    path.write_bytes(data)


def promises_gigabytes(path: Path) -> None:
    patch(path, 40, struct.pack("<8h", 3, 512, 512, 512, 1, 1, 1, 1))


def promises_far_too_much(path: Path) -> None:
    patch(path, 40, struct.pack("<8h", 3, 32000, 32000, 32000, 1, 1, 1, 1))


def nan_affine(path: Path) -> None:
    patch(path, 280, struct.pack("<f", float("nan")))


def singular_affine(path: Path) -> None:
    patch(path, 280, struct.pack("<12f", *[1, 0, 0, 0] * 2, *[0, 0, 1, 0]))


def corrupt(path: Path) -> None:
    """Its header cannot even be looked at, as when room for several scans is planned."""
    path.write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + b"\xff" * 5000)


def label_map(path: Path) -> None:
    data = np.zeros((26, 30, 22), np.int16)
    data[4:20, 4:20, 4:18] = 2
    data[8:14, 8:14, 6:12] = 17
    save(path, data)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "no such file; check the path"),
    "empty": (lambda path: path.write_bytes(b""), "the file is empty; copy or download it again"),
    "no NIfTI": (lambda path: path.write_bytes(b"hello" * 200), "neither NIfTI nor MGH"),
    "corrupt gzip": (corrupt, "damaged gzip file (the data do not inflate)"),
    "pipe": (os.mkfifo, "a pipe, not a file; give the file itself"),
    "device": (
        lambda path: path.symlink_to("/dev/zero"),
        "a device, not a file; give the file itself",
    ),
    "truncated gzip": (truncated, "cut off; copy or download it again"),
    "wrong gzip checksum": (wrong_checksum, "damaged gzip file (CRC check failed"),
    "promises gigabytes": (promises_gigabytes, "the header promises 536871264 bytes"),
    "promises too much": (promises_far_too_much, "at most 134217728 are allowed"),
    "constant": (
        lambda path: save(path, np.full((9, 9, 9), 7.0, np.float32)),
        "every voxel is 7; give a scan with contrast",
    ),
    "NaN voxels": (
        lambda path: save(path, with_voxel(float("nan"))),
        "1 voxels are NaN or infinite; mend the scan, or set them to 0 with --accept-nan",
    ),
    "infinite voxels": (lambda path: save(path, with_voxel(float("inf"))), "--accept-nan"),
    "NaN affine": (nan_affine, "NaN"),
    "singular affine": (singular_affine, "singular"),
    "2-D": (
        lambda path: save(path, head_voxels()[:, :, :1]),
        "a 2-D image (26 x 30 x 1); give a 3-D scan",
    ),
    "4-D": (
        lambda path: save(path, np.stack([head_voxels()] * 3, -1)),
        "3 volumes; choose one from 0 to 2 with --volume",
    ),
    "label map": (label_map, "this is a label map, not a scan; give the scan it was made from"),
    "folder without scans": (lambda path: path.mkdir(), "no scan in this folder"),
    "DICOM": (
        lambda path: path.write_bytes(bytes(128) + b"DICM" + bytes(900)),
        "a DICOM file",
    ),
}


@pytest.fixture(scope="module")
def among_bad(tmp_path_factory: pytest.TempPathFactory, tiny_model) -> tuple[Path, Outcome]:
    """A folder with a good scan and its results, and what was said of the bad ones beside it."""
    folder = tmp_path_factory.mktemp("bad")
    paths = [folder / name / "bad.nii.gz" for name in BAD]
    for path, (make, _) in zip(paths, BAD.values(), strict=True):
        path.parent.mkdir()
        make(path)
    words = ["-o", folder / "out", "--mode", "fast", "--no-cache", "--model", tiny_model]
    return folder, run_quietly("segment", *paths, write_head(folder / "good.nii.gz"), *words)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_scan_is_refused_in_one_line(among_bad, name) -> None:
    folder, outcome = among_bad
    bad = str(folder / name / "bad.nii.gz")
    (line,) = [line for line in outcome.errors if line.startswith(f"error: {bad}: ")]
    assert line.count(bad) == 1
    assert BAD[name][1] in line


def test_the_good_scan_among_bad_ones_is_done(among_bad) -> None:
    folder, outcome = among_bad
    assert (outcome.code, len(outcome.errors)) == (1, len(BAD))
    assert outcome.err.splitlines()[-1] == f"{len(BAD)} of {len(BAD) + 1} failed"
    assert "Traceback" not in outcome.err
    files = everything_in(folder / "out")
    assert len(files) == FILES
    assert all(file.startswith("good_") for file in files)


@pytest.fixture
def done(among_bad, good, tmp_path) -> Path:
    """The folder with the results of the good scan in mode fast."""
    shutil.copy(among_bad[0] / "good.nii.gz", good)
    return Path(shutil.copytree(among_bad[0] / "out", tmp_path / "out"))


def test_a_bad_scan_alone_leaves_no_folder(segment, tmp_path) -> None:
    truncated(tmp_path / "bad.nii.gz")
    outcome = segment(tmp_path / "bad.nii.gz", "-o", tmp_path / "out" / "deeper")
    assert outcome.code == 1
    assert outcome.error
    assert not (tmp_path / "out").exists()


def test_nan_voxels_are_accepted_when_it_is_said(segment, tmp_path) -> None:
    save(tmp_path / "nan.nii.gz", with_voxel(float("nan")))
    outcome = segment(
        tmp_path / "nan.nii.gz", "-o", tmp_path / "out", "--accept-nan", "--mode", "fast"
    )
    assert (outcome.code, outcome.errors) == (0, [])


@pytest.mark.parametrize("volume", ["3", "-1"])
def test_a_volume_that_is_not_there_is_refused(segment, tmp_path, volume) -> None:
    BAD["4-D"][0](tmp_path / "many.nii.gz")
    outcome = segment(tmp_path / "many.nii.gz", "-o", tmp_path / "out", "--volume", volume)
    assert outcome.code == 1
    assert f"no volume {volume}; --volume must be from 0 to 2" in outcome.error


def test_a_scan_without_read_permission_is_refused(segment, good, tmp_path, monkeypatch) -> None:
    real = Path.open

    def guarded(self: Path, *words, **named):
        if self.name == "bad.nii.gz":
            raise PermissionError(13, "Permission denied")
        return real(self, *words, **named)

    write_head(tmp_path / "bad.nii.gz")
    monkeypatch.setattr(Path, "open", guarded)
    outcome = segment(tmp_path / "bad.nii.gz", good, "-o", tmp_path / "out", "--mode", "fast")
    assert outcome.code == 1
    assert "bad.nii.gz: cannot be read (Permission denied)" in outcome.error
    assert len(everything_in(tmp_path / "out")) == FILES


# outputs


def test_the_same_again_is_done_already_and_anything_else_is_never_replaced_unasked(
    segment, good, done, tmp_path
) -> None:
    out = done
    before = {path: path.read_bytes() for path in out.iterdir()}
    other = write_head(tmp_path / "other.nii.gz", seed=3)
    outcome = segment(good, other, "-o", out, "--mode", "fast")
    assert (outcome.code, outcome.errors) == (0, [])
    assert len(outcome.out.splitlines()) == 1
    assert "1 of 2 done already (same scan, weights, settings and version)" in outcome.err
    assert all(path.read_bytes() == data for path, data in before.items())
    again = segment(good, other, "-o", out, "--mode", "diffusion", "--temperature", "inf")
    assert again.code == 1
    assert again.errors[0] == (
        f"error: {good}: {out / 'good_dseg.nii.gz'} exists already, of another mode, "
        "another temperature; pass --overwrite to replace it, or name another folder"
    )
    assert all(path.read_bytes() == data for path, data in before.items())
    replaced = segment(good, "-o", out, "--mode", "diffusion", "--overwrite")
    assert replaced.code == 0
    assert any(path.read_bytes() != data for path, data in before.items())


def test_another_scan_of_the_same_name_is_not_done_already(segment, good, done) -> None:
    write_head(good, seed=5)
    outcome = segment(good, "-o", done, "--mode", "fast")
    assert outcome.code == 1
    assert "exists already, of another input sha256" in outcome.error


def test_labels_that_were_corrected_are_not_replaced_unasked(segment, good, done) -> None:
    labels = done / "good_dseg.nii.gz"
    labels.write_bytes(labels.read_bytes() + b"x")
    outcome = segment(good, "-o", done, "--mode", "fast")
    assert outcome.code == 1
    assert f"{labels} was changed after its receipt; pass --overwrite" in outcome.error
    assert labels.read_bytes().endswith(b"x")


def test_files_of_another_program_are_not_replaced_unasked(segment, good, tmp_path) -> None:
    (tmp_path / "good_dseg.nii.gz").write_bytes(good.read_bytes())
    outcome = segment(good, "-o", tmp_path, "--mode", "fast")
    assert outcome.code == 1
    assert "exists already and no receipt stands beside it; pass --overwrite" in outcome.error
    assert (tmp_path / "good_dseg.nii.gz").read_bytes() == good.read_bytes()


@pytest.mark.parametrize("gone", ["good_receipt.json", "good_report.html"])
def test_a_set_that_lost_a_file_is_done_again(segment, good, done, gone) -> None:
    (done / gone).unlink()
    outcome = segment(good, "-o", done, "--mode", "fast")
    assert (outcome.code, outcome.errors) == (0, [])
    assert "scan 1 of 1" in outcome.err
    assert everything_in(done) == [f"good{suffix}" for suffix in PROMISED]


def test_an_output_that_is_a_link_to_nowhere_is_refused_before_the_work(
    segment, good, tmp_path
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone" / "out")
    for place in (tmp_path / "link", tmp_path / "link" / "deeper"):
        outcome = segment(good, "-o", place)
        assert (outcome.code, "scan 1" in outcome.err) == (1, False)
        assert outcome.error == (
            f"{tmp_path / 'link'} is a link that leads nowhere; mend it or name another place"
        )


def test_a_name_without_room_for_its_endings_is_refused_before_the_work(
    segment, good, tmp_path
) -> None:
    long = write_head(tmp_path / f"{'x' * 240}.nii.gz")
    outcome = segment(long, good, "-o", tmp_path / "out", "--mode", "fast")
    assert outcome.code == 1
    assert "(File name too long); rename the scan or choose another folder" in outcome.error
    assert "scan 1 of 1" in outcome.err
    assert len(everything_in(tmp_path / "out")) == FILES
    fits = write_head(tmp_path / f"{'y' * 227}.nii.gz")
    assert segment(fits, "-o", tmp_path / "out", "--mode", "fast").code == 0


def test_a_disk_without_room_is_told_before_the_work(segment, good, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(9, 8, 1))
    outcome = segment(good, "-o", tmp_path / "out", "--mode", "fast")
    assert outcome.code == 1
    assert "0.0 MB free, and the results of this scan take about 0.5 MB" in outcome.error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["file", "file/deeper"])
def test_an_output_that_is_a_file_is_refused_before_the_work(
    segment, good, tmp_path, place
) -> None:
    (tmp_path / "file").write_text("mine")
    outcome = segment(good, "-o", tmp_path / place)
    assert outcome.code == 1
    assert outcome.error == (
        f"{tmp_path / 'file'} is a file; the results need a folder: name another place"
    )
    assert "scan 1" not in outcome.err
    assert (tmp_path / "file").read_text() == "mine"


def test_an_output_without_permission_is_refused_before_the_work(
    segment, good, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    outcome = segment(good, "-o", tmp_path / "out")
    assert outcome.code == 1
    assert outcome.error == f"{tmp_path}: no permission to write there; choose another folder"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("when", [0, 4, FILES - 1])
def test_a_full_disk_leaves_nothing_of_that_scan(
    segment, good, tmp_path, monkeypatch, when
) -> None:
    """The disk fills up while file number ``when`` is written, and has room again for the next."""
    writes = iter(range(1000))
    real = atomic._sync

    def sync(path: Path) -> None:
        if next(writes) == when:
            raise OSError(28, "No space left on device")
        real(path)

    monkeypatch.setattr(atomic, "_sync", sync)
    other = write_head(tmp_path / "other.nii.gz", seed=1)
    outcome = segment(good, other, "-o", tmp_path / "out", "--mode", "fast")
    assert outcome.code == 1
    assert outcome.error.startswith(f"{good}: cannot write {tmp_path / 'out'}")
    assert "the disk is full; free some space or choose another folder" in outcome.error
    files = everything_in(tmp_path / "out")
    assert len(files) == FILES
    assert all(file.startswith("other_") for file in files)


def test_a_full_disk_keeps_the_old_results_whole(segment, good, done, monkeypatch) -> None:
    before = {path: path.read_bytes() for path in done.iterdir()}

    def sync(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "_sync", sync)
    outcome = segment(good, "-o", done, "--mode", "diffusion", "--overwrite")
    assert outcome.code == 1
    assert {path: path.read_bytes() for path in done.iterdir()} == before


def test_an_unexpected_failure_of_one_scan_does_not_lose_the_others(
    segment, good, tmp_path, monkeypatch
) -> None:
    from ddmseg.inference.segmenter import Segmenter

    real = Segmenter.solve

    def failing(self, begun):
        if begun.scan.name == "bad":
            raise RuntimeError("tensors do\nnot match")
        return real(self, begun)

    monkeypatch.setattr(Segmenter, "solve", failing)
    bad = write_head(tmp_path / "bad.nii.gz")
    outcome = segment(bad, good, "-o", tmp_path / "out", "--mode", "fast")
    assert outcome.code == 1
    assert outcome.error == (
        f"{bad}: unexpected RuntimeError: tensors do not match; run again with --debug to see where"
    )
    assert len(everything_in(tmp_path / "out")) == FILES
    told = segment(bad, "-o", tmp_path / "out", "--mode", "fast", "--debug").err
    assert "Traceback" in told


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_ended_leaves_nothing_half_written(
    segment, good, tmp_path, monkeypatch, sent
) -> None:
    writes = iter(range(1000))
    real = atomic._sync

    def sync(path: Path) -> None:
        if next(writes) == FILES + 3:  # in the midst of the second scan
            os.kill(os.getpid(), sent)
        real(path)

    monkeypatch.setattr(atomic, "_sync", sync)
    other = write_head(tmp_path / "other.nii.gz", seed=1)
    outcome = segment(good, other, "-o", tmp_path / "out", "--mode", "fast")
    assert (outcome.code, outcome.errors) == (130, [])
    assert outcome.err.endswith("stopped\n")
    files = everything_in(tmp_path / "out")
    assert len(files) == FILES
    assert all(file.startswith("good_") for file in files)


# models, options and their values


def test_an_unknown_model_is_wrong_usage(ddmseg, good, tmp_path) -> None:
    outcome = ddmseg("segment", good, "-o", tmp_path / "out", "--model", "anatmoy")
    assert outcome.code == 2
    assert outcome.error.startswith("model: got 'anatmoy'")
    assert "or the path of a .safetensors file" in outcome.error
    assert not (tmp_path / "out").exists()


def test_damaged_weights_are_refused(ddmseg, tiny_model, good, tmp_path) -> None:
    for suffix in (".safetensors", ".json"):
        shutil.copy(tiny_model.with_suffix(suffix), tmp_path / f"m{suffix}")
    model = tmp_path / "m.safetensors"
    model.write_bytes(model.read_bytes()[:-1])
    outcome = ddmseg("segment", good, "-o", tmp_path / "out", "--model", model)
    assert outcome.code == 1
    assert outcome.error == f"{model}: checksum differs from its card; fetch the file again"
    model.with_suffix(".json").unlink()
    outcome = ddmseg("segment", good, "-o", tmp_path / "out", "--model", model)
    assert "weights need a .json card beside them" in outcome.error
    assert not (tmp_path / "out").exists()


USAGE = {
    "--mode fsat": "--mode: got 'fsat' (did you mean 'fast'?); allowed are auto, fast, diffusion",
    "--sampler dmp": "--sampler: got 'dmp' (did you mean 'dpm'?)",
    "--device gpu": "--device: got 'gpu'",
    "--steps 0": "steps: got 0; it must be at least 1",
    "--samples -2": "samples: got -2; it must be at least 1",
    "--temperature -1": "temperature: got -1.0; it must not be negative",
    "--temperature nan": "temperature: got nan; it must not be negative",
    "--threads 0": "threads: got 0; it must be at least 1",
    "--stpes 3": "--stpes: unknown option (did you mean '--steps'?)",
    "--overwritten": "--overwritten: unknown option (did you mean '--overwrite'?)",
}


@pytest.mark.parametrize("words", USAGE)
def test_wrong_usage_is_one_line_and_code_2(segment, good, tmp_path, words) -> None:
    outcome = segment(good, "-o", tmp_path / "out", *words.split())
    assert outcome.code == 2
    assert outcome.error.startswith(USAGE[words])
    assert outcome.out == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("missing", ["-o", "IN"])
def test_what_is_needed_is_asked_for(segment, good, tmp_path, missing) -> None:
    words = [good] if missing == "-o" else ["-o", tmp_path / "out"]
    outcome = segment(*words)
    assert outcome.code == 2
    assert "is missing; see ddmseg segment --help" in outcome.error


@pytest.mark.skipif("__import__('torch').cuda.is_available()", reason="a CUDA device is here")
def test_a_gpu_that_is_not_there_is_wrong_usage(segment, good, tmp_path) -> None:
    outcome = segment(good, "-o", tmp_path / "out", "--device", "cuda")
    assert outcome.code == 2
    assert "no CUDA device" in outcome.error
