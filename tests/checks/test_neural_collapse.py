"""generalization.neural_collapse end to end: collapsed features and their spread twin, and what is refused."""

import functools

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression

from assessor.contract import Better, NotApplicable, Split, Task
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.subjects.torch_module import TorchSubject
from assessor_checks.generalization.neural_collapse import CHECK, NeuralCollapseParams

matplotlib.use("Agg")
CLASSES = ("a", "b", "c")
NAMES = ["nc1", "nc2_norms", "nc2_angles", "nc3", "nc4"]


def split(name, x, y):
    return Split(name=name, labels=np.asarray(y, dtype=np.int64), sha256=name, features=np.asarray(x))


def simplex():
    """Three unit vectors in the plane, 120 degrees apart."""
    turns = 2 * np.pi * np.arange(3) / 3
    return np.stack([np.cos(turns), np.sin(turns)], axis=1)


def head(weight, bias=None):
    """A model whose features are its inputs."""
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0]).double()
    with torch.no_grad():
        layer.weight.copy_(torch.as_tensor(weight))
        layer.bias.copy_(torch.zeros(len(weight)) if bias is None else torch.as_tensor(bias))
    return layer


def around(noise, n=60, seed=0, means=None):
    """n rows around the simplex, with classes in turn."""
    labels = np.arange(n) % 3
    means = simplex() if means is None else means
    return means[labels] + noise * np.random.default_rng(seed).standard_normal((n, means.shape[1])), labels


