"""The attack against models whose robust accuracy is known by hand."""

import itertools

import pytest
import torch

from assessor.contract import NotApplicable
from assessor_checks import _pgd
from assessor_checks._balls import Ball, Box
from assessor_checks._pgd import Goal, Plan, campaign
from assessor_checks.robustness import _square


def ball(radius, like, low=-torch.inf, high=torch.inf, norm="linf"):
    shape = like.shape[1:]
    radius = torch.as_tensor(radius, dtype=like.dtype).expand(shape)
    return Ball(Box(radius, torch.full(shape, low, dtype=like.dtype), torch.full(shape, high, dtype=like.dtype)), norm)


def pgd(model, x, y, where, *, steps, restarts, generator, **more):
    return campaign(model, x, y, where, Plan(_pgd.ascend, steps, restarts, **more), generator)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def linear(n=200, m=7, seed=0):
    """Rows, labels the model gets right, model, and the largest eps each row survives: |margin| / ||w||_1."""
    generator = seeded(seed)
    x = torch.randn(n, m, generator=generator, dtype=torch.float64)
    w = torch.randn(m, generator=generator, dtype=torch.float64)
    margin = x @ w + 0.3
    return x, (margin > 0).long(), lambda v: torch.stack([0 * v[:, 0], v @ w + 0.3], 1), margin.abs() / w.abs().sum()


@pytest.mark.parametrize("eps", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("steps", [1, 8, 20])
def test_linear_model_is_solved_exactly(eps, steps):
    # The worst point of the ball is its corner against sign(w), which sign steps reach: survival is margin/||w||_1.
    x, y, model, most = linear()
    found = pgd(model, x, y, ball(eps, x), steps=steps, restarts=1, generator=seeded())
    assert torch.equal(found.standing, most > eps)
    assert not found.broken.any()
    assert not found.flat.any()


@pytest.mark.parametrize("eps", [0.1, 0.5, 1.0])
def test_linear_model_is_solved_exactly_in_l2(eps):
    # There the worst point is a step along w: survival is margin / ||w||_2 = margin / ||w||_1 times their ratio.
    x, y, model, most = linear()
    with torch.no_grad():
        w = model(torch.eye(7, dtype=torch.float64))[:, 1] - 0.3
    found = pgd(model, x, y, ball(eps, x, norm="l2"), steps=20, restarts=1, generator=seeded())
    assert torch.equal(found.standing, most * w.abs().sum() / w.norm() > eps)


@pytest.mark.parametrize("loss", ["ce", "dlr", "margin"])
@pytest.mark.parametrize("targets", [0, 2, 9])
def test_every_loss_and_targets_solve_three_linear_classes(loss, targets):
    # The nearest boundary is that of the class with the least (z_y - z_c) / ||w_y - w_c||_1, here of three.
    generator = seeded()
    x = torch.randn(150, 4, generator=generator, dtype=torch.float64)
    w = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    y = (x @ w.T).argmax(1)
    gap = (x @ w.T).gather(1, y[:, None]) - x @ w.T
    length = (w[y][:, None] - w[None]).abs().sum(2)
    most = torch.where(length > 0, gap / length, torch.inf).amin(1)
    model = lambda v: v @ w.T  # noqa: E731
    for clean_start in (True, False):
        plan = Plan(_pgd.ascend, 40, 3, losses=(loss,), targets=targets, clean_start=clean_start)
        found = campaign(model, x, y, ball(0.2, x), plan, seeded())
        assert not (~found.standing & (most > 0.2)).any()
        missed = (found.standing & (most <= 0.2)).sum()
        exact = targets and loss == "margin"  # other climbs may head for the farther class, or away from both
        assert missed <= (0 if exact else 2)


def test_bounds_protect_as_solved_by_hand():
    # z = x0 + x1 - 0.72 from (1, 0.2) and (1, 0.1), eps 0.25: least sums 0.70 and 0.60; in [0, 1] both are 0.75.
    x, y = torch.tensor([[1.0, 0.2], [1.0, 0.1]]), torch.tensor([1, 1])

    def standing(where):
        model = lambda v: torch.stack([0 * v[:, 0], v.sum(1) - 0.72], 1)  # noqa: E731
        return pgd(model, x, y, where, steps=10, restarts=1, generator=seeded()).standing.tolist()

    assert standing(ball(0.25, x)) == [False, False]
    assert standing(ball(0.25, x, 0.0, 1.0)) == [True, True]


class Watched:
    """A model that remembers every point it was asked."""

    def __init__(self, model):
        self.model, self.seen = model, []

    def __call__(self, x):
        self.seen.append(x.detach().clone())
        return self.model(x)


def test_every_point_lies_in_ball_and_bounds_and_held_features_never_move():
    x = torch.rand(1, 7, generator=seeded(1))
    radius = torch.full((7,), 0.3)
    radius[[2, 5]] = 0.0
    where = ball(radius, x, 0.0, 1.0)
    model = Watched(lambda v: torch.stack([100 + v.sum(1) * 0, v.cos().sum(1)], 1))  # never fooled
    pgd(model, x, torch.tensor([0]), where, steps=6, restarts=3, generator=seeded())
    _square.square(model, x, torch.tensor([0]), where, queries=2, generator=seeded())
    points = torch.cat(model.seen)
    assert len(points) == 3 * 7 + 3
    assert points.min() >= 0
    assert points.max() <= 1
    assert (points - x).abs().max() <= 0.3 + 1e-6
    assert torch.equal(points[:, [2, 5]], x[:, [2, 5]].expand(len(points), 2))
    assert torch.equal(points[0], x[0])  # the first start is the clean row
    assert not torch.equal(points[7], x[0])


def bumpy(seed=3):
    """A small random network and rows it gets right; random starts matter here."""
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(5, 40), torch.nn.Tanh(), torch.nn.Linear(40, 3)).double()
    with torch.no_grad():
        net[0].weight.mul_(6)
        x = torch.randn(150, 5, dtype=torch.float64)
        return net, x, net(x).argmax(1)


