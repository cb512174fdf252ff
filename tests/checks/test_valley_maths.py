"""The path of an attack that goes on after the flip: by hand on one logit, its balls and bounds, and its summaries."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assessor_checks import _flatness as flatness
from assessor_checks._pgd import Box
from assessor_checks.robustness import _valley as valley


def head(*weight, bias=0.0):
    """z = w x + b as a single logit, float64."""
    net = torch.nn.Linear(len(weight), 1).double().eval()
    net.weight.data = torch.tensor([weight], dtype=torch.float64)
    net.bias.data.fill_(bias)
    return net


def two(net):
    """The logits (0, z)."""
    return lambda x: torch.cat([torch.zeros_like(z := net(x)), z], dim=1)


def ball(radius, size, low=-math.inf, high=math.inf):
    radius = torch.as_tensor(radius, dtype=torch.float64).expand(size).clone()
    return Box(radius, torch.full((size,), low).double(), torch.full((size,), high).double())


def rows(*values):
    return torch.tensor(values, dtype=torch.float64)


def network(seed=0, width=3, classes=3):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = torch.nn.Sequential(torch.nn.Linear(width, 12), torch.nn.Tanh(), torch.nn.Linear(12, classes))
    return net.double().eval()


def kappa(x, w, bias=0.0):
    p = 1 / (1 + np.exp(-(x * w + bias)))
    return x**2 * w**2 * p * (1 - p)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_one_feature_by_hand(norm):
    # z = 6 x from x = 1, eps 2, 10 steps of 0.5 against the label: 1, 0.5, 0, -0.5, -1, and there it stays.
    net = head(6.0)
    path = valley.trace(net, two(net), rows([1.0]), torch.tensor([1]), ball(2.0, 1), steps=10, norm=norm)
    x = np.array([1, 0.5, 0, -0.5, -1, -1, -1, -1, -1, -1, -1])
    assert path.kappa[:, 0] == pytest.approx(kappa(x, 6), rel=1e-12, abs=1e-15)
    assert path.loss[:, 0] == pytest.approx(np.log1p(np.exp(-6 * x)), rel=1e-12)
    assert path.wrong[:, 0].tolist() == [False, False] + 9 * [True]  # z = 0 is the negative class
    assert path.confidence[0] == pytest.approx(1 / (1 + math.exp(-6)))
    assert not path.broken[0]
    assert not path.flat[0]
    found = valley.summarise(path)
    assert found.flip.tolist() == [2]
    assert found.peak.tolist() == [1]
    assert found.rise.tolist() == pytest.approx([kappa(0.5, 6) / kappa(1, 6)])
    assert found.flipped.tolist() == [True]
    assert found.flatter.tolist() == [False]  # as flat as at its start, not flatter


def test_kappa_is_that_of_the_layer_and_two_outputs_equal_one():
    net = network(classes=1)
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1])
    path = valley.trace(net, two(net), x, y, ball(0.5, 3), steps=3, norm="linf")
    w = net[2].weight.detach()
    expected = flatness.per_sample_trace(flatness.Loss.SIGMOID, net[:-1](x).detach(), w, net(x).detach())
    assert path.kappa[0] == pytest.approx(expected.numpy(), rel=1e-12)
    pair = torch.nn.Sequential(net[0], net[1], torch.nn.Linear(12, 2).double()).eval()
    pair[2].weight.data, pair[2].bias.data = torch.cat([0 * w, w]), torch.cat([0 * net[2].bias, net[2].bias]).detach()
    other = valley.trace(pair, pair, x, y, ball(0.5, 3), steps=3, norm="linf")
    for ours, theirs in zip(path, other, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-9)


class Watched(torch.nn.Module):
    """Remembers the inputs it is asked about."""

    def __init__(self, net):
        super().__init__()
        self.net, self.seen = net, []

    def forward(self, x):
        if len(x) > 1:
            self.seen.append(x.detach().clone())
        return self.net(x)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(("linf", "l2")), st.booleans())
def test_the_path_keeps_to_its_ball_and_bounds(seed, norm, bounded):
    net = Watched(network(seed)).eval()
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(20, 3, generator=g, dtype=torch.float64)
    radius = torch.tensor([0.3, 0.0, 1.2], dtype=torch.float64)  # the second feature is held
    box = ball(radius, 3, *((0.0, 1.0) if bounded else ()))
    y = torch.randint(3, (20,), generator=g)
    path = valley.trace(net, net, x, y, box, steps=8, norm=norm)
    assert path.loss.shape == (9, 20)
    for point in net.seen:
        move = point[: len(x)] - x[: len(point)]
        assert (move[:, 1] == 0).all()
        length = (
            (move / radius.clamp_min(1e-9)).abs().amax(1) if norm == "linf" else (move / radius)[:, ::2].norm(dim=1)
        )
        assert (length <= 1 + 1e-12).all()
        if bounded:
            assert ((point >= 0) & (point <= 1)).all()
    assert path.loss[-1].mean() > path.loss[0].mean()


def test_l2_goes_along_the_gradient():
    net = head(3.0, 4.0)
    path = valley.trace(net, two(net), rows([1.0, 1.0]), torch.tensor([1]), ball(1.0, 2), steps=10, norm="l2")
    # z falls by 5 per unit of length, 0.25 a step, until the ball of radius 1 ends
    z = 7 - 5 * np.minimum(0.25 * np.arange(11), 1)
    assert path.loss[:, 0] == pytest.approx(np.log1p(np.exp(-z)), rel=1e-9)


def test_tiny_gradients_still_give_a_direction():
    net = head(1e-200, 1e-200)
    path = valley.trace(net, two(net), rows([1.0, 1.0]), torch.tensor([1]), ball(1.0, 2), steps=4, norm="l2")
    assert not path.flat[0]
    assert not path.broken[0]


class Flaw(torch.nn.Module):
    """Right on the data, NaN a little further on in one place."""

    def __init__(self):
        super().__init__()
        self.last = head(1.0)

    def forward(self, x):
        return self.last(torch.where(x < -0.4, torch.nan, x))


def test_broken_and_flat_rows_are_marked():
    net = Flaw().eval()
    path = valley.trace(net, two(net), rows([0.5], [5.0]), torch.tensor([1, 1]), ball(1.0, 1), steps=5, norm="linf")
    assert path.broken.tolist() == [True, False]
    kept = valley.without(path, path.broken)
    assert kept.loss.shape == (6, 1)
    assert np.isfinite(kept.kappa).all()
    still = head(0.0, bias=1.0)
    path = valley.trace(still, two(still), rows([0.5]), torch.tensor([1]), ball(1.0, 1), steps=5, norm="linf")
    assert path.flat.tolist() == [True]
    assert np.isnan(valley.summarise(path).rise).all()


def test_chunks_change_nothing():
    net = network(1)
    x, y = torch.randn(1500, 3, dtype=torch.float64), torch.randint(3, (1500,))
    told = []
    whole = valley.trace(net, net, x, y, ball(0.5, 3), steps=2, norm="l2", report=told.append)
    part = valley.trace(net, net, x[1400:], y[1400:], ball(0.5, 3), steps=2, norm="l2")
    assert told == [1024, 1500]
    for ours, theirs in zip(whole, part, strict=True):
        assert ours[..., 1400:] == pytest.approx(theirs, rel=1e-9)


def path_of(kappa, wrong):
    kappa, wrong = np.array(kappa, dtype=float).T, np.array(wrong, dtype=bool).T
    n = kappa.shape[1]
    return valley.Path(kappa, kappa, wrong, np.ones(n), np.zeros(n, bool), np.zeros(n, bool))


def test_summary_by_hand():
    path = path_of([[1, 4, 2, 0.5], [2, 1, 1, 3], [0, 1, 2, 3]], [[0, 0, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0]])
    found = valley.summarise(path)
    assert found.rise[:2].tolist() == [4, 1.5]
    assert np.isnan(found.rise[2])
    assert found.flipped.tolist() == [True, False, False]
    assert found.left.tolist() == [False, True, False]
    assert found.flip.tolist() == [2, 1, -1]
    assert found.peak.tolist() == [1, 3, 3]
    assert found.flatter.tolist() == [True, False, False]


def test_alignment_and_quartiles_by_hand():
    values = np.array([[1.0, 10], [2, 20], [3, 30]])
    found = valley.aligned(values, np.array([0, 2]))
    expected = [[np.nan, 10], [np.nan, 20], [1, 30], [2, np.nan], [3, np.nan]]
    np.testing.assert_array_equal(found, expected)
    columns = valley.quartiles(np.array([[1.0, 2, 3, np.nan], [np.nan] * 4]))
    assert columns == {"low_quartile": (1.5, None), "median": (2.0, None), "high_quartile": (2.5, None)}
    np.testing.assert_array_equal(valley.relative(np.array([[2.0, 0], [3, 1]])), [[1, np.nan], [1.5, np.nan]])


def test_model_is_left_as_it_was():
    net = network(2)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    valley.trace(net, net, torch.randn(4, 3).double(), torch.tensor([0, 1, 2, 0]), ball(0.5, 3), steps=3, norm="linf")
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not net[0]._forward_hooks


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    net, x, y = network(3), torch.randn(50, 3).double(), torch.randint(3, (50,))
    here = valley.trace(net, net, x, y, ball(0.5, 3), steps=10, norm="l2")
    box = Box(*(part.cuda() for part in ball(0.5, 3)))
    there = valley.trace(net.cuda(), net, x.cuda(), y.cuda(), box, steps=10, norm="l2")
    for one, other in zip(here, there, strict=True):
        assert other == pytest.approx(one, rel=1e-6)
