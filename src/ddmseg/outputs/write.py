"""The files of one segmentation, in BIDS-derivative names: all of them or none.

Whoever finds a receipt finds the whole set.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddmseg.errors import UsageError
from ddmseg.imaging.mgh import write_mgz
from ddmseg.imaging.nifti import write_label_map, write_map
from ddmseg.imaging.nifti_write import write_label_frames, write_probabilities
from ddmseg.imaging.source_file import file_sha256
from ddmseg.inference.options import SegmentOptions
from ddmseg.messages import NOTICE
from ddmseg.outputs.aseg_stats import write_aseg_stats
from ddmseg.outputs.dicom import DicomTarget, Writer, dicom_writers
from ddmseg.outputs.names import (
    ASEG_STATS,
    BRAIN_IMAGE,
    BRAIN_MASK,
    LABELS_MGZ,
    PROBABILITIES,
    RECEIPT,
    SAMPLES,
    SIDECARS,
    STEPS,
    SUFFIXES,
    VOLUME,
    check_place,
    result_paths,
)
from ddmseg.outputs.report.page import render_report
from ddmseg.outputs.staging import Claim, claimed, errors_named, move_in, settle, staging
from ddmseg.outputs.standing import check_free
from ddmseg.outputs.tables import (
    LABEL_COLUMNS,
    VOLUME_COLUMNS,
    data_dictionary,
    sidecar_writers,
    write_label_table,
    write_volume_table,
)
from ddmseg.outputs.text import write_json, write_text
from ddmseg.quality.reasons import reason_code, subject
from ddmseg.quality.segmentation import Segmentation

PACKERS = 2
"""Threads that pack volumes while the report is drawn."""
CSF = 24
"""FreeSurfer id of the fluid around the brain, which is no part of its mask."""


def write_outputs(
    segmentation: Segmentation,
    folder: Path,
    *,
    stem: str,
    overwrite: bool = False,
    options: SegmentOptions | None = None,
    dicom: DicomTarget | None = None,
    claim: Claim | None = None,
    source: str = "",
) -> list[Path]:
    """Write the files of one scan and return their paths, the receipt last.

    The receipt gets ``outputs``: the SHA-256 of every other file. The same segmentation gives
    the same bytes, but for DICOM, which holds its time and UIDs. With ``overwrite`` an older
    set is replaced as a whole; when anything fails it is put back. What a killed run left of
    this result is finished or swept first.

    Args:
        stem: what every name begins with, such as ``sub-01_T1w``.
        options: which files there are beside the usual ones.
        dicom: what the DICOM files refer to; None writes none.
        claim: on this place, when the caller holds it already.
        source: BIDS URI of the scan; with it each volume gets its sidecar.

    Raises:
        ScanError: when the source of the DICOM files cannot be read any more.
        OutputError: when files exist already, cannot be written or are being written.
        UsageError: when probabilities are wanted but the segmentation has none.
    """
    options = options or SegmentOptions()
    if options.probabilities and segmentation.probabilities is None:
        raise UsageError("probabilities: this segmentation has none; ask for them when segmenting")
    writers = _WRITERS | (dicom_writers(segmentation, dicom) if dicom else {})
    if source:
        writers |= sidecar_writers(source)
    there = _wanted(segmentation, options)
    wanted = [suffix for suffix in there if suffix in writers or suffix == RECEIPT]
    check_place(folder, stem)
    held = claimed(folder, stem) if claim is None else nullcontext(claim)
    with errors_named(folder), held:
        settle(folder, stem)
        existing = check_free(folder, stem, overwrite=overwrite)
        with _packing() as packer, staging(folder, stem) as place:
            work = {place / f"{stem}{suffix}": writers[suffix] for suffix in wanted[:-1]}
            _write_all(segmentation, work, packer)
            *others, receipt = result_paths(place, stem, wanted)
            hashes = {path.name: file_sha256(path) for path in others}
            write_json(receipt, {**segmentation.receipt, "outputs": hashes})
            move_in([*others, receipt], folder, existing)
    return result_paths(folder, stem, wanted)


@contextmanager
def _packing() -> Iterator[ThreadPoolExecutor]:
    """Threads that pack volumes, running already: zlib lets go of Python's lock.

    Ctrl-C while a thread starts leaves one that nobody waits for: all start before there is a file.
    """
    running = Barrier(PACKERS + 1)
    with ThreadPoolExecutor(max_workers=PACKERS, thread_name_prefix="packing") as packer:
        try:
            for _ in range(PACKERS):
                packer.submit(running.wait)
            running.wait()
        except BaseException:
            running.abort()
            raise
        yield packer


def _write_all(
    segmentation: Segmentation, work: dict[Path, Writer], packer: ThreadPoolExecutor
) -> None:
    """Write every file, volumes in the packing threads; when it returns, these have ended."""
    volumes = {path for path in work if path.name.endswith(VOLUME)}
    try:
        packed = [packer.submit(work[path], segmentation, path) for path in work if path in volumes]
        for path, write in work.items():
            if path not in volumes:
                write(segmentation, path)
        for volume in packed:
            volume.result()
    finally:
        packer.shutdown(cancel_futures=True)


def _wanted(segmentation: Segmentation, options: SegmentOptions) -> list[str]:
    """Return the suffixes of what there is to write: a trace where one was kept."""
    there = {
        PROBABILITIES: options.probabilities,
        LABELS_MGZ: options.mgz,
        BRAIN_IMAGE: options.brain and segmentation.of_whole_brain,
        BRAIN_MASK: segmentation.of_whole_brain,
        ASEG_STATS: segmentation.of_whole_brain,
        SAMPLES: segmentation.sample_labels is not None,
        STEPS: segmentation.step_labels is not None,
    }
    # a sidecar goes where its volume goes
    there |= {SIDECARS[file]: stands for file, stands in there.items() if file in SIDECARS}
    return [suffix for suffix in SUFFIXES if there.get(suffix, True)]


def _brain_mask(segmentation: Segmentation) -> NDArray[np.bool_]:
    labels = segmentation.labels.data
    return np.asarray((labels > 0) & (labels != CSF))


def _write_brain_mask(segmentation: Segmentation, path: Path) -> None:
    mask = _brain_mask(segmentation).astype(np.int32)
    write_label_map(path, replace(segmentation.labels, data=mask), segmentation.scan)


def _write_brain_image(segmentation: Segmentation, path: Path) -> None:
    scan = segmentation.scan
    image = np.where(_brain_mask(segmentation), scan.data, np.float32(0))
    write_map(path, image, scan, description="ddmseg image within the brain mask")


def _write_quality(segmentation: Segmentation, path: Path) -> None:
    quality, found = segmentation.quality, segmentation.standing_out
    first = ("verdict", "verdicts", "expected_dice", "expected_dice_by_structure", "reasons")
    counts = ("steps", "samples", "sample_agreement", "training_distance")
    facts = {
        "notice": NOTICE,
        **{name: getattr(quality, name) for name in first},
        "reason_codes": [reason_code(reason) for reason in quality.reasons],
        "reason_subjects": [subject(reason) for reason in quality.reasons],
        **{name: getattr(quality, name) for name in counts},
        "stands_out": None if found is None else [one.as_dict() for one in found.regions],
        "postprocessing": quality.postprocessing,
    }
    write_json(path, facts)


def _there(values: NDArray[Any] | None) -> NDArray[Any]:
    assert values is not None  # checked at the door
    return values


_WRITERS: dict[str, Writer] = {
    "_dseg.nii.gz": lambda one, path: write_label_map(path, one.labels, one.scan),
    LABELS_MGZ: lambda one, path: write_mgz(path, one.labels, one.scan),
    "_dseg.tsv": write_label_table,
    "_dseg.json": lambda _, path: write_json(path, data_dictionary(LABEL_COLUMNS)),
    BRAIN_MASK: _write_brain_mask,
    BRAIN_IMAGE: _write_brain_image,
    "_desc-uncertainty_map.nii.gz": lambda one, path: write_map(
        path, one.uncertainty, one.scan, description="ddmseg uncertainty: entropy over samples"
    ),
    "_desc-discrepancy_map.nii.gz": lambda one, path: write_map(
        path, one.discrepancy, one.scan, description="ddmseg discrepancy of image and labels"
    ),
    "_volumes.tsv": write_volume_table,
    "_volumes.json": lambda _, path: write_json(path, data_dictionary(VOLUME_COLUMNS)),
    ASEG_STATS: write_aseg_stats,
    "_qc.json": _write_quality,
    "_report.html": lambda one, path: write_text(path, render_report(one)),
    PROBABILITIES: lambda one, path: write_probabilities(path, _there(one.probabilities), one.scan),
    SAMPLES: lambda one, path: write_label_frames(path, _there(one.sample_labels), one.scan),
    STEPS: lambda one, path: write_label_frames(path, _there(one.step_labels), one.scan),
}
