"""What is judged: requirement, area, dimension and the whole, as the judgement finds them."""

from __future__ import annotations

from collections.abc import Mapping

from assessor.contract import Frozen
from assessor.model.answers import Assurance, ResidualRisk, TradeOff, Verdict
from assessor.model.configuration import Level
from assessor.model.results import Status


class Slot(Frozen):
    """Who said something that a measurement contradicts."""

    by: str
    auditor: bool


class Contradiction(Frozen):
    """A statement and a measurement that cannot both be right."""

    requirement: str
    check: str
    slot: Slot
    sentence: str


class EvidenceState(Frozen):
    """How the evidence of one requirement stands: shown beside the verdict, never merged with it.

    Attributes:
        attached: Number of files.
        aged: Names of those older than the catalog lets them be.
        expected: Whether the catalog expects evidence that no file was attached for.
        expired: Names of those whose last day is over.
    """

    attached: int
    aged: tuple[str, ...]
    expected: bool
    expired: tuple[str, ...] = ()

    @property
    def is_stale(self) -> bool:
        """Whether any of it is too old or expired."""
        return bool(self.aged or self.expired)


class RequirementState(Frozen):
    """Everything known about one requirement.

    Attributes:
        id: The requirement.
        applies: Whether it concerns this system.
        because: Why it does or does not.
        self_verdict: The developer's own, not_assessed when unanswered.
        auditor_verdict: The auditor's, not_assessed when not audited.
        standing: What counts upward: the worse of the two where both are there.
        assurance: How the auditor came to the verdict; self_declared without one.
        outdated: Whether the answer changed after the audit.
        checks: Outcomes of the checks bound to it, by check id.
        contradictions: Check ids that fail although a slot says fulfilled or not applicable.
        evidence: How its evidence stands.
    """

    id: str
    applies: bool
    because: str
    self_verdict: Verdict
    auditor_verdict: Verdict
    standing: Verdict
    assurance: Assurance
    outdated: bool
    checks: Mapping[str, Status]
    contradictions: tuple[str, ...]
    evidence: EvidenceState

    @property
    def disagree(self) -> bool:
        """Whether developer and auditor see it differently."""
        said = {self.self_verdict, self.auditor_verdict}
        return len(said) > 1 and Verdict.NOT_ASSESSED not in said


class AreaState(Frozen):
    """One area: what is open, what deviates.

    Attributes:
        id: The area.
        requirements: Its requirements' states, in order.
        open: Ids that concern the system and that nobody answered.
        deviations: Ids judged partly or not fulfilled, or failed by a check.
        unmet: Ids of criteria among them.
        set_aside: Ids of criteria that concern the system by the catalog and were stated not to.
        sentence: The area's state in words; "no deviation" only when nothing is open.
    """

    id: str
    requirements: tuple[RequirementState, ...]
    open: tuple[str, ...]
    deviations: tuple[str, ...]
    unmet: tuple[str, ...]
    set_aside: tuple[str, ...]
    sentence: str


class Rating(Frozen):
    """What a person stated of a dimension's residual risk.

    Attributes:
        risk: The rating.
        by: Who.
        auditor: Whether it is the auditor's; else the developer's summary.
        second: Who agreed, where a high protection need asks for two people.
        fault: Why the rating does not stand, or empty.
    """

    risk: ResidualRisk
    by: str
    auditor: bool
    second: str
    fault: str


class DimensionState(Frozen):
    """One dimension: the best residual risk that a person may still state, and why.

    Attributes:
        id: The dimension.
        title: Its title.
        need: Protection need, None while nobody decided.
        need_because: Its reason.
        skipped: Whether the need is low, so that nothing is asked.
        areas: States of its areas.
        answered: Number of requirements that apply and are answered.
        audited: Number of requirements that apply and that an auditor judged.
        total: Number of requirements that apply.
        left_out: Number of requirements that do not apply.
        tests_wanted: Applying requirements that demand a test report.
        tests_measured: Those with at least one check result.
        evidence_wanted: Answered requirements whose evidence the catalog expects.
        evidence_attached: Those with evidence.
        evidence_aged: Those with evidence that is expired or older than the catalog lets it be.
        statuses: Number of check results by status.
        contradictions: Between statements and measurements.
        ceiling: Best residual risk that may be stated; None when nothing can be said yet.
        ceiling_because: Why not better.
        stated: What the developer stated in the dimension's summary, or None.
        rating: The auditor's rating if there is one, else the developer's; None without.
        second_wanted: Whether a second person still has to agree.
        trade_offs: Accepted trade-offs in which this dimension gives, by id.
    """

    id: str
    title: str
    need: Level | None
    need_because: str
    skipped: bool
    areas: tuple[AreaState, ...]
    answered: int
    audited: int
    total: int
    left_out: int
    tests_wanted: int
    tests_measured: int
    evidence_wanted: int
    evidence_attached: int
    evidence_aged: int
    statuses: Mapping[Status, int]
    contradictions: tuple[Contradiction, ...]
    ceiling: ResidualRisk | None
    ceiling_because: str
    stated: str | None
    rating: Rating | None
    second_wanted: bool
    trade_offs: Mapping[str, TradeOff]


class OverallState(Frozen):
    """The whole: what the final statement may at best be.

    Attributes:
        allowed: The best conclusion: yes, with conditions, no; None when nothing can be said yet.
        because: What stands in the way of a better one.
        stated: What the auditor concluded, or None.
        fault: Why that does not stand, or empty.
    """

    allowed: str | None
    because: tuple[str, ...]
    stated: str | None
    fault: str
