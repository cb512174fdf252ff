"""Relative flatness of any layer against the full Hessian of its weights by automatic differentiation, float64."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from assessor.contract import NotApplicable, Task
from assessor_checks import _flatness as flatness
from assessor_checks import _layers as layers
from assessor_checks._layers import Kind
from assessor_checks._losses import per_sample_loss
from assessor_checks.generalization import _curvature as curvature
from assessor_checks.generalization._curvature import Budget, Problem

FEW = settings(max_examples=12, deadline=None)
ESTIMATE = Budget(exact=0, probes=3)


class Attention(nn.Module):
    """A block with separate projections, packed attention, a residual and a mean over tokens."""

    def __init__(self, packed: bool):
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.q, self.k, self.v = (nn.Linear(4, 4) for _ in range(3))
        self.attend = nn.MultiheadAttention(4, 2, batch_first=True) if packed else None
        self.norm = nn.LayerNorm(4)
        self.up = nn.Linear(4, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, tokens):
        h = self.embed(tokens)
        if self.attend is not None:
            h = h + self.attend(h, h, h, need_weights=False)[0]
        else:
            h = h + nn.functional.scaled_dot_product_attention(self.q(h), self.k(h), self.v(h))
        return self.head(nn.functional.gelu(self.up(self.norm(h))).mean(dim=1))


class TiedNet(nn.Module):
    """One weight used twice."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))


def conv_net(groups=1):
    return nn.Sequential(
        nn.Conv2d(2, 4, (2, 3), padding=1, stride=(1, 2), dilation=(1, 1), groups=groups),
        nn.Tanh(),
        nn.Conv2d(4, 2, 2, padding_mode="circular", padding=1),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.LazyLinear(3),
    )


def inputs_of(kind, n, generator):
    if kind == "tokens":
        return torch.randint(0, 6, (n, 5), generator=generator)
    shape = {"image": (2, 4, 5), "vector": (3,), "line": (2, 6), "volume": (1, 3, 3, 3)}[kind]
    return torch.randn(n, *shape, generator=generator, dtype=torch.float64)


