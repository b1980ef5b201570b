"""The files of one segmentation, in BIDS-derivative names: all of them or none.

Everything is first written to a hidden folder beside its place; only when the
last file is complete are they moved in, the receipt at the end. Whoever finds
a receipt finds the whole set.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from ddmseg.errors import OutputError, UsageError
from ddmseg.imaging.atomic import system_reason
from ddmseg.imaging.nifti import write_label_map, write_map
from ddmseg.imaging.nifti_write import write_label_frames
from ddmseg.imaging.notice import NOTICE
from ddmseg.pipeline.outputs.dicom import DICOM_REPORT, DICOM_SEG, DicomTarget, dicom_writers
from ddmseg.pipeline.outputs.tables import (
    write_label_table,
    write_label_table_dictionary,
    write_volume_table,
    write_volume_table_dictionary,
)
from ddmseg.pipeline.outputs.text import write_json, write_text
from ddmseg.pipeline.quality.reasons import reason_code
from ddmseg.pipeline.report.page import render_report
from ddmseg.pipeline.segmentation import Segmentation

SUFFIXES = (
    "_dseg.nii.gz",
    "_dseg.tsv",
    "_dseg.json",
    "_desc-uncertainty_map.nii.gz",
    "_desc-discrepancy_map.nii.gz",
    "_volumes.tsv",
    "_volumes.json",
    "_qc.json",
    "_report.html",
    DICOM_SEG,
    DICOM_REPORT,
    "_desc-samples_dseg.nii.gz",
    "_desc-steps_dseg.nii.gz",
    "_probseg.nii.gz",
    "_receipt.json",
)
"""What follows the stem, in the order of writing; the receipt is last."""

Writer = Callable[[Segmentation, Path], None]

VOLUME = ".nii.gz"
RECEIPT = "_receipt.json"
PROBABILITIES = "_probseg.nii.gz"
SAMPLES = "_desc-samples_dseg.nii.gz"
STEPS = "_desc-steps_dseg.nii.gz"


def write_outputs(
    segmentation: Segmentation,
    folder: Path,
    *,
    stem: str,
    overwrite: bool = False,
    probabilities: bool = False,
    dicom: DicomTarget | None = None,
) -> list[Path]:
    """Write the files of one scan and return their paths, the receipt last.

    The receipt gets ``outputs``: the SHA-256 of every other file. The same
    segmentation gives the same bytes, but for DICOM, which holds its time and UIDs.
    With ``overwrite`` an older set is replaced as a whole, its probabilities
    included; when anything fails it is put back.

    Args:
        segmentation: what to write.
        folder: made when it is missing.
        stem: what every name begins with, such as ``sub-01_T1w``.
        overwrite: replace the files of an earlier run.
        probabilities: also write ``_probseg.nii.gz``.
        dicom: what the DICOM files refer to; None writes none.

    Raises:
        ScanError: when the source of the DICOM files cannot be read any more.
        OutputError: when files exist already or cannot be written.
        UsageError: when probabilities are wanted but the segmentation has none.
    """
    if probabilities and segmentation.probabilities is None:
        raise UsageError("probabilities: this segmentation has none; ask for them when segmenting")
    writers = _WRITERS | (dicom_writers(segmentation, dicom) if dicom else {})
    wanted = [
        suffix
        for suffix in _wanted(segmentation, probabilities=probabilities)
        if suffix in writers or suffix == RECEIPT
    ]
    with _errors_named(folder):
        existing = _check_free(folder, stem, overwrite=overwrite)
        with _packing() as packer, _staging(folder, stem) as staging:
            work = {staging / f"{stem}{suffix}": writers[suffix] for suffix in wanted[:-1]}
            _write_all(segmentation, work, packer)
            _write_receipt(segmentation, _paths(staging, stem, wanted))
            _move_in(_paths(staging, stem, wanted), folder, existing)
    return _paths(folder, stem, wanted)


@contextmanager
def _packing() -> Iterator[ThreadPoolExecutor]:
    """A thread that packs volumes, running already: zlib lets go of Python's lock.

    Ctrl-C while a thread starts leaves one that nobody waits for. So it starts before there
    is a file, and what it writes can always be waited for.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="packing") as packer:
        packer.submit(int).result()
        yield packer


def _write_all(
    segmentation: Segmentation, work: dict[Path, Writer], packer: ThreadPoolExecutor
) -> None:
    """Write every file, volumes in the packing thread; when it returns, that has ended."""
    try:
        packed = [
            packer.submit(write, segmentation, path)
            for path, write in work.items()
            if path.name.endswith(VOLUME)
        ]
        for path, write in work.items():
            if not path.name.endswith(VOLUME):
                write(segmentation, path)
        for volume in packed:
            volume.result()
    finally:
        packer.shutdown(cancel_futures=True)


def _wanted(segmentation: Segmentation, *, probabilities: bool) -> list[str]:
    """Return the suffixes of what there is to write: a trace where one was kept."""
    there = {
        PROBABILITIES: probabilities,
        SAMPLES: segmentation.sample_labels is not None,
        STEPS: segmentation.step_labels is not None,
    }
    return [suffix for suffix in SUFFIXES if there.get(suffix, True)]


