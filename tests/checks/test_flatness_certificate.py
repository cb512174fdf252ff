"""robustness.flatness_certificate end to end: exact linear cases, a fragile twin, what is refused and what is said."""

import math

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression

from assessor.contract import Better, NotApplicable, Split, Task
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.subjects.torch_module import TorchSubject
from assessor_checks._intervals import clopper_pearson
from assessor_checks.robustness.flatness_certificate import CHECK, FlatnessCertificateParams

matplotlib.use("Agg")
CLASSES = ("a", "b", "c")


def split(name, x, y, names=()):
    return Split(name=name, labels=np.asarray(y), sha256=name, features=np.asarray(x), feature_names=names)


def data(n=200, m=4, seed=0):
    return np.random.default_rng(seed).standard_normal((n, m)).astype(np.float32)


def linear(*shape, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = torch.nn.Linear(*shape)
    net.weight.data *= 5  # sure enough for more than half of the probability
    return net


def network(seed=0, width=4, outputs=3):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.nn.Sequential(torch.nn.Linear(width, 16), torch.nn.ReLU(), torch.nn.Linear(16, outputs))


def subject(net, x=None, y=None, names=(), train=None, **more):
    x = data() if x is None else x
    if y is None:
        with torch.no_grad():
            y = net(torch.from_numpy(x)).argmax(1).numpy()
    splits = {"test": split("test", x, y, names)}
    if train is not None:
        splits["train"] = split("train", train, np.zeros(len(train), np.int64), names)
    return TorchSubject(net, Task.MULTICLASS, CLASSES, splits, **more)


def run(found, seed=0, **params):
    return CHECK.measure(found, FlatnessCertificateParams(**params), seed)


def distances(net, x, y, scale=1.0):
    """Exact distance of every row to the nearest other class of a linear model, by hand."""
    w, b = net.weight.detach().double().numpy(), net.bias.detach().double().numpy()
    z = x.astype(np.float64) @ w.T + b
    found = np.full(len(x), np.inf)
    for row, label in enumerate(y):
        for s in range(len(w)):
            if s != label:
                found[row] = min(found[row], (z[row, label] - z[row, s]) / np.linalg.norm((w[label] - w[s]) * scale))
    return np.maximum(found, 0)


def test_linear_model_is_exact_and_everything_is_reported():
    net, x = linear(4, 3), data()
    with torch.no_grad():
        y = net(torch.from_numpy(x)).argmax(1).numpy()
    y[::10] = (y[::10] + 1) % 3
    far = distances(net, x, y)
    result = run(subject(net, x, y), eps=0.2)
    found = result.metric("certified_accuracy")
    assert found.value == (far > 0.2).mean()
    assert (found.low, found.high) == clopper_pearson(int((far > 0.2).sum()), 200)[1:]
    assert found.primary
    assert found.method == (
        "margin certificate, eps 0.2 (Euclidean length at the inputs); 95 % Clopper-Pearson, sampling of rows only"
    )
    assert [metric.name for metric in result.metrics] == [
        "certified_accuracy",
        "clean_accuracy",
        "flatness_certified_share",
        "certified_loss",
        "relative_margin_radius",
        "margin_radius",
        "flatness_radius",
        "lipschitz_bound",
    ]
    assert result.metric("clean_accuracy").value == 0.9
    assert result.metric("lipschitz_bound").value == 1
    assert result.metric("lipschitz_bound").low is None
    assert result.metric("margin_radius").value == pytest.approx(np.median(far))
    assert result.metric("margin_radius").better is Better.NONE
    relative = np.median(far / np.linalg.norm(x, axis=1))
    assert result.metric("relative_margin_radius").value == pytest.approx(relative, rel=1e-6)
    assert 0 < result.metric("flatness_radius").value < result.metric("margin_radius").value
    certified, loss = result.series
    grid = np.array(certified.columns["distance"])
    assert certified.columns["margin"] == pytest.approx([(far > at).mean() for at in grid])
    assert all(np.array(certified.columns["flatness"]) <= certified.columns["margin"])
    assert list(loss.columns["loss"]) == sorted(loss.columns["loss"])
    assert result.tables == ()
    assert result.doubt is None
    assert result.remarks[0] == "Layer '': 4 features, 3 outputs; 200 test rows. Rows classified wrongly have radius 0."
    assert result.remarks[1].startswith("At the features the margin certificate is exact: at that distance the class")
    assert result.remarks[2].startswith("The features move at most 1 times as far as the inputs, for all inputs")


def test_certified_loss_bounds_every_attack():
    net = network()
    found = subject(net, y=np.arange(200) % 3)
    bound = run(found, eps=0.3).metric("certified_loss")
    x, y = found.tensors("test")
    move = torch.zeros_like(x)
    for _ in range(30):
        move.requires_grad_(True)
        (slope,) = torch.autograd.grad(torch.nn.functional.cross_entropy(net(x + move), y, reduction="sum"), move)
        move = move.detach() + 0.1 * slope / slope.norm(dim=1, keepdim=True)
        move = move * (0.3 / move.norm(dim=1, keepdim=True)).clamp_max(1)
    with torch.no_grad():
        attacked = torch.nn.functional.cross_entropy(net(x + move), y).item()
        clean = torch.nn.functional.cross_entropy(net(x), y).item()
    assert clean < attacked < bound.value
    assert bound.low < bound.value < bound.high
    assert bound.better is Better.LOWER
    assert run(found, eps=1e-9).metric("certified_loss").value == pytest.approx(clean, rel=1e-5)


def test_no_attack_fools_certified_rows_of_a_network():
    net, eps = network(1), 0.15
    found = subject(net)
    result = run(found, eps=eps)
    assert 0.2 < result.metric("certified_accuracy").value < 0.9
    x, y = found.tensors("test")
    g = torch.Generator().manual_seed(0)
    standing = torch.ones(len(x), dtype=torch.bool)
    for _ in range(20):
        move = torch.randn(x.shape, generator=g)
        for _ in range(20):
            move = move.detach().requires_grad_(True)
            z = net(x + eps * move / move.norm(dim=1, keepdim=True))
            standing &= z.argmax(1) == y
            other = z.scatter(1, y[:, None], -torch.inf).amax(1) - z.gather(1, y[:, None]).squeeze(1)
            (slope,) = torch.autograd.grad(other.sum(), move)
            move = move / move.norm(dim=1, keepdim=True) + 0.5 * slope / slope.norm(dim=1, keepdim=True)
    assert result.metric("certified_accuracy").value <= standing.float().mean().item()


def test_fragile_twin_certifies_fewer_rows():
    # The same function, but one layer stretches a direction a thousandfold that the next one does not even use.
    plain = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3))
    fragile = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3))
    with torch.no_grad():
        for net, factor in ((plain, 1.0), (fragile, 1000.0)):
            net[0].weight.copy_(torch.diag(torch.tensor([1.0, 1.0, 1.0, factor])))
            net[0].bias.fill_(3.0)
            net[2].weight.copy_(torch.eye(3, 4))
            net[2].bias.zero_()
    here, there = (run(subject(net), eps=0.3) for net in (plain, fragile))
    assert here.metric("lipschitz_bound").value == pytest.approx(1)
    assert there.metric("lipschitz_bound").value == pytest.approx(1000)
    assert here.metric("certified_accuracy").value > 0.5 > there.metric("certified_accuracy").value
    assert here.metric("margin_radius").value == pytest.approx(there.metric("margin_radius").value)
    assert [row[:2] for row in here.tables[0].rows] == [("0", "Linear"), ("1", "ReLU")]


