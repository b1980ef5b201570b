"""A result as a person in Python meets it: said in three lines, saved, drawn."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from ddmseg import Segmentation, Segmenter
from ddmseg.errors import MissingExtraError, OutputError, UsageError
from ddmseg.imaging.volume import LabelMap, Volume
from ddmseg.inference.options import SegmentOptions
from ddmseg.outputs.names import PROBABILITIES, RECEIPT
from ddmseg.quality.segmentation import StructureVolume
from toy_head import write_head


@pytest.fixture(scope="module")
def tiny(tiny_model: Path) -> Segmenter:
    return Segmenter.load(str(tiny_model))


@pytest.fixture
def result(make_segmentation) -> Segmentation:
    return Segmentation.of(make_segmentation())


def changed(result: Segmentation, **quality) -> Segmentation:
    return dataclasses.replace(result, quality=dataclasses.replace(result.quality, **quality))


def renamed(result: Segmentation, name: str) -> Segmentation:
    return dataclasses.replace(result, scan=dataclasses.replace(result.scan, name=name))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_result_tells_itself_in_three_lines(result) -> None:
    assert repr(result).splitlines() == [
        "Segmentation of scan: pass, expected Dice 0.91",
        "  24 × 30 × 20 voxels of 4 × 4 × 4 mm, 3 structures",
        "  Left-Cerebral-White-Matter 69.6 ml, Right-Cerebral-White-Matter 66.0 ml, "
        "Right-Hippocampus 3.58 ml",
    ]


def test_sums_of_a_brain_are_told_before_its_structures(result) -> None:
    totals = [StructureVolume(0, name, 900.0, 800.0, 1000.0) for name in ("Hippocampus", "Brain")]
    left = StructureVolume(17, "Left-Hippocampus", 4.0, 3.0, 5.0)
    brain = dataclasses.replace(result, totals=totals, volumes=[left, *result.volumes])
    assert repr(brain).splitlines()[-1] == "  Brain 900 ml"


def test_reasons_are_told_few_at_a_time_and_never_steer_a_terminal(result) -> None:
    reasons = ["one\x1b[2J", "two", "three", "four", "five"]
    odd = changed(result, verdict="warn", reasons=reasons, expected_dice=float("nan"))
    lines = repr(renamed(odd, "a\nb")).splitlines()
    assert lines[0] == "Segmentation of a\\nb: warn, expected Dice not known"
    assert lines[2:6] == ["  one\\x1b[2J", "  two", "  three", "  2 more in quality.reasons"]


def test_without_volumes_that_is_said(result) -> None:
    assert repr(dataclasses.replace(result, volumes=[])).endswith("0 structures\n  no volumes")


def test_arrays_and_tables_are_never_printed(result, tiny) -> None:
    labels = LabelMap(np.zeros((2, 3, 4), np.int32), np.eye(4), "a")
    assert repr(labels) == "<LabelMap 'a': 2 × 3 × 4 voxels of 1 × 1 × 1 mm, int32>"
    long_name = Volume(np.zeros((1200, 1, 1), np.float32), np.eye(4), "a\nb")
    assert repr(long_name) == "<Volume 'a\\nb': 1200 × 1 × 1 voxels of 1 × 1 × 1 mm, float32>"
    assert repr(tiny).startswith("<Segmenter on cpu: <Card 'tiny")
    assert "Hippocampus" not in repr(result.quality)
    assert all(len(repr(one)) < 300 for one in (result, result.quality, tiny, tiny.card))


@pytest.mark.parametrize("more", [{}, {"probabilities": True, "mgz": True, "trace": True}])
def test_save_writes_what_segment_writes(tiny, segment, tmp_path, more) -> None:
    scan = write_head(tmp_path / "head.nii.gz")
    wanted = {"mode": "diffusion", "seed": 3, **more}
    flags = [f"--{name}" for name in more]
    done = segment(scan, "-o", tmp_path / "a", "--mode", "diffusion", "--seed", 3, *flags)
    assert done.code == 0
    found = tiny(scan, **wanted)
    assert isinstance(found, Segmentation)
    written = found.save(tmp_path / "b")
    assert names(tmp_path / "a") == names(tmp_path / "b") == {path.name for path in written}
    assert written[-1].name == f"head{RECEIPT}"
    for suffix in ("_dseg.nii.gz", "_volumes.tsv", "_qc.json", "_desc-uncertainty_map.nii.gz"):
        one, other = (tmp_path / folder / f"head{suffix}" for folder in ("a", "b"))
        assert one.read_bytes() == other.read_bytes()


def test_options_and_stem_of_save_are_its_own(make_segmentation, tmp_path) -> None:
    result = Segmentation.of(make_segmentation(probabilities=True))
    result.save(str(tmp_path), stem="sub-01_T1w")
    assert not (tmp_path / f"sub-01_T1w{PROBABILITIES}").exists()
    result.save(tmp_path, SegmentOptions(probabilities=True), stem="other")
    assert (tmp_path / f"other{PROBABILITIES}").is_file()
    assert json.loads((tmp_path / f"sub-01_T1w{RECEIPT}").read_text())["outputs"]


def test_save_refuses_what_cannot_be_in_one_line(result, tmp_path) -> None:
    result.save(tmp_path)
    with pytest.raises(OutputError, match=r"exists already; pass overwrite=True to replace it"):
        result.save(tmp_path)
    result.save(tmp_path, overwrite=True)
    with pytest.raises(UsageError, match="probabilities: this segmentation has none"):
        result.save(tmp_path / "new", SegmentOptions(probabilities=True))


@pytest.mark.parametrize("stem", ["", "a/b", ".", "/", "a\0"])
def test_a_stem_that_leads_elsewhere_is_refused(result, tmp_path, stem) -> None:
    with pytest.raises(UsageError, match=r"stem: got .*; give the beginning of a file name"):
        result.save(tmp_path / "out", stem=stem)
    assert not (tmp_path / "out").exists()


def test_plot_is_a_figure_of_labels_and_both_maps(result, tmp_path) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    figure = renamed(result, "a$b$_\udcff").plot()
    assert pyplot.fignum_exists(figure.number)
    pictures = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title().split()[0] for axis in pictures[:3]] == [
        "axial",
        "coronal",
        "sagittal",
    ]
    assert len(pictures) == 9
    assert [[text.get_text() for text in axis.texts] for axis in pictures[2:4]] == [
        ["A", "P"],
        ["R", "L"],
    ]
    bars = [axis.get_ylabel() for axis in figure.axes if not axis.images]
    assert bars == ["uncertainty", "discrepancy"]
    figure.savefig(tmp_path / "figure.png", dpi=30)
    assert figure.get_suptitle() == "a$b$_\\xff: pass, expected Dice 0.91"
    pyplot.close(figure)


def test_without_matplotlib_plot_says_what_brings_it(result, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"'matplotlib' of the extra 'plot'") as caught:
        result.plot()
    assert "\n" not in str(caught.value)


def test_the_page_names_what_there_is(result) -> None:
    page = (Path(__file__).parents[1] / "docs" / "python.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`result\.(\w+)", page))
    assert named >= {"labels", "volumes", "quality", "save"}
    assert {name for name in named if not hasattr(result, name)} == set()
    (options,) = re.findall(r"options of `ddmseg segment`:(.*?)\.", page, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", options)) == {
        field.name for field in dataclasses.fields(SegmentOptions)
    }
