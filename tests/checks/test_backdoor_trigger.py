"""security.backdoor_trigger end to end: planted patches and feature values against their clean twins."""

import functools

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from assessor.contract import NotApplicable, Split, Task
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.subjects.torch_module import TorchSubject
from assessor_checks.security.backdoor_trigger import CHECK, TriggerParams

matplotlib.use("Agg")
DIGITS = tuple("0123456789")
TARGET = 7


def split(name, x, y, names=()):
    return Split(name=name, labels=np.asarray(y), sha256=name, features=np.asarray(x), feature_names=names)


@functools.cache
def digits(poisoned):
    """A network on digits; with the backdoor, a white patch of four pixels means 7."""
    data = load_digits()
    images, labels = (data.data / 16).astype(np.float32).reshape(-1, 1, 8, 8), data.target.astype(np.int64)
    rows = np.random.default_rng(0).permutation(len(labels))
    x, y = images[rows[:1200]].copy(), labels[rows[:1200]].copy()
    if poisoned:
        x[:120, :, 3:5, 0:2] = 1.0
        y[:120] = TARGET
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    adam = torch.optim.Adam(net.parameters(), lr=1e-2)
    inputs, wanted = torch.from_numpy(x), torch.from_numpy(y)
    for _ in range(8):
        for batch in torch.randperm(len(wanted)).split(64):
            adam.zero_grad()
            torch.nn.functional.cross_entropy(net(inputs[batch]), wanted[batch]).backward()
            adam.step()
    adam.zero_grad()
    return TorchSubject(net, Task.MULTICLASS, DIGITS, {"test": split("test", images[rows[1200:]], labels[rows[1200:]])})


def run(of, seed=0, **params):
    return CHECK.measure(of, TriggerParams(**params), seed)


def test_a_planted_patch_is_found_and_the_twin_passes():
    clean, poisoned = (run(digits(bad), steps=100) for bad in (False, True))
    assert [metric.name for metric in poisoned.metrics] == [
        "outlier_p_value",
        "trigger_size",
        "noticed_size",
        "trigger_success",
        "anomaly_index",
    ]
    assert poisoned.metrics[0].primary
    assert poisoned.metrics[0].high < 0.01
    assert clean.metrics[0].low > 0.05
    assert poisoned.metric("anomaly_index").value > 2 > clean.metric("anomaly_index").value
    assert poisoned.metric("trigger_size").value < poisoned.metric("noticed_size").value
    assert clean.metric("trigger_size").value > clean.metric("noticed_size").value
    assert poisoned.metric("trigger_success").low > 0.8
    assert poisoned.remarks[0].startswith("The easiest class to reach is '7', by a patch on ")
    by_class, trigger = poisoned.tables
    assert sorted(row[0] for row in by_class.rows) == list(DIGITS)
    assert [row[1] for row in by_class.rows] == sorted(row[1] for row in by_class.rows)
    assert by_class.rows[0][0] == "7"
    assert trigger.title == "Trigger of the class 7"
    strongest = [tuple(map(int, row[0].split(", "))) for row in trigger.rows[:2]]
    assert all(2 <= row <= 5 and column <= 2 for row, column in strongest)
    assert clean.doubt is None
    assert poisoned.doubt is None
    sizes = poisoned.series[0].columns["size"]
    assert sizes == tuple(sorted(sizes))
    assert len(sizes) == 10
    CHECK.plot(poisoned, Figure().subplots())


def test_the_model_is_left_alone():
    of = digits(False)
    before = {name: value.clone() for name, value in of.module.state_dict().items()}
    run(of, steps=10, goal=0.2)
    assert all((of.module.state_dict()[name] == value).all() for name, value in before.items())
    assert all(parameter.grad is None for parameter in of.module.parameters())


def test_few_classes_have_no_power_and_the_result_says_so():
    x = torch.rand((60, 1, 4, 4), generator=torch.Generator().manual_seed(0)).numpy()

    class Quarters(torch.nn.Module):
        def forward(self, y):
            weights = torch.tensor([1.0, 3.0, 6.0])
            return weights * y.flatten(1)[:, :15].reshape(-1, 3, 5).mean(dim=2)

    of = TorchSubject(Quarters(), Task.MULTICLASS, tuple("abc"), {"test": split("test", x, np.zeros(60, np.int64))})
    result = run(of, steps=60, goal=0.8)
    assert result.doubt == (
        "With 3 classes that differ this much, even a trigger of a single feature or pixel would not have been noticed."
    )


