"""How often the monitor raises an alarm, with and without a shift."""

from __future__ import annotations

from ddmseg_lab.page import Claim, Section, Summaries, Summary, Target, missing, table


def monitor(summaries: Summaries) -> Section:
    """False alarms and power of ``ddmseg monitor`` on simulated stores."""
    title, command = "Monitor", "python -m ddmseg_lab.accuracy.monitor_alarms"
    target = Target("monitor: windows without shift that raise an alarm", 0.05, at_least=False)
    found = summaries.get("monitor_alarms")
    if found is None:
        return missing(title, command, [Claim(target, None)])
    still = found["without_shift"]
    words = (
        f"Simulated stores of {still['statistics']} statistics that hang together, a reference of "
        f"{found['reference']} scans, {found['permutations']} permutations. In {still['all']['n']} "
        f"windows without shift {_share(still['all'])} raised an alarm (exact 95% interval); had "
        f"each p-value been judged by itself, {_share(still['each_p_by_itself'])}."
    )
    return Section(title, command, [words, _power(found)], [Claim(target, _as_mean(still["all"]))])


def _power(found: Summary) -> str:
    """Alarms by size of the shift and of the window."""
    windows = sorted(found["without_shift"]["by_window"], key=int)
    rows = [["none", *(_share(found["without_shift"]["by_window"][n]) for n in windows)]]
    for shift, by_window in found["with_shift_sd"].items():
        rows.append([f"{shift} SD", *(_share(by_window[n]["power"]) for n in windows)])
    head = [f"shift of {found['moved']} statistics", *(f"{n} scans" for n in windows)]
    return table(head, rows)


def _share(found: Summary) -> str:
    return f"{found['rate']:.1%} ({found['low']:.1%} to {found['high']:.1%})"


def _as_mean(found: Summary) -> dict[str, float]:
    return {"mean": found["rate"], "low": found["low"], "high": found["high"]}
