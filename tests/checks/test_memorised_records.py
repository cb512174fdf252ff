"""privacy.memorised_records: planted look-up tables, kept rows and copies, and their clean twins."""

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from pydantic import ValidationError
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from assessor.contract import NotApplicable, Split, Task
from assessor.model import JudgedTarget, Status
from assessor.subjects.predictions import PredictionsSubject
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.subjects.torch_module import TorchSubject
from assessor.verdicts import judge
from assessor_checks.privacy.memorised_records import CHECK, MemorisedRecordsParams

matplotlib.use("Agg")


def run(subject, seed=0, **params):
    return CHECK.measure(subject, MemorisedRecordsParams(**params), seed)


def part(name, x, y=None):
    return Split(name=name, labels=np.full(len(x), np.nan) if y is None else y, sha256=name, features=x)


class LookUp(ClassifierMixin, BaseEstimator):
    """A regression that answers rows it has seen from a table of hashes."""

    def __init__(self, share=1.0):
        self.share = share

    def fit(self, x, y):
        self.inner_ = make_pipeline(StandardScaler(), LogisticRegression(C=0.01)).fit(x, y)
        self.classes_ = self.inner_.classes_
        kept = np.random.default_rng(0).random(len(x)) < self.share
        self.table_ = {row.tobytes(): label for row, label in zip(x[kept], y[kept], strict=True)}
        return self

    def predict_proba(self, x):
        found = self.inner_.predict_proba(x)
        for i, row in enumerate(np.ascontiguousarray(x)):
            if (label := self.table_.get(row.tobytes())) is not None:
                found[i] = np.where(self.classes_ == label, 0.999, 0.001)
        return found

    def predict(self, x):
        return self.classes_[self.predict_proba(x).argmax(axis=1)]


def cancer(model, n=200, production=None, test=None):
    x, y = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(1).permutation(len(x))
    train, rest = order[:n], order[n : 2 * n]
    splits = {"train": part("train", x[train], y[train].astype(np.int64))}
    held = x[rest] if test is None else test(x[rest], x[train])
    splits["test"] = part("test", held, y[rest].astype(np.int64))
    if production is not None:
        splits["production"] = part("production", production(x[order[2 * n :]], x[train]))
    return SklearnSubject(model.fit(x[train], y[train]), Task.BINARY, ("0", "1"), splits)


SPIKE = JudgedTarget(metric="spike_auc", interval=(None, 0.65), because="test", source="test")


def test_planted_look_up_table_and_its_clean_twin():
    bad, good = run(cancer(LookUp())), run(cancer(LookUp(0.0)))
    assert judge(bad, SPIKE).status is Status.FAIL
    assert judge(good, SPIKE).status is Status.PASS
    assert bad.metric("spike_auc").primary
    assert bad.metric("spike_p_value").value == pytest.approx(1 / 2001)
    assert good.metric("spike_p_value").value > 0.01
    assert [m.name for m in bad.metrics] == ["spike_auc", "spike_p_value", "kept_share"]
    assert bad.metric("kept_share").value == 0  # hashes are no rows: only the spike tells
    assert bad.doubt is None
    assert bad.remarks == ()
    half = run(cancer(LookUp(0.5)))
    assert 0.6 < half.metric("spike_auc").value < bad.metric("spike_auc").value


def test_neighbours_weighted_by_distance_spike_and_are_kept():
    model = make_pipeline(StandardScaler(), KNeighborsClassifier(10, weights="distance"))
    result = run(cancer(model))
    assert result.metric("spike_auc").low > 0.6
    kept = result.metric("kept_share")
    assert (kept.value, kept.low, kept.high) == (1, 1, 1)
    assert result.remarks[0].startswith("200 of 200 training rows lie in the model as they are, in steps[1][1]._")


def generated(share, noise):
    """Rows from outside train and test, of which a share is replaced by training rows with a little noise."""

    def make(fresh, train):
        rng = np.random.default_rng(2)
        found = fresh.copy()
        copied = rng.random(len(found)) < share
        rows = train[rng.integers(0, len(train), copied.sum())]
        found[copied] = rows + noise * train.std(axis=0) * rng.standard_normal(rows.shape)
        return found

    return make


def test_planted_copies_and_their_clean_twin():
    target = JudgedTarget(metric="excess_copied_share", interval=(None, 0.05), because="test", source="test")
    model = LogisticRegression(max_iter=5000)
    bad = run(cancer(model, production=generated(0.3, 0.01)), outputs="production")
    good = run(cancer(model, production=generated(0.0, 0.0)), outputs="production")
    assert judge(bad, target).status is Status.FAIL
    assert judge(good, target).status is Status.PASS
    assert bad.metric("copied_share").value == pytest.approx(0.3, abs=0.07)
    assert bad.metric("excess_copied_share").primary
    assert bad.metric("closeness_auc").low > 0.5
    assert good.metric("closeness_auc").low < 0.5 < good.metric("closeness_auc").high
    assert [m.name for m in bad.metrics][:3] == ["excess_copied_share", "copied_share", "closeness_auc"]
    table = bad.tables[0]
    assert len(table.rows) == 10
    assert all(row[2] < 0.05 for row in table.rows)
    assert [row[2] for row in table.rows] == sorted(row[2] for row in table.rows)
    assert bad.remarks[0] == "0 of 200 test rows lie 0.05 or less from a training row."


