"""Rescalings that change no output: relative flatness stays, the plain Hessian does not (Dinh et al. 2017).

float64; "to rounding" is 1e-9 relative, a few hundred roundings of a sum over n d m terms.
"""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from assessor.contract import Task
from assessor_checks._layers import find_sites
from assessor_checks._losses import per_sample_loss
from assessor_checks.generalization._curvature import Budget, Problem, layer_curvature, layer_scale

FEW = settings(max_examples=15, deadline=None)
FACTOR = st.floats(0.05, 20.0)


def mlp():
    return nn.Sequential(
        nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 5), nn.LeakyReLU(0.1), nn.Linear(5, 4)
    )  # fmt: skip


def cnn():
    return nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Conv2d(3, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))


def net_of(build, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build().double().eval()


def inputs_of(build, seed, n=8):
    shape = (3,) if build is mlp else (1, 4, 4)
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def loss_of(net):
    return lambda x, y: per_sample_loss(Task.MULTICLASS, net(x), y)


def flatness(net, x, way):
    """Relative flatness by layer."""
    problem = Problem(net, x, torch.arange(len(x)) % 3, loss_of(net))
    found = {}
    for name, site in find_sites(net, x[:1], net).items():
        scale = layer_scale(site, problem) if way == "neuron" else None
        found[name] = layer_curvature(site, problem, scale=scale, budget=Budget(exact=10_000)).kappa.mean().item()
    return found


def hessian(net, x):
    """Trace and largest eigenvalue of the whole Hessian."""
    names, values = zip(*((name, p.detach()) for name, p in net.named_parameters()), strict=True)
    sizes = [value.numel() for value in values]

    def loss(flat):
        parts = {
            name: part.reshape(value.shape) for name, part, value in zip(names, flat.split(sizes), values, strict=True)
        }
        out = torch.func.functional_call(net, parts, (x,))
        return per_sample_loss(Task.MULTICLASS, out, torch.arange(len(x)) % 3).mean()

    full = torch.func.jacrev(torch.func.jacrev(loss))(torch.cat([value.flatten() for value in values]))
    return full.trace().item(), torch.linalg.eigvalsh(full)[-1].item()


def rescaled(net, first, second, factors):
    """The same function: outputs of a layer multiplied by factors, the next layer's inputs divided by them."""
    twin = copy.deepcopy(net)
    with torch.no_grad():
        here, there = twin[first], twin[second]
        here.weight.mul_(factors.reshape(-1, *[1] * (here.weight.ndim - 1)))
        here.bias.mul_(factors)
        spread = factors.repeat_interleave(there.weight.shape[1] // len(factors))
        there.weight.div_(spread.reshape(1, -1, *[1] * (there.weight.ndim - 2)))
    return twin


CASES = [(mlp, 0, 2, 6), (mlp, 2, 4, 5), (cnn, 0, 2, 3), (cnn, 2, 5, 2)]


@pytest.mark.slow
@pytest.mark.parametrize(("build", "first", "second", "width"), CASES)
@FEW
@given(factor=FACTOR, seed=st.integers(0, 99))
def test_a_factor_for_a_whole_layer_changes_no_layer_either_way(build, first, second, width, factor, seed):
    net, x = net_of(build, seed), inputs_of(build, seed)
    twin = rescaled(net, first, second, torch.full((width,), factor, dtype=torch.float64))
    torch.testing.assert_close(twin(x), net(x))
    for way in ("none", "neuron"):
        before, after = flatness(net, x, way), flatness(twin, x, way)
        for name, value in before.items():
            assert after[name] == pytest.approx(value, rel=1e-9, abs=1e-13), (way, name)


@pytest.mark.parametrize(("build", "first", "second", "width"), CASES)
@FEW
@given(seed=st.integers(0, 99))
def test_a_factor_for_each_neuron_changes_nothing_once_normalised(build, first, second, width, seed):
    net, x = net_of(build, seed), inputs_of(build, seed)
    factors = torch.logspace(-1, 1, width, dtype=torch.float64)
    twin = rescaled(net, first, second, factors)
    torch.testing.assert_close(twin(x), net(x))
    before, after = flatness(net, x, "neuron"), flatness(twin, x, "neuron")
    # The layer whose outputs are rescaled keeps its features, and the factors cancel in <w_s, w_t> Tr(H_st).
    for name, value in before.items():
        assert after[name] == pytest.approx(value, rel=1e-9, abs=1e-13), name


def test_without_normalisation_the_factors_of_neurons_show():
    net, x = net_of(mlp, 0), inputs_of(mlp, 0)
    twin = rescaled(net, 2, 4, torch.logspace(-1, 1, 5, dtype=torch.float64))
    before, after = flatness(net, x, "none"), flatness(twin, x, "none")
    assert after["4"] != pytest.approx(before["4"], rel=0.1)
    assert (after["0"], after["2"]) == pytest.approx((before["0"], before["2"]), rel=1e-9)


@pytest.mark.parametrize("factors", [torch.full((5,), 4.0), torch.logspace(-1, 1, 5)])
def test_the_plain_hessian_changes_under_both(factors):
    net, x = net_of(mlp, 1), inputs_of(mlp, 1)
    trace, top = hessian(net, x)
    other_trace, other_top = hessian(rescaled(net, 2, 4, factors.double()), x)
    assert other_trace != pytest.approx(trace, rel=0.2)
    assert other_top != pytest.approx(top, rel=0.2)
