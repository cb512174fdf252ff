"""Fisher-Rao norm, margins, spectral and path norms against slow independent ways, float64."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from assessor.contract import Task
from assessor_checks.generalization import _norms as norms
from assessor_checks.generalization._landscape import Landscape, exact_loss


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def labels(n, classes, seed=0):
    return torch.randint(classes, (n,), generator=torch.Generator().manual_seed(seed))


def network(widths, activation=nn.ReLU, seed=0, bias=True):
    torch.manual_seed(seed)
    layers = [part for a, b in itertools.pairwise(widths) for part in (nn.Linear(a, b, bias=bias), activation())]
    return nn.Sequential(*layers[:-1]).double().eval()


def land_of(net, n=7, seed=0, task=Task.MULTICLASS):
    width, classes = net[0].in_features, net[-1].out_features
    y = labels(n, classes, seed) if task is not Task.REGRESSION else normal(n, seed=seed)
    return Landscape(net, exact_loss(task), normal(n, width, seed=seed), y)


def gradients(land, x, y):
    """(P,) gradient of one row's loss with a given label."""
    at = land.weights.clone().requires_grad_(True)
    return torch.autograd.grad(land.row_losses(at, x[None], y[None]).sum(), at)[0]


@settings(max_examples=10, deadline=None)
@given(
    hidden=st.lists(st.integers(1, 5), max_size=2),
    classes=st.integers(2, 4),
    activation=st.sampled_from([nn.ReLU, nn.Tanh]),
    seed=st.integers(0, 99),
)
def test_fisher_rao_is_the_quadratic_form_of_the_fisher_matrix(hidden, classes, activation, seed):
    land = land_of(network((3, *hidden, classes), activation, seed), n=4, seed=seed)
    z, slopes = norms.derivative_along_weights(land)
    found = norms.fisher_rao(Task.MULTICLASS, z, slopes)
    given_labels = norms.empirical_fisher_rao(Task.MULTICLASS, z, slopes, land.labels)
    for row, (x, y) in enumerate(zip(land.inputs, land.labels, strict=True)):
        fisher = torch.zeros(land.parameters, land.parameters, dtype=torch.float64)
        for label, p in enumerate(z[row].softmax(dim=0)):
            g = gradients(land, x, torch.tensor(label))
            fisher += p * torch.outer(g, g)
        assert found[row].item() == pytest.approx(float(land.weights @ fisher @ land.weights), rel=1e-9, abs=1e-12)
        assert given_labels[row].item() == pytest.approx(float(gradients(land, x, y) @ land.weights) ** 2, abs=1e-12)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_homogeneous_networks_have_the_closed_form(depth):
    # Without biases f(x; a w) = a^L f(x; w), so the derivative along w is L z (Liang et al. 2019, Theorem 3.1).
    land = land_of(network((3, *(5,) * (depth - 1), 4), bias=False))
    z, slopes = norms.derivative_along_weights(land)
    assert torch.allclose(slopes, depth * z, rtol=1e-12)
    p = z.softmax(dim=1)
    variance = (p * z.square()).sum(dim=1) - (p * z).sum(dim=1).square()
    assert torch.allclose(norms.fisher_rao(Task.MULTICLASS, z, slopes), depth**2 * variance, rtol=1e-9)


def test_derivative_along_weights_is_that_of_a_difference():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.GELU(), nn.Linear(4, 2)).double().eval()
    land = land_of(net)
    _, slopes = norms.derivative_along_weights(land)
    ends = [land.outputs((1 + t) * land.weights, land.inputs).detach() for t in (1e-6, -1e-6)]
    assert torch.allclose(slopes, (ends[0] - ends[1]) / 2e-6, atol=1e-8)


def test_fisher_rao_of_a_regression():
    net = nn.Sequential(network((3, 4, 1)), nn.Flatten(0))
    land = Landscape(net, exact_loss(Task.REGRESSION), normal(5, 3), normal(5))
    z, slopes = norms.derivative_along_weights(land)
    assert torch.allclose(norms.fisher_rao(Task.REGRESSION, z, slopes), slopes.square())
    expected = torch.stack(
        [gradients(land, x, y) @ land.weights for x, y in zip(land.inputs, land.labels, strict=True)]
    ).square()
    assert torch.allclose(norms.empirical_fisher_rao(Task.REGRESSION, z, slopes, land.labels), expected)


def test_fisher_rao_keeps_its_digits_where_one_class_dominates():
    z, slopes = torch.tensor([[0.0, -40.0]]), torch.tensor([[1e6, 1e6 + 1]])
    p = 1 / (1 + math.exp(40))
    assert norms.fisher_rao(Task.MULTICLASS, z, slopes).item() == pytest.approx(p * (1 - p), rel=1e-12)


