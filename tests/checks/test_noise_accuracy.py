"""robustness.noise_accuracy against the exact accuracy of a linear classifier under Gaussian noise."""

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from pydantic import ValidationError
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression, RidgeClassifier

from assessor.contract import NotApplicable, Split, Task
from assessor.subjects.predictions import PredictionsSubject
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor_checks import _inputs
from assessor_checks.robustness import noise_accuracy
from assessor_checks.robustness.noise_accuracy import CHECK, NoiseParams

matplotlib.use("Agg")
W = np.array([1.0, -2.0, 0.5])


def data(n=200, seed=0):
    return np.random.default_rng(seed).standard_normal((n, 3))


def split(name, x, y, names=()):
    return Split(name=name, labels=np.asarray(y), sha256=name, features=x, feature_names=names)


def linear(weight=W, bias=0.0):
    """A fitted estimator with the weights wanted."""
    model = LogisticRegression().fit(data(), np.arange(200) % 2)
    model.coef_, model.intercept_ = np.asarray(weight, float)[None], np.array([bias])
    return model


def subject(x=None, y=None, names=(), train=None, model=None):
    x = data() if x is None else x
    model = model or linear()
    y = model.predict(x) if y is None else y
    splits = {"test": split("test", x, y, names)}
    if train is not None:
        splits["train"] = split("train", train, np.zeros(len(train), np.int64), names)
    return SklearnSubject(model, Task.BINARY, ("0", "1"), splits)


def run(found, seed=0, **params):
    return CHECK.measure(found, NoiseParams(**params), seed)


def test_linear_model_matches_the_exact_accuracy_at_every_level():
    # P(right | row) = Phi(|w x| / (sigma ||w||)); the mean over draws has variance sum p (1 - p) / (draws n^2).
    levels = (0.1, 0.5, 1.0)
    result = run(subject(), levels=levels, scale="absolute", draws=40)
    for level, found in zip(levels, result.series[0].columns["accuracy"][1:], strict=True):
        p = norm.cdf(np.abs(data() @ W) / (level * np.linalg.norm(W)))
        error = np.sqrt((p * (1 - p)).sum() / 40) / 200
        assert abs(found - p.mean()) < 4 * error
    metric = result.metric("noise_accuracy")
    assert metric.primary
    assert metric.value == result.series[0].columns["accuracy"][-1]
    assert metric.low < metric.value < metric.high
    assert metric.n == 200
    assert metric.method == (
        "noise of 1 (absolute), 40 draws a row, seed 0; 95 % BCa bootstrap over rows, "
        "Clopper-Pearson where fewer than 10 rows differ"
    )
    assert result.metric("clean_accuracy").value == 1.0
    assert result.metric("accuracy_drop").value == pytest.approx(1 - metric.value)
    assert result.remarks == ("200 of 200 test rows, 24200 answers asked.",)


def test_interval_treats_rows_not_draws_as_the_unit():
    few, many = (run(subject(data(60)), levels=(1.0,), scale="absolute", draws=d).metrics[0] for d in (50, 400))
    assert many.high - many.low == pytest.approx(few.high - few.low, rel=0.2)  # draws would make it 2.8 times narrower


def test_standard_deviations_binary_and_frozen_columns():
    x = data() * np.array([1.0, 100.0, 1.0])
    x[:, 2] = np.arange(200) % 2
    names = ("age", "income", "member")
    seen = []
    model = linear()

    class Watching(LogisticRegression):
        def predict(self, rows):
            seen.append(np.array(rows))
            return model.predict(rows)

    watching = Watching().fit(data(), np.arange(200) % 2)
    found = subject(x, model.predict(x), names, train=2 * x, model=watching)
    result = run(found, levels=(0.1,), draws=30, frozen=("age",))
    noise = (seen[-2].reshape(30, 200, 3) if len(seen[-2]) == 6000 else seen[-1].reshape(30, 200, 3)) - x
    assert (noise[..., [0, 2]] == 0).all()
    assert noise[..., 1].std() == pytest.approx(0.1 * 2 * x[:, 1].std(), rel=0.05)
    assert result.remarks[:3] == (
        "Held fixed as asked: age.",
        "Perturbations are in standard deviations of each feature over the train split.",
        "Held fixed because they take at most two values: member.",
    )


