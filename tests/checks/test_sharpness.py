"""generalization.sharpness end to end on small networks."""

import copy
import functools

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
from assessor_checks.generalization.sharpness import CHECK, SharpnessParams

matplotlib.use("Agg")
CLASSES = ("a", "b", "c")
KINDS = ("worst_case_sharpness", "first_order_sharpness", "average_case_sharpness", "pac_bayes_flatness")
QUICK = {"steps": 5, "restarts": 2, "draws": 3}


def split(name, x, y):
    return Split(name=name, labels=np.asarray(y), sha256=name, features=np.asarray(x))


def blobs(n=60, seed=0):
    """Three classes in the plane that overlap a little."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    centres = np.array([[0.0, 3.0], [3.0, -2.0], [-3.0, -2.0]])
    return (centres[y] + rng.standard_normal((n, 2))).astype(np.float64), y.astype(np.int64)


@functools.cache
def _fitted(steps):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).double()
    x, y = map(torch.from_numpy, blobs())
    optimiser = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()
    net.zero_grad(set_to_none=True)
    return net


def trained(steps=60):
    """A fresh copy of a small network."""
    return copy.deepcopy(_fitted(steps))


def subject(net, n=60, task=Task.MULTICLASS, classes=CLASSES, **more):
    splits = {"train": split("train", *blobs(n)), "test": split("test", *blobs(30, seed=1))}
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
    return CHECK.measure(found, SharpnessParams(**{**QUICK, **params}), seed)


def test_reports_everything():
    result = run(subject(trained()))
    assert [m.name for m in result.metrics] == [*(f"{kind}_adaptive" for kind in KINDS), *KINDS]
    assert [m.name for m in result.metrics if m.primary] == ["worst_case_sharpness_adaptive"]
    for kind in ("", "_adaptive"):
        worst, first, average, flatness = (result.metric(name + kind) for name in KINDS)
        assert worst.value >= first.value > 0
        assert worst.low is None
        assert average.low < average.value < average.high
        assert flatness.low < flatness.value < flatness.high
        assert (worst.unit, average.unit, flatness.unit) == ("nats", "nats", "1")
    assert result.metrics[0].method == (
        "lower bound of the greatest rise; relative change of all weights of length at most 0.5; projected gradient "
        "ascent, 5 steps, 2 starts; no interval"
    )
    assert result.remarks[0] == "60 of 60 rows of the train split; cross-entropy as a function of 51 parameters."
    assert result.doubt is None
    columns = result.series[0].columns
    assert columns["length"][0] == -0.5
    assert columns["length"][-1] == 0.5
    assert columns["worst"][10] == columns["random"][10]
    clean = columns["worst"][10]
    assert columns["worst"][-1] - clean == pytest.approx(result.metrics[0].value, rel=1e-9)
    assert max(columns["random"]) < columns["worst"][-1]


def test_regression_by_hand():
    # f = w x at w = 2 with x = 1, 3 and no residual: H = 5. Adaptive: u = e / 2, curvature 20.
    net = torch.nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        net.weight.fill_(2.0)
    splits = {"train": split("train", [[1.0], [3.0]], [2.0, 6.0]), "test": split("test", [[1.0]], [2.0])}
    result = run(TorchSubject(net, Task.REGRESSION, (), splits), rho=0.1, rho_adaptive=0.1, target_rise=0.5)
    assert result.metric("worst_case_sharpness").value == pytest.approx(0.5 * 5 * 0.01)
    assert result.metric("worst_case_sharpness_adaptive").value == pytest.approx(0.5 * 20 * 0.01)
    ratio = result.metric("average_case_sharpness_adaptive").value / result.metric("average_case_sharpness").value
    assert ratio == pytest.approx(20 / 5 * (0.1 / 0.01) ** 2, rel=1e-6)
    # targets 2, 6 have variance 4: the rise borne is 0.5 * 4 / 2 = 1
    average = result.metric("average_case_sharpness").value / 0.01**2
    assert result.metric("pac_bayes_flatness").value == pytest.approx(average, rel=1e-6)
    assert result.metric("worst_case_sharpness").unit == "squared units of the target"
    assert "half the squared error as a function of 1 parameters" in result.remarks[0]


def test_memorised_wrong_labels_are_sharp_and_the_clean_twin_is_not():
    clean, noisy = run(memorised(0), draws=10), run(memorised(12), draws=10)
    for kind in ("", "_adaptive"):
        for name in KINDS:
            assert noisy.metric(name + kind).value > 10 * clean.metric(name + kind).value
        assert noisy.metric("pac_bayes_flatness" + kind).low > clean.metric("pac_bayes_flatness" + kind).high


def test_rescaling_a_relu_network_leaves_the_adaptive_numbers():
    one, other = trained(), trained()
    with torch.no_grad():
        other[0].weight.mul_(10)
        other[0].bias.mul_(10)
        other[2].weight.div_(10)
    before, after = run(subject(one)).metrics, run(subject(other)).metrics
    for index in range(4):
        assert after[index].value == pytest.approx(before[index].value, rel=1e-6)
        assert after[4 + index].value != pytest.approx(before[4 + index].value, rel=0.05)


def test_batch_norm_statistics_stay():
    net = torch.nn.Sequential(torch.nn.BatchNorm1d(2), *trained()).double()
    with torch.no_grad():
        net[0].running_mean.fill_(0.3)
    before = copy.deepcopy(net.state_dict())
    result = run(subject(net))
    assert result.metrics[0].value > 0
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    forced = subject(net)
    forced.module[0].train()
    with pytest.raises(NotApplicable, match="layer '0' is in train mode"):
        run(forced)


def test_zero_parameters_and_steep_curvature_are_told():
    net = trained()
    with torch.no_grad():
        net[0].weight[0] = 0
    remarks = " ".join(run(subject(net)).remarks)
    assert "2 parameters are exactly 0; in proportion to their size they cannot be moved." in remarks
    curved = run(subject(trained()), rho_adaptive=3.0, steps=20)
    assert "% of the adaptive worst case: the loss curves strongly within the ball." in " ".join(curved.remarks)


def test_no_noise_raises_the_loss_of_a_constant_model():
    class Constant(torch.nn.Linear):
        def forward(self, x):
            return 0 * super().forward(x)

    result = run(subject(Constant(2, 3).double()))
    assert [m.name for m in result.metrics if m.name.startswith("pac")] == []
    assert result.metrics[0].value == 0
    assert result.remarks[-1] == (
        "No noise that was tried raises the loss by the set amount, so there is no PAC-Bayes flatness."
    )


class Steep(torch.nn.Linear):
    """Overflows float64 where w x is above 7."""

    def forward(self, x):
        return torch.exp(50 * super().forward(x))


def test_a_loss_without_bound_is_doubtful():
    net = Steep(2, 1, bias=False).double()
    with torch.no_grad():
        net.weight.fill_(0.1)
    data = [[1.0, 0.0], [0.5, 0.0]]  # the second weight does nothing, so that some points of the ball are harmless
    splits = {"train": split("train", data, [0.0, 1.0]), "test": split("test", data, [0.0, 1.0])}
    found = TorchSubject(net, Task.REGRESSION, (), splits)
    tame = {"sigma": 1e-4, "sigma_adaptive": 1e-4}
    result = run(found, rho=8.0, restarts=6, **tame)
    assert result.doubt.startswith("The loss was NaN or infinite at ")
    assert result.doubt.endswith("so the worst case may have no bound.")
    assert result.metric("worst_case_sharpness").value > 0
    assert "first_order_sharpness" not in [metric.name for metric in result.metrics]
    with pytest.raises(NotApplicable, match="points of the ball of radius 8 around the model and rises at none"):
        run(found, rho=8.0, restarts=1, **tame)
    with pytest.raises(NotApplicable, match="the loss is not finite under noise of size 100 on the parameters"):
        run(found, sigma_adaptive=100.0)


def test_one_row():
    result = run(subject(trained(), n=1))
    assert result.metrics[0].n == 1
    assert result.metric("average_case_sharpness").low is not None  # the directions still have a spread
    assert all(np.isfinite(metric.value) for metric in result.metrics)


def test_same_seed_same_bytes():
    found = subject(trained())
    assert run(found, seed=3).model_dump_json() == run(found, seed=3).model_dump_json()
    assert run(found, seed=3).metrics[2].value != run(found, seed=4).metrics[2].value
    assert run(found, rows=20).remarks[0].startswith("20 of 60 rows")


def test_not_applicable_says_why():
    x, y = blobs()
    with pytest.raises(NotApplicable, match="there is no train split"):
        run(TorchSubject(trained(), Task.MULTICLASS, CLASSES, {"test": split("test", x, y)}))
    assert run(TorchSubject(trained(), Task.MULTICLASS, CLASSES, {"test": split("test", x, y)}), split="test").metrics
    empty = {name: split(name, np.empty((0, 2)), np.empty(0, np.int64)) for name in ("train", "test")}
    with pytest.raises(NotApplicable, match="the train split has no rows"):
        run(TorchSubject(trained(), Task.MULTICLASS, CLASSES, empty))
    broken = trained()
    with torch.no_grad():
        broken[2].bias[0] = torch.nan
    with pytest.raises(NotApplicable, match="the model's loss is not finite for 60 of 60 rows"):
        run(subject(broken))
    splits = {name: split(name, x, y) for name in ("train", "test")}
    with pytest.raises(NotApplicable, match="no PyTorch module"):
        run(SklearnSubject(LogisticRegression().fit(x, y), Task.MULTICLASS, CLASSES, splits))


def test_bounds_of_the_parameters():
    for wrong in ({"rho": 0}, {"sigma": -1}, {"steps": 0}, {"restarts": 0}, {"draws": 1}, {"target_rise": 0}):
        with pytest.raises(ValidationError):
            SharpnessParams(**wrong)


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(subject(trained())), axes)
    assert axes.get_xlabel() == "length of the relative change of all weights"
    assert axes.get_ylabel() == "mean loss (nats)"
    assert axes.get_title() == ""


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    here, there = run(subject(trained())).metrics, run(subject(trained(), device="cuda")).metrics
    for one, other in zip(here, there, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-4)
