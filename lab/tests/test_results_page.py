"""The page of results: made of summaries alone, and honest where one is missing."""

from __future__ import annotations

import re
from functools import partial
from importlib.util import find_spec

import pytest

from ddmseg.maths.statistics import bootstrap_interval
from ddmseg_lab import statistics_text
from ddmseg_lab.headlines import PICTURE, QUESTIONS, headline, headline_figure
from ddmseg_lab.page import NOT_MEASURED
from ddmseg_lab.questions import NAMES
from ddmseg_lab.results_page import chapters, draw_all, results_page, write_results_page
from ddmseg_lab.studies.anatomy import ALL, ASKED
from ddmseg_lab.studies.hippocampus import METHOD_NAMES, REFERENCE
from ddmseg_lab.table import read_summary, write_summary
from toy_summaries import all_summaries, peers_summary


@pytest.fixture(scope="module")
def summaries(tmp_path_factory) -> dict[str, dict[str, object] | None]:
    """Every summary, as it comes back from its file; its intervals are of few draws."""
    with pytest.MonkeyPatch.context() as patch:
        few = partial(bootstrap_interval, resamples=200)
        patch.setattr(statistics_text, "bootstrap_interval", few)
        patch.setattr(statistics_text, "RESAMPLES", 200)
        return all_summaries(tmp_path_factory.mktemp("results"))


def overview(page: str) -> dict[str, list[str]]:
    """The cells of the first table, by figure."""
    part = page.split("## All targets")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("|")]
    return {row[0]: row[1:4] for row in rows[2:]}


def pages(summaries: dict[str, object]) -> str:
    """The index, then every page that there are figures for."""
    sections = chapters(summaries)
    return "".join([results_page(summaries, sections), *(s.markdown() for s in sections if s.body)])


def test_without_a_file_no_figure_appears():
    page = pages(dict.fromkeys(NAMES))
    rows = overview(page)
    assert len(rows) > 20
    assert all(row[1:] == [NOT_MEASURED, NOT_MEASURED] for row in rows.values())
    assert page.count(": not measured yet") == len(NAMES)


def test_one_missing_file_leaves_the_other_chapters(summaries):
    page = pages({**summaries, "anatomy": None})
    assert page.count(": not measured yet") == 1
    assert overview(page)["anatomy, MALC2012 test scans, cerebral white matter"][1] == NOT_MEASURED


def test_every_target_is_judged(summaries):
    for figure, (_, measured, outcome) in overview(pages(summaries)).items():
        assert re.search(r"\d", measured), figure
        assert outcome.startswith(("reached", "**missed")), figure


def test_the_worst_of_more_steps_is_named_as_missed(summaries):
    rows = overview(pages(summaries))
    joined = rows["more steps less one step, joined: the worst of 5, 10, 50"]
    assert joined[0] == "at least −0.0030"
    assert joined[2] == "**missed by 0.0070**"


def test_the_plain_network_is_subtracted_from_the_ddm(summaries):
    measured = overview(pages(summaries))["hippocampus, DDM less the plain network"][1]
    assert measured.startswith("0.005 (")


def test_times_and_memory_stand_against_their_targets(summaries):
    rows = overview(pages(summaries))
    assert rows["whole head, `--mode fast`"][2] == "reached, 2.00 s to spare"
    assert rows["whole head, `--mode diffusion`"][2] == "**missed by 5.00 s**"
    assert rows["whole head, peak memory"][1] == "2.00 GB"


def test_tiers_and_tools_stand_side_by_side(summaries):
    page = pages(summaries)
    rows = overview(page)
    assert rows["side by side, fast"][2] == "reached, 0.50 s to spare"
    assert rows["side by side, auto"][2] == "**missed by 2.00 s**"
    assert rows["side by side, peak memory"][1] == "1.75 GB"
    assert rows["encoding and 50 sample-steps over one plain pass"][1:] == [
        *("2.60", "reached, 0.40 to spare")
    ]
    assert rows["`import ddmseg`"][2] == "reached, 0.05 s to spare"
    chapter = chapter_of(page, "Side by side")
    assert "| SAMSEG 0.5 | 600.00 | 1200.00 | 400.00 (400.00) | 1200.00 (1200.00) |" in chapter
    assert "| steps | 1 to 4 | 1.00 (1.00 to 1.00) | – |" in chapter
    assert "nan" not in chapter.lower()


