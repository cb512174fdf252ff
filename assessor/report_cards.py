"""Checks as the report shows them: one card a measurement, with its line, numbers, tables and limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from assessor.charts import NARROW, target_line
from assessor.contract import Check, Result
from assessor.messages import SOURCE, _, is_retold, language, localised_digits, retold
from assessor.model import CheckRun, Status, Verdict
from assessor.verdicts import shown, shown_interval, told

WORDS = {
    Status.PASS: "Pass",
    Status.FAIL: "Fail",
    Status.INCONCLUSIVE: "Inconclusive",
    Status.NOT_APPLICABLE: "Not applicable",
    Status.ERROR: "Error",
    Status.MEASURED: "Measured",
    Verdict.FULFILLED: "Fulfilled",
    Verdict.PARTLY: "Partly",
    Verdict.NOT_FULFILLED: "Not fulfilled",
    Verdict.NOT_ASSESSED: "Not assessed",
}
LINE = 104  # characters that fit the width of a table
MOST_ROWS, FIRST_ROWS, MOST_COLUMNS = 10, 8, 24  # of a table on paper; longer ones show their first rows
TOLD_COLUMNS = frozenset({"metric", "part", "rate", "split", "status"})
"""Columns of tables whose cells hold words of the checks; other columns may hold names of classes and groups."""


def in_words(value: Any) -> str:
    """Nested plain data in one line."""
    if isinstance(value, Mapping):
        return "; ".join(f"{_(str(key).replace('_', ' '))}: {in_words(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(in_words, value))
    return str(value)


def without_empty(value: Any) -> Any:
    """Nested plain data without members that are empty."""
    if isinstance(value, Mapping):
        return {key: without_empty(item) for key, item in value.items() if item not in (None, [], ())}
    return value


def to_draw(runs: Mapping[str, CheckRun], checks: Mapping[str, Check]) -> dict[str, tuple[Check, Result]]:
    """The checks that are installed, and what they measured."""
    return {name: (checks[name], run.result) for name, run in runs.items() if name in checks and run.result}


def card(run: CheckRun, check: Check | None, plot: str | None = None) -> dict[str, Any]:
    """One check's measurement as the report shows it.

    Args:
        run: What was measured.
        check: The check, for its words; None where it is not installed.
        plot: Address of its plot, where it has one.

    Returns:
        Plain data.
    """
    metric = run.judged_metric
    interval = run.target.interval if run.target else None
    return {
        "id": run.check,
        "anchor": run.check.replace(".", "-"),
        "title": retold(run.title),
        "status": run.outcome.status.value,
        "word": _(WORDS[run.outcome.status]),
        "sentence": told(run),
        "requirements": list(run.requirements),
        "target": _card_target(run),
        "line": target_line(metric, interval) if metric else None,
        "small_line": target_line(metric, interval, width=NARROW) if metric else None,
        "metric": _(metric.name.replace("_", " ")) if metric else None,
        "metrics": [_metric(item, judged=metric is not None and item.name == metric.name) for item in run.metrics],
        "tables": [_table(table.title, table.columns, table.rows) for table in run.tables],
        "plot": plot,
        "remarks": _texts(run.remarks),
        "limits": _texts(run.limits),
        "measures": _text(check.info.measures) if check else None,
        "remedy": _text(check.info.remedy) if check else None,
        "remedy_code": check.info.remedy_code.strip() if check else "",
        "source": retold(check.info.source) if check else "",
        "params": in_words(without_empty(run.params)) or _("none"),
        "seed": run.seed,
        "version": run.check_version,
        "code": run.code.model_dump(),
        "started": run.started.strftime("%Y-%m-%d %H:%M UTC"),
        "seconds": shown(run.seconds),
        "memory": f"{run.peak_memory_bytes / 2**20:.0f} MiB",
    }


def _text(text: str) -> dict[str, str]:
    """A stored sentence in the language in use, and the language it is really in."""
    return {"text": retold(text), "lang": "" if is_retold(text) else "en"}


def _texts(texts: Sequence[str]) -> list[dict[str, str]]:
    return [_text(text) for text in texts]


def _card_target(run: CheckRun) -> dict[str, str] | None:
    if run.target is None:
        return None
    words = shown_interval(run.target.interval)
    return {"words": words, "because": run.target.because, "source": run.target.source}


def _metric(metric: Any, *, judged: bool) -> dict[str, Any]:
    interval = None if metric.low is None else _("{low} to {high}", low=shown(metric.low), high=shown(metric.high))
    return {
        "name": _(metric.name.replace("_", " ")),
        "value": shown(metric.value),
        "unit": "" if metric.unit == "1" else retold(metric.unit),
        "interval": interval,
        "confidence": _("{percent} %", percent=f"{100 * metric.confidence:.0f}") if metric.confidence else "",
        "n": metric.n,
        "better": metric.better.value,
        "method": retold(metric.method),
        "judged": judged,
    }


def _table(title: str, columns: tuple[str, ...], rows: tuple[tuple[Any, ...], ...]) -> dict[str, Any]:
    """A table whose low and high columns have joined the value before them, with widths by content.

    Of a long table the first rows are shown, of one that is too wide for paper its title.
    """
    total = len(rows)
    rows = rows if total <= MOST_ROWS else rows[:FIRST_ROWS]
    rows = rows if len(columns) <= MOST_COLUMNS else ()
    of_classes = "\\" in columns[0]  # rows and columns are classes, whose names stay
    heads: list[str] = []
    cells: list[list[dict[str, str]]] = [[] for _ in rows]
    numeric: list[bool] = []
    index = 0
    while index < len(columns):
        name = columns[index]
        ends = tuple(end.replace("_", " ") for end in columns[index + 1 : index + 3])
        plain = name.replace("_", " ")
        joined = ends in {("low", "high"), (f"{plain} low", f"{plain} high")}
        for row, line in zip(rows, cells, strict=True):
            interval = _ends(*row[index + 1 : index + 3]) if joined else ""
            line.append({"text": _cell(row[index], ours=name in TOLD_COLUMNS), "interval": interval})
        numeric.append(all(isinstance(row[index], int | float | None) for row in rows))
        heads.append(name if of_classes and index else _(name.replace("_", " ")))
        index += 3 if joined else 1
    tight = sum(_longest(heads, cells, tight=False)) > LINE
    return {
        "title": retold(title),
        "left_out": total - len(rows),
        "columns": heads,
        "rows": cells,
        "numeric": numeric,
        "tight": tight,
        "widths": _widths(heads, cells, tight=tight),
    }


def _ends(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return ""
    ends = [localised_digits(f"{end:.3g}") for end in (low, high)]
    return _("{low} to {high}", low=ends[0], high=ends[1])


def _widths(heads: list[str], cells: list[list[dict[str, str]]], *, tight: bool) -> list[float]:
    """Shares of the width in percent: by the longest text of a column, within limits."""
    longest = [min(length, 20 if tight else 30) for length in _longest(heads, cells, tight=tight)]
    return [round(100 * length / sum(longest), 2) for length in longest]


def _longest(heads: list[str], cells: list[list[dict[str, str]]], *, tight: bool) -> list[int]:
    """The longest text of every column; an interval stands beside its value, in a tight table below it."""
    longest = []
    for column, head in enumerate(heads):
        pairs = [(len(line[column]["text"]), len(line[column]["interval"])) for line in cells]
        texts = [max(pair) if tight or not pair[1] else sum(pair) + 2 for pair in pairs]
        longest.append(max([*(len(word) + 1 for word in head.split()), 5, *texts]))
    return longest


def _cell(value: Any, *, ours: bool) -> str:
    """A cell in the language in use; words are translated only where they are ours, never users' own."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, float):
        return shown(value)
    text = str(value)
    if ours and language() != SOURCE:
        return retold(text.replace("_", " "))
    return _(text) if " " in text else text  # a sentence of a check's; a name of users' is none of these
