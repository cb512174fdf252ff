"""reliability.latency end to end; times are times, so only what must hold of any machine is asserted."""

import time

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression

from assessor.contract import Better, NotApplicable, Split, Task, metering
from assessor.subjects.predictions import PredictionsSubject
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.subjects.torch_module import TorchSubject
from assessor_checks.reliability import latency
from assessor_checks.reliability.latency import CHECK, LatencyParams

matplotlib.use("Agg")


def split(x):
    return Split("test", np.arange(len(x)) % 2, "0", features=x)


def estimator(n=40):
    x = np.random.default_rng(0).standard_normal((n, 3))
    model = LogisticRegression().fit(x, np.arange(n) % 2)
    return SklearnSubject(model, Task.BINARY, ("0", "1"), {"test": split(x)})


class Busy(torch.nn.Module):
    """Takes at least so many seconds for every row."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds, self.rows = seconds, []

    def forward(self, x):
        self.rows.append(len(x))
        until = time.perf_counter() + self.seconds * len(x)
        while time.perf_counter() < until:
            pass
        return x.sum(dim=1)


def module(seconds):
    x = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32)
    return TorchSubject(Busy(seconds), Task.BINARY, ("0", "1"), {"test": split(x)})


def run(found, seed=0, **params):
    with metering(lambda: 300 * 2**20):
        return CHECK.measure(found, LatencyParams(**{"repeats": 40, "warm_up": 2, **params}), seed)


def test_tells_everything():
    result = run(estimator(), repeats=400)
    assert [metric.name for metric in result.metrics] == [
        "latency_p50",
        "latency_p95",
        "latency_p99",
        "throughput",
        "unsteadiness",
        "peak_memory",
    ]
    p50, p95, p99, throughput = result.metrics[:4]
    assert [metric.name for metric in result.metrics if metric.primary] == ["latency_p95"]
    assert 0 < p50.low <= p50.value <= p95.value <= p99.value <= p99.high
    assert {metric.unit for metric in result.metrics[:3]} == {"milliseconds"}
    assert p95.method == "requests of 1 rows, 400 timed; 95 % between order statistics"
    assert (throughput.unit, throughput.better) == ("answers per second", Better.HIGHER)
    assert throughput.low <= throughput.value <= throughput.high
    assert result.metric("peak_memory").value == 300
    assert "batches of 256 rows and the processes of the model included" in result.metric("peak_memory").method
    assert result.remarks == ("Measured on cpu of this machine; another machine or load gives other numbers.",)
    (table,) = result.tables
    assert [row[0] for row in table.rows] == [1, 8, 64, 256]
    assert max(row[5] for row in table.rows) == pytest.approx(throughput.value)
    assert result.series[0].columns["milliseconds"][49] == pytest.approx(p50.value, rel=0.1)


def test_planted_delay_and_quick_twin():
    slow, quick = (run(module(seconds), batch_sizes=(1,)) for seconds in (0.004, 0.0))
    assert slow.metric("latency_p50").low > 3.9
    assert slow.metric("throughput").high < 260
    assert quick.metric("latency_p50").high < slow.metric("latency_p50").low
    assert slow.remarks[1] == "Threads that PyTorch used: 1."


def test_batches_are_as_large_as_asked_and_time_runs_out():
    found = module(0.001)
    result = run(found, batch_size=2, batch_sizes=(5,), repeats=1000, seconds=0.05)
    assert set(found.module.rows) == {2, 5}
    assert 20 <= result.metric("latency_p95").n < 1000
    assert result.remarks[-1].startswith("Time ran out after ")
    assert [row[0] for row in result.tables[0].rows] == [2, 5]
    assert "batches of 5, the quickest size" in result.metric("throughput").method


def test_too_few_requests_have_no_interval():
    result = run(estimator(), repeats=20, batch_sizes=(1,))
    p99 = result.metric("latency_p99")
    assert (p99.low, p99.high, p99.confidence) == (None, None, None)
    assert p99.method.endswith("too few requests for an interval")


def test_a_noisy_machine_is_not_judged():
    assert latency._doubt(0.1) is None
    assert latency._doubt(0.4).startswith("The machine was too noisy to judge times: the median latency varied by 40%")


def test_no_memory_without_an_engine_that_tells_it():
    found = CHECK.measure(estimator(), LatencyParams(repeats=40, warm_up=2), 0)
    assert "peak_memory" not in {metric.name for metric in found.metrics}


def test_refused():
    table = PredictionsSubject(Task.BINARY, ("0", "1"), {"test": Split("test", np.zeros(2, int), "0")}, {}, {})
    with pytest.raises(NotApplicable, match="no features"):
        run(table)
    empty = estimator()
    empty.splits["test"] = split(np.zeros((0, 3)))
    with pytest.raises(NotApplicable, match="no rows"):
        run(empty)
    for wrong in ({"repeats": 5}, {"batch_sizes": ()}, {"batch_size": 0}, {"seconds": 0}):
        with pytest.raises(ValidationError):
            LatencyParams(**wrong)


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(estimator()), axes)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("milliseconds", "share of requests answered by then")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda():
    x = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32)
    found = TorchSubject(torch.nn.Linear(3, 2), Task.BINARY, ("0", "1"), {"test": split(x)}, device="cuda:0")
    result = run(found)
    assert "allocated on the device" in result.metric("peak_memory").method
    assert len(result.remarks) == 1
