"""generalization.mode_connectivity end to end: twins with and without a barrier, and what is refused."""

import copy
import functools

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from assessor.contract import Lent, NotApplicable, Split, Task, lending
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.subjects.torch_module import TorchSubject
from assessor_checks import _interpolation as paths
from assessor_checks.generalization import _permutation as permutation
from assessor_checks.generalization.mode_connectivity import CHECK, ModeConnectivityParams

matplotlib.use("Agg")
DIGITS = tuple("0123456789")
NAMES = [
    *("barrier", "barrier_location", "barrier_aligned", "worst_layer_barrier", "worst_layer_hump"),
    *("predicted_barrier", "distance"),
]


def split(name, x, y):
    return Split(name=name, labels=np.asarray(y), sha256=name, features=np.asarray(x))


@functools.cache
def digits():
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    x, y = (data.data[order] / 16).astype(np.float32), data.target[order].astype(np.int64)
    return {"train": split("train", x[:1200], y[:1200]), "test": split("test", x[1200:], y[1200:])}


@functools.cache
def _fitted(start, order, steps, norm):
    torch.manual_seed(start)
    net = torch.nn.Sequential()
    for _ in range(3):
        net.extend([torch.nn.Linear(64, 64), *([torch.nn.BatchNorm1d(64)] if norm else []), torch.nn.ReLU()])
    net.append(torch.nn.Linear(64, 10))
    x, y = (torch.from_numpy(getattr(digits()["train"], what)) for what in ("features", "labels"))
    generator = torch.Generator().manual_seed(order)
    for _ in range(steps):
        rows = torch.randint(0, len(x), (64,), generator=generator)
        loss = torch.nn.functional.cross_entropy(net(x[rows]), y[rows])
        with torch.no_grad():
            for parameter, gradient in zip(
                net.parameters(), torch.autograd.grad(loss, list(net.parameters())), strict=True
            ):
                parameter.sub_(0.1 * gradient)
    return net.eval()


def trained(start, order=0, steps=600, norm=False):
    """A fresh copy of the digits MLP 64-64-64-64-10, plain gradient descent at rate 0.1."""
    return copy.deepcopy(_fitted(start, order, steps, norm))


def subject(a, b, splits=None, task=Task.MULTICLASS, classes=DIGITS, **more):
    splits = splits or digits()
    return TorchSubject(a, task, classes, splits, baseline=TorchSubject(b, task, classes, splits, **more), **more)


def run(found, seed=0, **params):
    """On 300 rows, which is quick, unless said otherwise."""
    return CHECK.measure(found, ModeConnectivityParams(**{"max_samples": 300} | params), seed)


def table(result, name):
    return next(each for each in result.tables if each.name == name)


@functools.cache
def independent():
    """Two networks from different initialisations."""
    return run(subject(trained(0), trained(1, 1)), max_samples=1000)


@pytest.mark.slow
def test_networks_of_different_origin_have_a_barrier_and_single_layers_have_none():
    result = independent()
    assert [m.name for m in result.metrics] == NAMES
    barrier = result.metric("barrier")
    assert barrier.primary
    assert 0.5 < barrier.low < barrier.value < barrier.high
    assert result.metric("barrier_location").value == 0.5
    assert result.metric("worst_layer_barrier").high < barrier.low
    assert result.metric("worst_layer_hump").high < 0  # along its own line every layer's loss is convex
    assert result.metric("barrier_aligned").high < barrier.low / 2
    assert 0 < result.metric("predicted_barrier").value < barrier.value
    assert result.doubt is None
    assert result.remarks[0] == "597 of 597 test rows; 8 tensors are moved."
    assert result.remarks[1].startswith("Alignment renumbered ")
    assert result.remarks[1].endswith(" of 192 hidden units of the baseline.")
    assert result.remarks[2].startswith("Distance of the parameters: 17.")


