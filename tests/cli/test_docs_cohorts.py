"""The page on cohorts: its commands, in their order, on a small study."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

from bids_folder import image, study

PAGE = Path(__file__).parents[2] / "docs" / "cohorts.md"
SEGMENTS = ("participant", "replay")
OTHERS = {
    # run in tests/cohort/test_workflow.py, where they are installed
    "snakemake --profile slurm", "snakemake --unlock", "sbatch jobs/array.sbatch",
    "pip install '.[snakemake]'", "cd jobs",
}  # fmt: skip


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_the_commands_of_the_page_do_what_it_says(
    ddmseg, tiny_model, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    raw = study(Path("study"), 2)
    image(raw, "sub-02_FLAIR", seed=3)
    (tmp_path / "filter.json").write_text('{"t1w": {"acquisition": null}}')
    ran = []
    for line in commands():
        if line in OTHERS:
            continue
        program, *words = shlex.split(line)
        assert program == "ddmseg"
        model = ["--model", tiny_model] if set(words) & set(SEGMENTS) else []
        fast = ["--mode", "fast"] if "participant" in words else []
        again = ["--overwrite"] if line in ran and "init" in words else []
        outcome = ddmseg(*words, *model, *fast, *again)
        assert (outcome.code, outcome.errors) == (0, []), line
        ran.append(line)
    assert len(ran) > 8
    out = Path("study", "derivatives", "ddmseg")
    for name in ("group_volumes.tsv", "group_report.html", "dataset_description.json"):
        assert (out / name).is_file()
    made = {path.name for path in Path("jobs").iterdir()}
    assert made == {"Snakefile", "slurm", "array.sbatch", "batches.txt", "logs"}
    rows = Path("together", "group_volumes.tsv").read_text().splitlines()
    assert len(rows) == 1 + 2


def test_every_block_is_shell() -> None:
    text = "\n".join(commands())
    assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0
