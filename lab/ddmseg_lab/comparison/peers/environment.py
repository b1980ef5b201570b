"""The Python of a tool: where it is, what is installed there, how one scan is run in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddmseg.errors import ScanError, UsageError
from ddmseg.models.checkpoint import replace_file

DRIVER = Path(__file__).with_name("driver.py")
LOG_FILE = "log.txt"
OURS = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV")
"""Variables that mean this process's Python and no other."""


@dataclass(frozen=True)
class Tool:
    """What is measured beside ddmseg.

    Attributes:
        program: as the driver calls it.
        title: as a reader does.
        packages: whose versions decide results; the first is the tool's own.
        install: what makes such a Python.
    """

    program: str
    title: str
    packages: tuple[str, ...]
    install: str

    @property
    def variable(self) -> str:
        """Environment variable that names the Python."""
        return f"DDMSEG_{self.program.upper()}_PYTHON"

    @property
    def advice(self) -> str:
        """How to come by such a Python, in one line."""
        return f"make one with: {self.install}; then name it, or set {self.variable}"


SAMSEG = Tool(
    "samseg",
    "SAMSEG",
    ("samseg", "surfa", "numpy"),
    "python -m venv peers && peers/bin/pip install samseg nibabel 'numpy<2'",
)
ATROPOS = Tool(
    "atropos",
    "Atropos",
    ("antspyx", "numpy"),
    "python -m venv ants && ants/bin/pip install antspyx",
)


DEEPBET = Tool(
    "deepbet",
    "deepbet (brain alone)",
    ("deepbet", "torch", "numpy"),
    "python -m venv deepbet && deepbet/bin/pip install deepbet",
)
NNUNET = Tool(
    "nnunet",
    "nnU-Net",
    ("nnunetv2", "torch", "numpy"),
    "python -m venv nnunet && nnunet/bin/pip install nnunetv2",
)


def find_python(tool: Tool, named: str | None = None) -> str | None:
    """Return the Python that is named, or the one of the tool's variable; None for neither.

    Raises:
        UsageError: when the program that was named is not there.
    """
    wanted = named or os.environ.get(tool.variable)
    if not wanted:
        return None
    found = shutil.which(wanted)
    if found is None:
        raise UsageError(
            f"{tool.title}: got the Python '{wanted}', which cannot be run; {tool.advice}"
        )
    return found


def read_versions(tool: Tool, python: str) -> dict[str, str]:
    """Return the versions of Python and of the tool's packages over there.

    Raises:
        UsageError: when that Python does not start or lacks a package.
    """
    try:
        done = subprocess.run(
            [python, str(DRIVER), "versions", *tool.packages],
            env=foreign_environment(1),
            capture_output=True,
            text=True,
            check=True,
        )
        found: dict[str, str | None] = json.loads(done.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        raise UsageError(
            f"{tool.title}: {python} is no Python that works; {tool.advice}"
        ) from error
    absent = [package for package, version in found.items() if version is None]
    if absent:
        raise UsageError(f"{tool.title}: {python} has no {' and no '.join(absent)}; {tool.advice}")
    return {package: version for package, version in found.items() if version is not None}


def foreign_environment(threads: int) -> dict[str, str]:
    """Return this process's environment, fit for another Python and for so many threads."""
    environment = {name: value for name, value in os.environ.items() if name not in OURS}
    return environment | _settings(threads)


def own_environment(threads: int) -> dict[str, str]:
    """Return this process's environment for so many threads."""
    return {**os.environ, **_settings(threads)}


def _settings(threads: int) -> dict[str, str]:
    return {
        "PYTHONSAFEPATH": "1",  # the driver's folder holds modules that are not for it
        "PYTHONUNBUFFERED": "1",  # the last line of the log is then the last thing said
        "OMP_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": str(threads),
    }


def run_scan(
    python: str,
    program: str,
    job: Mapping[str, Any],
    folder: Path,
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """Segment one scan over there and return what it cost, see the driver.

    What an earlier run of the same job left in the folder is returned as it is. What the
    program prints goes to ``log.txt`` there.

    Raises:
        ScanError: when the program fails or leaves no labels.
    """
    described = json.dumps(dict(job), indent=1) + "\n"
    result, asked = folder / f"{program}.json", folder / "job.json"
    labels = Path(job["labels"])
    same = asked.is_file() and asked.read_text(encoding="utf-8") == described
    if not (same and result.is_file() and labels.is_file()):
        result.unlink(missing_ok=True)
        replace_file(asked, described.encode())
        with (folder / LOG_FILE).open("w", encoding="utf-8") as log:
            words = [python, str(DRIVER), program, str(asked)]
            code = subprocess.run(
                words, env=dict(environment), stdout=log, stderr=subprocess.STDOUT, check=False
            ).returncode
        if code != 0 or not result.is_file() or not labels.is_file():
            raise ScanError(f"{program} ended with code {code} ({_last_line(folder / LOG_FILE)})")
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return found


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
