"""FAM: its value and its exact gradient against the full Hessian, finite differences and a model trained with it."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from assessor_checks import _flatness as flatness
from assessor_checks.fam import FAM

CROSS_ENTROPY = nn.functional.cross_entropy


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mlp(outputs=3, width=4):
    """A tanh network, so that every derivative is different from zero."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, outputs)).double()


def half_squares(out, y):
    return (out - y).square().sum(dim=1).mean() / 2


def binary(out, y):
    return nn.functional.binary_cross_entropy_with_logits(out[:, 0], y)


CASES = {
    "softmax": (3, CROSS_ENTROPY, torch.arange(6) % 3),
    "sigmoid": (1, binary, (torch.arange(6) % 2).double()),
    "squared": (2, half_squares, drawn(6, 2, seed=5)),
}


def by_definition(net, name, criterion, x, y):
    """sum_st <w_s, w_t> Tr(H_st) from the full Hessian of the batch's loss, differentiable in every parameter."""
    parameters = dict(net.named_parameters())
    w = parameters[f"{name}.weight"]

    def loss(changed):
        return criterion(torch.func.functional_call(net, {**parameters, f"{name}.weight": changed}, (x,)), y)

    full = torch.func.jacrev(torch.func.jacrev(loss))(w).reshape(*w.flatten(1).shape, *w.flatten(1).shape)
    return torch.einsum("sutu,sv,tv->", full, w.flatten(1), w.flatten(1))


def gradients(value, net):
    return torch.autograd.grad(value, list(net.parameters()), materialize_grads=True)


def close(ours, theirs, rel=1e-9):
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=rel, atol=rel * float(other.abs().max() + 1e-3))


def by_differences(value, net, step=1e-5):
    """Gradient of `value()` in every parameter by central differences; error about step squared."""
    found = []
    for parameter in net.parameters():
        slope = torch.zeros_like(parameter)
        flat, out = parameter.detach().view(-1), slope.view(-1)
        for index in range(len(flat)):
            ends = []
            for sign in (1, -1):
                flat[index] += sign * step
                ends.append(value().item())
                flat[index] -= sign * step
            out[index] = (ends[0] - ends[1]) / (2 * step)
        found.append(slope)
    return found


# --- the last layer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", CASES)
def test_closed_form_and_its_gradient_equal_the_full_hessian(criterion):
    outputs, loss, y = CASES[criterion]
    net, x = mlp(outputs), drawn(6, 3)
    fam = FAM(net, "2", weight=0.5, criterion=criterion)
    net(x)
    value = fam()
    exact = by_definition(net, "2", loss, x, y)
    assert value.item() == pytest.approx(0.5 * exact.item(), rel=1e-9)
    assert fam.kappa.item() == pytest.approx(exact.item(), rel=1e-9)
    assert not fam.kappa.requires_grad
    found = gradients(value, net)
    close(found, gradients(0.5 * exact, net))
    assert all(slope.abs().max() > 1e-4 for slope in found[:3])  # below the layer and in it


@pytest.mark.parametrize("normalise", ["none", "neuron"])
@pytest.mark.parametrize("criterion", CASES)
def test_closed_form_gradient_equals_finite_differences(criterion, normalise):
    net, x = mlp(CASES[criterion][0]), drawn(6, 3)
    fam = FAM(net, weight=1.0, criterion=criterion, normalise=normalise)

    def value():
        net(x)
        return fam()

    close(gradients(value(), net), by_differences(value, net), rel=1e-6)


@pytest.mark.parametrize("logits_scale", [1.0, 40.0])
def test_shared_closed_form_passes_gradcheck(logits_scale):
    """Differentiable in features, weights and logits, many classes and few, certain and not."""
    for classes in (3, 6):  # both ways in which _flatness computes the variance
        inputs = [drawn(5, 4, seed=1), drawn(classes, 4, seed=2), logits_scale * drawn(5, classes, seed=3)]
        for tensor in inputs:
            tensor.requires_grad_(True)
        assert torch.autograd.gradcheck(
            lambda *a: flatness.per_sample_trace(flatness.Loss.SOFTMAX, *a), inputs, atol=1e-8
        )