def test_same_seed_same_result_and_more_starts_never_leave_more_standing():
    net, x, y = bumpy()
    runs = [pgd(net, x, y, ball(0.06, x), steps=6, restarts=k, generator=seeded(9)) for k in (1, 2, 4, 8, 8)]
    for fewer, more in itertools.pairwise(runs):
        assert not (more.standing & ~fewer.standing).any()
    assert torch.equal(runs[-1].standing, runs[-2].standing)
    assert runs[-1].model_rows == runs[-2].model_rows
    assert 0 < runs[-1].standing.sum() < runs[0].standing.sum()


def test_fooled_rows_are_dropped(monkeypatch):
    net, x, y = bumpy()
    dropping = pgd(net, x, y, ball(0.2, x), steps=20, restarts=1, generator=seeded())
    monkeypatch.setattr(_pgd, "COMPACT_EVERY", 10**9)
    whole = pgd(net, x, y, ball(0.2, x), steps=20, restarts=1, generator=seeded())
    assert torch.equal(dropping.standing, whole.standing)
    assert dropping.model_rows < whole.model_rows == 150 * 21


def test_saturated_softmax_does_not_mask_the_gradient():
    # Scaled by 1e4 the float32 softmax is exactly one-hot and the cross-entropy has gradient 0; this attack does not.
    x, y, model, most = linear()
    x = x.float()
    sharp = lambda v: 1e4 * model(v.double()).float()  # noqa: E731
    probe = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(sharp(probe), y), probe)
    assert (gradient == 0).all(dim=1).float().mean() > 0.9
    found = pgd(sharp, x, y, ball(0.1, x), steps=8, restarts=1, generator=seeded())
    sure = (most - 0.1).abs() > 1e-5
    assert torch.equal(found.standing[sure], (most > 0.1)[sure])
    assert not found.flat.any()


