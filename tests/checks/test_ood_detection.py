"""robustness.ood_detection: whole outcomes, planted defects, refusals."""

import functools

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from pydantic import ValidationError
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import roc_auc_score

from assessor.contract import NotApplicable, Split, Task
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.subjects.torch_module import TorchSubject
from assessor_checks.robustness.ood_detection import CHECK, OodDetectionParams

matplotlib.use("Agg")


def split(name, x, y=None):
    y = np.full(len(x), np.nan) if y is None else np.asarray(y)
    return Split(name=name, labels=y, sha256=name, features=x)


@functools.cache
def digits():
    data = load_digits()
    return data.data / 16, data.target.astype(np.int64)


def forest(ood=None, model=None, train=True, n=250):
    """A forest that knows the digits 0 to 5; rows from outside are others."""
    x, y = digits()
    known = y < 6
    xs, ys = x[known], y[known]
    fitted = model or _forest()
    splits = {"test": split("test", xs[600 : 600 + n], ys[600 : 600 + n])}
    if train:
        splits["train"] = split("train", xs[:600], ys[:600])
    if ood is not None:
        splits["ood"] = split("ood", ood)
    return SklearnSubject(fitted, Task.MULTICLASS, tuple("012345"), splits)


@functools.cache
def _forest():
    x, y = digits()
    return RandomForestClassifier(30, random_state=0).fit(x[y < 6][:600], y[y < 6][:600])


def foreign(n=200):
    x, y = digits()
    return x[y > 6][:n]


def run(found, seed=0, **params):
    return CHECK.measure(found, OodDetectionParams(**params), seed)


def test_given_rows_whole_outcome():
    found = forest(foreign())
    result = run(found)
    assert [metric.name for metric in result.metrics] == ["auroc", "fpr_at_95_tpr", "aupr"]
    area, passing, precision = result.metrics
    inside = found.splits["test"].features
    confidence = -_forest().predict_proba(np.concatenate([foreign(), inside])).max(axis=1)
    labels = np.repeat([1, 0], [200, len(inside)])
    assert area.value == pytest.approx(roc_auc_score(labels, confidence), abs=1e-12)
    assert area.primary
    assert area.low < area.value < area.high
    assert area.value > 0.9
    threshold = np.sort(confidence[200:])[int(np.ceil(0.95 * len(inside))) - 1]
    assert passing.value == (confidence[:200] <= threshold).mean()
    assert passing.low < passing.value < passing.high
    assert precision.low < precision.value < precision.high
    assert all(metric.n == 200 for metric in result.metrics)
    assert result.doubt is None
    assert result.remarks[0] == "250 test rows and 200 rows from outside."
    assert not any("rows were made" in remark for remark in result.remarks)
    (table,) = result.tables
    assert [row[0] for row in table.rows[::3]] == [
        "rows from outside",
        "rows with shuffled features",
        "rows of Gaussian noise",
        "rows of uniform noise",
        "stretched rows",
    ]
    assert [row[2] for row in table.rows[:3]] == ["max_probability", "entropy", "knn_inputs"]
    assert table.rows[0][3] == area.value
    curve = result.series[0].columns
    for column in curve.values():
        assert column[0] == 0
        assert column[-1] == 1
        assert list(column) == sorted(column)


def test_made_rows_the_hardest_counts_with_a_wider_interval():
    result = run(forest())
    area = result.metric("auroc")
    by_set = {row[0]: row for row in result.tables[0].rows if row[2] == "max_probability"}
    hardest = min(by_set.values(), key=lambda row: row[3])
    assert area.value == hardest[3]
    assert area.low < hardest[4]  # four intervals that hold together
    assert area.high <= hardest[5] or area.high < 1
    assert "lowest of 4 kinds of rows" in area.method
    assert any(remark.startswith("No rows from outside the field of use were given") for remark in result.remarks)


def test_planted_defect_fails_and_its_twin_passes():
    # a model that knows no doubt gives every row the same confidence
    class Sure(RandomForestClassifier):
        def predict_proba(self, x):
            return np.eye(6)[super().predict_proba(x).argmax(axis=1)]

    x, y = digits()
    sure = Sure(30, random_state=0).fit(x[y < 6][:600], y[y < 6][:600])
    bad, good = run(forest(foreign(), sure)).metric("auroc"), run(forest(foreign())).metric("auroc")
    assert bad.value == 0.5
    assert bad.high < 0.7
    assert good.low > 0.9


def test_another_score_and_the_best_one_is_named():
    result = run(forest(), score="knn_inputs", made=("uniform",))
    assert result.metric("auroc").value > 0.99
    assert "score knn_inputs" in result.metric("auroc").method
    plain = run(forest(), made=("stretched",))
    assert any("Of all scores 'knn_inputs' separates these rows best" in remark for remark in plain.remarks)


