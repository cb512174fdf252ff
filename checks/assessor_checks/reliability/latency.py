"""How long does an answer take on this machine, how many come in a second, and how much memory do they need?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import Field

from assessor.contract import (
    Better,
    Check,
    CheckInfo,
    Metric,
    Need,
    NotApplicable,
    Params,
    Result,
    Series,
    Subject,
    Table,
    Task,
    memory_held,
    progress,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from matplotlib.axes import Axes

    from assessor_checks._intervals import Estimate

SHARES = {"latency_p50": 0.5, "latency_p95": 0.95, "latency_p99": 0.99}
UNSTEADY = 0.25  # coefficient of variation of the medians over a run, from which the machine is too noisy
VARIETY = 16  # different batches in turn, so that no cache answers
_CURVE = tuple(place / 100 for place in range(1, 100))
INFO = CheckInfo(
    id="reliability.latency",
    version="2",
    title="Time and memory of an answer",
    measures=(
        "How long the model takes from features to answer on the machine of this run: median, 95th and 99th percentile "
        "for one request, answers per second at several batch sizes, and the memory needed."
    ),
    unit="milliseconds",
    needs=frozenset({Need.TEST, Need.QUERY}),
    tasks=frozenset(Task),
    limits=(
        "The numbers hold for the machine of this run and its load; only a run on the hardware of operation says how "
        "fast the system is there.",
        "The model alone is timed: no network, no queue, no steps before or after it, no requests at the same time.",
        "Intervals take calls as independent; a machine that slows down and recovers makes them too narrow.",
        "Inputs are rows of the test data; larger or odd ones may take longer.",
        "The 99th percentile needs about 370 calls for an interval.",
    ),
    remedy=(
        "Ask in batches, use a smaller or compiled model, fewer threads or another device; keep the rows' preparation "
        "out of the request; then measure again on the hardware of operation and at its load."
    ),
    source=(
        "quantile intervals between order statistics: David and Nagaraja 2003, Order Statistics, section 7.1; "
        "reporting percentiles and steadiness: Hoefler and Belli 2015, doi 10.1145/2807591.2807644"
    ),
    requirements=("RE-R-SC-ME-06",),
    repeatable=False,
)


class LatencyParams(Params):
    """What the user may set."""

    batch_size: int = Field(default=1, ge=1, le=1_000_000, description="Rows in a request whose latency is measured.")
    batch_sizes: tuple[Annotated[int, Field(ge=1, le=1_000_000)], ...] = Field(
        default=(1, 8, 64, 256), min_length=1, description="Rows in a batch, for answers per second."
    )
    repeats: int = Field(default=500, ge=20, le=1_000_000, description="Requests that are timed.")
    warm_up: int = Field(default=20, ge=0, le=100_000, description="Requests before them that are not timed.")
    seconds: float = Field(default=20.0, gt=0, le=86_400, description="Seconds at most for each batch size.")


class _Run(NamedTuple):
    batch: int
    seconds: np.ndarray  # (k,) of each call, in order


def measure(subject: Subject, params: LatencyParams, seed: int) -> Result:
    """Percentiles of the time for one request, answers per second, memory.

    Args:
        subject: Any that answers new inputs.
        params: Batch sizes and how often.
        seed: Seed of the choice of rows.

    Returns:
        Metrics, the distribution of the latency and the table of batch sizes. Other than elsewhere the numbers differ
        from run to run: they are times.

    Raises:
        NotApplicable: The test split has no features.
    """
    from assessor_checks import _timing

    features = subject.splits["test"].features
    if features is None or not len(features):
        raise NotApplicable("the test split has no features" if features is None else "the test split has no rows")
    runs = {
        batch: _timed(subject, features, batch, params, seed)
        for batch in dict.fromkeys((params.batch_size, *sorted(params.batch_sizes)))
    }
    main = runs[params.batch_size]
    rates = {batch: _rate(run) for batch, run in runs.items() if batch in params.batch_sizes}
    best = max(rates, key=lambda batch: rates[batch].value)
    unsteady = _timing.unsteadiness(main.seconds)
    drift = Metric(
        name="unsteadiness", value=unsteady, n=len(main.seconds), better=Better.LOWER,
        method=f"coefficient of variation of the median latency over {_timing.BLOCKS} consecutive parts of the run",
    )  # fmt: skip
    return Result(
        metrics=(
            *(_percentile(name, share, main) for name, share in SHARES.items()),
            _throughput(rates[best], runs[best]),
            drift,
            *_memory(subject, max(runs)),
        ),
        series=(_distribution(main),),
        tables=(_batches(runs),),
        remarks=_remarks(subject, main, params),
        doubt=_doubt(unsteady),
    )


def _doubt(unsteady: float) -> str | None:
    if unsteady <= UNSTEADY:
        return None
    return (
        f"The machine was too noisy to judge times: the median latency varied by {unsteady:.0%} over the run; "
        "measure again while nothing else runs."
    )


def _timed(subject: Subject, features: np.ndarray, batch: int, params: LatencyParams, seed: int) -> _Run:
    """Time requests of one batch size; rows are picked and laid out before the clock starts."""
    import numpy as np

    from assessor_checks import _timing

    progress(f"batches of {batch}", 0, params.repeats)
    rng = np.random.default_rng([seed, batch])
    batches = [features[rng.integers(0, len(features), size=batch)] for _ in range(VARIETY)]
    wait = _waiting(subject.device)

    def call(number: int) -> None:
        subject.query(batches[number % VARIETY])
        wait()

    wait()
    found = _timing.durations(
        call, params.repeats, warm_up=params.warm_up, seconds=params.seconds, clock=time.perf_counter
    )
    return _Run(batch, found)


def _waiting(device: str) -> Callable[[], None]:
    """Waits until the device has done all its work; CPU calls are done when they return."""
    if not device.startswith("cuda"):
        return lambda: None
    import torch

    return lambda: torch.cuda.synchronize(device)


def _percentile(name: str, share: float, run: _Run) -> Metric:
    import math

    from assessor_checks._intervals import CONFIDENCE
    from assessor_checks._timing import quantile

    value, low, high = (1000 * end for end in quantile(run.seconds, share))
    known = math.isfinite(high)
    method = f"requests of {run.batch} rows, {len(run.seconds)} timed; 95 % between order statistics"
    return Metric(
        name=name,
        value=value,
        low=low if known else None,
        high=high if known else None,
        confidence=CONFIDENCE if known else None,
        unit="milliseconds",
        n=len(run.seconds),
        better=Better.LOWER,
        method=method if known else f"{method}: too few requests for an interval",
        primary=name == "latency_p95",
    )


def _rate(run: _Run) -> Estimate:
    """Rows a second at the median duration."""
    import math

    from assessor_checks._intervals import Estimate
    from assessor_checks._timing import quantile

    value, low, high = (max(end, 1e-9) for end in quantile(run.seconds, 0.5))
    return Estimate(run.batch / value, run.batch / high if math.isfinite(high) else 0.0, run.batch / low)


def _throughput(rate: Estimate, run: _Run) -> Metric:
    from assessor_checks._intervals import CONFIDENCE

    return Metric(
        name="throughput", value=rate.value, low=rate.low, high=rate.high, confidence=CONFIDENCE,
        unit="answers per second", n=len(run.seconds), better=Better.HIGHER,
        method=f"rows over the median time of batches of {run.batch}, the quickest size; 95 % from that of the median",
    )  # fmt: skip


def _memory(subject: Subject, largest: int) -> tuple[Metric, ...]:
    """Most memory held: on CUDA what the device had allocated, else all of this process and of the model's own."""
    held = memory_held()
    if held is None:
        return ()
    if subject.device.startswith("cuda"):
        method = f"most memory allocated on the device during this check, batches of {largest} rows included"
    else:
        method = (
            "most memory held, on Linux during this check, elsewhere up to now; the tool, the data, batches of "
            f"{largest} rows and the processes of the model included"
        )
    value = held / 2**20
    return (Metric(name="peak_memory", value=value, unit="MiB", n=1, better=Better.LOWER, method=method),)


