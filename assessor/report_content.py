"""What the report says, as plain data for its templates: no arithmetic is left to them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from assessor.assessment import Assessment
from assessor.canonical import canonical_json, sha256_hex
from assessor.charts import NARROW, plot_svg, target_line
from assessor.contract import Check, Result
from assessor.judgement import AreaState, DimensionState, RequirementState
from assessor.model import DIMENSION_NAMES, Answer, CheckRun, Requirement, Status, Verdict
from assessor.verdicts import shown, shown_interval

ATTACHMENT = "assessment.json"
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
LOUDEST_FIRST = (Status.FAIL, Status.ERROR, Status.INCONCLUSIVE, Status.PASS, Status.MEASURED, Status.NOT_APPLICABLE)


def report_content(record: dict[str, Any], assessment: Assessment, checks: Mapping[str, Check]) -> dict[str, Any]:
    """Everything the templates show.

    Args:
        record: The assessment as it is attached to the report.
        assessment: The same as objects.
        checks: Installed checks, for words and plots.

    Returns:
        Plain data by the names that the templates use.
    """
    digest = sha256_hex(canonical_json(record))
    cards = {name: _card(run, checks.get(name)) for name, run in assessment.runs.items()}
    dimensions = [_dimension(state, assessment, cards) for state in assessment.states]
    placed = {name for dimension in dimensions for area in dimension["areas"] for name in area["cards"]}
    return {
        "report_id": f"AR-{digest[:12].upper()}",
        "digest": digest,
        "attachment": ATTACHMENT,
        "created": _day(record["created"]),
        "created_iso": record["created"],
        "tool": record["tool"],
        "catalog": {**record["catalog"], "source": assessment.catalog.head.source.model_dump()},
        "system": record["configuration"]["system"],
        "profile": _profile(record["configuration"]["system"]),
        "target": _target(record["configuration"]["target"]),
        "contradictions": [found.model_dump() for found in assessment.contradictions],
        "failures": _outcomes(assessment, Status.FAIL),
        "unclear": _outcomes(assessment, Status.INCONCLUSIVE, Status.ERROR),
        "outdated": list(assessment.outdated),
        "dimensions": dimensions,
        "cards": cards,
        "loose": [name for name in cards if name not in placed],
        "order": sorted(cards, key=lambda name: (LOUDEST_FIRST.index(Status(cards[name]["status"])), name)),
        "environment": _environment(assessment),
        "subject": _subject(assessment),
        "ledger": record["ledger"],
        "provenance_counts": _provenance(assessment),
        "waivers": record["configuration"]["policy"]["waivers"],
    }


def _day(text: str) -> str:
    return datetime.fromisoformat(text).strftime("%-d %B %Y")


def _outcomes(assessment: Assessment, *statuses: Status) -> list[dict[str, str]]:
    return [
        {"check": name, "title": run.title, "sentence": run.outcome.sentence, "status": run.outcome.status.value}
        for name, run in assessment.runs.items()
        if run.outcome.status in statuses
    ]


def _profile(system: Mapping[str, Any]) -> list[dict[str, str]]:
    labels = {"assessed_by": "Assessed by", "ai_act": "EU AI Act"}
    return [
        {"label": labels.get(key, key.replace("_", " ").capitalize()), "value": _in_words(value)}
        for key, value in system.items()
        if value not in ("", None)
    ]


def _in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{str(key).replace('_', ' ')}: {_in_words(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_in_words, value))
    return str(value)


def _target(target: Mapping[str, Any] | None) -> list[dict[str, str]]:
    if target is None:
        return []
    rows = {"Task": target["task"], "Model": target["model"], "Data": target["data"], "Device": target["device"]}
    if target["classes"]:
        rows["Classes"] = target["classes"]
    return [{"label": label, "value": _in_words(_without_empty(value))} for label, value in rows.items()]


def _without_empty(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_empty(item) for key, item in value.items() if item not in (None, [], ())}
    return value


def _card(run: CheckRun, check: Check | None) -> dict[str, Any]:
    """One check's measurement as the report shows it."""
    metric = run.judged_metric
    result = run.result
    interval = run.target.interval if run.target else None
    return {
        "id": run.check,
        "anchor": run.check.replace(".", "-"),
        "title": run.title,
        "status": run.outcome.status.value,
        "word": WORDS[run.outcome.status],
        "sentence": run.outcome.sentence,
        "requirements": list(run.requirements),
        "target": _card_target(run),
        "line": target_line(metric, interval) if metric else None,
        "small_line": target_line(metric, interval, width=NARROW) if metric else None,
        "metric": metric.name if metric else None,
        "metrics": [_metric(item, judged=metric is not None and item.name == metric.name) for item in run.metrics],
        "tables": [_table(table.title, table.columns, table.rows) for table in run.tables if len(table.rows) <= 40],
        "plot": _plot(check, result) if check and result else None,
        "remarks": list(run.remarks),
        "doubt": run.doubt,
        "limits": list(run.limits),
        "measures": check.info.measures if check else "",
        "remedy": check.info.remedy if check else "",
        "source": check.info.source if check else "",
        "params": _in_words(_without_empty(run.params)) or "none",
        "seed": run.seed,
        "version": run.check_version,
        "code": run.code.model_dump(),
        "started": run.started.strftime("%Y-%m-%d %H:%M UTC"),
        "seconds": shown(run.seconds),
        "memory": f"{run.peak_memory_bytes / 2**20:.0f} MiB",
    }


