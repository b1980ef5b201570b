"""How often the monitor raises an alarm: without shift, and with shifts of known size.

    python -m ddmseg_lab.studies.monitor_alarms

Simulated scans with statistics that hang together as real ones do: volumes by the size of
the head, quality by the quality of the scan, scanners that differ in intensity, statistics
that many scans lack. Every simulated window goes through ``find_shifts``, with 499 random
deals where the monitor takes 1999, for a quarter of the time. The real deal counts among
them, p = (1 + k) / (1 + B), so that both numbers allow exactly 5%: 25 of 500, 100 of 2000.
Power and the false discovery rate hardly depend on it. Writes ``results/monitor_alarms.json``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ddmseg.maths.shift import ALARM_LEVEL, Shift, find_shifts, is_alarm, shifted
from ddmseg_lab.folders import RESULTS, Output
from ddmseg_lab.page import Chapter, Claim, Summary, claim, table
from ddmseg_lab.statistics_text import exact_share
from ddmseg_lab.study import describe_machine, run_command, say
from ddmseg_lab.table import write_summary

REFERENCE = 100
WINDOWS = (20, 50, 100)
SIZES_SD = (0.25, 0.5, 1.0)
FACTORS, VOLUMES, QUALITIES, CHANNELS = 3, 12, 8, 16
INTENSITY, SAMPLED = "intensity", "agreement"
MOVED = ("quality 0", "quality 1", "quality 2", "quality 3")
"""Statistics that a simulated shift moves; the others stay."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Options of this command."""

    output: Output = RESULTS
    """Folder for the summary."""
    windows: int = 20001
    """Simulated windows without shift, shared among the three sizes of the window."""
    shifts: int = 200
    """Simulated windows of each size for each size of the shift."""
    permutations: int = 499
    """Random deals a window."""
    seed: int = 0
    """Of everything."""


def draw_scans(count: int, generator: Generator) -> dict[str, dict[str, NDArray[Any]]]:
    """Draw scans whose statistics share three factors, as ``find_shifts`` takes them.

    The factors are head, scanner and quality.
    """
    head, age, quality = generator.normal(size=(FACTORS, count))
    scanner = generator.choice(3, size=count, p=(0.5, 0.35, 0.15))
    noise = generator.normal
    numbers = {
        f"volume {k}": np.exp(0.1 * head + (0.03 * k - 0.2) * age + 0.07 * noise(size=count))
        for k in range(VOLUMES)
    }
    numbers |= {
        f"quality {k}": 0.8 * (-1) ** k * quality + 0.6 * noise(size=count)
        for k in range(QUALITIES)
    }
    for k in range(3):
        numbers[f"{INTENSITY} {k}"] = np.exp(0.5 * scanner + 0.3 * noise(size=count))
    numbers["cleaned"] = generator.poisson(np.exp(1 + 0.3 * quality)).astype(np.float64)
    numbers[SAMPLED] = np.where(quality > 0.5, 0.9 - 0.05 * quality, math.nan)
    mixing = np.sin(np.arange(3 * CHANNELS)).reshape(3, CHANNELS)
    features = np.stack([head, age, quality], axis=1) @ mixing
    verdict = np.digitize(quality + 0.3 * noise(size=count), (0.5, 1.5))
    return {
        "numbers": numbers,
        "categories": {"scanner": scanner, "verdict": verdict},
        "features": {"embedding": features + noise(size=(count, CHANNELS))},
    }


def compare(window: int, generator: Generator, size_sd: float, permutations: int) -> list[Shift]:
    """Simulate a reference and a window, four statistics of it shifted; compare them."""
    total = REFERENCE + window
    scans = draw_scans(total, generator)
    inside = np.arange(total) >= REFERENCE
    for name in MOVED:  # the standard deviation of each of these is 1
        scans["numbers"][name] += size_sd * inside
    seed = int(generator.integers(1 << 32))
    return find_shifts(inside, **scans, permutations=permutations, seed=seed)


def rate(hits: int, total: int) -> dict[str, Any]:
    """Return a rate with its exact 95% interval."""
    found = exact_share(hits, total)
    return {"rate": found.mean, "low": found.low, "high": found.high, "hits": hits, "n": total}


