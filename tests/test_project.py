"""The project's own promises: light import, floors, versions that agree, a short README."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path

import pytest

import ddmseg
from ddmseg.errors import DdmsegError

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src" / "ddmseg").rglob("*.py"))
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def settings() -> dict:
    return tomllib.loads(text("pyproject.toml"))


def run_python(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_importing_ddmseg_brings_in_nothing_heavy() -> None:
    heavy = ["torch", "numpy", "scipy", "nibabel", "monai", "matplotlib", "rich", "tyro"]
    code = f"import sys, ddmseg; print([m for m in {heavy} if m in sys.modules])"
    assert run_python(code) == "[]"


def test_errors_come_without_torch() -> None:
    code = "import sys, ddmseg; ddmseg.errors.ScanError; print('torch' in sys.modules)"
    assert run_python(code) == "False"


@pytest.mark.parametrize("name", ddmseg.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(ddmseg, name) is not None
    assert name in dir(ddmseg)


def test_public_names_are_those_of_their_modules() -> None:
    from ddmseg.interactive import Segmentation, Segmenter

    assert ddmseg.Segmentation is Segmentation
    assert ddmseg.Segmenter is Segmenter
    assert issubclass(ddmseg.errors.ScanError, DdmsegError)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(AttributeError, match=r"no name 'Segmentor' \(did you mean 'Segment"):
        _ = ddmseg.Segmentor


def test_calls_are_checked_while_testing(request: pytest.FixtureRequest) -> None:
    from ddmseg.quality.segmentation import format_ml

    if not request.config.getoption("jaxtyping_packages"):
        pytest.skip("shape checking is switched off")
    with pytest.raises(TypeError, match="Type-check error"):
        format_ml("a text")  # type: ignore[arg-type]


def test_versions_agree() -> None:
    version = re.escape(ddmseg.__version__)
    assert re.search(rf"^version: {version}$", text("CITATION.cff"), re.MULTILINE)
    newest = re.search(r"^## (\S+)", text("CHANGELOG.md"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == ddmseg.__version__


def test_the_readme_is_short_and_says_what_it_must() -> None:
    readme = text("README.md")
    assert len(readme.splitlines()) <= 40
    for needed in ("make demo", "make test", "ddmseg segment", "not a medical device"):
        assert needed in readme


def test_the_readme_python_is_three_lines_that_parse() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", text("README.md"), re.DOTALL)
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) == 3  # the formatter puts an empty one after the import
    imported = [node for node in ast.parse(code).body if isinstance(node, ast.ImportFrom)]
    names = [alias.name for node in imported for alias in node.names]
    assert names
    assert set(names) <= set(ddmseg.__all__)


def test_the_promised_targets_exist_and_ci_is_executable() -> None:
    makefile = text("Makefile")
    for target in ("demo", "test", "check", "format", "docs", "bench"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    ci = text(".ci/run")
    assert "make test" in ci
    assert "make check" in ci
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_command_leads_somewhere() -> None:
    assert settings()["project"]["scripts"] == {"ddmseg": "ddmseg.cli.main:main"}


def test_the_demo_scan_ships_with_its_licence() -> None:
    import nibabel as nib

    demo = resources.files("ddmseg") / "demo"
    with resources.as_file(demo / "colin27_t1.nii.gz") as path:
        assert nib.load(path).shape == (181, 217, 181)
    assert "McConnell Brain Imaging Centre" in (demo / "LICENSE").read_text()


def test_the_report_template_and_the_label_tables_ship() -> None:
    package = resources.files("ddmseg")
    for name in ("report.html", "report.css", "report.js"):
        assert (package / "outputs" / "report" / "templates" / name).is_file()
    assert (package / "imaging" / "protocols" / "freesurfer.tsv").is_file()


def test_no_file_is_called_by_what_it_is_not() -> None:
    assert [str(path) for path in SOURCES if path.stem in FORBIDDEN_NAMES] == []


def test_no_file_is_above_500_lines() -> None:
    long = [str(path) for path in SOURCES if len(path.read_text().splitlines()) > 500]
    assert long == []


def test_weights_are_small_safetensors_with_a_card() -> None:
    folder = ROOT / "src" / "ddmseg" / "models" / "weights"
    for path in folder.glob("*") if folder.is_dir() else ():
        assert path.suffix not in {".pt", ".pth", ".pkl", ".ckpt"}
        if path.suffix == ".safetensors":
            assert path.with_suffix(".json").is_file()
            assert path.stat().st_size <= 16 * 2**20


def test_ci_installs_the_tested_versions_and_takes_torch_from_where_pip_finds_it() -> None:
    assert "PIP_CONSTRAINT" in text(".ci/run")
    pinned = dict(line.split("==") for line in text(".ci/constraints.txt").splitlines())
    assert "torch" not in pinned
    extras = settings()["project"]["optional-dependencies"]
    floors = {
        name: low
        for need in extras["node"] + extras["review"]
        if ">=" in need
        for name, low in [need.split(">=")]
    }
    for name in ("filelock", "h11", "pillow"):
        numbers = [[int(n) for n in v.split(".")] for v in (pinned[name], floors[name])]
        assert numbers[0] >= numbers[1], name