def test_neuron_normalisation_is_the_one_that_is_reported():
    net, x = mlp(), drawn(6, 3)
    with torch.no_grad():
        net[0].weight[1] = 0  # a constant feature
    fam = FAM(net, weight=1.0, normalise="neuron")
    z = net(x)
    way = flatness.normalise_neurons(net[:2](x).detach(), net[2].weight.detach())
    wanted = flatness.per_sample_trace(flatness.Loss.SOFTMAX, *way, z.detach()).mean()
    value = fam()
    assert value.item() == pytest.approx(wanted.item(), rel=1e-9)
    assert all(torch.isfinite(slope).all() for slope in gradients(value, net))


def test_two_lines_in_a_loop_change_no_other_number():
    net, twin, x, y = mlp(), mlp(), drawn(6, 3), torch.arange(6) % 3
    fam = FAM(net, "2", weight=0.1)
    state = torch.random.get_rng_state()
    plain = CROSS_ENTROPY(net(x), y)
    (plain + fam() + 0 * fam_of_loss(net, x, y)).backward()
    assert torch.equal(torch.random.get_rng_state(), state)
    CROSS_ENTROPY(twin(x), y).backward()
    assert plain.item() == CROSS_ENTROPY(twin(x), y).item()
    for ours, plains in zip(net.parameters(), twin.parameters(), strict=True):
        if ours is not net[2].bias:
            assert not torch.allclose(ours.grad, plains.grad)


def fam_of_loss(net, x, y, **more):
    """kappa by the estimate, hooks removed again."""
    with FAM(net, "2", weight=1.0, **more) as fam:
        return fam(CROSS_ENTROPY(net(x), y))


def test_label_smoothing_changes_nothing():
    net, x, y = mlp(), drawn(6, 3), torch.arange(6) % 3
    smooth = by_definition(net, "2", lambda z, t: CROSS_ENTROPY(z, t, label_smoothing=0.2), x, y)
    fam = FAM(net, weight=1.0)
    net(x)
    assert fam().item() == pytest.approx(smooth.item(), rel=1e-9)


# --- any layer -------------------------------------------------------------------------------------------------------


class Enumerated(FAM):
    """FAM over all matrices of signs in turn, instead of drawn ones; of several groups together."""

    def _signs(self, size, like):
        groups = getattr(self._layer, "groups", 1)
        if not hasattr(self, "left"):
            every = itertools.product((-1.0, 1.0), repeat=groups * size * size)
            self.left = (part for signs in every for part in torch.tensor(signs, dtype=like.dtype).chunk(groups))
        return next(self.left).view(size, size)


class Residual(nn.Module):
    """A convolution that an in-place ReLU follows, batch normalisation in train mode, attention over positions."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 1, stride=2)
        self.relu = nn.ReLU(inplace=True)
        self.norm = nn.BatchNorm2d(3, track_running_stats=False)  # functional transforms refuse counters
        self.attend = nn.MultiheadAttention(3, 1, batch_first=True)
        self.head = nn.Linear(3, 3)

    def forward(self, x):
        h = self.norm(self.relu(self.conv(x))).flatten(2).mT
        return self.head(torch.tanh(h + self.attend(h, h, h)[0]).mean(dim=1))


def hidden_case(kind):
    """Model, layer, inputs; the layer's rows are short enough to enumerate all signs."""
    if kind == "linear":
        torch.manual_seed(1)
        net = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3))
        return net.double(), "2", drawn(6, 3)
    torch.manual_seed(1)
    return Residual().double(), "conv", drawn(6, 2, 3, 3)


@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_estimate_over_all_signs_equals_the_full_hessian(kind):
    net, name, x = hidden_case(kind)
    y = torch.arange(6) % 3
    with sdpa_kernel(SDPBackend.MATH):
        fam = Enumerated(net, name, weight=2.0, probes=16)
        value = fam(CROSS_ENTROPY(net(x), y))
        exact = by_definition(net, name, CROSS_ENTROPY, x, y)
        assert value.item() == pytest.approx(2 * exact.item(), rel=1e-9)
        close(gradients(value, net), gradients(2 * exact, net), rel=1e-8)


@pytest.mark.parametrize("normalise", ["none", "neuron"])
def test_estimate_gradient_equals_finite_differences_with_signs_fixed(normalise):
    net, x, y = mlp(), drawn(6, 3), torch.arange(6) % 3

    def value():
        with FAM(net, "0", weight=1.0, probes=2, seed=3, normalise=normalise) as fam:
            return fam(CROSS_ENTROPY(net(x), y))

    found = gradients(value(), net)
    close(found, by_differences(value, net), rel=1e-6)
    assert all(slope.abs().max() > 1e-5 for slope in found)


