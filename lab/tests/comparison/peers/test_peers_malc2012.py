"""The table on a tiny MALC2012, with programs that answer for the tools' Pythons."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from ddmseg.errors import ScanError, UsageError
from ddmseg_lab.comparison.foreign_python import ATROPOS, SAMSEG
from ddmseg_lab.comparison.peers import malc2012 as bench
from ddmseg_lab.comparison.peers.summary import METRICS, REFERENCE, summarise
from ddmseg_lab.table import read_rows, read_summary

CASES = ("1000", "1003", "1023", "1113")
"""Two persons of the test split, one of them scanned twice, and a development scan."""
AFFINE = np.diag([-1.0, 1.0, 1.0, 1.0])
PROTOCOL, FREESURFER = (52, 59, 45), (4, 49, 2)
"""Left ventricle, right thalamus, left white matter."""
CHOROID_PLEXUS, SOFT_TISSUE = 31, 258
"""As SAMSEG numbers them."""
FAKE = r"""#!/bin/sh
shift # the driver
if [ "$1" = versions ]; then
  shift
  printf '{"python": "3"'
  for package; do printf ', "%s": "%s"' "$package" "${FAKE_VERSION:-9.9}"; done
  echo '}'
  exit
fi
program=$1 job=$2
value() { sed -n "s/^ \"$1\": \"*\([^\",]*\)\"*,*$/\1/p" "$job"; }
mode=$(value mode) scan=$(basename "$(value image)" _SS.nii.gz)
echo "$program $mode $scan" >> "$FAKE_CALLS"
if [ "$scan" = "$FAKE_CRASH" ]; then echo no luck; exit 1; fi
cp "${0%/*}/$FAKE_GRID$program$mode.nii.gz" "$(value labels)"
cat > "${job%/*}/$program.json" <<END
{"seconds": 8.0, "processor_seconds": 2.0, "loading_processor_seconds": 1.0,
 "peak_memory_gb": 0.5, "threads": $(value threads)}
END
"""
CLASSES = np.zeros((2, 3, 4), int)
CLASSES[:, 0], CLASSES[:, 1, :2], CLASSES[:, 2] = 1, 2, 3


def save(path: Path, *values: int, affine: np.ndarray = AFFINE, grey: bool = False) -> None:
    """Write a label map with a value for each class; half of the white matter may be grey."""
    labels = np.array(values)[CLASSES].astype(np.int16)
    if grey:
        labels[1, 2] = values[2]
    if values[1] == CHOROID_PLEXUS:
        labels[0, 0, 0] = SOFT_TISSUE
    nibabel.save(nibabel.Nifti1Image(labels, affine), path)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """One program that stands for every Python, ddmseg's too, its answers, and the data."""
    root = tmp_path_factory.mktemp("malc2012")
    program = root / "fake" / "python"
    program.parent.mkdir()
    program.write_text(FAKE)
    program.chmod(0o755)
    save(program.with_name("ddmsegauto.nii.gz"), 0, *FREESURFER)
    save(program.with_name("ddmsegfast.nii.gz"), 0, *FREESURFER, grey=True)
    save(program.with_name("atropos.nii.gz"), 0, 1, 2, 3, grey=True)
    save(program.with_name("samseg.nii.gz"), 0, CHOROID_PLEXUS, *FREESURFER[1:])
    save(program.with_name("shifted-atropos.nii.gz"), 0, 1, 2, 3, affine=np.eye(4))
    folder = root / "data" / "malc2012"
    folder.mkdir(parents=True)
    for case in CASES:
        save(folder / f"{case}_SS.nii.gz", 0, 1, 2, 3)
        save(folder / f"{case}_glm.nii.gz", 0, *PROTOCOL)
    return root


def patched(patch, root: Path, folder: Path):
    """Set what the program needs; return what makes arguments that write below a folder."""
    program = str(root / "fake" / "python")
    for tool in (SAMSEG, ATROPOS):
        patch.delenv(tool.variable, raising=False)
    patch.setenv("FAKE_CALLS", str(folder / "calls"))
    patch.setattr(bench.sys, "executable", program)

    def make(**changes: object) -> bench.Arguments:
        named = {"samseg_python": program, "ants_python": program, "data": str(root / "data")}
        folders = {"output": folder / "results", "work": folder / "work"}
        return bench.Arguments(**{**named, **folders, **changes})

    return make


