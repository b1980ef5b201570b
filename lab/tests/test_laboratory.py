"""The laboratory's own promises: apart from the product, and its commands are there."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import ddmseg
from ddmseg.cli.arguments import parse
from ddmseg.cli.command_table import ENTRY_POINTS, LABORATORY, find_command, list_commands
from ddmseg.models.checkpoint import build_model
from ddmseg.models.settings import read_settings
from ddmseg_lab import folders
from ddmseg_lab.folders import CONFIGS, DOCS, HOME, RECIPES, RESULTS

ROOT = HOME.parent
SOURCES = sorted((HOME / "ddmseg_lab").rglob("*.py"))
PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
RECIPE_FILES = sorted(path for path in CONFIGS.rglob("*.toml") if path.name != "table.toml")


def imported(path: Path) -> set[str]:
    """The modules that a file imports, wherever in the file it does so."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_the_product_never_imports_the_laboratory():
    files = sorted((ROOT / "src" / "ddmseg").rglob("*.py"))
    assert len(files) > 100
    wrong = {
        str(path): found
        for path in files
        if (found := {name for name in imported(path) if name.split(".")[0] == "ddmseg_lab"})
    }
    assert wrong == {}


def test_the_laboratory_adds_its_commands_to_the_help():
    assert set(PROJECT["entry-points"][ENTRY_POINTS]) == set(LABORATORY)
    added = {entry.name for entry in entry_points(group=ENTRY_POINTS)}
    assert added >= set(LABORATORY)
    block = list_commands().split("\n\nlaboratory:\n")[1]
    # in the order in which the installer wrote them down
    assert sorted(line.split()[0] for line in block.splitlines()[::2]) == sorted(LABORATORY)


@pytest.mark.parametrize("name", LABORATORY)
def test_every_example_is_a_call_that_the_command_takes(name):
    command = find_command(name)
    assert (command.module, command.group) == (f"ddmseg_lab.commands.{name}", "laboratory")
    program, first, *words = shlex.split(command.example)
    assert (program, first) == ("ddmseg", name)
    module = importlib.import_module(command.module)
    parse(module.Arguments, words, program=f"ddmseg {name}")
    assert callable(module.run)


@pytest.mark.parametrize("name", LABORATORY)
def test_no_default_shows_a_folder_of_this_machine(name, capsys):
    module = importlib.import_module(find_command(name).module)
    with pytest.raises(SystemExit):
        parse(module.Arguments, ["--help"], program=f"ddmseg {name}")
    assert str(ROOT) not in capsys.readouterr().out


def test_it_has_the_version_of_the_product_and_needs_it():
    assert PROJECT["version"] == ddmseg.__version__
    assert "ddmseg[train]" in PROJECT["dependencies"]


def test_its_folders_are_those_of_the_clone():
    assert Path(__file__).parents[1] == HOME
    assert all(place.is_dir() for place in (RESULTS, DOCS, CONFIGS, RECIPES))


def test_without_a_clone_they_are_below_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "__file__", str(tmp_path / "ddmseg_lab" / "folders.py"))
    assert folders._home() == Path("lab")


@pytest.mark.parametrize("path", RECIPE_FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_recipe_loads_and_its_network_can_be_built(path):
    settings = read_settings(path)
    model = build_model(settings.model, classes=3)
    assert all(n % model.multiple == 0 for n in settings.data.patch)
    assert len(settings.data.patch) == settings.model.dims


def test_pages_of_the_laboratory_lead_somewhere():
    pages = [HOME / "README.md", *DOCS.rglob("*.md")]
    assert len(pages) > 10
    gone = [
        f"{page.name}: {link}"
        for page in pages
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        if "://" not in link and not (page.parent / link).exists()
    ]
    assert gone == []


def test_every_page_can_be_reached_from_the_first_one():
    found, rest = set(), [HOME / "README.md"]
    while rest:
        page = rest.pop()
        if page not in found and page.suffix == ".md":
            found.add(page)
            links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
            rest += [(page.parent / link).resolve() for link in links if "://" not in link]
    assert {page for page in found if page.is_relative_to(DOCS)} == set(DOCS.rglob("*.md"))


def test_no_file_is_above_500_lines_or_called_by_what_it_is_not():
    assert len(SOURCES) > 60
    assert [str(p) for p in SOURCES if len(p.read_text().splitlines()) > 500] == []
    vague = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert [str(p) for p in SOURCES if p.stem in vague] == []
