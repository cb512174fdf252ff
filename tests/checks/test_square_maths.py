"""Square attack: linear models solved by hand, windows and patterns as the paper draws them."""

import pytest
import torch
from attacked import BALLS, Linear, ball, seeded

from assessor_checks._balls import Ball, Box
from assessor_checks.robustness import _square
from assessor_checks.robustness._square import pattern_of, share_at, square


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "eps", "ends"), BALLS)
def test_linear_model_is_nearly_solved_and_never_beyond(norm, eps, ends):
    model, where = Linear(100), ball(eps, 9, *ends, norm)
    found = square(model, model.x, model.y, where, queries=1500, generator=seeded())
    survives = model.survives(where)
    assert not (survives & ~found.standing).any()  # nobody is fooled who cannot be
    assert (found.standing & ~survives).sum() <= (0 if norm == "linf" else 3)


def image(n=40, seed=0):
    x = torch.rand(n, 2, 6, 5, generator=seeded(seed), dtype=torch.float64)
    w = torch.randn(2, 6, 5, generator=seeded(seed + 1), dtype=torch.float64)
    b = -(x * w).sum((1, 2, 3)).mean()
    model = lambda v: torch.stack([0 * v[:, 0, 0, 0], (v * w).sum((1, 2, 3)) + b], 1)  # noqa: E731
    return x, w, b, model, model(x).argmax(1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_every_point_of_an_image_lies_in_ball_and_bounds(norm):
    x, _, _, _, y = image()
    ends = (torch.full((2, 6, 5), value, dtype=torch.float64) for value in (0.2, 0.0, 1.0))
    seen = []

    def watched(v):
        seen.append(v.clone())
        return torch.stack([1.0 + 0 * v[:, 0, 0, 0], 0 * v[:, 0, 0, 0]], 1)  # never fooled

    square(watched, x, 0 * y, Ball(Box(*ends), norm), queries=60, generator=seeded())
    assert len(seen) == 61
    for points in seen:
        assert points.min() >= 0
        assert points.max() <= 1
        moved = (points - x).flatten(1)
        assert (moved.abs().max() if norm == "linf" else moved.norm(dim=1).max()) <= 0.2 + 1e-9
    first = seen[0] - x
    if norm == "linf":  # vertical stripes, cut by the bounds only
        free = (x > 0.2) & (x < 0.8)
        sign = torch.where(free, first.sign(), 0.0)
        assert not ((sign.amax(2) > 0) & (sign.amin(2) < 0)).any()
        assert first[free].abs().sub(0.2).abs().max() < 1e-12
    else:
        assert first.flatten(1).norm(dim=1).min() > 0.1


def test_images_are_fooled_as_by_the_worst_point():
    x, w, b, model, y = image()
    ends = (torch.full((2, 6, 5), value, dtype=torch.float64) for value in (0.05, 0.0, 1.0))
    found = square(model, x, y, Ball(Box(*ends)), queries=1500, generator=seeded())
    down = torch.where(y[:, None, None, None] > 0, -w.sign(), w.sign())
    worst = ((x + 0.05 * down).clamp(0, 1) * w).sum((1, 2, 3)) + b
    survives = (worst > 0) == (y > 0)
    assert not (survives & ~found.standing).any()
    assert (found.standing & ~survives).sum() <= 2
    assert 0 < survives.sum() < len(x)


def test_windows_have_the_wanted_side_and_every_place_is_drawn():
    x = torch.rand(4000, 3, 6, 5, generator=seeded())
    ends = (torch.full((3, 6, 5), value) for value in (0.1, 0.0, 1.0))
    near = Ball(Box(*ends)).near(x)
    mask = _square._window(near, 0.3, 1, seeded()).mask[:, 0]
    assert (mask.sum((1, 2)) == 9).all()  # sqrt(0.3 * 30) = 3
    corners = mask.flatten(1).float().argmax(1)
    places, counts = corners.unique(return_counts=True)
    assert len(places) == 4 * 3
    assert (counts - 4000 / 12).abs().max() < 4 * (4000 / 12 * 11 / 12) ** 0.5


def test_pattern_and_schedule():
    found = pattern_of(7)
    assert found.norm().item() == pytest.approx(1)
    assert (found[:3] > 0).all()
    assert (found[3:] < 0).all()
    # The bump of height 3, width 7: rings of 1, 1/4, 1/9, 1/16 around its centre (1, 3).
    rings = (1 + 1 / 4 + 1 / 9 + 1 / 16, 1 / 4 + 1 / 9 + 1 / 16, 1 / 9 + 1 / 16, 1 / 16)
    torch.testing.assert_close(found[1, 3:] / found[1, 3], torch.tensor(rings) / rings[0])
    assert pattern_of(1).tolist() == [[-1.0]]
    stages = [share_at(query, 5000) for query in range(5000)]
    assert stages[0] == 0.8
    assert stages == sorted(stages, reverse=True)
    assert [share_at(query, 100) for query in range(100)] == stages[::50]


def test_asks_for_no_gradient_drops_fooled_rows_and_repeats():
    model = Linear(100)
    asked = []

    def watched(v):
        assert not torch.is_grad_enabled()
        asked.append(len(v))
        return model(v)

    runs = [square(watched, model.x, model.y, ball(0.1, 9), queries=200, generator=seeded(3)) for _ in range(2)]
    assert torch.equal(runs[0].standing, runs[1].standing)
    assert runs[0].model_rows == runs[1].model_rows == sum(asked) / 2 < 100 * 201
    none = square(model, model.x[:0], model.y[:0], ball(0.1, 9), queries=5, generator=seeded())
    assert none.model_rows == 0
    broken = square(lambda v: model(v) * torch.nan, model.x, model.y, ball(0.1, 9), queries=5, generator=seeded())
    assert broken.broken.all()
    assert broken.standing.all()
