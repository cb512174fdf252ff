"""reliability.determinism: dropout, batch statistics, state, chance and threads are found; clean models pass."""

import random

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from pydantic import ValidationError
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier

from assessor.contract import Better, NotApplicable, Split, Task
from assessor.subjects.predictions import PredictionsSubject
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.subjects.torch_module import TorchSubject
from assessor_checks._intervals import clopper_pearson
from assessor_checks.reliability import _repeats
from assessor_checks.reliability.determinism import CHECK, DeterminismParams

matplotlib.use("Agg")
WAYS = [
    "the same rows again",
    "with other random numbers",
    "in another order",
    "after other rows",
    "in batches of 7",
    "one at a time",
    "with another number of threads",
]


def rows(n=200, seed=0):
    return np.random.default_rng(seed).standard_normal((n, 4)).astype(np.float32)


def subject(module, n=200, task=Task.BINARY):
    x = rows(n)
    labels = np.arange(n) % 2 if task is Task.BINARY else x[:, 0].astype(float)
    classes = ("0", "1") if task is Task.BINARY else ()
    return TorchSubject(module, task, classes, {"test": Split("test", labels, "0", features=x)})


def estimator(model, y=None, task=Task.BINARY):
    x = rows().astype(float)
    model.fit(x, (x[:, 0] > 0).astype(int) if y is None else y)
    found = Split("test", np.zeros(200, int), "0", features=x)
    return SklearnSubject(model, task, ("0", "1") if task is Task.BINARY else (), {"test": found})


class Plain(torch.nn.Module):
    def forward(self, x):
        return x.sum(dim=1)


class Dropping(torch.nn.Module):
    """Dropout that eval mode does not turn off."""

    def forward(self, x):
        return torch.nn.functional.dropout(x, 0.3, training=True).sum(dim=1)


class ByCompany(torch.nn.Module):
    """Normalises by the batch, as batch normalisation in training mode does."""

    def forward(self, x):
        return (x - x.mean(dim=0)).sum(dim=1)


class Remembering(torch.nn.Module):
    """Its answers drift with every request."""

    def __init__(self):
        super().__init__()
        self.register_buffer("asked", torch.zeros(()))

    def forward(self, x):
        self.asked += 1
        return x.sum(dim=1) + 0.2 * self.asked


class Rounding(torch.nn.Module):
    """Adds in an order that depends on the number of rows, in half precision."""

    def forward(self, x):
        parts = x if len(x) % 2 else x.flip(1)
        total = torch.zeros(len(x))
        for part in (1e3 * parts).T:
            total = (total + part).half().float()
        return total / 1e3


def run(found, seed=0, **params):
    return CHECK.measure(found, DeterminismParams(**params), seed)


def shares(result):
    return {row[0]: row[2] for row in result.tables[0].rows}


def test_a_clean_model_tells_everything():
    result = run(subject(Plain()), max_samples=150)
    assert [metric.name for metric in result.metrics] == ["changed_predictions", "changed_scores", "largest_difference"]
    changed = result.metric("changed_predictions")
    assert changed.primary
    assert (changed.value, changed.low, changed.high, changed.n) == (0, 0, clopper_pearson(0, 150).high, 150)
    assert {metric.better for metric in result.metrics} == {Better.LOWER}
    assert result.metric("largest_difference").value < 1e-6
    assert result.remarks == ("150 of 200 test rows in 7 variations.",)
    table = result.tables[0]
    assert [row[0] for row in table.rows] == WAYS
    assert [row[1] for row in table.rows] == [150] * 5 + [64, 150]
    assert table.rows[0][4] == 1.0


@pytest.mark.parametrize(
    ("module", "found", "spared"),
    [
        (Dropping(), WAYS, []),
        (ByCompany(), ["in batches of 7", "one at a time"], WAYS[:4]),
        (Remembering(), WAYS, []),
    ],
)
def test_planted_defects_are_found_where_they_show(module, found, spared):
    result = run(subject(module))
    assert result.metric("changed_predictions").low > 0.03
    assert result.metric("changed_scores").value > 0.9
    assert result.metric("largest_difference").value > 0.01
    assert all(shares(result)[name] > 0 for name in found)
    assert all(shares(result)[name] == 0 for name in spared)


