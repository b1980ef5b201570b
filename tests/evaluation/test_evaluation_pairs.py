"""Which prediction belongs to which truth."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddmseg.errors import ScanError
from ddmseg.evaluation.pairs import find_label_maps, match_label_maps


def touch(root: Path, *names: str) -> Path:
    """Make files, empty: matching opens none."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


@pytest.fixture
def match(tmp_path):
    """Pair two folders of files; return pairs as short texts, and the problems."""

    def run(predictions: list[str], truth: list[str]) -> tuple[list[str], list[str]]:
        ours, theirs = touch(tmp_path / "P", *predictions), touch(tmp_path / "T", *truth)
        pairs, problems = match_label_maps(ours, theirs)
        told = [
            f"{p.case}: {p.prediction.relative_to(ours)} ~ {p.truth.relative_to(theirs)}"
            for p in pairs
        ]
        return told, [line.replace(f"{tmp_path}/", "") for line in problems]

    return run


@pytest.mark.parametrize(
    ("prediction", "truth", "case"),
    [
        ("hippocampus_001.nii.gz", "hippocampus_001.nii.gz", "hippocampus_001"),
        ("a_dseg.nii.gz", "a_seg.nii", "a"),
        ("1000_SS_dseg.nii.gz", "1000_glm.nii.gz", "1000"),
        ("IBSR_01_dseg.nii.gz", "IBSR_01_seg.nii.gz", "IBSR_01"),
        ("x_T1w_dseg.nii.gz", "x_labels.nii.gz", "x"),
        ("x_pred.nii.gz", "x_label.nii.gz", "x"),
        ("x_0000_Dseg.nii.gz", "x.nii.gz", "x"),
        ("bert/mri/aseg.nii", "bert/mri/aseg.nii.gz", "aseg"),
        ("sub-01_T1w_dseg.nii.gz", "sub-01/anat/sub-01_desc-manual_dseg.nii.gz", "sub-01"),
        ("sub-01_ses-a_T1w_dseg.nii.gz", "sub-01/ses-a/labels.nii.gz", "sub-01_ses-a"),
        ("sub-01_run-1_T1w_dseg.nii.gz", "sub-01_run-01_space-T1w_dseg.nii.gz", "sub-01"),
    ],
)
def test_names_that_belong_together(match, prediction, truth, case) -> None:
    assert match([prediction], [truth]) == ([f"{case}: {prediction} ~ {truth}"], [])


@pytest.mark.parametrize(
    ("prediction", "truth"),
    [
        ("a.nii.gz", "b.nii.gz"),
        ("sub-01/labels.nii.gz", "sub-02/labels.nii.gz"),
        ("sub-01_ses-a_dseg.nii.gz", "sub-01_ses-b_dseg.nii.gz"),
        ("sub-01_run-1_dseg.nii.gz", "sub-01_run-2_dseg.nii.gz"),
        ("sub-01_dseg.nii.gz", "sub-011_dseg.nii.gz"),
    ],
)
def test_names_that_do_not(match, prediction, truth) -> None:
    assert match([prediction], [truth]) == (
        [],
        [
            f"P/{prediction}: no truth for it in T; name both alike or leave it out",
            f"T/{truth}: no prediction for it in P; name both alike or leave it out",
        ],
    )


def test_the_others_are_paired_beside_a_missing_one(match) -> None:
    pairs, problems = match(["b.nii", "a.nii", "c.nii"], ["a.nii", "c.nii", "d.nii"])
    assert pairs == ["a: a.nii ~ a.nii", "c: c.nii ~ c.nii"]
    assert [line.split(":")[0] for line in problems] == ["P/b.nii", "T/d.nii"]


def test_an_exact_name_goes_before_a_shortened_one(match) -> None:
    pairs, problems = match(["a_seg.nii", "a_pred.nii"], ["a_seg.nii"])
    assert pairs == ["a: a_seg.nii ~ a_seg.nii"]
    assert problems == ["P/a_pred.nii: no truth for it in T; name both alike or leave it out"]


def test_several_candidates_are_one_line_and_no_pair(match) -> None:
    pairs, problems = match(["a_T1_dseg.nii", "a_T2_dseg.nii", "b_dseg.nii"], ["a.nii", "b.nii"])
    assert pairs == ["b: b_dseg.nii ~ b.nii"]
    assert problems == [
        "a: ambiguous, for P/a_T1_dseg.nii, P/a_T2_dseg.nii could belong to T/a.nii; "
        "leave one of each"
    ]


def test_many_candidates_are_not_all_listed(match) -> None:
    _, (problem,) = match([f"sub-1_run-{n}_dseg.nii" for n in range(5)], ["sub-1.nii"])
    assert "P/sub-1_run-2_dseg.nii and 2 more could belong" in problem


def test_equal_short_names_get_their_place(match) -> None:
    names = ["x/scan_seg.nii", "y/scan_seg.nii"]
    assert match(names, names)[0] == [f"{n[:-4]}: {n} ~ {n}" for n in names]


def test_maps_and_scans_beside_label_maps_are_left_alone(tmp_path) -> None:
    names = ["a_dseg.nii.gz", "b_seg.nii.gz"]
    others = [
        "a_desc-uncertainty_map.nii.gz",
        "a_probseg.nii.gz",
        "a_desc-brain_mask.nii.gz",
        "a.nii.gz",
        "a_dseg.tsv",
    ]
    touch(tmp_path, *names, *others, ".hidden_seg.nii.gz", ".work/c_seg.nii.gz")
    assert [path.name for path in find_label_maps(tmp_path)] == names


def test_two_files_are_a_pair_whatever_they_are_called(tmp_path) -> None:
    touch(tmp_path, "mine.nii", "yours_seg.nii")
    pairs, problems = match_label_maps(tmp_path / "mine.nii", tmp_path / "yours_seg.nii")
    assert ([p.case for p in pairs], problems) == (["yours"], [])


def test_a_file_finds_its_truth_in_a_folder(tmp_path) -> None:
    touch(tmp_path, "a_dseg.nii", "truth/a.nii")
    (pair,), problems = match_label_maps(tmp_path / "a_dseg.nii", tmp_path / "truth")
    assert (pair.case, problems) == ("a", [])


def test_a_place_without_label_maps_is_refused(tmp_path) -> None:
    with pytest.raises(ScanError, match="none: no such file or folder; check the path"):
        find_label_maps(tmp_path / "none")
    with pytest.raises(ScanError, match=r"no label map in this folder; it must hold \.nii\.gz or"):
        find_label_maps(touch(tmp_path, "notes.txt"))
