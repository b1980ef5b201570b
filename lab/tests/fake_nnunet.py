"""A Python that has no nnU-Net but answers the driver's protocol, quickly.

It writes what it was asked into ``calls.txt`` beside the job. Its label maps are the image
cut at two grey values, which is right for the crops of :mod:`real_sets`. ``FAKE_NNUNET`` in
the environment makes it misbehave: ``no-nnunetv2``, ``crash``, ``silent``, ``other-grid``,
``no-prediction``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

PROGRESS = "ddmseg-progress "
BATCH = 3
SECONDS_AN_EPOCH = 2.0
RAW, RESULTS = "nnUNet_raw", "nnUNet_results"


def make_python(folder: Path) -> str:
    """Write the program that stands for nnU-Net's Python; return its path."""
    path = folder / "python-of-nnunet"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" "$@"\n')
    path.chmod(0o755)
    return str(path)


def main(words: list[str]) -> None:
    driver, *rest = words
    assert Path(driver).name == "driver.py"
    fault = os.environ.get("FAKE_NNUNET", "")
    if rest[0] == "versions":
        absent = fault == "no-nnunetv2"
        nnunet = None if absent else "9.9"
        print(json.dumps({"python": "3", "nnunetv2": nnunet, "torch": "1", "numpy": "1"}))
        return
    stage, path = rest[0], Path(rest[1])
    job = json.loads(path.read_text())
    with path.with_name("calls.txt").open("a") as calls:
        calls.write(f"{stage} {json.dumps(job)}\n")
    print("chatter of nnU-Net")
    if fault == "crash":
        print("RuntimeError: no luck", file=sys.stderr)
        sys.exit(3)
    found = {"prepare": prepare, "train": train, "predict": predict}[stage](job, path.parent, fault)
    if fault != "silent":
        path.with_name(f"{stage}.json").write_text(json.dumps(found))


def prepare(job: dict, folder: Path, fault: str) -> dict:
    raw = Path(os.environ[RAW], job["dataset"])
    assert (raw / "dataset.json").is_file()
    return {"batch": BATCH, "patch": [8, 8, 8], "seconds": 1.0}


def train(job: dict, folder: Path, fault: str) -> dict:
    state = folder / "state.json"
    done = json.loads(state.read_text()) if state.is_file() else 0
    epochs = job["epochs"]
    for epoch in range(done, len(epochs)):
        for number in range(epochs[epoch]):
            step = sum(epochs[:epoch]) + number + 1
            line = json.dumps({"step": step, "steps": sum(epochs), "loss": 1 / step})
            print(PROGRESS + line, flush=True)
        done = epoch + 1
        state.write_text(json.dumps(done))
        if job["minutes"] is not None and job["minutes"] < 1:
            break
    ends = [sum(epochs[: n + 1]) for n in range(done)]
    return {
        "step": ends[-1],
        "steps": sum(epochs),
        "seconds": SECONDS_AN_EPOCH * done,
        "best": 0.5,
        "best_step": ends[0],
        "parameters": 17,
        "threads": job["threads"] or 4,
        "device": "cpu",
        "precision": job["precision"],
        "curve": [{"step": step, "loss": 1 / step} for step in ends],
    }


def predict(job: dict, folder: Path, fault: str) -> dict:
    import nibabel
    import numpy as np

    images = Path(os.environ[RAW], job["dataset"], "imagesTs")
    out = Path(os.environ[RESULTS], job["dataset"], "predictions")
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(images.glob("*_0000.nii.gz")):
        scan = nibabel.load(path)
        image = scan.get_fdata()
        labels = ((image > 0.25) * 1 + (image > 0.75) * 1).astype(np.uint8)
        if fault == "other-grid":
            labels = labels[1:]
        if fault != "no-prediction":
            name = path.name.replace("_0000", "")
            nibabel.save(nibabel.Nifti1Image(labels, scan.affine), out / name)
    return {"seconds_a_scan": 0.25, "peak_memory_mb": 99.0}


if __name__ == "__main__":
    main(sys.argv[1:])
