"""Random models: what is drawn, that the module stays as it is, and the interval over models and rows."""

import numpy as np
import pytest
import torch

from assessor_checks.transparency import _random_layers as layers
from assessor_checks.transparency._randomization import mean_of_draws, seed_of


class Own(torch.nn.Module):
    """A layer with a parameter of its own that does not say how it is initialised."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.arange(6.0))

    def forward(self, x):
        return x * self.scale


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), Own(), torch.nn.ReLU(), torch.nn.Linear(6, 3)
    ).eval()


def test_stages_start_at_the_output():
    net = network()
    assert layers.stages_of(net, 99) == [("4",), ("2",), ("1",), ("0",)]
    assert layers.stages_of(net, 2) == [("4", "2"), ("1", "0")]
    assert layers.stages_of(net, 3) == [("4", "2"), ("1",), ("0",)]
    assert layers.stages_of(torch.nn.Flatten(), 3) == []


def test_a_fresh_state_is_drawn_and_the_module_left_alone():
    net = network()
    with torch.no_grad():
        net[1].running_mean.fill_(5.0)
        net[1].weight.fill_(2.0)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    generator = torch.random.get_rng_state()
    fresh, shuffled = layers.fresh_state(net, 1)
    assert (torch.random.get_rng_state() == generator).all()
    assert all((net.state_dict()[name] == value).all() for name, value in before.items())
    assert shuffled == ("2",)
    assert sorted(fresh["2.scale"].tolist()) == list(range(6))
    assert (fresh["1.running_mean"] == 0).all()
    assert (fresh["1.weight"] == 1).all()
    assert not torch.equal(fresh["0.weight"], before["0.weight"])
    again, other = layers.fresh_state(net, 1)[0], layers.fresh_state(net, 2)[0]
    assert torch.equal(fresh["0.weight"], again["0.weight"])
    assert not torch.equal(fresh["0.weight"], other["0.weight"])


def test_lent_parameters_give_the_random_model():
    net = network()
    fresh, _ = layers.fresh_state(net, 1)
    part = layers.partly(net, fresh, ["4", "0"])
    assert sorted(part) == ["0.bias", "0.weight", "4.bias", "4.weight"]
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    twin = network()
    twin.load_state_dict(part, strict=False)
    assert torch.equal(layers.logits_with(net, net, part)(x), twin(x))
    assert not torch.equal(net(x), twin(x))


def test_interval_covers_models_and_rows():
    # Effects of models (sd 0.2), rows (0.2) and their interaction (0.3) around 0.1: 5 models, 20 rows, 400 draws.
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        values = (
            0.1 + 0.2 * rng.standard_normal((5, 1)) + 0.2 * rng.standard_normal(20) + 0.3 * rng.standard_normal((5, 20))
        )
        found = mean_of_draws(values)
        inside += found.low <= 0.1 <= found.high
    assert inside / 400 >= 0.95 - 4 * np.sqrt(0.95 * 0.05 / 400)


def test_interval_by_hand_and_undefined_correlations():
    values = np.array([[0.1, 0.3], [0.3, 0.5]])
    found = mean_of_draws(values)
    draws, rows = 12.7062 * 0.2 / 2, 1.959964 * 0.2 / 2  # t with one degree of freedom; sd of the means is 0.2 / sqrt 2
    assert found.value == pytest.approx(0.3)
    assert found.low == pytest.approx(-np.hypot(draws, rows) + 0.3, abs=1e-4) or found.low == -1
    assert found.high == 1.0
    values = np.tile([[0.2, np.nan, 0.4]], (3, 1))
    found = mean_of_draws(values)
    assert found.value == pytest.approx(0.3)
    assert mean_of_draws(np.array([[np.nan, 0.5], [np.nan, 0.7]]))[1:] == (-1.0, 1.0)


def test_seeds_differ():
    assert len({seed_of(seed, position) for seed in range(10) for position in range(10)}) == 100
