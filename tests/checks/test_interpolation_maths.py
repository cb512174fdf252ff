"""Networks between two networks against plain copies, closed forms and automatic differentiation."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assessor.contract import NotApplicable, Split, Task
from assessor.subjects.torch_module import TorchSubject
from assessor_checks import _interpolation as paths
from assessor_checks._interpolation import Ends

FEW = settings(max_examples=15, deadline=None)
ALPHAS = np.linspace(0, 1, 5)


def mlp(seed, width=5, classes=3):
    torch.manual_seed(seed)
    tanh = torch.nn.Tanh()
    return torch.nn.Sequential(torch.nn.Linear(4, width), tanh, torch.nn.Linear(width, classes)).double().eval()


def conv(seed):
    """A network with batch normalisation, whose statistics are unlike those of its data."""
    torch.manual_seed(seed)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 2),
        torch.nn.BatchNorm2d(3),
        torch.nn.ReLU(inplace=True),
        torch.nn.Flatten(),
        torch.nn.Linear(12, 4),
        torch.nn.BatchNorm1d(4),
        torch.nn.Linear(4, 3),
    ).double()
    for layer in (net[1], net[5]):
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
    return net.eval()


def rows(shape, n=12, seed=0, classes=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *shape, generator=generator, dtype=torch.float64), torch.arange(n) % classes


def subject(net, inputs, labels, task=Task.MULTICLASS, classes=("a", "b", "c")):
    splits = {"test": Split(name="test", labels=labels.numpy(), sha256="", features=inputs.numpy())}
    return TorchSubject(net, task, classes, splits)


def learned(net):
    """Names of what has gradients: running statistics have none."""
    return [name for name, _ in net.named_parameters()]


def land(net, inputs, labels, **more):
    return paths.Landscape(subject(net, inputs, labels), inputs, labels, **more)


def slow(net, other, alpha, inputs, labels, names=None):
    """Losses of a copy whose state is the mean, name by name."""
    between, theirs = copy.deepcopy(net), other.state_dict()
    for name, value in between.state_dict().items():
        if value.is_floating_point() and (names is None or name in names):
            value.copy_((1 - alpha) * value + alpha * theirs[name])
    with torch.no_grad():
        return torch.nn.functional.cross_entropy(between(inputs), labels, reduction="none")


@pytest.mark.parametrize(("build", "shape"), [(mlp, (4,)), (conv, (1, 3, 3))])
def test_losses_equal_those_of_a_copy(build, shape, monkeypatch):
    a, b, (inputs, labels) = build(0), build(1), rows(shape)
    path = paths.line(paths.state_of(a), paths.state_of(b))
    monkeypatch.setattr(paths, "ROWS", 5)
    found = land(a, inputs, labels).along(path, ALPHAS)
    for alpha, losses in zip(ALPHAS, found, strict=True):
        torch.testing.assert_close(losses, slow(a, b, alpha, inputs, labels), rtol=1e-12, atol=0)


def test_part_of_the_parameters_moves_and_the_base_stays():
    a, b, (inputs, labels) = mlp(0), mlp(1), rows((4,))
    names = ("0.weight", "0.bias")
    one, two = paths.state_of(a), paths.state_of(b)
    from_a = land(a, inputs, labels).along(paths.line(one, two, names), ALPHAS)
    torch.testing.assert_close(from_a[2], slow(a, b, 0.5, inputs, labels, names))
    rest = ("2.weight", "2.bias")
    from_b = land(a, inputs, labels).along(paths.line(one, two, names, two), ALPHAS)
    turned = [slow(b, a, 1 - alpha, inputs, labels, names) for alpha in ALPHAS]
    torch.testing.assert_close(from_b, torch.stack(turned), rtol=1e-12, atol=0)
    torch.testing.assert_close(from_b[0], slow(a, b, 1.0, inputs, labels, rest), rtol=1e-12, atol=0)


def test_the_ends_are_exact_and_equal_networks_do_not_move():
    a, b, (inputs, labels) = mlp(0), mlp(1), rows((4,))
    one, two = paths.state_of(a), paths.state_of(b)
    path = paths.line(one, two)
    for alpha, end in ((0.0, one), (1.0, two)):
        assert all(torch.equal(value, end[name]) for name, value in path.at(alpha).items())
    still = paths.line(one, paths.state_of(copy.deepcopy(a)))
    assert still.start == {}
    where = land(a, inputs, labels)
    assert (where.along(still, ALPHAS) == where.at(one).losses).all()
    assert where.expansion(still).slope == (0.0, 0.0)
    assert paths.distance(one, one, list(one)) == 0
    assert paths.distance(one, two, []) == 0


def test_many_at_a_time_equals_one_by_one():
    a, b, (inputs, labels) = mlp(0), mlp(1), rows((4,))
    path, where = paths.line(paths.state_of(a), paths.state_of(b)), land(a, inputs, labels)
    torch.testing.assert_close(where._batch(path, tuple(ALPHAS)), where.along(path, ALPHAS), rtol=1e-12, atol=0)
    assert where._batches


class Choosy(torch.nn.Module):
    """Looks at its numbers, so that it cannot be batched over its parameters."""

    def __init__(self, seed):
        super().__init__()
        self.net = mlp(seed)

    def forward(self, inputs):
        found = self.net(inputs)
        return found * (2.0 if float(found.detach().sum()) > -1e9 else 1.0)


def test_what_cannot_be_batched_is_run_one_by_one():
    a, b, (inputs, labels) = Choosy(0), Choosy(1), rows((4,))
    path, where = paths.line(paths.state_of(a), paths.state_of(b)), land(a, inputs, labels)
    torch.testing.assert_close(where._batch(path, tuple(ALPHAS)), where.along(path, ALPHAS))
    assert not where._batches


def test_nothing_is_changed():
    net, (inputs, labels) = conv(0), rows((1, 3, 3))
    net[0].weight.requires_grad_(False)
    before = copy.deepcopy(net)
    where = land(net, inputs, labels, refresh=inputs)
    path = paths.line(paths.state_of(net), paths.state_of(conv(1)), learned(net))
    where.along(path, ALPHAS)
    where.expansion(path)
    where.fisher(paths.state_of(net), ["4.weight"])
    for (name, one), other in zip(net.state_dict().items(), before.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    for one, other in zip(net.parameters(), before.parameters(), strict=True):
        assert one.requires_grad == other.requires_grad
        assert one.grad is None
    assert not any(part.training for part in net.modules())
    assert [layer.momentum for layer in (net[1], net[5])] == [0.1, 0.1]


@pytest.mark.parametrize("chunk", [1024, 6])
def test_statistics_are_recomputed_as_momentum_none_does(chunk, monkeypatch):
    net, (inputs, labels) = conv(0), rows((1, 3, 3))
    fresh, _ = rows((1, 3, 3), n=18, seed=5)
    monkeypatch.setattr(paths, "ROWS", chunk)
    found = land(net, inputs, labels, refresh=fresh).refreshed(paths.state_of(net))
    again = copy.deepcopy(net)
    for layer in (again[1], again[5]):
        layer.train()
        layer.momentum = None
        layer.reset_running_stats()
    with torch.no_grad():
        for part in fresh.split(chunk):
            again(part)
    for name, value in paths.state_of(again).items():
        torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-14)
    losses = land(net, inputs, labels, refresh=fresh).at(paths.state_of(net)).losses
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(again.eval()(inputs), labels, reduction="none")
    torch.testing.assert_close(losses, expected, rtol=1e-12, atol=0)


def test_recomputing_removes_the_scale_of_the_average():
    # Ninefold weights before a norm compute the same; with statistics of its own so does every network between.
    a, (inputs, labels) = conv(0), rows((1, 3, 3), n=40)
    doubled = copy.deepcopy(a)
    with torch.no_grad():
        doubled[0].weight.mul_(9)
        doubled[0].bias.mul_(9)
    path = paths.line(paths.state_of(a), paths.state_of(doubled), learned(a))
    refreshed = land(a, inputs, labels, refresh=inputs).along(path, ALPHAS).mean(dim=1)
    torch.testing.assert_close(refreshed, refreshed[:1].expand(5), rtol=1e-3, atol=0)  # but for the norm's eps
    assert np.ptp(land(a, inputs, labels).along(path, ALPHAS).mean(dim=1).numpy()) > 0.01


def line_fit(seed, n=10):
    """Two linear regressions on the same data: the loss is quadratic in the parameters."""
    torch.manual_seed(seed)
    nets = [torch.nn.Linear(3, 1).double().eval() for _ in range(2)]
    inputs, _ = rows((3,), n, seed)
    labels = torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return *nets, paths.Landscape(subject(nets[0], inputs, labels, Task.REGRESSION, ()), inputs, labels)


@FEW
@given(seed=st.integers(0, 10_000))
def test_a_quadratic_loss_is_foretold_exactly_and_has_no_barrier(seed):
    a, b, where = line_fit(seed)
    path = paths.line(paths.state_of(a), paths.state_of(b))
    rise = paths.excess(where.along(path, ALPHAS).mean(dim=1).numpy(), ALPHAS)
    step = torch.cat([(path.end[name] - path.start[name]).flatten() for name in ("weight", "bias")])
    design = torch.cat([where.inputs, torch.ones(10, 1, dtype=torch.float64)], dim=1)
    curvature = (design @ step).square().mean().item()
    ends = where.expansion(path)
    assert ends.curvature == pytest.approx((curvature, curvature), rel=1e-10)
    assert rise == pytest.approx(-ALPHAS * (1 - ALPHAS) * curvature / 2, rel=1e-9, abs=1e-12)
    assert paths.predicted_excess(ends, ALPHAS) == pytest.approx(rise, rel=1e-9, abs=1e-12)
    assert rise.max() == 0


@pytest.mark.parametrize(("build", "shape"), [(mlp, (4,)), (conv, (1, 3, 3))])
def test_derivatives_equal_the_full_hessian(build, shape, monkeypatch):
    monkeypatch.setattr(paths, "ROWS", 5)
    a, b, (inputs, labels) = build(0), build(1), rows(shape)
    path = paths.line(paths.state_of(a), paths.state_of(b), learned(a))
    where = land(a, inputs, labels)

    def loss(vector, base):
        state, at = dict(base), 0
        for name, value in path.start.items():
            state[name] = vector[at : at + value.numel()].reshape(value.shape)
            at += value.numel()
        return torch.nn.functional.cross_entropy(where.outputs(state, inputs), labels)

    step = torch.cat([(path.end[name] - path.start[name]).flatten() for name in path.start])
    found = where.expansion(path)
    for end, alpha in enumerate((0.0, 1.0)):
        state = path.at(alpha)
        point = torch.cat([state[name].flatten() for name in path.start])
        gradient = torch.func.grad(loss)(point, state)
        hessian = torch.func.jacrev(torch.func.jacrev(loss))(point, state)
        assert found.loss[end] == pytest.approx(loss(point, state).item(), rel=1e-12)
        assert found.slope[end] == pytest.approx((gradient @ step).item(), rel=1e-10)
        assert found.curvature[end] == pytest.approx((step @ hessian @ step).item(), rel=1e-10)


def test_attention_has_second_derivatives():
    class Attentive(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.block = torch.nn.TransformerEncoderLayer(4, 2, 6, batch_first=True, activation="gelu")
            self.head = torch.nn.Linear(4, 3)

        def forward(self, inputs):
            return self.head(self.block(inputs).mean(dim=1))

    nets = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        nets.append(Attentive().double().eval())
    inputs, labels = rows((5, 4))
    path, where = paths.line(*map(paths.state_of, nets)), land(nets[0], inputs, labels)
    found, h = where.expansion(path), 1e-4
    before, here, after = (where.at(path.at(alpha)).losses.mean().item() for alpha in (-h, 0.0, h))
    assert found.slope[0] == pytest.approx((after - before) / (2 * h), rel=1e-5)
    assert found.curvature[0] == pytest.approx((after - 2 * here + before) / h**2, rel=1e-4)


@pytest.mark.parametrize("build", [mlp, Choosy])
def test_fisher_is_the_mean_squared_gradient_of_the_rows(build):
    net, (inputs, labels) = build(0), rows((4,))
    state = paths.state_of(net)
    found = land(net, inputs, labels).fisher(state, state)
    for name, parameter in net.named_parameters():
        squares = torch.zeros_like(parameter)
        for x, y in zip(inputs, labels, strict=True):
            loss = torch.nn.functional.cross_entropy(net(x[None]), y[None])
            squares += torch.autograd.grad(loss, parameter)[0].square() / len(inputs)
        torch.testing.assert_close(found[name], squares, rtol=1e-10, atol=1e-16)


def test_fisher_average_by_hand():
    a = {"w": torch.tensor([0.0, 0.0, 0.0]), "free": torch.tensor([2.0])}
    b = {"w": torch.tensor([4.0, 4.0, 4.0]), "free": torch.tensor([4.0])}
    merged = paths.fisher_average(a, b, {"w": torch.tensor([3.0, 0.0, 0.0])}, {"w": torch.tensor([1.0, 2.0, 0.0])})
    assert merged["w"].tolist() == [1.0, 4.0, 2.0]
    assert merged["free"].tolist() == [3.0]


def test_foretold_curve_by_hand():
    ends = Ends(loss=(1.0, 2.0), slope=(0.0, 0.0), curvature=(8.0, 24.0))
    found = paths.predicted_excess(ends, np.array([0.0, 0.5, 1.0]))
    assert found.tolist() == [0.0, 2.0, 0.0]  # (8 + 24) / 16
    tilted = paths.predicted_excess(Ends((0.0, 0.0), (1.0, -3.0), (0.0, 0.0)), np.array([0.25]))
    assert tilted.tolist() == [0.25 * 0.75 * 4]


def test_excess_is_exactly_zero_at_the_ends_and_where_nothing_moves():
    means = np.random.default_rng(0).uniform(size=(20, 7))
    found = paths.excess(means, np.linspace(0, 1, 7))
    assert (found[:, [0, -1]] == 0).all()
    assert (paths.excess(np.full(7, 0.1), np.linspace(0, 1, 7)) == 0).all()


def test_resampled_means_are_paired_and_unbiased():
    losses = np.random.default_rng(0).exponential(size=(3, 40))
    losses[2] = losses[0] + 1
    found = paths.resampled_means(losses, 5, replicates=4000)
    assert found.shape == (4000, 3)
    assert found[:, 2] - found[:, 0] == pytest.approx(np.ones(4000))
    error = losses.std(axis=1) / np.sqrt(40 * 4000)
    assert (np.abs(found.mean(axis=0) - losses.mean(axis=1)) < 4 * error).all()
    assert found[:, :2].std(axis=0) == pytest.approx(losses[:2].std(axis=1) / np.sqrt(40), rel=0.1)
    assert paths.resampled_means(losses[:1], 5, replicates=4000) == pytest.approx(found[:, :1], rel=1e-14)
    assert (paths.resampled_means(losses, 6, replicates=9) != found[:9]).any()


def test_chunks_of_replicates_change_nothing(monkeypatch):
    losses = np.random.default_rng(0).uniform(size=(2, 30))
    whole = paths.resampled_means(losses, 0, replicates=50)
    monkeypatch.setattr(paths, "_CHUNK", 200)
    assert paths.resampled_means(losses, 0, replicates=50) == pytest.approx(whole, rel=1e-14)


def test_layers_hold_what_one_module_holds():
    net = conv(0)
    found = paths.layers_of(net, paths.state_of(net))
    assert list(found) == ["0", "1", "4", "5", "6"]
    assert found["1"] == ("1.weight", "1.bias", "1.running_mean", "1.running_var")
    assert paths.layers_of(net, learned(net))["1"] == ("1.weight", "1.bias")

    class Rooted(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(2))
            self.register_buffer("count", torch.ones(2, dtype=torch.int64))
            self.plain = torch.nn.BatchNorm1d(2, affine=False)

    rooted = Rooted()
    state = paths.state_of(rooted)
    assert set(state) == {"scale", "plain.running_mean", "plain.running_var"}
    assert paths.layers_of(rooted, state) == {"(root)": ("scale",)}  # a layer without parameters is none
    assert list(paths.normalisations(rooted)) == ["plain"]


def test_tied_parameters_move_once():
    class Tied(torch.nn.Module):
        def __init__(self, seed):
            super().__init__()
            torch.manual_seed(seed)
            self.one = torch.nn.Linear(3, 3, bias=False)
            self.two = torch.nn.Linear(3, 3, bias=False)
            self.two.weight = self.one.weight

        def forward(self, inputs):
            return self.two(torch.tanh(self.one(inputs)))

    a, b = Tied(0).double(), Tied(1).double()
    inputs, labels = rows((3,))
    state = paths.state_of(a)
    assert list(state) == ["one.weight"]
    found = land(a, inputs, labels).along(paths.line(state, paths.state_of(b)), [1.0])
    with torch.no_grad():
        torch.testing.assert_close(found[0], torch.nn.functional.cross_entropy(b(inputs), labels, reduction="none"))


def pair(a, b, n=12):
    inputs, labels = rows((4,), n)
    where = land(a, inputs, labels)
    return paths.Pair(where, paths.state_of(a), paths.state_of(b), tuple(paths.state_of(a)), ALPHAS, 0)


def test_pair_measures_a_layer_against_both_baselines():
    a, b = mlp(0), mlp(1)
    found = pair(a, b)
    inputs, labels = rows((4,))
    names = ("0.weight", "0.bias")
    line = np.array([slow(a, b, alpha, inputs, labels, names).mean().item() for alpha in ALPHAS])
    ends = [slow(a, b, alpha, inputs, labels).mean().item() for alpha in (0.0, 1.0)]
    averaged, hump = found.layer(names, found.a)
    assert averaged.value == pytest.approx(line[2] - np.mean(ends), rel=1e-10)
    assert hump.value == pytest.approx(max(line[1:-1] - ((1 - ALPHAS) * line[0] + ALPHAS * line[-1])[1:-1]), rel=1e-8)
    assert averaged.drawn.shape == hump.drawn.shape == (paths.REPLICATES,)
    assert averaged.drawn.mean() == pytest.approx(averaged.value, abs=0.05)
    assert found.averaged(names, found.a) == pytest.approx(averaged.value, rel=1e-10)
    whole = found.barrier(found.curve(found.b))
    curve = np.array([slow(a, b, alpha, inputs, labels).mean().item() for alpha in ALPHAS])
    assert whole.value == pytest.approx(max(curve - (1 - ALPHAS) * curve[0] - ALPHAS * curve[-1]), abs=1e-12)
    assert (whole.drawn >= 0).all()


def test_one_row_has_no_replicates():
    found = pair(mlp(0), mlp(1), n=1)
    curve = found.curve(found.b)
    assert curve.drawn is None
    assert found.barrier(curve).drawn is None
    assert [one.drawn for one in found.layer(("0.bias",), found.a)] == [None, None]


def test_endless_losses_are_refused():
    class Cliff(torch.nn.Module):
        def __init__(self, side):
            super().__init__()
            self.side = torch.nn.Parameter(torch.tensor(side, dtype=torch.float64))

        def forward(self, inputs):
            return inputs[:, :3] * torch.log(self.side.abs())

    found = pair(Cliff(1.0), Cliff(-1.0))
    with pytest.raises(NotApplicable, match=r"no finite loss on 12 of 12 test rows"):
        found.curve(found.b)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("build", "shape"), [(mlp, (4,)), (conv, (1, 3, 3))])
def test_cuda_equals_cpu(build, shape):
    a, b, (inputs, labels) = build(0), build(1), rows(shape)
    found = []
    for device in ("cpu", "cuda"):
        nets = [net.to(device) for net in (a, b)]
        x, y = inputs.to(device), labels.to(device)
        where = paths.Landscape(TorchSubject(nets[0], Task.MULTICLASS, (), {}, device=device), x, y)
        path = paths.line(paths.state_of(nets[0]), paths.state_of(nets[1]), learned(nets[0]))
        found.append((where.along(path, ALPHAS).cpu(), torch.tensor(where.expansion(path).curvature)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
