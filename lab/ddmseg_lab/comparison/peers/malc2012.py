"""ddmseg beside SAMSEG and Atropos on MALC2012, which no training has seen.

    python -m ddmseg_lab.comparison.peers.malc2012 --samseg-python peers/bin/python \
        --ants-python ants/bin/python

Every scan of the test split goes through each method in a process of its own, one after the
other. A row is written as soon as a scan is done, to ``results/peers_malc2012.tsv``, and is
not measured again; several runs may write to it at once, such as one for each method. The
intervals and tests over persons are in ``results/peers_malc2012.json``.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from ddmseg.datasets.case import Case
from ddmseg.errors import ScanError, UsageError
from ddmseg.evaluation.evaluate import check_same_grid
from ddmseg.imaging.nifti import read_label_map
from ddmseg.imaging.volume import LabelMap
from ddmseg.models.checkpoint import Card, load_weights
from ddmseg.models.zoo import model_path
from ddmseg_lab.comparison.foreign_python import (
    ATROPOS,
    SAMSEG,
    find_python,
    foreign_environment,
    own_environment,
    read_versions,
)
from ddmseg_lab.comparison.peers.summary import METRICS, summarise
from ddmseg_lab.comparison.peers.tissues import TISSUES, samseg_structures, tissue_dice, tissues_of
from ddmseg_lab.comparison.peers.tools import run_scan
from ddmseg_lab.scans import HEADS, mean_dice
from ddmseg_lab.study import SAMPLING_SEED, ModelOptions, run_command, say, short_checksum
from ddmseg_lab.table import WEIGHTS, RawTable, read_rows, read_summary

COSTS = ("seconds", "processor_seconds", "loading_processor_seconds", "peak_memory_gb", "threads")
COLUMNS = (WEIGHTS, "method", "case", "person", *METRICS, *COSTS)
NAME = "peers_malc2012"
MODES = ("fast", "auto")  # of ddmseg
TABLE, SUMMARY = f"{NAME}.tsv", f"{NAME}.json"


@dataclass(frozen=True, kw_only=True)
class Arguments(ModelOptions):
    """Options of this command."""

    samseg_python: str | None = None
    """Python that has samseg (else the variable DDMSEG_SAMSEG_PYTHON)."""
    ants_python: str | None = None
    """Python that has antspyx (else the variable DDMSEG_ATROPOS_PYTHON)."""
    methods: Annotated[tuple[str, ...], arg(metavar="NAME...")] = ()
    """Only these: ddmseg_fast, ddmseg_auto, atropos, samseg (all when left out)."""
    threads: int = 1
    """CPU threads that each method may use."""
    work: Path = Path("runs/peers/malc2012")
    """Folder for the label maps and logs of each method."""


@dataclass(frozen=True)
class Method:
    """One row of the table, ready to run.

    Attributes:
        job: what the driver is given beside scan, labels and threads.
        version: of the tool, or a checksum of the weights: which results are its.
        packages: versions over there; none of ddmseg, which runs in this Python.
    """

    name: str
    program: str
    python: str
    version: str
    job: dict[str, str] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)


def ready_methods(arguments: Arguments, card: Card) -> list[Method]:
    """Return the methods asked for that can be run here; say which have no Python."""
    tools = {"atropos": (ATROPOS, arguments.ants_python)}
    tools |= {"samseg": (SAMSEG, arguments.samseg_python)}
    known = [*(f"ddmseg_{mode}" for mode in MODES), *tools]
    unknown = [name for name in arguments.methods if name not in known]
    if unknown:
        raise UsageError(f"--methods: got '{unknown[0]}'; choose from {', '.join(known)}")
    found = []
    for name in arguments.methods or known:
        if name in tools:
            tool, named = tools[name]
            python = find_python(tool, named)
            if python is None:
                say(f"{tool.title} left out: it needs a Python of its own; {tool.advice}")
                continue
            packages = read_versions(tool, python)
            version = f"{tool.packages[0]} {packages[tool.packages[0]]}"
            found.append(Method(name, tool.program, python, version, packages=packages))
        else:
            job = {"model": arguments.model, "mode": name.removeprefix("ddmseg_")}
            found.append(Method(name, "ddmseg", sys.executable, short_checksum(card), job))
    return found


def known_rows(path: Path, ready: Sequence[Method]) -> list[dict[str, str]]:
    """Return the rows so far, but for those of other versions of a method at hand."""
    version = {one.name: one.version for one in ready}
    return [
        row
        for row in read_rows(path)
        if tuple(row) == COLUMNS and version.get(row["method"], row[WEIGHTS]) == row[WEIGHTS]
    ]


def measure(method: Method, case: Case, arguments: Arguments) -> dict[str, Any]:
    """Segment one scan and return its row."""
    folder = (arguments.work / method.name / case.identifier).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    labels = folder / "labels.nii.gz"
    job = {
        "image": str(case.images[0].absolute()),
        "labels": str(labels),
        "threads": arguments.threads,
        "version": method.version,
        **method.job,
    }
    environment = foreign_environment if method.packages else own_environment
    cost = run_scan(method.python, method.program, job, folder, environment(arguments.threads))
    scores = score(method, read_label_map(labels), HEADS.drawn(case))
    named = {WEIGHTS: method.version, "method": method.name}
    of = {"case": case.identifier, "person": case.group}
    return {**named, **of, **scores, **{name: cost[name] for name in COSTS}}


def score(method: Method, found: LabelMap, drawn: LabelMap) -> dict[str, float]:
    """Return the Dice of the tissues, and of the structures where the method has any."""
    check_same_grid(found, drawn)
    truth = HEADS.freesurfer_ids(drawn.data)
    tissues = tissues_of(truth)
    if method.program == ATROPOS.program:
        return {"structures": math.nan, **tissue_dice(found.data, tissues)}
    ids = samseg_structures(found.data) if method.program == SAMSEG.program else found.data
    mean = mean_dice(ids, truth, HEADS.structures)
    return {"structures": mean, **tissue_dice(tissues_of(ids), tissues)}


def run(arguments: Arguments) -> None:
    """Measure what is missing, method by method; sum up anew after each scan."""
    card = load_weights(model_path(arguments.model))[1]
    ready = ready_methods(arguments, card)
    path = arguments.output / TABLE
    if arguments.fresh:  # of the methods at hand alone
        names = {one.name for one in ready}
        for name in names:
            shutil.rmtree(arguments.work / name, ignore_errors=True)
        kept = [row for row in read_rows(path) if row["method"] not in names]
        RawTable(path, COLUMNS, (), fresh=True).add(kept)
    listed = HEADS.cases("test", arguments.data)
    failed = []
    for one in ready:
        for case in listed[: arguments.cases]:
            try:
                _add(one, case, arguments)
            except ScanError as error:
                say(f"{case.identifier}  {one.name}: {error}")
                failed.append(one.name)
            _sum_up(arguments, ready, card, len(listed))
    if failed:
        raise ScanError(
            f"{len(failed)} scans were not measured ({', '.join(sorted(set(failed)))}); the lines "
            "above say why, and the same command tries them again"
        )


def _add(method: Method, case: Case, arguments: Arguments) -> None:
    """Measure one scan and add its row, unless it is there."""
    path, name = arguments.output / TABLE, method.name
    done = {(row["method"], row["case"]) for row in known_rows(path, [method])}
    if (name, case.identifier) in done:
        return
    row = measure(method, case, arguments)
    # Read anew: another run may have added rows in the meantime.
    kept = {before[WEIGHTS] for before in known_rows(path, [method])}
    RawTable(path, COLUMNS, [*kept, method.version]).add([row])
    figures = "  ".join(f"{row[metric]:.3f}" for metric in (*TISSUES, "structures"))
    say(f"{case.identifier}  {name:<12}  {figures}  {row['processor_seconds']:.0f} s")


def _sum_up(arguments: Arguments, ready: Sequence[Method], card: Card, scans: int) -> None:
    """Write the summary of all rows there are, of other runs too."""
    folder = arguments.output
    before = (read_summary(folder / SUMMARY) or {}).get("packages", {})
    packages = {one.name: one.packages for one in ready if one.packages}
    found = summarise(known_rows(folder / TABLE, ready))
    summary = {"packages": {**before, **packages}, "scans": scans, **found}
    arguments.write_summary(NAME, {"ddm": card}, summary, seed=SAMPLING_SEED)


if __name__ == "__main__":
    run_command(Arguments, run, description=__doc__ or "")
