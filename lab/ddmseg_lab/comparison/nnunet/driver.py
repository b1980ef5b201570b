"""What runs inside nnU-Net's own Python: one stage of a row.

``python driver.py STAGE JOB.json`` runs ``prepare``, ``train`` or ``predict`` as the job says
and leaves ``STAGE.json`` beside the job. Nothing of ddmseg is imported: it is not there.

The job holds: ``dataset`` (name of the folder), ``configuration``, ``threads`` (0: torch's
own choice), ``device`` (auto, cpu or cuda), ``seed``; for training also ``epochs`` (the
iterations of each), ``validation_iterations``, ``precision`` (single or half, of the network on
a processor) and ``minutes`` (None: no limit).
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

PROGRESS = "ddmseg-progress "
"""What a line of progress begins with; the rest of it is JSON."""
DATASET_ID = 1
PLANS = "nnUNetPlans"
FOLD = 0
LATEST = "checkpoint_latest.pth"
BEST = "checkpoint_best.pth"
NEVER = 10**9
# nnU-Net's own environment variables.
RAW, PREPROCESSED, RESULTS = "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"
WORKERS = "nnUNet_n_proc_DA"


def main(words: list[str]) -> None:
    """Run the stage that the words name."""
    stage, path = words[0], Path(words[1])
    job = json.loads(path.read_text(encoding="utf-8"))
    result = {"prepare": prepare, "train": train, "predict": predict}[stage](job)
    draft = path.with_name(f".{stage}.json.part")
    draft.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    os.replace(draft, path.with_name(f"{stage}.json"))


def prepare(job: dict[str, Any]) -> dict[str, Any]:
    """Have nnU-Net look at the data, plan and preprocess; return what it planned."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    start = time.monotonic()
    processes = job["threads"] or os.cpu_count() or 1
    api.extract_fingerprint_dataset(
        DATASET_ID, num_processes=processes, verbose=False, show_progress_bar=False
    )
    api.plan_experiment_dataset(DATASET_ID)
    plans = plans_of(job)
    if job["configuration"] not in plans.available_configurations:
        raise SystemExit(
            f"configuration {job['configuration']}: nnU-Net planned "
            f"{', '.join(plans.available_configurations)} for these data"
        )
    api.preprocess_dataset(
        DATASET_ID, PLANS, (job["configuration"],), (processes,), show_progress_bar=False
    )
    chosen = plans.get_configuration(job["configuration"])
    network = chosen.network_arch_init_kwargs
    return {
        "batch": int(chosen.batch_size),
        "patch": [int(n) for n in chosen.patch_size],
        "spacing_mm": [float(s) for s in chosen.spacing],
        "axes": [int(axis) for axis in plans.transpose_forward],
        "normalisation": list(chosen.normalization_schemes),
        "masked_normalisation": [bool(mask) for mask in chosen.use_mask_for_norm],
        "network": chosen.network_arch_class_name.rsplit(".", 1)[-1],
        "features": [int(n) for n in network["features_per_stage"]],
        "seconds": round(time.monotonic() - start, 1),
    }


def plans_of(job: dict[str, Any]) -> Any:
    """Return nnU-Net's manager of the plans it made."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    return PlansManager(str(Path(os.environ[PREPROCESSED], job["dataset"], f"{PLANS}.json")))


def train(job: dict[str, Any]) -> dict[str, Any]:
    """Train from the latest checkpoint to the last epoch or until the minutes are over."""
    deadline = float("inf") if job["minutes"] is None else time.monotonic() + 60 * job["minutes"]
    # Augment in this process: workers draw from generators that no seed reaches.
    os.environ[WORKERS] = "0"
    trainer = make_trainer(job)
    if trainer.current_epoch < len(job["epochs"]):
        trainer.on_train_start()
    while trainer.current_epoch < len(job["epochs"]):
        run_epoch(trainer, job)
        keep(trainer)
        if time.monotonic() > deadline:
            break
    return summary(trainer, job)


def make_trainer(job: dict[str, Any]) -> Any:
    """Return nnU-Net's own trainer, its length cut, at the epoch that comes next."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    device = place(job)
    plans = {**plans_of(job).plans, "continue_training": False}  # asked for; concerns its logs
    described = Path(os.environ[PREPROCESSED], job["dataset"], "dataset.json")
    dataset = json.loads(described.read_text(encoding="utf-8"))
    trainer = nnUNetTrainer(plans, job["configuration"], FOLD, dataset, device)
    trainer.num_epochs = len(job["epochs"])
    trainer.save_every = NEVER  # `keep` does it
    trainer.logger.plot_progress_png = lambda folder: None  # takes seconds an epoch
    reseed(job["seed"], 0)
    trainer.initialize()
    if job["precision"] == "half" and device.type == "cpu":
        compute_in_half(trainer.network)
    latest = Path(trainer.output_folder, LATEST)
    if latest.is_file():
        trainer.load_checkpoint(str(latest))
    return trainer


