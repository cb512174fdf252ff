"""robustness.certified_accuracy against linear classifiers, whose smoothed radius is known exactly."""

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from pydantic import ValidationError
from scipy.stats import binom
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from assessor.contract import Lent, NotApplicable, Split, Task, lending
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.subjects.torch_module import TorchSubject
from assessor_checks.robustness.certified_accuracy import CHECK, CertifiedAccuracyParams

matplotlib.use("Agg")
W = np.array([3.0, -4.0])  # length 5


def rows_at(distances, seed=0):
    """Rows at these signed distances from the plane."""
    along = np.random.default_rng(seed).standard_normal(len(distances))
    return np.outer(distances, W / 5) + np.outer(along, np.array([4.0, 3.0]) / 5)


def split(name, x, y):
    return Split(name=name, labels=np.asarray(y), sha256=name, features=x)


def subject(x, y=None, train=None):
    fitted = np.random.default_rng(1).standard_normal((20, 2))
    model = LogisticRegression().fit(fitted, np.arange(20) % 2)
    model.coef_, model.intercept_ = W[None].copy(), np.zeros(1)
    splits = {"test": split("test", x, (x @ W > 0).astype(int) if y is None else y)}
    if train is not None:
        splits["train"] = split("train", train, np.zeros(len(train), int))
    return SklearnSubject(model, Task.BINARY, ("0", "1"), splits)


def run(found, seed=0, **params):
    settings = {"scale": "absolute", "radius": 0.5, "sigma": 0.5, "most": 4000, **params}
    return CHECK.measure(found, CertifiedAccuracyParams(**settings), seed)


def test_linear_model_whole_outcome():
    # smoothing a linear model gives the same model, so the certified radius tends to the distance from the plane
    distances = np.repeat([0.0005, 0.2, 0.45, 0.6, 1.5], 20)
    result = run(subject(rows_at(distances)))
    assert [metric.name for metric in result.metrics] == [
        "certified_accuracy",
        "smoothed_accuracy",
        "abstention_rate",
        "clean_accuracy",
    ]
    certified = result.metric("certified_accuracy")
    assert certified.primary
    assert certified.value == 0.4
    assert certified.low < 0.4 < certified.high
    assert "lower bound for the smoothed model at radius 0.5" in certified.method
    assert result.metric("clean_accuracy").value == 1
    assert result.metric("abstention_rate").value == pytest.approx(0.2, abs=0.02)
    assert result.metric("smoothed_accuracy").value == pytest.approx(0.8, abs=0.02)
    curve = result.series[0].columns
    assert curve["radius"] == (0.0, 0.125, 0.25, 0.375, 0.5)
    # exactly 0.8, 0.8, 0.6, 0.6, 0.4; rows near a radius in between do not get all copies
    values = curve["certified_accuracy"]
    assert values[::2] == pytest.approx((0.8, 0.6, 0.4), abs=0.02)
    assert list(values) == sorted(values, reverse=True)
    assert result.doubt is None
    smoothed, copies, between, family = result.remarks[:4]
    assert between.startswith("Radii below the one asked for")
    assert smoothed == (
        "The certificates are for the smoothed model: the majority of the model's answers to noisy copies of a row."
    )
    assert copies.startswith("100 of 100 test rows. A row needed ")
    assert "100 further copies chose each row's class." in copies
    assert family.startswith("Each row's certificate is wrong with a probability of at most 0.001. Of all ")
    assert family.endswith("with 95 % confidence at most 1 are certified wrongly.")


@pytest.mark.slow
def test_certificates_hold_as_often_as_they_say():
    # rows just under the radius: each certificate is wrong; alpha 5 %, 3 000 rows of many seeds
    x, wrong, n = rows_at(np.full(300, 0.4999)), 0, 3000
    for seed in range(10):
        wrong += round(300 * run(subject(x), seed, alpha=0.05, most=500).metric("certified_accuracy").value)
    assert wrong <= binom.ppf(0.9999, n, 0.05)


