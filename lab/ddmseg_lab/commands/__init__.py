"""What the laboratory adds to the command ``ddmseg``, see the entry points in pyproject.toml."""

from __future__ import annotations

from ddmseg.cli.command_table import Command


def _command(name: str, summary: str, words: str) -> Command:
    module = f"ddmseg_lab.commands.{name}"
    return Command(module, "laboratory", summary, f"ddmseg {name} {words}".rstrip())


COMPARE = _command(
    "compare",
    "train and test methods on equal terms, as settings files say",
    "lab/configs/compare/hippocampus --data DATA",
)
ABLATE = _command(
    "ablate",
    "the same for the model without one of its parts",
    "lab/configs/ablate/hippocampus --data DATA",
)
STUDY = _command(
    "study", "answer one question about trained weights, with a page", "temperature --data DATA"
)
BENCH = _command(
    "bench", "measure seconds and memory on this machine, beside other tools", "--threads 2"
)
REPORT = _command("report", "write the page of results from the raw files", "")
DOSSIER = _command(
    "dossier", "write model cards, requirements and a bill of materials", "-o dossier"
)
