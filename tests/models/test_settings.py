"""Settings: every shipped recipe loads, and whatever is wrong is named with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ddmseg.datasets.sources import SOURCES
from ddmseg.errors import SettingsError
from ddmseg.imaging.preprocess_variants import NORMALISATIONS
from ddmseg.maths.samplers import SAMPLERS
from ddmseg.models.checkpoint import build_model
from ddmseg.models.settings import (
    CONTRASTS_OF,
    DataSettings,
    LossSettings,
    ModelSettings,
    SamplingSettings,
    Settings,
    TrainingSettings,
    read_settings,
)
from ddmseg.models.settings_reader import settings_from_dict, settings_to_dict
from ddmseg.networks.denoiser import CONDITIONINGS
from ddmseg.networks.sampling import GUIDANCES

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = sorted(path for path in CONFIGS.rglob("*.toml") if path.name != "table.toml")


def write(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text)
    return path


# Recipes


def test_recipes_are_found():
    assert {"anatomy.toml", "hippocampus.toml"} <= {path.name for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_every_recipe_loads_and_its_network_can_be_built(path):
    settings = read_settings(path)
    assert settings.name
    model = build_model(settings.model, classes=3)
    assert all(n % model.multiple == 0 for n in settings.data.patch)
    assert len(settings.data.patch) == settings.model.dims


# Reading


def test_what_is_left_out_keeps_its_default(tmp_path):
    settings = read_settings(write(tmp_path, "[training]\nsteps = 7\n"))
    assert settings.training == TrainingSettings(steps=7)
    assert settings.model == ModelSettings()
    assert settings.name == "run"  # the file's


def test_lists_and_whole_numbers_are_taken_where_they_belong(tmp_path):
    text = 'name = "x"\n[model]\nwidths = [4, 8, 8]\n[training]\nlearning_rate = 1\n'
    settings = read_settings(write(tmp_path, text))
    assert settings.model.widths == (4, 8, 8)
    assert settings.training.learning_rate == 1.0
    assert isinstance(settings.training.learning_rate, float)


def test_settings_survive_json():
    settings = Settings(
        name="x",
        model=ModelSettings(widths=(4, 8, 8), conditioning="concat"),
        data=DataSettings(patch=(16, 16, 24)),
        sampling=SamplingSettings(guidance="energy"),
    )
    plain = json.loads(json.dumps(settings_to_dict(settings)))
    assert settings_from_dict(Settings, plain) == settings


def test_normalisations_are_those_of_the_floor_below():
    for word in NORMALISATIONS:
        raw = {"name": "x", "data": {"kind": "hippocampus", "normalisation": word}}
        assert settings_from_dict(Settings, raw).data.normalisation == word
    with pytest.raises(SettingsError, match=r"data.normalisation: got 'nonsense'") as caught:
        settings_from_dict(Settings, {"name": "x", "data": {"normalisation": "nonsense"}})
    assert str(caught.value).count(", ") == len(NORMALISATIONS) - 1


def test_choices_are_those_of_the_floors_below():
    for table, name, allowed in (
        ("model", "conditioning", CONDITIONINGS),
        ("sampling", "guidance", GUIDANCES),
        ("sampling", "sampler", SAMPLERS),
        ("data", "kind", SOURCES),
        ("loss", "schedule", ("linear", "cosine")),
    ):
        for word in allowed:
            raw = {"name": "x", table: {name: word}}
            if word in CONTRASTS_OF:
                raw["model"] = {"contrasts": CONTRASTS_OF[word]}
            read = settings_from_dict(Settings, raw)
            assert getattr(getattr(read, table), name) == word
        with pytest.raises(SettingsError, match=f"{table}.{name}: got 'nonsense'") as caught:
            settings_from_dict(Settings, {"name": "x", table: {name: "nonsense"}})
        assert str(caught.value).count(", ") == len(allowed) - 1


# Refusals


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[sampling]\nstep = 3", r"sampling.step: unknown setting \(did you mean 'steps'\?\); "),
        ("[sampler]\nsteps = 3", r"sampler: unknown setting.*; allowed are name, model, data"),
        ("[model]\nwidths = 3", r"model.widths: got 3; it must be a list"),
        ("[model]\nwidths = [4, 'a', 8]", r"model.widths: got 'a'; it must be a whole number"),
        ("[model]\nwidths = [4.5, 8, 8]", r"model.widths: got 4.5; it must be a whole number"),
        ("[training]\nsteps = 'ten'", r"training.steps: got 'ten'; it must be a whole number"),
        ("[training]\nsteps = 1.5", r"training.steps: got 1.5; it must be a whole number"),
        ("[training]\nsteps = true", r"training.steps: got True; it must be a whole number"),
        ("[training]\nema = 'x'", r"training.ema: got 'x'; it must be a number"),
        ("[training]\nema = true", r"training.ema: got True; it must be a number"),
        ("[loss]\npush = 1", r"loss.push: got 1; it must be true or false"),
        ("name = 3", r"name: got 3; it must be text"),
        ("model = 3", r"model: got 3; it must be a table"),
        (
            "[sampling]\nsampler = 'ddmp'",
            r"sampling.sampler: got 'ddmp'; allowed are .*did you mean 'ddpm'",
        ),
        ("[sampling]\nsampler = 3", r"sampling.sampler: got 3; allowed are ddim, ddpm"),
        ("[model", r"run.toml: not a TOML file"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place_named(tmp_path, text, message):
    with pytest.raises(SettingsError, match=message) as caught:
        read_settings(write(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"absent.toml: no such settings file; give the path"):
        read_settings(tmp_path / "absent.toml")
    with pytest.raises(SettingsError, match="no such settings file"):
        read_settings(tmp_path)


def test_a_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "run.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="not a TOML file"):
        read_settings(path)


def test_a_missing_name_is_refused():
    with pytest.raises(SettingsError, match="name: missing; it has no default"):
        settings_from_dict(Settings, {})


OUT_OF_RANGE = [
    (ModelSettings, "model", {"dims": 4}, "allowed are 2 and 3"),
    (ModelSettings, "model", {"contrasts": 0}, "must be at least 1"),
    (ModelSettings, "model", {"widths": (4, 8)}, "give at least 3 numbers above 0"),
    (ModelSettings, "model", {"widths": (4, 0, 8)}, "give at least 3 numbers above 0"),
    (ModelSettings, "model", {"blocks": -1}, "must be at least 0"),
    (ModelSettings, "model", {"fine_blocks": -1}, "must be at least 0"),
    (ModelSettings, "model", {"embedding": 0}, "must be at least 1"),
    (ModelSettings, "model", {"mask_width": 0}, "must be at least 1"),
    (ModelSettings, "model", {"denoiser_width": 0}, "must be at least 1"),
    (ModelSettings, "model", {"mask_stride": 4}, "allowed are 1 and 2"),
    (ModelSettings, "model", {"input_scale": 0.0}, "must be above 0"),
    (DataSettings, "data", {"spacing_mm": -1.0}, "must be above 0"),
    (DataSettings, "data", {"patch": (64, 60, 64)}, "each must be a multiple of 8 above 0"),
    (DataSettings, "data", {"patch": (0, 8, 8)}, "each must be a multiple of 8 above 0"),
    (DataSettings, "data", {"patch": ()}, "give one number for each axis"),
    (DataSettings, "data", {"t1_probability": 1.2}, "must be within 0 and 1"),
    (DataSettings, "data", {"skull_strip_probability": -0.1}, "must be within 0 and 1"),
    (
        DataSettings,
        "data",
        {"degraded_share": 0.5},
        "it is for real scans, augmented; leave it out",
    ),
    (DataSettings, "data", {"degraded_share": 1.1}, "must be within 0 and 1"),
    (DataSettings, "data", {"synthetic_share": 1.1}, "must be within 0 and 1"),
    (DataSettings, "data", {"resample_mm": -1.0}, "must be at least 0"),
    (DataSettings, "data", {"synthetic_share": 0.5}, "label_maps has no scans; leave it out"),
    (DataSettings, "data", {"maps": "inter_intra"}, "label_maps has no scans; leave it out"),
    (DataSettings, "data", {"normalisation": "z_score"}, "label_maps has no scans; leave it out"),
    (DataSettings, "data", {"bias_field": True}, "label_maps has no scans; leave it out"),
    (DataSettings, "data", {"resample_mm": 1.5}, "label_maps has no scans; leave it out"),
    (LossSettings, "loss", {"temperature": 0.0}, "must be above 0"),
    (LossSettings, "loss", {"diffusion_weight": -1.0}, "must be at least 0"),
    (LossSettings, "loss", {"joint_from_step": -1}, "must be at least 0"),
    (LossSettings, "loss", {"recycling_clean_end": 1.5}, "must be within 0 and 1"),
    (LossSettings, "loss", {"recycling_noise_end": -0.5}, "must be within 0 and 1"),
    (LossSettings, "loss", {"drop_image_probability": 2.0}, "must be within 0 and 1"),
    (SamplingSettings, "sampling", {"steps": 0}, "must be at least 1"),
    (SamplingSettings, "sampling", {"samples": 0}, "must be at least 1"),
    (SamplingSettings, "sampling", {"temperature": -1.0}, "must be at least 0"),
    (SamplingSettings, "sampling", {"guidance_scale": -1.0}, "must be at least 0"),
    (SamplingSettings, "sampling", {"coarse_share": 1.1}, "must be within 0 and 1"),
    (TrainingSettings, "training", {"steps": 0}, "must be at least 1"),
    (TrainingSettings, "training", {"batch": 0}, "must be at least 1"),
    (TrainingSettings, "training", {"validation_cases": 0}, "must be at least 1"),
    (TrainingSettings, "training", {"warmup_steps": -1}, "must be at least 0"),
    (TrainingSettings, "training", {"workers": -1}, "must be at least 0"),
    (TrainingSettings, "training", {"learning_rate": 0.0}, "must be above 0"),
    (TrainingSettings, "training", {"learning_rate": float("nan")}, "must be above 0"),
    (TrainingSettings, "training", {"clip_norm": 0.0}, "must be above 0"),
    (TrainingSettings, "training", {"ema": 1.0}, "must be within 0 and 1, 1 excluded"),
]


@pytest.mark.parametrize(
    ("kind", "table", "values", "allowed"),
    OUT_OF_RANGE,
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_values_out_of_range_are_refused(kind, table, values, allowed):
    ((name, value),) = values.items()
    with pytest.raises(SettingsError) as caught:
        kind(**values)
    assert str(caught.value) == f"{table}.{name}: got {value}; {allowed}"


def test_settings_that_do_not_fit_together_are_refused():
    with pytest.raises(SettingsError, match=r"data.patch: got .*each must be a multiple of 16"):
        Settings("x", ModelSettings(widths=(4, 8, 8, 8, 8)), DataSettings(patch=(24, 16, 16)))
    with pytest.raises(SettingsError, match=r"denoiser_width: got 5; must be even for .*cross_att"):
        ModelSettings(conditioning="cross_attention", denoiser_width=5)
    for others in ({}, {"mask_stride": 2, "conditioning": "concat"}):
        with pytest.raises(SettingsError, match=r"denoiser_form: got light; .*half the grid"):
            ModelSettings(denoiser_form="light", **others)


def test_noise_is_no_target_where_masks_are_recycled():
    noise = ModelSettings(target="noise")
    with pytest.raises(SettingsError, match=r"model.target: got noise; .*recycling_noise_end to 0"):
        Settings("run", model=noise, loss=LossSettings(recycling_clean_end=0.0))
    Settings("run", model=noise, loss=LossSettings(recycling_clean_end=0, recycling_noise_end=0))


def test_settings_cannot_be_changed():
    with pytest.raises(AttributeError):
        ModelSettings().dims = 2
