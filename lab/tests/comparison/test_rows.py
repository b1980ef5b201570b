"""Rows: trained, tested and recorded once, resumed where they stopped, compared in a table."""

from __future__ import annotations

import json
import math
import shutil
import statistics
from dataclasses import replace

import pytest
import torch

from ddmseg.datasets.subject import Subject
from ddmseg.errors import CheckpointError, UsageError
from ddmseg.networks.baselines import BaselineSegmenter
from ddmseg.training.curve import Curve
from ddmseg_lab.comparison import inter_intra, runs
from ddmseg_lab.comparison import row as row_module
from ddmseg_lab.comparison.inter_intra import Recipe
from ddmseg_lab.comparison.plan import read_plan
from ddmseg_lab.comparison.predict import Member, predict, score_apart, score_row
from ddmseg_lab.comparison.record import read_record
from ddmseg_lab.comparison.row import Places, is_done, keep_table, run_row
from ddmseg_lab.comparison.runs import Unfinished
from ddmseg_lab.comparison.table import build_table, differences_from, markdown
from ddmseg_lab.comparison.table_page import table_chapters
from real_sets import write_hippocampus
from toys import tiny_model, tiny_settings

TERMS = """
[model]
widths = [4, 8, 8]
embedding = 2
mask_width = 4
denoiser_width = 4
[data]
kind = "hippocampus"
patch = [16, 24, 16]
spacing_mm = 1.0
[training]
precision = "single"
steps = 4
batch = 1
validate_every = 2
validation_cases = 1
workers = 0
warmup_steps = 1
threads = 1
device = "cpu"
stop_on_empty_masks = false
[sampling]
steps = 2
samples = 2
"""
ROWS = {
    "plain": 'extends = "terms.toml"\n[model]\ndiffusion = false\n[row]\ntitle = "Plain"\n',
    "ddm": 'extends = "terms.toml"\n',
    "one_step": 'extends = "ddm.toml"\n[sampling]\nsteps = 1\n[row]\nweights_of = "ddm"\n',
    "both": 'extends = "terms.toml"\n[row]\nmembers = ["ddm", "plain"]\n',
}
TABLE = f'title = "t"\nrows = {json.dumps(list(ROWS))}\nreferences = ["ddm"]\n'