def module(outputs=6):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, outputs))
    x, y = digits()
    x, y = x.astype(np.float32), (y if outputs == 6 else (y > 2).astype(np.int64))
    known = digits()[1] < 6
    xs, ys = x[known], y[known]
    inputs, labels = torch.from_numpy(xs[:600]), torch.from_numpy(ys[:600])
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(60):
        optimiser.zero_grad()
        z = net(inputs)
        z = z if outputs == 6 else torch.cat([torch.zeros_like(z), z], dim=1)
        torch.nn.functional.cross_entropy(z, labels).backward()
        optimiser.step()
    splits = {"train": split("train", xs[:600], ys[:600]), "test": split("test", xs[600:], ys[600:])}
    task, classes = (Task.MULTICLASS, tuple("012345")) if outputs == 6 else (Task.BINARY, ("no", "yes"))
    return TorchSubject(net, task, classes, {**splits, "ood": split("ood", foreign().astype(np.float32))})


def test_a_module_has_all_scores():
    result = run(module(), score="energy")
    scores = [row[2] for row in result.tables[0].rows[:6]]
    assert scores == ["max_probability", "entropy", "energy", "mahalanobis", "knn_features", "knn_inputs"]
    assert result.metric("auroc").value > 0.8


def test_one_output_has_no_energy():
    result = run(module(outputs=1))
    assert "energy" not in [row[2] for row in result.tables[0].rows]
    with pytest.raises(NotApplicable, match="the score 'energy' cannot be had of this model and data; there are max"):
        run(module(outputs=1), score="energy")


def test_no_train_split():
    result = run(forest(train=False))
    assert "There is no train split, so scores by distance to training rows are missing." in result.remarks
    with pytest.raises(NotApplicable, match="'mahalanobis' cannot be had"):
        run(forest(), score="mahalanobis")


def test_outside_rows_that_are_inside_are_doubted():
    x, y = digits()
    inside = x[y < 6][600:850]
    result = run(forest(np.concatenate([inside[:100], foreign(100)])))
    assert result.doubt is not None
    assert result.doubt.startswith("50.0% of the rows from outside are found among the train or test rows as well")
    assert run(forest(np.concatenate([inside[:5], foreign(100)]))).doubt is None


class Lost(SklearnSubject):
    """No finite scores where the first pixels are bright."""

    def query_scores(self, features):
        scores = super().query_scores(features)
        scores[features[:, 1:3].sum(axis=1) > self.most] = np.nan
        return scores


def lost(most, ood):
    plain = forest(ood)
    found = Lost(_forest(), Task.MULTICLASS, tuple("012345"), plain.splits)
    found.most = most
    return found


def test_outputs_that_are_not_finite():
    bright = foreign()
    bright[:30, 1:3] = 5.0
    result = run(lost(3.0, bright), made=("shuffled",))
    assert "30 of 200 rows from outside were left out: outputs not finite." in result.remarks
    assert result.metric("auroc").n == 170
    bright[:, 1:3] = 5.0
    with pytest.raises(NotApplicable, match="finite outputs for 0 of 200 rows from outside, wanted at least 20"):
        run(lost(3.0, bright))
    with pytest.raises(NotApplicable, match="not finite for 250 of 250 test rows"):
        run(lost(-1.0, bright))


def test_refused():
    x, y = digits()
    ridge = RidgeClassifier().fit(x[y < 6], y[y < 6])
    with pytest.raises(NotApplicable, match=r"no class probabilities.*data\.drift"):
        run(forest(model=ridge))
    with pytest.raises(NotApplicable, match="found 19 complete test rows, wanted at least 20"):
        run(forest(n=19))
    with pytest.raises(NotApplicable, match="found 5 complete rows from outside"):
        run(forest(foreign(5)))
    with pytest.raises(NotApplicable, match="rows from outside have the shape"):
        run(forest(foreign()[:, :3]))
    with pytest.raises(NotApplicable, match="no rows"):
        run(forest(n=0))
    for wrong in ({"score": "guess"}, {"made": ()}, {"made": ("odd",)}, {"neighbour": 0}):
        with pytest.raises(ValidationError):
            OodDetectionParams(**wrong)


def test_missing_values_are_left_out():
    found = forest(foreign())
    test = found.splits["test"].features.copy()
    test[:9, 3] = np.nan
    found.splits["test"] = split("test", test, found.splits["test"].labels)
    assert run(found).remarks[0] == "241 test rows and 200 rows from outside."


def test_same_seed_same_bytes():
    one, two = run(forest()), run(forest())
    assert one.model_dump_json() == two.model_dump_json()
    assert one.model_dump_json() != run(forest(), seed=1).model_dump_json()
    assert run(forest(foreign()), max_samples=50).remarks[0] == "50 test rows and 50 rows from outside."


def test_two_classes():
    x = np.random.default_rng(0).standard_normal((200, 2))
    y = (x[:, 0] > 0).astype(np.int64)
    model = LogisticRegression().fit(x, y)
    splits = {"test": split("test", x, y)}
    result = run(SklearnSubject(model, Task.BINARY, ("0", "1"), splits))
    assert result.metric("auroc").value < 0.5  # far from the boundary a linear model is only surer
    assert "stretched rows" in result.metric("auroc").method


def test_plot():
    axes = Figure().subplots()
    CHECK.plot(run(forest(foreign())), axes)
    assert axes.get_xlabel() == "share of regular rows taken for foreign"