def test_margins_by_hand():
    z = torch.tensor([[3.0, 1.0, 2.5], [3.0, 1.0, 2.5], [0.0, 0.0, -1.0]])
    assert norms.margins(z, torch.tensor([0, 1, 0])).tolist() == [0.5, -2.0, 0.0]


def test_quantile_covers():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(1000):
        found = norms.quantile(rng.exponential(size=80), 0.1)
        inside += found.low <= -math.log(0.9) <= found.high
    assert inside / 1000 > 0.93


def test_quantile_of_few_values_has_open_ends():
    assert norms.quantile(np.array([3.0]), 0.1) == (3.0, None, None)
    found = norms.quantile(np.arange(20.0), 0.1)
    assert found.low is None
    assert found.high is not None


CONVOLUTIONS = {
    "strided": (lambda: nn.Conv2d(2, 3, 3, padding=1, stride=2), (2, 7, 6)),
    "grouped, around": (lambda: nn.Conv2d(2, 4, 3, padding=1, groups=2, padding_mode="circular"), (2, 5, 5)),
    "dilated": (lambda: nn.Conv1d(2, 3, 3, dilation=2), (2, 9)),
    "of a volume": (lambda: nn.Conv3d(1, 2, 2), (1, 3, 3, 3)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_spectral_norm_of_a_convolution_is_that_of_its_matrix(name):
    torch.manual_seed(0)
    make, shape = CONVOLUTIONS[name]
    layer = make().double()
    size = math.prod(shape)
    with torch.no_grad():
        zero = layer(torch.zeros(1, *shape).double())
        matrix = (layer(torch.eye(size).double().view(size, *shape)) - zero).flatten(1).mT
    (found,) = norms.layer_norms(nn.Sequential(layer), torch.zeros(1, *shape).double())
    assert found.kind == "convolution"
    assert found.spectral == pytest.approx(float(torch.linalg.matrix_norm(matrix, 2)), rel=1e-8)
    assert found.error < 1e-4 * found.spectral
    assert found.frobenius == pytest.approx(float(layer.weight.detach().norm()))
    assert found.spectral != pytest.approx(
        float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)), rel=0.01
    )


def test_spectral_norms_of_linear_and_batch_norm_layers():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).double().eval()
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([1.0, -6.0, 2.0, 3.0]))
        net[1].running_var.copy_(torch.tensor([1.0, 4.0, 1.0, 1.0]))
    first, middle, last = norms.layer_norms(net, torch.zeros(1, 3).double())
    assert [layer.name for layer in (first, middle, last)] == ["0", "1", "3"]
    assert first.spectral == pytest.approx(float(torch.linalg.svdvals(net[0].weight.detach())[0]))
    assert middle.spectral == pytest.approx(3, rel=1e-5)
    assert (first.weights, middle.weights, last.weights) == (16, 8, 10)


def test_a_wide_linear_layer_is_iterated():
    torch.manual_seed(0)
    layer = nn.Linear(1100, 1030)
    with torch.no_grad():
        layer.weight[0] += 0.2
    (found,) = norms.layer_norms(nn.Sequential(layer), torch.zeros(1, 1100))
    assert found.spectral == pytest.approx(float(torch.linalg.matrix_norm(layer.weight.detach(), 2)), rel=1e-5)


def test_layers_that_do_not_run_have_no_norm():
    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.spare = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            return self.used(self.used(x))

    assert [layer.name for layer in norms.layer_norms(Spare(), torch.zeros(1, 2))] == ["used"]


def test_path_norm_is_the_sum_over_paths():
    net = network((2, 3, 2, 2))
    total = 0.0
    weights = [layer.weight.detach() for layer in net if isinstance(layer, nn.Linear)]
    biases = [layer.bias.detach() for layer in net if isinstance(layer, nn.Linear)]
    for i, j, k, o in itertools.product(range(2), range(3), range(2), range(2)):
        total += float(weights[0][j, i] * weights[1][k, j] * weights[2][o, k]) ** 2
    for j, k, o in itertools.product(range(3), range(2), range(2)):
        total += float(biases[0][j] * weights[1][k, j] * weights[2][o, k]) ** 2
    for k, o in itertools.product(range(2), range(2)):
        total += float(biases[1][k] * weights[2][o, k]) ** 2
    total += float(biases[2].square().sum())
    assert norms.path_norm(net, torch.zeros(1, 2)) == pytest.approx(math.sqrt(total), rel=1e-12)


