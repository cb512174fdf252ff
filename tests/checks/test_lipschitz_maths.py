"""Lipschitz bounds: never below what is found between points, exact where that is claimed, refused where not proven."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from assessor_checks.robustness import _lipschitz as lipschitz


def stretched(net, shape, seed, scale=None, pairs=200):
    """Largest ||phi(x + s d) - phi(x)|| / ||d|| over random pairs, near and far, in float64."""
    g = torch.Generator().manual_seed(seed)
    body = nn.Sequential(*net[:-1]).double()
    x, d = (torch.randn(pairs, *shape, generator=g, dtype=torch.float64) for _ in range(2))
    d = d * torch.logspace(-3, 1, pairs, dtype=torch.float64).reshape(-1, *[1] * len(shape))
    with torch.no_grad():
        moved = body(x + (d if scale is None else scale * d)) - body(x)
    return (moved.flatten(1).norm(dim=1) / d.flatten(1).norm(dim=1)).max().item()


def seeded(seed, build):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = build().eval()
        for layer in net.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and layer.running_mean is not None:
                layer.running_mean.normal_()
                layer.running_var.uniform_(0.1, 3)
                nn.init.normal_(layer.weight)
    return net


ACTIVATIONS = (
    nn.ReLU(), nn.LeakyReLU(0.3), nn.LeakyReLU(-2.0), nn.ELU(1.5), nn.Tanh(), nn.Sigmoid(), nn.GELU(), nn.SiLU(),
    nn.GELU(approximate="tanh"), nn.Hardtanh(), nn.ReLU6(),
)  # fmt: skip


def test_a_linear_chain_is_its_spectral_norm():
    net = seeded(0, lambda: nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.Linear(9, 5), nn.Linear(5, 3)))
    factor = net[1].weight / (net[1].running_var + net[1].eps).sqrt()
    exact = torch.linalg.matrix_norm((net[2].weight @ (factor[:, None] * net[0].weight)).double().detach(), 2).item()
    found = lipschitz.sound_bound(net, torch.randn(20, 6))
    assert found.value == pytest.approx(exact, rel=1e-5)  # the oracle's factor is float32
    assert found.steps == (lipschitz.Step("0 to 2", "Linear + BatchNorm1d + Linear", found.value),)
    assert found.reason is None


def test_scale_weighs_columns_and_holds_some():
    net = seeded(1, lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)))
    scale = torch.tensor([2.0, 0.0, 0.5, 1.0], dtype=torch.float64)
    exact = torch.linalg.matrix_norm(net[0].weight.double() * scale, 2).item()
    found = lipschitz.sound_bound(net, torch.randn(9, 4), scale)
    assert found.value == pytest.approx(exact, rel=1e-8)
    assert stretched(net, (4,), 0, scale) <= found.value
    assert lipschitz.sound_bound(net[2], torch.randn(9, 6), torch.arange(6.0)).value == 5
    assert lipschitz.sound_bound(net[2], torch.randn(9, 6)) == (1, (), None)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 12), st.sampled_from(ACTIVATIONS))
def test_bound_exceeds_random_pairs(seed, width, hidden, activation):
    net = seeded(seed, lambda: nn.Sequential(
        nn.Linear(width, hidden), activation, nn.Dropout(0.5), nn.BatchNorm1d(hidden), nn.Linear(hidden, 7),
        nn.Identity(), activation, nn.Linear(7, 3),
    ))  # fmt: skip
    found = lipschitz.sound_bound(net, torch.randn(5, width))
    assert stretched(net.double(), (width,), seed) <= found.value


POOLS = (
    nn.MaxPool2d(2), nn.MaxPool2d(3, stride=1), nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
    nn.MaxPool2d(2, stride=1, dilation=2), nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
    nn.AvgPool2d(2, stride=3, divisor_override=1), nn.AdaptiveAvgPool2d((3, 2)), nn.AdaptiveAvgPool2d(1),
)  # fmt: skip
CONVOLUTIONS = (
    {"padding": 1}, {"padding": 0, "stride": 2}, {"padding": 2, "dilation": 2}, {"padding": "same", "groups": 2},
    {"padding": 1, "padding_mode": "circular"}, {"padding": 3, "padding_mode": "circular"},
    {"padding": 1, "padding_mode": "reflect"}, {"padding": 2, "padding_mode": "replicate", "stride": 2},
)  # fmt: skip


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("kind", CONVOLUTIONS[:3])
def test_bound_of_image_networks_exceeds_random_pairs(pool, kind):
    size = torch.Size((2, 9, 8))

    def build():
        body = nn.Sequential(nn.Conv2d(2, 4, 3, **kind), nn.BatchNorm2d(4), nn.ReLU(), pool, nn.Flatten())
        return nn.Sequential(*body, nn.Linear(body(torch.zeros(1, *size)).shape[1], 3))

    net = seeded(3, build)
    found = lipschitz.sound_bound(net, torch.randn(4, *size))
    assert stretched(net.double(), size, 0, pairs=60) <= found.value


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_convolution_bounds_lie_above_the_exact_norm(kind):
    layer, shape = seeded(4, lambda: nn.Conv2d(4, 6, 3, **kind)), torch.Size((4, 7, 6))
    exact = lipschitz._as_one_matrix([layer], shape, None)
    eye = torch.eye(shape.numel(), dtype=torch.float64).reshape(-1, *shape)
    whole = layer.double()(eye).flatten(1) - layer(torch.zeros(1, *shape, dtype=torch.float64)).flatten(1)
    assert exact == pytest.approx(torch.linalg.matrix_norm(whole.detach(), 2).item(), rel=1e-8)
    fourier, schur = lipschitz._fourier(layer, shape), lipschitz._schur(layer, shape)
    assert schur >= exact
    assert fourier >= exact * (1 - 1e-12)
    if kind.get("padding_mode", "zeros") == "zeros":
        assert fourier < 1.4 * exact  # padding with zeros changes little
    elif kind == CONVOLUTIONS[4]:
        assert fourier == pytest.approx(exact, rel=1e-8)
    else:
        assert fourier == math.inf


@pytest.mark.parametrize(("build", "shape"), [
    (lambda: nn.Conv1d(3, 5, 4, padding=2), (3, 20)), (lambda: nn.Conv3d(2, 3, 2), (2, 4, 3, 5)),
])  # fmt: skip
def test_other_dimensions(build, shape):
    layer = seeded(5, build)
    exact = lipschitz._as_one_matrix([layer], torch.Size(shape), None)
    assert exact <= lipschitz._fourier(layer, torch.Size(shape)) < 1.5 * exact


def test_average_pooling_bounds_lie_above_the_exact_norm():
    shape = torch.Size((2, 7, 8))
    for pool in POOLS[4:]:
        exact = lipschitz._as_one_matrix([pool], shape, None)
        assert exact * (1 - 1e-9) <= lipschitz._schur(pool, shape) < 2 * exact


def test_overlapping_maxima_count_inputs_twice():
    # The middle of (0, 1, 0) is in both windows of size 2: the change of length 1 becomes (1, 1).
    pool = nn.MaxPool1d(2, stride=1)
    change = pool(torch.tensor([[[0.0, 1.0, 0.0]]])) - pool(torch.zeros(1, 1, 3))
    assert change.norm().item() == pytest.approx(math.sqrt(2))
    assert lipschitz._shared_windows(pool) == math.sqrt(2)
    assert lipschitz._shared_windows(nn.MaxPool2d(2)) == 1
    assert lipschitz._shared_windows(nn.MaxPool2d(3, stride=2)) == 2
    assert lipschitz._shared_windows(nn.MaxPool2d((3, 2), stride=(1, 2), dilation=(2, 1))) == math.sqrt(3)


def test_slopes_are_the_largest():
    x = torch.linspace(-10, 10, 200_001, dtype=torch.float64, requires_grad=True)
    for layer in ACTIVATIONS:
        (slope,) = torch.autograd.grad(layer(x).sum(), x)
        bound = next(found(layer) for kind, found in lipschitz._SLOPES.items() if isinstance(layer, kind))
        assert slope.abs().max().item() <= bound <= slope.abs().max().item() * 1.002


@pytest.mark.slow
def test_large_matrices_by_gram_iteration():
    g = torch.Generator().manual_seed(0)
    matrix = torch.randn(1100, 1030, generator=g, dtype=torch.float64)
    exact = torch.linalg.svdvals(matrix)[0].item()
    assert exact <= lipschitz._spectral_norm(matrix) < 1.04 * exact
    assert lipschitz._spectral_norm(torch.zeros(1100, 1030, dtype=torch.float64)) == pytest.approx(0, abs=1e-100)


class Functional(nn.Module):
    """As tutorials write it."""

    def __init__(self, size=False):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
        self.last, self.size = nn.Linear(64, 3), size

    def forward(self, x):
        x = nn.functional.max_pool2d(nn.functional.relu(self.first(x)), 2)
        x = nn.functional.dropout(nn.functional.gelu(self.second(x)), 0.5, training=self.training)
        x = x.view(x.size(0), -1) if self.size else torch.flatten(x, 1)
        return self.last(torch.tanh(x))


def test_functions_count_as_their_layers():
    net = seeded(6, Functional)
    twin = nn.Sequential(
        net.first, nn.ReLU(), nn.MaxPool2d(2), net.second, nn.GELU(), nn.Flatten(), nn.Tanh(), net.last
    )
    x = torch.randn(6, 1, 10, 10)
    assert torch.equal(net(x), twin(x))
    found, theirs = lipschitz.sound_bound(net, x), lipschitz.sound_bound(twin, x)
    assert found.value == theirs.value
    assert [step.kind for step in found.steps][:3] == ["Conv2d", "ReLU", "MaxPool2d"]
    sized = seeded(6, lambda: Functional(size=True))
    assert lipschitz.sound_bound(sized, x).value == found.value
    assert stretched(twin.double(), (1, 10, 10), 0) <= found.value


def test_inputs_are_not_changed_in_place():
    net, x = seeded(7, lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 2))), torch.randn(4, 3)
    before = x.clone()
    assert lipschitz.sound_bound(net, x.clone()).value == 1
    lipschitz.local_estimate(net, before.clone())
    lipschitz._followed([("0", net[0])], x, x.relu())
    assert torch.equal(x, before)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.last = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x):
        return self.last(x + torch.relu(self.inner(x)))


class Branching(Residual):
    def forward(self, x):
        return self.last(self.inner(x) if x.sum() > 0 else 100 * x)


class Scaled(Residual):
    def forward(self, x):
        return self.last(3 * self.inner(x))


class Own(nn.Linear):
    def forward(self, x):
        return 5 * super().forward(x)


class Mixing(Residual):
    def forward(self, x):
        return self.last(self.inner(x[:6]))


def replaced():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    net[0].forward = lambda x: 5 * x
    return net


def hooked():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    net[0].register_forward_hook(lambda _layer, _args, out: 5 * out)
    return net


@pytest.mark.parametrize(("build", "reason"), [
    (Residual, "step 'add' has no known bound"),
    (Branching, "the model's forward pass cannot be traced (TraceError)"),
    (Scaled, "step 'mul' has no known bound"),
    (lambda: nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 2)), "layer '1' (LayerNorm) has no known"),
    (lambda: nn.Sequential(nn.Linear(3, 3), nn.Softmax(1), nn.Linear(3, 2)), "layer '1' (Softmax) has no known bound"),
    (lambda: nn.Sequential(Own(3, 3), nn.Linear(3, 2)), "step"),
    (Mixing, "step 'getitem' "),
    (hooked, "layer '0' has a hook or another forward, which may change what it gives"),
    (replaced, "layer '0' has a hook or another forward"),
    (lambda: nn.Sequential(nn.Unflatten(1, (1, 3)), nn.BatchNorm1d(1, track_running_stats=False), nn.Flatten(),
                           nn.Linear(3, 2)), "layer '1' normalises by the rows of the batch"),
])  # fmt: skip
def test_no_bound_without_proof(build, reason):
    net = seeded(8, build)
    found = lipschitz.sound_bound(net, torch.randn(6, 3))
    assert found.value is None
    assert found.steps == ()
    assert reason in found.reason


def test_estimate_is_exact_for_linear_models_and_below_the_bound():
    net = seeded(9, lambda: nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 6), nn.Linear(6, 2)))
    exact = torch.linalg.matrix_norm((net[1].weight @ net[0].weight).detach(), 2).item()
    assert lipschitz.local_estimate(net, torch.randn(3, 5), iterations=200) == pytest.approx(exact, rel=1e-5)
    bent = seeded(9, lambda: nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2)))
    x = torch.randn(10, 5)
    found = lipschitz.local_estimate(bent, x, iterations=100)
    body = nn.Sequential(*bent[:-1])
    norms = [torch.linalg.matrix_norm(torch.autograd.functional.jacobian(body, row), 2).item() for row in x]
    assert found == pytest.approx(max(norms), rel=1e-4)
    assert found <= lipschitz.sound_bound(bent, x).value
    assert all(parameter.grad is None for parameter in bent.parameters())


def test_estimate_of_a_model_without_slope_is_zero():
    net = seeded(10, lambda: nn.Sequential(nn.Threshold(1e9, 0.0), nn.Linear(3, 2)))
    assert lipschitz.local_estimate(net, torch.randn(4, 3)) == 0
    scale = torch.zeros(3, dtype=torch.float64)
    assert lipschitz.local_estimate(seeded(10, lambda: nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))),
                                    torch.randn(4, 3), scale) == 0  # fmt: skip


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    net, x = seeded(6, Functional), torch.randn(6, 1, 10, 10)
    here = lipschitz.sound_bound(net, x)
    there = lipschitz.sound_bound(net.cuda(), x.cuda(), None)
    assert there.value == pytest.approx(here.value, rel=1e-9)
    assert lipschitz.local_estimate(net, x.cuda()) <= there.value
