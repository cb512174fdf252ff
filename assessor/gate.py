"""The gate: policy and results to an exit code. It decides on our own results, never on an export of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

from assessor.applicability import Scope
from assessor.comparison import Change, NumberChange
from assessor.contract import Better, Frozen
from assessor.messages import _, day, plural
from assessor.model import (
    DIMENSION_NAMES,
    Answer,
    Aspect,
    Audit,
    Catalog,
    CheckRun,
    Configuration,
    Contradiction,
    Policy,
    Requirement,
    Rule,
    Status,
    Verdict,
    Waiver,
    dimension_of,
)
from assessor.verdicts import judged_against, shown, shown_ends, shown_metric, told

FORBIDDEN, CANNOT_JUDGE = 1, 3
ASKED = ("none", "criteria", "all")  # from the least to the most


class Kind(StrEnum):
    """What a finding is about."""

    CHECK = "check"
    RESULTS = "results"
    ANSWER = "answer"
    CONTRADICTION = "contradiction"
    DEVIATION = "deviation"
    REGRESSION = "regression"
    WAIVER = "waiver"


class Finding(Frozen):
    """One thing the gate looked at.

    Attributes:
        id: The check or requirement.
        kind: What it is about.
        status: An outcome, "missing", "outdated", "unanswered", "contradiction", "deviation", "worse", "went",
            "not_comparable" or "stale".
        sentence: What was found.
        requirements: Requirements it concerns.
        against: The check that a statement contradicts, or empty.
        stops: Whether it alone closes the gate.
        days_left: Days until its waiver ends; negative where it is over; None without one.
    """

    id: str
    kind: Kind
    status: str
    sentence: str
    requirements: tuple[str, ...] = ()
    against: str = ""
    stops: bool = False
    days_left: int | None = None


class GateDecision(Frozen):
    """What the gate decided.

    Attributes:
        exit_code: 0 open, 1 something the policy forbids, 3 something the policy asks for is missing.
        enforced_code: What it would be if the policy did not only observe.
        mode: "enforce" or "observe".
        blocking: What the policy forbids.
        incomplete: What cannot be judged.
        waived: Findings that a named person accepted.
        tolerated: Findings that the policy does not forbid.
        passed: Check ids that passed.
        not_judged: What was measured without a target, or does not apply: shown, never a pass.
        stale: Waivers that waive nothing.
    """

    exit_code: int
    enforced_code: int
    mode: str
    blocking: tuple[Finding, ...]
    incomplete: tuple[Finding, ...]
    waived: tuple[Finding, ...]
    tolerated: tuple[Finding, ...]
    passed: tuple[str, ...]
    not_judged: tuple[Finding, ...]
    stale: tuple[Finding, ...]

    @property
    def counts(self) -> Mapping[str, int]:
        """How many there are of each."""
        names = ("blocking", "incomplete", "waived", "tolerated", "passed", "not_judged", "stale")
        return {name: len(getattr(self, name)) for name in names}

    @property
    def sentence(self) -> str:
        """The decision in one line."""
        code = self.exit_code or self.enforced_code
        if code == FORBIDDEN:
            said = _("closed: {n} forbidden by the policy", n=len(self.blocking))
        elif code == CANNOT_JUDGE:
            said = _("closed: {n} cannot be judged", n=len(self.incomplete) or len(self.blocking))
        else:
            said = _("open")
        more = [
            _("{n} waived", n=len(self.waived)) if self.waived else "",
            _("{n} found and not forbidden", n=len(self.tolerated)) if self.tolerated else "",
        ]
        return ", ".join([said, *filter(None, more)])


@dataclass(frozen=True)
class Beside:
    """What the gate looks at beside answers and results.

    Attributes:
        contradictions: Between statements and measurements.
        audits: The auditor's verdicts by requirement id.
        changes: The judged numbers beside those of a baseline.
        lost: Checks that the baseline measured and that are not measured now.
    """

    contradictions: Sequence[Contradiction] = ()
    audits: Mapping[str, Audit] = field(default_factory=dict)
    changes: Sequence[NumberChange] = ()
    lost: Sequence[str] = ()


class Weight(StrEnum):
    """What a finding does before waivers are looked at."""

    FORBIDDEN = "forbidden"
    UNJUDGED = "unjudged"  # closes the gate whatever the policy says
    INCOMPLETE = "incomplete"
    TOLERATED = "tolerated"
    NOT_JUDGED = "not judged"


Weighed = tuple[Weight, Finding]


def decide(
    configuration: Configuration,
    catalog: Catalog,
    answers: Mapping[str, Answer],
    runs: Mapping[str, CheckRun],
    *,
    today: date,
    policy: Policy | None = None,
    beside: Beside | None = None,
) -> GateDecision:
    """Decide.

    Args:
        configuration: Protection needs, targets and the policy.
        catalog: Which requirements there are.
        answers: Answers by requirement id.
        runs: Current results by check id.
        today: Date at which waivers are looked at.
        policy: In place of the configuration's.
        beside: What else there is to look at.

    Returns:
        The decision. What is forbidden goes before what is missing.
    """
    look = _Look(configuration, catalog, answers, runs, policy or configuration.policy, beside or Beside())
    passed, found = look.checks()
    found += [*look.unanswered(), *look.contradictions(), *look.deviations(), *look.regressions()]
    return _decision(look.policy, passed, found, today)


def _decision(policy: Policy, passed: list[str], found: list[Weighed], today: date) -> GateDecision:
    waived, sorted_ = [], {weight: list[Finding]() for weight in Weight}
    used: set[Waiver] = set()
    waivers = {(waiver.id, excuse.value): waiver for waiver in policy.waivers for excuse in waiver.covers}
    for weight, finding in found:
        waiver = waivers.get((finding.id, finding.status))
        if waiver is not None:
            used.add(waiver)
        if waiver is None or weight not in {Weight.FORBIDDEN, Weight.INCOMPLETE}:
            sorted_[weight].append(finding)
        elif waiver.until >= today:
            waived.append(_with_waiver(finding, waiver, today))
        else:
            sorted_[Weight.FORBIDDEN].append(_with_waiver(finding, waiver, today))
    blocking, unjudged, lacking = (sorted_[weight] for weight in (Weight.FORBIDDEN, Weight.UNJUDGED, Weight.INCOMPLETE))
    lack_stops = policy.incomplete == "error"
    crashed = bool(unjudged) or any(finding.status == Status.ERROR for finding in blocking)
    enforced = FORBIDDEN if blocking else CANNOT_JUDGE if unjudged or (lacking and lack_stops) else 0
    observed = CANNOT_JUDGE if crashed else 0
    return GateDecision(
        exit_code=enforced if policy.mode == "enforce" else observed,
        enforced_code=enforced,
        mode=policy.mode,
        blocking=_stopping(blocking, stops=True),
        incomplete=(*_stopping(unjudged, stops=True), *_stopping(lacking, stops=lack_stops)),
        waived=tuple(waived),
        tolerated=tuple(sorted_[Weight.TOLERATED]),
        passed=tuple(passed),
        not_judged=tuple(sorted_[Weight.NOT_JUDGED]),
        stale=tuple(_stale(waiver) for waiver in policy.waivers if waiver not in used),
    )


def _stopping(findings: list[Finding], *, stops: bool) -> tuple[Finding, ...]:
    return tuple(finding.model_copy(update={"stops": stops}) for finding in findings)


def _with_waiver(finding: Finding, waiver: Waiver, today: date) -> Finding:
    values = {"because": waiver.because, "by": waiver.by, "until": day(waiver.until)}
    if waiver.until >= today:
        note = _("waived: {because} ({by}, until {until})", **values)
    else:
        note = _("waiver expired: {because} ({by}, until {until})", **values)
    left = (waiver.until - today).days
    return finding.model_copy(update={"sentence": f"{finding.sentence}; {note}", "days_left": left})


def _stale(waiver: Waiver) -> Finding:
    sentence = _(
        "this waiver waives nothing, remove it: {because} ({by}, until {until})",
        because=waiver.because,
        by=waiver.by,
        until=day(waiver.until),
    )
    return Finding(id=waiver.id, kind=Kind.WAIVER, status="stale", sentence=sentence)


def forbidden_outcomes(configuration: Configuration, policy: Policy, requirements: Sequence[str]) -> set[str]:
    """Outcomes that block for a check that is evidence for some requirements: the strictest rule counts."""
    rules = _rules(configuration, policy, requirements)
    return {*policy.fail_on, *(status for rule in rules for status in rule.fail_on)}


def _rules(configuration: Configuration, policy: Policy, requirements: Sequence[str]) -> Iterator[Rule]:
    for dimension in sorted({dimension_of(name) for name in requirements}):
        name = next((name for name, code in DIMENSION_NAMES.items() if code == dimension), dimension)
        need = configuration.protection_needs.of(dimension)
        yield policy.dimensions.get(name, Rule())
        yield policy.needs.get(need.level, Rule()) if need else Rule()


@dataclass(frozen=True)
class _Look:
    """Looks at everything and weighs what it finds by the policy."""

    configuration: Configuration
    catalog: Catalog
    answers: Mapping[str, Answer]
    runs: Mapping[str, CheckRun]
    policy: Policy
    beside: Beside

    # --- rules -------------------------------------------------------------------------------------------------------

    def rules(self, requirements: Sequence[str]) -> Iterator[Rule]:
        """The rules for the dimensions of some requirements, and for their protection needs."""
        return _rules(self.configuration, self.policy, requirements)

    def requirements_of(self, check: str) -> tuple[str, ...]:
        """Requirements that a check is evidence for."""
        bound = {item.id for item in self.catalog.requirements if check in item.checks}
        run = self.runs.get(check)
        return tuple(sorted(bound | set(run.requirements if run else ())))

    def forbidden(self, requirements: Sequence[str]) -> set[str]:
        """Outcomes that block for a check with these requirements."""
        return forbidden_outcomes(self.configuration, self.policy, requirements)

    def asked(self, requirement: Requirement) -> bool:
        """Whether the strictest rule asks for its answer."""
        wanted = [self.policy.answers, *(rule.answers for rule in self.rules([requirement.id]))]
        strictest = max(wanted, key=ASKED.index)
        return strictest == "all" or (strictest == "criteria" and requirement.aspect is Aspect.CRITERION)

    # --- findings ----------------------------------------------------------------------------------------------------

    def checks(self) -> tuple[list[str], list[Weighed]]:
        """Checks that passed, and what is to be said of the others."""
        passed: list[str] = []
        found: list[Weighed] = []
        names = {*self.runs, *self.configuration.targets}
        looked_at = sorted(name for name in names if self.configuration.checks.get(name) is not False)
        for check in looked_at:
            weighed = self.check(check)
            if weighed is None:
                passed.append(check)
            else:
                found.append(weighed)
        if not any(self.runs[check].metrics for check in looked_at if check in self.runs):
            sentence = _("nothing was measured; assessor check run")
            nothing = Finding(id="results", kind=Kind.RESULTS, status="missing", sentence=sentence)
            found.append((Weight.UNJUDGED, nothing))
        return passed, found

    def check(self, check: str) -> Weighed | None:
        """What is wrong with one check, or None."""
        run, target = self.runs.get(check), self.configuration.targets.get(check)
        requirements = self.requirements_of(check)

        def finding(status: str, sentence: str) -> Finding:
            return Finding(id=check, kind=Kind.CHECK, status=status, sentence=sentence, requirements=requirements)

        if run is None:
            return Weight.UNJUDGED, finding("missing", _("has a target and no result; assessor check run"))
        status = run.outcome.status
        if status is not Status.ERROR and not judged_against(run, target):
            sentence = _("the target changed since it was judged; assessor check run judges again without measuring")
            return Weight.UNJUDGED, finding("outdated", sentence)
        if status is Status.PASS:
            return None
        found = finding(status.value, told(run))
        if status.value in self.forbidden(requirements):
            return Weight.FORBIDDEN, found
        if status is Status.ERROR:
            return Weight.UNJUDGED, found
        if status is Status.FAIL:
            return Weight.TOLERATED, found
        if target is not None:
            return Weight.INCOMPLETE, found
        return Weight.NOT_JUDGED, found

    def unanswered(self) -> Iterator[Weighed]:
        """Requirements that the policy wants answered and nobody answered."""
        for item in Scope(self.catalog, self.configuration, self.answers).applicable():
            if item.id not in self.answers and self.asked(item):
                found = Finding(id=item.id, kind=Kind.ANSWER, status="unanswered", sentence=item.title,
                                requirements=(item.id,))  # fmt: skip
                yield Weight.INCOMPLETE, found

    def contradictions(self) -> Iterator[Weighed]:
        """Statements that a measurement contradicts."""
        weight = Weight.FORBIDDEN if self.policy.contradictions == "block" else Weight.TOLERATED
        for item in self.beside.contradictions:
            yield (
                weight,
                Finding(
                    id=item.requirement,
                    kind=Kind.CONTRADICTION,
                    status="contradiction",
                    sentence=item.sentence,
                    requirements=(item.requirement,),
                    against=item.check,
                ),
            )

    def deviations(self) -> Iterator[Weighed]:
        """What the auditor found partly or not fulfilled."""
        if self.policy.deviations == "ignore":
            return
        weight = Weight.FORBIDDEN if self.policy.deviations == "block" else Weight.TOLERATED
        for name, audit in self.beside.audits.items():
            if audit.value in {Verdict.PARTLY, Verdict.NOT_FULFILLED}:
                found = Finding(id=name, kind=Kind.DEVIATION, status="deviation", sentence=audit.deviation,
                                requirements=(name,))  # fmt: skip
                yield weight, found

    def regressions(self) -> Iterator[Weighed]:
        """What got worse than in the baseline, and what cannot be compared with it."""
        blocks = self.policy.baseline.block == "worse"
        worse = Weight.FORBIDDEN if blocks else Weight.TOLERATED
        unclear = Weight.INCOMPLETE if blocks else Weight.NOT_JUDGED
        for item in self.beside.changes:
            if item.change is Change.WORSE:
                yield worse, self._regression(item.check, "worse", _told_change(item))
            elif item.change is Change.NOT_COMPARABLE:
                sentence = _("cannot be compared with the baseline: {because}", because=item.because)
                yield unclear, self._regression(item.check, "not_comparable", sentence)
            elif _worse_untested(item):
                sentence = _("{told}; without intervals this cannot be tested", told=_told_change(item))
                yield unclear, self._regression(item.check, "not_comparable", sentence)
        for check in self.beside.lost:
            sentence = _("was measured in the baseline and is not now")
            yield unclear, self._regression(check, "went", sentence)

    def _regression(self, check: str, status: str, sentence: str) -> Finding:
        requirements = self.requirements_of(check)
        return Finding(id=check, kind=Kind.REGRESSION, status=status, sentence=sentence, requirements=requirements)


def _worse_untested(item: NumberChange) -> bool:
    """Whether a number without a test is worse by more than is tolerated."""
    if item.change is Change.SAME or item.p_value is not None or item.after.better is Better.NONE:
        return False
    gain = item.difference if item.after.better is Better.HIGHER else -item.difference
    return -gain > item.tolerance


def _told_change(item: NumberChange) -> str:
    before, after = (shown_metric(metric).split(" ", 1)[1] for metric in (item.before, item.after))
    ends = "" if item.low is None or item.high is None else f" {shown_ends(item.low, item.high)}"
    parts = [
        _("{metric} was {before} and is {after}", metric=_(item.metric.replace("_", " ")), before=before, after=after),
        _("difference {difference}", difference=f"{shown(item.difference)}{ends}"),
        _("tolerated {tolerance}", tolerance=shown(item.tolerance)) if item.tolerance else "",
        f"p = {shown(item.p_holm)} ({item.told_test})" if item.p_holm is not None else "",
    ]
    return ", ".join(filter(None, parts))


def told_days(days: int) -> str:
    """How long a waiver still holds."""
    return plural("{n} day left", "{n} days left", days) if days >= 0 else _("over")
