"""Two assessments beside each other: what got better or worse, appeared or went.

Numbers are compared by a test, not by whether their intervals overlap (overlapping 95 % intervals of two equal values
happen in 99 % of cases, and of two different ones often). From the interval of each the interval of the difference
follows by the method of variance estimates recovery (Zou and Donner 2008, Stat. Med. 27:1693, equations 2 and 3), and
from its distance to 0 the p-value. One number a check is tested, the one that is judged, and all tests together keep
their level (Holm 1979). Both sides are taken as independent samples: on the same rows that is cautious. So where both
results hold what their number is the mean of, row by row and on the same rows, they are tested in pairs (paired_test).

Where a tolerance is given, the test is not of no difference but of one that is at most as large: a number got worse
where the interval of its difference lies beyond the tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from enum import StrEnum
from statistics import NormalDist
from typing import Any

from assessor.claims import Claims
from assessor.contract import Better, Frozen, Metric
from assessor.errors import UsageError
from assessor.messages import _
from assessor.model import CheckRun, Status, Verdict
from assessor.paired_test import Pairs, difference_in_pairs, pairs_of

LEVEL = 0.05
VERDICTS = (Verdict.NOT_FULFILLED, Verdict.PARTLY, Verdict.FULFILLED)  # from worst to best
OUTCOMES = (Status.FAIL, Status.INCONCLUSIVE, Status.PASS)


class Change(StrEnum):
    """What became of something from the first assessment to the second."""

    BETTER = "better"
    WORSE = "worse"
    CHANGED = "changed"
    NOT_SHOWN = "no change shown"
    SAME = "the same"
    NOT_COMPARABLE = "not comparable"
    APPEARED = "appeared"
    WENT = "went"


class NumberChange(Frozen):
    """The judged number of one check in both assessments.

    Attributes:
        check: Id of the check.
        metric: Its judged metric.
        unit: Of it.
        before: In the first assessment.
        after: In the second.
        difference: Second less first.
        low: Lower end of its 95 % interval; None where a side has no interval and rows are not in pairs.
        high: Upper end.
        p_value: Of no difference beyond the tolerance; None where a side has no interval.
        p_holm: The same for all tests of this comparison together.
        change: The verdict on it.
        because: Why it is not comparable, or empty.
        tolerance: Largest difference that counts as none.
        pairs: What became of the same rows, where they were tested in pairs.
    """

    check: str
    metric: str
    unit: str
    before: Metric
    after: Metric
    difference: float
    low: float | None
    high: float | None
    p_value: float | None
    p_holm: float | None
    change: Change
    because: str
    tolerance: float = 0.0
    pairs: Pairs | None = None

    @property
    def told_test(self) -> str:
        """Which test it was put to; empty where to none."""
        if self.p_value is None:
            return ""
        if self.pairs is None:
            return _("two samples")
        return _("same {n} rows: {rose} rose, {fell} fell", **self.pairs.model_dump())


class Shift(Frozen):
    """Something that has a word on each side: outcome of a check, verdict on a requirement, a residual risk.

    Attributes:
        kind: "outcome", "self", "auditor", "residual risk", "contradiction", "subject" or "catalog".
        id: Of what.
        before: Word on the first side; None where it was not there.
        after: Word on the second side.
        change: What that is.
    """

    kind: str
    id: str
    before: str | None
    after: str | None
    change: Change


class Comparison(Frozen):
    """Two assessments beside each other.

    Attributes:
        before: File, report and system of the first.
        after: The same of the second.
        same_rows: Whether both measured the same test rows.
        numbers: The judged number of every check that both measured.
        shifts: All else that is not the same.
    """

    before: Mapping[str, str]
    after: Mapping[str, str]
    same_rows: bool
    numbers: tuple[NumberChange, ...]
    shifts: tuple[Shift, ...]

    @property
    def worse(self) -> bool:
        """Whether anything got worse; what was measured before and is not now counts."""
        lost = any(shift.kind == "outcome" and shift.change is Change.WENT for shift in self.shifts)
        return lost or Change.WORSE in self.changes

    @property
    def changes(self) -> list[Change]:
        """What became of every number and everything else."""
        return [*(item.change for item in self.numbers), *(shift.change for shift in self.shifts)]


def compare(before: Claims, after: Claims) -> Comparison:
    """Compare two assessments or reports.

    Args:
        before: The first.
        after: The second.

    Returns:
        What is not the same.

    Raises:
        UsageError: A record is not readable, or nothing is in common.
    """
    numbers = compare_numbers(before.runs, after.runs)
    try:
        shifts = (
            *_subjects(before, after),
            *_outcomes(before, after),
            *_verdicts(before.record, after.record),
            *_contradictions(before.record, after.record),
            *_risks(before.record, after.record),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as fault:
        raise UsageError(
            f"{before.where} and {after.where}: a record lacks {fault}; compare what one version wrote"
        ) from fault
    return Comparison(
        before=_name(before), after=_name(after), same_rows=_same_rows(before, after), numbers=numbers, shifts=shifts
    )


def _name(claims: Claims) -> dict[str, str]:
    system = claims.configuration.system
    return {"name": claims.where, "report": claims.report_id, "system": f"{system.name} {system.version}"}


def _same_rows(before: Claims, after: Claims) -> bool:
    digests = [
        {run.subject.data["test"].sha256 for run in claims.runs.values() if "test" in run.subject.data}
        for claims in (before, after)
    ]
    return bool(digests[0]) and digests[0] == digests[1]


# --- numbers ---------------------------------------------------------------------------------------------------------


def compare_numbers(
    before: Mapping[str, CheckRun], after: Mapping[str, CheckRun], tolerance: Mapping[str, float] | None = None
) -> tuple[NumberChange, ...]:
    """The judged number of every check that both sides measured, tested together.

    Args:
        before: Results by check id.
        after: Later results.
        tolerance: Largest difference that counts as none, by check id.

    Returns:
        One a check.
    """
    allowed = tolerance or {}
    shared = [name for name in before if name in after]
    found = [_number(before[name], after[name], allowed.get(name, 0.0)) for name in shared]
    return _tested([item for item in found if item is not None])


def _number(before: CheckRun, after: CheckRun, tolerance: float) -> NumberChange | None:
    """The judged number of a check, not yet tested; None where a side has none."""
    one = before.judged_metric
    two = next((metric for metric in after.metrics if one is not None and metric.name == one.name), None)
    if one is None or two is None:
        return None
    same = one == two and before.subject == after.subject  # the same measurement: there is nothing to test
    because = "" if same else _unlike(before, after, one, two)
    pairs = None if because or same else _pairs(before, after, one.name)
    low, high, p_value = (None, None, None)
    if pairs is not None:
        low, high, p_value = difference_in_pairs(pairs, tolerance)
    elif not because and not same:
        low, high, p_value = difference_of(one, two, tolerance)
    return NumberChange(
        check=before.check,
        metric=one.name,
        unit=one.unit,
        before=one,
        after=two,
        difference=two.value - one.value,
        low=low,
        high=high,
        p_value=p_value,
        p_holm=None,
        change=Change.NOT_COMPARABLE if because else Change.SAME if same else Change.NOT_SHOWN,
        because=because,
        tolerance=tolerance,
        pairs=pairs,
    )


def _pairs(before: CheckRun, after: CheckRun, metric: str) -> Pairs | None:
    """What became of the rows of both, where both tell of the same ones."""
    one, two = (next((item for item in run.outcomes if item.metric == metric), None) for run in (before, after))
    return pairs_of(one, two) if one is not None and two is not None else None


def _unlike(before: CheckRun, after: CheckRun, one: Metric, two: Metric) -> str:
    """Why two numbers mean different things, or nothing."""
    if before.check_version != after.check_version:
        return _("version {one} of the check and version {two}", one=before.check_version, two=after.check_version)
    if before.params != after.params:
        names = sorted({*before.params, *after.params})
        other = [name for name in names if before.params.get(name) != after.params.get(name)]
        return _("other parameters: {names}", names=", ".join(other))
    if (one.unit, one.better) != (two.unit, two.better):
        return _("other units")
    if before.doubt or after.doubt:
        return _("the check doubts its own numbers")
    return ""


def difference_of(
    before: Metric, after: Metric, tolerance: float = 0.0
) -> tuple[float | None, float | None, float | None]:
    """Interval of after less before, and the p-value of no difference beyond a tolerance, from the interval of each.

    With values a, b and intervals [la, ua], [lb, ub] the ends are d - sqrt((b - lb)^2 + (ua - a)^2) and
    d + sqrt((ub - b)^2 + (a - la)^2), d = b - a. The p-value takes the half-width towards 0 as that of a normal
    distribution around the tolerance, so that it is 5 % where the end of a 95 % interval is the tolerance.

    Args:
        before: With an interval.
        after: With an interval of the same confidence.
        tolerance: Largest difference, either way, that counts as none.

    Returns:
        Lower end, upper end, p-value; all None where a side has no interval or another confidence.
    """
    if None in {before.low, before.high, after.low, after.high} or before.confidence != after.confidence:
        return None, None, None
    assert before.low is not None
    assert before.high is not None
    assert after.low is not None
    assert after.high is not None
    found = after.value - before.value
    down = math.hypot(after.value - after.low, before.high - before.value)
    up = math.hypot(after.high - after.value, before.value - before.low)
    towards = down if found > 0 else up
    beyond = abs(found) - tolerance
    if beyond <= 0:
        p_value = 1.0
    elif towards == 0:
        p_value = 0.0
    else:
        scale = NormalDist().inv_cdf((1 + (before.confidence or 0.95)) / 2)
        p_value = 2 * NormalDist().cdf(-beyond * scale / towards)
    return found - down, found + up, p_value


def _tested(numbers: list[NumberChange]) -> tuple[NumberChange, ...]:
    """With Holm's p-values and the verdict of each."""
    order = sorted((item.p_value, place) for place, item in enumerate(numbers) if item.p_value is not None)
    adjusted: dict[int, float] = {}
    largest = 0.0
    for rank, (p_value, place) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_value))
        adjusted[place] = largest
    return tuple(
        item.model_copy(update={"p_holm": adjusted.get(place), "change": _change(item, adjusted.get(place))})
        for place, item in enumerate(numbers)
    )