@pytest.fixture(scope="module", autouse=True)
def quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Curve, "_draw", lambda self: None)  # takes longer than all the rest
        patch.setattr(row_module, "score_apart", score_row)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A plan of four rows on six crops, two of which have been run."""
    root = tmp_path_factory.mktemp("rows")
    write_plan(root)
    write_hippocampus(root / "data", {"train": 2, "validation": 1, "test": 3})
    for name in ("plain", "ddm"):
        run_row(read_plan(root / "toy"), name, "test", places_in(root, root / "data"))
    return root


def write_plan(root):
    (root / "toy").mkdir()
    for name, text in {"table": TABLE, "terms": TERMS, **ROWS}.items():
        (root / "toy" / f"{name}.toml").write_text(text)


@pytest.fixture
def table(root, tmp_path):
    """A copy of the plan, and where it writes: nothing has been run."""
    write_plan(tmp_path)
    return read_plan(tmp_path / "toy"), places_in(tmp_path, root / "data")


@pytest.fixture
def run(root, table):
    """The same with the records and weights of ``plain`` and ``ddm``."""
    _, places = table
    for folder in ("results", "work"):
        shutil.copytree(root / folder, places.others.parent / folder)
    return table


def places_in(folder, data):
    work = folder / "work"
    return Places(folder / "results", work / "compare" / "toy", work, str(data))


def test_a_row_leaves_all_that_is_needed_to_believe_it(run):
    _, places = run
    found, scores = read_record(places.results / "ddm" / "test")
    assert found.settings["training"]["steps"] == 4
    assert len(found.split["test"]) == 3
    assert not set(found.split["train"]) & set(found.split["test"])
    assert found.samples_seen == 4
    assert found.train_seconds > 0 < found.seconds_a_scan
    assert set(found.versions) >= {"python", "torch", "ddmseg"}
    assert {score.case for score in scores} == set(found.split["test"])
    assert {score.structure for score in scores} == {"anterior", "posterior"}
    assert (places.results / "ddm" / "test" / "curve.csv").is_file()
    kept = {path.name for path in (places.results / "ddm" / "test").iterdir()}
    assert kept == {"run.json", "scores.tsv", "curve.csv"}  # small text alone


def test_a_row_that_stands_is_known(run):
    plan, places = run
    assert not is_done(plan, "one_step", "test", places)
    assert is_done(plan, "plain", "test", places)
    text = (places.results / "plain" / "test" / "run.json").read_text()
    changed = text.replace('"steps": 4', '"steps": 5')
    assert changed != text
    (places.results / "plain" / "test" / "run.json").write_text(changed)
    assert not is_done(plan, "plain", "test", places)  # of other settings


def test_stopped_and_resumed_is_the_same_row(root, table):
    plan, places = table
    with pytest.raises(Unfinished, match="step 1 of 4"):
        run_row(plan, "ddm", "test", places, max_minutes=0)
    resumed = run_row(plan, "ddm", "test", places)
    whole, scores = read_record(root / "results" / "ddm" / "test")
    assert resumed.validation_dice == whole.validation_dice
    assert read_record(places.results / "ddm" / "test") == (resumed, scores)


def test_a_record_from_before_a_setting_existed_still_stands(run):
    plan, places = run
    for path in (
        places.results / "plain" / "test" / "run.json",
        places.work / "plain" / "test" / "settings.json",
    ):
        stored = json.loads(path.read_text())
        del stored.get("settings", stored)["data"]["normalisation"]
        path.write_text(json.dumps(stored))
    assert is_done(plan, "plain", "test", places)
    again = run_row(plan, "plain", "test", places)  # tested again, not trained
    assert again.samples_seen == 4
    stored["data"]["normalisation"] = "nonsense"
    path.write_text(json.dumps(stored))
    assert not runs._same_training(path.parent, plan.settings("plain", "test"))


MAPS = """extends = "ddm.toml"
[model]
contrasts = 3
[data]
maps = "inter_intra"
"""


def test_a_row_with_maps_keeps_its_auto_encoders_with_its_weights(run, monkeypatch):
    monkeypatch.setattr(inter_intra, "Recipe", lambda: Recipe(steps=3, batch=4))
    plan, places = run
    (plan.folder / "table.toml").write_text(TABLE.replace('"both"', '"both", "maps"'))
    (plan.folder / "maps.toml").write_text(MAPS)
    plan = read_plan(plan.folder)
    with pytest.raises(Unfinished):
        run_row(plan, "maps", "test", places, max_minutes=0)
    kept = places.work / "maps" / "test" / inter_intra.FILE
    before = kept.read_bytes()
    record = run_row(plan, "maps", "test", places)
    assert kept.read_bytes() == before  # resumed with the same
    bare = read_record(places.results / "ddm" / "test")[0]
    assert record.parameters > bare.parameters + 6 * 1000  # six auto-encoders count
    assert record.split == bare.split
    _, scores = read_record(places.results / "maps" / "test")
    kept.unlink()
    weights = [kept.with_name("best.safetensors")]
    with pytest.raises(CheckpointError, match=r"auto_encoders\.safetensors: no such file"):
        score_row(weights, [json.dumps(record.settings)], places.data, 1)
    kept.write_bytes(before)
    assert score_row(weights, [json.dumps(record.settings)], places.data, 1).scores == scores


def test_borrowed_weights_are_not_trained_again(run, monkeypatch):
    plan, places = run
    monkeypatch.setattr(runs, "Trainer", None)  # any training would fail
    borrowed = run_row(plan, "one_step", "test", places)
    assert borrowed.samples_seen == 0
    assert borrowed.settings["sampling"]["steps"] == 1


def test_an_equal_training_of_another_table_is_not_repeated(run, monkeypatch):
    plan, places = run
    first, scores = read_record(places.results / "ddm" / "test")
    monkeypatch.setattr(runs, "Trainer", None)  # any training would fail
    elsewhere = replace(places, results=places.results / "b", work=places.others / "ablate" / "toy")
    (plan.folder / "ddm.toml").write_text('extends = "terms.toml"\nname = "full"\n')
    again = run_row(read_plan(plan.folder), "ddm", "test", elsewhere)
    assert (again.train_seconds, again.samples_seen) == (first.train_seconds, first.samples_seen)
    assert (elsewhere.results / "ddm" / "test" / "curve.csv").is_file()
    assert read_record(elsewhere.results / "ddm" / "test")[1] == scores
    (plan.folder / "ddm.toml").write_text('extends = "terms.toml"\n[training]\nseed = 1\n')
    with pytest.raises(TypeError):  # another training
        run_row(read_plan(plan.folder), "ddm", "test", elsewhere)


def test_a_row_does_not_stand_when_its_lender_has_changed(run):
    plan, places = run
    for row in ("one_step", "both"):
        run_row(plan, row, "test", places)
        assert is_done(plan, row, "test", places)
    (plan.folder / "ddm.toml").write_text('extends = "terms.toml"\n[sampling]\nsteps = 3\n')
    changed = read_plan(plan.folder)
    assert not is_done(changed, "one_step", "test", places)
    assert not is_done(changed, "both", "test", places)


def test_an_ensemble_answers_by_the_mean_of_its_members(run):
    plan, places = run
    both = run_row(plan, "both", "test", places)
    ddm, plain = (read_record(places.results / name / "test")[0] for name in ("ddm", "plain"))
    assert both.parameters == ddm.parameters + plain.parameters
    assert both.train_seconds == pytest.approx(ddm.train_seconds + plain.train_seconds, abs=0.11)


def test_the_table_compares_patient_by_patient(run):
    plan, places = run
    lines = build_table(plan.table, places.results)
    assert list(lines) == ["plain", "ddm"]  # the others have not been run
    plain, ddm = lines.values()
    tests = differences_from("ddm", lines)
    assert set(tests) == {"plain"}
    means = [statistics.mean(row.dice.values()) for row in (plain, ddm)]
    assert tests["plain"].difference.mean == pytest.approx(means[0] - means[1])
    text = markdown(lines, plan.table.references)
    heading, _, *rows = text.splitlines()
    assert len(rows) == 2
    assert all(row.count("|") == heading.count("|") for row in rows)
    assert "Dice anterior" in heading
    assert rows[0].startswith("| Plain |")


def test_rows_of_other_patients_do_not_mix(run):
    plan, places = run
    path = places.results / "ddm" / "test" / "scores.tsv"
    path.write_text("\n".join(path.read_text().splitlines()[:-2]) + "\n")
    with pytest.raises(UsageError, match="other patients"):
        build_table(plan.table, places.results)


def test_a_damaged_record_is_named(table):
    plan, places = table
    folder = places.results / "ddm" / "test"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"row": 3}')
    with pytest.raises(UsageError, match=r"run\.json: not a record of a row"):
        is_done(plan, "ddm", "test", places)


def test_scoring_apart_equals_scoring_here(run):
    _, places = run
    weights = [places.work / "plain" / "test" / "best.safetensors"]
    settings = [json.dumps(read_record(places.results / "plain" / "test")[0].settings)]
    apart = score_apart(weights, settings, places.data, 1)
    here = score_row(weights, settings, places.data, 1)
    assert apart.scores == here.scores
    assert apart.peak_memory_mb is None or 50 < apart.peak_memory_mb < 3000


# Prediction


class Threshold(BaselineSegmenter):
    """Says class 1 where the image is bright: its answer is known at each voxel."""

    def __init__(self, dims: int) -> None:
        torch.nn.Module.__init__(self)
        self.dims, self.classes, self.multiple = dims, 2, 4

    def forward(self, image):
        return 20 * torch.cat([0.5 - image, image - 0.5], dim=1)


@pytest.mark.parametrize(("dims", "slice_axis"), [(2, 0), (2, 1), (2, 2), (3, 1)])
def test_answers_lie_where_the_image_says(dims, slice_axis):
    image = torch.rand(1, 13, 21, 10, generator=torch.Generator().manual_seed(0))
    subject = Subject("s", image, torch.zeros(13, 21, 10).long(), (1.0, 1.0, 1.0), slice_axis)
    found = predict([Member(Threshold(dims), tiny_settings())], subject, torch.Generator())
    assert torch.equal(found, (image[0] > 0.5).long())


@pytest.mark.parametrize("slice_axis", [0, 2])
def test_air_around_a_head_changes_no_slice(slice_axis):
    """A network that normalises over the grid must not see how much air a scan has."""
    head = 0.2 + torch.rand(1, 9, 10, 11, generator=torch.Generator().manual_seed(0))
    members = [Member(tiny_model(dims=2, diffusion=False), tiny_settings())]

    def labels(air):
        image = torch.nn.functional.pad(head, [air] * 6)
        shape = image.shape[1:]
        subject = Subject("s", image, torch.zeros(shape).long(), (1.0, 1.0, 1.0), slice_axis)
        return predict(members, subject, torch.Generator())

    near, far = labels(4), labels(15).clone()
    assert near.any()
    assert torch.equal(far[11:-11, 11:-11, 11:-11], near)
    far[11:-11, 11:-11, 11:-11] = 0
    assert not far.any()


def test_a_scan_without_contrast_is_predicted_whole():
    image = torch.full((1, 9, 8, 7), 0.7)
    subject = Subject("s", image, torch.zeros(9, 8, 7).long(), (1.0, 1.0, 1.0))
    assert predict([Member(Threshold(2), tiny_settings())], subject, torch.Generator()).all()


def test_members_vote_by_probability():
    class Opposite(Threshold):
        def forward(self, image):
            return -0.9 * super().forward(image)

    image = 0.4 + 0.2 * torch.rand(1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    subject = Subject("s", image, torch.zeros(8, 8, 8).long(), (1.0, 1.0, 1.0))
    settings = tiny_settings()
    members = [Member(Threshold(3), settings), Member(Opposite(3), settings)]
    found = predict(members, subject, torch.Generator())
    assert torch.equal(found, (image[0] > 0.5).long())  # the surer member wins


@pytest.mark.parametrize("dims", [2, 3])
def test_samples_follow_the_generator(dims):
    model = tiny_model(dims=dims)
    settings = tiny_settings(dims=dims)
    image = torch.rand(1, 9, 8, 7, generator=torch.Generator().manual_seed(0))
    subject = Subject("s", image, torch.zeros(9, 8, 7).long(), (1.0, 1.0, 1.0))
    members = [Member(model, settings)]
    one, two = (predict(members, subject, torch.Generator().manual_seed(4)) for _ in range(2))
    assert one.shape == (9, 8, 7)
    assert torch.equal(one, two)
    assert math.prod(one.shape) > 0


def test_results_folder_is_free_of_paths(root):
    for path in (root / "results").rglob("*"):
        if path.is_file():
            assert str(root) not in path.read_text()


def test_the_chapter_is_made_of_the_results_alone(run):
    plan, places = run
    keep_table(plan, places)
    folder = places.results.parent / "page" / "compare" / "toy"
    folder.parent.mkdir(parents=True)
    places.results.rename(folder)
    (section,) = table_chapters(folder.parents[1])
    text = section.markdown()
    assert "| Plain |" in text
    assert "Not run yet: one_step, both." in text
    assert "ddmseg compare lab/configs/compare/toy" in text
