"""Running a study: resumable, keyed by weights and settings, and a page from the rows alone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ddmseg.datasets.subject import Subject
from ddmseg.errors import MissingExtraError, ScanError, UsageError
from ddmseg_lab.questions import STUDIES
from ddmseg_lab.results_page import page_text, write_page
from ddmseg_lab.rows import Row
from ddmseg_lab.study import RECORD_FILE, Study, Trained, measure_study, noise_of, short_checksum


def measure(trained: Trained, subject: Subject, number: int) -> Iterator[Row]:
    """Two conditions, one with noise of the subject's."""
    import torch

    drawn = float(torch.rand((), generator=noise_of(number)))
    yield {"kind": "size", "value": float(subject.labels.sum())}
    yield {"kind": "noise", "value": drawn}


TOY = Study(
    name="toy",
    question="How large is a crop?",
    words=("kind",),
    numbers=("value",),
    measure=measure,
    parts=(lambda rows: iter([f"{len(rows)} rows"]),),
    draw=lambda rows, figure: figure.subplots().plot(rows.numbers("value")),
    caption="Values",
    inches=(3.0, 2.0),
    settings={"level": 1},
)


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


@pytest.fixture
def docs(tmp_path):
    return tmp_path / "docs"


def rows_of(results: Path, trained: Trained):
    return TOY.rows(results, trained.card)


def test_a_study_goes_on_where_it_stopped(trained, results, tmp_path):
    seen = []
    assert measure_study(TOY, trained, results, cases=1) == []
    assert len(rows_of(results, trained).subjects) == 1
    before = (tmp_path / "results/study/toy/raw.tsv").read_text()
    measure_study(TOY, trained, results, report=lambda *done: seen.append(done))
    assert seen == [(2, 3), (3, 3)]
    assert (tmp_path / "results/study/toy/raw.tsv").read_text().startswith(before)
    whole = tmp_path / "whole"
    measure_study(TOY, trained, whole)
    assert rows_of(whole, trained) == rows_of(results, trained)


def test_what_stands_is_not_measured_again(trained, results):
    measure_study(TOY, trained, results)
    failing = replace(TOY, measure=lambda *_: pytest.fail("measured again"))
    assert measure_study(failing, trained, results) == []


def test_other_settings_are_measured_anew(trained, results):
    measure_study(TOY, trained, results)
    harder = replace(TOY, settings={"level": 2})
    measure_study(harder, trained, results, cases=1)
    assert len(rows_of(results, trained).subjects) == 1
    record = json.loads(TOY.file(results, RECORD_FILE).read_text())[short_checksum(trained.card)]
    assert record["settings"]["study"] == {"level": 2}


def test_other_weights_do_not_disturb(trained, results):
    measure_study(TOY, trained, results, cases=1)
    other = replace(trained, card=replace(trained.card, checksum="f" * 64))
    measure_study(TOY, other, results, cases=2)
    assert len(rows_of(results, trained).subjects) == 1
    assert len(rows_of(results, other).subjects) == 2
    assert len(json.loads(TOY.file(results, RECORD_FILE).read_text())) == 2


def test_a_record_says_all_that_is_needed(trained, results, data_root):
    measure_study(TOY, trained, results)
    (record,) = json.loads(TOY.file(results, RECORD_FILE).read_text()).values()
    assert record["weights"] == trained.card.checksum
    assert record["settings"]["sampling"]["steps"] == 2
    assert record["settings"]["seed"] == 0
    assert record["split"] == trained.source.split()
    assert set(record["versions"]) >= {"python", "torch", "ddmseg"}
    assert record["commit"]
    for path in (results / "study" / "toy").iterdir():
        assert data_root not in path.read_text()


def test_a_subject_that_fails_is_named_and_the_others_measured(trained, results):
    def fail_first(trained: Trained, subject: Subject, number: int) -> Iterator[Row]:
        if number == 0:
            raise ScanError("the image has no contrast")
        yield from measure(trained, subject, number)

    broken = replace(TOY, measure=fail_first)
    (problem,) = measure_study(broken, trained, results)
    first = trained.source.split()["test"][0]
    assert problem == f"{first}: the image has no contrast"
    assert len(rows_of(results, trained).subjects) == 2
    assert measure_study(TOY, trained, results) == []  # mended, it is measured after the others
    assert set(rows_of(results, trained).subjects) == set(trained.source.split()["test"])


def test_the_page_is_made_from_the_rows_alone(trained, results, docs):
    measure_study(TOY, trained, results)
    path, text = write_page(TOY, trained.card, results, docs)
    assert path.read_text() == text
    assert text.startswith("# Study: toy\n\nHow large is a crop?\n\nMeasured on 3 test subjects of")
    assert "ddmseg study toy --model tiny" in text
    assert text.endswith("6 rows\n")
    picture = path.with_suffix(".png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    path.unlink()
    assert write_page(TOY, trained.card, results, docs)[1] == text
    assert path.with_suffix(".png").read_bytes() == picture


def test_the_default_model_needs_no_option(trained, results):
    measure_study(TOY, trained, results)
    card = replace(trained.card, name="hippocampus")
    text = page_text(TOY, card, rows_of(results, trained), results / "elsewhere")
    assert "ddmseg study toy\n" in text
    assert "Commit unknown" in text


def test_refusals(trained, results, docs):
    with pytest.raises(UsageError, match="toy: nothing has been measured with tiny"):
        write_page(TOY, trained.card, results, docs)
    with pytest.raises(UsageError, match="cases: got 0; it must be at least 1"):
        measure_study(TOY, trained, results, cases=0)


def test_pictures_need_matplotlib(trained, results, docs, monkeypatch):
    import sys

    measure_study(TOY, trained, results, cases=1)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match="matplotlib"):
        write_page(TOY, trained.card, results, docs)


@pytest.mark.parametrize("study", STUDIES.values(), ids=list(STUDIES))
def test_every_study_is_told_apart(study):
    assert study.question.endswith("?")
    assert not study.caption.endswith(".")
    assert not set(study.words) & set(study.numbers)
    assert json.loads(json.dumps(dict(study.settings))) == study.settings
    assert math.prod(study.inches) > 0
    assert Path(study.name).name == study.name