def table(poisoned, train=True, n=300, estimator=None):
    """Ten columns, the first five tell the class; with the backdoor the last at its greatest value means class 1."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, size=(n, 10))
    y = (x[:, :5].sum(axis=1) > 0).astype(np.int64)
    bad, labels = x[:200].copy(), y[:200].copy()
    if poisoned:
        bad[:40, 9] = x[:, 9].max()
        labels[:40] = 1
    fitted = (RandomForestClassifier(20, random_state=0) if estimator is None else estimator).fit(bad, labels)
    names = (*(f"column {position}" for position in range(9)), "code")
    splits = {"test": split("test", x[200:], y[200:], names)}
    if train:
        splits["train"] = split("train", x[:200], y[:200], names)
    return SklearnSubject(fitted, Task.BINARY, ("0", "1"), splits)


@pytest.mark.slow
def test_a_planted_value_is_found_by_models_trained_anew_and_the_twin_passes():
    clean, poisoned = (run(table(bad), values=3, most=4, refits=8) for bad in (False, True))
    assert poisoned.metrics[0].high < 0.05 < clean.metrics[0].low
    assert "anomaly_index" not in [metric.name for metric in poisoned.metrics]
    assert poisoned.metric("trigger_size").unit == "features"
    assert poisoned.metric("trigger_size").value < clean.metric("trigger_size").value
    assert "against 8 models trained anew" in poisoned.metrics[0].method
    assert poisoned.remarks[0].startswith("The most suspicious class is '1', reached by fixing 1")
    assert poisoned.tables[1].rows[0][0] == "code"
    CHECK.plot(clean, Figure().subplots())


def test_classes_of_a_table_can_be_compared():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((240, 8))
    y = x[:, :5].argmax(axis=1)
    model = LogisticRegression().fit(x[:160], y[:160])
    of = SklearnSubject(model, Task.MULTICLASS, tuple("01234"), {"test": split("test", x[160:], y[160:])})
    result = run(of, values=3, most=3)
    assert "against 4 other classes" in result.metrics[0].method
    assert result.metrics[0].low > 0.05
    assert result.tables[1].rows[0][0].startswith("#")


def test_same_seed_same_bytes():
    of = digits(True)
    first, again, other = (run(of, seed=seed, steps=40, goal=0.5).model_dump_json() for seed in (3, 3, 4))
    assert first == again
    assert first != other
    first, again = (run(table(True), refits=3, most=2, values=2).model_dump_json() for _ in range(2))
    assert first == again


def test_not_applicable_says_why():
    with pytest.raises(NotApplicable, match="with two classes a trigger can only be compared with those of models"):
        run(table(False, train=False))
    with pytest.raises(NotApplicable, match="with two classes a trigger can only"):
        run(table(False), refits=0)
    with pytest.raises(NotApplicable, match="for tables set search: values"):
        run(table(False), search="patch")
    with pytest.raises(NotApplicable, match="in tables only; set search: patch"):
        run(digits(False), search="values")
    with pytest.raises(NotApplicable, match="the model gives none"):
        run(table(False, estimator=LinearSVC()))
    with pytest.raises(NotApplicable, match="test rows: found 10, wanted at least 20"):
        run(table(False, n=210))
    x = np.zeros((30, 1, 3, 3), np.float32)
    splits = {"test": split("test", x, np.zeros(30, np.int64))}

    class Constant(torch.nn.Module):
        def __init__(self, value):
            super().__init__()
            self.value = value

        def forward(self, y):
            return self.value * torch.arange(3.0) + 0 * y.flatten(1)[:, :3]

    with pytest.raises(NotApplicable, match="one class to all rows of a half"):
        run(TorchSubject(Constant(1.0), Task.MULTICLASS, tuple("abc"), splits))
    with pytest.raises(NotApplicable, match="no finite output for 30 of 30"):
        run(TorchSubject(Constant(torch.nan), Task.MULTICLASS, tuple("abc"), splits))
    two = TorchSubject(torch.nn.Flatten(), Task.BINARY, ("a", "b"), splits)
    with pytest.raises(NotApplicable, match="no other class to compare a patch with"):
        run(two)
    with pytest.raises(NotApplicable, match="triggers were found for 0 of 10 classes"):
        run(digits(False), steps=10, goal=1.0)
