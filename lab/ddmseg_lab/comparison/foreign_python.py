"""Other tools live in Pythons of their own: where each is, what it has, how it is started."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddmseg.errors import UsageError
from ddmseg.models.checkpoint import replace_file
from ddmseg_lab.comparison.nnunet.driver import PROGRESS

DRIVER = Path(__file__).parent / "peers" / "driver.py"
"""Tells versions in any Python: it needs nothing but the standard library."""
OURS = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV")
"""Variables that mean this process's Python and no other."""
Listener = Callable[[dict[str, Any]], None]
"""Takes what one line of progress says."""


@dataclass(frozen=True)
class Tool:
    """What is measured beside ddmseg.

    Attributes:
        program: as the driver calls it.
        title: as a reader does.
        packages: whose versions decide results; the first is the tool's own.
        install: what makes such a Python.
        option: that names it, "" where only the variable does.
    """

    program: str
    title: str
    packages: tuple[str, ...]
    install: str
    option: str = ""

    @property
    def variable(self) -> str:
        """Environment variable that names the Python."""
        return f"DDMSEG_{self.program.upper()}_PYTHON"

    @property
    def advice(self) -> str:
        """How to come by such a Python, in one line."""
        named = f"name it with {self.option} or" if self.option else "set"
        return f"make one with: {self.install}; then {named} the variable {self.variable}"


def _made(folder: str, *installs: str) -> str:
    pips = [f"{folder}/bin/pip install {words}" for words in installs]
    return " && ".join([f"python -m venv {folder}", *pips])


SAMSEG = Tool(
    *("samseg", "SAMSEG", ("samseg", "surfa", "numpy")),
    _made("peers", "samseg nibabel 'numpy<2'"),
    "--samseg-python",
)
ATROPOS = Tool(
    "atropos", "Atropos", ("antspyx", "numpy"), _made("ants", "antspyx"), "--ants-python"
)
DEEPBET = Tool(
    "deepbet", "deepbet (brain alone)", ("deepbet", "torch", "numpy"), _made("deepbet", "deepbet")
)
NNUNET = Tool(
    *("nnunet", "nnU-Net", ("nnunetv2", "torch", "numpy")),
    _made("nnunet", "torch==2.13.0", "nnunetv2 torch==2.13.0"),
    "--nnunet-python",
)


def find_python(tool: Tool, named: str | None = None) -> str | None:
    """Return the Python that is named, or the one of the tool's variable; None for neither."""
    wanted = named or os.environ.get(tool.variable)
    found = shutil.which(wanted) if wanted else None
    if wanted and found is None:
        raise UsageError(
            f"{tool.title}: got the Python '{wanted}', which cannot be run; {tool.advice}"
        )
    return found


def require_python(tool: Tool, named: str | None = None) -> str:
    """Return the tool's Python; one that is not there is a UsageError with the way to make it."""
    found = find_python(tool, named)
    if found is None:
        raise UsageError(f"{tool.title}: it needs a Python of its own; {tool.advice}")
    return found


def read_versions(tool: Tool, python: str) -> dict[str, str]:
    """Return the versions of Python and of the tool's packages over there.

    Raises:
        UsageError: when that Python does not start or lacks a package.
    """
    words = [python, str(DRIVER), "versions", *tool.packages]
    try:
        done = subprocess.run(
            words, env=foreign_environment(1), capture_output=True, text=True, check=True
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
    environment = own_environment(threads)
    return {name: value for name, value in environment.items() if name not in OURS}


def own_environment(threads: int) -> dict[str, str]:
    """Return this process's environment for so many threads; 0 leaves them to the tool."""
    limited = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
    return {
        **os.environ,
        "PYTHONSAFEPATH": "1",  # the driver's folder holds modules that are not for it
        "PYTHONUNBUFFERED": "1",  # the last line of the log is then the last thing said
        **{name: str(threads) for name in limited if threads},
    }


class DriverError(Exception):
    """A driver failed or left no result; says with which code, and what was printed last."""


def run_driver(
    words: list[str], job: Mapping[str, Any], log: Path, environment: Mapping[str, str],
    listener: Listener | None = None, *, leaves: Sequence[Path] = (),
) -> dict[str, Any]:  # fmt: skip
    """Run ``PYTHON DRIVER WORD`` on a job and return its result.

    The job lies in ``job.json`` beside the log, the result in ``WORD.json``. Lines of progress go
    to the listener, all others to the log.

    Args:
        leaves: what it has to leave beside its result.
    """
    result, asked = log.with_name(f"{words[-1]}.json"), log.with_name("job.json")
    result.unlink(missing_ok=True)  # of an earlier run: not to be taken for this one's
    replace_file(asked, described(job).encode())
    with (
        log.open("a", encoding="utf-8", errors="replace") as out,
        subprocess.Popen(
            [*words, str(asked)], env=dict(environment), errors="replace", encoding="utf-8",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as process,
    ):  # fmt: skip
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if not line.startswith(PROGRESS):
                    out.write(line)
                    out.flush()
                elif listener is not None:
                    listener(json.loads(line.removeprefix(PROGRESS)))
        except BaseException:  # Ctrl-C too: nobody would read on
            process.terminate()
            raise
    if process.returncode != 0 or not all(path.is_file() for path in (result, *leaves)):
        raise DriverError(f"ended with code {process.returncode} ({_last_line(log)})")
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return found


def described(job: Mapping[str, Any]) -> str:
    """Return a job as its file holds it."""
    return json.dumps(dict(job), indent=1) + "\n"


def _last_line(log: Path) -> str:
    """Return the last line that a program printed."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
