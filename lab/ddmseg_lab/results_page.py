"""``docs/results.md``, a page per question and their pictures, of the files in ``results/``.

Every figure is read from a file there; what was not measured is said to be so.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from ddmseg.errors import UsageError
from ddmseg.models.checkpoint import Card, read_card, replace_file
from ddmseg.models.zoo import model_path
from ddmseg_lab import STUDIED_MODEL
from ddmseg_lab.comparison.table_page import draw_tables, study_tables, table_chapters
from ddmseg_lab.figures import empty_figure, save_figure
from ddmseg_lab.headlines import FURTHER, PICTURE, headline_figure, headlines
from ddmseg_lab.page import CLAIM_HEADS, NOT_MEASURED, Section, Summaries, origins, table
from ddmseg_lab.questions import CHAPTERS, NAMES, STUDIES
from ddmseg_lab.rows import Rows
from ddmseg_lab.statistics_text import counted
from ddmseg_lab.study import RAW_FILE, RECORD_FILE, Study, short_checksum
from ddmseg_lab.table import read_records, read_summary

HEAD = """# Results

Every figure here was read from the files in `results/` that the command on its page left there;
`ddmseg report` makes these pages, so edit nothing here by hand. `DATA` is the folder that holds
the data sets. What was aimed at is in the column *target*, reached or not."""


def write_results_page(results: Path, docs: Path) -> list[Path]:
    """Write ``results.md``, the pages it links and all pictures; return the files."""
    pages, images = write_text(results, docs), docs / "images"
    return [*pages, *draw_all(read_summaries(results), images), *draw_tables(results, images)]


def write_text(results: Path, docs: Path) -> list[Path]:
    """Write what :func:`write_results_page` does, without pictures: it takes no matplotlib."""
    if not results.is_dir():
        raise UsageError(f"{results}: no such folder; name the one that holds the raw results")
    summaries = read_summaries(results)
    sections = [*chapters(summaries), *table_chapters(results)]
    texts = {section.name: section.markdown() for section in sections if section.measured}
    texts |= study_tables(results)
    written = [docs / "results.md", *(docs / "studies" / f"{name}.md" for name in texts)]
    for path, text in zip(written[1:], texts.values(), strict=True):
        replace_file(path, text.encode())
    sections += studies(results, docs, {section.name for section in sections})
    replace_file(written[0], results_page(summaries, sections).encode())
    return written


def draw_all(summaries: Summaries, folder: Path) -> list[Path]:
    """Draw every picture that there are figures for; return the files."""
    figures = [
        (name, draw(found))
        for chapter in CHAPTERS
        if (found := summaries.get(chapter.record)) is not None
        for name, draw in chapter.pictures.items()
    ]
    figures.append((PICTURE, headline_figure(summaries)))
    return [save_figure(figure, folder / name) for name, figure in figures if figure is not None]


def read_summaries(results: Path) -> dict[str, dict[str, Any] | None]:
    """Return every summary by name, None where there is none."""
    return {name: read_summary(results / f"{name}.json") for name in (*NAMES, *FURTHER)}


def chapters(summaries: Summaries) -> list[Section]:
    """Return the page of each measuring command."""
    return [chapter.section(summaries.get(chapter.record)) for chapter in CHAPTERS]


def results_page(summaries: Summaries, sections: Sequence[Section]) -> str:
    """Return the index: headlines, all targets, the pages, and where all is from."""
    targets = [[*claim.row(), section.link] for section in sections for claim in section.claims]
    pages = [
        f"- {section.link}" if section.measured else f"- {section.title}: {NOT_MEASURED} yet"
        for section in sections
    ]
    parts = [HEAD, "## In short", *headlines(summaries)]
    parts += ["## All targets", table([*CLAIM_HEADS, "page"], targets)]
    parts += ["## One page per question", "\n".join(pages), origins(summaries)]
    return "\n\n".join(filter(None, parts)) + "\n"


def studies(results: Path, docs: Path, known: Container[str] = ()) -> list[Section]:
    """Return pages of studies beside the known ones, and studies with a target but no page yet."""
    titles = {page.stem: _title(page) for page in sorted((docs / "studies").glob("*.md"))}
    aims = {name: study for name, study in STUDIES.items() if study.claims(Rows(()))}
    titles |= {name: f"Study: {name}" for name in aims if name not in titles}
    card = read_card(model_path(STUDIED_MODEL).with_suffix(".json"))
    found = []
    for name in sorted(titles):
        if name not in known:
            there = (docs / "studies" / f"{name}.md").is_file()
            study = aims.get(name)
            claims = study.claims(study.rows(results, card)) if study else []
            command = f"ddmseg study {name} --data DATA"
            found.append(Section(name, titles[name], command, claims=claims, measured=there))
    return found


def _title(page: Path) -> str:
    first = page.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("# ").strip() or page.stem


def write_page(study: Study, card: Card, results: Path, docs: Path) -> tuple[Path, str]:
    """Write page and picture from the rows that there are; return the page's path and text."""
    rows = study.rows(results, card)
    if not len(rows):
        raise UsageError(
            f"{study.name}: nothing has been measured with {card.name} ({short_checksum(card)}) "
            "yet; leave out --show"
        )
    figure = empty_figure(*study.inches)
    study.draw(rows, figure)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    path = docs / "studies" / f"{study.name}.md"
    save_figure(figure, path.with_suffix(".png"))
    text = page_text(study, card, rows, results)
    replace_file(path, text.encode())
    return path, text


def page_text(study: Study, card: Card, rows: Rows, results: Path) -> str:
    """Return the page: question, where the figures are from, picture, what was found."""
    record = read_records(study.file(results, RECORD_FILE)).get(short_checksum(card), {})
    command = f"ddmseg study {study.name}"
    if card.name != STUDIED_MODEL:
        command += f" --model {card.name}"
    sampling = card.settings["sampling"]
    where = (
        f"Measured on {counted(len(rows.subjects), 'test subject')} of "
        f"`{card.settings['data']['kind']}` with the weights `{card.name}` "
        f"({short_checksum(card)}, {card.trained_steps} steps), whose own settings are "
        f"{sampling['sampler']}, {counted(sampling['steps'], 'step')}, "
        f"{counted(sampling['samples'], 'sample')} and a share of {sampling['coarse_share']:g} "
        f"for the coarse head. Commit {record.get('commit', 'unknown')}. Intervals are 95% "
        "bootstrap intervals over patients; p-values are of paired Wilcoxon tests, "
        f"Holm-corrected. This page is made from `results/study/{study.name}/{RAW_FILE}`, with "
        f"`{RECORD_FILE}` beside it, by"
    )
    parts = [
        f"# Study: {study.name}",
        study.question,
        where,
        f"```\n{command}\n```",
        f"![{study.caption}]({study.name}.png)\n\n_{study.caption}_",
        study.page(rows),
    ]
    return "\n\n".join(parts) + "\n"
