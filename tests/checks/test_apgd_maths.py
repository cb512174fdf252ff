"""APGD against a linear model solved by hand, and its schedule against the paper's words."""

import itertools

import pytest
import torch
from attacked import BALLS, Linear, ball, seeded

from assessor_checks import _pgd
from assessor_checks._pgd import Goal, Plan, campaign
from assessor_checks.robustness import _apgd


@pytest.mark.parametrize(("norm", "eps", "ends"), BALLS)
@pytest.mark.parametrize("plan", [
    Plan(_apgd.climb, 60),
    Plan(_apgd.climb, 60, losses=("margin",), targets=1, clean_start=False),
])  # fmt: skip
def test_linear_model_is_solved_exactly(norm, eps, ends, plan):
    model, where = Linear(), ball(eps, 9, *ends, norm)
    found = campaign(model, model.x, model.y, where, plan, seeded())
    assert torch.equal(found.standing, model.survives(where))
    assert not found.broken.any()
    assert not found.flat.any()


def test_checkpoints_follow_the_recursion():
    # p_1 = 0.22, p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06), of 1000 steps, where nothing is rounded
    wanted, stretch, at = [], 220, 220
    while at <= 1000:
        wanted.append(at)
        stretch = max(stretch - 30, 60)
        at += stretch
    assert _apgd.checkpoints(1000) == tuple(wanted)
    assert _apgd.checkpoints(1) == (1,)
    assert max(_apgd.checkpoints(7)) <= 7


def bumpy(seed=3):
    """A small random network and rows it gets right; momentum and halving matter here."""
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(5, 40), torch.nn.Tanh(), torch.nn.Linear(40, 4)).double()
    with torch.no_grad():
        net[0].weight.mul_(6)
        x = torch.randn(150, 5, dtype=torch.float64)
        return net, x, net(x).argmax(1)


def plainly(net, x0, label, where, steps):
    """Algorithm 1 for one row on the cross-entropy itself, as the paper tells it; whether it was fooled."""
    near = where.near(x0[None])

    def at(x):
        x = x.detach().requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(net(x), label[None])
        (gradient,) = torch.autograd.grad(loss, x)
        return loss.item(), gradient, bool(net(x).argmax() != label)

    x, before, eta = x0[None], x0[None], 2.0
    loss, gradient, fooled = at(x)
    best, best_loss, best_gradient, losses = x, loss, gradient, [loss]
    last, halved, loss_then = 0, True, loss
    for step in range(steps):
        z = near.inside(near.stepped(x, gradient, eta))
        new = z if step == 0 else near.inside(x + 0.75 * (z - x) + 0.25 * (x - before))
        before, x = x, new
        loss, gradient, wrong = at(x)
        fooled |= wrong
        losses.append(loss)
        if loss > best_loss:
            best, best_loss, best_gradient = x, loss, gradient
        if step + 1 in _apgd.checkpoints(steps):
            rises = sum(b > a for a, b in itertools.pairwise(losses[last : step + 2]))
            stuck = not halved and best_loss <= loss_then
            halved = rises <= 0.75 * (step + 1 - last) or stuck
            last, loss_then = step + 1, best_loss
            if halved:
                eta, x, gradient = eta / 2, best, best_gradient
    return fooled


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_equals_the_algorithm_row_by_row(norm):
    net, x, y = bumpy()
    x, y, where = x[:40], y[:40], ball(0.06 if norm == "linf" else 0.1, 5, norm=norm)
    found = campaign(net, x, y, where, Plan(_apgd.climb, 30), seeded())
    wanted = torch.tensor([not plainly(net, row, label, where, 30) for row, label in zip(x, y, strict=True)])
    assert torch.equal(found.standing, wanted)
    assert 0 < wanted.sum() < 40