def _plot(check: Check, result: Result) -> str | None:
    """The plot as a data URI: a picture can run nothing."""
    svg = plot_svg(check, result)
    return None if svg is None else f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def _card_target(run: CheckRun) -> dict[str, str] | None:
    if run.target is None:
        return None
    words = shown_interval(run.target.interval)
    return {"words": words, "because": run.target.because, "source": run.target.source}


def _metric(metric: Any, *, judged: bool) -> dict[str, Any]:
    interval = None if metric.low is None else f"{shown(metric.low)} to {shown(metric.high)}"
    return {
        "name": metric.name.replace("_", " "),
        "value": shown(metric.value) + ("" if metric.unit == "1" else f" {metric.unit}"),
        "interval": interval,
        "confidence": f"{metric.confidence:.0%}" if metric.confidence else "",
        "n": metric.n,
        "better": metric.better.value,
        "method": metric.method,
        "judged": judged,
    }


def _table(title: str, columns: tuple[str, ...], rows: tuple[tuple[Any, ...], ...]) -> dict[str, Any]:
    """A table whose low and high columns have joined the value before them, with widths by content."""
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
            line.append({"text": _cell(row[index]), "interval": _ends(*row[index + 1 : index + 3]) if joined else ""})
        numeric.append(all(isinstance(row[index], int | float | None) for row in rows))
        heads.append(name.replace("_", " "))
        index += 3 if joined else 1
    return {"title": title, "columns": heads, "rows": cells, "numeric": numeric, "widths": _widths(heads, cells)}


def _ends(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.3g} to {high:.3g}"


def _widths(heads: list[str], cells: list[list[dict[str, str]]]) -> list[float]:
    """Shares of the width in percent: by the longest text of a column, within limits."""
    longest = []
    for column, head in enumerate(heads):
        texts = [max(len(line[column]["text"]), len(line[column]["interval"])) for line in cells]
        words = max(map(len, head.split()), default=0)
        longest.append(min(max([words + 1, 5, *texts]), 20))
    return [round(100 * length / sum(longest), 2) for length in longest]


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return shown(value) if isinstance(value, float) else str(value)