def _change(item: NumberChange, p_holm: float | None) -> Change:
    if item.change is not Change.NOT_SHOWN:
        return item.change
    if p_holm is None or p_holm > LEVEL:
        return Change.NOT_SHOWN
    if item.before.better is Better.NONE:
        return Change.CHANGED
    return Change.BETTER if (item.difference > 0) == (item.before.better is Better.HIGHER) else Change.WORSE


# --- words -----------------------------------------------------------------------------------------------------------


def _shift(kind: str, name: str, before: str | None, after: str | None, order: tuple[str, ...] = ()) -> Iterable[Shift]:
    """A shift where the words are not the same; better or worse where both have a place in the order."""
    if before == after:
        return
    if before is None or after is None:
        change = Change.APPEARED if before is None else Change.WENT
    elif before in order and after in order:
        change = Change.BETTER if order.index(after) > order.index(before) else Change.WORSE
    else:
        change = Change.CHANGED
    yield Shift(kind=kind, id=name, before=before, after=after, change=change)


def _subjects(before: Claims, after: Claims) -> Iterable[Shift]:
    one, two = (claims.record["catalog"] for claims in (before, after))
    yield from _shift("catalog", one["id"], str(one["version"]), str(two["version"]))
    digests = [_digests(claims) for claims in (before, after)]
    for name in sorted({*digests[0], *digests[1]}):
        yield from _shift("subject", name, digests[0].get(name), digests[1].get(name))


