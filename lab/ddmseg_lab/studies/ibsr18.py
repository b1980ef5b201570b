"""Three tissues of IBSR18 by the shipped model, which has seen no scan of the set.

    python -m ddmseg_lab.studies.ibsr18 --data DATA

The 12 labelled scans as they are, mode fast. The set draws CSF as the ventricles alone and
leaves the fluid between the folds in grey matter, so the model's labels are brought to that
protocol: ventricles; grey matter with the fluid around the brain; white matter with brain-stem
and ventral diencephalon. Writes ``results/ibsr18.tsv`` and ``results/ibsr18.json``; a stopped run
goes on. Scores only: nothing of the set may be shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ddmseg.datasets.ibsr18 import list_cases
from ddmseg.imaging.labels import remap
from ddmseg.imaging.nifti import read_label_map
from ddmseg.inference.segmenter import Segmenter
from ddmseg.maths.metrics import dice
from ddmseg_lab.comparison.peers.tissues import TISSUES
from ddmseg_lab.page import Chapter, Claim, Summary, basis, claim, table, with_interval
from ddmseg_lab.statistics_text import mean_interval
from ddmseg_lab.study import ModelOptions, run_command, say, short_checksum
from ddmseg_lab.table import numbers

FLUID_AROUND = 24
PLACES = {
    **{index: 1 for index in TISSUES["csf"]},
    **{index: 2 for index in (*TISSUES["grey"], FLUID_AROUND)},
    **{index: 3 for index in TISSUES["white"]},
}
"""Id of the set for each FreeSurfer id."""
NAMES = {1: "csf", 2: "grey", 3: "white"}
TITLES = {
    "csf": "CSF (ventricles)",
    "grey": "grey matter, with the fluid around",
    "white": "white matter",
}
COLUMNS = ("weights", "case", *NAMES.values())


def run(options: ModelOptions) -> None:
    """Segment one scan after the other, then sum up."""
    segmenter = Segmenter.load(options.model, device="cpu")
    rows = options.raw_table("ibsr18", COLUMNS, [segmenter.card])
    labelled = [case for case in list_cases(options.data) if case.labels is not None]
    for case in labelled[: options.cases]:
        if rows.has(case=case.identifier) or case.labels is None:
            continue
        found = remap(segmenter(case.images[0], mode="fast").labels.data, PLACES)
        truth = read_label_map(case.labels).data
        scores = {name: round(dice(found == i, truth == i), 6) for i, name in NAMES.items()}
        rows.add([{"weights": short_checksum(segmenter.card), "case": case.identifier, **scores}])
        say(f"{case.identifier}  {scores}")
    options.write_summary("ibsr18", {"ddm": segmenter.card}, summarise(rows.rows))


def summarise(rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Return each tissue's mean over persons with its interval."""
    return {"tissues": {name: mean_interval(numbers(rows, name)) for name in NAMES.values()}}


def body(found: Summary) -> list[str]:
    """Dice of each tissue."""
    words = (
        "Zero-shot: the weights have seen no scan of the set. Its labels are brought to the set's "
        f"protocol, see the module. {basis(found)}"
    )
    rows = [[TITLES[name], with_interval(one)] for name, one in found["tissues"].items()]
    return [words, table(["tissue", "Dice"], rows)]


def claims(found: Summary) -> list[Claim]:
    """What was aimed at."""
    aims = {"csf": 0.85, "grey": 0.90, "white": 0.89}
    return [
        claim(f"IBSR18 zero-shot: {TITLES[name]}", aim, found, "tissues", name)
        for name, aim in aims.items()
    ]


CHAPTER = Chapter(
    "IBSR18: zero-shot", "python -m ddmseg_lab.studies.ibsr18 --data DATA", "ibsr18", body, claims
)


if __name__ == "__main__":
    run_command(ModelOptions, run, description=__doc__ or "")