def _dimension(state: DimensionState, assessment: Assessment, cards: Mapping[str, Any]) -> dict[str, Any]:
    seen: set[str] = set()
    areas = [_area(area, assessment, cards, seen) for area in state.areas] if not state.skipped else []
    return {
        "id": state.id,
        "title": state.title,
        "named": state.id in DIMENSION_NAMES.values(),
        "need": state.need.value if state.need else None,
        "need_because": state.need_because,
        "skipped": state.skipped,
        "answered": state.answered,
        "total": state.total,
        "tests_wanted": state.tests_wanted,
        "tests_measured": state.tests_measured,
        "counts": [
            {"status": status.value, "word": WORDS[status], "count": state.statuses[status]}
            for status in LOUDEST_FIRST
            if status in state.statuses
        ],
        "ceiling": state.ceiling.value if state.ceiling else None,
        "ceiling_because": state.ceiling_because,
        "stated": state.stated,
        "contradictions": [found.model_dump() for found in state.contradictions],
        "areas": areas,
    }


def _area(area: AreaState, assessment: Assessment, cards: Mapping[str, Any], seen: set[str]) -> dict[str, Any]:
    """One area; a card stands in the first area that its check is evidence for."""
    head = next(head for _, head in assessment.catalog.areas() if head.id == area.id)
    here = sorted({check for state in area.requirements for check in state.checks if check in cards} - seen)
    seen.update(here)
    by_id = assessment.catalog.by_id
    return {
        "id": area.id,
        "title": head.title,
        "kind": head.kind.value,
        "sentence": area.sentence,
        "answered": [
            _requirement(by_id[state.id], state, assessment.answers[state.id], cards)
            for state in area.requirements
            if state.id in assessment.answers
        ],
        "open": [{"id": name, "title": by_id[name].title} for name in area.open],
        "cards": here,
    }


def _requirement(
    requirement: Requirement, state: RequirementState, answer: Answer, cards: Mapping[str, Any]
) -> dict[str, Any]:
    questions = {question.id: question.text for question in requirement.questions}
    return {
        "id": requirement.id,
        "title": requirement.title,
        "verdict": state.self_verdict.value,
        "word": "Not applicable" if state.self_verdict is Verdict.NOT_APPLICABLE else WORDS[state.self_verdict],
        "because": answer.because,
        "by": answer.by,
        "at": answer.at.strftime("%Y-%m-%d"),
        "replies": [{"question": questions[name], "reply": reply} for name, reply in answer.replies.items()],
        "evidence": [item.model_dump() for item in answer.evidence],
        "checks": [
            {"id": name, "status": cards[name]["status"], "word": cards[name]["word"], "anchor": cards[name]["anchor"]}
            for name in state.checks
        ],
        "contradicted": list(state.contradictions),
    }


def _environment(assessment: Assessment) -> list[dict[str, Any]]:
    """Distinct environments of the results, each with its checks."""
    found: dict[str, dict[str, Any]] = {}
    for name, run in assessment.runs.items():
        facts = run.environment
        entry = found.setdefault(
            canonical_json(facts).hex(),
            {
                "python": facts.python,
                "platform": facts.platform,
                "device": facts.device,
                "threads": facts.threads,
                "packages": ", ".join(f"{package} {version}" for package, version in facts.packages.items()),
                "checks": [],
            },
        )
        entry["checks"].append(name)
    return list(found.values())


def _subject(assessment: Assessment) -> list[dict[str, Any]]:
    """Distinct subjects of the results: one, unless model or data changed in between."""
    found: dict[str, dict[str, Any]] = {}
    for name, run in assessment.runs.items():
        entry = found.setdefault(canonical_json(run.subject).hex(), {**run.subject.model_dump(), "checks": []})
        entry["checks"].append(name)
    return list(found.values())


def _provenance(assessment: Assessment) -> dict[str, int]:
    counts: dict[str, int] = {}
    for item in assessment.catalog.requirements:
        counts[item.provenance.status.value] = counts.get(item.provenance.status.value, 0) + 1
    return counts