def test_planted_defect_fails_and_its_twin_passes():
    # features shrunk tenfold towards the plane: the same accuracy, a tenth of the radius
    distances = np.random.default_rng(2).choice([-1, 1], 60) * np.random.default_rng(3).uniform(0.8, 2, 60)
    good, bad = (run(subject(rows_at(distances * factor))) for factor in (1, 0.1))
    assert good.metric("clean_accuracy").value == bad.metric("clean_accuracy").value == 1
    assert good.metric("certified_accuracy").low > 0.85
    assert bad.metric("certified_accuracy").high < 0.1


def test_wrong_rows_are_never_certified():
    x = rows_at(np.full(40, 2.0))
    y = np.repeat([1, 0], 20)
    result = run(subject(x, y))
    assert result.metric("certified_accuracy").value == 0.5
    assert result.metric("smoothed_accuracy").value == 0.5
    assert result.metric("abstention_rate").value == 0


def test_unit_is_the_standard_deviation_of_the_train_split():
    x = rows_at(np.full(30, 1.0))
    train = np.random.default_rng(0).standard_normal((500, 2)) * 0.5
    assert (
        run(subject(x, train=train), scale="feature_std", radius=1.5, sigma=1.0).metric("certified_accuracy").value == 1
    )
    result = run(subject(x, train=train), scale="feature_std", radius=2.5, sigma=1.0)
    assert result.metric("certified_accuracy").value == 0
    assert any("standard deviations" in remark for remark in result.remarks)


def test_frozen_columns_get_no_noise():
    x = rows_at(np.full(10, 0.01))
    result = run(subject(x), frozen=("#0", "#1")) if False else run(subject(x), frozen=("#0",))
    assert any("Held fixed as asked: #0" in remark for remark in result.remarks)
    with pytest.raises(NotApplicable, match="nothing can be perturbed"):
        run(subject(x), frozen=("#0", "#1"))


def test_a_module_gives_what_the_estimator_gives():
    net = torch.nn.Linear(2, 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor(np.stack([-W, W])) / 2)
        net.bias.zero_()
    x = rows_at(np.repeat([0.2, 1.5], 30)).astype(np.float32)
    found = TorchSubject(net, Task.BINARY, ("0", "1"), {"test": split("test", x, np.ones(60, int))})
    assert run(found).metric("certified_accuracy").value == 0.5


def test_missing_values_are_left_out():
    x = rows_at(np.full(30, 1.0))
    forest = RandomForestClassifier(5, random_state=0).fit(x, np.arange(30) % 2)
    x[:3, 0] = np.nan
    found = SklearnSubject(forest, Task.BINARY, ("0", "1"), {"test": split("test", x, np.arange(30) % 2)})
    result = run(found, most=200, radius=0.1)
    assert result.metric("clean_accuracy").n == 27
    assert "3 rows with missing values were left out." in result.remarks
    x[:] = np.nan
    with pytest.raises(NotApplicable, match="every one of 30 test rows has missing values"):
        run(found, most=200, radius=0.1)


def test_refused():
    with pytest.raises(NotApplicable, match="no row can be certified at radius 3 with noise"):
        run(subject(rows_at(np.ones(5))), radius=3.0)
    with pytest.raises(NotApplicable, match="no rows"):
        run(subject(np.zeros((0, 2))))
    for wrong in ({"radius": 0}, {"sigma": 0}, {"alpha": 0.5}, {"most": 10}):
        with pytest.raises(ValidationError):
            CertifiedAccuracyParams(**wrong)


def test_one_row():
    result = run(subject(rows_at(np.array([2.0]))))
    assert result.metric("certified_accuracy").value == 1
    assert result.metric("certified_accuracy").low < 0.05


def test_same_seed_same_bytes_and_a_killed_run_goes_on():
    x = rows_at(np.linspace(0.1, 1, 30))
    one = run(subject(x), most=500)
    assert one.model_dump_json() == run(subject(x), most=500).model_dump_json()
    store, told = {}, []
    lent = Lent(
        lambda *part: told.append(part), lambda key: store.get(str(key)), lambda key, v: store.update({str(key): v})
    )
    with lending(lent):
        assert run(subject(x), most=500) == one == run(subject(x), most=500)
    assert len(store) == 1
    assert told[0][0] == "noisy copies of each row, at most"


def test_plot():
    axes = Figure().subplots()
    CHECK.plot(run(subject(rows_at(np.linspace(0.1, 1, 10)))), axes)
    assert axes.get_ylabel() == "certified accuracy of the smoothed model"
