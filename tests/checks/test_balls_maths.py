"""Steps, starts and projections of the balls against slow independent ways."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assessor_checks._balls import Ball, Box, length_of


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def ball(radius, m=6, low=-torch.inf, high=torch.inf, norm="l2"):
    radius = torch.as_tensor(radius, dtype=torch.float64).expand(m).clone()
    return Ball(Box(radius, torch.full((m,), low).double(), torch.full((m,), high).double()), norm)


def nearest(clean, x, low, high, radius):
    """The projection onto the l2 ball cut by a box, by bisection of its multiplier."""
    small, large = torch.zeros(len(x), 1).double(), torch.ones(len(x), 1).double()
    free = (torch.clamp(x, low, high) - clean).norm(dim=1, keepdim=True) <= radius
    for _ in range(100):
        share = (small + large) / 2
        far = (torch.clamp(clean + share * (x - clean), low, high) - clean).norm(dim=1, keepdim=True) > radius
        small, large = torch.where(far, small, share), torch.where(far, share, large)
    return torch.clamp(clean + torch.where(free, 1.0, small) * (x - clean), low, high)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), radius=st.floats(0.01, 2.0), far=st.floats(0.5, 1.5))
def test_cut_ball_projection_is_the_nearest_point(seed, radius, far):
    clean = torch.rand(20, 6, generator=seeded(seed), dtype=torch.float64)
    x = clean + far * radius * torch.nn.functional.normalize(torch.randn(20, 6, generator=seeded(seed + 1)).double())
    near = ball(radius, low=0.0, high=1.0).near(clean)
    found = near.inside(x)
    assert found.min() >= 0
    assert found.max() <= 1
    assert (found - clean).norm(dim=1).max() <= radius * (1 + 1e-12)
    torch.testing.assert_close(found, nearest(clean, x, 0.0, 1.0, radius), rtol=0, atol=1e-9)


def test_uncut_ball_projection_is_exact_in_its_units():
    clean = torch.randn(50, 6, generator=seeded(), dtype=torch.float64)
    radius = torch.tensor([0.5, 1.0, 2.0, 0.1, 1.0, 0.0]).double()
    x = clean + torch.randn(50, 6, generator=seeded(1), dtype=torch.float64)
    found = ball(radius).near(clean).inside(x)
    moved = (found - clean)[:, :5] / radius[:5]
    wanted = ((x - clean) / radius)[:, :5]
    wanted = wanted / wanted.norm(dim=1, keepdim=True).clamp_min(1)
    torch.testing.assert_close(moved, wanted)
    assert torch.equal(ball(radius).near(clean).random(seeded())[:, 5], clean[:, 5])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_starts_are_uniform_in_the_ball(norm):
    clean = torch.zeros(20_000, 3, dtype=torch.float64)
    near = ball(2.0, m=3, norm=norm).near(clean)
    drawn = near.random(seeded())
    # In a ball of dimension 3 the length to the power 3 is uniform on [0, 1], of its largest entry as of its Euclidean.
    cubes = near.distance(drawn) ** 3
    assert abs(cubes.mean().item() - 0.5) < 4 / (12 * len(cubes)) ** 0.5
    assert drawn.mean(dim=0).abs().max() < 4 * 2 / (3 * len(drawn)) ** 0.5
    assert cubes.max() <= 1


def test_held_features_do_not_eat_the_length_of_a_random_start():
    clean = torch.zeros(20_000, 3, dtype=torch.float64)
    near = ball(torch.tensor([1.0, 0.0, 0.0]), m=3).near(clean)
    assert abs(near.distance(near.random(seeded())).mean().item() - 0.5) < 4 / (12 * 20_000) ** 0.5


def test_steepest_steps():
    clean, radius = torch.zeros(2, 3).double(), torch.tensor([1.0, 2.0, 0.0]).double()
    gradient = torch.tensor([[3.0, -2.0, 9.0], [0.0, 0.0, 1.0]]).double()
    one = ball(radius, m=3, norm="linf").near(clean).stepped(clean, gradient, 0.5)
    assert one.tolist() == [[0.5, -1.0, 0.0], [0.0, 0.0, 0.0]]
    # In units of the radius the gradient is (3, -4, 0): a step of 0.5 there is (0.3, -0.4, 0), times the radius.
    two = ball(radius, m=3).near(clean).stepped(clean, gradient, torch.tensor([0.5, 0.5]).double())
    torch.testing.assert_close(two, torch.tensor([[0.3, -0.8, 0.0], [0.0, 0.0, 0.0]]).double())


def test_broken_gradients_move_nothing():
    clean = torch.zeros(3, 2)
    for norm in ("linf", "l2"):
        near = Ball(Box(torch.ones(2), torch.full((2,), -torch.inf), torch.full((2,), torch.inf)), norm).near(clean)
        gradient = torch.tensor([[3.0, -4.0], [torch.nan, 1.0], [torch.inf, 0.0]])
        found = near.stepped(clean, gradient, 1.0)
        assert found.isfinite().all()
        assert found[1, 0] == 0
        assert found[0].tolist() == ([1.0, -1.0] if norm == "linf" else pytest.approx([0.6, -0.8]))


def test_lengths_do_not_underflow():
    assert length_of(torch.tensor([[3e-30, -4e-30]])).item() == pytest.approx(5e-30)
