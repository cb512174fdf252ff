"""The gate: policy and results to an exit code. It decides on our own results, never on an export of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from assessor.applicability import Scope
from assessor.contract import Frozen
from assessor.messages import _, day
from assessor.model import Answer, Aspect, Catalog, CheckRun, Configuration, Status, Waiver
from assessor.verdicts import judged_against, told

FORBIDDEN, CANNOT_JUDGE = 1, 3


class Finding(Frozen):
    """One thing the gate stopped at or let through by waiver."""

    id: str
    status: str
    sentence: str


class GateDecision(Frozen):
    """What the gate decided.

    Attributes:
        exit_code: 0 open, 1 something the policy forbids, 3 something the policy asks for is missing.
        blocking: What the policy forbids.
        incomplete: What cannot be judged.
        waived: Failures that a named person accepted.
        tolerated: Failures that the policy does not forbid.
        passed: Check ids that passed.
        not_judged: What was measured without a target, or does not apply: shown, never a pass.
    """

    exit_code: int
    blocking: tuple[Finding, ...]
    incomplete: tuple[Finding, ...]
    waived: tuple[Finding, ...]
    tolerated: tuple[Finding, ...]
    passed: tuple[str, ...]
    not_judged: tuple[Finding, ...]

    @property
    def sentence(self) -> str:
        """The decision in one line."""
        if self.exit_code == FORBIDDEN:
            return _("closed: {n} forbidden by the policy", n=len(self.blocking))
        if self.exit_code == CANNOT_JUDGE:
            return _("closed: {n} cannot be judged", n=len(self.incomplete))
        found = [
            _("{n} waived", n=len(self.waived)) if self.waived else "",
            _("{n} failing and not forbidden", n=len(self.tolerated)) if self.tolerated else "",
        ]
        return ", ".join([_("open"), *filter(None, found)])


def decide(
    configuration: Configuration,
    catalog: Catalog,
    answers: Mapping[str, Answer],
    runs: Mapping[str, CheckRun],
    *,
    today: date,
) -> GateDecision:
    """Decide.

    Args:
        configuration: Policy and targets.
        catalog: Which requirements there are.
        answers: Answers by requirement id.
        runs: Current results by check id.
        today: Date at which waivers are looked at.

    Returns:
        The decision. What is forbidden goes before what is missing.
    """
    policy = configuration.policy
    waivers = {waiver.id: waiver for waiver in policy.waivers}
    blocking: list[Finding] = []
    incomplete: list[Finding] = []
    waived: list[Finding] = []
    tolerated: list[Finding] = []
    passed: list[str] = []
    not_judged: list[Finding] = []
    looked_at = sorted(name for name in {*runs, *configuration.targets} if configuration.checks.get(name) is not False)
    for check in looked_at:
        found, missing = _look(check, configuration, runs)
        if found is None:
            passed.append(check)
        elif found.status in _NOT_JUDGED and not missing:
            not_judged.append(found)
        elif missing:
            incomplete.append(found)
        elif found.status not in policy.fail_on:
            tolerated.append(found)
        elif check in waivers:
            (waived if waivers[check].until >= today else blocking).append(_with_waiver(found, waivers[check], today))
        else:
            blocking.append(found)
    measured = any(runs[check].metrics for check in looked_at if check in runs)
    if not measured:
        sentence = _("nothing was measured; assessor check run")
        incomplete.append(Finding(id="results", status="missing", sentence=sentence))
    incomplete += _unanswered(configuration, catalog, answers)
    stops = bool(incomplete) and (policy.incomplete == "error" or not measured)
    return GateDecision(
        exit_code=FORBIDDEN if blocking else CANNOT_JUDGE if stops else 0,
        blocking=tuple(blocking),
        incomplete=tuple(incomplete),
        waived=tuple(waived),
        tolerated=tuple(tolerated),
        passed=tuple(passed),
        not_judged=tuple(not_judged),
    )


_NOT_JUDGED = {Status.MEASURED, Status.NOT_APPLICABLE}


def _look(check: str, configuration: Configuration, runs: Mapping[str, CheckRun]) -> tuple[Finding | None, bool]:
    """What is wrong with one check, and whether that is a lack rather than a failure."""
    run, target = runs.get(check), configuration.targets.get(check)
    if run is None:
        return Finding(id=check, status="missing", sentence=_("has a target and no result; assessor check run")), True
    if not judged_against(run, target):
        sentence = _("the target changed since it was judged; assessor check run judges again without measuring")
        return Finding(id=check, status="outdated", sentence=sentence), True
    status = run.outcome.status
    finding = Finding(id=check, status=status, sentence=told(run))
    if status in configuration.policy.fail_on or status is Status.FAIL:
        return finding, False
    if status is Status.ERROR or (target and status in {Status.INCONCLUSIVE, Status.NOT_APPLICABLE, Status.MEASURED}):
        return finding, True
    return (None if status is Status.PASS else finding), False


def _with_waiver(finding: Finding, waiver: Waiver, today: date) -> Finding:
    values = {"because": waiver.because, "by": waiver.by, "until": day(waiver.until)}
    if waiver.until >= today:
        note = _("waived: {because} ({by}, until {until})", **values)
    else:
        note = _("waiver expired: {because} ({by}, until {until})", **values)
    return finding.model_copy(update={"sentence": f"{finding.sentence}; {note}"})


def _unanswered(configuration: Configuration, catalog: Catalog, answers: Mapping[str, Answer]) -> list[Finding]:
    wanted = configuration.policy.answers
    if wanted == "none":
        return []
    scope = Scope(catalog, configuration, answers)
    return [
        Finding(id=item.id, status="unanswered", sentence=item.title)
        for item in scope.applicable()
        if item.id not in answers and (wanted == "all" or item.aspect is Aspect.CRITERION)
    ]
