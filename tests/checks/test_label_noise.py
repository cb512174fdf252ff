"""data.label_noise end to end: planted noise against its clean twin, both splits, torch, doubts, refusals."""

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from assessor.contract import Need, NotApplicable, Split, Task
from assessor.model import JudgedTarget
from assessor.subjects.predictions import PredictionsSubject
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.subjects.torch_module import TorchSubject
from assessor.verdicts import judge
from assessor_checks.data.label_noise import CHECK, LabelNoiseParams

matplotlib.use("Agg")


def subject(noise=0.0, model=None, load=load_breast_cancer, test_noise=0.0):
    data, rng = load(), np.random.default_rng(0)
    order, classes = rng.permutation(len(data.target)), len(np.unique(data.target))
    x, y = data.data[order], data.target[order].astype(np.int64)
    half = len(y) * 2 // 3
    wrong = rng.random(len(y)) < np.where(np.arange(len(y)) < half, noise, test_noise)
    y[wrong] = (y[wrong] + rng.integers(1, classes, wrong.sum())) % classes
    model = model or make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    model.fit(x[:half], y[:half])
    splits = {"train": Split("train", y[:half], "a", x[:half]), "test": Split("test", y[half:], "b", x[half:])}
    task = Task.BINARY if classes == 2 else Task.MULTICLASS
    found = SklearnSubject(model, task, tuple(map(str, range(classes))), splits)
    return found, np.flatnonzero(wrong[:half])


def run(found, seed=0, **params):
    return CHECK.measure(found, LabelNoiseParams(**params), seed)


@pytest.mark.parametrize(
    ("noise", "load", "within", "status"),
    [
        (0.0, load_breast_cancer, (0.0, 0.02), "pass"),
        (0.1, load_breast_cancer, (0.05, 0.14), "fail"),
        (0.2, load_breast_cancer, (0.16, 0.26), "fail"),
        (0.0, load_digits, (0.0, 0.01), "pass"),
        (0.1, load_digits, (0.08, 0.14), "fail"),
    ],
)
def test_planted_noise_fails_and_the_clean_twin_passes(noise, load, within, status):
    found, wrong = subject(noise, load=load)
    result = run(found, splits=["train"])
    rate = result.metric("noise_rate_train")
    assert rate.primary
    assert within[0] <= rate.value <= within[1]
    target = JudgedTarget(metric=None, interval=(None, 0.04), because="plan", source="test")
    assert judge(result, target).status == status
    listed = [row[0] for row in result.tables[-1].rows]
    if noise:  # most of the rows listed first are the planted ones
        assert np.isin(listed[:20], wrong).mean() >= 0.9
    assert result.doubt is None
    assert [table.name for table in result.tables] == ["joint_train", "pairs_train", "rows_train"]
    assert np.sum([row[1:] for row in result.tables[0].rows]) == pytest.approx(1)


def test_both_splits():
    found, _ = subject(0.0, load=load_digits, test_noise=0.15)
    result = run(found)
    assert [metric.name for metric in result.metrics] == [
        "noise_rate_train",
        "suspicious_share_train",
        "noise_rate_test",
        "suspicious_share_test",
    ]
    assert result.metric("noise_rate_train").high < 0.05
    assert result.metric("noise_rate_test").low > 0.1
    assert result.metric("noise_rate_train").primary
    assert [series.name for series in result.series] == ["el2n_train", "el2n_test"]
    right = [remark for remark in result.remarks if remark.startswith("The probabilities that judge the test labels")]
    assert len(right) == 1


def test_a_table_of_predictions_judges_its_own_labels():
    found, _ = subject(0.0, test_noise=0.2)
    labels, scores = found.splits["test"].labels, found.scores("test")
    splits = {"test": Split("test", labels, "b")}
    table = PredictionsSubject(Task.BINARY, ("0", "1"), splits, {"test": scores.argmax(axis=1)}, {"test": scores})
    result = run(table)
    assert result.metric("noise_rate_test").primary
    assert result.metric("noise_rate_test").low > 0.1
    with pytest.raises(NotApplicable, match="set splits to test to judge the labels of the test split"):
        run(table, splits=["train"])


