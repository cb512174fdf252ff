"""Clauses of laws and standards: what the catalog could say of each, and what an assessment says so far.

A mapping is no verdict on conformity. Most requirements speak to a part of a clause only, so even fulfilled they leave
the rest of it open; only a mapping that its author calls whole can cover a clause.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum

from assessor.contract import Frozen
from assessor.messages import _
from assessor.model import (
    ApplicationDate,
    Catalog,
    Clause,
    Framework,
    Requirement,
    RequirementState,
    State,
    dimension_of,
)


class ClauseState(StrEnum):
    """How far requirements speak for a clause."""

    COVERED = "covered"
    PARTLY = "partly"
    OPEN = "open"
    NOT_IN_CATALOG = "not in the catalog"


class Standing(StrEnum):
    """What one mapped requirement says for the clause."""

    FULFILLED = "fulfilled"
    PARTLY = "partly"
    NOT_APPLICABLE = "not_applicable"
    LEFT_OUT = "left_out"
    NOT_FULFILLED = "not_fulfilled"
    CONTRADICTED = "contradicted"
    NOT_ASSESSED = "not_assessed"

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to do for it: fulfilled, or set aside for a reason."""
        return self in {Standing.FULFILLED, Standing.NOT_APPLICABLE, Standing.LEFT_OUT}

    @property
    def counts(self) -> bool:
        """Whether it says something for the clause; what was never asked, is unmet or contradicted does not."""
        return self in {Standing.FULFILLED, Standing.PARTLY, Standing.NOT_APPLICABLE}


class MappedRequirement(Frozen):
    """A requirement that speaks to a clause.

    Attributes:
        id: The requirement.
        standing: What it says for the clause.
        because: Why it is left out, contradicted or not part of the assessment; empty where there is nothing to say.
    """

    id: str
    standing: Standing
    because: str = ""


class ClauseCoverage(Frozen):
    """One clause.

    Attributes:
        clause: As the framework's file has it.
        reach: What the catalog could do at best: covered, partly or not in the catalog.
        state: What the assessment says so far; None without one.
        requirements: What speaks to the clause, areas told requirement by requirement.
        missing: Ids that are not settled yet; all of them without an assessment.
    """

    clause: Clause
    reach: ClauseState
    state: ClauseState | None
    requirements: tuple[MappedRequirement, ...]
    missing: tuple[str, ...]

    @property
    def shown(self) -> ClauseState:
        """The state, or the reach where nothing was assessed."""
        return self.state or self.reach


class FrameworkCoverage(Frozen):
    """One framework.

    Attributes:
        id: Of the framework.
        title: Its full name.
        edition: Which edition the clauses are of.
        status: How clauses and mappings were made.
        dates: From when it applies.
        assessed: Whether states of an assessment were given.
        clauses: In the framework's order.
        counts: Number of clauses by state; by reach without an assessment.
        mapped: Number of different requirements that speak to any clause.
        settled: Number of those with nothing left to do.
    """

    id: str
    title: str
    edition: str
    status: str
    dates: tuple[ApplicationDate, ...]
    assessed: bool
    clauses: tuple[ClauseCoverage, ...]
    counts: Mapping[ClauseState, int]
    mapped: int
    settled: int

    @property
    def unsettled(self) -> tuple[ClauseCoverage, ...]:
        """Clauses that something is missing for, or that nothing in the catalog speaks to."""
        return tuple(item for item in self.clauses if not item.requirements or (self.assessed and item.missing))


def coverage(
    framework: Framework, catalog: Catalog, states: Iterable[RequirementState] | None = None
) -> FrameworkCoverage:
    """What is covered of every clause of a framework.

    Another fulfilled answer never lowers a clause's state, and an unmet or contradicted requirement never makes its
    mapping cover the clause.

    Args:
        framework: The clauses and what speaks to them.
        catalog: The requirements that the mappings name, packs included.
        states: Judged requirements of one assessment; None for what the catalog could cover.

    Returns:
        The framework with one entry a clause.
    """
    judged = None if states is None else {state.id: state for state in states}
    clauses = tuple(_clause(clause, catalog, judged) for clause in framework.clauses)
    standings = {item.id: item.standing for found in clauses for item in found.requirements}
    return FrameworkCoverage(
        id=framework.id,
        title=framework.title,
        edition=framework.edition,
        status=framework.status,
        dates=framework.dates,
        assessed=judged is not None,
        clauses=clauses,
        counts=_counts(clauses),
        mapped=len(standings),
        settled=sum(standing.is_settled for standing in standings.values()),
    )


def _counts(clauses: tuple[ClauseCoverage, ...]) -> dict[ClauseState, int]:
    counter = Counter(found.shown for found in clauses)
    return {state: counter[state] for state in ClauseState if counter[state]}


def _clause(clause: Clause, catalog: Catalog, judged: Mapping[str, RequirementState] | None) -> ClauseCoverage:
    parts = [_mapped(item.requirements, catalog, judged) for item in clause.maps]
    found = {item.id: item for part in parts for item in part}
    whole = [part for part, item in zip(parts, clause.maps, strict=True) if item.relationship.is_whole]
    reach = ClauseState.COVERED if whole else ClauseState.PARTLY if parts else ClauseState.NOT_IN_CATALOG
    return ClauseCoverage(
        clause=clause,
        reach=reach,
        state=None if judged is None else _state(whole, tuple(found.values()), reach),
        requirements=tuple(found.values()),
        missing=tuple(item.id for item in found.values() if not item.standing.is_settled),
    )


def _state(
    whole: list[tuple[MappedRequirement, ...]], requirements: tuple[MappedRequirement, ...], reach: ClauseState
) -> ClauseState:
    if reach is ClauseState.NOT_IN_CATALOG:
        return reach
    if any(_covers(part) for part in whole):
        return ClauseState.COVERED
    return ClauseState.PARTLY if any(item.standing.counts for item in requirements) else ClauseState.OPEN


def _covers(part: tuple[MappedRequirement, ...]) -> bool:
    """Whether a whole mapping covers its clause: everything settled, and not all of it merely set aside."""
    standings = {item.standing for item in part}
    return Standing.FULFILLED in standings and all(standing.is_settled for standing in standings)


def _mapped(
    names: tuple[str, ...], catalog: Catalog, judged: Mapping[str, RequirementState] | None
) -> tuple[MappedRequirement, ...]:
    """Requirements of a mapping in its order, areas told one by one, withdrawn ones left out."""
    items: dict[str, Requirement] = {}
    for name in names:
        named = catalog.by_area[name] if name in catalog.by_area else (catalog.by_id[name],)
        items |= {item.id: item for item in named if item.state is State.ACTIVE}
    return tuple(_judged(name, judged) for name in items)


def _judged(name: str, judged: Mapping[str, RequirementState] | None) -> MappedRequirement:
    if judged is None:
        return MappedRequirement(id=name, standing=Standing.NOT_ASSESSED)
    state = judged.get(name)
    if state is None:
        because = _("{name} is not switched on in this assessment", name=dimension_of(name))
        return MappedRequirement(id=name, standing=Standing.NOT_ASSESSED, because=because)
    if not state.applies:
        return MappedRequirement(id=name, standing=Standing.LEFT_OUT, because=state.because)
    if state.contradictions:
        because = _("contradicted by {checks}", checks=", ".join(state.contradictions))
        return MappedRequirement(id=name, standing=Standing.CONTRADICTED, because=because)
    return MappedRequirement(id=name, standing=Standing(state.standing))
