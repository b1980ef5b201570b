"""What runs inside the Python of one tool: a single scan, timed.

``python driver.py versions PACKAGE...`` prints the versions of Python and of the packages.
``python driver.py TOOL JOB.json`` segments the job's scan with ``samseg``, ``atropos``,
``deepbet`` (the brain alone), ``nnunet`` or ``ddmseg``, writes the labels and leaves
``TOOL.json`` beside the job. The other tools' Pythons have no ddmseg, so that nothing of it
is imported before it is asked for.

The job holds ``image`` and ``labels`` (paths), ``threads``, for ddmseg also ``model`` and
``mode``, and for nnunet ``model``, the folder of a trained one.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Job = dict[str, Any]
Work = Callable[[], None]
"""Reads the scan, segments it and writes the labels."""
TISSUES = 3
"""Classes of Atropos, from dark to bright: CSF, grey and white matter."""
QUANTILES = (0.01, 0.999)
"""Of brightness, between which Atropos sees a scan."""


def main(words: list[str]) -> None:
    """Print versions, or run the tool that the words name."""
    if words[0] == "versions":
        print(json.dumps(versions(words[1:])))
        return
    tool, path = words[0], Path(words[1]).absolute()
    job = json.loads(path.read_text(encoding="utf-8"))
    tools = (samseg, atropos, deepbet, nnunet, ddmseg)
    load = {one.__name__: one for one in tools}[tool]
    draft = path.with_name(f".{tool}.json.part")
    draft.write_text(json.dumps(timed(load, job), indent=1) + "\n", encoding="utf-8")
    os.replace(draft, path.with_name(f"{tool}.json"))


def versions(packages: list[str]) -> dict[str, str | None]:
    """Return the versions of Python and of the packages, None if absent."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def timed(load: Callable[[Job], Work], job: Job) -> dict[str, float]:
    """Do the work and return what it cost.

    Processor seconds are those of all threads. Those of loading come before the scan is
    read: Python itself, imports and, where a tool keeps them apart, weights.
    """
    work = load(job)
    loading = time.process_time()
    start = time.perf_counter()
    work()
    return {
        "seconds": time.perf_counter() - start,
        "processor_seconds": time.process_time() - loading,
        "loading_processor_seconds": loading,
        "peak_memory_gb": peak_memory_gb(),
        "threads": job["threads"],
    }


def samseg(job: Job) -> Work:
    """SAMSEG as its command line runs it, with no option but the threads."""
    import nibabel
    import numpy as np
    from samseg.cli import run_samseg

    out = Path(job["labels"]).parent / "samseg"

    def work() -> None:
        words = ["-i", job["image"], "-o", str(out), "--threads", str(job["threads"])]
        sys.argv = ["run_samseg", *words]
        run_samseg.main()
        found: Any = nibabel.load(out / "seg.mgz")
        ids = np.asarray(found.dataobj, dtype=np.int16)
        nibabel.save(nibabel.Nifti1Image(ids, found.affine), job["labels"])  # type: ignore[no-untyped-call]

    return work


def atropos(job: Job) -> Work:
    """N4, then Atropos from k-means with a Markov random field, inside all that is not zero.

    Field and iterations are ANTsPy's own defaults, the field's radius in three dimensions.
    First the brightness is cut at two quantiles, as ANTs' own scripts begin, and again after
    N4: without it k-means takes the few brightest voxels of some scans for a class.

    Source: Tustison et al. 2014, NeuroImage 99:166-179 (antsCorticalThickness.sh).
    """
    import ants

    def work() -> None:
        scan = ants.image_read(job["image"])
        mask = ants.threshold_image(scan, 0, 0, 0, 1)  # all but what is exactly 0
        cut = ants.iMath(scan, "TruncateIntensity", *QUANTILES) * mask
        even = ants.n4_bias_field_correction(cut, mask=mask)
        even = ants.iMath(even, "TruncateIntensity", *QUANTILES)
        found = ants.atropos(a=even, x=mask, i=f"kmeans[{TISSUES}]", m="[0.2,1x1x1]", c="[5,0]")
        ants.image_write(found["segmentation"].clone("unsigned char"), job["labels"])

    return work


def deepbet(job: Job) -> Work:
    """Find the brain as deepbet's own door does, with no option but the processor."""
    import torch
    from deepbet import BrainExtraction

    torch.set_num_threads(job["threads"])
    extraction = BrainExtraction(no_gpu=True)

    def work() -> None:
        extraction.run(job["image"], mask_path=job["labels"])

    return work


def nnunet(job: Job) -> Work:
    """Predict with a trained nnU-Net as it comes: tiles by half, mirrored, its best weights."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    torch.set_num_threads(job["threads"])
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(job["model"], (0,), "checkpoint_best.pth")
    files = predictor.plans_manager.image_reader_writer_class()

    def work() -> None:
        image, properties = files.read_images([job["image"]])
        labels = predictor.predict_single_npy_array(image, properties)
        files.write_seg(labels, job["labels"], properties)

    return work


def ddmseg(job: Job) -> Work:
    """Segment through ddmseg's own door; of its files only the label map is written."""
    import torch

    from ddmseg.imaging.nifti import read_volume
    from ddmseg.imaging.nifti_write import write_label_map
    from ddmseg.inference.segmenter import Segmenter
    from ddmseg.models.available_memory import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(job["threads"])
    segmenter = Segmenter.load(job["model"], device="cpu")

    def work() -> None:
        scan = read_volume(job["image"])
        write_label_map(job["labels"], segmenter(scan, mode=job["mode"]).labels, scan)

    return work


def peak_memory_gb() -> float:
    """Return the largest resident memory so far in GB (1e9 bytes).

    On Linux from proc(5), VmHWM of status: what getrusage(2) says there begins with the
    peak of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        lines = status.read_text(encoding="utf-8").splitlines()
        kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
        return kib * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9


if __name__ == "__main__":
    main(sys.argv[1:])