@pytest.fixture
def arguments(root, tmp_path, monkeypatch):
    return patched(monkeypatch, root, tmp_path)


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory) -> Path:
    """The folder of a run of everything."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        bench.run(patched(patch, root, folder)(threads=3))
    return folder


@pytest.fixture
def measured(whole, arguments, tmp_path):
    """Arguments of a folder in which everything has been measured."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    assert len(calls(tmp_path)) == 12
    return arguments


def calls(tmp_path: Path) -> list[str]:
    path = tmp_path / "calls"
    found = path.read_text().splitlines() if path.is_file() else []
    path.unlink(missing_ok=True)
    return found


def rows_of(arguments) -> list[dict[str, str]]:
    return read_rows(arguments.output / bench.TABLE)


def test_every_method_has_a_row_a_scan(whole):
    rows = read_rows(whole / "results" / bench.TABLE)
    assert [row["case"] for row in rows] == ["1000", "1003", "1023"] * 4
    assert {row["person"] for row in rows} == {"1000", "1003"}
    assert {row["threads"] for row in rows} == {"3"}
    by_name = {row["method"]: row for row in rows}
    assert float(by_name["ddmseg_auto"]["structures"]) == 1
    # Choroid plexus is ventricle, soft tissue nothing.
    assert float(by_name["samseg"]["csf"]) == pytest.approx(2 * 7 / (7 + 8), abs=1e-5)
    assert float(by_name["atropos"]["white"]) == pytest.approx(2 * 4 / (4 + 8), abs=1e-5)
    assert math.isnan(float(by_name["atropos"]["structures"]))
    assert by_name["samseg"]["weights"] == "samseg 9.9"
    found = read_summary(whole / "results" / bench.SUMMARY)
    assert found["scans"] == 3
    assert found["methods"]["samseg"]["persons"] == 2
    assert found["packages"]["atropos"] == {"python": "3", "antspyx": "9.9", "numpy": "9.9"}
    assert found["methods"]["atropos"]["dice"]["structures"]["mean"] is None
    assert found["tests"]["white"]["atropos"]["n"] == 2


def test_a_second_run_has_nothing_to_do_and_a_new_version_has(measured, tmp_path, monkeypatch):
    arguments = measured
    bench.run(arguments())
    assert calls(tmp_path) == []
    monkeypatch.setenv("FAKE_VERSION", "10")
    bench.run(arguments(methods=("samseg",), cases=1))
    assert calls(tmp_path) == ["samseg  1000"]
    versions = {(row["method"], row["weights"]) for row in rows_of(arguments())}
    assert {version for name, version in versions if name == "samseg"} == {"samseg 10"}
    assert ("atropos", "antspyx 9.9") in versions


def test_what_is_lost_of_the_table_is_scored_again_but_not_run_again(arguments, tmp_path, capsys):
    chosen = arguments(methods=("ddmseg_fast", "atropos"))
    bench.run(chosen)
    assert "1023  atropos       1.000  0.667  0.667  nan  2 s" in capsys.readouterr().out
    before = rows_of(chosen)
    assert len(calls(tmp_path)) == 6
    (chosen.output / bench.TABLE).unlink()
    bench.run(chosen)
    assert calls(tmp_path) == []
    assert rows_of(arguments()) == before


def test_fresh_is_for_the_methods_asked_for(measured, tmp_path):
    arguments = measured
    bench.run(arguments(methods=("ddmseg_fast",), fresh=True))
    assert calls(tmp_path) == [f"ddmseg fast {case}" for case in ("1000", "1003", "1023")]
    assert len(rows_of(arguments())) == 12


