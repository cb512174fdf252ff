"""generalization.norm_measures end to end on small networks."""

import copy
import functools
import math

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression

from assessor.contract import NotApplicable, Split, Task
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.subjects.torch_module import TorchSubject
from assessor_checks.generalization.norm_measures import CHECK, NormMeasuresParams

matplotlib.use("Agg")
CLASSES = ("a", "b", "c")
NAMES = [
    "fisher_rao_norm",
    "fisher_rao_norm_empirical",
    "margin",
    "normalised_margin",
    "log_spectral_norm_product",
    "frobenius_norm",
    "path_norm",
]


def split(name, x, y):
    return Split(name=name, labels=np.asarray(y), sha256=name, features=np.asarray(x))


def blobs(n=60, seed=0):
    """Three classes in the plane that overlap a little."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    centres = np.array([[0.0, 3.0], [3.0, -2.0], [-3.0, -2.0]])
    return (centres[y] + rng.standard_normal((n, 2))).astype(np.float64), y.astype(np.int64)


@functools.cache
def _fitted(wrong, width, steps):
    x, y = blobs()
    y[:wrong] = (y[:wrong] + 1) % 3
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, width), torch.nn.ReLU(), torch.nn.Linear(width, 3)).double()
    optimiser = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        optimiser.step()
    net.zero_grad(set_to_none=True)
    return net, y


def trained(wrong=0, width=8, steps=60):
    """A fresh copy of a small network, trained with the first labels wrong."""
    return copy.deepcopy(_fitted(wrong, width, steps)[0])


def subject(net, n=60, task=Task.MULTICLASS, classes=CLASSES, labels=None, **more):
    x, y = blobs(n)
    splits = {"train": split("train", x, y if labels is None else labels), "test": split("test", *blobs(30, seed=1))}
    return TorchSubject(net, task, classes, splits, **more)


def run(found, seed=0, **params):
    return CHECK.measure(found, NormMeasuresParams(**params), seed)


def test_reports_everything():
    net = trained()
    result = run(subject(net))
    assert [m.name for m in result.metrics] == NAMES
    assert [m.name for m in result.metrics if m.primary] == ["fisher_rao_norm"]
    own, given, margin, normalised, product, frobenius, path = result.metrics
    for metric in (own, given, margin, normalised):
        assert metric.low < metric.value < metric.high
        assert metric.n == 60
    assert [m.better for m in result.metrics] == ["lower", "lower", "higher", "higher", "lower", "lower", "lower"]
    assert own.method == (
        "<w, F w>, the squared norm of the weights w by the Fisher information F; labels from the model's own "
        "predictions, exact over them; 95 % BCa bootstrap over rows"
    )
    assert normalised.value == pytest.approx(margin.value / math.exp(product.value), rel=1e-12)
    weights = [layer.weight.detach() for layer in (net[0], net[2])]
    assert product.value == pytest.approx(sum(math.log(float(torch.linalg.matrix_norm(w, 2))) for w in weights))
    assert frobenius.value == pytest.approx(
        float(torch.nn.utils.parameters_to_vector(net.parameters()).detach().norm())
    )
    assert path.low is None
    (table,) = result.tables
    assert table.columns == ("layer", "kind", "spectral norm", "numerical error", "Frobenius norm", "stable rank")
    assert [row[:2] for row in table.rows] == [("0", "linear"), ("2", "linear")]
    assert all(1 <= row[5] <= 3 for row in table.rows)
    assert result.remarks == ("60 of 60 rows of the train split; 51 parameters.",)
    assert result.doubt is None
    x, y = map(torch.from_numpy, blobs())
    z = net(x).detach()
    margins = z.gather(1, y[:, None]).squeeze(1) - z.scatter(1, y[:, None], -torch.inf).amax(dim=1)
    assert result.series[0].columns["value"] == pytest.approx(margins.sort().values.tolist())
    assert margin.value == pytest.approx(float(np.quantile(margins.numpy(), 0.1)))


def test_memorised_wrong_labels_are_seen_and_the_clean_twin_is_not():
    clean = run(subject(trained(0, width=32, steps=100)))
    noisy = run(subject(trained(12, width=32, steps=100), labels=_fitted(12, 32, 100)[1]))
    assert noisy.metric("fisher_rao_norm").low > clean.metric("fisher_rao_norm").high
    assert noisy.metric("margin").high < clean.metric("margin").low
    assert noisy.metric("path_norm").value > clean.metric("path_norm").value


def test_rescaling_a_relu_network_leaves_what_it_should():
    one, other = trained(), trained()
    with torch.no_grad():
        other[0].weight.mul_(10)
        other[0].bias.mul_(10)
        other[2].weight.div_(10)
    before, after = run(subject(one)), run(subject(other))
    for name in ("fisher_rao_norm", "fisher_rao_norm_empirical", "margin", "log_spectral_norm_product", "path_norm"):
        assert after.metric(name).value == pytest.approx(before.metric(name).value, rel=1e-9)
    assert after.metric("frobenius_norm").value > 2 * before.metric("frobenius_norm").value


def test_regression_by_hand():
    # f = 2 x at x = 1, 3: f' = f, so <w, F w> = (4 + 36) / 2; residuals 1 and 0: (1 * 2)^2 / 2
    net = torch.nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        net.weight.fill_(2.0)
    splits = {"test": split("test", [[1.0], [3.0]], [1.0, 6.0])}
    result = run(TorchSubject(net, Task.REGRESSION, (), splits), split="test")
    assert [m.name for m in result.metrics] == [
        "fisher_rao_norm",
        "fisher_rao_norm_empirical",
        "log_spectral_norm_product",
        "frobenius_norm",
        "path_norm",
    ]
    assert [m.value for m in result.metrics] == pytest.approx([20, 2, math.log(2), 2, 2])
    assert result.metrics[0].unit == "squared units of the target"
    assert result.series[0].columns["value"] == pytest.approx((4, 36))
    axes = Figure().add_subplot()
    CHECK.plot(result, axes)
    assert axes.get_ylabel() == "share in the Fisher-Rao norm (squared units of the target)"


def test_sigmoid_has_the_margin_of_its_logit():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1)).double()
    labels = blobs()[1] % 2
    result = run(subject(net, task=Task.BINARY, classes=("no", "yes"), labels=labels))
    z = net(torch.from_numpy(blobs()[0])).detach().squeeze(1).numpy()
    assert result.metric("margin").value == pytest.approx(np.quantile(np.where(labels == 1, z, -z), 0.1))


class Convolutional(torch.nn.Module):
    """A convolution, layer normalisation, and a step that has no paths."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = torch.nn.Conv1d(1, 3, 2), torch.nn.LayerNorm(3), torch.nn.Linear(3, 3)

    def forward(self, x):
        return self.head(torch.nn.functional.gelu(self.norm(self.conv(x[:, None]).squeeze(2))))


