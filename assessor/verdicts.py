"""Judging one check: its interval against the target. Three-valued; nothing unmeasured ever counts as a pass."""

from __future__ import annotations

from assessor.contract import Metric, Result
from assessor.errors import nearest
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
        return f"{value:.3g}"
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.4g}"


def shown_metric(metric: Metric) -> str:
    """Name, value, unit and interval of a metric.

    >>> from assessor.contract import Better
    >>> shown_metric(Metric(name="accuracy", value=0.5, low=0.4, high=0.6, n=9, better=Better.HIGHER, method="Wilson"))
    'accuracy 0.5 [0.4, 0.6]'
    """
    unit = "" if metric.unit == "1" else f" {metric.unit}"
    interval = "" if metric.low is None or metric.high is None else f" [{shown(metric.low)}, {shown(metric.high)}]"
    return f"{metric.name} {shown(metric.value)}{unit}{interval}"


def shown_interval(interval: Interval) -> str:
    """A target interval in words and signs.

    >>> shown_interval((0.8, None)), shown_interval((None, 0.1)), shown_interval((0, 0.1))
    ('at least 0.8', 'at most 0.1', '0 to 0.1')
    """
    low, high = interval
    if low is None:
        return f"at most {shown(high)}" if high is not None else "any"
    return f"at least {shown(low)}" if high is None else f"{shown(low)} to {shown(high)}"


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
        doubt = f". {result.doubt}" if result.doubt else ""
        return Outcome(status=Status.MEASURED, sentence=f"{shown_metric(primary)}; no target was set{doubt}")
    metric = _meant(result, target.metric)
    if metric is None:
        names = [metric.name for metric in result.metrics]
        hint = nearest(str(target.metric), names) or f"; measured were {', '.join(names)}"
        return Outcome(status=Status.ERROR, sentence=f"the target names a metric '{target.metric}'{hint}")
    wanted = f"the target of {shown_interval(target.interval)}"
    if result.doubt:
        return Outcome(status=Status.INCONCLUSIVE, sentence=f"{shown_metric(metric)}. Not judged: {result.doubt}")
    if metric.low is None or metric.high is None:
        why = f"n = {metric.n} gives no interval"
        return Outcome(status=Status.INCONCLUSIVE, sentence=f"{shown_metric(metric)} against {wanted}: {why}")
    return _compare(metric, metric.low, metric.high, target.interval, wanted)


def _meant(result: Result, name: str | None) -> Metric | None:
    for metric in result.metrics:
        if metric.name == name or (name is None and metric.primary):
            return metric
    return result.metrics[0] if name is None else None


def _compare(metric: Metric, low: float, high: float, interval: Interval, wanted: str) -> Outcome:
    bottom = float("-inf") if interval[0] is None else interval[0]
    top = float("inf") if interval[1] is None else interval[1]
    if bottom <= low and high <= top:
        return Outcome(status=Status.PASS, sentence=f"{shown_metric(metric)} lies inside {wanted}")
    if high < bottom or low > top:
        return Outcome(status=Status.FAIL, sentence=f"{shown_metric(metric)} lies outside {wanted}")
    return Outcome(
        status=Status.INCONCLUSIVE,
        sentence=f"{shown_metric(metric)} lies across {wanted}: {metric.n} samples cannot tell",
    )


def judged_against(run: CheckRun, target: Target | None) -> bool:
    """Whether a stored outcome was judged against this very target."""
    if run.target is None or target is None:
        return run.target is None and target is None
    return (run.target.metric, run.target.interval, run.target.because) == (
        target.metric,
        target.interval,
        target.because,
    )