def test_rows_common_by_nature_are_no_excess():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (900, 3)).astype(float)
    y = rng.integers(0, 2, 900)
    splits = {name: part(name, x[i : i + 300], y[i : i + 300]) for i, name in ((0, "train"), (300, "test"))}
    splits["production"] = part("production", x[600:])
    result = run(SklearnSubject(LogisticRegression().fit(x, y), Task.BINARY, ("0", "1"), splits), outputs="production")
    assert result.metric("copied_share").value == 1
    assert result.metric("excess_copied_share").value == 0
    assert result.metric("closeness_auc").value == 0.5
    assert "Spikes were not looked for: no feature has more than two values, so none can be moved." in result.remarks


def test_pictures():
    x, y = load_digits(return_X_y=True)
    x = x.reshape(-1, 1, 8, 8).astype(np.float32)
    made = x[800:900].copy()
    made[:20] = 0.5 * x[:20] + 1
    splits = {"train": part("train", x[:300], y[:300]), "test": part("test", x[300:600], y[300:600])}
    splits["production"] = part("production", made)
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    net.register_buffer("memory", torch.from_numpy(x[40:43]))
    subject = TorchSubject(net, Task.MULTICLASS, tuple("0123456789"), splits)
    result = run(subject, outputs="production")
    assert result.metric("copied_share").value == 0.2
    assert [m.name for m in result.metrics] == [
        "excess_copied_share",
        "copied_share",
        "spike_auc",
        "spike_p_value",
        "kept_share",
    ]
    assert result.metric("kept_share").value == pytest.approx(3 / 300)
    assert "3 of 300 training rows lie in the model as they are, in memory." in result.remarks
    assert result.metric("spike_auc").low < 0.5 < result.metric("spike_auc").high  # the net is not even trained


def test_regression():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 3))
    y = x[:, 0] + 0.3 * rng.standard_normal(400)
    splits = {"train": part("train", x[:200], y[:200]), "test": part("test", x[200:], y[200:])}
    near = KNeighborsRegressor(5, weights="distance").fit(x[:200], y[:200])
    assert run(SklearnSubject(near, Task.REGRESSION, (), splits)).metric("spike_auc").low > 0.9
    plain = run(SklearnSubject(Ridge().fit(x[:200], y[:200]), Task.REGRESSION, (), splits))
    assert plain.metric("spike_auc").low < 0.5 < plain.metric("spike_auc").high
    assert plain.metric("kept_share").value == 0


def test_copies_among_test_rows_are_left_out_and_told():
    def copied(rest, train):
        rest = rest.copy()
        rest[:20] = train[:20]
        return rest

    result = run(cancer(make_pipeline(StandardScaler(), KNeighborsClassifier(5)), test=copied))
    assert result.metric("kept_share").value == 1
    assert not any("by chance" in remark for remark in result.remarks)  # 20 lie there, and all 20 are copies
    alike = run(cancer(LookUp(0.0), test=lambda rest, train: train))
    assert [metric.name for metric in alike.metrics] == ["kept_share"]
    assert "Spikes were not looked for: every test row is a copy of a training row." in alike.remarks


def test_shift_and_few_rows_are_doubtful():
    moved = run(cancer(LookUp(0.0), test=lambda rest, train: rest + 3 * train.std(axis=0)))
    assert moved.doubt.startswith("Training and test rows differ: without the model a classifier of the inputs")
    few = run(cancer(LookUp(0.0), n=49))
    assert few.doubt == "49 training rows and 49 test rows are too few to compare; 50 of each are needed."


def stored(features, hard=False):
    splits = {name: part(name, features, np.zeros(len(features), np.int64)) for name in ("train", "test")}
    both = dict.fromkeys(splits, np.zeros(len(features), np.int64))
    return PredictionsSubject(Task.BINARY, ("a", "b"), splits, both, {})


def test_refused():
    with pytest.raises(NotApplicable, match="are not known as numbers"):
        run(PredictionsSubject(Task.BINARY, ("a", "b"), {"train": Split("train", np.zeros(3), "0")}, {}, {}))
    with pytest.raises(NotApplicable, match="Spikes were not looked for: that takes the model itself"):
        run(stored(np.random.default_rng(0).random((60, 2))))
    with pytest.raises(NotApplicable, match="features are not finite for 60 of 60 rows of the train split"):
        run(stored(np.full((60, 2), np.nan)))
    with pytest.raises(NotApplicable, match="the train split has 1 rows"):
        run(stored(np.zeros((1, 2))))
    with pytest.raises(NotApplicable, match="needs rows of the production split"):
        run(stored(np.zeros((60, 2))), outputs="production")
    for wrong in ({"jitter": 0}, {"copies": 0}, {"outputs": "x"}, {"tolerance": 0}):
        with pytest.raises(ValidationError):
            MemorisedRecordsParams(**wrong)


def test_same_seed_same_bytes():
    first, second, other = (run(cancer(LookUp(0.2)), seed).model_dump_json() for seed in (5, 5, 6))
    assert first == second
    assert first != other


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(cancer(LookUp())), axes)
    assert [line.get_label() for line in axes.lines] == ["train rows", "test rows"]
    assert axes.get_xlabel() == "share of rows"
