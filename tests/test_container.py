"""The Dockerfile: what it copies is there and nothing else, versions agree, anyone may run it.

It is built where ``DDMSEG_BUILD_IMAGE=1`` asks for it, for that takes minutes and the network.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path, PurePosixPath

import pytest

import ddmseg

ROOT = Path(__file__).parent.parent
DEBIAN_PYTHON = {"bookworm": "3.11", "trixie": "3.13"}
BUILDERS = {"docker": ["info"], "podman": ["info"], "buildah": ["info"]}


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def instructions(keyword: str) -> list[str]:
    """What follows a keyword, each instruction on one line, in the order of the file."""
    kept = [line for line in text("Dockerfile").splitlines() if not line.startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(kept))
    return [line.split(None, 1)[1] for line in joined.splitlines() if line.startswith(keyword)]


def settings() -> dict:
    return tomllib.loads(text("pyproject.toml"))


def copied() -> list[str]:
    """Sources of every COPY from the clone."""
    lines = [line.split() for line in instructions("COPY") if "--from=" not in line]
    return [source for *sources, _ in lines for source in sources]


def is_ignored(path: str) -> bool:
    """Whether .dockerignore leaves a path out: the last rule that fits it or a folder above it.

    Source: Docker documentation, "Build context", ".dockerignore files".
    """
    ignored = False
    parts = [str(PurePosixPath(*Path(path).parts[: n + 1])) for n in range(len(Path(path).parts))]
    for line in text(".dockerignore").splitlines():
        if not line or line.startswith("#"):
            continue
        rule, wanted = line.removeprefix("!"), not line.startswith("!")
        if any(re.fullmatch(pattern_of(rule), part) for part in parts):
            ignored = wanted
    return ignored


def pattern_of(rule: str) -> str:
    """The regular expression of a rule: ``*`` stays within a folder, ``**`` does not."""
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    words = re.findall(r"\*\*/|\*\*|[*?]|[^*?]+", rule)
    return "".join(known.get(word, re.escape(word)) for word in words)


def label(name: str) -> str:
    found = re.search(rf'image\.{name}="([^"]*)"', " ".join(instructions("LABEL")))
    assert found is not None, name
    return found[1]


def test_all_that_is_copied_is_there_and_reaches_the_builder() -> None:
    assert len(copied()) >= 4
    for source in copied():
        assert (ROOT / source).exists(), source
        assert not is_ignored(source), source
    assert not is_ignored("src/ddmseg/models/weights/anatomy.safetensors")


@pytest.mark.parametrize(
    "path",
    ["tests/toys.py", "lab/ddmseg_lab/study.py", ".git/config", "docs/index.md", ".ci/run", "runs",
     ".venv/bin/python", "src/ddmseg/__pycache__/types.cpython-311.pyc", "demo_out/x.nii.gz"],
)  # fmt: skip
def test_nothing_else_reaches_the_builder(path: str) -> None:
    assert is_ignored(path)
    assert not any(PurePosixPath(path).is_relative_to(source) for source in copied()) or (
        path.startswith("src/")
    )


def test_what_the_wheel_needs_is_copied() -> None:
    project = settings()["project"]
    for needed in ("pyproject.toml", project["readme"], *project["license-files"]):
        assert any(PurePosixPath(needed).is_relative_to(source) for source in copied()), needed


def test_torch_is_the_version_of_the_makefile_for_the_cpu() -> None:
    stated = re.search(r"^TORCH\s*\?=\s*(\S+)$", text("Makefile"), re.MULTILINE)
    assert stated is not None
    assert f"TORCH={stated[1]}" in instructions("ARG")
    (line,) = [line for line in instructions("RUN") if '"$TORCH"' in line]
    assert "--index-url https://download.pytorch.org/whl/cpu " in line


def test_debians_python_is_new_enough() -> None:
    (image, *_), *others = [line.split() for line in instructions("FROM")]
    release = image.removeprefix("debian:").removesuffix("-slim")
    lowest = settings()["project"]["requires-python"].removeprefix(">=")
    numbers = [[int(n) for n in version.split(".")] for version in (DEBIAN_PYTHON[release], lowest)]
    assert numbers[0] >= numbers[1]
    assert {stage[0] for stage in others} == {"python"}  # one Python builds and runs


def test_the_extras_exist_and_the_tested_versions_are_taken() -> None:
    (given,) = [line for line in instructions("ARG") if line.startswith("EXTRAS=")]
    extras = given.removeprefix("EXTRAS=").split(",")
    assert set(extras) <= set(settings()["project"]["optional-dependencies"])
    (line,) = [line for line in instructions("RUN") if "$EXTRAS" in line]
    assert "--constraint /tmp/constraints.txt" in line


def test_the_extras_are_added_to_the_wheel_by_the_shell(tmp_path: Path) -> None:
    (wheel,) = re.findall(r'"(\$\(echo [^"]*)"', " ".join(instructions("RUN")))
    (tmp_path / "ddmseg-1-py3-none-any.whl").touch()
    script = f'echo "{wheel.replace("/tmp/wheels", str(tmp_path))}"'
    for extras, end in {"": ".whl", "dicom,review": ".whl[dicom,review]"}.items():
        told = subprocess.check_output(["sh", "-c", script], env={"EXTRAS": extras}, text=True)
        assert told.strip() == f"{tmp_path}/ddmseg-1-py3-none-any{end}"


def test_the_command_is_the_packages_own_and_found() -> None:
    (words,) = map(json.loads, instructions("ENTRYPOINT"))
    assert words[0] in settings()["project"]["scripts"]
    assert any(line.startswith("PATH=/opt/ddmseg/bin:") for line in instructions("ENV"))


def test_it_runs_for_any_user_but_not_as_root() -> None:
    assert instructions("USER")[-1] not in ("root", "0")
    after = text("Dockerfile").partition("\nUSER ")[2]
    assert "\nUSER " not in after
    assert "\nRUN " not in after
    home = re.search(r"HOME=(\S+)", " ".join(instructions("ENV")))
    assert home is not None
    opened = next(line for line in instructions("RUN") if "chmod 1777" in line).split("1777")[1]
    assert {home[1], f"{home[1]}/.cache", instructions("WORKDIR")[-1]} <= set(opened.split())


def test_labels_and_settings() -> None:
    assert label("version") == ddmseg.__version__
    assert settings()["project"]["license"] in label("licenses")
    assert "not a medical device" in label("description")
    assert not re.search(r"(?i)password|secret|token|OMP_NUM_THREADS=", text("Dockerfile"))


@pytest.mark.parametrize("name", BUILDERS)
def test_the_image_builds_and_answers(name: str) -> None:
    if os.environ.get("DDMSEG_BUILD_IMAGE") != "1":
        pytest.skip("building takes minutes and the network; ask for it: DDMSEG_BUILD_IMAGE=1")
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    if subprocess.run([name, *BUILDERS[name]], capture_output=True, timeout=60).returncode:
        pytest.skip(f"{name} is installed, but does not answer")
    subprocess.run([name, "build", "--tag", "ddmseg:test", "."], cwd=ROOT, check=True)
    if name == "buildah":
        return  # it runs no finished image
    run = [name, "run", "--rm", "--read-only", "--user", "4242", "ddmseg:test", "--version"]
    assert ddmseg.__version__ in subprocess.check_output(run, text=True)


def test_the_page_names_what_the_image_has() -> None:
    page = text("docs/install.md")
    arguments = {line.partition("=")[0] for line in instructions("ARG")}
    assert set(re.findall(r"--build-arg (\w+)=", page)) <= arguments
    mounted = set(re.findall(r"--(?:volume|bind) [^\s:]+:(/[^\s\"`]+)", page))
    assert mounted == {instructions("WORKDIR")[-1], "/home/ddmseg/.cache"}
    for name in ("integrations/slicer/DDMSegmentation.py", ".ci/constraints.txt"):
        assert name in page
        assert (ROOT / name).is_file()
