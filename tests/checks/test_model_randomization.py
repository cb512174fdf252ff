"""transparency.model_randomization end to end."""

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import RidgeClassifier

from assessor.contract import NotApplicable, Split, Task
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.subjects.torch_module import TorchSubject
from assessor_checks.transparency.model_randomization import CHECK, RandomizationParams

matplotlib.use("Agg")
CLASSES = ("0", "1", "2")


def split(name, x, y):
    return Split(name=name, labels=np.asarray(y), sha256=name, features=np.asarray(x))


class Shown(torch.autograd.Function):
    """The input; its gradient is the input too, as guided backpropagation all but shows it."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.view_as(x)

    @staticmethod
    def backward(ctx, _):
        return ctx.saved_tensors[0]


class Net(torch.nn.Module):
    def __init__(self, shape=(12,), shown=False):
        super().__init__()
        torch.manual_seed(0)
        self.shown = shown
        self.first = torch.nn.Linear(int(np.prod(shape)), 16)
        self.last = torch.nn.Linear(16, 3)

    def forward(self, x):
        x = Shown.apply(x) if self.shown else x
        return self.last(torch.relu(self.first(x.flatten(1))))


def subject(net=None, shape=(12,), n=30):
    x = np.random.default_rng(0).standard_normal((n, *shape)).astype(np.float32)
    return TorchSubject(net or Net(shape), Task.MULTICLASS, CLASSES, {"test": split("test", x, np.zeros(n, np.int64))})


def run(of=None, seed=0, **params):
    return CHECK.measure(of or subject(), RandomizationParams(**{"models": 5, **params}), seed)


def test_reports_everything():
    result = run(method="gradient")
    assert [metric.name for metric in result.metrics] == [
        "rank_correlation",
        "absolute_rank_correlation",
        "rank_correlation_with_input",
    ]
    whole = result.metric("rank_correlation")
    assert whole.primary
    assert whole.low < 0.1
    assert -0.25 < whole.value < 0.25
    assert whole.n == 30
    assert whole.value == result.metric("absolute_rank_correlation").value  # gradients count by their size
    columns = result.series[0].columns
    assert columns["stages"] == (0, 1, 2)
    assert columns["rank_correlation"][0] == 1
    assert columns["rank_correlation"][2] == whole.value
    rows = result.tables[0].rows
    assert [row[:2] for row in rows] == [(1, "last"), (2, "first")]
    assert rows[0][2] == rows[0][4]  # the first stage alone is the start of the cascade
    assert rows[1][2] != rows[1][4]
    assert len(result.remarks) == 1
    assert result.doubt is None
    CHECK.plot(result, Figure().subplots())


def test_an_explanation_that_shows_the_input_fails_and_its_twin_does_not():
    for method in ("gradient", "integrated_gradients", "smoothgrad"):
        honest, shown = (run(subject(Net(shown=s)), method=method, samples=4, steps=8) for s in (False, True))
        assert shown.metric("rank_correlation").low > 0.9
        assert honest.metric("rank_correlation").high < 0.4
        assert shown.metric("rank_correlation_with_input").value > honest.metric("rank_correlation_with_input").value


def test_images_have_a_structural_similarity():
    result = run(subject(shape=(1, 8, 8)), method="gradient_x_input", models=3, stages=1)
    similarity = result.metric("structural_similarity")
    assert -0.2 < similarity.value < 0.8
    assert [row[1] for row in result.tables[0].rows] == ["last, first"]
    assert "structural_similarity" not in [m.name for m in run(subject(shape=(1, 8, 8)), patch=4, models=2).metrics]


def test_the_model_is_left_alone():
    net = Net()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    generator = torch.random.get_rng_state()
    run(subject(net), method="gradient")
    assert all((net.state_dict()[name] == value).all() for name, value in state.items())
    assert (torch.random.get_rng_state() == generator).all()
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())


class Stubborn(ClassifierMixin, BaseEstimator):
    """Answers by a rule of its own, whatever the labels."""

    def fit(self, x, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, x):
        scores = np.exp(x[:, :6].reshape(-1, 3, 2).sum(axis=2))
        return scores / scores.sum(axis=1, keepdims=True)

    def predict(self, x):
        return self.classes_[self.predict_proba(x).argmax(axis=1)]


def asked(estimator, n=90, train=True):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, 8))
    y = x[:, :6].reshape(-1, 3, 2).sum(axis=2).argmax(axis=1)
    splits = {"test": split("test", x[:30], y[:30])}
    if train:
        splits["train"] = split("train", x[30:], y[30:])
    return SklearnSubject(estimator.fit(x[30:], y[30:]), Task.MULTICLASS, CLASSES, splits)


def test_models_that_are_asked_are_trained_on_shuffled_labels():
    forest, stubborn = (
        run(asked(estimator), method="occlusion", refits=4)
        for estimator in (RandomForestClassifier(8, random_state=0), Stubborn())
    )
    name = "rank_correlation_shuffled_labels"
    assert [metric.name for metric in forest.metrics] == [
        name,
        "rank_correlation_true_labels",
        "rank_correlation_with_input",
    ]
    assert forest.metric(name).primary
    assert forest.metric(name).high < 0.5 < 0.99 < stubborn.metric(name).low
    assert forest.metric("rank_correlation_true_labels").low > forest.metric(name).high
    assert forest.remarks[1] == "The model has no layers to reach, so it was trained anew on shuffled labels."
    assert forest.series == ()
    CHECK.plot(forest, Figure().subplots())


def test_modules_that_can_be_trained_anew_get_both():
    def train(x, y, seed):
        torch.manual_seed(seed)
        return Net()

    x = np.random.default_rng(0).standard_normal((20, 12)).astype(np.float32)
    splits = {name: split(name, x, np.arange(20) % 3) for name in ("train", "test")}
    of = TorchSubject(Net(), Task.MULTICLASS, CLASSES, splits, train=train)
    result = run(of, method="occlusion", models=2, refits=2)
    assert result.metric("rank_correlation").primary
    assert not result.metric("rank_correlation_shuffled_labels").primary
    assert "rank_correlation_shuffled_labels" not in [m.name for m in run(of, method="gradient", models=2).metrics]


def test_same_seed_same_bytes():
    first, again, other = (run(seed=seed, models=2).model_dump_json() for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_not_applicable_says_why():
    with pytest.raises(NotApplicable, match=r"transparency\.attribution_faithfulness shows whether"):
        run(asked(RandomForestClassifier(3), train=False))
    with pytest.raises(NotApplicable, match=r"classes without probabilities.* transparency\.surrogate_fidelity needs"):
        run(asked(RidgeClassifier()))
    with pytest.raises(NotApplicable, match="fewer than 3 features, so their order shows nothing"):
        run(subject(Net((2,)), shape=(2,)))
    net = Net()
    with torch.no_grad():
        net.last.weight.zero_()
    with pytest.raises(NotApplicable, match="explanations give all parts the same importance"):
        run(subject(net), method="gradient")

    class Bare(torch.nn.Module):
        def forward(self, x):
            return x[:, :3]

    with pytest.raises(NotApplicable, match="no parameters that could be made random"):
        run(subject(Bare()))
    with pytest.raises(NotApplicable, match="a single row"):
        run(subject(n=1))
