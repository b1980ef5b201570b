"""The command as a whole: light to start, one line for every mistake, honest exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ddmseg import __version__
from ddmseg.cli.command_table import COMMANDS
from ddmseg.cli.commands import doctor
from ddmseg.cli.commands.models import describe, scores
from ddmseg.cli.main import main
from ddmseg.errors import ScanError
from ddmseg.messages import reason_of
from ddmseg.models import zoo
from ddmseg.models.checkpoint import read_card
from ddmseg.models.manifest import write_manifest

ROOT = Path(__file__).parents[2]
HEAVY = ["torch", "numpy", "scipy", "nibabel", "monai", "matplotlib", "jinja2"]


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("calls", "also"),
    [
        (["--help", "--version", "segmnt"], ["tyro", "rich", "argparse"]),
        (
            [
                *("segment --help", "segment a -o b --stpes", "train --help"),
                *("evaluate --help", "evaluate a b --x"),
            ],
            [],
        ),
    ],
    ids=["without a command", "of commands"],
)
def test_help_and_mistakes_wait_for_nothing_heavy(calls, also) -> None:
    code = (
        f"import sys\nfrom ddmseg.cli.main import main\nfor call in {calls}:\n"
        "    main(call.split())\n"
        f"    print('heavy:', call, [m for m in {HEAVY + also} if m in sys.modules])"
    )
    told = [line for line in run_python(code).stdout.splitlines() if line.startswith("heavy:")]
    assert told == [f"heavy: {call} []" for call in calls]


def test_the_installed_command_returns_the_exit_code() -> None:
    words = [sys.executable, "-m", "ddmseg", "segmnt"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(
        "error: 'segmnt': unknown command (did you mean 'segment'?); "
        f"allowed are {', '.join(COMMANDS)}"
    )
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"]])
def test_the_help_names_every_command_and_the_exit_codes(ddmseg, words) -> None:
    outcome = ddmseg(*words)
    assert outcome.code == 0
    assert all(f"\n  {name} " in outcome.out for name in COMMANDS)
    assert "not a medical device" in outcome.out
    assert "2 wrong usage" in outcome.out


def test_the_options_of_segment_are_those_that_are_promised(ddmseg) -> None:
    shown = ddmseg("segment", "--help").out
    promised = (
        "-o --mode --steps --samples --sampler --temperature --model --device --seed --overwrite "
        "--probabilities --volume --accept-nan --no-cache --threads"
    )
    for option in promised.split():
        assert f"{option} " in shown


def test_the_version_is_that_of_the_package(ddmseg) -> None:
    assert ddmseg("--version").out == f"ddmseg {__version__}\n"


def test_an_unknown_option_before_the_command_is_refused(ddmseg) -> None:
    outcome = ddmseg("--quiet")
    assert outcome.code == 2
    assert outcome.error.startswith("'--quiet': unknown option; allowed are segment")


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch):
    """Have ``ddmseg models`` raise what the test gives it."""

    def arrange(error: BaseException) -> None:
        def fail() -> list:
            raise error

        monkeypatch.setattr(zoo, "shipped_cards", fail)

    return arrange


def test_an_error_of_ours_is_one_line_and_its_code(ddmseg, breaking) -> None:
    breaking(ScanError("a.nii: it is\nupside down"))
    outcome = ddmseg("models", "--debug")
    assert (outcome.code, outcome.error) == (1, "a.nii: it is upside down")


def test_an_unexpected_error_is_one_line_with_the_way_to_more(ddmseg, breaking) -> None:
    breaking(ZeroDivisionError("division\nby zero"))
    outcome = ddmseg("models")
    assert outcome.code == 1
    assert outcome.err == (
        "error: unexpected ZeroDivisionError: division by zero; "
        "run again with --debug to see where\n"
    )
    assert "Traceback" in ddmseg("models", "--debug").err


def test_an_error_without_words_has_at_least_a_name() -> None:
    assert reason_of(AssertionError()).startswith("unexpected AssertionError")
    assert "--debug" in reason_of(AssertionError())


def test_used_up_memory_is_said_in_words() -> None:
    assert reason_of(MemoryError()).startswith("the memory is used up")
    full = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")
    assert reason_of(full).startswith("the memory is used up")


def test_ctrl_c_is_no_error(ddmseg, breaking) -> None:
    breaking(KeyboardInterrupt())
    outcome = ddmseg("models")
    assert (outcome.code, outcome.err) == (130, "stopped\n")


def test_a_reader_that_goes_away_is_no_error() -> None:
    code = (
        "import sys; import ddmseg.cli.main as c; "
        "c._help = lambda: chr(10) * 10**6; sys.exit(c.main([]))"
    )
    assert said_to_one_who_has_gone("-c", code) == b""


def test_who_reads_only_the_beginning_of_a_help_gets_no_error() -> None:
    assert said_to_one_who_has_gone("-m", "ddmseg", "segment", "--help") == b""


def said_to_one_who_has_gone(*words: str) -> bytes:
    """Run Python with nobody at the other end of its stdout; return what comes on stderr."""
    command = [sys.executable, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        return process.stderr.read()


def test_without_words_main_takes_those_of_the_process(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["ddmseg", "--version"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("ddmseg ")


def test_models_says_what_the_card_says(tiny_model, tmp_path, monkeypatch, ddmseg) -> None:
    (tmp_path / "tiny.safetensors").write_bytes(tiny_model.read_bytes())
    card = json.loads(tiny_model.with_suffix(".json").read_text())
    card |= {
        "licence": "Apache-2.0",
        "data": "label\nmaps",
        "trained_steps": 9000,
        "scores": {"validation": {"sampled_dice": 0.85143, "all_empty": False}},
    }
    (tmp_path / "tiny.json").write_text(json.dumps(card))
    write_manifest(tmp_path)
    monkeypatch.setattr(zoo, "weights_folder", lambda: tmp_path)
    outcome = ddmseg("models")
    assert outcome.code == 0
    assert outcome.out.splitlines() == [
        "tiny: 3 structures at 8 mm in 3-D, diffusion, 0.1 MB, 9000 training steps",
        "  scores   validation sampled dice 0.851",
        "  data     label maps",
        "  licence  Apache-2.0",
        f"  sha256   {card['checksum']}",
    ]


def test_what_a_card_does_not_say_is_not_made_up(tiny_model) -> None:
    lines = list(describe(read_card(tiny_model.with_suffix(".json")), 1.0))
    assert lines[1:4] == [
        "  scores   not stated",
        "  data     not stated",
        "  licence  not stated",
    ]


def test_scores_are_flattened_to_words() -> None:
    nested = {"test": {"mean": {"dice": 0.9}, "n": 40, "why": "text", "ok": True}, "r": 0.98765}
    assert list(scores(nested)) == ["test mean dice 0.9", "test n 40", "r 0.988"]


def test_models_says_when_there_are_none(tmp_path, monkeypatch, ddmseg) -> None:
    monkeypatch.setattr(zoo, "weights_folder", lambda: tmp_path)
    outcome = ddmseg("models")
    assert outcome.code == 0
    assert outcome.out.startswith("no model came with this installation")


@pytest.fixture
def tiny_zoo(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation that ships the tiny model."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for suffix in (".safetensors", ".json"):
        data = tiny_model.with_suffix(suffix).read_bytes()
        (folder / f"tiny{suffix}").write_bytes(data)
    write_manifest(folder)
    monkeypatch.setattr(zoo, "weights_folder", lambda: folder)
    return folder


def findings(out: str) -> dict[str, tuple[str, str]]:
    rows = (line.split(maxsplit=2) for line in out.splitlines())
    return {what: (state, told) for state, what, told in rows}


def test_doctor_finds_a_sound_installation_sound(ddmseg, tiny_zoo, tmp_path) -> None:
    outcome = ddmseg("doctor")
    told = findings(outcome.out)
    assert outcome.code == 0
    assert told["ddmseg"] == ("ok", __version__)
    assert told["tiny"] == ("ok", "weights have the checksum of their card")
    assert told["self-test"][0] == "ok"
    assert told["self-test"][1].startswith("tiny labelled ")
    assert told["cache"][1].startswith(f"{tmp_path / 'feature cache'}, 0 of at most 500 MB")
    assert "threads" in told
    assert "gpu" in told


def test_doctor_finds_damaged_weights(ddmseg, tiny_zoo) -> None:
    with (tiny_zoo / "tiny.safetensors").open("ab") as file:
        file.write(b"x")
    outcome = ddmseg("doctor")
    told = findings(outcome.out)
    assert outcome.code == 1
    assert told["tiny"][0] == "bad"
    assert "install ddmseg again" in told["tiny"][1]
    assert told["self_test"][0] == "bad"
    assert told["cache"][0] == "ok"  # the other checks are made all the same


def test_doctor_says_how_to_get_what_is_missing(ddmseg, tiny_zoo, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "EXTRAS", {"n4": ("no_such_package",), "train": ("numpy",)})
    monkeypatch.setattr(doctor, "PACKAGES", ("torch", "no_such_package"))
    outcome = ddmseg("doctor")
    told = findings(outcome.out)
    assert outcome.code == 1
    assert told["[n4]"][0] == "note"
    assert told["[n4]"][1].startswith("no_such_package missing; bring it with ")
    assert told["[n4]"][1].endswith("pip install 'SimpleITK>=2.3'")
    assert told["[train]"] == ("ok", "numpy")
    assert told["no_such_package"][0] == "bad"


def test_doctor_without_models_and_cache_notes_it(ddmseg, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(zoo, "weights_folder", lambda: tmp_path / "none")
    monkeypatch.setenv("DDMSEG_CACHE", "off")
    outcome = ddmseg("doctor")
    told = findings(outcome.out)
    assert outcome.code == 0
    assert told["weights"][0] == told["self-test"][0] == told["cache"][0] == "note"


def test_doctor_says_the_limit_of_the_cache_or_what_is_wrong_with_it(
    ddmseg, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(zoo, "weights_folder", lambda: tmp_path / "none")
    monkeypatch.setenv("DDMSEG_CACHE_MB", "20")
    assert findings(ddmseg("doctor").out)["cache"][1].endswith("0 of at most 20 MB")
    monkeypatch.setenv("DDMSEG_CACHE_MB", "lots")
    outcome = ddmseg("doctor")
    assert (outcome.code, findings(outcome.out)["cache"][0]) == (1, "bad")


def test_doctor_notes_a_cache_that_cannot_be_written(ddmseg, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(zoo, "weights_folder", lambda: tmp_path / "none")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DDMSEG_CACHE", str(tmp_path / "file" / "cache"))
    lines = ddmseg("doctor").out.splitlines()
    assert any(line.startswith("note  cache        cannot write to") for line in lines)


def test_doctor_knows_the_packages_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements: list[str]) -> set[str]:
        return {text.split(">=")[0] for text in requirements}

    assert set(doctor.PACKAGES) == names(project["dependencies"])
    extras = {name: names(wanted) for name, wanted in project["optional-dependencies"].items()}
    del extras["dev"]
    for packages in extras.values():  # an extra may name another
        for other in [name for name in packages if name.startswith("ddmseg[")]:
            packages.remove(other)
            packages |= extras[other.removeprefix("ddmseg[").removesuffix("]")]
    assert {name: set(packages) for name, packages in doctor.EXTRAS.items()} == extras
