"""Renumbered networks compute the same, and matching finds what was renumbered."""

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from assessor_checks import _interpolation as paths
from assessor_checks.generalization import _permutation as permutation
from assessor_checks.generalization._permutation import UnalignableError

FEW = settings(max_examples=15, deadline=None)


class Residual(nn.Module):
    """Residual connections, a projection, a depthwise convolution, functions and methods instead of modules."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.one, self.norm1 = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.two, self.norm2 = nn.Conv2d(6, 6, 3, padding=1), nn.InstanceNorm2d(6, affine=True)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.down, self.short = nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.Conv2d(6, 8, 1, stride=2)
        self.head = nn.Linear(8, 3)

    def forward(self, inputs):
        x = nn.functional.relu(self.norm(self.stem(inputs)))
        y = torch.relu(self.norm1(self.one(x)))
        x = self.depthwise(x + self.norm2(self.two(y)))
        x = (self.down(x) + self.short(x)).relu()
        x = nn.functional.adaptive_avg_pool2d(x, 1)
        return self.head(x.view(x.size(0), -1))


class Flattening(nn.Module):
    """Convolutions flattened into a linear layer: a unit is a block of features there."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
        self.wide, self.norm, self.head = nn.Linear(4 * 9, 7), nn.LayerNorm(7), nn.Linear(7, 3)

    def forward(self, inputs):
        return self.head(self.norm(torch.tanh(self.wide(self.body(inputs).flatten(1)))))


class Repeated(nn.Module):
    """One layer used twice: its inputs and outputs are the same units."""

    def __init__(self):
        super().__init__()
        self.first, self.again, self.head = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, inputs):
        x = torch.tanh(self.first(inputs))
        for _ in range(2):
            x = torch.tanh(self.again(x))
        return self.head(x)


def plain(*widths, act=nn.ReLU):
    layers = [[nn.Linear(one, two), act()] for one, two in itertools.pairwise(widths)]
    return nn.Sequential(*itertools.chain(*layers))[:-1]


NETS = {
    "plain": (lambda: plain(4, 6, 5, 3), (4,)),
    "normalised": (
        lambda: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.PReLU(6), nn.Dropout(0.5), nn.Linear(6, 3)),
        (4,),
    ),
    "residual": (Residual, (2, 6, 6)),
    "flattening": (Flattening, (2, 6, 6)),
    "repeated": (Repeated, (4,)),
}


def net(name, seed=0):
    torch.manual_seed(seed)
    found = NETS[name][0]().double().eval()
    for parameter in found.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter)
    for layer in paths.normalisations(found).values():
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
    return found


def rows(name, n=8):
    return torch.randn(n, *NETS[name][1], generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def shuffled(groups, seed=0):
    generator = np.random.default_rng(seed)
    return {group: generator.permutation(size) for group, size in groups.sizes.items()}


@pytest.mark.parametrize("name", NETS)
def test_any_renumbering_computes_the_same(name):
    found = net(name)
    groups, state = permutation.groups_of(found), paths.state_of(found)
    moved = permutation.permuted(groups, state, shuffled(groups))
    assert permutation.same_function(found, state, moved, rows(name))
    changed = [key for key in state if not torch.equal(state[key], moved[key])]
    assert len(changed) > len(state) / 2
    with torch.no_grad():
        one, two = (torch.func.functional_call(found, each, (rows(name),)) for each in (state, moved))
    torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)


def test_groups_by_hand():
    groups = permutation.groups_of(net("plain"))
    assert list(groups.sizes.values()) == [6, 5]
    first, second = groups.axes.values()
    assert set(first) == {("0.weight", 0, 1), ("0.bias", 0, 1), ("2.weight", 1, 1)}
    assert set(second) == {("2.weight", 0, 1), ("2.bias", 0, 1), ("4.weight", 1, 1)}
    residual = permutation.groups_of(net("residual"))
    assert sorted(residual.sizes.values()) == [6, 6, 8]  # the sum joins stem, second and depthwise convolution
    flattening = permutation.groups_of(net("flattening"))
    assert ("wide.weight", 1, 9) in next(axes for axes in flattening.axes.values() if len(axes) == 7)
    repeated = permutation.groups_of(net("repeated"))
    assert list(repeated.sizes.values()) == [5]


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("seed", range(3))
def test_matching_undoes_a_renumbering(name, seed):
    found = net(name, seed)
    groups, state = permutation.groups_of(found), paths.state_of(found)
    moved = permutation.permuted(groups, state, shuffled(groups, seed))
    back, count, units = permutation.aligned(found, state, moved, rows(name), seed=seed)
    assert all(torch.equal(state[key], back[key]) for key in state)
    assert 0 < count <= units == sum(groups.sizes.values())