@pytest.mark.slow
def test_stays_in_the_ball_and_never_beats_a_grid():
    # In two dimensions a fine grid is all there is: whoever APGD fools, the grid fools.
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 30), torch.nn.Tanh(), torch.nn.Linear(30, 3)).double()
    with torch.no_grad():
        net[0].weight.mul_(4)
        x = torch.rand(60, 2, dtype=torch.float64, generator=seeded())
        y = net(x).argmax(1)
        steps = torch.linspace(-0.15, 0.15, 61).double()
        grid = torch.cartesian_prod(steps, steps)
        moved = (x[:, None] + grid).clamp(0, 1)
        inside = (moved - x[:, None]).norm(dim=2) <= 0.15
        wrong = (net(moved.reshape(-1, 2)).argmax(1).reshape(60, -1) != y[:, None]) & inside
    for loss in ("ce", "dlr", "margin"):
        found = campaign(
            net, x, y, ball(0.15, 2, 0, 1, "l2"), Plan(_apgd.climb, 50, 5, losses=(loss,), targets=2), seeded()
        )
        assert not (~found.standing & ~wrong.any(1)).sum() > 1  # one row may fall between the grid's points
        assert (found.standing & wrong.any(1)).sum() <= 1


def plain_value(goal, z):
    """The goal's value by its formula, differentiable."""
    rows, wide = torch.arange(len(z)), z.sort(dim=1, descending=True).values
    true, others = z[rows, goal.labels], z.scatter(1, goal.labels[:, None], -torch.inf)
    if goal.loss == "ce":
        odds = lambda to: z.scatter(1, to[:, None], -torch.inf).logsumexp(1) - z[rows, to]  # noqa: E731
        return odds(goal.labels) if goal.targets is None else -odds(goal.targets)
    rise = (others.amax(1) if goal.targets is None else z[rows, goal.targets]) - true
    if goal.loss == "margin":
        return rise
    low = wide[:, 2] if goal.targets is None else (wide[:, 2] + wide[:, min(3, z.shape[1] - 1)]) / 2
    return rise / (wide[:, 0] - low)


@pytest.mark.parametrize("classes", [3, 5])
def test_targets_and_losses_are_climbed_as_written(classes):
    logits = torch.randn(40, classes, dtype=torch.float64, generator=seeded())
    y = torch.arange(40) % classes
    t = (y + 1 + torch.arange(40) % (classes - 1)) % classes
    for goal in (Goal(y, aim, loss) for loss in ("ce", "dlr", "margin") for aim in (None, t)):
        leaf = logits.clone().requires_grad_(True)
        (wanted,) = torch.autograd.grad(plain_value(goal, leaf).sum(), leaf)
        value, found = goal.climbed(logits)
        torch.testing.assert_close(value, plain_value(goal, logits))
        rises = wanted.norm(dim=1) > 1e-9  # the ratio is constantly 1 where the true class is last of three
        assert rises.any()
        assert (found[~rises].abs() < 1e-9 * found.abs().max()).all()
        torch.testing.assert_close(
            torch.nn.functional.normalize(found[rises]), torch.nn.functional.normalize(wanted[rises])
        )
    ce = torch.nn.functional.cross_entropy
    order = torch.argsort(-ce(logits, t, reduction="none"))
    assert torch.equal(torch.argsort(Goal(y, t).climbed(logits)[0]), order)


def test_dlr_is_the_papers_ratio_and_does_not_feel_scale():
    z = torch.tensor([[1.0, 5.0, 2.0, 4.0]])
    # z_y = 5 is largest: -(5 - 4) / (5 - 2); towards class 2: -(5 - 2) / (5 - (2 + 1) / 2)
    assert _pgd.dlr(z, torch.tensor([1])).item() == pytest.approx(-1 / 3)
    assert _pgd.dlr(z, torch.tensor([1]), torch.tensor([2])).item() == pytest.approx(-3 / 3.5)
    assert _pgd.dlr(100 * z + 7, torch.tensor([1])).item() == pytest.approx(-1 / 3)
    with pytest.raises(Exception, match="two classes; use loss: ce"):
        _pgd.dlr(z[:, :2], torch.tensor([1]))


def test_same_seed_same_result_and_more_starts_never_leave_more_standing():
    net, x, y = bumpy()
    runs = [campaign(net, x, y, ball(0.05, 5), Plan(_apgd.climb, 10, k), seeded(9)).standing for k in (1, 3, 8, 8)]
    assert not (runs[1] & ~runs[0]).any()
    assert not (runs[2] & ~runs[1]).any()
    assert torch.equal(runs[2], runs[3])
