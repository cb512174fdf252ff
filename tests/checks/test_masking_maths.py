"""Signs of masked gradients, each on a model that shows it and on its clean twin."""

import pytest
import torch

from assessor.contract import NotApplicable
from assessor_checks import _pgd
from assessor_checks._balls import Ball, Box
from assessor_checks._pgd import Plan, campaign
from assessor_checks.robustness import _apgd, _masking
from assessor_checks.robustness._masking import Signs

CLEAN = Signs(rows=100, standing=60, unsteady=0, broken=0, flat=0, still=0, blind=0, lost=0, lost_of=100, unfooled=0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def ball(eps, m=6, norm="linf"):
    ends = (torch.full((m,), float(value)) for value in (eps, -torch.inf, torch.inf))
    return Ball(Box(*ends), norm)


def linear(n=200, m=6):
    x, w = torch.randn(n, m, generator=seeded()), torch.randn(m, generator=seeded(1))
    model = lambda v: torch.stack([0 * v[:, 0], v @ w], 1)  # noqa: E731
    return x, model, model(x).argmax(1)


def test_unsteady_rows_and_batch_dependence():
    x, model, _ = linear()
    assert not _masking.unsteady(model, x).any()
    generator = seeded()
    noisy = lambda v: model(v) + 0.01 * torch.randn(len(v), 2, generator=generator)  # noqa: E731
    assert _masking.unsteady(noisy, x).float().mean() > 0.9
    rounding = lambda v: model(v) * (1 + 1e-6 * torch.rand(len(v), 1, generator=generator))  # noqa: E731
    assert not _masking.unsteady(rounding, x).any()
    follows = lambda v: model(v) + v[:1, :1]  # noqa: E731 - adds the first row of the batch
    assert _masking.unsteady(follows, x).all()
    nan = lambda v: torch.where(v[:, :1] > 1, torch.nan, model(v))  # noqa: E731
    assert not _masking.unsteady(nan, x).any()


def test_still_rows():
    x, model, _ = linear()
    assert not _masking.still(model, x, ball(0.1), seeded()).any()
    saturated = lambda v: model(v).clamp(-0.5, 0.5)  # noqa: E731
    found = _masking.still(saturated, x, ball(0.01), seeded())
    assert 0.3 < found.float().mean() < 1
    assert torch.equal(found & (saturated(x)[:, 1].abs() < 0.4), torch.zeros_like(found))
    assert len(_masking.still(model, x[:0], ball(0.1), seeded())) == 0


@pytest.mark.parametrize("climb", [_pgd.ascend, _apgd.climb])
def test_lost_by_steps(climb):
    # A ripple whose slope leads back uphill: long strides jump its crests, short ones are caught by the first.
    x, model, y = linear()
    assert _masking.lost_by_steps(model, x, y, ball(0.2), Plan(climb, 40)) <= 0
    z = lambda v: model(v)[:, 1]  # noqa: E731
    ripple = lambda v: torch.stack([0 * z(v), z(v) + 0.06 * torch.sin(60 * z(v))], 1)  # noqa: E731
    right = ripple(x).argmax(1) == y
    lost = _masking.lost_by_steps(ripple, x[right], y[right], ball(0.2), Plan(_pgd.ascend, 40))
    assert lost > 0.05 * right.sum()


def test_lost_is_counted_on_balance():
    x, model, y = linear()
    plans = [Plan(_pgd.ascend, steps) for steps in (10, 40)]
    short, long = (campaign(model, x, y, ball(0.2), plan, seeded()).standing for plan in plans)
    wanted = int((long & ~short).sum() - (short & ~long).sum())
    assert _masking.lost_by_steps(model, x, y, ball(0.2), plans[1]) == wanted


def test_clean_signs_raise_no_doubt_and_each_sign_does():
    assert _masking.doubt(CLEAN) is None
    assert _masking.doubt(Signs(0, 0, 0, 0, 0, 0)) is None
    said = {
        "unsteady": (1, "answers the same input differently from pass to pass (1 rows)"),
        "broken": (1, "NaN or infinite outputs or gradients on the way for 1 rows"),
        "flat": (6, "the gradient is exactly 0 for 6 of 100 rows, which stand"),
        "still": (6, "the outputs do not change at all within the distance for 6 of 100 rows"),
        "blind": (5, "a search without gradients fooled 5 rows that the gradient attack had left standing"),
        "lost": (6, "with more steps the attack fooled 6 rows fewer"),
        "unfooled": (11, "even with the whole range of the data allowed, 11 of 100 rows stand"),
    }
    for name, (count, words) in said.items():
        doubt = _masking.doubt(CLEAN._replace(**{name: count}))
        assert words in doubt
        assert doubt.startswith("The gradients may be masked or the attack too weak: ")
        table = _masking.table(CLEAN._replace(**{name: count}))
        assert sum(row[1] or 0 for row in table.rows) == count
    below = CLEAN._replace(flat=5, still=5, blind=2, lost=5, unfooled=10)
    assert _masking.doubt(below) is None
    assert _masking.doubt(Signs(rows=10, standing=5, unsteady=0, broken=0, flat=0, still=0, lost=2, lost_of=10)) is None


def test_batch_statistics_are_refused():
    _masking.refuse_batch_statistics(torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Dropout()).eval())
    with pytest.raises(NotApplicable, match="layer '0' is in train mode"):
        _masking.refuse_batch_statistics(torch.nn.Sequential(torch.nn.BatchNorm1d(2)).train())
    with pytest.raises(NotApplicable, match="layer '0' normalises by the batch"):
        _masking.refuse_batch_statistics(torch.nn.Sequential(torch.nn.BatchNorm1d(2, track_running_stats=False)).eval())