def test_one_output_equals_two():
    one, x = linear(4, 1), data()
    two = torch.nn.Linear(4, 2)
    with torch.no_grad():
        two.weight.copy_(torch.cat([0 * one.weight, one.weight]))
        two.bias.copy_(torch.cat([0 * one.bias, one.bias]))
        y = (one(torch.from_numpy(x))[:, 0] > 0).long().numpy()
    y[:20] = 1 - y[:20]
    splits = {"test": split("test", x, y)}
    results = [run(TorchSubject(net, Task.BINARY, ("no", "yes"), splits), eps=0.2) for net in (one, two)]
    assert results[0].metrics == results[1].metrics
    far = distances(two, x, y)
    assert results[0].metric("certified_accuracy").value == (far > 0.2).mean()
    assert results[0].metric("flatness_radius").value == pytest.approx(np.median(far), rel=1e-7)  # two classes: equal


def test_standard_deviations_and_held_columns_are_exact():
    x = data() * np.array([1, 10, 0.1, 1], np.float32)
    x[:, 3] = np.arange(200) % 2
    net, names = linear(4, 3, seed=2), ("age", "income", "ratio", "member")
    with torch.no_grad():
        y = net(torch.from_numpy(x)).argmax(1).numpy()
    result = run(subject(net, x, names=names, train=3 * x), eps=0.1, scale="feature_std", frozen=("age",))
    scale = 3 * x.std(axis=0, dtype=np.float64) * np.array([0, 1, 1, 0])
    # The root of the chain is the layer itself: its bound is the largest factor, so the certificate is not exact here.
    assert result.metric("lipschitz_bound").value == pytest.approx(scale.max())
    assert result.metric("certified_accuracy").value == (distances(net, x, y) > 0.1 * scale.max()).mean()
    assert result.remarks[:3] == (
        "Held fixed as asked: age.",
        "Perturbations are in standard deviations of each feature over the train split.",
        "Held fixed because they take at most two values: member.",
    )