def without_shift(arguments: Arguments, generator: Generator) -> dict[str, Any]:
    """Count alarms where nothing shifted; and those of looking at each p-value by itself."""
    each = -(-arguments.windows // len(WINDOWS))
    found: dict[str, Any] = {}
    alarms = naive = 0
    for window in WINDOWS:
        runs = [compare(window, generator, 0.0, arguments.permutations) for _ in range(each)]
        own = sum(map(is_alarm, runs))
        alarms += own
        naive += sum(any(shift.p <= ALARM_LEVEL for shift in run) for run in runs)
        found[str(window)] = rate(own, each)
        say(f"window {window}: {own} alarms of {each} without shift")
    total = each * len(WINDOWS)
    return {
        "all": rate(alarms, total),
        "by_window": found,
        "each_p_by_itself": rate(naive, total),
        "statistics": len(runs[0]),
    }


def with_shift(arguments: Arguments, generator: Generator, size_sd: float) -> dict[str, Any]:
    """Count alarms, moved statistics that are named, and wrong names among all names."""
    found: dict[str, Any] = {}
    for window in WINDOWS:
        deals, count = arguments.permutations, arguments.shifts
        runs = [compare(window, generator, size_sd, deals) for _ in range(count)]
        names = [{shift.name for shift in shifted(run)} for run in runs]
        found[str(window)] = {
            "power": rate(sum(map(is_alarm, runs)), len(runs)),
            "named": float(np.mean([len(own & set(MOVED)) / len(MOVED) for own in names])),
            "false_discovery_rate": float(np.mean([_wrong_share(own) for own in names])),
        }
        power = found[str(window)]["power"]["rate"]
        say(f"shift of {size_sd:g} SD, window {window}: power {power:.2f}")
    return found


def _wrong_share(names: set[str]) -> float:
    return len(names - set(MOVED)) / max(len(names), 1)


def run(arguments: Arguments) -> None:
    """Simulate, then write the summary."""
    generator = np.random.default_rng(arguments.seed)
    summary = {
        "machine": describe_machine(),
        "level": ALARM_LEVEL,
        "reference": REFERENCE,
        "permutations": arguments.permutations,
        "moved": len(MOVED),
        "without_shift": without_shift(arguments, generator),
        "with_shift_sd": {f"{size:g}": with_shift(arguments, generator, size) for size in SIZES_SD},
    }
    write_summary(arguments.output / "monitor_alarms.json", summary, seed=arguments.seed)


def body(found: Summary) -> list[str]:
    """False alarms and power of ``ddmseg monitor`` on simulated stores."""
    still = found["without_shift"]
    words = (
        f"Simulated stores of {still['statistics']} statistics that hang together, a reference of "
        f"{found['reference']} scans, {found['permutations']} permutations. In {still['all']['n']} "
        f"windows without shift {_share(still['all'])} raised an alarm (exact 95% interval); had "
        f"each p-value been judged by itself, {_share(still['each_p_by_itself'])}."
    )
    return [words, _power(found)]


def claims(found: Summary) -> list[Claim]:
    """Few windows without shift raise an alarm."""
    what, still = "monitor: windows without shift that raise an alarm", found.get("without_shift")
    return [claim(what, 0.05, still, "all", at_least=False)]


def _power(found: Summary) -> str:
    windows = sorted(found["without_shift"]["by_window"], key=int)
    rows = [["none", *(_share(found["without_shift"]["by_window"][n]) for n in windows)]]
    for shift, by_window in found["with_shift_sd"].items():
        rows.append([f"{shift} SD", *(_share(by_window[n]["power"]) for n in windows)])
    head = [f"shift of {found['moved']} statistics", *(f"{n} scans" for n in windows)]
    return table(head, rows)


def _share(found: Summary) -> str:
    return f"{found['rate']:.1%} ({found['low']:.1%} to {found['high']:.1%})"


CHAPTER = Chapter(
    "Monitor", "python -m ddmseg_lab.studies.monitor_alarms", "monitor_alarms", body, claims
)


if __name__ == "__main__":
    run_command(Arguments, run, description=__doc__ or "")