def test_torch_is_trained_anew_by_the_users_function():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 2, 200)
    x = (3.0 * true[:, None] + rng.standard_normal((200, 2))).astype(np.float32)
    y = np.where(np.arange(200) < 20, 1 - true, true)
    seen = []

    def train(features, labels, seed):
        seen.append((len(labels), seed))
        torch.manual_seed(seed)
        net = torch.nn.Linear(2, 2)
        inputs, wanted = torch.from_numpy(features), torch.from_numpy(labels)
        optimiser = torch.optim.Adam(net.parameters(), lr=0.1)
        for _ in range(60):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(net(inputs), wanted).backward()
            optimiser.step()
        return net

    splits = {name: Split(name, y, name, x) for name in ("train", "test")}
    found = TorchSubject(train(x, y, 0), Task.BINARY, ("0", "1"), splits, train=train)
    assert Need.REFIT in found.offers
    result = run(found, splits=["train"], folds=4)
    assert seen[1:] == [(150, seed) for seed in range(4)]
    assert 0.06 <= result.metric("noise_rate_train").value <= 0.18
    assert np.mean([row[0] < 20 for row in result.tables[-1].rows[:15]]) >= 0.8


def test_a_blind_model_and_a_certain_one_are_doubted():
    found, _ = subject(0.5)
    result = run(found, splits=["train"])
    assert result.doubt == "The model that judges the train labels cannot tell these from the rest: 0, 1."
    assert result.metric("noise_rate_train").low is None
    certain = run(subject(model=DecisionTreeClassifier(random_state=0))[0], splits=["train"])
    assert certain.doubt == (
        "All probabilities for the train split are 0 or 1, so every mistake of the model counts as a wrong label."
    )


def test_doubt_about_the_test_split_leaves_the_training_labels_judged():
    found, _ = subject(0.0, test_noise=0.5)
    result = run(found)
    assert result.doubt is None
    assert result.metric("noise_rate_train").low is not None
    assert result.metric("noise_rate_test").low is None
    assert result.remarks[-1] == "The model that judges the test labels cannot tell these from the rest: 0, 1."


def test_small_labels_are_told():
    found, _ = subject()
    labels = found.splits["test"].labels.copy()
    labels[:] = 1
    labels[:4] = 0
    splits = {"test": Split("test", labels, "b", found.splits["test"].features)}
    model = SklearnSubject(found._estimator, Task.BINARY, ("0", "1"), splits)
    assert "Labels with fewer than 10 rows can hardly be judged: 0." in run(model).remarks


def test_refused():
    found, _ = subject()
    test = found.splits["test"]

    def only(rows, labels=None):
        labels = test.labels[rows] if labels is None else labels
        splits = {"test": Split("test", labels, "b", test.features[rows])}
        return SklearnSubject(found._estimator, Task.BINARY, ("0", "1"), splits)

    with pytest.raises(NotApplicable, match="the test split has 1 rows; estimating wrong labels takes 50"):
        run(only(slice(0, 1)))
    with pytest.raises(NotApplicable, match="all labels of the test split are 0"):
        run(only(slice(0, 60), np.zeros(60, np.int64)))
    assert Need.PROBABILITIES not in subject(model=RidgeClassifier())[0].offers  # the engine refuses
    scores = np.full((60, 2), np.nan)
    labels = np.arange(60) % 2
    broken = PredictionsSubject(
        Task.BINARY, ("0", "1"), {"test": Split("test", labels, "b")}, {"test": labels}, {"test": scores}
    )
    with pytest.raises(NotApplicable, match="not finite for 60 of 60 rows of the test split"):
        run(broken)
    scores[:] = (0.5, 0.9)
    with pytest.raises(NotApplicable, match="no probabilities that sum to 1 for 60 of 60 rows of the test split"):
        run(broken)


def test_same_seed_same_bytes():
    found, _ = subject(0.1)
    assert run(found, 3).model_dump_json() == run(found, 3).model_dump_json()


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(subject(0.1)[0]), axes)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["train", "test"]
