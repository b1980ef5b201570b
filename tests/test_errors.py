"""What an error says to do must work where the user is."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ddmseg import errors
from ddmseg.errors import (
    DdmsegError,
    MissingExtraError,
    ScanError,
    SettingsError,
    UsageError,
    install_line,
)
from ddmseg.models.settings import DataSettings

ROOT = Path(errors.__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
METADATA = """Metadata-Version: 2.4
Name: ddmseg
Version: 0.1.0
Requires-Dist: torch>=2.6
Requires-Dist: plain>=1; extra == 'toys'
Requires-Dist: old-style>=2 ; extra == "toys"
Requires-Dist: not-here; (python_version < '3') and extra == 'toys-more'
Provides-Extra: toys
"""


@pytest.mark.parametrize("extra", EXTRAS)
def test_in_a_clone_the_line_names_the_packages_of_the_extra(extra: str) -> None:
    words = shlex.split(install_line(extra))
    assert words[words.index("install") + 1 :] == EXTRAS[extra]
    assert install_line(extra) in str(MissingExtraError("it", extra))
    assert "\n" not in install_line(extra)


def installed(folder: Path, *, metadata: str = METADATA) -> list[str]:
    """Ask a copy that was installed, with no clone around it."""
    (folder / "ddmseg").mkdir()
    shutil.copy(errors.__file__, folder / "ddmseg" / "errors.py")
    if metadata:
        (folder / "ddmseg-0.1.0.dist-info").mkdir()
        (folder / "ddmseg-0.1.0.dist-info" / "METADATA").write_text(metadata)
    code = (
        f"import sys; sys.path = [{str(folder)!r}, *(p for p in sys.path if 'lib/python' in p "
        "and 'packages' not in p)]; import ddmseg.errors as e; print(e.install_line('toys'))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    return shlex.split(done.stdout)


def test_from_a_wheel_the_line_names_what_its_metadata_say(tmp_path: Path) -> None:
    # without site-packages there is no pip to be found
    by_uv = ["uv", "pip", "install", "--python", sys.executable]
    assert installed(tmp_path) == [*by_uv, "plain>=1", "old-style>=2"]


def test_without_metadata_or_clone_the_name_of_the_extra_is_left(tmp_path: Path) -> None:
    assert installed(tmp_path, metadata="")[-1] == "ddmseg[toys]"


def test_the_line_installs_into_the_python_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: f"{Path(sys.executable).parent}/pip")
    assert install_line("n4").startswith("pip install ")
    monkeypatch.setattr("shutil.which", lambda _: "/elsewhere/pip")
    assert install_line("n4").startswith(f"{shlex.quote(sys.executable)} -m pip install ")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert install_line("n4").startswith("uv pip install --python ")


@pytest.mark.parametrize("kind", [ScanError, UsageError, SettingsError])
def test_a_message_is_one_printable_line_whatever_came(kind: type[DdmsegError]) -> None:
    error = kind("data.fold: got \ud800\x1b[2J;\n  leave it out\n")
    assert str(error) == "data.fold: got \\ud800\\x1b[2J; leave it out"
    assert str(kind(str(error))) == str(error)  # escaped once, however often it is passed on
    assert str(kind("Größe: 3 µm")) == "Größe: 3 µm"


def test_a_long_setting_is_told_in_short() -> None:
    with pytest.raises(SettingsError) as caught:
        DataSettings(kind="hippocampus", fold="x" * 10**6)
    assert len(str(caught.value)) < 300