def test_gradient_is_the_cross_entropys_but_for_a_positive_factor():
    logits = torch.randn(6, 4, dtype=torch.float64, generator=seeded(), requires_grad=True)
    y = torch.tensor([0, 1, 2, 3, 0, 1])
    (ours,) = torch.autograd.grad(_pgd.objective(logits, y).sum(), logits)
    written = Goal(y).climbed(logits.detach())[1]
    torch.testing.assert_close(torch.nn.functional.normalize(written), torch.nn.functional.normalize(ours))
    (theirs,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, y, reduction="sum"), logits)
    factor = 1 - logits.softmax(1).gather(1, y[:, None])
    torch.testing.assert_close(ours * factor, theirs)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_faint_gradients_are_followed(norm, loss):
    # Logits 1e-25 times those of a linear model: squares of their gradients underflow in float32.
    generator = seeded()
    x, w = torch.randn(50, 4, generator=generator), torch.randn(4, 3, generator=generator)
    y = (x @ w).argmax(1)
    faint = pgd(
        lambda v: 1e-25 * (v @ w),
        x,
        y,
        ball(0.3, x, norm=norm),
        steps=10,
        restarts=1,
        generator=seeded(),
        losses=(loss,),
    )
    plain = pgd(
        lambda v: v @ w, x, y, ball(0.3, x, norm=norm), steps=10, restarts=1, generator=seeded(), losses=(loss,)
    )
    assert not faint.flat.any()
    assert (faint.standing == plain.standing).float().mean() > 0.9


def test_flat_and_broken_rows_are_marked():
    x, y, model, _ = linear(20)
    flat = pgd(lambda v: model(v.round()) + 0 * v[:, :1], x, y, ball(0.01, x), steps=2, restarts=2, generator=seeded())
    assert flat.flat.all()
    edge = lambda v: model(v) + (v[:, :1] - x[: len(v), :1]).abs().sqrt() * 0  # noqa: E731 - gradient NaN at x
    broken = pgd(edge, x, y, ball(0.01, x), steps=2, restarts=1, generator=seeded())
    assert broken.broken.all()
    nan = pgd(lambda v: v[:, :2] * torch.nan, x, y, ball(0.01, x), steps=2, restarts=1, generator=seeded())
    assert nan.broken.all()
    assert nan.standing.all()


def test_infinite_logits_and_ties_are_no_misclassification_but_count_as_broken_where_infinite():
    logits = torch.tensor([[1.0, torch.inf], [1.0, torch.nan], [2.0, 2.0], [0.0, 1.0], [-torch.inf, 1.0]])
    tally = _pgd.Tally(logits)
    wrong = tally.note(logits, torch.zeros(5, dtype=torch.int64))
    assert wrong.tolist() == [False, False, False, True, False]
    assert tally.close().T[:2].tolist() == [[True, True, True, False, True], [True, True, False, False, True]]


def test_no_gradient_no_rows_and_an_output_that_ignores_the_input():
    x, y, model, _ = linear(20)
    with pytest.raises(NotApplicable, match="differentiably"):
        pgd(lambda v: model(v.detach()), x, y, ball(0.1, x), steps=1, restarts=1, generator=seeded())
    none = pgd(model, x[:0], y[:0], ball(0.1, x), steps=1, restarts=2, generator=seeded())
    assert none.standing.shape == (0,)
    assert none.model_rows == 0
    free = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    constant = pgd(lambda v: free.expand(len(v), 2), x, 0 * y, ball(0.1, x), steps=1, restarts=1, generator=seeded())
    assert constant.flat.all()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu_from_the_clean_start():
    net, x, y = bumpy()
    here = pgd(net, x, y, ball(0.1, x), steps=20, restarts=1, generator=seeded())
    where = Ball(Box(*(end.cuda() for end in ball(0.1, x).box)))
    generator = torch.Generator("cuda").manual_seed(0)
    there = pgd(net.cuda(), x.cuda(), y.cuda(), where, steps=20, restarts=1, generator=generator)
    assert (there.standing.cpu() == here.standing).float().mean() > 0.98