def test_tables_and_curve_agree_with_the_metrics():
    result = independent()
    assert [each.name for each in result.tables] == ["layers", "cumulative", "averages", "ends"]
    layers = table(result, "layers").rows
    assert [row[:2] for row in layers] == [(n, w) for n in ("0", "2", "4", "6") for w in ("model", "baseline")]
    assert max(row[2] for row in layers) == result.metric("worst_layer_barrier").value
    assert max(row[3] for row in layers) == result.metric("worst_layer_hump").value
    groups = {row[:2]: row[2:] for row in table(result, "cumulative").rows}
    assert groups["first", 1] == pytest.approx([row[2] for row in layers[:2]], rel=1e-6)
    assert groups["last", 1] == pytest.approx([row[2] for row in layers[-2:]], rel=1e-6)
    assert groups["first", 4] == pytest.approx([result.metric("barrier").value] * 2, rel=1e-3)
    averages = {row[0]: row[1:] for row in table(result, "averages").rows}
    columns = result.series[0].columns
    assert averages["model"][0] == pytest.approx(columns["loss"][0])
    assert averages["plain average"][0] == pytest.approx(columns["loss"][5])
    assert averages["plain average after alignment"][0] == pytest.approx(columns["aligned"][5])
    assert averages["Fisher-weighted average"][0] < averages["plain average"][0] / 2
    assert averages["model"][2] > 0.9 > averages["plain average"][2]
    rise = np.array(columns["loss"]) - np.array(columns["straight"])
    assert rise.max() == pytest.approx(result.metric("barrier").value)
    assert rise[[0, -1]].tolist() == [0, 0]
    (model, baseline) = table(result, "ends").rows
    assert model[1] == pytest.approx(columns["loss"][0], rel=1e-6)
    distance, foretold = result.metric("distance").value, result.metric("predicted_barrier").value
    slope, bend = (model[2] - baseline[2]) * distance, (model[3] + baseline[3]) * distance**2
    assert foretold == pytest.approx(slope / 4 + bend / 16, rel=0.05)  # in the middle, where the highest nearly is


def test_networks_of_one_origin_are_connected():
    result = run(subject(trained(0), trained(0, 1)))
    assert result.metric("barrier").high < 0.1
    assert result.metric("worst_layer_barrier").value < 0.1
    assert result.metric("distance").value < independent().metric("distance").value / 5


def renumbered(net, seed=0):
    groups, state = permutation.groups_of(net), paths.state_of(net)
    generator = np.random.default_rng(seed)
    twin = copy.deepcopy(net)
    orders = {group: generator.permutation(size) for group, size in groups.sizes.items()}
    twin.load_state_dict({**net.state_dict(), **permutation.permuted(groups, state, orders)})
    return twin


def test_a_renumbered_copy_has_a_barrier_that_alignment_removes():
    result = run(subject(trained(0).double(), renumbered(trained(0).double())), layers=False)
    assert [m.name for m in result.metrics] == [name for name in NAMES if "layer" not in name]
    assert result.metric("barrier").low > 0.5
    assert result.metric("barrier_aligned").value == pytest.approx(0, abs=1e-12)
    assert result.remarks[-1].endswith("after alignment 0.")
    assert [each.name for each in result.tables] == ["averages", "ends"]


def test_the_same_network_is_zero_throughout():
    result = run(subject(trained(0), trained(0)))
    assert [m.name for m in result.metrics] == [name for name in NAMES if name != "barrier_location"]
    for metric in result.metrics:
        assert metric.value == 0
    for name in ("barrier", "barrier_aligned", "worst_layer_barrier", "worst_layer_hump"):
        assert result.metric(name).high < 1e-12
    assert "8 of 8 tensors are the same in both networks." in result.remarks
    assert "No network of the grid lies above the straight line between the ends, so no place is given." in (
        result.remarks
    )


def test_untrained_networks_are_doubtful():
    doubt = run(subject(trained(0, steps=0), trained(1, steps=0)), layers=False).doubt
    assert doubt.startswith("The model's loss is 2.3")
    assert doubt.endswith("the lack of a barrier means nothing.")
    assert run(subject(trained(0), trained(1, steps=0)), layers=False).doubt.startswith("The baseline's loss")
    x = digits()["test"].features
    alike = {name: split(name, x[:60], np.zeros(60, np.int64)) for name in ("train", "test")}
    assert run(subject(trained(0), trained(1), alike), layers=False).doubt.startswith("All test labels are the same")


@pytest.mark.slow
def test_statistics_are_recomputed_for_every_network():
    pair = subject(trained(0, steps=100, norm=True), trained(1, 1, steps=100, norm=True))
    fresh, stale = run(pair), run(pair, layers=False, recompute_batchnorm=False)
    assert [m.name for m in fresh.metrics] == NAMES
    assert [m.name for m in stale.metrics] == ["barrier", "barrier_location", "barrier_aligned", "distance"]
    assert fresh.metric("barrier").high < stale.metric("barrier").low
    assert fresh.remarks[0] == "300 of 597 test rows; 14 tensors are moved."
    assert fresh.remarks[1].startswith("Every network has batch normalisation statistics of its own from 300 train")
    assert stale.remarks[1].startswith("The running statistics of 3 batch normalisation layers are moved")
    assert "Slope and curvature at the ends are left out, since running statistics have no gradients." in stale.remarks
    assert [row[0] for row in table(fresh, "layers").rows[::2]] == ["0", "1", "3", "4", "6", "7", "9"]
    twin = run(subject(trained(0, steps=100, norm=True), trained(0, steps=100, norm=True)), layers=False)
    assert twin.metric("barrier").value == 0


