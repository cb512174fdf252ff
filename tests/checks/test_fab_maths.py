"""FAB: its projection against bisection, and the distance to a linear boundary known by hand."""

import pytest
import torch
from attacked import BALLS, Linear, ball, seeded
from hypothesis import given, settings
from hypothesis import strategies as st

from assessor_checks.robustness._fab import Space, fab, onto_plane


@pytest.mark.parametrize(("norm", "eps", "ends"), BALLS)
def test_linear_model_is_solved_exactly(norm, eps, ends):
    model, where = Linear(), ball(eps, 9, *ends, norm)
    found, _ = fab(model, model.x, model.y, where, steps=30, targets=9)
    assert torch.equal(found.standing, model.survives(where))
    assert not found.broken.any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_distances_are_those_to_the_plane(norm):
    # |w x + b| / ||w||_1 and / ||w||_2; the last overshoot of 5 % of the last step is all that is left of the error.
    model, where = Linear(), ball(1e-3, 9, norm=norm)
    found, nearest = fab(model, model.x, model.y, where, steps=30, targets=1)
    exact = model.margin(model.x).abs() / model.w.norm(p=1 if norm == "linf" else 2)
    standing = found.standing
    ratio = nearest[standing] * 1e-3 / exact[standing]
    assert ratio.min() >= 1
    assert ratio.max() < 1.01
    assert standing.sum() == (exact > 1e-3).sum()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), norm=st.sampled_from(["linf", "l2"]))
def test_projection_onto_the_plane_is_the_shortest_move(seed, norm):
    m, generator = 7, seeded(seed)
    x = torch.rand(30, m, generator=generator, dtype=torch.float64)
    space = Space.around(x, ball(0.5, m, 0.0, 1.0, norm))
    offset = (torch.rand(30, m, generator=generator, dtype=torch.float64) - x) / 0.5
    normal = torch.randn(30, m, generator=generator, dtype=torch.float64)
    normal[:, 0] = 0.0
    missing = torch.randn(30, 1, generator=generator, dtype=torch.float64)
    move = onto_plane(offset, normal, missing, space)
    way = normal * missing.sign()
    room = torch.where(way > 0, space.high - offset, offset - space.low)
    most = (way.abs() * room).sum(1, keepdim=True)
    reached = (normal * move).sum(1, keepdim=True)
    torch.testing.assert_close(reached, missing.sign() * torch.minimum(missing.abs(), most))
    assert ((offset + move) <= space.high + 1e-12).all()
    assert ((offset + move) >= space.low - 1e-12).all()
    # No shorter move gets there: at a slightly lower level of the same form less is reached.
    length = move.abs().amax(1) if norm == "linf" else move.norm(dim=1)
    shorter = torch.minimum(0.99 * length[:, None], room) if norm == "linf" else 0.99 * move.abs()
    assert ((way.abs() * shorter).sum(1, keepdim=True) < missing.abs()).all()


def three(seed=0):
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(2, 30), torch.nn.Tanh(), torch.nn.Linear(30, 3)).double()
    with torch.no_grad():
        net[0].weight.mul_(4)
        x = torch.rand(60, 2, dtype=torch.float64, generator=seeded())
        return net, x, net(x).argmax(1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_distance_to_a_curved_boundary_is_that_of_a_fine_grid(norm):
    net, x, y = three()
    found, nearest = fab(net, x, y, ball(1e-6, 2, 0.0, 1.0, norm), steps=60, targets=2)
    axis = torch.linspace(0, 1, 301, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        classes = net(grid).argmax(1)
    far = (x[:, None] - grid).abs().amax(2) if norm == "linf" else (x[:, None] - grid).norm(dim=2)
    exact = torch.where(classes != y[:, None], far, torch.inf).amin(1)
    assert found.standing.all()
    off = nearest * 1e-6 - exact
    assert off.min() > -0.0035  # the grid's own coarseness
    assert (off < 0.01).float().mean() > 0.9  # a local search: some rows find another piece of the boundary first


def test_held_features_never_move_and_bounds_are_kept():
    net, x, y = three()
    where = ball(0.2, 2, 0.0, 1.0)
    where.box.radius[1] = 0.0
    seen = []

    def watched(v):
        seen.append(v.detach().clone())
        return net(v)

    fab(watched, x, y, where, steps=10, targets=2)
    assert all((points[:, 1:] == x[:, 1:]).all() for points in seen if len(points) == len(x))
    assert min(points[:, 0].min() for points in seen) >= 0
    assert max(points[:, 0].max() for points in seen) <= 1


def test_nothing_to_do_no_gradient_and_nan():
    model = Linear(20)
    none, nearest = fab(model, model.x[:0], model.y[:0], ball(0.1, 9), steps=3, targets=1)
    assert len(none.standing) == len(nearest) == none.model_rows == 0
    flat, nearest = fab(lambda v: model(v.round()) + 0 * v[:, :1], model.x, model.y, ball(0.01, 9), steps=3, targets=1)
    assert nearest.isinf().all() == flat.standing.all()
    broken, _ = fab(lambda v: model(v) * torch.nan, model.x, model.y, ball(0.1, 9), steps=3, targets=1)
    assert broken.broken.all()
    assert broken.standing.all()
