"""nnU-Net's own Python: where it is, and how a stage is run in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from ddmseg.errors import TrainingError, UsageError
from ddmseg.models.checkpoint import replace_file
from ddmseg_lab.comparison.nnunet.driver import PROGRESS

PYTHON_VARIABLE = "DDMSEG_NNUNET_PYTHON"
"""Environment variable that names the Python which has nnunetv2."""
INSTALL = (
    "make one with: python -m venv nnunet && nnunet/bin/pip install torch==2.13.0 "
    "&& nnunet/bin/pip install nnunetv2 torch==2.13.0; then name nnunet/bin/python with "
    f"--nnunet-python or the variable {PYTHON_VARIABLE}"
)
DRIVER = Path(__file__).with_name("driver.py")
STAGES_KEEPING_MEMORY = ("train",)
LOG_FILE = "nnunet.log"
KEEP_FREED_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
}
"""What ``inference.memory`` does for the other rows, for a process yet to start.

Source: mallopt(3), environment variables.
"""

Told = Callable[[dict[str, Any]], None]
"""Takes what one line of progress says."""


def find_python(named: str | None = None) -> str:
    """Return the Python that is named, or the one of ``DDMSEG_NNUNET_PYTHON``.

    Raises:
        UsageError: when neither is given or the program is not there.
    """
    wanted = named or os.environ.get(PYTHON_VARIABLE)
    if not wanted:
        raise UsageError(f"nnU-Net: it needs a Python of its own; {INSTALL}")
    found = shutil.which(wanted)
    if found is None:
        raise UsageError(f"nnU-Net: got the Python '{wanted}', which cannot be run; {INSTALL}")
    return found


def read_versions(python: str) -> dict[str, str]:
    """Return the versions of Python, nnunetv2, torch and numpy over there.

    Raises:
        UsageError: when that Python does not start or lacks nnunetv2 or torch.
    """
    try:
        done = subprocess.run(
            [python, str(DRIVER), "versions"],
            env=_environment({}, 0),
            capture_output=True,
            text=True,
            check=True,
        )
        found: dict[str, str | None] = json.loads(done.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        raise UsageError(f"nnU-Net: {python} is no Python that works; {INSTALL}") from error
    absent = [package for package, version in found.items() if version is None]
    if absent:
        raise UsageError(f"nnU-Net: {python} has no {' and no '.join(absent)}; {INSTALL}")
    return {package: version for package, version in found.items() if version is not None}


def run_stage(
    python: str,
    stage: str,
    job: Mapping[str, Any],
    folder: Path,
    variables: Mapping[str, str],
    told: Told | None = None,
) -> dict[str, Any]:
    """Run one stage of the driver and return what it found.

    What nnU-Net prints goes to ``nnunet.log`` in the folder.

    Args:
        python: of nnU-Net.
        stage: ``prepare``, ``train`` or ``predict``.
        job: see the driver.
        folder: of the row; gets ``STAGE.json``.
        variables: of nnU-Net's folders.
        told: called with each line of progress.

    Raises:
        TrainingError: when the stage fails.
    """
    result = folder / f"{stage}.json"
    result.unlink(missing_ok=True)
    replace_file(folder / "job.json", (json.dumps(dict(job), indent=1) + "\n").encode())
    environment = _environment(variables, int(job["threads"]))
    if stage in STAGES_KEEPING_MEMORY:
        environment |= KEEP_FREED_MEMORY
    log_path = folder / LOG_FILE
    with log_path.open("a", encoding="utf-8", errors="replace") as log:
        code = _run([python, str(DRIVER), stage, str(folder / "job.json")], environment, log, told)
    if code != 0 or not result.is_file():
        raise TrainingError(
            f"nnU-Net: {stage} ended with code {code} ({_last_line(log_path)}); "
            f"{log_path} has the whole story"
        )
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return found


def _environment(variables: Mapping[str, str], threads: int) -> dict[str, str]:
    """Return this process's environment, fit for another Python and for nnU-Net."""
    ours = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    environment |= {
        "PYTHONSAFEPATH": "1",  # the driver's folder holds modules that are not for it
        "PYTHONUNBUFFERED": "1",  # the last line of the log is then the last thing said
        "nnUNet_compile": "F",
        "nnUNet_n_proc_DA": "1",
        **variables,
    }
    if threads:
        environment |= {"nnUNet_def_n_proc": str(threads), "OMP_NUM_THREADS": str(threads)}
    return environment


def _run(words: list[str], environment: dict[str, str], log: IO[str], told: Told | None) -> int:
    """Run a program to its end; lines of progress are told, all others logged."""
    with subprocess.Popen(
        words,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if not line.startswith(PROGRESS):
                    log.write(line)
                    log.flush()
                elif told is not None:
                    told(json.loads(line.removeprefix(PROGRESS)))
        except BaseException:  # Ctrl-C too: nobody would read on
            process.terminate()
            raise
    return process.returncode


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8").splitlines()]
    return next((line for line in reversed(lines) if line), "it said nothing")