NETS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), "vector"),
    "wide": (lambda: nn.Sequential(nn.Linear(3, 9), nn.Tanh(), nn.Linear(9, 2)), "vector"),
    "conv": (conv_net, "image"),
    "grouped": (lambda: conv_net(2), "image"),
    "line": (lambda: nn.Sequential(nn.Conv1d(2, 3, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(6, 2)), "line"),
    "volume": (lambda: nn.Sequential(nn.Conv3d(1, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(16, 2)), "volume"),
    "attention": (lambda: Attention(packed=False), "tokens"),
    "packed": (lambda: Attention(packed=True), "tokens"),
    "tied": (TiedNet, "vector"),
}


def problem_of(name, n=3, seed=0, dtype=torch.float64):
    build, kind = NETS[name]
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = build()
        x = inputs_of(kind, n, generator)
        net = net.double()
        net(x)
    net = net.to(dtype).eval()
    x = x.to(dtype) if x.is_floating_point() else x
    labels = torch.arange(n) % net(x).shape[1]

    def loss_of(inputs, y):
        return per_sample_loss(Task.MULTICLASS, net(inputs).double(), y)

    return Problem(net, x, labels, loss_of)


def sites_of(problem):
    return layers.find_sites(problem.module, problem.inputs[:1], problem.module)


def full_hessian(problem, site):
    """(d, m, d, m) Hessian of the mean loss in the weight, as the layer's own matrix."""
    name = site.name if site.kind is Kind.PARAMETER else f"{site.name}.weight"

    def value(w):
        out = torch.func.functional_call(problem.module, {name: w}, (problem.inputs,))
        return per_sample_loss(Task.MULTICLASS, out, problem.labels).mean()

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        found = torch.func.jacrev(torch.func.jacrev(value))(site.weight.detach())
    d = len(site.weight)
    return found.reshape(d, -1, d, found.numel() // (d * site.weight.numel()))


def slow(problem, site):
    """sum_{s,t} <w_s, w_t> Tr(H_st); of a grouped convolution by groups, of an embedding as its transpose."""
    full, w = full_hessian(problem, site), site.weight.detach().flatten(1)
    if site.kind is Kind.EMBEDDING:  # W = E^T on tokens that occur; the others have no curvature but have a norm
        used = problem.inputs.unique()
        full, w = full[used][:, :, used].permute(1, 0, 3, 2), w[used].T
    groups = getattr(site.layer, "groups", 1) if site.kind is Kind.CONVOLUTION else 1
    rows = torch.arange(len(w)).chunk(groups)
    return sum(torch.einsum("sutu,sv,tv->", full[r][:, :, r], w[r], w[r]).item() for r in rows)


@pytest.mark.parametrize("name", NETS)
def test_every_layer_exactly(name):
    problem = problem_of(name)
    sites = sites_of(problem)
    assert len(sites) >= 2
    for site in sites.values():
        found = curvature.layer_curvature(site, problem)
        assert found.error is None
        assert found.kappa.shape == (3,)
        assert found.kappa.mean().item() == pytest.approx(slow(problem, site), rel=1e-9, abs=1e-14), site.name


@FEW
@given(n=st.integers(1, 5), d=st.integers(1, 5), m=st.integers(1, 5), seed=st.integers(0, 999), act=st.sampled_from(
    [nn.ReLU(), nn.Tanh(), nn.SiLU()]))  # fmt: skip
def test_hidden_layer_of_any_shape(n, d, m, seed, act):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(m, d), act, nn.Linear(d, 3)).double().eval()
    x, y = torch.randn(n, m).double(), torch.arange(n) % 3
    problem = Problem(net, x, y, lambda a, b: per_sample_loss(Task.MULTICLASS, net(a), b))
    site = sites_of(problem)["0"]
    found = curvature.layer_curvature(site, problem)
    assert found.kappa.mean().item() == pytest.approx(slow(problem, site), rel=1e-9, abs=1e-14)
    if found.neurons is not None:
        full, w = full_hessian(problem, site), site.weight.detach()
        blocks = [full[s, :, s, :] for s in range(d)]
        squares = w.square().sum(1)
        traces = torch.stack([b.trace() for b in blocks]) * squares
        torch.testing.assert_close(found.neurons, traces, rtol=1e-9, atol=1e-14)
        most = sum(q * torch.linalg.eigvalsh(b)[-1] for q, b in zip(squares, blocks, strict=True)).item()
        assert found.maximum == pytest.approx(most, rel=1e-9, abs=1e-13)
    assert (found.neurons is None) == (d > 2 * m)


def test_the_last_layer_equals_its_closed_form():
    problem = problem_of("mlp", n=20)
    last = layers.last_linear(problem.module, problem.inputs)
    found = curvature.layer_curvature(sites_of(problem)["4"], problem)
    closed = flatness.per_sample_trace(flatness.Loss.SOFTMAX, last.features, last.weight, last.logits)
    torch.testing.assert_close(found.kappa, closed, rtol=1e-10, atol=1e-16)
    chunks = [(last.features, last.logits)]
    neurons = flatness.neuron_traces(flatness.Loss.SOFTMAX, chunks, last.weight)
    torch.testing.assert_close(found.neurons, neurons, rtol=1e-10, atol=1e-16)
    most = flatness.max_flatness(flatness.Loss.SOFTMAX, chunks, last.weight).value
    assert found.maximum == pytest.approx(most, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layer"),
    [("wide", "0"), ("conv", "0"), ("grouped", "0"), ("attention", "q"), ("attention", "embed"), ("tied", "first"),
     ("packed", "attend.in_proj_weight")],
)  # fmt: skip
def test_estimates_are_unbiased(name, layer):
    problem = problem_of(name)
    site = sites_of(problem)[layer]
    exact = curvature.layer_curvature(site, problem, budget=Budget(exact=10_000)).kappa
    found = torch.stack(
        [curvature.layer_curvature(site, problem, budget=Budget(0, 4, seed)).kappa for seed in range(25)]
    )
    z = (found.mean(dim=0) - exact) / (found.std(dim=0) / 25**0.5)
    assert z.abs().max().item() < 4
    errors = [curvature.layer_curvature(site, problem, budget=Budget(0, 8, seed)).error for seed in range(25)]
    spread = torch.stack(
        [curvature.layer_curvature(site, problem, budget=Budget(0, 8, seed)).kappa.mean() for seed in range(25)]
    ).std()
    assert 0.5 < sum(errors) / len(errors) / spread.item() < 1.6  # the reported error is the real one


@pytest.mark.parametrize(("name", "layer"), [("mlp", "0"), ("conv", "0"), ("attention", "up")])
def test_chunks_and_copies_change_nothing(name, layer):
    problem = problem_of(name, n=7)
    site = sites_of(problem)[layer]
    whole = curvature.layer_curvature(site, problem)
    parts = curvature.layer_curvature(site, problem._replace(most=3))
    torch.testing.assert_close(parts.kappa, whole.kappa, rtol=1e-12, atol=1e-16)
    assert (parts.maximum is None) == (whole.maximum is None)
    if whole.maximum is not None:
        assert parts.maximum == pytest.approx(whole.maximum, rel=1e-10)


@pytest.mark.parametrize(("name", "layer"), [("mlp", "2"), ("conv", "2"), ("attention", "up")])
def test_normalised_equals_the_rescaled_twin(name, layer):
    """Measured with a scale = measured as is on features divided and weights multiplied by it."""
    problem = problem_of(name, n=6)
    site = sites_of(problem)[layer]
    scale = curvature.layer_scale(site, problem)
    normalised = curvature.layer_curvature(site, problem, scale=scale).kappa
    held, inverse = problem.module.get_submodule(layer), flatness.inverse_scale(scale)
    rows, factors = held.weight.flatten(1), scale.repeat_interleave(len(held.weight) // len(scale), dim=0)
    full, scaled = full_hessian(problem, site), (rows * factors).detach()
    full = full / torch.where(factors > 0, factors, torch.inf)[:, :, None, None]
    full = full / torch.where(factors > 0, factors, torch.inf)[None, None]
    expected = torch.einsum("sutu,sv,tv->", full, scaled, scaled).item()
    assert (inverse[scale == 0] == 0).all()
    assert normalised.mean().item() == pytest.approx(expected, rel=1e-9)
    assert normalised.mean().item() != pytest.approx(curvature.layer_curvature(site, problem).kappa.mean().item())


def test_float32_and_half_are_near_float64():
    double = problem_of("mlp", n=20)
    exact = curvature.layer_curvature(sites_of(double)["0"], double).kappa.mean().item()
    single = problem_of("mlp", n=20, dtype=torch.float32)
    found = curvature.layer_curvature(sites_of(single)["0"], single).kappa.mean().item()
    assert found == pytest.approx(exact, rel=1e-4)
    half = problem_of("mlp", n=20, dtype=torch.bfloat16)
    before = copy.deepcopy(half.module.state_dict())
    found = curvature.layer_curvature(sites_of(half)["0"], half)
    assert found.kappa.mean().item() == pytest.approx(exact, rel=0.1)  # the weights themselves have 8 bits
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(
        before.values(), half.module.state_dict().values(), strict=True))  # fmt: skip


def test_same_seed_same_numbers_and_nothing_is_left_behind():
    problem = problem_of("conv")
    site = sites_of(problem)["0"]
    one, two = (curvature.layer_curvature(site, problem, budget=ESTIMATE) for _ in range(2))
    assert torch.equal(one.kappa, two.kappa)
    assert one.products == 3
    assert one.error == two.error > 0
    other = curvature.layer_curvature(site, problem, budget=ESTIMATE._replace(seed=1))
    assert not torch.equal(one.kappa, other.kappa)
    assert all(p.grad is None for p in problem.module.parameters())
    assert not any(part._forward_hooks for part in problem.module.modules())


def test_a_tail_without_curvature_is_flat():
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)).double().eval()
    x = torch.randn(4, 2, dtype=torch.float64)
    problem = Problem(net, x, torch.zeros(4), lambda a, _b: net(a)[:, 0])  # a loss that is linear in the weights
    found = curvature.layer_curvature(sites_of(problem)["0"], problem)
    assert found.kappa.tolist() == [0.0] * 4
    assert found.maximum == 0.0


