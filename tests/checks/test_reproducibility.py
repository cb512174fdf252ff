"""auditability.reproducibility: systems that come out the same, and systems with something drawn anew each time."""

import random

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, RidgeClassifier

from assessor.contract import Need, NotApplicable, Origin, Split, Task
from assessor.subjects.predictions import PredictionsSubject
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.subjects.torch_module import TorchSubject
from assessor_checks.auditability import _reproduction as maths
from assessor_checks.auditability.reproducibility import CHECK, ReproducibilityParams

matplotlib.use("Agg")


def rows(n, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 3))
    return x, ((x[:, 0] + rng.standard_normal(n)) > 0).astype(np.int64)


def split(name, x, y):
    return Split(name=name, labels=y, sha256=f"{name}{hash(x.tobytes())}", features=x)


def loading(make, data=lambda: (rows(60, 0), rows(80, 1)), task=Task.BINARY, kind=SklearnSubject, **more):
    """A subject that is loaded again by calling both."""

    def load():
        train, test = data()
        splits = {"train": split("train", *train), "test": split("test", *test)}
        classes = ("0", "1") if task is Task.BINARY else ()
        return kind(make(*train), task, classes, splits, origin=Origin(reload=load), **more)

    return load()


def measure(subject, seed=0, **params):
    return CHECK.measure(subject, ReproducibilityParams(**params), seed)


def values(result):
    return {metric.name: metric.value for metric in result.metrics}


def logistic(x, y):
    return LogisticRegression().fit(x, y)


def test_a_system_without_chance_comes_out_the_same():
    result = measure(loading(logistic), refits=0)
    assert values(result) == {"prediction_agreement": 1, "largest_score_difference": 0, "changed_digests": 0}
    assert [(metric.low, metric.high, metric.n) for metric in result.metrics] == [(1, 1, 80), (0, 0, 80), (0, 0, 3)]
    assert result.metrics[0].primary
    assert result.remarks == ()
    assert result.tables[0].rows == (
        ("asked twice", None, 0, 0, None),
        ("loaded again", 1, 0, 0, "none"),
        ("loaded again", 2, 0, 0, "none"),
    )


def test_a_model_drawn_while_loading():
    result = measure(loading(lambda x, y: RandomForestClassifier(5).fit(x, y)), refits=0)
    assert values(result)["prediction_agreement"] < 1
    assert values(result)["largest_score_difference"] > 0.1
    assert values(result)["changed_digests"] == 1
    assert result.remarks == ("Loaded again, these are not the same as before: model.",)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: np.random.randint(1 << 30),
        lambda: random.randrange(1 << 30),
        lambda: int(torch.randint(1 << 30, ())),
    ],
    ids=["numpy", "python", "torch"],
)
def test_data_drawn_while_loading(draw):
    result = measure(loading(logistic, lambda: (rows(60, 0), rows(80, draw()))), refits=0)
    assert values(result)["changed_digests"] == 1
    assert values(result)["prediction_agreement"] == 1  # the model is asked for the same rows
    assert result.remarks == ("Loaded again, these are not the same as before: test data.",)


def test_the_generators_are_left_as_they_were():
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    measure(loading(lambda x, y: RandomForestClassifier(2, random_state=0).fit(x, y)), refits=0)
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before


