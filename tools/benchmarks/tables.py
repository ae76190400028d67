"""Reports as Markdown and as JSON, and their change from one run to another."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.measure import Line, Report


def table(report: Report) -> str:
    """Return the table of a case: medians, and the median of the ratios, repeat by repeat, with its range."""
    rows = [
        f"**{report.title}**",
        "",
        f"| | {report.unit} | / {report.reference} | goal | |",
        "| --- | --- | --- | --- | --- |",
    ]
    for line in report.lines:
        value = _number(median(line.values) if line.values else None)
        rows.append(
            f"| {line.name} | {value} | {_ratio(report, line)} | {report.goals.get(line.name, '')} | {line.note} |"
        )
    return "\n".join(rows)


def _ratio(report: Report, line: Line) -> str:
    ratios = report.ratios(line)
    if not ratios:
        return "-"
    extent = f" ({min(ratios):.2f}-{max(ratios):.2f})" if min(ratios) != max(ratios) else ""
    return f"{median(ratios):.2f}{extent}"


def record(report: Report) -> dict[str, Any]:
    """Return a case as plain values, for a later `changes`."""
    return {
        "title": report.title,
        "unit": report.unit,
        "reference": report.reference,
        "lines": {
            line.name: {
                "values": line.values,
                "median": median(line.values) if line.values else None,
                "ratio": report.ratio(line),
                "goal": report.goals.get(line.name),
                "note": line.note,
            }
            for line in report.lines
        },
    }


def changes(now: Mapping[str, Any], then: Mapping[str, Any]) -> str:
    """Return a table of the changes from an earlier run, for all that both have measured.

    Args:
        now: The results of `record`, by case.
        then: Those of an earlier run.
    """
    rows = [
        "| case | | then | now | change | ratio then | ratio now | change |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for case, name in _both(now, then):
        old, new = then[case]["lines"][name], now[case]["lines"][name]
        same = now[case]["title"] == then[case]["title"]
        cells = [case if same else f"{case} (then other work)", f"{name}, {now[case]['unit']}"]
        for key in ("median", "ratio"):
            cells += [_number(old[key]), _number(new[key]), _change(old[key], new[key])]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _both(now: Mapping[str, Any], then: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    return [
        (case, name)
        for case, recorded in now.items()
        if case in then
        for name in recorded["lines"]
        if name in then[case]["lines"]
    ]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _change(old: float | None, new: float | None) -> str:
    return "-" if not old or new is None else f"{100 * (new / old - 1):+.1f} %"
