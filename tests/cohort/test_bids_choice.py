"""Which images of a BIDS folder are taken, and that everything else is named with its reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bids_folder import describe, image
from ddmseg.cohort.bids_choice import Choice, Wanted, check_bids, choose_scans, read_filters
from ddmseg.errors import UsageError


def chosen(root: Path, **wanted: object) -> Choice:
    return choose_scans(root, Wanted(**wanted))  # type: ignore[arg-type]


def names(choice: Choice) -> list[str]:
    return [scan.path.name.removesuffix(".nii.gz") for scan in choice.scans]


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (["T1w", "FLAIR", "T2w"], "T1w"),
        (["FLAIR", "T2w"], "FLAIR"),
        (["T2w", "PDw"], "T2w"),
        (["part-phase_T1w", "T2w"], "T2w"),
        (["part-mag_T1w", "part-phase_T1w", "part-real_T1w", "part-imag_T1w"], "part-mag_T1w"),
    ],
)
def test_the_first_contrast_that_is_there_as_magnitude_is_taken(tmp_path, there, taken) -> None:
    for suffix in there:
        image(tmp_path, f"sub-01_{suffix}")
    choice = chosen(tmp_path)
    assert names(choice) == [f"sub-01_{taken}"]
    assert sum(choice.left.values()) == len(there) - 1
    assert choice.passed_over == {}


def test_each_session_is_chosen_for_itself_with_all_its_runs(tmp_path) -> None:
    for name in ("sub-01_ses-a_run-1_T1w", "sub-01_ses-a_run-2_T1w", "sub-01_ses-b_T2w"):
        image(tmp_path, name)
    choice = chosen(tmp_path)
    assert [(scan.subfolder, scan.stem, scan.source) for scan in choice.scans] == [
        (f"{at}/anat", f"{stem}_space-orig", f"{at}/anat/{stem}_{suffix}.nii.gz")
        for at, stem, suffix in (
            ("sub-01/ses-a", "sub-01_ses-a_run-1", "T1w"),
            ("sub-01/ses-a", "sub-01_ses-a_run-2", "T1w"),
            ("sub-01/ses-b", "sub-01_ses-b", "T2w"),
        )
    ]


def test_every_subject_and_session_that_is_passed_over_is_named_with_its_reason(tmp_path) -> None:
    image(tmp_path, "sub-01_T1w")
    image(tmp_path, "sub-02_PDw")
    image(tmp_path, "sub-03_part-phase_T1w")
    image(tmp_path, "sub-04_ses-a_T1w")
    (tmp_path / "sub-04" / "ses-b" / "func").mkdir(parents=True)
    (tmp_path / "sub-05" / "anat").mkdir(parents=True)
    (tmp_path / "sub-06" / "anat").mkdir(parents=True)
    for odd in ("sub-06_desc-edited_T1w", "sub-07_T1w", "T1w", "sub-06__T1w"):
        (tmp_path / "sub-06" / "anat" / f"{odd}.nii.gz").write_bytes(b"")
    none = "no T1w or FLAIR or T2w image"
    assert chosen(tmp_path).passed_over == {
        "sub-02": f"{none} (1 *_PDw)",
        "sub-03": f"{none} (1 part-phase, not magnitude)",
        "sub-04/ses-b": f"{none} (no anat)",
        "sub-05": f"{none} (anat is empty)",
        "sub-06": f"{none} (4 with a name that is not one of BIDS)",
    }


def test_labels_that_do_not_exist_are_refused_and_the_others_done(tmp_path) -> None:
    for name in ("sub-01_ses-a_T1w", "sub-02_ses-b_T1w", "sub-03_T1w"):
        image(tmp_path, name)
    choice = chosen(tmp_path, participants=["01", "sub-02", "9"], sessions=["a", "ses-z"])
    assert names(choice) == ["sub-01_ses-a_T1w"]
    assert [str(one.error) for one in choice.refused] == [
        f"{tmp_path}: there is no sub-9; check the label",
        f"{tmp_path}: there is no ses-z; check the label",
    ]
    assert choice.passed_over == {"sub-02": "no ses-a or ses-z"}


def test_what_is_not_here_or_there_twice_is_refused_by_itself(tmp_path) -> None:
    whole = image(tmp_path, "sub-01_T1w")
    whole.with_name("sub-01_T1w.nii").write_bytes(b"")
    image(tmp_path, "sub-02_T1w").unlink()
    (tmp_path / "sub-02" / "anat" / "sub-02_T1w.nii.gz").symlink_to(".git/annex/objects/x")
    choice = chosen(tmp_path)
    assert len(choice.scans) == 1
    twice, absent = (str(one.error) for one in choice.refused)
    assert twice.endswith("sub-01_T1w.nii.gz: its name is there twice; leave only one of the files")
    assert "its content is not here; fetch it first" in absent


@pytest.mark.parametrize(
    ("query", "taken"),
    [
        ({"acquisition": "mprage"}, ["acq-mprage_run-1", "acq-mprage_run-02"]),
        ({"acq": ["fast", "mprage"], "run": 2}, ["acq-mprage_run-02"]),
        ({"acquisition": None}, ["run-1"]),
        ({"acquisition": "*", "run": "Query.NONE"}, ["acq-fast"]),
        ({"datatype": "anat", "suffix": "T1w", "run": "1"}, ["run-1", "acq-mprage_run-1"]),
    ],
)
def test_a_filter_file_says_which_entities_images_have(tmp_path, query, taken) -> None:
    for entities in ("run-1", "acq-mprage_run-1", "acq-mprage_run-02", "acq-fast"):
        image(tmp_path, f"sub-01_{entities}_T1w")
    file = tmp_path / "filter.json"
    file.write_text(json.dumps({"t1w": query, "bold": {"task": "rest"}}))
    choice = chosen(tmp_path, filters=read_filters(file))
    assert sorted(names(choice)) == sorted(f"sub-01_{entities}_T1w" for entities in taken)
    assert choice.left["*_T1w that the filter file leaves out"] == 4 - len(taken)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read as JSON"),
        ('["t1w"]', "must be an object of objects"),
        ('{"t1w": {"aquisition": "x"}}', "'aquisition' is no entity (did you mean 'acquisition'?)"),
        ('{"bold": {}}', "no query for an image that is segmented; allowed are t1w, flair, t2w"),
    ],
)
def test_a_wrong_filter_file_is_refused_in_a_line(tmp_path, text, said) -> None:
    file = tmp_path / "filter.json"
    file.write_text(text)
    with pytest.raises(UsageError) as refused:
        read_filters(file)
    assert str(refused.value).startswith(f"{file}: ")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no BIDS folder, dataset_description.json is missing"),
        ("{", "no BIDS folder, dataset_description.json cannot be read"),
        ("[]", "no BIDS folder, dataset_description.json cannot be read"),
        ("{}", "Name and BIDSVersion missing"),
    ],
)
def test_a_folder_that_is_no_bids_is_refused_with_the_way_out(tmp_path, text, said) -> None:
    if text is not None:
        (tmp_path / "dataset_description.json").write_text(text)
    with pytest.raises(UsageError, match="--skip-bids-validation") as refused:
        check_bids(tmp_path)
    assert said in str(refused.value)


def test_a_folder_of_derivatives_is_not_taken_for_scans(tmp_path) -> None:
    with pytest.raises(UsageError, match="holds derivatives, not scans"):
        check_bids(describe(tmp_path, DatasetType="derivative"))
    check_bids(describe(tmp_path, DatasetType="raw"))