class Residual(nn.Module):
    """Convolutions, batch normalisation, a skip connection, functional steps."""

    def __init__(self, pool):
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1)
        self.pool, self.head = pool, nn.Linear(8, 3)

    def forward(self, x):
        x = nn.functional.relu(self.norm(self.first(x)))
        x = nn.functional.dropout(x + torch.relu(self.second(x)), training=self.training)
        x = self.pool(nn.functional.max_pool2d(x, 2))
        return self.head(x.view(x.size(0), -1))


def squared_convolution(layer):
    """A convolution with squared weights."""
    twin = nn.Conv2d(
        layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, groups=layer.groups
    ).double()
    with torch.no_grad():
        twin.weight.copy_(layer.weight.square())
        twin.bias.copy_(layer.bias.square())
    return twin


def test_path_norm_of_a_convolutional_network():
    torch.manual_seed(0)
    net = Residual(nn.AvgPool2d(2)).double().eval()
    with torch.no_grad():
        for buffer, value in ((net.norm.running_mean, 0.3), (net.norm.running_var, 2.0)):
            buffer.fill_(value)
        factor = net.norm.weight / (net.norm.running_var + net.norm.eps).sqrt()
        shift = net.norm.bias - factor * net.norm.running_mean
        x = torch.ones(1, 1, 8, 8).double()
        x = squared_convolution(net.first)(x) * factor.square()[:, None, None] + shift.square()[:, None, None]
        x = x + squared_convolution(net.second)(x)
        x = nn.functional.max_pool2d(x, 2)
        x = nn.functional.avg_pool2d(x, 2, divisor_override=16)  # four weights of 1 / 4, squared
        total = x.flatten() @ net.head.weight.square().sum(dim=0) + net.head.bias.square().sum()
    assert norms.path_norm(net, torch.zeros(1, 1, 8, 8)) == pytest.approx(math.sqrt(total), rel=1e-12)
    adaptive = Residual(nn.AdaptiveAvgPool2d(2)).double().eval()
    adaptive.load_state_dict(net.state_dict())
    assert norms.path_norm(adaptive, torch.zeros(1, 1, 8, 8)) == pytest.approx(math.sqrt(total), rel=1e-12)


def test_path_norm_and_fisher_rao_do_not_see_a_rescaling_and_spectral_norms_do():
    found = []
    for factors in (torch.ones(5), torch.logspace(-1, 1, 5)):
        net = network((3, 5, 2))
        with torch.no_grad():
            net[0].weight.mul_(factors[:, None])
            net[0].bias.mul_(factors)
            net[2].weight.div_(factors)
        own = norms.fisher_rao(Task.MULTICLASS, *norms.derivative_along_weights(land_of(net)))
        layers = norms.layer_norms(net, torch.zeros(1, 3).double())
        found.append(
            (norms.path_norm(net, torch.zeros(1, 3)), own.mean().item(), math.prod(x.spectral for x in layers))
        )
    before, after = found
    assert after[:2] == pytest.approx(before[:2], rel=1e-9)
    assert after[2] > 1.5 * before[2]


class Weighted(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, x):
        return x * self.weight


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.Tanh()), "it contains Tanh"),
        (nn.Sequential(nn.Linear(2, 2), nn.Softmax(1)), "it contains Softmax"),
        (Weighted(), "it uses 'weight' outside of a layer"),
        (nn.Sequential(nn.Unflatten(1, (1, 2)), nn.AdaptiveAvgPool1d(3)), "it contains AdaptiveAvgPool1d with windows"),
        (nn.Sequential(nn.Unflatten(1, (1, 2)), nn.AvgPool1d(2, ceil_mode=True)), "it contains AvgPool1d with windows"),
    ],
)
def test_networks_without_a_path_norm_say_why(net, reason):
    assert norms.path_norm(net.eval(), torch.zeros(1, 2)).startswith(reason)


def test_a_forward_pass_with_branches_cannot_be_followed():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x):
            return self.layer(x) if x.sum() > 0 else x

    assert norms.path_norm(Outer(), torch.zeros(1, 2)) == "its forward pass cannot be followed (TraceError)"

    class Doubled(nn.Module):
        def forward(self, x):
            return torch.sin(x) + x.exp() + 1

    assert norms.path_norm(Doubled(), torch.zeros(1, 2)) == "it contains sin"


def test_a_path_norm_beyond_float64_is_none():
    net = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        net.weight.fill_(1e200)
    assert norms.path_norm(nn.Sequential(net), torch.zeros(1, 1)) == "it is larger than any number held in float64"