def test_without_a_train_split_the_weights_come_from_the_test_rows():
    alone = {"test": digits()["test"]}
    result = run(subject(trained(0, norm=True, steps=20), trained(1, norm=True, steps=20), alone), layers=False)
    assert "The running statistics of 3 batch normalisation layers" in result.remarks[1]
    assert result.remarks[2].startswith("Without a train split the Fisher weights come from the test rows")


def fits(a, b, n=40, task=Task.REGRESSION):
    """Linear regressions: the mean loss is quadratic in the parameters."""
    nets = [torch.nn.Linear(3, 1).double() for _ in range(2)]
    for net, value in zip(nets, (a, b), strict=True):
        with torch.no_grad():
            net.weight.fill_(value)
            net.bias.zero_()
    x = np.random.default_rng(0).standard_normal((n, 3))
    return subject(*nets, {name: split(name, x, x.sum(axis=1)) for name in ("train", "test")}, task, ())


def test_a_quadratic_loss_has_no_barrier_and_is_foretold():
    result = run(fits(0.9, 1.3))
    assert result.metric("barrier").value == 0
    assert result.metric("predicted_barrier").value == pytest.approx(0, abs=1e-12)
    assert result.metric("worst_layer_hump").value < 0
    assert "barrier_aligned" not in [m.name for m in result.metrics]
    assert "Units were not aligned: the model has no hidden units that could be renumbered." in result.remarks
    assert result.metric("barrier").unit == "squared units of the target"
    assert result.metric("distance").value == pytest.approx(0.4 * 3**0.5)
    assert table(result, "averages").columns == ("network", "mean loss", "against the mean of both")
    columns = result.series[0].columns
    assert columns["foretold"] == pytest.approx(columns["loss"])
    x = np.random.default_rng(0).standard_normal((40, 3)).sum(axis=1)
    curvature = 0.4**2 * np.mean(x**2)
    assert columns["loss"][5] - columns["straight"][5] == pytest.approx(-curvature / 8)
    assert result.doubt is None
    assert run(fits(-3.0, 1.3)).doubt.startswith("The model's loss is ")


def test_binary_with_one_output():
    data, nets = digits(), []
    parts = {name: split(name, part.features, part.labels % 2) for name, part in data.items()}
    for seed in (0, 1):
        torch.manual_seed(seed)
        nets.append(torch.nn.Sequential(torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1)))
    result = run(subject(*nets, parts, Task.BINARY, ("even", "odd")), layers=False, max_samples=1000)
    assert table(result, "averages").rows[0][3] == pytest.approx(
        ((nets[0](torch.from_numpy(parts["test"].features))[:, 0] > 0).numpy() == parts["test"].labels).mean()
    )


def test_rows_and_grid_are_chosen():
    result = run(subject(trained(0), trained(1, 1)), max_samples=100, steps=20, layers=False, align=False)
    assert result.metric("barrier").n == 100
    assert result.remarks[0] == "100 of 597 test rows; 8 tensors are moved."
    assert len(result.series[0].columns["loss"]) == 21
    assert "aligned" not in result.series[0].columns
    with pytest.raises(ValueError, match="multiple of 2"):
        ModeConnectivityParams(steps=11)


def test_few_rows_are_doubtful_and_one_has_no_interval():
    few = run(subject(trained(0), trained(1, 1)), max_samples=19, layers=False)
    assert few.doubt == "19 test rows are too few for the interval, which is too narrow below 20."
    one = run(subject(trained(0), trained(1, 1)), max_samples=1)
    for metric in one.metrics:
        assert metric.low is None
        assert metric.method.endswith("; no interval from one row")
    assert "low" not in one.series[0].columns
    CHECK.plot(one, Figure().add_subplot())


def test_same_seed_same_bytes_and_the_models_stay_as_they_are():
    a, b = trained(0, norm=True, steps=20), trained(1, norm=True, steps=20)
    found, before = subject(a, b), [copy.deepcopy(net.state_dict()) for net in (a, b)]
    first, again, other = (run(found, seed=seed, max_samples=50, layers=False) for seed in (0, 0, 1))
    assert first.model_dump_json() == again.model_dump_json()
    assert first.metric("barrier").value != other.metric("barrier").value
    for net, state in zip((a, b), before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
        assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())
        assert not any(part.training for part in net.modules())


