"""``ddmseg study``: one question about trained weights, as raw rows, a picture and a page."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from ddmseg.errors import ScanError, UsageError, did_you_mean
from ddmseg.messages import say_error
from ddmseg_lab import STUDIED_MODEL
from ddmseg_lab.commands.tables import TableArguments, TableOptions, run_table
from ddmseg_lab.folders import CONFIGS, DOCS, DocsFolder

if TYPE_CHECKING:
    from ddmseg_lab.study import Study

TABLE_FILE = "table.toml"


@dataclass(frozen=True, kw_only=True)
class Arguments(TableOptions):
    """Answer one question about trained weights: raw rows, a picture and a page of findings.

    Some studies measure weights that are there; others train a row of settings each, as a folder
    below lab/configs/study says. Both go on where an earlier run stopped.
    """

    name: Annotated[Positional[tuple[str, ...]], arg(metavar="NAME", help_behavior_hint="")] = ()
    """Of the study, such as temperature."""
    list: bool = False
    """List the studies and their questions."""
    model: str = STUDIED_MODEL
    """Name of a shipped model, or the path of a 3-D network's .safetensors, its card beside it."""
    cases: Annotated[int | None, arg(metavar="N", help_behavior_hint="(all)")] = None
    """Measure only the first so many test subjects."""
    threads: Annotated[int, arg(metavar="N", help_behavior_hint="(torch's choice)")] = 0
    """Of the processor, for each computation."""
    docs: DocsFolder = DOCS
    """Folder for the page and its picture, in its subfolder studies."""
    configs: Annotated[Path, arg(metavar="DIR", help_behavior_hint="(lab/configs/study)")] = (
        CONFIGS / "study"
    )
    """Folder of the studies that train, one subfolder each with table.toml."""


def run(arguments: Arguments) -> int:
    """Measure what is missing and write the page, or run the rows of a folder.

    The exit code is 0 when all is done, 1 when a subject or a row failed or time was over.
    """
    if arguments.list:
        print("\n".join(_listed(arguments.configs)))
        return 0
    if len(arguments.name) != 1:
        given = f"got {' '.join(arguments.name)}" if arguments.name else "NAME is missing"
        raise UsageError(f"study: {given}; give one name, ddmseg study --list shows them")
    (name,) = arguments.name
    table = arguments.configs / name
    if (table / TABLE_FILE).is_file():
        shared = {one.name: getattr(arguments, one.name) for one in fields(TableOptions)}
        return run_table(TableArguments(table=table, **shared), "study")

    from ddmseg_lab.questions import STUDIES

    if name not in STUDIES:
        allowed = [*STUDIES, *_folders(arguments.configs)]
        raise UsageError(
            f"study: got '{name}'{did_you_mean(name, allowed)}; allowed are {', '.join(allowed)}"
        )
    return _run_study(STUDIES[name], arguments)


def _run_study(study: Study, arguments: Arguments) -> int:
    from ddmseg.models.checkpoint import read_card
    from ddmseg.models.zoo import model_path
    from ddmseg_lab.results_page import write_page

    problems = [] if arguments.show else _measure(study, arguments)
    for problem in problems:
        say_error(ScanError(problem))
    card = read_card(model_path(arguments.model).with_suffix(".json"))
    path, text = write_page(study, card, arguments.results, arguments.docs)
    print(f"{text}\n{path}")
    return 1 if problems else 0


def _measure(study: Study, arguments: Arguments) -> list[str]:
    import torch

    from ddmseg.cli.progress import progress_bar
    from ddmseg.models.available_memory import keep_freed_memory
    from ddmseg_lab.study import measure_study, open_model

    if arguments.threads < 0:
        raise UsageError(f"threads: got {arguments.threads}; it must be at least 1, or 0")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    trained = open_model(arguments.model, str(arguments.data) if arguments.data else None)
    with progress_bar(1.0) as bar:

        def report(done: int, subjects: int) -> None:
            bar.update(done / subjects, f"{study.name}: {done} of {subjects} subjects")

        results, cases = arguments.results, arguments.cases
        return measure_study(study, trained, results, cases=cases, report=report)


def _folders(configs: Path) -> list[str]:
    """Names of the studies that train."""
    return sorted(path.parent.name for path in configs.glob(f"*/{TABLE_FILE}"))


def _listed(configs: Path) -> list[str]:
    """One line a study: its name and what it asks."""
    from ddmseg_lab.comparison.plan import read_table
    from ddmseg_lab.questions import STUDIES

    asked = {name: study.question for name, study in STUDIES.items()}
    asked |= {name: read_table(configs / name).title for name in _folders(configs)}
    width = max(map(len, asked))
    return [f"{name:<{width}}  {question}" for name, question in asked.items()]
