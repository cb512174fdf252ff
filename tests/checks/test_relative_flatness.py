"""generalization.relative_flatness end to end on small networks."""

import copy
import functools

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression

from assessor.contract import NotApplicable, Split, Task
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.subjects.torch_module import TorchSubject
from assessor_checks._intervals import bootstrap_mean
from assessor_checks._losses import least_loss
from assessor_checks.generalization.relative_flatness import CHECK, RelativeFlatnessParams

matplotlib.use("Agg")
CLASSES = ("a", "b", "c")


def split(name, x, y):
    return Split(name=name, labels=np.asarray(y), sha256=name, features=np.asarray(x))


def blobs(n=60, seed=0):
    """Three well separated classes in the plane."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    centres = np.array([[0.0, 3.0], [3.0, -2.0], [-3.0, -2.0]])
    return (centres[y] + 0.3 * rng.standard_normal((n, 2))).astype(np.float32), y.astype(np.int64)


@functools.cache
def _fitted(steps):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    x, y = map(torch.from_numpy, blobs())
    for _ in range(steps):
        found = torch.autograd.grad(torch.nn.functional.cross_entropy(net(x), y), list(net.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(net.parameters(), found, strict=True):
                parameter.sub_(0.5 * gradient)
    return net


def trained(steps=150):
    """A fresh copy of a small network; its training loss is below 0.01 after 150 steps."""
    return copy.deepcopy(_fitted(steps))


def subject(net, n=60, task=Task.MULTICLASS, classes=CLASSES, labels=None, **more):
    x, y = blobs(n)
    y = y if labels is None else labels
    splits = {"train": split("train", x, y), "test": split("test", *blobs(30, seed=1))}
    return TorchSubject(net, task, classes, splits, **more)


def run(found, seed=0, **params):
    return CHECK.measure(found, RelativeFlatnessParams(**params), seed)


def slow(net, x, y):
    """Relative flatness from the full Hessian of the last layer, float64."""
    net, x = net.double(), torch.from_numpy(x).double()
    phi, last = net[:-1](x).detach(), net[-1]

    def loss(w):
        return torch.nn.functional.cross_entropy(phi @ w.T + last.bias.detach(), torch.from_numpy(y))

    w = last.weight.detach()
    full = torch.func.jacrev(torch.func.jacrev(loss))(w)
    return torch.einsum("sutu,sv,tv->", full, w, w).item()


def test_equals_the_full_hessian_and_reports_everything():
    net = trained().double()
    result = run(subject(net), normalise="none")
    found = result.metric("relative_flatness")
    assert found.value == pytest.approx(slow(net, *blobs()), rel=1e-9)
    assert found.primary
    assert found.low < found.value < found.high
    assert [m.name for m in result.metrics] == [
        "relative_flatness",
        "relative_flatness_normalised",
        "relative_flatness_max",
        "neuron_flatness",
        "training_loss",
    ]
    assert 0 < result.metric("relative_flatness_max").value < found.value
    assert result.metric("relative_flatness_max").low is None
    assert result.doubt is None
    assert (
        result.remarks[0] == "Layer '2': 8 features, 3 outputs, loss softmax cross-entropy; 60 rows of the train split."
    )
    table, by_layer = result.tables
    assert [row[0] for row in by_layer.rows] == ["0", "2"]
    assert by_layer.rows[1][3] == pytest.approx(found.value, rel=1e-9)  # the same layer by its curvature
    assert [row[:2] for row in table.rows] == [("a", 20), ("b", 20), ("c", 20)]
    assert np.mean([row[2] for row in table.rows]) == pytest.approx(found.value)
    assert len(result.series[0].columns["kappa"]) == 60


def test_default_is_normalised_and_shows_the_other():
    net = trained()
    result, plain = run(subject(net)), run(subject(net), normalise="none")
    assert result.metrics[1].name == "relative_flatness_unnormalised"
    assert result.metrics[1].value == plain.metrics[0].value
    assert result.metrics[0].value == plain.metrics[1].value
    assert result.metrics[0].value != pytest.approx(plain.metrics[0].value, rel=0.01)


def test_interval_is_the_bootstrap_of_the_samples():
    result = run(subject(trained(), n=30), normalise="none")
    columns = result.series[0].columns["kappa"]  # 30 rows: every sample is in the sorted distribution
    assert np.mean(columns) == pytest.approx(result.metrics[0].value)
    ordered = bootstrap_mean(np.array(columns), 0)
    assert result.metrics[0].high - result.metrics[0].low == pytest.approx(ordered.high - ordered.low, rel=0.2)


def test_float32_is_near_float64():
    net = trained()
    single = run(subject(net)).metrics
    double = run(subject(net.double())).metrics
    for one, other in zip(single, double, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-4)


def rescaled(net, factors):
    """The same function: first layer's units multiplied by factors, the last layer's columns divided."""
    with torch.no_grad():
        net[0].weight.mul_(factors[:, None])
        net[0].bias.mul_(factors)
        net[2].weight.div_(factors)
    return net


def test_reparameterised_twin_gives_the_same_value():
    before = run(subject(trained().double()))
    after = run(subject(rescaled(trained().double(), torch.logspace(-1, 1, 8).double())))
    assert after.metrics[0].value == pytest.approx(before.metrics[0].value, rel=1e-9)
    assert after.metrics[1].value != pytest.approx(before.metrics[1].value, rel=0.1)
    layer = run(subject(rescaled(trained().double(), torch.full((8,), 5.0).double())))
    assert [m.value for m in layer.metrics] == pytest.approx([m.value for m in before.metrics], rel=1e-9)


def test_permuted_labels_change_only_the_training_loss():
    net, (_, y) = trained(), blobs()
    before, after = run(subject(net)), run(subject(net, labels=y[::-1].copy()))
    assert after.metrics[:3] == before.metrics[:3]
    assert after.tables == before.tables
    assert after.doubt is not None


def test_untrained_model_is_doubtful_and_its_trained_twin_is_not():
    doubt = run(subject(trained(steps=0))).doubt
    assert doubt.startswith("The mean training loss is ")
    assert doubt.endswith(
        "above 0.1: the model is not near a minimum of the training loss, "
        "where relative flatness says something about generalization."
    )
    assert run(subject(trained())).doubt is None
    assert run(subject(trained(steps=0)), max_training_loss=100).doubt is None


def test_sharper_twin_has_the_higher_value():
    # The same logits through a less certain head: temperature 4 leaves p far from one-hot, hence more curvature.
    soft = trained()
    with torch.no_grad():
        soft[2].weight.div_(4)
        soft[2].bias.div_(4)
    assert run(subject(soft)).metrics[0].low > run(subject(trained())).metrics[0].high


def test_sigmoid_equals_the_softmax_of_zero_and_z():
    torch.manual_seed(0)
    one = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1)).double()
    two = torch.nn.Sequential(one[0], one[1], torch.nn.Linear(4, 2).double())
    with torch.no_grad():
        two[2].weight.copy_(torch.cat([0 * one[2].weight, one[2].weight]))
        two[2].bias.copy_(torch.cat([0 * one[2].bias, one[2].bias]))
    labels = blobs()[1] % 2
    results = [run(subject(net, task=Task.BINARY, classes=("no", "yes"), labels=labels)) for net in (one, two)]
    for ours, theirs in zip(results[0].metrics, results[1].metrics, strict=True):
        assert ours.value == pytest.approx(theirs.value, rel=1e-9)
    assert [row[:2] for row in results[0].tables[0].rows] == [row[:2] for row in results[1].tables[0].rows]


def test_regression_by_hand():
    # phi = x, kappa_i = ||x_i||^2 ||w||^2 = (1 + 4, 9 + 0) 5; residuals 0 and 1: loss 1/4, unexplained 2 / 4 / 1.
    net = torch.nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[2.0, 1.0]]))
    x = np.array([[1.0, 2.0], [3.0, 0.0]], dtype=np.float32)
    splits = {"train": split("train", x, [4.0, 5.0]), "test": split("test", x, [4.0, 5.0])}
    result = run(TorchSubject(net, Task.REGRESSION, (), splits), normalise="none")
    assert result.metric("relative_flatness").value == pytest.approx(35.0)
    assert result.metric("relative_flatness_max").value == pytest.approx(5 * np.linalg.eigvalsh(x.T @ x / 2)[-1])
    assert result.metric("training_loss").value == pytest.approx(0.25)
    assert result.doubt.startswith("The share of the training targets' variance left unexplained is 2, above 0.1")
    assert result.metric("relative_flatness").unit == "squared units of the target"


def test_test_split_keeps_the_training_loss():
    net = trained()
    here, there = run(subject(net)), run(subject(net), split="test")
    assert there.metric("training_loss").value == here.metric("training_loss").value
    assert there.metrics[0].n == 30
    assert there.metrics[0].value != here.metrics[0].value


def test_weight_decay_is_added_and_said():
    net = trained().double()
    with_it, without = (run(subject(net), normalise="none", weight_decay=a) for a in (0.5, 0.0))
    squares = net[2].weight.square().sum().item()
    assert with_it.metrics[0].value - without.metrics[0].value == pytest.approx(8 * squares)
    assert with_it.metrics[2].value - without.metrics[2].value == pytest.approx(squares)
    assert "0.5 ||W||^2" in with_it.remarks[-1]


def test_one_row_cannot_be_normalised_and_says_so():
    for layer in (None, "2", "0"):
        with pytest.raises(NotApplicable, match=r"constant over these 1 rows.*set normalise: none"):
            run(subject(trained(), n=1), layer=layer)


def test_one_row_has_a_value_and_no_interval():
    result = run(subject(trained(), n=1), normalise="none")
    for metric in result.metrics:
        assert np.isfinite(metric.value)
        assert metric.low is None
    assert "no interval from one row" in result.metrics[0].method


def test_same_seed_same_bytes():
    found = subject(trained())
    assert run(found, seed=3).model_dump_json() == run(found, seed=3).model_dump_json()
    assert run(found, seed=3).metrics[0].low != run(found, seed=4).metrics[0].low


def test_softmax_collapse_and_constant_features_are_told():
    net = trained()
    with torch.no_grad():
        net[2].weight.mul_(1000)
        net[0].weight[0] = 0
    remarks = " ".join(run(subject(net)).remarks)
    assert "Softmax collapse: for 60 of 60 rows" in remarks
    assert "of 8 features are constant over these rows" in remarks


def test_not_applicable_says_why():
    with pytest.raises(NotApplicable, match=r"no layer '1' .*; nearest names: "):
        run(subject(trained()), layer="1")
    assert run(subject(trained()), layer="2").metrics
    with pytest.raises(NotApplicable, match="not the output of its last linear layer"):
        run(subject(torch.nn.Sequential(trained(), torch.nn.Softmax(1)), outputs="probabilities"))
    net = trained()
    with torch.no_grad():
        net[2].bias[0] = torch.nan
    with pytest.raises(NotApplicable, match="logits are not finite for 60 of 60 rows of train"):
        run(subject(net))
    empty = {name: split(name, np.empty((0, 2), np.float32), np.empty(0, np.int64)) for name in ("train", "test")}
    with pytest.raises(NotApplicable, match="no rows"):
        run(TorchSubject(net, Task.MULTICLASS, CLASSES, empty))
    x, y = blobs()
    splits = {name: split(name, x, y) for name in ("train", "test")}
    with pytest.raises(NotApplicable, match="no PyTorch module"):
        run(SklearnSubject(LogisticRegression().fit(x, y), Task.MULTICLASS, CLASSES, splits))


def hidden(net, x, y, layer):
    """Relative flatness of a layer of a Sequential from its full Hessian, float64, features as they are."""
    net, x = net.double(), torch.from_numpy(x).double()
    name = f"{layer}.weight"

    def loss(w):
        out = torch.func.functional_call(net, {name: w}, (x,))
        return torch.nn.functional.cross_entropy(out, torch.from_numpy(y))

    w = net.get_parameter(name).detach()
    full = torch.func.jacrev(torch.func.jacrev(loss))(w)
    return torch.einsum("sutu,sv,tv->", full, w, w).item()


def test_a_hidden_layer_is_exact_and_an_estimate_says_so():
    net = trained().double()
    result = run(subject(net), layer="0", normalise="none")
    exact = result.metric("relative_flatness")
    assert exact.value == pytest.approx(hidden(net, *blobs(), 0), rel=1e-9)
    assert "exact, 2 Hessian-vector products a row" in exact.method
    assert result.remarks[0] == "Layer '0': 2 features, 8 outputs; 60 rows of the train split."
    assert result.metric("training_loss").value == run(subject(net)).metric("training_loss").value
    estimate = run(subject(net), layer="0", normalise="none", exact=0, probes=64).metric("relative_flatness")
    assert "unbiased estimate from 64 random directions" in estimate.method
    assert estimate.value == pytest.approx(exact.value, rel=0.5)
    assert estimate.value != exact.value


def test_the_table_by_layer_can_be_left_out_and_is_bounded_in_rows():
    assert [table.name for table in run(subject(trained()), profile=False).tables] == ["by_class"]
    by_layer = run(subject(trained()), profile_rows=20).tables[-1]
    assert [row[2] for row in by_layer.rows] == [20, 20]
    for row in by_layer.rows:
        assert row[4] < row[3] < row[5]
        assert row[6] is None  # exact
    assert by_layer.columns[-1] == "error of the estimate"


def test_ratio_to_a_baseline():
    net = trained()
    twin = TorchSubject(rescaled(trained(), torch.full((8,), 3.0)), Task.MULTICLASS, CLASSES, subject(net).splits)
    same = run(subject(net, baseline=twin)).metric("flatness_ratio")
    assert (same.value, same.low, same.high) == pytest.approx((1, 1, 1), rel=1e-4)
    early = TorchSubject(trained(20), Task.MULTICLASS, CLASSES, subject(net).splits)
    result = run(subject(net, baseline=early))
    ratio = result.metric("flatness_ratio")
    there = run(early).metric("relative_flatness").value
    assert ratio.value == pytest.approx(result.metric("relative_flatness").value / there)
    assert ratio.low < ratio.value < ratio.high < 1
    assert not ratio.primary
    wider = torch.nn.Sequential(torch.nn.Linear(2, 9), torch.nn.ReLU(), torch.nn.Linear(9, 3))
    other = TorchSubject(wider, Task.MULTICLASS, CLASSES, subject(net).splits)
    result = run(subject(net, baseline=other))
    assert "flatness_ratio" not in [metric.name for metric in result.metrics]
    assert "another architecture (its '0.weight' has shape (9, 2), here (8, 2))" in " ".join(result.remarks)


def test_label_smoothing_has_its_own_least_loss():
    smoothed = run(subject(trained()), label_smoothing=0.1)
    assert smoothed.metrics[0] == run(subject(trained())).metrics[0]
    assert smoothed.metric("training_loss").value > run(subject(trained())).metric("training_loss").value
    perfect = trained()
    x, y = map(torch.from_numpy, blobs())
    best = torch.full((60, 3), 0.1 / 3).scatter_(1, y[:, None], 0.9 + 0.1 / 3).log()
    expected = torch.nn.functional.cross_entropy(best, y, label_smoothing=0.1).item()
    assert least_loss(3, 0.1) == pytest.approx(expected, rel=1e-6)
    assert perfect(x).shape == best.shape


def test_refusals_and_remarks_about_layers():
    with pytest.raises(NotApplicable, match="loss squared_error with a multiclass task is not covered; covered is"):
        run(subject(trained()), loss="squared_error")
    assert run(subject(trained()), loss="cross_entropy").metrics == run(subject(trained())).metrics
    with pytest.raises(ValueError, match="cross_entropy"):
        RelativeFlatnessParams(loss="hinge")
    with pytest.raises(NotApplicable, match=r"; or name another layer: 0.0, 0.2$"):
        run(subject(torch.nn.Sequential(trained(), torch.nn.Hardtanh())))
    frozen = trained()
    frozen[2].requires_grad_(False)
    assert "Layer '2' was frozen" in " ".join(run(subject(frozen)).remarks)
    assert run(subject(frozen)).metrics == run(subject(trained())).metrics

    class Stubborn(torch.nn.Dropout):
        def train(self, mode=True):
            return super().train(True)

    class Sampling(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.dropout(x, 0.5)

    with pytest.raises(NotApplicable, match="different outputs for the same inputs"):
        run(subject(torch.nn.Sequential(Sampling(), *trained())))
    net = torch.nn.Sequential(*trained(), Stubborn(0.5))
    with pytest.raises(NotApplicable, match=r"layer '3' \(Stubborn\) is in train mode"):
        run(subject(net))


def test_a_quantised_head_is_refused():
    class Packed(torch.nn.Module):
        def forward(self, x):
            return torch.cat([x, x[:, :1]], dim=1)

    Packed.__module__ = "torch.ao.nn.quantized.dynamic"
    with pytest.raises(NotApplicable, match="layer '0' is quantised"):
        run(subject(torch.nn.Sequential(Packed())))


def test_half_precision_is_measured_as_it_runs():
    half = run(subject(trained().bfloat16()))
    assert half.metrics[0].value == pytest.approx(run(subject(trained())).metrics[0].value, rel=0.2)
    assert half.tables[-1].rows[0][3] > 0


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(subject(trained())), axes)
    assert axes.get_xlabel() == "share of samples"
    assert axes.get_ylabel() == "relative flatness of a sample (nats)"
    assert axes.get_title() == ""


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    here = run(subject(trained())).metrics
    there = run(subject(trained(), device="cuda")).metrics
    for one, other in zip(here, there, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-4)