def test_sites_are_found_and_named():
    def kinds(name):
        return {key: (site.kind, site.shape) for key, site in sites_of(problem_of(name)).items()}

    assert kinds("conv") == {
        "0": (Kind.CONVOLUTION, (4, 12)),
        "2": (Kind.CONVOLUTION, (2, 16)),
        "5": (Kind.LINEAR, (3, 48)),
    }
    assert kinds("grouped")["0"] == (Kind.CONVOLUTION, (2, 6))
    assert kinds("packed") == {
        "embed": (Kind.EMBEDDING, (4, 7)),
        "up": (Kind.LINEAR, (6, 4)),
        "head": (Kind.LINEAR, (3, 6)),
        "attend.in_proj_weight": (Kind.PARAMETER, (12, 4)),
        "attend.out_proj": (Kind.PARAMETER, (4, 4)),
    }
    assert kinds("tied") == {"head": (Kind.LINEAR, (2, 3)), "first": (Kind.PARAMETER, (3, 3))}
    problem = problem_of("mlp")
    with pytest.raises(NotApplicable, match=r"no layer 'net\.4'.*nearest names: 4"):
        layers.choose_site(sites_of(problem), "net.4")
    assert layers.choose_site(sites_of(problem), "2").name == "2"
    problem.module[2].requires_grad_(False)
    assert sites_of(problem)["2"].frozen
    assert not problem.module[2].weight.requires_grad