def test_what_is_left_out_is_told():
    torch.manual_seed(0)
    result = run(subject(Convolutional().double()))
    assert "path_norm" not in [m.name for m in result.metrics]
    assert result.remarks[1:] == (
        "6 of 27 parameters are in layers that are neither linear, convolution nor batch normalisation; the product of "
        "spectral norms leaves them out.",
        "There is no path norm of this network: it contains LayerNorm.",
    )
    assert [row[1] for row in result.tables[0].rows] == ["convolution", "linear"]
    net = trained()
    with torch.no_grad():
        net[2].weight.zero_()
    result = run(subject(net))
    assert "normalised_margin" not in [m.name for m in result.metrics]
    assert result.remarks[1] == (
        "A layer's weights are all 0, so the product of spectral norms is 0 and no margin is normalised."
    )


def test_probabilities_are_taken_back_to_logits():
    net = torch.nn.Sequential(*trained(), torch.nn.Softmax(1))
    result, plain = run(subject(net, outputs="probabilities")), run(subject(trained()))
    assert result.metric("margin").value == pytest.approx(plain.metric("margin").value)
    assert result.metric("fisher_rao_norm").value == pytest.approx(plain.metric("fisher_rao_norm").value)
    assert result.remarks[-1] == "There is no path norm of this network: it contains Softmax."


def test_few_rows():
    one = run(subject(trained(), n=1))
    assert all(np.isfinite(m.value) and m.low is None for m in one.metrics)
    assert one.metrics[0].method.endswith("; no interval from one row")
    assert one.metric("margin").method.endswith("; too few rows for an interval")
    assert run(subject(trained(), n=20)).metric("margin").low is None
    assert run(subject(trained()), rows=20).remarks[0].startswith("20 of 60 rows")


def test_nothing_of_the_module_changes():
    net = trained()
    before = copy.deepcopy(net.state_dict())
    run(subject(net))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert all(not layer._forward_hooks for layer in net)


def test_same_seed_same_bytes():
    found = subject(trained())
    assert run(found, seed=3).model_dump_json() == run(found, seed=3).model_dump_json()
    assert run(found, seed=3).metrics[0].low != run(found, seed=4).metrics[0].low


def test_not_applicable_says_why():
    x, y = blobs()
    with pytest.raises(NotApplicable, match="there is no train split"):
        run(TorchSubject(trained(), Task.MULTICLASS, CLASSES, {"test": split("test", x, y)}))
    empty = {name: split(name, np.empty((0, 2)), np.empty(0, np.int64)) for name in ("train", "test")}
    with pytest.raises(NotApplicable, match="the train split has no rows"):
        run(TorchSubject(trained(), Task.MULTICLASS, CLASSES, empty))
    broken = trained()
    with torch.no_grad():
        broken[2].bias[0] = torch.nan
    with pytest.raises(NotApplicable, match="the model's loss is not finite for 60 of 60 rows"):
        run(subject(broken))
    dropping = subject(torch.nn.Sequential(trained(), torch.nn.Dropout(0.5)))
    dropping.module[1].train()
    with pytest.raises(NotApplicable, match="layer '1' is in train mode"):
        run(dropping)
    splits = {name: split(name, x, y) for name in ("train", "test")}
    with pytest.raises(NotApplicable, match="no PyTorch module"):
        run(SklearnSubject(LogisticRegression().fit(x, y), Task.MULTICLASS, CLASSES, splits))


def test_derivatives_that_are_not_finite_are_no_number():
    class Root(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 3).double()

        def forward(self, x):
            return (0 * self.layer(x)).square().sum(dim=1, keepdim=True).sqrt() + self.layer(x)  # slope of sqrt at 0

    with pytest.raises(NotApplicable, match="the outputs' derivatives are not finite on 60 rows of train"):
        run(subject(Root()))


def test_bounds_of_the_parameters():
    for wrong in ({"rows": 0}, {"split": "design"}):
        with pytest.raises(ValidationError):
            NormMeasuresParams(**wrong)


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(subject(trained())), axes)
    assert axes.get_xlabel() == "share of rows"
    assert axes.get_ylabel() == "margin of a row (true logit minus the greatest other)"
    assert axes.get_title() == ""


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    here, there = run(subject(trained())).metrics, run(subject(trained(), device="cuda")).metrics
    for one, other in zip(here, there, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-4)