class Noisy(torch.nn.Module):
    """Draws each time it is asked."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        return torch.randn(len(x)) * self.weight


def test_a_model_that_draws_when_asked():
    result = measure(loading(lambda x, y: Noisy(), kind=TorchSubject), refits=0)
    assert values(result)["prediction_agreement"] < 0.7
    different = result.tables[0].rows[0][2]
    assert result.remarks == (
        f"Asked twice for the same rows, the model gives other predictions for {different} of them.",
        "Nobody said how the model is trained, so training was not repeated.",
    )


# --- training --------------------------------------------------------------------------------------------------------


def test_training_again_with_the_same_and_with_other_seeds():
    result = measure(loading(lambda x, y: RandomForestClassifier(9, random_state=7).fit(x, y)), refits=4)
    found = {metric.name: metric for metric in result.metrics}
    assert found["training_agreement"].value == 1
    assert found["churn"].low <= found["churn"].value <= found["churn"].high
    assert 0 < found["churn"].value < 0.4
    assert found["churn_from_assessed"].low <= found["churn"].value <= found["churn_from_assessed"].high
    assert result.remarks == ()
    assert result.tables[0].rows[-1] == ("trained twice", None, 0, 0, None)


def test_no_chance_in_training_means_no_churn():
    found = {metric.name: metric for metric in measure(loading(logistic), refits=3).metrics}
    assert (found["churn"].value, found["churn"].low) == (0, 0)
    assert found["churn"].high < 0.05


def network(x, y, seed=None):
    """A tiny net after a few steps; without a seed it draws from the global generator."""
    if seed is not None:
        torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    for _ in range(5):
        loss = torch.nn.functional.cross_entropy(net(torch.tensor(x).float()), torch.tensor(y))
        slopes = torch.autograd.grad(loss, list(net.parameters()))
        with torch.no_grad():
            for parameter, slope in zip(net.parameters(), slopes, strict=True):
                parameter.sub_(slope, alpha=0.5)
    return net


@pytest.mark.parametrize("obeys", [True, False])
def test_a_training_that_takes_no_notice_of_its_seed(obeys):
    def train(x, y, seed):
        return network(x, y, seed if obeys else None)

    subject = loading(lambda x, y: network(x, y, 3), kind=TorchSubject, train=train)
    result = measure(subject, refits=3)
    assert (values(result)["training_score_difference"] == 0) == obeys
    assert any("takes no notice of the seed" in remark for remark in result.remarks) != obeys
    assert values(result)["prediction_agreement"] == 1


def test_an_assessed_model_that_was_trained_otherwise():
    assert values(measure(loading(logistic), refits=3))["churn_from_assessed"] == 0
    result = measure(loading(lambda x, y: LogisticRegression().fit(x, 1 - y)), refits=3)
    assert values(result)["churn_from_assessed"] > 0.5
    assert result.remarks[-1].startswith("The assessed model differs from newly trained ones more than these do")


def test_values():
    def data():
        (x, _), (z, _) = rows(60, 0), rows(80, 1)
        return (x, x[:, 0]), (z, z[:, 0])

    subject = loading(
        lambda x, y: RandomForestRegressor(3, random_state=0).fit(x, y), data, task=Task.REGRESSION, kind=SklearnSubject
    )
    result = measure(subject, refits=3)
    assert list(values(result)) == [
        "prediction_agreement",
        "largest_score_difference",
        "changed_digests",
        "training_agreement",
        "training_score_difference",
        "mean_change",
        "mean_change_from_assessed",
    ]
    assert result.metric("mean_change").unit == "units of the target"
    assert 0 < result.metric("mean_change").low < result.metric("mean_change").high


class FailsOnSecondFit(LogisticRegression):
    """Trained once more it answers NaN."""

    def fit(self, x, y):
        self.again_ = x.shape[0] == 60 and getattr(FailsOnSecondFit, "trained", False)
        FailsOnSecondFit.trained = True
        return super().fit(x, y)

    def predict_proba(self, x):
        found = super().predict_proba(x)
        return np.full_like(found, np.nan) if self.again_ else found


def test_a_failing_training_loses_nothing_of_the_loading(monkeypatch):
    monkeypatch.setattr(FailsOnSecondFit, "trained", False, raising=False)
    first = FailsOnSecondFit()
    result = measure(loading(lambda x, y: first if hasattr(first, "again_") else first.fit(x, y)), refits=3)
    assert list(values(result)) == ["prediction_agreement", "largest_score_difference", "changed_digests"]
    assert values(result)["prediction_agreement"] == 1
    assert result.remarks == (
        "Nothing is said of training again: a model trained with the seed 0 gives outputs that are not finite.",
    )


def test_hard_predictions_have_no_scores():
    result = measure(loading(lambda x, y: RidgeClassifier().fit(x, y)))
    assert list(values(result)) == ["prediction_agreement", "changed_digests"]
    assert result.remarks == ("Nobody said how the model is trained, so training was not repeated.",)


# --- refused, bytes, picture ------------------------------------------------------------------------------------------


def test_refused():
    assert CHECK.info.needs == {Need.TEST, Need.RELOAD}
    with pytest.raises(NotApplicable, match="refits is 2; how much models differ needs at least 3"):
        measure(loading(logistic), refits=2)
    with pytest.raises(NotApplicable, match="the test split has no rows"):
        measure(loading(lambda x, y: Noisy(), lambda: (rows(60, 0), rows(0, 1)), kind=TorchSubject), refits=0)
    table = {"test": Split(name="test", labels=np.zeros(3, np.int64), sha256="0")}
    with pytest.raises(NotApplicable, match="has no inputs"):
        measure(PredictionsSubject(Task.BINARY, ("0", "1"), table, {"test": np.zeros(3, np.int64)}, {}))


def test_one_row():
    result = measure(loading(logistic, lambda: (rows(60, 0), rows(1, 1))), refits=3)
    assert values(result)["prediction_agreement"] == 1
    assert result.metric("churn").high > 0.7


def test_same_seed_same_bytes():
    def make():
        return loading(lambda x, y: RandomForestClassifier(5, random_state=0).fit(x, y))

    assert measure(make(), 3, refits=3).model_dump_json() == measure(make(), 3, refits=3).model_dump_json()


def test_plot():
    axes = Figure().subplots()
    CHECK.plot(measure(loading(logistic), refits=3), axes)
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "loaded again",
        "trained, same seed",
        "trained, other seed",
        "assessed and trained",
    ]


# --- maths -----------------------------------------------------------------------------------------------------------


def test_comparison_by_hand():
    a, b = np.array([1.0, 2.0, np.nan, 4.0]), np.array([1.0, 2.5, np.nan, 5.0])
    assert maths.compare(a, b, None) == (4, 2, None)
    assert maths.compare(a, b, (a[:, None], b[:, None]), 0.5) == (4, 1, 1.0)
    assert maths.compare(a, a, (a, np.array([1.0, np.nan, np.nan, 4.0]))) == (4, 1, 0.0)


def test_churn_by_hand():
    predictions = np.array([[0, 0, 0, 0], [0, 0, 0, 1], [0, 1, 1, 1.0]])
    assert maths.churn(predictions, classes=True).value == pytest.approx((1 / 4 + 3 / 4 + 2 / 4) / 3)
    assert maths.churn_from(np.zeros(4), predictions, classes=True).value == pytest.approx((0 + 1 / 4 + 3 / 4) / 3)
    assert maths.churn(2 * predictions, classes=False).value == pytest.approx(1.0)
    for few in (predictions[:2], predictions[:0]):
        with pytest.raises(ValueError, match="three models"):
            maths.churn(few, classes=True)
    with pytest.raises(ValueError, match="two models"):
        maths.churn_from(np.zeros(4), predictions[:1], classes=True)


@pytest.mark.parametrize(("models", "n"), [(3, 200), (5, 500), (10, 100)])
def test_churn_covers(models, n):
    """Thresholds drawn for each model, rows for each trial: the truth is known by simulation."""
    rng, spread, held = np.random.default_rng(0), 0.1, 0
    cuts = rng.normal(0, spread, (2, 200_000))
    from scipy.special import ndtr

    truth = np.abs(ndtr(cuts[0]) - ndtr(cuts[1])).mean()
    for _ in range(300):
        predictions = (rng.standard_normal(n) > rng.normal(0, spread, models)[:, None]).astype(float)
        low, high = maths.churn(predictions, classes=True)[1:]
        held += low <= truth <= high
    assert held / 300 >= 0.91  # 95 % nominal, four standard errors of 300 trials below it