def test_bounds_are_kept():
    x = np.abs(data()).clip(0, 1)
    seen = []
    model = linear()

    class Watching(LogisticRegression):
        def predict(self, rows):
            seen.append(np.array(rows))
            return model.predict(rows)

    watching = Watching().fit(data(), np.arange(200) % 2)
    run(subject(x, model.predict(x), model=watching), levels=(1.0,), scale="absolute", bounds=(0.0, 1.0))
    assert all(rows.min() >= 0 and rows.max() <= 1 for rows in seen)


def test_fragile_model_and_its_robust_twin():
    y = np.arange(200) % 2
    sign = (2 * y - 1)[:, None]
    x = np.hstack([sign * 2.0, sign * 0.01, 0 * sign])
    fragile, robust = (
        run(subject(x, y, model=linear(w)), levels=(0.2,), scale="absolute") for w in ([0, 1, 0], [1, 0, 0])
    )
    assert fragile.metric("clean_accuracy").value == robust.metric("clean_accuracy").value == 1
    assert fragile.metric("noise_accuracy").high < 0.6
    assert fragile.metric("accuracy_drop").low > 0.4
    assert robust.metric("noise_accuracy").value == 1
    assert robust.metric("noise_accuracy").low > 0.97  # not [1, 1]: 200 rows all right leave room
    assert robust.metric("accuracy_drop").value == 0
    assert robust.metric("accuracy_drop").high == pytest.approx(1 - robust.metric("noise_accuracy").low)


def test_same_seed_same_bytes_and_no_effect_of_blocks(monkeypatch):
    assert run(subject(), 3).model_dump_json() == run(subject(), 3).model_dump_json()
    assert run(subject(), 3).metrics[0].value != run(subject(), 4).metrics[0].value
    whole = run(subject(), levels=(1.0,), scale="absolute", draws=200).metrics[0].value
    monkeypatch.setattr(noise_accuracy, "ENTRIES", 600)
    assert run(subject(), levels=(1.0,), scale="absolute", draws=200).metrics[0].value == pytest.approx(whole, abs=0.01)


def test_levels_are_sorted_and_the_largest_is_primary():
    result = run(subject(), levels=(0.3, 0.1, 0.3))
    assert result.series[0].columns["level"] == (0.0, 0.1, 0.3)
    assert "noise of 0.3" in result.metrics[0].method


def test_images_and_hard_predictions_and_whole_numbers():
    pictures = data(40).reshape(40, 3, 1)

    class Flat(RidgeClassifier):
        def predict(self, rows):
            return super().predict(np.asarray(rows).reshape(len(rows), -1))

    model = Flat().fit(data(40), np.arange(40) % 2)
    assert run(subject(pictures, model=model)).metrics[0].n == 40
    counts = np.arange(120).reshape(40, 3)
    assert run(subject(counts, model=linear())).metrics[0].n == 40


def test_one_row():
    result = run(subject(data(1)), scale="absolute", levels=(0.01,))
    assert result.metrics[0].value == 1
    assert result.metrics[0].low == pytest.approx(0.025)


def test_refused():
    with pytest.raises(NotApplicable, match="no rows"):
        run(subject(data(0), np.empty(0, np.int64)))
    with pytest.raises(NotApplicable, match="no feature 'x'"):
        run(subject(), frozen=("x",))
    with pytest.raises(NotApplicable, match="no table with columns"):
        run(subject(data().reshape(200, 3, 1), np.zeros(200, np.int64)), frozen=("#0",))
    with pytest.raises(NotApplicable, match="of type <U1"):
        run(subject(np.array([["a"]]), np.array([0])))
    table = PredictionsSubject(Task.BINARY, ("0", "1"), {"test": split("test", None, [0])}, {"test": np.array([0])}, {})
    with pytest.raises(NotApplicable, match="no features"):
        run(table)

    class Broken(LogisticRegression):
        def predict_proba(self, rows):
            return np.full((len(rows), 2), np.nan)

    with pytest.raises(NotApplicable, match="scores are not finite for 200 of 200"):
        run(subject(model=Broken().fit(data(), np.arange(200) % 2)))
    for wrong in ({"levels": ()}, {"levels": (0.0,)}, {"draws": 0}):
        with pytest.raises(ValidationError):
            NoiseParams(**wrong)


def test_feature_std_in_blocks_with_missing_values():
    x = data(3000).astype(np.float32)
    x[::7, 1] = np.nan
    np.testing.assert_allclose(_inputs.feature_std(x), np.nanstd(x.astype(np.float64), axis=0), rtol=1e-12)


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(subject()), axes)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("standard deviation of the noise", "accuracy")