def subject(noise=0.1, n=60, weight=None, task=Task.MULTICLASS, classes=CLASSES, **splits):
    found = {"train": around(noise, n), "test": around(3 * noise, n // 2, seed=1)} | splits
    parts = {name: split(name, *data) for name, data in found.items()}
    return TorchSubject(head(5 * simplex() if weight is None else weight), task, classes, parts)


def run(found, seed=0, **params):
    return CHECK.measure(found, NeuralCollapseParams(**{"replicates": 200} | params), seed)


def test_reports_everything_and_equals_the_definition():
    result = run(subject())
    x, y = around(0.1)
    means = np.stack([x[y == label].mean(axis=0) for label in range(3)])
    centred = means - means.mean(axis=0)
    within = np.mean([np.cov(x[y == label].T, ddof=0) for label in range(3)], axis=0)
    nc1 = np.trace(within @ np.linalg.inv(centred.T @ centred / 3)) / 3
    assert [m.name for m in result.metrics] == [*NAMES, "nc1_test", "nc4_test"]
    assert result.metric("nc1").value == pytest.approx(nc1, rel=1e-12)
    assert result.metric("nc1").primary
    scaled = (5 * simplex()) / np.linalg.norm(5 * simplex()) - centred / np.linalg.norm(centred)
    assert result.metric("nc3").value == pytest.approx(np.linalg.norm(scaled), rel=1e-12)
    for metric in result.metrics:
        assert metric.low <= metric.value <= metric.high
        assert metric.better is Better.NONE
        assert metric.confidence == 0.95
    (table,) = result.tables
    assert [row[:2] for row in table.rows] == [("a", 20), ("b", 20), ("c", 20)]
    assert np.mean([row[4] for row in table.rows]) == pytest.approx(nc1)
    assert result.doubt is None
    assert result.remarks == ("2 features in front of the last layer; 3 classes with 60 train rows.",)
    assert result.series[0].columns["train"][50] < result.series[0].columns["test"][50]


def test_collapsed_features_are_zero_and_their_spread_twin_is_not():
    collapsed, spread = run(subject(noise=0.0)), run(subject(noise=0.2, n=400))
    for name in NAMES:
        assert collapsed.metric(name).value == pytest.approx(0, abs=1e-14)
    assert spread.metric("nc1").low > 0.02 > collapsed.metric("nc1").high
    assert spread.metric("nc1_test").low > spread.metric("nc1").high


def test_uneven_means_and_turned_weights_show():
    stretched = simplex() * np.array([[1.0], [2.0], [3.0]])
    parts = {"train": around(0.05, means=stretched), "test": around(0.05, 30, 1, means=stretched)}
    turned = 5 * simplex() @ np.array([[0.0, -1.0], [1.0, 0.0]])
    plain, uneven, crooked = run(subject(noise=0.05)), run(subject(**parts)), run(subject(noise=0.05, weight=turned))
    for name in ("nc2_norms", "nc2_angles"):
        assert uneven.metric(name).low > plain.metric(name).high
    assert crooked.metric("nc3").value == pytest.approx(2**0.5, rel=0.01)
    assert crooked.metric("nc4").low > plain.metric("nc4").high


def test_nc4_takes_the_means_of_the_train_split():
    # The test rows lie around other points, but decide by the train means as the model does: no disagreement.
    shifted = around(0.01, 30, 1, means=simplex() @ np.array([[0.8, -0.6], [0.6, 0.8]]))
    result = run(subject(noise=0.01, test=shifted))
    assert result.metric("nc4_test").value == 0
    biased = TorchSubject(head(5 * simplex(), bias=[9.0, 0, 0]), Task.MULTICLASS, CLASSES, subject(0.01).splits)
    assert run(biased).metric("nc4").value == pytest.approx(2 / 3)
    assert "40 of 60 train rows are classified wrongly" in run(biased).remarks[1]


def test_test_split_on_request():
    result = run(subject(), split="test")
    assert [m.name for m in result.metrics] == [*NAMES, "nc1_train", "nc4_train"]
    assert result.metric("nc1").value == run(subject()).metric("nc1_test").value
    assert result.metric("nc1").n == 30


def test_two_classes_leave_nc2_out_and_one_output_counts_as_two():
    x, y = np.array([[-1.0, 0.1], [-1.0, -0.1], [1.0, 0.2], [1.0, -0.2]] * 5), np.array([0, 0, 1, 1] * 5)
    parts = {"train": (x, y), "test": (x, y)}
    one, two = (
        run(subject(task=Task.BINARY, classes=("no", "yes"), weight=weight, **parts))
        for weight in (np.array([[4.0, 0.0]]), np.array([[-2.0, 0.0], [2.0, 0.0]]))
    )
    assert [m.name for m in one.metrics] == ["nc1", "nc3", "nc4", "nc1_test", "nc4_test"]
    assert one.metrics == two.metrics
    assert one.metric("nc3").value == pytest.approx(0, abs=1e-15)
    assert "NC2 is left out" in one.remarks[1]
    uncentred = run(
        subject(task=Task.BINARY, classes=("no", "yes"), weight=np.array([[0.0, 0.0], [4.0, 0.0]]), **parts)
    )
    assert uncentred.metric("nc3").value == pytest.approx((2 - 2**0.5) ** 0.5)
    assert uncentred.remarks[-1].startswith("The weight vectors have a part in common that changes no decision")
    assert uncentred.remarks[-1].endswith("instead of 0.765.")


def test_small_classes_are_named():
    x, y = around(0.1)
    x, y = np.concatenate([x, [[0.0, 0.0]]]), np.append(y, 3)
    weight = np.concatenate([5 * simplex(), [[0.0, 0.0]]])
    result = run(subject(weight=weight, classes=(*CLASSES, "rare"), train=(x, y)))
    assert "Left out because they have fewer than two rows in the train split: rare." in result.remarks
    assert [row[0] for row in result.tables[0].rows] == list(CLASSES)
    assert result.metric("nc1").n == 60
    assert result.metric("nc4").n == 61


def test_few_rows_against_the_spread_are_doubtful():
    doubt = run(subject(noise=0.8, n=9)).doubt
    assert doubt.startswith("There are too few rows a class (3 in the smallest) for their means")
    assert run(subject(noise=0.1, n=300)).doubt is None


def test_too_few_features_for_the_classes_are_told():
    means = np.array([[0.0], [1.0], [3.0]])
    parts = {"train": around(0.01, means=means), "test": around(0.01, means=means)}
    result = run(subject(weight=np.array([[-1.0], [0.0], [1.0]]), **parts))
    assert "1 features are too few for 3 classes to lie as NC2 describes." in result.remarks
    assert np.isfinite(result.metric("nc1").value)


def test_weights_of_zero_have_no_direction():
    result = run(subject(weight=np.zeros((3, 2))))
    assert "nc3" not in [m.name for m in result.metrics]
    assert "All weights of the last layer are 0, so nc3 is left out." in result.remarks


def test_another_split_without_enough_rows_is_left_out():
    result = run(subject(test=(simplex()[:2], [0, 1])))
    assert [m.name for m in result.metrics] == [*NAMES, "nc4_test"]
    assert result.series[0].columns["test"] == (None,) * 101
    assert result.remarks[-1] == "The other split has too few rows or classes for nc1."
    CHECK.plot(result, Figure().add_subplot())


def test_same_seed_same_bytes():
    found = subject()
    assert run(found, seed=3).model_dump_json() == run(found, seed=3).model_dump_json()
    assert run(found, seed=3).metrics[0].low != run(found, seed=4).metrics[0].low


def test_not_applicable_says_why():
    with pytest.raises(NotApplicable, match="no class has two rows in the train split"):
        run(subject(train=(simplex(), [0, 1, 2])))
    with pytest.raises(NotApplicable, match="only class 'b' has two rows in the train split"):
        run(subject(train=(simplex(), [1, 1, 2])))
    with pytest.raises(NotApplicable, match="only class 'b' has two rows in the test split"):
        run(subject(test=(simplex(), [1, 1, 2])), split="test")
    with pytest.raises(NotApplicable, match="the same mean in every class of the train split"):
        run(subject(train=(np.ones((6, 2)), [0, 0, 1, 1, 2, 2])))
    with pytest.raises(NotApplicable, match="no rows"):
        run(subject(test=(np.empty((0, 2)), [])))
    weight = 5 * simplex()
    weight[0, 0] = np.nan
    with pytest.raises(NotApplicable, match="logits are not finite for 60 of 60 rows of train"):
        run(subject(weight=weight))
    x, y = around(0.1)
    parts = {name: split(name, x, y) for name in ("train", "test")}
    with pytest.raises(NotApplicable, match="not the output of its last linear layer"):
        run(TorchSubject(torch.nn.Sequential(head(simplex()), torch.nn.Softmax(1)), Task.MULTICLASS, CLASSES, parts))
    with pytest.raises(NotApplicable, match="no PyTorch module"):
        run(SklearnSubject(LogisticRegression().fit(x, y), Task.MULTICLASS, CLASSES, parts))


@functools.cache
def _trained(steps):
    """A small network on noisy rings, and its data."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.ReLU(), torch.nn.Linear(32, 16), torch.nn.ReLU())
    net.append(torch.nn.Linear(16, 3))
    x, y = around(0.2, 90)
    inputs, labels = torch.from_numpy(x).float(), torch.from_numpy(y)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.5, momentum=0.9, weight_decay=1e-3)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(inputs), labels).backward()
        optimiser.step()
    net.zero_grad()
    return net


def test_training_collapses_the_features():
    parts = {"train": split("train", *around(0.2, 90)), "test": split("test", *around(0.2, 90, 1))}
    parts = {name: split(name, part.features.astype(np.float32), part.labels) for name, part in parts.items()}
    start, end = (run(TorchSubject(_trained(steps), Task.MULTICLASS, CLASSES, parts)) for steps in (0, 150))
    for name in ("nc1", "nc2_norms", "nc2_angles", "nc3", "nc4"):
        assert end.metric(name).value < start.metric(name).value
    assert end.metric("nc1").high < start.metric("nc1").low


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(subject()), axes)
    assert axes.get_xlabel() == "share of rows"
    assert axes.get_ylabel() == "distance from the class mean / distance of the means"
    assert len(axes.get_lines()) == 3