def test_rounding_is_told_and_the_tolerance_decides():
    module = Rounding()
    strict, loose = (run(subject(module), tolerance=tolerance) for tolerance in (0.0, 0.01))
    assert strict.metric("changed_scores").value > 0.1
    assert loose.metric("changed_scores").value == 0
    assert 0 < loose.metric("largest_difference").value < 0.01
    assert loose.tables[0].rows[5][4] < 1


def test_state_of_the_world_is_kept():
    found = subject(Remembering())
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    run(found)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]
    assert torch.get_num_threads() == 1
    assert found.module.asked == 0


def test_layers_in_training_mode_are_named():
    module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))
    found = subject(module)
    assert len(run(found).remarks) == 1
    module[1].train()
    result = run(found)
    assert result.remarks[1] == "These parts of the module are in training mode and may change answers: 1."
    assert result.metric("changed_scores").low > 0.9


def test_estimators():
    result = run(estimator(LogisticRegression()))
    assert result.metric("changed_predictions").value == 0
    assert result.remarks[1] == "Another number of threads was not tried: the subject is no PyTorch module."
    assert [row[0] for row in result.tables[0].rows] == WAYS[:6]

    hard = run(estimator(RidgeClassifier()))
    assert [metric.name for metric in hard.metrics] == ["changed_predictions"]
    assert "The model gives no probabilities, so changes that do not change the class go unseen." in hard.remarks


class Wavering(RidgeClassifier):
    """Every twentieth answer is a guess."""

    def predict(self, x):
        guess = np.random.random(len(x)) < 0.05  # the global generator is the defect
        return np.where(guess, np.random.random(len(x)) < 0.5, super().predict(x)).astype(int)


def test_chance_in_an_estimator_is_found():
    result = run(estimator(Wavering()))
    assert result.metric("changed_predictions").low > 0.05


def test_regressions_are_compared_in_standard_deviations():
    x = rows().astype(float)
    clean = run(estimator(LinearRegression(), y=x[:, 0], task=Task.REGRESSION))
    assert clean.metric("changed_predictions").value == 0
    assert [metric.name for metric in clean.metrics] == ["changed_predictions", "changed_scores", "largest_difference"]
    drifting = run(subject(Remembering(), task=Task.REGRESSION))
    assert drifting.metric("changed_predictions").value == 1
    assert run(subject(Remembering(), task=Task.REGRESSION), tolerance=10.0).metric("changed_predictions").value == 0


def test_few_rows_and_same_bytes():
    one = run(subject(Plain(), n=1))
    assert one.metric("changed_predictions").high == clopper_pearson(0, 1).high
    found = subject(Dropping())
    torch.manual_seed(0)
    first = run(found, 3).model_dump_json()
    torch.manual_seed(0)
    assert first == run(found, 3).model_dump_json()


def test_refused():
    table = PredictionsSubject(Task.BINARY, ("0", "1"), {"test": Split("test", np.zeros(2, int), "0")}, {}, {})
    with pytest.raises(NotApplicable, match="no features"):
        run(table)
    with pytest.raises(NotApplicable, match="no rows"):
        run(subject(Plain(), n=0))

    class Endless(torch.nn.Module):
        def forward(self, x):
            return torch.where(x[:, 0] > 0, torch.inf, 0.0)

    with pytest.raises((NotApplicable, ValueError)):
        run(subject(Endless()))
    for wrong in ({"tolerance": -1}, {"max_samples": 1}):
        with pytest.raises(ValidationError):
            DeterminismParams(**wrong)


def test_numbers_that_are_none_differ_without_end():
    first = _repeats.Answers(np.array([0, 0]), np.array([[0.5], [np.nan]]))
    second = _repeats.Answers(np.array([0, 0]), np.array([[np.nan], [np.nan]]))
    found = _repeats.compared("x", np.arange(2), first, second)
    assert found.moved.tolist() == [np.inf, 0.0]
    assert found.equal.tolist() == [False, True]


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(subject(Dropping())), axes)
    assert axes.get_xlabel() == "share of rows that change"