def test_features_space_is_relative_and_needs_no_bound():
    net = torch.nn.Sequential(torch.nn.LayerNorm(4), linear(4, 3))
    found = subject(net)
    with pytest.raises(
        NotApplicable, match=r"nothing bounds .* layer '0' \(LayerNorm\) has no known bound; an estimate"
    ):
        run(found)
    result = run(found, space="features", eps=0.2)
    phi = net[0](torch.from_numpy(data())).detach().numpy()
    far = distances(net[1], phi, found.splits["test"].labels)
    assert result.metric("certified_accuracy").value == (far > 0.2 * np.linalg.norm(phi, axis=1)).mean()
    assert "lipschitz_bound" not in [metric.name for metric in result.metrics]
    assert result.remarks[-2] == (
        "Nothing bounds how far the features move when the inputs do: layer '0' (LayerNorm) has no known bound."
    )
    assert result.remarks[-1].startswith("ESTIMATE, no bound: at a few rows the features move up to ")
    assert result.remarks[-1].endswith("No certificate here uses it.")


def test_confidently_wrong_rows_are_not_certified():
    net = linear(4, 3)
    with torch.no_grad():
        net.weight.mul_(100)
        y = (net(torch.from_numpy(data())).argmax(1).numpy() + 1) % 3
    result = run(subject(net, y=y), eps=1e-6)
    for name in ("certified_accuracy", "flatness_certified_share", "margin_radius", "flatness_radius"):
        assert result.metric(name).value == 0
    assert result.metric("certified_loss").value > 10


def test_one_row():
    result = run(subject(linear(4, 3), data(1)), eps=1e-3)
    assert result.metric("certified_accuracy").value == 1
    assert result.metric("certified_accuracy").low < 0.5
    for name in ("certified_loss", "margin_radius"):
        assert result.metric(name).low is None
        assert result.metric(name).method.endswith("no interval from so few rows")


def test_same_seed_same_bytes():
    found = subject(network(), y=np.arange(200) % 3)
    assert run(found, 3).model_dump_json() == run(found, 3).model_dump_json()
    assert run(found, 3).metric("certified_loss").low != run(found, 4).metric("certified_loss").low


def test_refused():
    for layer in (0, 2):
        net = network()
        net[layer].bias.data[0] = torch.nan
        with pytest.raises(NotApplicable, match="features or logits are not finite for 200 of 200 test rows"):
            run(subject(net))
    with pytest.raises(NotApplicable, match="no rows"):
        run(subject(network(), data(0), np.empty(0, np.int64)))
    with pytest.raises(NotApplicable, match="not the output of its last linear layer"):
        run(subject(torch.nn.Sequential(network(), torch.nn.Softmax(1)), outputs="probabilities"))
    same = linear(4, 3)
    with torch.no_grad():
        same.weight.copy_(same.weight[:1].expand(3, 4))
    with pytest.raises(
        NotApplicable, match="all classes have the same weights in layer '': its features decide nothing"
    ):
        run(subject(same))
    with pytest.raises(NotApplicable, match="no feature '#4'"):
        run(subject(network()), frozen=("#4",))
    splits = {"test": split("test", data(), np.arange(200) % 2)}
    estimator = LogisticRegression().fit(data(), np.arange(200) % 2)
    with pytest.raises(NotApplicable, match="no PyTorch module"):
        run(SklearnSubject(estimator, Task.BINARY, ("0", "1"), splits))
    for wrong in ({"eps": 0}, {"space": "weights"}, {"eps": math.inf, "scale": "no"}):
        with pytest.raises(ValidationError):
            FlatnessCertificateParams(**wrong)


def test_whole_numbers_as_inputs():
    net = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Flatten(), linear(8, 3))
    x = np.random.default_rng(0).integers(0, 5, (30, 2))
    with pytest.raises(NotApplicable, match="wanted floating-point"):
        run(subject(net, x))
    result = run(subject(net, x), space="features")
    assert result.remarks[-1].endswith("layer '0' (Embedding) has no known bound.")
    assert result.metric("certified_accuracy").n == 30


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(subject(network())), axes)
    assert axes.get_ylabel() == "share of rows certified"
    assert len(axes.lines) == 2


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    here, there = (run(subject(network(), y=np.arange(200) % 3, device=device)).metrics for device in ("cpu", "cuda"))
    for one, other in zip(here, there, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-4, abs=0.005)