class Positions(nn.Module):
    """(n, 6) to (n, 3, 2), so that a normalisation over positions has something to do."""

    def forward(self, x):
        return x.unflatten(1, (3, 2))


def normed(kind):
    norms = {
        "layer": [nn.LayerNorm(6)],
        "layer, plain": [nn.LayerNorm(6, elementwise_affine=False)],
        "batch": [nn.BatchNorm1d(6)],
        "batch, evaluated": [nn.BatchNorm1d(6).eval()],
        "batch, positions": [Positions(), nn.BatchNorm1d(3), nn.Flatten()],
        "instance": [Positions(), nn.InstanceNorm1d(3, affine=True), nn.Flatten()],
        "group": [Positions(), nn.GroupNorm(1, 3), nn.Flatten()],
    }
    torch.manual_seed(1)
    return nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 6), *norms[kind], nn.Tanh(), nn.Linear(6, 3)).double()


KINDS = ("layer", "layer, plain", "batch", "batch, evaluated", "batch, positions", "instance", "group")


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_through_normalisation_equals_finite_differences(kind):
    """PyTorch's own third derivative is wrong there: each of these fails by a fifth without the written-out form."""
    net, x, y = normed(kind), drawn(5, 3), torch.arange(5) % 3
    plain = net(x)

    def value():
        with FAM(net, "1", weight=1.0, seed=3) as fam:
            return fam(CROSS_ENTROPY(net(x), y))

    with FAM(net, "1"):
        torch.testing.assert_close(net(x), plain, rtol=1e-10, atol=1e-12)
    close(gradients(value(), net), by_differences(value, net), rel=1e-5)


def test_normalisation_called_as_a_function_is_refused():
    class Called(nn.Module):
        def forward(self, x):
            return nn.functional.layer_norm(x, (6,))

    net = nn.Sequential(nn.Linear(3, 6), Called(), nn.Tanh(), nn.Linear(6, 3))
    with FAM(net, "0") as fam, pytest.raises(ValueError, match="followed by NativeLayerNorm, called as a function"):
        fam(CROSS_ENTROPY(net(torch.randn(4, 3)), torch.arange(4) % 3))
    above = nn.Sequential(Called(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))  # before the layer it does no harm
    with FAM(above, "1") as fam:
        assert fam(CROSS_ENTROPY(above(torch.randn(4, 6)), torch.arange(4) % 3)).requires_grad


def test_estimate_is_unbiased_and_its_error_as_wide_as_said():
    net, x, y = mlp(), drawn(6, 3), torch.arange(6) % 3
    exact = by_definition(net, "0", CROSS_ENTROPY, x, y).item()
    with FAM(net, "0", weight=1.0) as fam:
        draws = []
        for _ in range(600):
            fam(CROSS_ENTROPY(net(x), y))
            draws.append(fam.kappa)
    found = torch.stack(draws)
    assert abs(found.mean().item() - exact) < 4 * found.std().item() / 600**0.5


def test_estimate_agrees_with_the_closed_form_normalised_too():
    net, x, y = mlp(width=2), drawn(6, 3), torch.arange(6) % 3
    for normalise in ("none", "neuron"):
        with Enumerated(net, "2", weight=1.0, probes=16, normalise=normalise) as fam:
            every = fam(CROSS_ENTROPY(net(x), y))
        with FAM(net, "2", weight=1.0, normalise=normalise) as fam:
            net(x)
            assert every.item() == pytest.approx(fam().item(), rel=1e-9)


def test_same_seed_same_signs_and_more_probes_less_spread():
    net, x, y = mlp(), drawn(6, 3), torch.arange(6) % 3
    assert fam_of_loss(net, x, y, seed=4) == fam_of_loss(net, x, y, seed=4)
    assert fam_of_loss(net, x, y, seed=4) != fam_of_loss(net, x, y, seed=5)
    one, many = (
        torch.stack([fam_of_loss(net, x, y, seed=seed, probes=n).detach() for seed in range(40)]) for n in (1, 16)
    )
    assert many.std() < one.std() / 2  # a quarter is expected


def test_sequences_count_every_position_together():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(6, 3)).double()
    x, y = drawn(5, 3, 2), torch.arange(5) % 3
    with Enumerated(net, "0", weight=1.0, probes=16) as fam:
        value = fam(CROSS_ENTROPY(net(x), y))
    assert value.item() == pytest.approx(by_definition(net, "0", CROSS_ENTROPY, x, y).item(), rel=1e-9)


