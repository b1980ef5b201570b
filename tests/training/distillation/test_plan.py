"""What a settings file leaves out is the teacher's; what does not fit is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddmseg.errors import CheckpointError, SettingsError, UsageError
from ddmseg.imaging.labels import ANATOMY_LABELS, HIPPOCAMPUS_LABELS
from ddmseg.models.checkpoint import Card, build_network, save_weights
from ddmseg.models.settings import (
    DistillationSettings,
    LossSettings,
    ModelSettings,
    Settings,
    read_settings,
)
from ddmseg.models.settings_reader import settings_to_dict
from ddmseg.training.distillation.plan import LIGHT, Teacher, check_labels, read_plan
from toys import BoxSource, tiny_settings

CONFIGS = Path(__file__).parents[3] / "configs" / "distill"
LIGHT_MODEL = "[model]\ndims = 2\nwidths = [4, 4, 4]\nembedding = 1\n"


def saved(folder: Path, settings: Settings, labels: tuple[int, ...] = BoxSource.labels) -> Path:
    path = folder / "other.safetensors"
    save_weights(
        build_network(settings, len(labels)),
        Card("other", labels, settings_to_dict(settings)),
        path,
    )
    return path


# What is taken over


def test_a_light_student_has_a_network_of_its_own(make_plan):
    settings, teacher = make_plan(rest=LIGHT_MODEL)
    assert settings.model == ModelSettings(dims=2, widths=(4, 4, 4), embedding=1)
    assert settings.data == teacher.settings.data
    assert settings.training.start_from == ""


def test_steps_of_the_teachers_own_training_are_not_taken_over(make_plan, tmp_path):
    loss = {"joint_from_step": 5, "temperature": 2.0, "schedule": "linear"}
    other = saved(tmp_path, tiny_settings(loss=loss))
    settings, _ = make_plan(teacher=other)
    assert settings.loss == LossSettings(temperature=2.0, schedule="linear")


def test_the_teacher_is_ready_and_out_of_reach(teacher, teacher_path):
    assert not teacher.model.training
    assert not any(weight.requires_grad for weight in teacher.model.parameters())
    assert teacher.as_dict() == {"name": "toy", "checksum": teacher.card.checksum}


def test_the_method_of_older_files_is_read_and_those_that_are_gone_are_refused(make_plan):
    settings, _ = make_plan(distillation='method = "soft_labels"')
    assert settings == make_plan()[0]
    words = "distillation.method: got 'consistency', which is gone from ddmseg;"
    refusal(SettingsError, lambda: make_plan(distillation='method = "consistency"'), words)


# The recipes


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_can_be_read_with_its_teacher(path):
    own = read_settings(path)
    assert own.name == path.stem
    settings, teacher = read_plan(path)
    labels = {"hippocampus": HIPPOCAMPUS_LABELS, "anatomy": ANATOMY_LABELS}
    assert teacher.card.labels == labels[own.distillation.teacher]
    student = build_network(settings, len(teacher.card.labels))
    count = sum(weight.numel() for weight in student.parameters())
    assert count <= LIGHT
    assert student.denoiser is not None  # the quality checks need a discrepancy


def test_recipes_are_found():
    names = {path.stem for path in CONFIGS.glob("*.toml")}
    assert "hippocampus_light" in names


# Refusals


def refusal(kind: type[Exception], make, *words: str) -> None:
    with pytest.raises(kind) as caught:
        make()
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_file_without_a_teacher_is_refused(tmp_path):
    path = tmp_path / "plain.toml"
    path.write_text("[training]\nsteps = 3\n")
    refusal(SettingsError, lambda: read_plan(path), "distillation.teacher: missing; name a")


def test_an_unknown_teacher_is_refused(make_plan):
    refusal(UsageError, lambda: make_plan(teacher="anatomi"), "did you mean 'anatomy'?")


def test_a_plain_teacher_has_soft_labels_but_no_samples(make_plan, tmp_path):
    other = saved(tmp_path, tiny_settings(model={"diffusion": False}))
    make_plan(teacher=other, rest=LIGHT_MODEL)
    refusal(
        SettingsError,
        lambda: make_plan(teacher=other, rest=LIGHT_MODEL, distillation="teacher_samples = 1"),
        "distillation.teacher_samples: got 1; the teacher other is a plain network",
        "set it to 0",
    )


def test_a_teacher_of_other_structures_is_refused(tmp_path):
    path = saved(tmp_path, tiny_settings(), (0, 17))
    refusal(
        CheckpointError,
        lambda: check_labels(Teacher.load(str(path)), BoxSource()),
        "distillation.teacher: other knows 1 structures (FreeSurfer ids 17 to 17) and the data "
        "have 2 structures (FreeSurfer ids 17 to 53); they must be the same",
    )


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        (
            LIGHT_MODEL + "[data]\nspacing_mm = 1.0\n",
            "data.spacing_mm: got 1.0; the teacher toy has 2.0",
        ),
        ("[data]\npatch = [16, 24]\n[model]\ndims = 3\n", "model.dims: got 3; the teacher toy has"),
        ("[model]\ndims = 2\ncontrasts = 2\n", "model.contrasts: got 2; the teacher toy has 1"),
    ],
)
def test_a_student_that_sees_scans_otherwise_is_refused(make_plan, rest, words):
    refusal(SettingsError, lambda: make_plan(rest=rest), words, "see a scan alike")


def test_the_patch_must_fit_the_teacher_too(make_plan, tmp_path):
    wide = tiny_settings(model={"widths": (4, 4, 4, 4, 4)})
    other = saved(tmp_path, wide)
    rest = LIGHT_MODEL + "[data]\npatch = [16, 24]\n"
    refusal(
        SettingsError,
        lambda: make_plan(teacher=other, rest=rest),
        "data.patch: got (16, 24); for the teacher other each must be a multiple of 16",
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"teacher_steps": 0}, "distillation.teacher_steps: got 0; must be at least 1"),
        ({"teacher_samples": -1}, "distillation.teacher_samples: got -1; must be at least 0"),
        ({"temperature": 0.0}, "distillation.temperature: got 0.0; must be above 0"),
        ({"truth_share": 1.5}, "distillation.truth_share: got 1.5; must be within 0 and 1"),
    ],
)
def test_values_out_of_range_are_refused(values, words):
    refusal(SettingsError, lambda: DistillationSettings(**values), words)