def _digests(claims: Claims) -> dict[str, str]:
    """Digests of model and data by name; several where not all results are about the same thing."""
    found: dict[str, set[str]] = {}
    for run in claims.runs.values():
        if run.subject.model_sha256 is not None:
            found.setdefault("model", set()).add(run.subject.model_sha256)
        for name, split in run.subject.data.items():
            found.setdefault(f"{name} data", set()).add(split.sha256)
    return {name: " ".join(sorted(several)) for name, several in found.items()}


def _outcomes(before: Claims, after: Claims) -> Iterable[Shift]:
    for name in sorted({*before.runs, *after.runs}):
        one, two = (
            claims.runs[name].outcome.status.value if name in claims.runs else None for claims in (before, after)
        )
        yield from _shift("outcome", name, one, two, tuple(status.value for status in OUTCOMES))


def _verdicts(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterable[Shift]:
    order: tuple[str, ...] = tuple(verdict.value for verdict in VERDICTS)
    states = [_requirements(record) for record in (before, after)]
    for name in dict.fromkeys([*states[0], *states[1]]):
        for kind, field in (("self", "self_verdict"), ("auditor", "auditor_verdict")):
            one, two = (_stated(found[name][field]) if name in found else None for found in states)
            yield from _shift(kind, name, one, two, order)


def _stated(word: str) -> str | None:
    return None if word == Verdict.NOT_ASSESSED else word


def _requirements(record: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {
        state["id"]: state
        for dimension in record["judgement"]
        for area in dimension["areas"]
        for state in area["requirements"]
    }


def _contradictions(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterable[Shift]:
    found = [
        {
            f"{item['requirement']} and {item['check']}"
            for dimension in record["judgement"]
            for item in dimension["contradictions"]
        }
        for record in (before, after)
    ]
    for name in sorted(found[0] ^ found[1]):
        there = [name in one for one in found]
        change = Change.BETTER if there[0] else Change.WORSE
        one, two = ("contradiction" if found else None for found in there)
        yield Shift(kind="contradiction", id=name, before=one, after=two, change=change)


def _risks(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterable[Shift]:
    order = ("unacceptable", "acceptable", "negligible")
    risks = [
        {item["id"]: item["rating"]["risk"] for item in record["judgement"] if item["rating"]}
        for record in (before, after)
    ]
    for name in dict.fromkeys([*risks[0], *risks[1]]):
        yield from _shift("residual risk", name, risks[0].get(name), risks[1].get(name), order)