def test_groups_of_a_convolution_are_layers_of_their_own():
    """Two groups of one input each: four pairs of signs; what couples the groups averages out over them."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv1d(2, 4, 1, groups=2), nn.Tanh(), nn.Flatten(), nn.Linear(12, 3)).double()
    x, y, total = drawn(5, 2, 3), torch.arange(5) % 3, 0.0
    full = hessian_of(net, "0", x, y)
    w = net[0].weight.detach().flatten(1)
    for part in (slice(0, 2), slice(2, 4)):
        total += torch.einsum("sutu,sv,tv->", full[part, :, part], w[part], w[part]).item()
    with Enumerated(net, "0", weight=1.0, probes=4) as fam:
        assert fam(CROSS_ENTROPY(net(x), y)).item() == pytest.approx(total, rel=1e-9)


def hessian_of(net, name, x, y):
    """(d, m, d, m) full Hessian of the batch's loss in one weight."""
    parameters = dict(net.named_parameters())
    w = parameters[f"{name}.weight"].detach()

    def loss(changed):
        return CROSS_ENTROPY(torch.func.functional_call(net, {**parameters, f"{name}.weight": changed}, (x,)), y)

    return torch.func.jacrev(torch.func.jacrev(loss))(w).detach().reshape(*w.flatten(1).shape, *w.flatten(1).shape)


def test_a_loss_that_is_linear_there_has_none():
    net, x = mlp(), drawn(6, 3)
    with FAM(net, "2", weight=1.0) as fam:
        assert fam(net(x).sum()).item() == 0


# --- training --------------------------------------------------------------------------------------------------------


def noisy(n, seed):
    """Three overlapping classes in ten dimensions, two of which tell."""
    x, y = drawn(n, 10, seed=seed).float(), torch.arange(n) % 3
    x[:, :2] += 2.5 * torch.tensor([[0.0, 1.0], [1.0, -0.6], [-1.0, -0.6]])[y]
    return x, y


def fitted(weight, layer=None):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(10, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 3))
    fam = FAM(net, layer, weight=weight) if weight else None
    optimiser = torch.optim.SGD(net.parameters(), lr=0.2)
    x, y = noisy(90, seed=1)
    for _ in range(300):
        loss = CROSS_ENTROPY(net(x), y)
        if fam:
            loss = loss + (fam() if layer is None else fam(loss))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.eval()
    test_x, test_y = noisy(600, seed=2)
    with FAM(net, weight=1.0, normalise="neuron") as measured:
        trained = CROSS_ENTROPY(net(x), y).item()
        kappa = measured().item()
    return kappa, trained, (net(test_x).argmax(dim=1) == test_y).double().mean().item()


@pytest.mark.slow
def test_training_with_it_ends_flatter_and_no_worse():
    plain, flat, below = fitted(0.0), fitted(0.01), fitted(0.01, layer="2")
    assert flat[0] < 0.7 * plain[0]
    assert below[0] < 0.9 * plain[0]
    assert flat[2] >= plain[2] - 0.02
    assert below[2] >= plain[2] - 0.02


# --- precision, devices ----------------------------------------------------------------------------------------------


def test_autocast_is_computed_in_float32_or_better():
    net, x, y = mlp().float(), drawn(6, 3).float(), torch.arange(6) % 3
    with FAM(net, weight=1.0) as fam, torch.autocast("cpu", dtype=torch.bfloat16):
        loss = CROSS_ENTROPY(net(x), y)
        closed = fam()
        estimated = [fam(CROSS_ENTROPY(net(x), y)) for _ in range(50)]
    assert closed.dtype is estimated[0].dtype is torch.float32
    exact = by_definition(net.double(), "2", CROSS_ENTROPY, x.double(), y).item()
    assert closed.item() == pytest.approx(exact, rel=0.05)  # logits themselves have eight bits
    assert torch.stack(estimated).mean().item() == pytest.approx(exact, rel=0.5)
    assert loss.dtype is torch.float32


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    net, x, y = mlp(), drawn(6, 3), torch.arange(6) % 3
    here = by_definition(net, "0", CROSS_ENTROPY, x, y).item()
    net, x, y = net.cuda(), x.cuda(), y.cuda()
    with FAM(net, "0", weight=1.0, probes=400) as fam, FAM(net, weight=1.0) as last:
        assert fam(CROSS_ENTROPY(net(x), y)).item() == pytest.approx(here, rel=0.5)
        exact = by_definition(net, "2", CROSS_ENTROPY, x, y).item()
        assert last().item() == pytest.approx(exact, rel=1e-9)


