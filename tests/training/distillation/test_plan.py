"""What a settings file leaves out is the teacher's; what does not fit is refused in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ddmseg.errors import CheckpointError, SettingsError, UsageError
from ddmseg.imaging.labels import ANATOMY_LABELS, HIPPOCAMPUS_LABELS
from ddmseg.models.checkpoint import Card, build_network, save_weights
from ddmseg.models.settings import (
    DistillationSettings,
    LossSettings,
    ModelSettings,
    SamplingSettings,
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


def test_a_student_of_steps_has_the_network_and_the_data_of_its_teacher(make_plan, teacher_path):
    settings, teacher = make_plan("progressive")
    assert settings.model == teacher.settings.model
    assert settings.data == teacher.settings.data
    assert settings.training.start_from == str(teacher_path)
    assert settings.training.steps == 10
    assert settings.sampling == replace(teacher.settings.sampling, steps=1)
    assert settings.distillation == DistillationSettings(
        str(teacher_path), "progressive", teacher_steps=4
    )


def test_a_light_student_has_a_network_of_its_own(make_plan):
    settings, teacher = make_plan("soft_labels", rest=LIGHT_MODEL)
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
    if settings.distillation.of_steps:
        assert settings.sampling.steps == 1
        assert settings.model == teacher.settings.model
    else:
        assert count <= LIGHT
    assert student.denoiser is not None  # the quality checks need a discrepancy


def test_recipes_are_found():
    names = {path.stem for path in CONFIGS.glob("*.toml")}
    assert names >= {"hippocampus_light", "hippocampus_consistency"}


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


@pytest.mark.parametrize("method", ["consistency", "progressive"])
def test_a_plain_teacher_has_no_steps(make_plan, tmp_path, method):
    other = saved(tmp_path, tiny_settings(model={"diffusion": False}))
    refusal(
        SettingsError,
        lambda: make_plan(method, teacher=other),
        f"distillation.method: got {method}; the teacher other is a plain network without "
        "diffusion and takes no steps; use soft_labels",
    )


def test_a_plain_teacher_has_soft_labels_but_no_samples(make_plan, tmp_path):
    other = saved(tmp_path, tiny_settings(model={"diffusion": False}))
    make_plan("soft_labels", teacher=other, rest=LIGHT_MODEL)
    refusal(
        SettingsError,
        lambda: make_plan(
            "soft_labels", teacher=other, rest=LIGHT_MODEL, distillation="teacher_samples = 1"
        ),
        "distillation.teacher_samples: got 1; the teacher other is a plain network",
        "set it to 0",
    )


def test_a_guided_teacher_is_refused_for_steps(make_plan, tmp_path):
    guided = replace(tiny_settings(), sampling=SamplingSettings(guidance="energy"))
    other = saved(tmp_path, guided)
    refusal(SettingsError, lambda: make_plan(teacher=other), "samples with guidance energy")


def test_a_teacher_of_other_structures_is_refused(tmp_path):
    path = saved(tmp_path, tiny_settings(), (0, 17))
    refusal(
        CheckpointError,
        lambda: check_labels(Teacher.load(str(path)), BoxSource()),
        "distillation.teacher: other knows 1 structures (FreeSurfer ids 17 to 17) and the data "
        "have 2 structures (FreeSurfer ids 17 to 53); they must be the same",
    )


def test_a_student_of_steps_cannot_have_another_network(make_plan):
    rest = "[model]\nembedding = 4\n"
    refusal(SettingsError, lambda: make_plan(rest=rest), "model: differs from the teacher's;")
    make_plan(rest="[model]\nembedding = 2\n")  # the same, said again


def test_a_student_of_steps_starts_from_its_teacher(make_plan):
    refusal(
        SettingsError,
        lambda: make_plan(rest='start_from = "anatomy"'),
        "training.start_from: got anatomy;",
        "starts from its teacher, so leave it out",
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
    refusal(SettingsError, lambda: make_plan("soft_labels", rest=rest), words, "see a scan alike")


def test_the_patch_must_fit_the_teacher_too(make_plan, tmp_path):
    wide = tiny_settings(model={"widths": (4, 4, 4, 4, 4)})
    other = saved(tmp_path, wide)
    rest = LIGHT_MODEL + "[data]\npatch = [16, 24]\n"
    refusal(
        SettingsError,
        lambda: make_plan("soft_labels", teacher=other, rest=rest),
        "data.patch: got (16, 24); for the teacher other each must be a multiple of 16",
    )


@pytest.mark.parametrize(
    ("method", "steps", "words"),
    [
        ("consistency", 4, "distillation.teacher_steps: got 4; it must be a multiple of"),
        ("consistency", 3, "sampling.steps (3) above it"),
        ("progressive", 3, "teacher_steps: got 4; to be halved down to 3 it must be one of 6, 12"),
        ("progressive", 4, "teacher_steps: got 4; to be halved down to 4 it must be one of 8, 16"),
    ],
)
def test_steps_that_do_not_lead_to_the_students_are_refused(make_plan, method, steps, words):
    refusal(SettingsError, lambda: make_plan(method, steps=steps), words)


def test_steps_are_taught_as_ddim_takes_them(make_plan, tmp_path):
    other = saved(tmp_path, replace(tiny_settings(), sampling=SamplingSettings(sampler="ddpm")))
    refusal(SettingsError, lambda: make_plan(teacher=other), "sampling.sampler: got ddpm;", "ddim")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"teacher_steps": 0}, "distillation.teacher_steps: got 0; must be at least 1"),
        ({"teacher_samples": -1}, "distillation.teacher_samples: got -1; must be at least 0"),
        ({"temperature": 0.0}, "distillation.temperature: got 0.0; must be above 0"),
        ({"truth_share": 1.5}, "distillation.truth_share: got 1.5; must be within 0 and 1"),
        (
            {"method": "consistency", "temperature": 2.0},
            "distillation.temperature: got 2.0; of soft_labels alone; with method consistency "
            "leave it out",
        ),
        (
            {"method": "progressive", "teacher_samples": 2},
            "distillation.teacher_samples: got 2; of soft_labels alone",
        ),
    ],
)
def test_values_out_of_range_are_refused(values, words):
    refusal(SettingsError, lambda: DistillationSettings(**values), words)
