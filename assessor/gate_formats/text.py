"""Plain text: a line a finding, the worst first, then the decision."""

from __future__ import annotations

from typing import NamedTuple

from assessor.gate import GateDecision, told_days
from assessor.gate_formats.notices import GateReport, Group
from assessor.messages import _


class Line(NamedTuple):
    """One line: what became of it, its id, its status, why."""

    title: str
    id: str
    status: str
    sentence: str


def lines(report: GateReport) -> list[Line]:
    """A line a finding that asks for attention; the others by their ids in a line for all."""
    found = []
    for item in report.shown:
        finding = item.finding
        left = f" ({told_days(finding.days_left)})" if finding.days_left is not None else ""
        found.append(Line(item.group.told, finding.id, finding.status, finding.sentence + left))
    for group in (Group.NOT_JUDGED, Group.PASSED):
        if names := [item.finding.id for item in report.notices if item.group is group]:
            found.append(Line(group.told, ", ".join(names), "", ""))
    return found


def counted(decision: GateDecision) -> str:
    """How many findings there are of each kind."""
    return ", ".join(f"{n} {Group(name).told}" for name, n in decision.counts.items() if n)


def closing(report: GateReport) -> list[str]:
    """The decision, with a loud line where it is only observed."""
    decision, baseline = report.decision, report.baseline
    said = [counted(decision), _("gate {sentence}", sentence=decision.sentence)]
    if baseline:
        where = " ".join(baseline["where"].split())  # one line: a name may hold any sign
        said.insert(0, _("Baseline: {where}", where=f"{where}; {baseline['tests']}"))
    if decision.mode == "observe":
        said.append(_("THE GATE ONLY OBSERVES (policy mode: observe); enforced, it would end with {code}",
                      code=decision.enforced_code))  # fmt: skip
    return said


def written(report: GateReport) -> str:
    """As plain text."""
    rows = lines(report)
    width = max((len(row.title) for row in rows), default=0)
    told = [f"{row.title:{width}}  {row.id}  {row.status}  {row.sentence}".rstrip() for row in rows]
    return "\n".join([*told, *closing(report)]) + "\n"
