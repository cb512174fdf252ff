"""Worst case, average case and tolerated noise on quadratic losses solved by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch import nn

from assessor_checks.generalization import _sharpness as sharpness
from assessor_checks.generalization._landscape import Landscape


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed))


def half_square(z, y):
    return (z.squeeze(1) - y).square() / 2


def regression(n=20, width=4, seed=0, at_minimum=False):
    """A linear regression without bias: L(w + e) = L(w) + g e + e H e / 2, with its H and g."""
    x, y = normal(n, width, seed=seed), normal(n, seed=seed + 1)
    net = nn.Linear(width, 1, bias=False).double()
    w = torch.linalg.lstsq(x, y[:, None]).solution.squeeze(1) if at_minimum else normal(width, seed=seed + 2)
    with torch.no_grad():
        net.weight.copy_(w)
    return Landscape(net, half_square, x, y), x.mT @ x / n, x.mT @ (x @ w - y) / n


def trust_region(h, g, radius):
    """max of g u + u H u / 2 over ||u|| <= radius, H positive definite: (mu I - H) u = g at the sphere."""
    values, vectors = np.linalg.eigh(h)
    slopes = vectors.T @ g

    def too_long(mu):
        return np.linalg.norm(slopes / (mu - values)) - radius

    top = values[-1]
    mu = brentq(too_long, top + 1e-12 * top, top + np.linalg.norm(g) / radius + 1e-9, xtol=1e-14)
    u = vectors @ (slopes / (mu - values))
    return float(g @ u + u @ h @ u / 2)


def worst(land, scale, radius, steps=30, restarts=2, seed=0):
    return sharpness.worst_case(land, scale, radius, steps=steps, restarts=restarts, generator=generator(seed))


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 50), radius=st.sampled_from([0.01, 0.3, 3.0]), adaptive=st.booleans())
def test_worst_case_of_a_quadratic(seed, radius, adaptive):
    land, h, g = regression(seed=seed)
    scale = land.weights.abs() if adaptive else torch.ones_like(land.weights)
    exact = trust_region((scale[:, None] * h * scale).numpy(), (scale * g).numpy(), radius)
    found = worst(land, scale, radius, steps=120)  # slow where two eigenvalues are close
    assert 0.9999 * exact <= found.rise <= exact * (1 + 1e-9)
    assert float((found.point / scale).norm()) <= radius * (1 + 1e-9)
    assert float(land.losses(land.weights + found.point).mean() - land.losses(land.weights).mean()) == pytest.approx(
        found.rise, rel=1e-9
    )


def test_first_order_step_is_that_of_sam_and_asam():
    land, h, g = regression()
    for scale in (torch.ones_like(land.weights), land.weights.abs()):
        e = 0.3 * scale.square() * g / (scale * g).norm()  # Kwon et al. 2021: rho T^2 g / ||T g||
        found = worst(land, scale, 0.3)
        assert found.first_order == pytest.approx(float(g @ e + e @ h @ e / 2), rel=1e-9)
        assert found.rise >= found.first_order


def test_at_a_minimum_it_is_half_the_top_eigenvalue():
    # There the gradient is 0, so the centre gives no direction; the random starts find the top eigenvector.
    land, h, _ = regression(at_minimum=True)
    found = worst(land, torch.ones_like(land.weights), 0.5, restarts=3, steps=50)
    exact = 0.125 * float(torch.linalg.eigvalsh(h)[-1])
    assert 0.995 * exact <= found.rise <= exact * (1 + 1e-9)  # an ascent of 50 steps, from below
    assert found.broken == 0


def test_more_restarts_never_find_less():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    land = Landscape(net, half_square, normal(10, 3), normal(10))
    rises = [worst(land, land.weights.abs(), 1.0, steps=3, restarts=k, seed=2).rise for k in (1, 2, 4)]
    assert rises == sorted(rises)
    assert rises[0] > 0


def test_a_parameter_of_zero_stays():
    land, _, _ = regression()
    scale = land.weights.abs()
    scale[1] = 0
    assert worst(land, scale, 0.5).point[1] == 0
    still = worst(land, torch.zeros_like(scale), 0.5)
    assert (still.rise, still.first_order) == (0.0, 0.0)


class Steep(nn.Linear):
    """Overflows float32 a little away from its weights."""

    def forward(self, x):
        return torch.exp(80 * super().forward(x))


def test_points_that_are_not_finite_are_counted_and_not_chosen():
    net = Steep(1, 1, bias=False)
    with torch.no_grad():
        net.weight.fill_(0.4)
    land = Landscape(net, half_square, torch.ones(1, 1), torch.ones(1))
    found = worst(land, torch.ones(1), 1.0, steps=4)
    assert found.broken > 0
    assert math.isfinite(found.rise)


@pytest.mark.slow
def test_average_case_of_a_quadratic():
    # E = sigma^2 tr(c H c) / 2; every pair of draws has no first order.
    land, h, _ = regression(n=30)
    for scale in (torch.ones_like(land.weights), land.weights.abs()):
        curved = scale[:, None] * h * scale
        exact = 0.02 * float(curved.trace())
        found = [sharpness.average_case(land, scale, 0.2, draws=20, seed=seed) for seed in range(100)]
        values = np.array([one.value for one in found])
        assert abs(values.mean() - exact) < 4 * values.std() / 10
        assert np.mean([one.low <= exact <= one.high for one in found]) > 0.9
        assert np.mean([one.draws_error**2 for one in found]) == pytest.approx(values.var(), rel=0.4)


def test_rises_are_those_of_the_rows():
    land, _, _ = regression(n=6)
    scale = torch.ones_like(land.weights)
    found = sharpness.rises(land, scale, 0.3, 3, seed=5)
    assert found.shape == (6, 3)
    ratio = found / sharpness.rises(land, scale, 0.6, 3, seed=5)  # common random numbers: each is a sigma^2
    assert torch.allclose(ratio, torch.full_like(ratio, 0.25), rtol=1e-6)
    assert not torch.equal(found, sharpness.rises(land, scale, 0.3, 3, seed=6))


def test_tolerated_noise_in_closed_form():
    # For a quadratic the rise is a sigma^2 with a from the draws: sigma = sqrt(target / a).
    land, _, _ = regression(n=30)
    for scale in (torch.ones_like(land.weights), land.weights.abs()):
        found = sharpness.tolerated_noise(land, scale, 0.1, draws=8, seed=1)
        at_one = sharpness.average_case(land, scale, 1.0, draws=8, seed=1)
        for sigma, rise in ((found.sigma, at_one.value), (found.low, at_one.high), (found.high, at_one.low)):
            assert sigma == pytest.approx(math.sqrt(0.1 / rise), rel=1e-6)
        assert found.low < found.sigma < found.high


def test_noise_that_changes_nothing_has_no_limit():
    land, _, _ = regression()
    nothing = torch.zeros_like(land.weights)
    assert sharpness.tolerated_noise(land, nothing, 0.1, draws=2, seed=0) == (None, None, None)


@pytest.mark.parametrize("start", [1e-6, 0.1, 100.0])
def test_crossing(start):
    assert sharpness.crossing(lambda s: 3 * s**2, 12.0, start) == pytest.approx(2, rel=1e-12)
    assert sharpness.crossing(lambda s: s**3, 8.0, start) == pytest.approx(2, rel=1e-3)
    assert sharpness.crossing(lambda s: math.inf if s > 2 else s / 10, 8.0, start) == pytest.approx(2, rel=0.05)
    assert sharpness.crossing(lambda s: math.nan if s > 2 else 0.0, 8.0, start) == pytest.approx(2, rel=0.05)
    assert sharpness.crossing(lambda _: 0.0, 8.0, start) is None
    assert sharpness.crossing(lambda _: 9.0, 8.0, start) is None


def rescaled(net, factors):
    """The same function: the first layer's units multiplied by factors, the last layer's columns divided."""
    with torch.no_grad():
        net[0].weight.mul_(factors[:, None])
        net[0].bias.mul_(factors)
        net[2].weight.div_(factors)
    return net


def test_adaptive_numbers_do_not_see_a_rescaling_and_plain_ones_do():
    found = []
    for factors in (torch.ones(5), torch.logspace(-1, 1, 5)):
        torch.manual_seed(0)
        net = rescaled(nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1)).double(), factors.double())
        land = Landscape(net, half_square, normal(10, 3), normal(10))
        for scale in (land.weights.abs(), torch.ones_like(land.weights)):
            found.append(
                (
                    worst(land, scale, 0.2).rise,
                    sharpness.average_case(land, scale, 0.1, draws=4, seed=0).value,
                    sharpness.tolerated_noise(land, scale, 0.1, draws=4, seed=0).sigma,
                )
            )
    adaptive, plain, adaptive_after, plain_after = found
    assert adaptive_after == pytest.approx(adaptive, rel=1e-6)
    for before, after in zip(plain, plain_after, strict=True):
        assert after != pytest.approx(before, rel=0.05)


def test_sphere():
    points = torch.stack([sharpness.on_sphere(torch.zeros(3).double(), 2.0, generator(seed)) for seed in range(500)])
    assert torch.allclose(points.norm(dim=1), torch.full((500,), 2.0).double())
    assert float(points.mean(dim=0).norm()) < 4 * 2 / math.sqrt(500)
