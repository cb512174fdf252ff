"""What all formats tell: every finding with its rule, level, place and fingerprint, the worst first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from enum import StrEnum

from assessor.canonical import sha256_hex
from assessor.contract import Frozen
from assessor.gate import Finding, GateDecision, Kind
from assessor.gate_places import Place, Places, PolicyFile
from assessor.messages import _
from assessor.model import Catalog, CheckRun
from assessor.verdicts import told


class Level(StrEnum):
    """How loud a notice is."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"
    NONE = "none"


class Group(StrEnum):
    """What became of a finding, the worst first."""

    BLOCKING = "blocking"
    INCOMPLETE = "incomplete"
    STALE = "stale"
    WAIVED = "waived"
    TOLERATED = "tolerated"
    NOT_JUDGED = "not_judged"
    PASSED = "passed"

    @property
    def told(self) -> str:
        """In the language in use."""
        return {
            Group.BLOCKING: _("forbidden"),
            Group.INCOMPLETE: _("cannot judge"),
            Group.STALE: _("stale waiver"),
            Group.WAIVED: _("waived"),
            Group.TOLERATED: _("not forbidden"),
            Group.NOT_JUDGED: _("not judged"),
            Group.PASSED: _("passed"),
        }[self]


LEVELS = {
    Group.BLOCKING: Level.ERROR,
    Group.STALE: Level.WARNING,
    Group.WAIVED: Level.NOTE,
    Group.TOLERATED: Level.WARNING,
    Group.NOT_JUDGED: Level.NOTE,
    Group.PASSED: Level.NONE,
}


class RuleText(Frozen):
    """What a rule is, in words.

    Attributes:
        title: One line.
        help: What to do, or what it measures.
    """

    title: str
    help: str


class Notice(Frozen):
    """One finding as formats tell it.

    Attributes:
        rule: Stable id of the rule: check/ID, regression/ID, answer, contradiction, deviation, waiver or results.
        group: What became of it.
        level: How loud it is.
        finding: What was found.
        place: Line that a person would look at.
        fingerprint: The same for the same finding in every run, whatever its numbers and lines.
    """

    rule: str
    group: Group
    level: Level
    finding: Finding
    place: Place
    fingerprint: str


class GateReport(Frozen):
    """The decision with all that formats tell of it.

    Attributes:
        decision: What was decided.
        system: Name and version of what is assessed.
        folder: Path of the assessment in its repository; empty at the root.
        policy: Where the policy was read.
        baseline: What was compared with, and what is known of its integrity; empty without one.
        rules: In words, by rule id.
        notices: The worst first.
    """

    decision: GateDecision
    system: str
    folder: str
    policy: PolicyFile
    baseline: Mapping[str, str]
    rules: Mapping[str, RuleText]
    notices: tuple[Notice, ...]

    @property
    def shown(self) -> tuple[Notice, ...]:
        """Notices that ask for somebody's attention."""
        return tuple(item for item in self.notices if item.group not in {Group.PASSED, Group.NOT_JUDGED})


def report_of(
    decision: GateDecision,
    *,
    system: str,
    catalog: Catalog,
    runs: Mapping[str, CheckRun],
    remedies: Mapping[str, str],
    places: Places,
    baseline: Mapping[str, str] | None = None,
) -> GateReport:
    """The decision with rules, places and fingerprints.

    Args:
        decision: What was decided.
        system: Name and version of what is assessed.
        catalog: Which area a requirement belongs to.
        runs: Results by check id.
        remedies: What to do about a bad value, by check id.
        places: Finds lines.
        baseline: What was compared with.

    Returns:
        The report.
    """
    folder = places.prefix
    notices, seen = [], Counter[str]()
    for group, finding in _grouped(decision, runs):
        rule = _rule(finding)
        level = LEVELS.get(group, Level.ERROR if finding.stops else Level.WARNING)
        print_ = sha256_hex("\n".join([folder, rule, finding.id, finding.against]).encode())
        seen[print_] += 1
        if seen[print_] > 1:
            print_ = sha256_hex(f"{print_}\n{seen[print_]}".encode())
        place = _place(group, finding, catalog, places)
        notices.append(Notice(rule=rule, group=group, level=level, finding=finding, place=place, fingerprint=print_))
    rules = {item.rule: _rule_text(item.finding, runs, remedies) for item in notices}
    return GateReport(
        decision=decision,
        system=system,
        folder=folder,
        policy=places.policy_file,
        baseline=baseline or {},
        rules=rules,
        notices=tuple(notices),
    )


def _grouped(decision: GateDecision, runs: Mapping[str, CheckRun]) -> Iterator[tuple[Group, Finding]]:
    for group in Group:
        if group is not Group.PASSED:
            yield from ((group, finding) for finding in getattr(decision, group.value))
    for check in decision.passed:
        run = runs[check]
        yield (
            Group.PASSED,
            Finding(id=check, kind=Kind.CHECK, status="pass", sentence=told(run), requirements=run.requirements),
        )


def _rule(finding: Finding) -> str:
    """Stable id of the rule that a finding breaks or keeps.

    >>> _rule(Finding(id="a.b", kind=Kind.CHECK, status="fail", sentence="x"))
    'check/a.b'
    """
    return f"{finding.kind}/{finding.id}" if finding.kind in {Kind.CHECK, Kind.REGRESSION} else str(finding.kind)


def _rule_text(finding: Finding, runs: Mapping[str, CheckRun], remedies: Mapping[str, str]) -> RuleText:
    run = runs.get(finding.id)
    title = _(run.title) if run else finding.id
    remedy = remedies.get(finding.id, "")
    said = {
        Kind.RESULTS: (_("Something was measured"), _("Measure with  assessor check run")),
        Kind.ANSWER: (_("Requirements are answered"), _("Answer with  assessor answer ID")),
        Kind.CONTRADICTION: (
            _("No measurement contradicts a statement"),
            _("Correct the answer or mend the system; assessor status shows all contradictions"),
        ),
        Kind.DEVIATION: (_("The auditor found no deviation"), _("Mend what falls short and have it audited again")),
        Kind.WAIVER: (_("Every waiver waives something"), _("Remove the waiver from the policy")),
        Kind.REGRESSION: (_("{title}: no worse than in the baseline", title=title), remedy),
        Kind.CHECK: (title, remedy),
    }[finding.kind]
    return RuleText(title=said[0], help=said[1] or said[0])


def _place(group: Group, finding: Finding, catalog: Catalog, places: Places) -> Place:
    if group in {Group.STALE, Group.WAIVED} or finding.days_left is not None:
        return places.waiver(finding.id)
    if finding.kind in {Kind.CHECK, Kind.REGRESSION}:
        return places.target(finding.id)
    if finding.kind is Kind.RESULTS:
        return places.rule("")
    area = catalog.by_id[finding.id].area
    return places.audit(area, finding.id) if finding.kind is Kind.DEVIATION else places.answer(area, finding.id)