def compute_in_half(network: Any) -> None:
    """Have a network compute in bfloat16 and answer in single precision, which the loss needs.

    nnU-Net itself computes in half precision on a GPU alone.
    """
    import torch

    forward = network.forward

    def half(x: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = forward(x)
        # One answer a level where the supervision is deep.
        return [one.float() for one in found] if isinstance(found, list) else found.float()

    network.forward = half


def run_epoch(trainer: Any, job: dict[str, Any]) -> None:
    """Do what ``nnUNetTrainer.run_training`` does in one epoch, with progress told."""
    import torch

    epoch, epochs = trainer.current_epoch, job["epochs"]
    # Each epoch draws from seeds of its own, so that a resumed run sees the same examples.
    reseed(job["seed"], epoch + 1)
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    losses = []
    for number in range(epochs[epoch]):
        losses.append(trainer.train_step(next(trainer.dataloader_train)))
        step, loss = sum(epochs[:epoch]) + number + 1, float(losses[-1]["loss"])
        line = json.dumps({"step": step, "steps": sum(epochs), "loss": loss})
        sys.stdout.write(f"{PROGRESS}{line}\n")  # at once: print may write the end apart
        sys.stdout.flush()
    trainer.on_train_epoch_end(losses)
    with torch.no_grad():
        trainer.on_validation_epoch_start()
        found = [
            trainer.validation_step(next(trainer.dataloader_val))
            for _ in range(job["validation_iterations"])
        ]
        trainer.on_validation_epoch_end(found)
    trainer.on_epoch_end()  # keeps the best weights too


def keep(trainer: Any) -> None:
    """Write the latest checkpoint, whole or not at all, after the best one is known."""
    path = Path(trainer.output_folder, LATEST)
    draft = path.with_suffix(".part")
    # `save_checkpoint` counts from within an epoch, where the counter is one lower.
    trainer.current_epoch -= 1
    trainer.save_checkpoint(str(draft))
    trainer.current_epoch += 1
    os.replace(draft, path)


def summary(trainer: Any, job: dict[str, Any]) -> dict[str, Any]:
    """Return how far the training came and what its epochs were like."""
    import torch

    log = trainer.logger.get_checkpoint()
    done = [sum(job["epochs"][: n + 1]) for n in range(trainer.current_epoch)]
    pairs = zip(log["epoch_start_timestamps"], log["epoch_end_timestamps"], strict=False)
    spent = [end - start for start, end in pairs]
    smooth = [float(dice) for dice in log["ema_fg_dice"]]
    best = smooth.index(max(smooth))  # the first of equals, as nnU-Net keeps it
    return {
        "step": done[-1],
        "steps": sum(job["epochs"]),
        "seconds": round(sum(spent), 1),
        "best": smooth[best],
        "best_step": done[best],
        "parameters": sum(p.numel() for p in trainer.network.parameters()),
        "threads": torch.get_num_threads(),
        "device": trainer.device.type,
        "precision": job["precision"],
        "curve": [
            {
                "step": done[n],
                "seconds": round(sum(spent[: n + 1]), 1),
                "loss": float(log["train_losses"][n]),
                "validation_loss": float(log["val_losses"][n]),
                "pseudo_dice": float(log["mean_fg_dice"][n]),
                "smoothed_pseudo_dice": smooth[n],
            }
            for n in range(trainer.current_epoch)
        ],
    }


def predict(job: dict[str, Any]) -> dict[str, Any]:
    """Predict every image of ``imagesTs`` with the best weights and nnU-Net's defaults."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    device = place(job)
    # tiles by half, mirrored, weighted
    predictor = nnUNetPredictor(device=device, allow_tqdm=False)
    run = f"nnUNetTrainer__{PLANS}__{job['configuration']}"
    trained = Path(os.environ[RESULTS], job["dataset"], run)
    predictor.initialize_from_trained_model_folder(str(trained), (FOLD,), BEST)
    reader = predictor.plans_manager.image_reader_writer_class()
    ending = predictor.dataset_json["file_ending"]
    contrasts = len(predictor.dataset_json["channel_names"])
    folder = Path(os.environ[RAW], job["dataset"], "imagesTs")
    out = Path(os.environ[RESULTS], job["dataset"], "predictions")
    out.mkdir(parents=True, exist_ok=True)
    # As for ddmseg's networks: seconds of work, not of waiting for other processes.
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    seconds = []
    for first in sorted(folder.glob(f"*_0000{ending}")):
        name = first.name.removesuffix(f"_0000{ending}")
        files = [str(folder / f"{name}_{c:04d}{ending}") for c in range(contrasts)]
        image, properties = reader.read_images(files)
        start = clock()
        labels = predictor.predict_single_npy_array(image, properties)
        seconds.append(clock() - start)
        reader.write_seg(labels, str(out / f"{name}{ending}"), properties)
    return {"seconds_a_scan": statistics.median(seconds), "peak_memory_mb": peak_memory_mb()}


def place(job: dict[str, Any]) -> Any:
    """Set the threads of torch, unless the choice is left to it; return where to compute."""
    import torch

    if job["threads"]:
        torch.set_num_threads(job["threads"])
    if job["device"] != "auto":
        return torch.device(job["device"])
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def reseed(seed: int, epoch: int) -> None:
    """Fix all that is drawn from here on: nnU-Net draws from the global generators."""
    import numpy as np
    import torch

    mixed = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
    random.seed(mixed)
    np.random.seed(mixed)
    torch.manual_seed(mixed)


def peak_memory_mb() -> float | None:
    """Return the largest resident memory so far in 1e6 bytes; None where it is not told.

    Source: proc(5), VmHWM of status.
    """
    if sys.platform != "linux":
        return None
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6


if __name__ == "__main__":
    main(sys.argv[1:])
