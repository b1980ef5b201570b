"""From words to arguments: every form that is right, one line for every form that is not."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tyro.conf import Positional, arg

from ddmseg.cli.arguments import options_of, parse
from ddmseg.errors import SettingsError, UsageError


@dataclass(frozen=True)
class Inner:
    """How to do it.

    Attributes:
        mode: which way.
        steps: how many.
        scale: how large.
    """

    mode: Literal["auto", "fast"] = "auto"
    steps: int | None = None
    scale: float | None = None
    sampler: Literal["ddim", "ddpm"] | None = None

    def __post_init__(self) -> None:
        if self.steps == 0:
            raise SettingsError("steps: got 0; it must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Many:
    """Do it to many."""

    scans: Annotated[Positional[tuple[Path, ...]], arg(metavar="IN")]
    """What to do it to."""
    output: Annotated[Path, arg(aliases=("-o",), metavar="OUT")]
    """Where to put it."""
    inner: Inner = field(default_factory=Inner)
    seed: int = 0
    """Of the noise."""
    accept_nan: bool = False
    """Take what is no number."""


@dataclass(frozen=True, kw_only=True)
class One:
    """Do it to one."""

    config: Annotated[Positional[Path], arg(metavar="CONFIG")]
    """What to do it to."""
    data: Path | None = None
    """Where from."""


def many(*words: str) -> Many:
    return parse(Many, words, program="ddmseg many")


def refusal(kind: type, *words: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse(kind, words, program="ddmseg it")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_not_said_has_its_default() -> None:
    assert many("a", "-o", "out") == Many(scans=(Path("a"),), output=Path("out"))


@pytest.mark.parametrize(
    "words",
    [
        "a b -o out --mode fast --steps 3 --accept-nan",
        "-o out --accept-nan --mode fast --steps 3 a b",
        "a --output out --steps 3 b --mode fast --accept-nan",
        "--mode=fast a --steps=3 b -o=out --accept-nan",
        "--accept-nan --mode fast --steps 3 --output=out -- a b",
    ],
)
def test_order_and_form_do_not_matter(words) -> None:
    assert many(*words.split()) == Many(
        scans=(Path("a"), Path("b")),
        output=Path("out"),
        inner=Inner(mode="fast", steps=3),
        accept_nan=True,
    )


def test_numbers_may_be_negative_infinite_or_small() -> None:
    said = many("a", "-o", "x", "--seed", "-3", "--scale", "inf")
    assert said.seed == -3
    assert said.inner.scale == float("inf")
    assert many("a", "-o", "x", "--scale", "1e-3").inner.scale == 0.001


def test_paths_may_hold_anything() -> None:
    strange = "scan with = and ümläut --x.nii"
    assert many(strange, "-o", strange).scans == (Path(strange),)
    assert many("-o", "x", "--", "-scan", "--mode").scans == (Path("-scan"), Path("--mode"))
    assert many("a", "-o", strange).output == Path(strange)


@settings(max_examples=30)
@given(seed=st.integers(-(2**62), 2**62), steps=st.integers(1, 2**31), scale=st.floats(0, 1e30))
def test_numbers_arrive_as_they_were(seed, steps, scale) -> None:
    said = many("a", "-o", "x", f"--seed={seed}", "--steps", str(steps), "--scale", repr(scale))
    assert (said.seed, said.inner.steps, said.inner.scale) == (seed, steps, scale)


def test_one_argument_is_one_path() -> None:
    assert parse(One, ["run.toml", "--data", "d"], program="p") == One(
        config=Path("run.toml"), data=Path("d")
    )


REFUSALS = {
    "a -o x --stpes 3": "--stpes: unknown option (did you mean '--steps'?)",
    "a -o x --accept_nan": "--accept_nan: unknown option (did you mean '--accept-nan'?)",
    "a -o x --zzz": "--zzz: unknown option; ddmseg it --help lists them",
    "a -o x -q": "-q: unknown option (did you mean '-o'?)",
    "a -ox": "-ox: unknown option (did you mean '-o'?)",
    "a -o x --mode fsat": "--mode: got 'fsat' (did you mean 'fast'?); allowed are auto, fast",
    "a -o x --mode=": "--mode: got ''; allowed are auto, fast",
    "a -o x --sampler dim": ("--sampler: got 'dim' (did you mean 'ddim'?); allowed are ddim, ddpm"),
    "a -o x --sampler None": "--sampler: got 'None'; allowed are ddim, ddpm",
    "a -o x --steps three": "--steps: got 'three'; it must be a whole number",
    "a -o x --steps 2.5": "--steps: got '2.5'; it must be a whole number",
    "a -o x --steps None": "--steps: got 'None'; it must be a whole number",
    "a -o x --scale big": "--scale: got 'big'; it must be a number",
    "a -o x --steps": "--steps: the value is missing; give a whole number",
    "a -o x --mode": "--mode: the value is missing; give auto, fast",
    "a -o": "-o: the value is missing; give a path",
    "a -o --accept-nan": "-o: the value is missing; give a path",
    "a -o x --accept-nan=yes": "--accept-nan: got 'yes'; it is a switch without a value",
    "a -o x --seed 1 --seed 2": "--seed: given twice; once is allowed",
    "a -o x --output y": "--output: given twice; once is allowed",
    "a": "--output is missing; see ddmseg it --help",
    "-o x": "IN is missing; see ddmseg it --help",
    "": "IN is missing; see ddmseg it --help",
    "a -o x --steps 0": "steps: got 0; it must be at least 1",
}


@pytest.mark.parametrize("words", REFUSALS)
def test_a_mistake_gets_one_line(words) -> None:
    told = refusal(Many, *words.split())
    expected = REFUSALS[words]
    if words in ("a -o x -q", "a -ox"):  # how near is near is difflib's business
        assert told.startswith(expected.split(" (")[0])
    else:
        assert told == expected


def test_a_second_argument_is_one_too_many() -> None:
    assert refusal(One, "a", "b") == "'b': one argument too many; see ddmseg it --help"


def test_what_only_tyro_minds_is_one_line_too() -> None:
    @dataclass(frozen=True)
    class Complex:
        value: complex = 0j

    told = refusal(Complex, "--value=q")
    assert "--value" in told
    assert not set(told) & set("╭│╰")


def test_the_help_shows_every_option(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(Many, ["a", "--nonsense", "--help"], program="ddmseg many")
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for option in options_of(Many):
        assert all(name in shown for name in option.names)
    assert "{ddim,ddpm}" in shown
    assert "None" not in shown
    assert "How many" in shown
