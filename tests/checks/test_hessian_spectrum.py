"""generalization.hessian_spectrum end to end on small networks."""

import copy
import functools

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression

from assessor.contract import Lent, NotApplicable, Split, Task, lending
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.subjects.torch_module import TorchSubject
from assessor_checks.generalization.hessian_spectrum import CHECK, HessianSpectrumParams

matplotlib.use("Agg")
CLASSES = ("a", "b", "c")
NAMES = ["hessian_trace", "top_eigenvalue", "smallest_eigenvalue", "mean_eigenvalue", "mean_loss"]


def split(name, x, y):
    return Split(name=name, labels=np.asarray(y), sha256=name, features=np.asarray(x))


def blobs(n=60, seed=0):
    """Three classes in the plane that overlap a little."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    centres = np.array([[0.0, 3.0], [3.0, -2.0], [-3.0, -2.0]])
    return (centres[y] + rng.standard_normal((n, 2))).astype(np.float64), y.astype(np.int64)


@functools.cache
def _fitted(width, steps):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, width), torch.nn.ReLU(), torch.nn.Linear(width, 3)).double()
    x, y = map(torch.from_numpy, blobs())
    optimiser = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()
    net.zero_grad(set_to_none=True)
    return net


def trained(width=8, steps=100):
    """A fresh copy of a small network near a minimum."""
    return copy.deepcopy(_fitted(width, steps))


def subject(net, n=60, task=Task.MULTICLASS, classes=CLASSES, labels=None, **more):
    x, y = blobs(n)
    splits = {"train": split("train", x, y if labels is None else labels), "test": split("test", *blobs(30, seed=1))}
    return TorchSubject(net, task, classes, splits, **more)


def memorised(wrong):
    """A network trained on labels of which the first few are wrong."""
    x, y = blobs()
    y[:wrong] = (y[:wrong] + 1) % 3
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.ReLU(), torch.nn.Linear(32, 3)).double()
    optimiser = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(100):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        optimiser.step()
    data = split("train", x, y)
    return TorchSubject(net, Task.MULTICLASS, CLASSES, {"train": data, "test": data})


def run(found, seed=0, **params):
    return CHECK.measure(found, HessianSpectrumParams(**params), seed)


def slow(net, n=60):
    """The full Hessian of the mean loss by two reverse passes."""
    x, y = map(torch.from_numpy, blobs(n))
    names, shapes = zip(*((name, p.shape) for name, p in net.named_parameters()), strict=True)

    def loss(flat):
        pieces = flat.split([shape.numel() for shape in shapes])
        weights = {name: piece.view(shape) for name, piece, shape in zip(names, pieces, shapes, strict=True)}
        return torch.nn.functional.cross_entropy(torch.func.functional_call(net, weights, (x,)), y)

    flat = torch.nn.utils.parameters_to_vector(net.parameters()).detach()
    return torch.autograd.functional.hessian(loss, flat)


def test_small_model_equals_the_full_hessian_and_reports_everything():
    net = trained()
    exact = slow(net)
    values = torch.linalg.eigvalsh(exact)
    result = run(subject(net), top=3)
    assert [metric.name for metric in result.metrics] == NAMES
    assert [metric.primary for metric in result.metrics] == [True, False, False, False, False]
    trace, top, smallest, mean, loss = result.metrics
    assert trace.value == pytest.approx(float(exact.trace()), rel=1e-9)
    assert trace.low < trace.value < trace.high
    assert trace.method == (
        "exact for these rows, all 51 directions taken; 95 % t interval from the spread over ten random groups of rows"
    )
    assert top.value == pytest.approx(float(values[-1]), rel=1e-9)
    assert smallest.value == pytest.approx(float(values[0]), abs=1e-9 * float(values[-1]))
    assert (top.low, smallest.low) == (None, None)
    assert mean.value == pytest.approx(trace.value / 51)
    assert mean.high == pytest.approx(trace.high / 51)
    assert loss.low < loss.value < loss.high
    assert {metric.unit for metric in result.metrics} == {"nats"}
    (table,) = result.tables
    assert table.columns == ("rank", "eigenvalue", "residual", "share of the trace")
    assert [row[0] for row in table.rows] == ["1", "2", "3", "smallest"]
    assert [row[1] for row in table.rows[:3]] == pytest.approx(values[-3:].flip(0).tolist(), rel=1e-9)
    assert all(row[2] < 1e-12 for row in table.rows)
    assert table.rows[0][3] == pytest.approx(top.value / trace.value)
    columns = result.series[0].columns
    grid, curve = np.array(columns["eigenvalue"]), np.array([value or 0.0 for value in columns["density"]])
    assert np.trapezoid(curve, grid) == pytest.approx(1, abs=0.01)
    assert result.series[0].title == "Density of the eigenvalues: all eigenvalues, smoothed over 1% of their range"
    assert result.remarks[0] == "60 of 60 rows of the train split; cross-entropy as a function of 51 parameters."
    assert result.doubt is None


@pytest.mark.slow
def test_large_model_is_estimated_within_its_error():
    net = trained(width=180)
    exact = slow(net)
    values = torch.linalg.eigvalsh(exact)
    result = run(subject(net), steps=20, probes=20, top=2)
    trace = result.metric("hessian_trace")
    assert trace.method.startswith(
        "20 Lanczos directions taken exactly, the rest from 20 random ones (Hutch++), standard error "
    )
    error = float(trace.method.split("standard error ")[1].split(";")[0])
    assert abs(trace.value - float(exact.trace())) < 4 * error
    assert trace.low < float(exact.trace()) < trace.high
    for row, true in zip(result.tables[0].rows, (values[-1], values[-2], values[0]), strict=True):
        assert abs(row[1] - float(true)) <= row[2] + 1e-9
    assert "5 random starts of 20 Lanczos steps" in result.series[0].title
    assert result.doubt is None


def test_rows_are_what_the_interval_shows():
    net = trained(steps=0)
    few, many = run(subject(net, n=60)).metrics[0], run(subject(net, n=600)).metrics[0]
    assert (few.high - few.low) > 1.5 * (many.high - many.low)


def test_untrained_model_is_doubtful_and_its_trained_twin_is_not():
    doubt = run(subject(trained(steps=0))).doubt
    assert doubt.startswith("The most negative eigenvalue, -1.")
    assert "is not small beside the largest" in doubt
    assert run(subject(trained())).doubt is None
    assert (
        "% of the largest in size: the loss hardly curves downwards, as near a minimum."
        in run(subject(trained())).remarks[-1]
    )


def test_rescaling_a_relu_network_changes_the_numbers_but_not_the_function():
    one, other = trained(), trained()
    with torch.no_grad():
        other[0].weight.mul_(10)
        other[0].bias.mul_(10)
        other[2].weight.div_(10)
    x = torch.from_numpy(blobs()[0])
    assert torch.allclose(one(x), other(x), atol=1e-12)
    before, after = run(subject(one)).metrics, run(subject(other)).metrics
    assert after[4].value == pytest.approx(before[4].value, rel=1e-9)
    for name in range(2):
        assert after[name].value > 5 * before[name].value


def test_memorised_wrong_labels_are_sharp_and_the_clean_twin_is_not():
    clean, noisy = run(memorised(0)), run(memorised(12))
    assert noisy.metric("hessian_trace").low > 100 * clean.metric("hessian_trace").high
    assert noisy.metric("top_eigenvalue").value > 100 * clean.metric("top_eigenvalue").value
    assert noisy.doubt is None


def test_regression_by_hand():
    # f = w1 x1 + w2 x2: H = X^T X / 2 = [[5, 1], [1, 2]], trace 7, eigenvalues (7 +- sqrt 13) / 2
    net = torch.nn.Linear(2, 1, bias=False).double()
    x = np.array([[1.0, 2.0], [3.0, 0.0]])
    splits = {"test": split("test", x, [4.0, 5.0])}
    result = run(TorchSubject(net, Task.REGRESSION, (), splits), split="test")
    assert result.metric("hessian_trace").value == pytest.approx(7)
    assert result.metric("top_eigenvalue").value == pytest.approx((7 + 13**0.5) / 2)
    assert result.metric("smallest_eigenvalue").value == pytest.approx((7 - 13**0.5) / 2)
    assert result.metric("hessian_trace").unit == "squared units of the target"
    assert result.remarks == ("2 of 2 rows of the test split; half the squared error as a function of 2 parameters.",)


def test_sigmoid_equals_the_softmax_of_zero_and_z():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
    labels = blobs()[1] % 2
    result = run(subject(net, task=Task.BINARY, classes=("no", "yes"), labels=labels))
    x, y = torch.from_numpy(blobs()[0]), torch.from_numpy(labels).double()

    def loss(w):
        return torch.nn.functional.binary_cross_entropy_with_logits(
            torch.tanh(x @ w[:8].view(4, 2).T + w[8:12]) @ w[12:16] + w[16], y
        )

    flat = torch.nn.utils.parameters_to_vector(net.parameters()).detach()
    exact = torch.autograd.functional.hessian(loss, flat)
    assert result.metric("hessian_trace").value == pytest.approx(float(exact.trace()), rel=1e-9)


def test_a_choice_of_rows_and_frozen_parameters_are_told():
    net = trained()
    net[0].requires_grad_(False)
    result = run(subject(net), rows=20)
    assert result.remarks[:2] == (
        "20 of 60 rows of the train split; cross-entropy as a function of 27 parameters.",
        "24 parameters are marked as not trainable and were held fixed.",
    )
    assert result.metrics[0].n == 20


def test_one_row_has_values_and_no_interval():
    result = run(subject(trained(), n=1))
    for metric in result.metrics:
        assert np.isfinite(metric.value)
        assert metric.low is None
    assert result.metrics[0].method.endswith("; one row shows nothing of the spread over rows")
    assert result.metric("mean_loss").method == "loss of the one row"
    wide = run(subject(trained(width=180), n=1), steps=5, probes=5)
    assert wide.metrics[0].low < wide.metrics[0].value  # the random directions still have a spread


def test_nothing_of_the_module_changes():
    net = trained()
    before = copy.deepcopy(net.state_dict())
    run(subject(net))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


def test_same_seed_same_bytes():
    for net in (trained(), trained(width=180)):
        found = subject(net)
        one, other = (run(found, seed=3, steps=5, probes=4).model_dump_json() for _ in range(2))
        assert one == other
        assert (
            run(found, seed=4, steps=5, probes=4).metrics[0].low != run(found, seed=3, steps=5, probes=4).metrics[0].low
        )


def test_a_killed_run_goes_on():
    store, told = {}, []

    def keep(key, value):
        store[repr(key)] = value

    found = subject(trained(width=180))
    alone = run(found, steps=5, probes=4)
    for _ in range(2):
        with lending(Lent(lambda *at: told.append(at), lambda key: store.get(repr(key)), keep)):
            assert run(found, steps=5, probes=4) == alone
    assert len(store) == 1
    assert ("random directions", 4, 4) in told
    assert sum(what == "Lanczos steps" for what, _, _ in told) == 3 * 5  # the second run had its further starts kept


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
    with pytest.raises(NotApplicable, match="the model's loss is not finite for 60 of 60 rows of the train split"):
        run(subject(broken))
    normed = torch.nn.Sequential(torch.nn.BatchNorm1d(2, track_running_stats=False), trained())
    with pytest.raises(NotApplicable, match="normalises by the batch"):
        run(subject(normed.double()))
    weighted = trained()
    torch.nn.utils.parametrizations.weight_norm(weighted[0])
    with pytest.raises(NotApplicable, match="second derivatives that PyTorch gives for this model contradict"):
        run(subject(weighted))
    wide = trained(width=180)
    torch.nn.utils.parametrizations.weight_norm(wide[0])
    with pytest.raises(NotApplicable, match="second derivatives that PyTorch gives for this model contradict"):
        run(subject(wide), steps=5)
    splits = {name: split(name, x, y) for name in ("train", "test")}
    with pytest.raises(NotApplicable, match="no PyTorch module"):
        run(SklearnSubject(LogisticRegression().fit(x, y), Task.MULTICLASS, CLASSES, splits))


class _Steep(torch.autograd.Function):
    """The identity, with a second derivative that is not a number."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * torch.nan if gradient.requires_grad else gradient


@pytest.mark.parametrize("width", [8, 180])
def test_derivatives_that_are_not_finite_are_no_number(width):
    class Root(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = trained(width)

        def forward(self, x):
            return _Steep.apply(self.net(x))

    with pytest.raises(NotApplicable, match="second derivatives of the loss are not finite"):
        run(subject(Root()), steps=5)


def test_bounds_of_the_parameters():
    for wrong in ({"rows": 0}, {"probes": 1}, {"top": 0}, {"steps": 1}, {"split": "design"}):
        with pytest.raises(ValidationError):
            HessianSpectrumParams(**wrong)


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(subject(trained())), axes)
    assert axes.get_yscale() == "log"
    assert axes.get_xlabel() == "eigenvalue (nats); ticks: the outer ones"
    assert axes.get_ylabel() == "density of eigenvalues"
    assert axes.get_title() == ""


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    here, there = run(subject(trained())).metrics, run(subject(trained(), device="cuda")).metrics
    for one, other in zip(here, there, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-4)