def chapter_of(page: str, title: str) -> str:
    return page.split(f"# {title}\n")[1].split("\n# ")[0]


def test_memory_is_judged_by_one_head_alone(summaries):
    page = pages(summaries)
    rows = overview(page)
    assert rows["most memory of one whole head at 1 mm"][1:] == [
        *("1.60 GB", "reached, 0.90 GB to spare")
    ]
    lowest = rows["memory of one whole head, estimate over peak: the lowest"]
    assert lowest[1:] == ["0.94", "**missed by 0.06**"]
    chapter = chapter_of(page, "Memory")
    assert "| padded | 1 | 1.50 | 1.60 | 0.94 |" in chapter
    assert "| three | 3 | 1.50 | 2.50 | – |" in chapter


def test_engines_and_eight_bits_stand_against_torch(summaries):
    page = pages(summaries)
    rows = overview(page)
    assert rows["other engines, 32 bits: labels as torch, the least"][1] == "1.000"
    assert rows["other engines, 32 bits: change of probability, mean"][1] == "0.0002"
    assert rows["eight bits as offered: Dice with torch's labels"][2] == "**missed by 0.010**"
    assert rows["eight bits as offered: ECE more than torch's"][1] == "0.0050"
    assert rows["eight bits as offered: seconds over torch's"][1] == "0.50"
    chapter = chapter_of(page, "Engines and eight bits")
    assert "| openvino | all but stem, head | 0.99800 | 0.9800 | 0.000 | 0.7700 |" in chapter
    assert "Scan: some scan, 8×16×8 voxels for the model. Median of 3 runs." in chapter


def test_every_record_says_where_it_is_from(summaries):
    before = {k: v for k, v in summaries["memory"].items() if k != "provenance"}
    page = pages({**summaries, "memory": before, "anatomy": None})
    lines = chapter_of(page, "Where the figures are from").splitlines()
    rows = {line.split("`")[1]: line for line in lines if line.startswith("| `")}
    assert set(rows) == {f"{name}.json" for name in NAMES} - {"anatomy.json"}
    made = summaries["bench"]["provenance"]
    assert f"| `toy` aaa | {made['commit']} | {made['ddmseg']} |" in rows["bench.json"]
    assert rows["memory.json"].endswith("| `toy` aaa | – | – | 2.13.0 | – | – |")


def test_the_monitor_is_judged_by_its_false_alarms(summaries):
    page = pages(summaries)
    _, measured, outcome = overview(page)["monitor: windows without shift that raise an alarm"]
    assert measured.startswith("0.030 (")
    assert outcome == "reached, 0.020 to spare"
    assert "| none | 3.0% (0.6% to 8.5%) | 3.0%" in page
    assert "| 0.5 SD | 80.0%" in page


def test_every_chapter_has_its_command(summaries):
    page = pages(summaries)
    commands = re.findall(r"python -m (\S+)", page)
    assert len(commands) > 10
    assert all(find_spec(command) for command in commands)
    assert page.count("```") == 2 * page.count("\n```\npython -m")
    assert page.count("\n```\npython -m") == len(NAMES)


def test_every_method_has_a_row(summaries):
    page = pages(summaries)
    assert all(f"| {name} |" in page for name in METHOD_NAMES.values())


def peers_chapter(summaries, found) -> str:
    page = pages({**summaries, "peers_malc2012": found})
    return chapter_of(page, "Beside other tools: MALC2012")


def test_peers_that_have_done_a_part_are_named(summaries, tmp_path):
    write_summary(tmp_path / "peers.json", peers_summary("ddmseg_fast", scans=2))
    chapter = peers_chapter(summaries, read_summary(tmp_path / "peers.json"))
    assert "**A subset was run** by: SAMSEG 2." in chapter
    assert "Not run: ddmseg, fast." in chapter
    assert "| SAMSEG | 2 | 2 | 0.805" in chapter
    assert "| SAMSEG | −0.100 (−0.100 to −0.100), p" in chapter
    assert "n 2 |" in chapter
    assert "nan" not in chapter.lower()
    assert "samseg (samseg 0.4a0)" in chapter


