"""ddmseg beside what a user would otherwise take, on MALC2012."""

from __future__ import annotations

from ddmseg_lab.page import (
    INTERVALS,
    NO_FIGURE,
    Section,
    Summaries,
    Summary,
    missing,
    p_value,
    table,
    weights_words,
    with_interval,
)

METHODS = {
    "ddmseg_fast": "ddmseg `anatomy`, fast",
    "ddmseg_auto": "ddmseg `anatomy`, auto",
    "atropos": "ANTs N4 and Atropos",
    "samseg": "SAMSEG",
}
"""How a reader calls the methods, in the order of the tables."""
TISSUES = {"csf": "CSF", "grey": "grey matter", "white": "white matter"}
STRUCTURES = "structures"
PROTOCOL = (
    "Tissues are those of the challenge's table of labels. *CSF* is the ventricles (lateral with "
    "inferior horns, third, fourth); *grey matter* is the cortex of cerebrum and cerebellum, "
    "vermis, hippocampus, amygdala, caudate, putamen, pallidum, thalamus and accumbens; *white "
    "matter* is that of cerebrum and cerebellum, brain-stem and ventral diencephalon. "
    "*Structures* is the mean over the structures that both protocols draw; Atropos gives none. "
    "Fluid outside the ventricles has no label in the truth: a classifier of tissues calls it CSF "
    "like any other, so that its first figure for CSF tells of another protocol more than of an "
    "error. The columns *where drawn* count only voxels that have a tissue in the truth."
)
TERMS = (
    "SAMSEG was made for whole heads, with an atlas that has skull and soft tissue, and these "
    "scans are stripped of both. It has no option to be told so; it leaves out voxels of zero by "
    "itself. All its options are as they come. Atropos (k-means into three classes, Markov random "
    "field 0.2, five iterations, classes by brightness) comes after N4, has the voxels above zero "
    "as brain mask, and brightness cut at the quantiles 0.01 and 0.999 as in ANTs' own scripts: "
    "without the cut k-means takes a few bright voxels of some scans for a class of their own. "
    "ddmseg and SAMSEG draw as FreeSurfer does; none of the three is tuned to this protocol, and "
    "ddmseg was trained on none of these scans."
)


def peers(summaries: Summaries) -> Section:
    """Dice and cost of ddmseg, SAMSEG and Atropos on the same scans."""
    title = "Beside other tools: MALC2012"
    command = (
        "python -m ddmseg_lab.comparison.peers.malc2012 --data DATA --samseg-python A "
        "--ants-python B"
    )
    found = summaries.get("peers_malc2012")
    if found is None:
        return missing(title, command, [])
    shown = {name: words for name, words in METHODS.items() if name in found["methods"]}
    body = [
        _scans_words(found, shown),
        _accuracy(found, shown),
        PROTOCOL,
        *_tests(found, shown),
        TERMS,
        _costs(found, shown),
        _cost_words(found),
    ]
    return Section(title, command, body)


def _scans_words(found: Summary, shown: dict[str, str]) -> str:
    """Say how many scans each method has done, and with which versions."""
    methods, total = found["methods"], found["scans"]
    partly = [
        f"{words} {methods[name]['scans']}"
        for name, words in shown.items()
        if methods[name]["scans"] < total
    ]
    left_out = [words for name, words in METHODS.items() if name not in methods]
    sentences = [f"The test split has {total} scans; two scans of one person count as one."]
    if partly:
        sentences.append(
            f"**A subset was run** by: {', '.join(partly)}. Their means are of those scans alone; "
            "the differences further down are of the scans that both have done."
        )
    if left_out:
        sentences.append(f"Not run: {', '.join(left_out)}.")
    versions = [
        f"{tool} ({', '.join(f'{package} {version}' for package, version in packages.items())})"
        for tool, packages in found["packages"].items()
        if tool in methods
    ]
    sentences += [INTERVALS, weights_words(found)]
    if versions:
        sentences.append(f"Versions: {'; '.join(versions)}.")
    return " ".join(sentences)


def _accuracy(found: Summary, shown: dict[str, str]) -> str:
    columns = {**TISSUES, STRUCTURES: "structures"}
    columns |= {f"{name}_drawn": f"{words} where drawn" for name, words in TISSUES.items()}
    rows = []
    for name, words in shown.items():
        method = found["methods"][name]
        dice = [with_interval(method["dice"][column]) for column in columns]
        rows.append([words, str(method["scans"]), str(method["persons"]), *dice])
    return table(["Dice", "scans", "persons", *columns.values()], rows)


def _tests(found: Summary, shown: dict[str, str]) -> list[str]:
    """Return the table of differences from the reference, if there is anything to test."""
    columns = {**TISSUES, STRUCTURES: "structures"}
    tests, reference = found["tests"], found["reference"]
    rows = [
        [words, *(_difference(tests[column].get(name)) for column in columns)]
        for name, words in shown.items()
        if any(name in tests[column] for column in columns)
    ]
    if not rows:
        return []
    words = (
        f"Less {METHODS[reference]}, on the scans that both have done: mean difference, its "
        "interval and p of a two-sided Wilcoxon test over persons, Holm-corrected over the methods."
    )
    return [words, table(["difference in Dice", *columns.values()], rows)]


def _difference(test: Summary | None) -> str:
    if test is None:
        return NO_FIGURE
    shown = with_interval({**test, "mean": test["difference"]})
    return f"{shown}, p {_p(test['p_holm'])}, n {test['n']}"


def _p(value: float) -> str:
    text = p_value(value)
    return text if text.startswith("<") else f"= {text}"


def _costs(found: Summary, shown: dict[str, str]) -> str:
    rows = []
    for name, words in shown.items():
        method = found["methods"][name]
        rows.append(
            [
                words,
                with_interval(method["processor_seconds"], 1),
                with_interval(method["loading_processor_seconds"], 1),
                with_interval(method["seconds"], 1),
                ", ".join(map(str, method["threads"])),
                f"{method['peak_memory_gb']:.2f}",
            ]
        )
    header = ["a scan", "processor s", "of loading", "wall s", "threads", "peak memory, GB"]
    return table(header, rows)


def _cost_words(found: Summary) -> str:
    return (
        f"{found['machine']['processor']}. Median (and range) over the scans, each in a process of "
        "its own. *Processor s* counts all threads from reading the scan to the label map "
        "written; *of loading* comes before, once a process: Python, imports and, for ddmseg, "
        "weights. Where wall seconds with one thread exceed processor seconds, the machine was "
        "busy with other work, and only the processor seconds can be compared; even these grow "
        "somewhat when caches and memory are shared."
    )