# --- what is refused -------------------------------------------------------------------------------------------------


def test_layers_that_are_not_there():
    net = hidden_case("convolution")[0]
    with pytest.raises(ValueError, match=r"no layer 'convv'; the nearest are 'conv'"):
        FAM(net, "convv")
    with pytest.raises(ValueError, match=r"no layer 'zzz'; the nearest are 'conv', 'attend.out_proj', 'head'"):
        FAM(net, "zzz")
    with pytest.raises(ValueError, match=r"layer 'norm' is a BatchNorm2d, wanted a torch.nn.Linear or a convolution"):
        FAM(net, "norm")
    with pytest.raises(ValueError, match=r"the model has no torch.nn.Linear and no convolution"):
        FAM(nn.ReLU())
    with pytest.raises(ValueError, match=r"layer 'conv' is a convolution: normalise='neuron' is for linear layers"):
        FAM(net, "conv", normalise="neuron")


@pytest.mark.parametrize(
    "wrong", [{"weight": -1.0}, {"probes": 0}, {"criterion": "hinge"}, {"normalise": "layer"}], ids=str
)
def test_settings_out_of_range(wrong):
    with pytest.raises(ValueError, match=rf"found .*{next(iter(wrong.values()))}"):
        FAM(mlp(), **wrong)


def test_a_layer_that_did_not_run_or_ran_twice():
    net, x = mlp(), drawn(6, 3)
    fam = FAM(net)
    with pytest.raises(RuntimeError, match=r"layer '2' has not run since the last call"):
        fam()
    net(x)
    fam()
    with pytest.raises(RuntimeError, match="has not run since the last call"):
        fam()
    shared = nn.Linear(3, 3)
    again = nn.Sequential(shared, nn.Tanh(), shared)
    twice = FAM(again, "0")
    again(x.float())
    with pytest.raises(RuntimeError, match=r"layer '0' ran 2 times in one forward pass"):
        twice()


def test_frozen_layers_and_passes_without_gradients():
    net, x = mlp(), drawn(6, 3)
    fam = FAM(net)
    with torch.no_grad():
        net(x)
    with pytest.raises(RuntimeError, match=r"layer '2' ran without gradients: call the model outside torch.no_grad"):
        fam()
    net[2].weight.requires_grad_(False)
    net(x)
    with pytest.raises(RuntimeError, match=r"layer '2' is frozen"):
        fam()


@pytest.mark.parametrize("after", [nn.Softmax(dim=1), nn.ReLU(inplace=True), nn.Linear(3, 3).double()], ids=repr)
def test_closed_form_is_refused_where_something_follows(after):
    net, x, y = nn.Sequential(*mlp(), after), drawn(6, 3), torch.arange(6) % 3
    fam = FAM(net, "2", weight=1.0, probes=3)
    net(x)
    with pytest.raises(ValueError, match=r"does not give the model's output .*: call fam\(loss\)"):
        fam()
    assert fam(CROSS_ENTROPY(net(x), y)).requires_grad  # the way the message names


def test_reshaping_may_follow():
    net = nn.Sequential(*mlp(outputs=1), nn.Flatten(0))
    fam = FAM(net, criterion="sigmoid", weight=1.0)
    assert net(drawn(6, 3)).shape == (6,)
    assert fam().item() > 0


def test_criterion_and_outputs_that_do_not_go_together():
    for outputs, criterion in ((1, "softmax"), (3, "sigmoid")):
        net = mlp(outputs)
        fam = FAM(net, criterion=criterion)
        net(drawn(6, 3))
        with pytest.raises(ValueError, match=rf"{outputs} outputs, which do not go with criterion '{criterion}'"):
            fam()


def test_a_loss_of_another_batch():
    net, x = mlp(), drawn(6, 3)
    fam = FAM(net, "0")
    net(x)
    with pytest.raises(ValueError, match="does not depend on layer '0'"):
        fam(drawn(1)[0].requires_grad_(True) * 1)


def test_closing_leaves_no_hook():
    net, x = mlp(), drawn(6, 3)
    with FAM(net) as fam:
        assert net[2]._forward_hooks
        net(x)
    assert not net[2]._forward_hooks
    assert not net._forward_hooks
    assert not net._forward_pre_hooks
    fam.close()
    with pytest.raises(RuntimeError, match="has not run"):
        fam()
