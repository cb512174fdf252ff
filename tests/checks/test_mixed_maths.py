"""Mixed precision: what a search in bfloat16 claims counts only where full precision confirms it."""

import numpy as np
import pytest
import torch

from assessor.contract import Split, Task
from assessor.registry import load_checks
from assessor.subjects.torch_module import TorchSubject
from assessor_checks import _pgd
from assessor_checks._balls import Ball, Box
from assessor_checks._mixed import Claims, Mixed
from assessor_checks._pgd import Plan, campaign, mixed
from assessor_checks.robustness import _apgd

CLIMBS = pytest.mark.parametrize("climb", [_pgd.ascend, _apgd.climb], ids=["pgd", "apgd"])
REMARK = (
    "Gradients were followed in mixed precision (bfloat16); every row that counts as fooled was confirmed in full "
    "precision."
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def linear(n=300, m=7, near=0.0):
    """Two classes in float32: rows, right labels, the model, the largest eps each row survives; `near` the boundary."""
    x, w = torch.randn(n, m, generator=seeded()), torch.randn(m, generator=seeded(1))
    if near:
        sides = torch.where(torch.arange(n) % 2 == 0, near, -near)
        x = x - ((x @ w - sides) / (w @ w))[:, None] * w
    weight = torch.stack([0 * w, w])
    margin = x @ w
    return x, (margin > 0).long(), lambda v: torch.nn.functional.linear(v, weight), margin.abs() / w.abs().sum()


def ball(eps, like):
    wide = torch.full(like.shape[1:], 1.0)
    return Ball(Box(eps * wide, -torch.inf * wide, torch.inf * wide), "linf")


@CLIMBS
@pytest.mark.parametrize("eps", [0.05, 0.3])
def test_a_linear_model_is_solved_but_for_rounding(climb, eps):
    x, y, model, most = linear()
    found = campaign(model, x, y, ball(eps, x), Plan(mixed(climb), 20), seeded())
    assert not (~found.standing & (most > eps * 1.0001)).any()
    assert not (found.standing & (most < eps * 0.95)).any()
    assert not found.broken.any()


@CLIMBS
def test_no_row_falls_by_rounding(climb):
    x, y, model, most = linear(near=1e-3)
    assert (most > 1e-5).all()
    claimed = Mixed(model)(x).argmax(1) != y
    assert claimed.sum() > 30  # bfloat16 takes them for fooled before anything is moved
    assert campaign(model, x, y, ball(1e-6, x), Plan(mixed(climb), 10), seeded()).standing.all()


@CLIMBS
@pytest.mark.parametrize("seed", range(3))
def test_each_row_that_falls_was_seen_to_fall_in_full_precision(climb, seed):
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(5, 32), torch.nn.ReLU(), torch.nn.Linear(32, 3)).eval()
    x = torch.randn(120, 5)
    y = net(x).argmax(1)
    seen = []

    def watched(points):
        out = net(points)
        if not torch.is_autocast_enabled("cpu"):
            seen.append((points.detach(), out.detach().argmax(1)))
        return out

    found = campaign(watched, x, y, ball(0.3, x), Plan(mixed(climb), 12, 2), seeded())
    fallen = ~found.standing
    assert fallen.sum() > 10
    points, classes = (torch.cat(parts) for parts in zip(*seen, strict=True))
    for row in fallen.nonzero().squeeze(1):
        inside = (points - x[row]).abs().amax(dim=1) <= 0.3001
        assert (classes[inside] != y[row]).any(), row
    assert found.model_rows > 0
    plain = campaign(net, x, y, ball(0.3, x), Plan(climb, 12, 2), seeded())
    assert abs(int(plain.standing.sum() - found.standing.sum())) <= 3


def test_claims_that_are_not_confirmed_are_open_to_others():
    truth = lambda v: torch.stack([v[:, 0], -v[:, 0]], 1)  # noqa: E731 - class 0 where the number is positive
    claims = Claims(torch.ones(3, 1), truth)
    zeros, alive = torch.zeros(3, dtype=torch.long), torch.ones(3, dtype=torch.bool)
    claims.note(torch.tensor([True, True, False]), torch.tensor([[1.0], [-1.0], [-1.0]]), zeros)
    assert [part.tolist() if torch.is_tensor(part) else part for part in claims.confirmed(alive)] == [[1], 2]
    assert claims.confirmed(alive)[1] == 0
    claims.keep(torch.tensor([0, 2]))
    claims.note(torch.tensor([True, True]), torch.tensor([[-2.0], [torch.nan]]), zeros[:2])
    assert claims.confirmed(alive[:2])[0].tolist() == [0]  # what is not finite is wrong nowhere


def subject():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 4)).astype(np.float32)
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3)).eval()
    with torch.no_grad():
        y = net(torch.from_numpy(x)).argmax(1).numpy()
    return TorchSubject(net, Task.MULTICLASS, ("a", "b", "c"), {"test": Split("test", y, "0", features=x)})


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("robustness.pgd_accuracy", {"steps": 8}),
        ("robustness.pgd_accuracy", {"steps": 8, "method": "apgd"}),
        ("robustness.autoattack", {"steps": 8, "queries": 20}),
    ],
)
def test_checks_find_nearly_the_same(name, params):
    check, found = load_checks()[name], {}
    for precision in ("full", "mixed"):
        given = check.params(eps=0.2, precision=precision, **params)
        result = check.measure(subject(), given, 0)
        assert (REMARK in result.remarks) is (precision == "mixed")
        assert given.model_dump()["precision"] == precision
        found[precision] = result.metric("robust_accuracy").value
    assert found["mixed"] == pytest.approx(found["full"], abs=2 / 80)
    assert found["full"] < 0.9


@pytest.mark.slow
def test_frozen_inputs_are_searched_in_full_precision():
    check = load_checks()["robustness.pgd_accuracy"]
    given = [check.params(eps=0.2, steps=8, precision=precision) for precision in ("full", "mixed")]
    full, other = (check.weakness(subject(), params, 0) for params in given)
    assert np.array_equal(full.features, other.features)


def test_checks_that_search_in_mixed_precision_say_so():
    for name, check in load_checks().items():
        assert check.info.mixed is ("precision" in check.params.model_fields), name


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@CLIMBS
def test_on_a_gpu(climb):
    x, y, model, most = linear()
    there = [part.cuda() for part in (x, y)]
    weight = model(torch.eye(7)).T.cuda()
    generator = torch.Generator("cuda").manual_seed(0)
    near = Ball(Box(*(end.cuda() for end in ball(0.3, x).box)), "linf")
    found = campaign(lambda v: torch.nn.functional.linear(v, weight), *there, near, Plan(mixed(climb), 20), generator)
    assert not (~found.standing.cpu() & (most > 0.3001)).any()
    assert not (found.standing.cpu() & (most < 0.28)).any()