def test_rows_of_a_tool_that_is_not_at_hand_stay(measured, capsys):
    arguments = measured
    bench.run(arguments(samseg_python=None))
    out = capsys.readouterr().out
    assert "SAMSEG left out: it needs a Python of its own; make one with: python -m venv" in out
    found = read_summary(arguments().output / bench.SUMMARY)
    assert found["methods"]["samseg"]["scans"] == 3
    assert found["packages"]["samseg"]["samseg"] == "9.9"


def test_a_row_that_another_run_adds_meanwhile_is_kept(arguments, monkeypatch):
    bench.run(arguments(methods=("atropos",)))
    measure = bench.measure

    def meanwhile(ready, case, chosen):
        monkeypatch.setattr(bench, "measure", measure)
        bench.run(arguments(methods=("samseg",)))
        return measure(ready, case, chosen)

    monkeypatch.setattr(bench, "measure", meanwhile)
    bench.run(arguments(methods=("ddmseg_fast",)))
    assert len(rows_of(arguments())) == 9


def test_a_scan_that_fails_is_named_and_the_others_are_measured(arguments, monkeypatch, capsys):
    monkeypatch.setenv("FAKE_CRASH", "1003")
    chosen = arguments(methods=("samseg",))
    with pytest.raises(ScanError, match=r"^1 scans were not measured \(samseg\); the lines above"):
        bench.run(chosen)
    assert "1003  samseg: samseg ended with code 1 (no luck)" in capsys.readouterr().out
    assert [row["case"] for row in rows_of(chosen)] == ["1000", "1023"]
    monkeypatch.delenv("FAKE_CRASH")
    bench.run(chosen)
    assert [row["case"] for row in rows_of(chosen)] == ["1000", "1023", "1003"]


def test_labels_on_another_grid_give_no_score(arguments, monkeypatch, capsys):
    monkeypatch.setenv("FAKE_GRID", "shifted-")
    with pytest.raises(ScanError, match="not measured"):
        bench.run(arguments(methods=("atropos",), cases=1))
    assert "different grids" in capsys.readouterr().out
    assert rows_of(arguments()) == []


def test_unknown_methods_and_pythons_are_refused(arguments):
    with pytest.raises(UsageError, match="got 'freesurfer'; choose from ddmseg_fast, ddmseg_auto"):
        bench.run(arguments(methods=("freesurfer",)))
    with pytest.raises(UsageError, match="Atropos: got the Python 'none-such'"):
        bench.run(arguments(ants_python="none-such"))


def row(method: str, case: str, person: str, white: float) -> dict[str, str]:
    values = {**dict.fromkeys(METRICS, 0.5), "white": white, **dict.fromkeys(bench.COSTS, 1)}
    named = {"weights": "v", "method": method, "case": case, "person": person}
    return {**named, **{name: str(value) for name, value in values.items()}}


def test_differences_are_of_the_scans_that_both_have_done():
    ours = [("1", "a", 0.9), ("2", "b", 0.8), ("3", "b", 0.1), ("4", "c", 0.7)]
    theirs = [("1", "a", 0.8), ("2", "b", 0.5)]  # not the second scan of b, and not c
    found = summarise(
        [row(REFERENCE, *one) for one in ours] + [row("samseg", *one) for one in theirs]
    )
    test = found["tests"]["white"]["samseg"]
    assert test["difference"] == pytest.approx((-0.1 - 0.3) / 2)
    assert test["n"] == 2
    assert found["methods"][REFERENCE]["dice"]["white"]["mean"] == pytest.approx(2.05 / 3)
    assert found["methods"]["samseg"]["scans"] == 2


def test_with_one_common_person_nothing_is_tested():
    found = summarise([row(REFERENCE, "1", "a", 0.9), row("samseg", "1", "a", 0.8)])
    assert all(tests == {} for tests in found["tests"].values())
    assert found["methods"]["samseg"]["dice"]["white"]["mean"] == 0.8


def test_structures_of_a_method_that_has_none_are_in_no_test():
    rows = [row(REFERENCE, case, case, 0.9) for case in "ab"]
    peers = [{**row("atropos", case, case, 0.8), "structures": "nan"} for case in "ab"]
    found = summarise(rows + peers)
    assert found["tests"]["structures"] == {}
    assert "atropos" in found["tests"]["white"]