def existing_outputs(folder: Path, stem: str) -> list[Path]:
    """Return the files that an earlier run left for a scan of that stem."""
    return [path for path in _paths(folder, stem, SUFFIXES) if path.exists()]


def _check_free(folder: Path, stem: str, *, overwrite: bool) -> list[Path]:
    """Return the files of an earlier run that are to be replaced."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; the results need a folder: name another place")
    existing = existing_outputs(folder, stem)
    if existing and not overwrite:
        raise OutputError(
            f"{existing[0]} exists already; pass --overwrite to replace it, or name another folder"
        )
    return existing


def _paths(folder: Path, stem: str, suffixes: Sequence[str]) -> list[Path]:
    return [folder / f"{stem}{suffix}" for suffix in suffixes]


@contextmanager
def _errors_named(folder: Path) -> Iterator[None]:
    """Turn what the file system says into one line for the user."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write {folder}: {system_reason(error)}; mend that or choose another folder"
        ) from error


@contextmanager
def _staging(folder: Path, stem: str) -> Iterator[Path]:
    """A hidden folder inside the output folder, so that moving in is a mere renaming."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    # Named before it is made: Ctrl-C between the two leaves nothing behind.
    staging = folder / f".{stem[:100]}.{secrets.token_hex(8)}"
    done = False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        staging.mkdir(mode=0o700)
        yield staging
        done = True
    except OutputError as error:
        # the user knows the file by the place where it was to be
        raise OutputError(str(error).replace(str(staging), str(folder))) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if not done:
            _remove_empty(made)


def _remove_empty(folders: Sequence[Path]) -> None:
    """Take back the folders made for this run, innermost first, unless something is in them."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _move_in(staged: Sequence[Path], folder: Path, existing: Sequence[Path]) -> None:
    """Move the old set out and the new one in; on any failure put the old one back."""
    aside = staged[0].parent / "replaced"
    aside.mkdir()
    moved: list[tuple[Path, Path]] = []
    # the old receipt goes first: from here on nothing claims that the set is complete
    pairs = [(path, aside / path.name) for path in reversed(existing)]
    pairs += [(path, folder / path.name) for path in staged]
    try:
        for source, target in pairs:
            source.replace(target)
            moved.append((source, target))
    except BaseException:
        for source, target in reversed(moved):
            target.replace(source)
        raise


def _write_labels(segmentation: Segmentation, path: Path) -> None:
    write_label_map(path, segmentation.labels, segmentation.scan)


def _write_uncertainty(segmentation: Segmentation, path: Path) -> None:
    write_map(
        path,
        segmentation.uncertainty,
        segmentation.scan,
        description="ddmseg uncertainty: entropy over samples",
    )


def _write_discrepancy(segmentation: Segmentation, path: Path) -> None:
    write_map(
        path,
        segmentation.discrepancy,
        segmentation.scan,
        description="ddmseg discrepancy of image and labels",
    )


def _write_quality(segmentation: Segmentation, path: Path) -> None:
    quality = segmentation.quality
    write_json(
        path,
        {
            "notice": NOTICE,
            "verdict": quality.verdict,
            "expected_dice": quality.expected_dice,
            "expected_dice_by_structure": quality.expected_dice_by_structure,
            "reasons": quality.reasons,
            "reason_codes": [reason_code(reason) for reason in quality.reasons],
            "steps": quality.steps,
            "samples": quality.samples,
            "sample_agreement": quality.sample_agreement,
            "training_distance": quality.training_distance,
            "postprocessing": quality.postprocessing,
        },
    )


def _write_report(segmentation: Segmentation, path: Path) -> None:
    write_text(path, render_report(segmentation))


def _write_probabilities(segmentation: Segmentation, path: Path) -> None:
    assert segmentation.probabilities is not None  # checked at the door
    write_map(
        path,
        segmentation.probabilities,
        segmentation.scan,
        description="ddmseg class probabilities",
    )


def _write_samples(segmentation: Segmentation, path: Path) -> None:
    assert segmentation.sample_labels is not None
    write_label_frames(path, segmentation.sample_labels, segmentation.scan)


def _write_steps(segmentation: Segmentation, path: Path) -> None:
    assert segmentation.step_labels is not None
    write_label_frames(path, segmentation.step_labels, segmentation.scan)


def _write_receipt(segmentation: Segmentation, staged: Sequence[Path]) -> None:
    *others, receipt = staged
    hashes = {path.name: _sha256(path) for path in others}
    write_json(receipt, {**segmentation.receipt, "outputs": hashes})


_WRITERS: dict[str, Writer] = {
    "_dseg.nii.gz": _write_labels,
    "_dseg.tsv": write_label_table,
    "_dseg.json": write_label_table_dictionary,
    "_desc-uncertainty_map.nii.gz": _write_uncertainty,
    "_desc-discrepancy_map.nii.gz": _write_discrepancy,
    "_volumes.tsv": write_volume_table,
    "_volumes.json": write_volume_table_dictionary,
    "_qc.json": _write_quality,
    "_report.html": _write_report,
    PROBABILITIES: _write_probabilities,
    SAMPLES: _write_samples,
    STEPS: _write_steps,
}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
