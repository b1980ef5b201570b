"""``ddmseg study``: what is listed, refused, measured, shown and handed on."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from ddmseg.imaging.labels import HIPPOCAMPUS_LABELS
from ddmseg.maths.statistics import bootstrap_interval
from ddmseg_lab import statistics_text
from ddmseg_lab.commands import study
from ddmseg_lab.questions import STUDIES
from real_sets import write_hippocampus
from tiny_weights import CROPS, save_tiny


@pytest.fixture
def run(ddmseg, tmp_path, monkeypatch):
    """The command in a folder of its own, with a tiny model and three crops."""
    monkeypatch.setattr(
        statistics_text, "bootstrap_interval", partial(bootstrap_interval, resamples=200)
    )
    path = save_tiny(tmp_path, CROPS, HIPPOCAMPUS_LABELS)
    write_hippocampus(tmp_path / "data", {"train": 1, "validation": 1, "test": 2})
    places = {"results": "results", "docs": "docs", "data": "data", "configs": "configs"}
    words = [w for name, folder in places.items() for w in (f"--{name}", tmp_path / folder)]

    def run(*given: object):
        return ddmseg("study", *given, "--model", path, *words)

    return run


def table(folder: Path, name: str) -> None:
    (folder / "configs" / name).mkdir(parents=True)
    text = 'title = "Does the schedule matter?"\nrows = ["a"]\nreferences = ["a"]\n'
    (folder / "configs" / name / "table.toml").write_text(text)


def test_the_list_names_every_study(run, tmp_path):
    table(tmp_path, "schedule")
    outcome = run("--list")
    assert outcome.code == 0
    listed = {line.split("  ")[0].strip(): line for line in outcome.out.splitlines()}
    assert list(listed) == [*STUDIES, "schedule"]
    assert listed["schedule"].endswith("  Does the schedule matter?")
    assert all(one.question in listed[name] for name, one in STUDIES.items())


def test_a_study_is_measured_and_shown(run, tmp_path):
    first = run("temperature", "--cases", 1)
    assert first.code == 0
    assert first.out.startswith("# Study: temperature")
    page = tmp_path / "docs" / "studies" / "temperature.md"
    assert first.out.endswith(f"{page}\n")
    assert page.is_file()
    assert page.with_suffix(".png").is_file()
    raw = tmp_path / "results" / "study" / "temperature" / "raw.tsv"
    rows = raw.read_text()
    shown = run("temperature", "--show")
    assert shown.code == 0
    assert shown.out == first.out
    assert raw.read_text() == rows
    again = run("temperature", "--threads", 1)
    assert "Measured on 2 test subjects" in again.out
    assert raw.read_text().startswith(rows)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "study: NAME is missing; give one name"),
        (("steps", "samples"), "study: got steps samples; give one name"),
        (("step",), "study: got 'step' (did you mean 'steps'?); allowed are temperature, steps"),
        (("steps", "--cases", 0), "cases: got 0; it must be at least 1"),
        (("steps", "--threads", -1), "threads: got -1; it must be at least 1"),
        (("steps", "--show"), "steps: nothing has been measured with tiny"),
    ],
)
def test_refusals(run, words, message):
    outcome = run(*words)
    assert outcome.code == 2
    assert outcome.error.startswith(message)


def test_a_subject_that_fails_is_a_line_and_code_1(run, tmp_path):
    from ddmseg.datasets.split import read_split

    assert run("temperature", "--cases", 1).code == 0
    names = sorted(name for name, where in read_split("hippocampus").items() if where == "test")
    scan = tmp_path / "data" / "hippocampus" / "labelsTr" / f"{names[1]}.nii.gz"
    scan.write_bytes(b"no scan")
    outcome = run("temperature")
    assert outcome.code == 1
    assert len(outcome.errors) == 1
    assert names[1] in outcome.errors[0]


def test_a_folder_of_rows_goes_to_the_tables(run, tmp_path, monkeypatch):
    table(tmp_path, "schedule")
    seen = []
    monkeypatch.setattr(
        study, "run_table", lambda arguments, kind: seen.append((arguments, kind)) or 3
    )
    assert run("schedule", "--max-minutes", 5, "--show", "--rows", "a").code == 3
    ((arguments, kind),) = seen
    assert kind == "study"
    assert arguments.table == tmp_path / "configs" / "schedule"
    assert arguments.results == tmp_path / "results"
    assert (arguments.max_minutes, arguments.show, arguments.rows) == (5.0, True, "a")
