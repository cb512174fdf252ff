"""The report: one assessment as HTML, PDF or JSON, from stored results only.

The canonical JSON of the assessment is attached inside the PDF, and its digest is printed on the page.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from assessor.assessment import Assessment
from assessor.canonical import canonical_json, sha256_hex
from assessor.charts import NARROW, plot_svg, target_line
from assessor.contract import Check, Result
from assessor.errors import MissingExtra, UsageError
from assessor.model import DIMENSION_NAMES, Answer, CheckRun, Requirement, Status, Verdict
from assessor.verdicts import AreaState, DimensionState, RequirementState, shown, shown_interval

ATTACHMENT = "assessment.json"
FONTS = (
    ("IBM Plex Sans", "400", "normal", "IBMPlexSans-Regular.woff2"),
    ("IBM Plex Sans", "600", "normal", "IBMPlexSans-SemiBold.woff2"),
    ("IBM Plex Sans", "400", "italic", "IBMPlexSans-Italic.woff2"),
    ("IBM Plex Mono", "400", "normal", "IBMPlexMono-Regular.woff2"),
)
PANGO = (
    "making a PDF needs the Pango libraries, and one is missing here. On Debian and Ubuntu:\n"
    "apt-get install --no-install-recommends libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0\n"
    "(without them:  assessor report --format html)"
)
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


def report_json(assessment: Assessment) -> bytes:
    """The assessment as canonical JSON."""
    return canonical_json(assessment.record())


def report_html(assessment: Assessment, checks: Mapping[str, Check], *, templates: Path | None = None) -> str:
    """The report as one HTML page that needs nothing else.

    Args:
        assessment: What to report.
        checks: Installed checks, for their plots; a result whose check is missing is shown without.
        templates: Folder with templates that take the place of ours, by name.

    Returns:
        HTML.

    Raises:
        UsageError: A template has a fault.
    """
    record = assessment.record()
    content = base64.b64encode(canonical_json(record)).decode()
    return _render(record, assessment, checks, templates, results_uri=f"data:application/json;base64,{content}")


def report_pdf(assessment: Assessment, checks: Mapping[str, Check], *, templates: Path | None = None) -> bytes:
    """The report as PDF/A-3a with the canonical JSON of the assessment attached.

    Args:
        assessment: What to report.
        checks: Installed checks, for their plots.
        templates: Folder with templates that take the place of ours.

    Returns:
        The PDF; the same bytes for the same record.

    Raises:
        UsageError: A template has a fault or a system library is missing.
        MissingExtra: WeasyPrint is not installed.
    """
    try:
        import weasyprint
        from weasyprint.urls import FatalURLFetchingError, URLFetcher
    except ModuleNotFoundError as fault:
        raise MissingExtra("making a PDF", "report") from fault
    except OSError as fault:
        raise UsageError(PANGO) from fault

    record = assessment.record()
    content = canonical_json(record)
    html = _render(record, assessment, checks, templates)
    created = datetime.fromisoformat(record["created"])
    attachment = weasyprint.Attachment(
        string=content,
        name=ATTACHMENT,
        description="Machine-readable results of this assessment (canonical JSON)",
        relationship="Data",
        created=created,
        modified=created,
    )
    fetcher = URLFetcher(allowed_protocols={"data"}, fail_on_errors=True)
    try:
        document = weasyprint.HTML(string=html, url_fetcher=fetcher)
        pdf: bytes | None = document.write_pdf(pdf_variant="pdf/a-3a", attachments=[attachment], pdf_tags=True)
    except FatalURLFetchingError as fault:  # a BaseException of WeasyPrint's own
        raise UsageError(f"the template asks for something outside the report: {fault}") from fault
    assert pdf is not None  # only when written to a target of ours
    return pdf


def _render(
    record: dict[str, Any],
    assessment: Assessment,
    checks: Mapping[str, Check],
    templates: Path | None,
    *,
    results_uri: str | None = None,
) -> str:
    from jinja2 import ChoiceLoader, FileSystemLoader, StrictUndefined, TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from markupsafe import Markup

    ours = FileSystemLoader(str(files("assessor.templates") / "report"))
    loader = ChoiceLoader([FileSystemLoader(templates), ours]) if templates else ours
    environment = ImmutableSandboxedEnvironment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    context = _context(record, assessment, checks)
    style = (files("assessor.templates") / "report" / "report.css").read_text("utf-8")
    try:
        return environment.get_template("report.html.j2").render(
            **context,
            results_uri=results_uri,
            style=Markup(_font_faces() + style),  # noqa: S704 - our own file
        )
    except TemplateError as fault:
        where = f"{getattr(fault, 'name', None) or 'template'}:{getattr(fault, 'lineno', '?')}"
        raise UsageError(f"report template {where}: {fault}") from fault


def _font_faces() -> str:
    folder = files("assessor.templates") / "fonts"
    return "".join(
        f"@font-face{{font-family:'{family}';font-weight:{weight};font-style:{style};"
        f"src:url(data:font/woff2;base64,{base64.b64encode((folder / name).read_bytes()).decode()})}}\n"
        for family, weight, style, name in FONTS
    )


# --- what the template gets: plain data, no arithmetic left to do -----------------------------------------------------


def _context(record: dict[str, Any], assessment: Assessment, checks: Mapping[str, Check]) -> dict[str, Any]:
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