def test_one_hidden_layer_is_matched_at_the_optimum():
    torch.manual_seed(0)
    one, two = plain(3, 5, 2).double(), plain(3, 5, 2).double()
    groups = permutation.groups_of(one)
    (group,) = groups.sizes
    a, b = paths.state_of(one), paths.state_of(two)

    def far(order):
        return paths.distance(a, permutation.permuted(groups, b, {group: np.array(order)}), list(a))

    best = min(map(far, itertools.permutations(range(5))))
    found = permutation.weight_matching(groups, a, b, seed=0, parameters=list(a))
    assert far(found[group]) == pytest.approx(best, rel=1e-12)


@FEW
@given(seed=st.integers(0, 10_000))
def test_matching_never_goes_away_and_keeps_the_function(seed):
    torch.manual_seed(seed)
    one, two = plain(3, 6, 4, 2, act=nn.Tanh).double(), plain(3, 6, 4, 2, act=nn.Tanh).double()
    a, b = paths.state_of(one), paths.state_of(two)
    inputs = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found, _, _ = permutation.aligned(one, a, b, inputs, seed=seed)
    assert paths.distance(a, found, list(a)) <= paths.distance(a, b, list(a)) + 1e-12
    with torch.no_grad():
        torch.testing.assert_close(torch.func.functional_call(one, found, (inputs,)), two(inputs), rtol=1e-9, atol=0)


def test_the_same_network_stays_as_it_is():
    found = net("plain")
    state = paths.state_of(found)
    same, moved, units = permutation.aligned(found, state, state, rows("plain"), seed=0)
    assert (moved, units) == (0, 11)
    assert all(torch.equal(state[key], same[key]) for key in state)


def test_same_seed_same_order():
    one, two = (paths.state_of(net("plain", seed)) for seed in (0, 1))
    groups = permutation.groups_of(net("plain"))
    first, again = (permutation.weight_matching(groups, one, two, seed=3, parameters=list(one)) for _ in range(2))
    assert all((first[group] == again[group]).all() for group in first)


def test_statistics_follow_the_units_but_do_not_count():
    found = net("normalised")
    groups, state = permutation.groups_of(found), paths.state_of(found)
    other = copy.deepcopy(found)
    other[1].running_mean.mul_(-100)
    learned = [name for name, _ in found.named_parameters()]
    moved = permutation.permuted(groups, paths.state_of(other), shuffled(groups))
    back = permutation.weight_matching(groups, state, moved, seed=0, parameters=learned)
    assert torch.equal(permutation.permuted(groups, moved, back)["1.running_mean"], other[1].running_mean)


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, inputs):
        return self.layer(inputs) if inputs.sum() > 0 else inputs


class Cut(nn.Module):
    """Takes the first half of its units, by a name that tracing takes for harmless."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, inputs):
        x = self.one(inputs)
        return self.two(x.view(-1, 2, 2).flatten(1).softmax(1) * torch.arange(4.0, dtype=x.dtype))


class Sideways(nn.Module):
    """A mean over the units themselves: traced as harmless, and caught by running."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, inputs):
        x = self.one(inputs)
        return self.two(x.view(-1, 2, 3).mean(1).view(-1, 3).relu() @ self.two.weight[:, :3].T.detach())


def test_what_is_not_understood_is_said():
    for module, words in (
        (nn.Linear(3, 2), "the model has no hidden units that could be renumbered"),
        (Branching(), "the model's forward pass cannot be traced (TraceError)"),
        (nn.TransformerEncoderLayer(4, 2), "does something to them that is not followed here"),
        (nn.Sequential(nn.Linear(4, 4), nn.ConvTranspose1d(4, 4, 1)), "'1' does something"),
        (nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1, groups=2)), "'1' does something"),
        (Cut(), "does something to them"),
        (Sideways(), "does something to them"),
    ):
        with pytest.raises(UnalignableError, match="Units were not aligned: ") as raised:
            permutation.groups_of(module)
        assert words in str(raised.value)


def test_a_wrong_guess_is_caught_by_running():
    class Reshaping(nn.Module):
        """Reads its units in another order after reshaping, which tracing does not see."""

        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, inputs):
            x = self.one(inputs).view(-1, 2, 3)
            return self.two(nn.functional.avg_pool1d(x, 3, stride=1, padding=1).flatten(1))

    torch.manual_seed(0)
    a, b = Reshaping().double(), Reshaping().double()
    with pytest.raises(UnalignableError, match="the baseline gives other outputs"):
        permutation.aligned(a, paths.state_of(a), paths.state_of(b), rows("plain"), seed=0)


def test_layers_of_different_widths_are_not_joined():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(4, 6), nn.Linear(4, 1)

        def forward(self, inputs):
            return nn.functional.relu(self.one(inputs) + self.two(inputs)).mean(1)

    with pytest.raises(UnalignableError, match="layers of different widths are added"):
        permutation.groups_of(Odd())