def _distribution(run: _Run) -> Series:
    import numpy as np

    values = 1000 * np.quantile(run.seconds, _CURVE)
    return Series(
        name="latency",
        title="Distribution of the latency in milliseconds",
        columns={"share": _CURVE, "milliseconds": tuple(values.tolist())},
    )


def _batches(runs: dict[int, _Run]) -> Table:
    from assessor_checks._timing import quantile

    rows = tuple(
        (
            batch,
            len(run.seconds),
            *(1000 * quantile(run.seconds, share).value for share in SHARES.values()),
            _rate(run).value,
        )
        for batch, run in sorted(runs.items())
    )
    columns = ("rows in a batch", "timed", "median ms", "95th percentile ms", "99th percentile ms", "answers a second")
    return Table(name="batches", title="Time by batch size", columns=columns, rows=rows)


def _remarks(subject: Subject, run: _Run, params: LatencyParams) -> tuple[str, ...]:
    import sys

    threads = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
    found = [f"Measured on {subject.device} of this machine; another machine or load gives other numbers."]
    if threads is not None and Need.GRADIENTS in subject.offers and not subject.device.startswith("cuda"):
        found.append(f"Threads that PyTorch used: {threads}.")
    if len(run.seconds) < params.repeats:
        found.append(f"Time ran out after {len(run.seconds)} of {params.repeats} requests.")
    return tuple(found)


def plot(result: Result, axes: Axes) -> None:
    """Share of requests answered within a time."""
    columns = result.series[0].arrays
    axes.plot(columns["milliseconds"], columns["share"], color="black")
    axes.set_ylim(0, 1)
    axes.set_xlabel("milliseconds")
    axes.set_ylabel("share of requests answered by then")


CHECK = Check(info=INFO, params=LatencyParams, measure=measure, plot=plot)
