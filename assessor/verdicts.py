"""Judging one check: its interval against the target. Three-valued; nothing unmeasured ever counts as a pass."""

from __future__ import annotations

from assessor.contract import Metric, Result
from assessor.errors import nearest
from assessor.messages import SOURCE, _, language, localised_digits, retold
from assessor.model import (
    CheckRun,
    Interval,
    JudgedTarget,
    Outcome,
    Status,
    Target,
)


def shown(value: float) -> str:
    """A number for people: four significant digits, no exponent for ordinary sizes.

    >>> shown(0.123456), shown(12345.678), shown(1e-7), shown(3.0)
    ('0.1235', '12346', '1e-07', '3')
    """
    if value != 0 and not 1e-4 <= abs(value) < 1e7:
        return localised_digits(f"{value:.3g}")
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return localised_digits(f"{value:.4g}")


def shown_name(metric: Metric) -> str:
    """Name of a metric in the language in use; in English the very name that targets use."""
    return metric.name if language() == SOURCE else _(metric.name.replace("_", " "))


def told(run: CheckRun) -> str:
    """The outcome's sentence in the language in use.

    A judged outcome is put into words anew from its numbers; any other sentence is told again from its template.
    """
    if language() == SOURCE:
        return run.outcome.sentence
    if run.result is not None:
        again = judge(run.result, run.target)
        if again.status is run.outcome.status:
            return again.sentence
    return retold(run.outcome.sentence)


def shown_metric(metric: Metric) -> str:
    """Name, value, unit and interval of a metric.

    >>> from assessor.contract import Better
    >>> shown_metric(Metric(name="accuracy", value=0.5, low=0.4, high=0.6, n=9, better=Better.HIGHER, method="Wilson"))
    'accuracy 0.5 [0.4, 0.6]'
    """
    unit = "" if metric.unit == "1" else f" {retold(metric.unit)}"
    interval = "" if metric.low is None or metric.high is None else f" {shown_ends(metric.low, metric.high)}"
    return f"{shown_name(metric)} {shown(metric.value)}{unit}{interval}"


def shown_ends(low: float, high: float) -> str:
    """An interval as two numbers in brackets; with decimal commas a semicolon divides them."""
    divider = ", " if language() == SOURCE else "; "
    return f"[{shown(low)}{divider}{shown(high)}]"


def shown_interval(interval: Interval) -> str:
    """A target interval in words and signs.

    >>> shown_interval((0.8, None)), shown_interval((None, 0.1)), shown_interval((0, 0.1))
    ('at least 0.8', 'at most 0.1', '0 to 0.1')
    """
    low, high = interval
    if low is None:
        return _("at most {high}", high=shown(high)) if high is not None else _("any")
    if high is None:
        return _("at least {low}", low=shown(low))
    return _("{low} to {high}", low=shown(low), high=shown(high))


def judge(result: Result, target: JudgedTarget | Target | None) -> Outcome:
    """Compare a result's interval with the target.

    Args:
        result: What the check measured.
        target: What the user wants, or None.

    Returns:
        pass: the interval lies inside the target. fail: outside. inconclusive: across an end, or the check doubts its
        own numbers, or gives no interval. measured: no target. error: the target names a metric that was not measured.
    """
    if target is None:
        primary = next((metric for metric in result.metrics if metric.primary), result.metrics[0])
        doubt = f". {retold(result.doubt)}" if result.doubt else ""
        sentence = _("{metric}; no target was set", metric=shown_metric(primary)) + doubt
        return Outcome(status=Status.MEASURED, sentence=sentence)
    metric = _meant(result, target.metric)
    if metric is None:
        names = [metric.name for metric in result.metrics]
        hint = nearest(str(target.metric), names) or _("; measured were {names}", names=", ".join(names))
        sentence = _("the target names a metric '{name}'", name=target.metric) + hint
        return Outcome(status=Status.ERROR, sentence=sentence)
    if result.doubt:
        sentence = _("{metric}. Not judged: {doubt}", metric=shown_metric(metric), doubt=retold(result.doubt))
        return Outcome(status=Status.INCONCLUSIVE, sentence=sentence)
    if metric.low is None or metric.high is None:
        sentence = _(
            "{metric} against the target of {wanted}: n = {n} gives no interval",
            metric=shown_metric(metric),
            wanted=shown_interval(target.interval),
            n=metric.n,
        )
        return Outcome(status=Status.INCONCLUSIVE, sentence=sentence)
    return _compare(metric, metric.low, metric.high, target.interval)


def _meant(result: Result, name: str | None) -> Metric | None:
    for metric in result.metrics:
        if metric.name == name or (name is None and metric.primary):
            return metric
    return result.metrics[0] if name is None else None


def _compare(metric: Metric, low: float, high: float, interval: Interval) -> Outcome:
    bottom = float("-inf") if interval[0] is None else interval[0]
    top = float("inf") if interval[1] is None else interval[1]
    said, wanted = shown_metric(metric), shown_interval(interval)
    if bottom <= low and high <= top:
        sentence = _("{metric} lies inside the target of {wanted}", metric=said, wanted=wanted)
        return Outcome(status=Status.PASS, sentence=sentence)
    if high < bottom or low > top:
        sentence = _("{metric} lies outside the target of {wanted}", metric=said, wanted=wanted)
        return Outcome(status=Status.FAIL, sentence=sentence)
    sentence = _(
        "{metric} lies across the target of {wanted}: {n} samples cannot tell", metric=said, wanted=wanted, n=metric.n
    )
    return Outcome(status=Status.INCONCLUSIVE, sentence=sentence)


def judged_against(run: CheckRun, target: Target | None) -> bool:
    """Whether a stored outcome was judged against this very target."""
    if run.target is None or target is None:
        return run.target is None and target is None
    return (run.target.metric, run.target.interval, run.target.because) == (
        target.metric,
        target.interval,
        target.because,
    )