def test_layers_are_kept_between_runs():
    store, seen = {}, []
    lent = Lent(lambda what, done, total: seen.append((what, done, total)), lambda key: store.get(str(key)), None)
    lent = Lent(lent.progress, lent.find, lambda key, value: store.__setitem__(str(key), value))
    found = subject(trained(0), trained(1, 1))
    with lending(lent):
        first = run(found, max_samples=50)
        assert len(store) == 8
        assert seen[:4] == [("layers", done, 4) for done in range(1, 5)]
        assert seen[4:] == [("groups of layers", done, 7) for done in range(1, 8)]
        assert run(found, max_samples=50).model_dump_json() == first.model_dump_json()
        assert len(store) == 8
    assert run(found, max_samples=50).model_dump_json() == first.model_dump_json()


def test_not_applicable_says_why():
    net, wider = trained(0), torch.nn.Sequential(torch.nn.Linear(64, 10))
    with pytest.raises(NotApplicable, match=r"of another architecture than the model: its '0.weight' has shape"):
        run(subject(net, wider))
    with pytest.raises(NotApplicable, match="no model to compare with"):
        run(TorchSubject(net, Task.MULTICLASS, DIGITS, digits()))
    other = trained(1)
    other[1] = torch.nn.Tanh()
    with pytest.raises(NotApplicable, match="they differ in more than their parameters"):
        run(subject(net, other))
    empty = {name: split(name, np.empty((0, 64), np.float32), np.empty(0, np.int64)) for name in ("train", "test")}
    with pytest.raises(NotApplicable, match="the test split has no rows"):
        run(subject(net, trained(1), empty))
    broken = trained(1)
    with torch.no_grad():
        broken[6].bias[0] = torch.nan
    with pytest.raises(NotApplicable, match="the baseline's outputs are not finite"):
        run(subject(net, broken))
    with pytest.raises(NotApplicable, match="no finite loss on 300 of 300 test rows"):
        run(subject(broken, trained(1)))
    with pytest.raises(NotApplicable, match="no parameters that could be moved"):
        run(subject(torch.nn.Flatten(), torch.nn.Flatten()))
    part = digits()["test"]
    logistic = LogisticRegression(max_iter=5, tol=1.0).fit(part.features, part.labels)
    with pytest.raises(NotApplicable, match="no PyTorch module"):
        run(SklearnSubject(logistic, Task.MULTICLASS, DIGITS, digits()))


class Once(torch.autograd.Function):
    """Doubles its input, and has a first derivative only."""

    @staticmethod
    def forward(ctx, inputs):
        return 2 * inputs

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return 2 * grad


def test_what_has_no_second_derivative_is_left_out():
    class Coarse(torch.nn.Module):
        def __init__(self, seed, act):
            super().__init__()
            torch.manual_seed(seed)
            self.layer, self.act = torch.nn.Linear(64, 10), act

        def forward(self, inputs):
            return self.act(self.layer(inputs))

    for act in (Once.apply, torch.no_grad()(torch.tanh)):
        result = run(subject(Coarse(0, act), Coarse(1, act)), max_samples=20, layers=False)
        assert [m.name for m in result.metrics][-1] == "distance"
        assert "predicted_barrier" not in [m.name for m in result.metrics]
        assert "ends" not in [each.name for each in result.tables]
        assert "Slope and curvature at the ends are left out: the model cannot be differentiated twice." in (
            result.remarks
        )


def test_train_mode_is_refused():
    class Stubborn(torch.nn.Sequential):
        def train(self, mode=True):
            return super().train(True)

    nets = [Stubborn(torch.nn.Linear(64, 10), torch.nn.BatchNorm1d(10)) for _ in range(2)]
    with pytest.raises(NotApplicable, match="is in train mode"):
        run(subject(*nets))


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(independent(), axes)
    assert axes.get_xlabel() == "from the model (0) to the baseline (1)"
    assert axes.get_ylabel() == "mean test loss (nats)"
    assert [line.get_label() for line in axes.get_lines()] == ["as they are", "aligned", "straight line"]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    here = run(subject(trained(0), trained(1, 1))).metrics
    there = run(subject(trained(0), trained(1, 1), device="cuda")).metrics
    for one, other in zip(here, there, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-3, abs=1e-4)