def test_with_all_scans_done_no_subset_is_spoken_of(summaries):
    chapter = peers_chapter(summaries, summaries["peers_malc2012"])
    assert "subset" not in chapter
    assert "Not run" not in chapter
    atropos = next(line for line in chapter.splitlines() if "Atropos | 6" in line)
    assert atropos.split(" | ")[6] == "–"  # no structures
    assert "7.2 (7.2 to 7.2)" in chapter


def test_one_method_alone_is_not_compared(summaries, tmp_path):
    alone = peers_summary("ddmseg_fast", "atropos", "samseg")
    write_summary(tmp_path / "peers.json", alone)
    chapter = peers_chapter(summaries, read_summary(tmp_path / "peers.json"))
    assert "Wilcoxon" not in chapter
    assert "Versions:" not in chapter


def test_pictures_are_small_and_all_are_linked(summaries, tmp_path):
    summaries = {**summaries, "anatomy_fast": summaries["anatomy"]}
    drawn = draw_all(summaries, tmp_path / "images")
    linked = re.findall(r"\((?:\.\./)?images/([a-z_]+\.png)\)", pages(summaries))
    assert len(drawn) == 8
    assert all(path.stat().st_size < 150_000 for path in drawn)
    assert sorted(linked) == sorted(path.name for path in drawn)


def test_equal_figures_give_equal_pictures(summaries, tmp_path):
    one = {"hippocampus": summaries["hippocampus"]}
    (first,), (second,) = (draw_all(one, tmp_path / name) for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_page_and_pictures_are_written(summaries, tmp_path):
    write_summary(tmp_path / "results" / "speed_synthesis.json", summaries["speed_synthesis"])
    files = write_results_page(tmp_path / "results", tmp_path / "docs")
    assert files[0] == tmp_path / "docs" / "results.md"
    index = files[0].read_text()
    assert "at most 1.000 | 0.080" in index
    assert "- [Synthesis](studies/speed_synthesis.md)\n" in index
    assert "- Memory: not measured yet\n" in index
    assert [path.name for path in (tmp_path / "docs" / "studies").iterdir()] == [
        "speed_synthesis.md"
    ]


def test_five_questions_come_first_with_figures_of_the_records(summaries):
    page = pages({**summaries, "anatomy_fast": summaries["anatomy"]})
    short = page.split("## In short")[1].split("\n## ")[0]
    assert short.count("| **") >= len(QUESTIONS) == 5
    dice = summaries["anatomy"]["splits"]["test"]["fast"]["groups"]["all structures in common"]
    for bound in ("0.805", "0.750"):  # of the default, and of the fast one
        assert short.count(f"at least {bound} | {dice['mean']:.3f} (") == 1
    assert "`toy`: peak memory of a whole head | at most 2.50 GB | 1.00 GB" in short
    assert f"images/{PICTURE})" in short


def test_a_headline_without_a_record_is_not_measured(summaries):
    short = pages({**summaries, "volumes": None}).split("## In short")[1].split("\n## ")[0]
    (line,) = (line for line in short.splitlines() if "made-up degraded heads" in line)
    assert line.split(" | ")[2:5] == ["at least 0.930", NOT_MEASURED, NOT_MEASURED]
    assert "the model: " in line
    assert "images/" not in short  # the fast model has no record here
    assert headline_figure(summaries) is None


def test_a_share_is_of_both_records_or_not_measured(summaries):
    one = next(row for rows in QUESTIONS.values() for row in rows if "over" in row)
    group = one["path"][-1]
    found = {"splits": {"test": {"fast": {"groups": {group: {"mean": 0.6}}}}}}
    there = {"splits": {"test": {"fast": {"groups": {group: {"mean": 0.8}}}}}}
    both = {one["record"]: found, one["over"]: there}
    assert headline(one, both).measured == pytest.approx(0.75)
    for missing in both:
        assert headline(one, {**both, missing: None}).measured is None


def test_headlines_ask_what_their_pages_ask():
    (of_anatomy, *_), (of_hippocampus,) = list(QUESTIONS.values())[:2]
    assert (of_anatomy["path"][-1], of_anatomy["bound"]) == (ALL, ASKED[ALL])
    assert of_hippocampus["path"] == ["methods", REFERENCE, "dice"]
