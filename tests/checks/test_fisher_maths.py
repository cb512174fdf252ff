"""Linear Fisher information: against closed forms, for bias, and on networks whose layers are known."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assessor.contract import NotApplicable
from assessor_checks.generalization import _activations, _jackknife, _signal_designs
from assessor_checks.generalization import _fisher as fisher

THETA = np.linspace(-1, 1, 5)


def draw(seed):
    return torch.Generator().manual_seed(seed)


def model(d):
    """Direction a and covariance S of the toy x = theta a + noise, and its information a^T S^-1 a."""
    a = torch.randn(d, generator=draw(1), dtype=torch.float64)
    root = torch.randn(d, d, generator=draw(2), dtype=torch.float64)
    s = root @ root.T / d + 0.3 * torch.eye(d, dtype=torch.float64)
    return a, s, float(a @ torch.linalg.solve(s, a))


def sample(a, s, repeats, seed, theta=THETA):
    root = torch.linalg.cholesky(s)
    noise = torch.randn(len(theta), repeats, len(a), generator=draw(seed), dtype=torch.float64) @ root.T
    return [float(t) * a + rows for t, rows in zip(theta, noise, strict=True)]


def design(theta=THETA, repeats=40, seed=0, most=10_000):
    return _signal_designs.design_of(np.repeat(theta, repeats), most=most, seed=seed)


def exact(mean, s, repeats, seed):
    """Rows whose sample mean and covariance are exactly these."""
    x = torch.randn(repeats, len(mean), generator=draw(seed), dtype=torch.float64)
    x = x - x.mean(dim=0)
    root = torch.linalg.cholesky(x.T @ x / (repeats - 1))
    return mean + torch.linalg.solve_triangular(root, x.T, upper=False).T @ torch.linalg.cholesky(s).T


# --- the estimate ----------------------------------------------------------------------------------------------------


def test_equation_2_of_kanitscheider_by_hand():
    a, s, j = model(4)
    k, step, n = 12, 0.5, 4
    groups = [exact(t * a, s, k, seed) for seed, t in enumerate((0.0, step))]
    found = fisher.information(groups, (-1 / step, 1 / step))
    by_hand = j * (2 * k - n - 3) / (2 * k - 2) - 2 * n / (k * step**2)
    assert found.tolist() == pytest.approx([by_hand], rel=1e-9)


def test_has_no_bias_where_the_plain_estimate_is_too_high_by_half():
    a, s, j = model(12)
    found, plain = [], []
    stencil = _signal_designs.slope_over(THETA, (1, 2, 3))
    for seed in range(200):
        groups = [rows.float() for rows in sample(a, s, 15, seed)[1:4]]
        value = float(fisher.information(groups, stencil.weights)[0])
        dof, noise = 3 * 14, sum(c * c for c in stencil.weights) / 15
        found.append(value)
        plain.append((value + 12 * noise) * dof / (dof - 13))
    error = 4 * np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - j) < error < 0.2 * j
    assert np.mean(plain) > 1.5 * j


def test_unequal_repeats_and_steps_have_no_bias_either():
    a, s, j = model(3)
    theta = np.array([0.0, 0.4, 2.0])
    stencil = _signal_designs.slope_over(theta, range(3))
    found = []
    for seed in range(300):
        groups = sample(a, s, 40, seed, theta)
        groups = [groups[0][:10], groups[1], groups[2][:20]]
        found.append(float(fisher.information(groups, stencil.weights)[0]))
    assert abs(np.mean(found) - j) < 4 * np.std(found) / np.sqrt(len(found))


def test_leaving_a_fold_out_is_leaving_its_rows_out():
    a, s, _ = model(5)
    groups, weights = sample(a, s, 23, 0)[:3], _signal_designs.slope_over(THETA, range(3)).weights
    fold_of = fisher.folds_of(groups, 10)
    found = fisher.information(groups, weights, fold_of, 10)
    for fold in range(10):
        kept = [rows[own != fold] for rows, own in zip(groups, fold_of, strict=True)]
        assert float(fisher.information(kept, weights)[0]) == pytest.approx(float(found[1 + fold]), rel=1e-9)
    assert float(found[0]) == float(fisher.information(groups, weights)[0])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(-3, 3), st.booleans())
def test_no_invertible_affine_map_changes_it(seed, offset, copied):
    a, s, _ = model(4)
    groups, weights = sample(a, s, 20, 0)[:3], _signal_designs.slope_over(THETA, range(3)).weights
    change = torch.randn(4, 4, generator=draw(seed), dtype=torch.float64)
    change = change + 4 * torch.eye(4, dtype=torch.float64)
    after = [rows @ change + offset for rows in groups]
    if copied:  # numbers that repeat others or never change add nothing
        after = [torch.cat([rows, rows[:, :2] - rows[:, 2:], 0 * rows + 7], dim=1) for rows in after]
    before = float(fisher.information(groups, weights)[0])
    assert float(fisher.information(after, weights)[0]) == pytest.approx(before, rel=1e-6, abs=1e-8)


def test_nothing_that_varies_tells_nothing():
    groups = [torch.ones(10, 3) for _ in range(3)]
    assert fisher.information(groups, (-1, 0, 1)).tolist() == [0.0]
    assert fisher.whitened(groups)[0].shape == (10, 0)


def test_a_signal_without_noise_has_no_finite_information():
    noise = torch.randn(3, 10, 1, generator=draw(0))
    groups = [torch.cat([rows, torch.full((10, 1), float(t))], dim=1) for t, rows in enumerate(noise)]
    with pytest.raises(fisher.NoiseFreeSignal):
        fisher.information(groups, (-0.5, 0, 0.5))
    with pytest.raises(fisher.NoiseFreeSignal):
        fisher.whitened(groups)


def test_too_few_repeats_for_the_directions_are_an_error():
    a, s, _ = model(6)
    with pytest.raises(ValueError, match="6 degrees of freedom for 6 directions"):
        fisher.information(sample(a, s, 3, 0)[:3], (-1, 0, 1))


# --- linear layers ---------------------------------------------------------------------------------------------------


def test_linear_layers_against_their_closed_form():
    a, s, j = model(8)
    plan = _signal_designs.plan_of(design(repeats=2000))
    groups = sample(a, s, 2000, 0)
    square, flat = (torch.randn(8, m, generator=draw(3), dtype=torch.float64) for m in (8, 3))
    closed = float((a @ flat) @ torch.linalg.solve(flat.T @ s @ flat, a @ flat))
    whole, kept, less = (
        fisher.read_layer([rows @ b for rows in groups], plan, 64).values.mean(axis=0)
        for b in (torch.eye(8, dtype=torch.float64), square, flat)
    )
    assert kept == pytest.approx(whole, rel=1e-9)  # an invertible layer loses nothing, to the last digit
    for found, truth in ((whole, j), (less, closed)):
        estimate = _jackknife.jackknife(found)
        assert abs(estimate.value - truth) < 2 * (estimate.high - estimate.low)  # about 4 standard errors each way
        assert estimate.high - estimate.low < 0.2 * truth
    assert closed < j
    assert less[0] < whole[0]


def test_a_wide_linear_layer_has_the_rank_of_its_input():
    a, s, _ = model(6)
    plan, groups = _signal_designs.plan_of(design()), [rows.float() for rows in sample(a, s, 40, 0)]
    wide = torch.randn(6, 200, generator=draw(3))
    read, before = (
        fisher.read_layer([rows @ wide + 3 for rows in groups], plan, 256),
        fisher.read_layer(groups, plan, 256),
    )
    assert (read.rank, before.rank, read.bounded) == (6, 6, False)
    assert read.values == pytest.approx(before.values, rel=1e-3)  # single precision of the layer


def test_too_few_repeats_give_a_lower_bound():
    a, s, j = model(60)
    plan, found = _signal_designs.plan_of(design(repeats=12)), []
    for seed in range(10):
        read = fisher.read_layer([rows.float() for rows in sample(a, s, 12, seed)], plan, 64)
        assert read.bounded
        found.append(read.values[:, 0].mean())
    assert 0.1 * j < np.mean(found) < j
    narrow = fisher.read_layer(
        [rows.float() for rows in sample(a, s, 200, 0)], _signal_designs.plan_of(design(repeats=200)), 8
    )
    assert (narrow.rank, narrow.bounded) == (None, True)
    assert 0.8 * j < narrow.values[:, 0].mean() < 1.1 * j


def test_primal_and_dual_ridges_are_one():
    a, s, _ = model(9)
    groups, weights = sample(a, s, 4, 0)[:3], _signal_designs.slope_over(THETA, range(3)).weights
    dual = fisher.ridge_readings([rows[:3] for rows in groups], weights)  # nine rows for nine numbers: primal
    padded = [torch.cat([rows[:3], torch.zeros(3, 4, dtype=torch.float64)], dim=1) for rows in groups]  # now dual
    assert fisher.ridge_readings(padded, weights)[:9] == pytest.approx(dual, rel=1e-6)
    assert (fisher.ridge_readings(padded, weights)[9:] == 0).all()


@pytest.mark.slow
def test_a_learned_reading_finds_what_a_linear_one_misses():
    # x = theta e: the mean never changes; the full information of 3 numbers is 3 * 2 / theta^2.
    theta = np.linspace(1, 2, 5)
    noise = torch.randn(5, 300, 3, generator=draw(0))
    groups = [float(t) * rows for t, rows in zip(theta, noise, strict=True)]
    plan = _signal_designs.plan_of(design(theta, 300))
    linear = _jackknife.jackknife(fisher.read_layer(groups, plan, 64).values.mean(axis=0))
    found = fisher.read_learned(groups, plan, seed=0)
    learned = _jackknife.jackknife(found.mean(axis=0))
    truth = float((6 / theta[1:4] ** 2).mean())
    assert linear.low < 0 < linear.high < 0.3
    assert learned.low > 2 * linear.high
    assert learned.low < truth
    assert found.tobytes() == fisher.read_learned(groups, plan, seed=0).tobytes()


# --- intervals -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_jackknife_covers_and_the_ratio_too():
    a, s, j = model(8)
    reading = torch.randn(8, 1, generator=draw(5), dtype=torch.float64)
    closed = float((a @ reading).square() / (reading.T @ s @ reading))
    plan, covered = _signal_designs.plan_of(design()), []
    for seed in range(80):
        groups = sample(a, s, 40, seed)
        whole = fisher.read_layer(groups, plan, 64).values.mean(axis=0)
        part = fisher.read_layer([rows @ reading for rows in groups], plan, 64).values.mean(axis=0)
        one, share = _jackknife.jackknife(whole), _jackknife.ratio(part, whole)
        covered.append((one.low <= j <= one.high, share.low <= closed / j <= share.high))
    assert (np.mean(covered, axis=0) > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 80)).all()


def test_fieller_by_hand():
    # Folds 1, 2, 3 left out give these; variances 2/3 * sum of squares, t of 2 degrees of freedom.
    above, below = np.array([2.0, 1.9, 2.0, 2.1]), np.array([4.0, 4.1, 4.0, 3.9])
    t2, v, c = 4.302652729911275**2, 2 / 3 * 0.02, -2 / 3 * 0.02
    roots = np.roots([16 - t2 * v, -2 * (8 - t2 * c), 4 - t2 * v])
    found = _jackknife.ratio(above, below)
    assert (found.value, *found[1:]) == pytest.approx((0.5, *sorted(roots)), rel=1e-9)
    assert _jackknife.ratio(above, np.array([0.1, 1.0, 0.0, -1.0])) is None
    assert _jackknife.ratio(above, -below) is None
    assert _jackknife.ratio(below, below) == pytest.approx((1, 1, 1))


def test_the_mean_of_the_rows_reaches_the_bound():
    # Ten readings of theta with unit noise: J = 10, their mean has error 1 / 10.
    groups = sample(torch.ones(10, dtype=torch.float64), torch.eye(10, dtype=torch.float64), 400, 0)
    plan = _signal_designs.plan_of(design(repeats=400))
    values = fisher.read_layer(groups, plan, 64).values
    fold = np.concatenate([own.numpy() for own in fisher.folds_of(groups, plan.folds)])
    theta = np.repeat(THETA, 400)
    estimate = torch.cat(groups).mean(dim=1).numpy()
    centres = [stencil.at for stencil in plan.local]

    def ratio(guess):
        return _jackknife.jackknife(fisher.error_ratio(guess - theta, theta, fold, centres, values))

    reached, worse = ratio(estimate), ratio(np.concatenate([rows[:, 0].numpy() for rows in groups]))
    assert reached.low < 1 < reached.high
    assert reached.high - reached.low < 0.2
    assert worse.low < 10 < worse.high
    exactly = fisher.error_ratio(np.full(4, 0.1), np.zeros(4), np.arange(4) % 2, [0.0], np.full((1, 3), 100.0))
    assert exactly.tolist() == pytest.approx([1, 1, 1])


def test_a_shrunken_estimate_passes_the_bound_but_not_the_one_for_its_bias():
    groups = sample(torch.ones(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64), 400, 0)
    found, plan = design(repeats=400), _signal_designs.plan_of(design(repeats=400))
    values = fisher.read_layer(groups, plan, 64).values
    fold = np.concatenate([own.numpy() for own in fisher.folds_of(groups, plan.folds)])
    theta, centres = np.repeat(THETA, 400), [stencil.at for stencil in plan.local]
    outputs = [0.5 * rows.mean(dim=1, keepdim=True) for rows in groups]
    errors = torch.cat(outputs)[:, 0].numpy() - theta
    inner = np.abs(theta) <= 0.5
    plain = _jackknife.jackknife(fisher.error_ratio(errors[inner], theta[inner], fold[inner], centres, values))
    biased = fisher.biased_error_ratio(errors[inner], theta[inner], fold[inner], outputs, found, plan, values)
    assert plain.high < 1
    assert biased.low < 1 < biased.high
    assert biased.high - biased.low < 0.4
    learned_by_heart = fisher.biased_error_ratio(0 * errors, theta, fold, outputs, found, plan, values)
    assert learned_by_heart.high < 1
    still = [0 * rows for rows in outputs]
    assert fisher.biased_error_ratio(errors, theta, fold, still, found, plan, values) is None


# --- values and slopes -----------------------------------------------------------------------------------------------


def test_rows_by_value():
    theta = np.array([0.0] * 12 + [1.0] * 10 + [2.0] * 30 + [3.0] * 9)
    found = _signal_designs.design_of(theta, most=20, seed=0)
    assert found.theta.tolist() == [0, 1, 2]
    assert [len(rows) for rows in found.rows] == [12, 10, 20]
    assert all((theta[rows] == t).all() for t, rows in zip(found.theta, found.rows, strict=True))
    assert (found.dropped_values, found.dropped_rows, found.repeats) == (1, 19, (10, 20))
    assert _signal_designs.plan_of(found).folds == 10
    assert _signal_designs.plan_of(design(repeats=500)).folds == _signal_designs.FOLDS


@pytest.mark.parametrize(
    ("theta", "told"),
    [
        (np.arange(50.0), r"has 0 values .*found 50 values in 50 rows, at most 1 repeats of one.*the same few values"),
        (np.repeat([0.0, 1.0], 30), r"has 2 values of the parameter with at least 10 repeats, wanted 3 or more"),
        (np.empty(0), r"has 0 values .*found 0 values in 0 rows, at most 0 repeats of one"),
    ],
)
def test_too_little_to_follow(theta, told):
    with pytest.raises(NotApplicable, match=told):
        _signal_designs.design_of(theta, most=100, seed=0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=3, max_size=9, unique=True), st.floats(-2, 2), st.floats(-2, 2))
def test_slopes_are_exact_for_quadratics_at_their_place(values, b, c):
    theta = np.sort(np.array(values))
    if np.diff(theta).min() < 1e-3:
        return
    stencil = _signal_designs.slope_over(theta, range(len(theta)))
    found = float(np.array(stencil.weights) @ (b * theta + c * theta**2))
    assert found == pytest.approx(b + 2 * c * stencil.at, rel=1e-6, abs=1e-6)


def test_windows():
    plan = _signal_designs.plan_of(design(np.arange(17.0)))
    assert [stencil.at for stencil in plan.local] == pytest.approx(np.arange(2.0, 15.0))
    assert plan.local[0].groups == (0, 1, 2, 3, 4)
    assert [stencil.at for stencil in _signal_designs.plan_of(design(), 2).local] == [0]
    with pytest.raises(NotApplicable, match="reach 3 wants 7 values of the parameter or more, found 5"):
        _signal_designs.plan_of(design(), 3)


# --- what layers give ------------------------------------------------------------------------------------------------


class Several(torch.nn.Module):
    """One activation used twice, one in place, a dropout, and an output that no module makes."""

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(3, 6), torch.nn.Linear(6, 2)
        self.relu, self.drop = torch.nn.ReLU(inplace=True), torch.nn.Dropout()

    def forward(self, x):
        return 2 * self.second(self.relu(self.drop(self.first(self.relu(x.clone())))))


def test_layers_as_they_run():
    net = Several().eval()
    x = torch.randn(60, 3, generator=draw(0))
    found = _signal_designs.design_of(np.repeat([0.0, 1.0, 2.0], 20), most=100, seed=0)
    layers, left_out = _activations.record(net, x, found)
    assert [(layer.name, layer.kind, layer.width) for layer in layers] == [
        ("input", "", 3),
        ("relu", "ReLU", 3),
        ("first", "Linear", 6),
        ("relu#2", "ReLU", 6),
        ("second", "Linear", 2),
        ("output", "", 2),
    ]
    assert left_out == ()
    rows = x[found.rows[1]]
    by_name = {layer.name: layer.groups[1] for layer in layers}
    with torch.no_grad():
        first = net.first(rows.relu())
        assert torch.equal(by_name["first"], first)  # not what the activation in place made of it
        assert torch.equal(by_name["relu#2"], first.relu())
        assert torch.equal(by_name["output"], net(rows))
    assert not any(module._forward_hooks for module in net.modules())


def test_the_last_module_is_the_output_where_it_makes_it():
    layers, _ = _activations.record(torch.nn.Linear(3, 2), torch.randn(30, 3), design(np.arange(3.0), 10))
    assert [layer.name for layer in layers] == ["input", "model"]


def test_the_widest_layers_are_left_out_where_memory_is_short():
    net = torch.nn.Sequential(torch.nn.Linear(3, 50), torch.nn.ReLU(), torch.nn.Linear(50, 4), torch.nn.Linear(4, 90))
    layers, left_out = _activations.record(net, torch.randn(30, 3), design(np.arange(3.0), 10), memory=30 * 54 * 4)
    assert [layer.name for layer in layers] == ["input", "0", "2", "3"]
    assert left_out == ("1",)


def test_hooks_go_even_where_the_model_fails():
    class Fails(torch.nn.Sequential):
        def forward(self, x):
            super().forward(x)
            raise RuntimeError("no")

    net = Fails(torch.nn.Linear(3, 3))
    with pytest.raises(RuntimeError, match="no"):
        _activations.record(net, torch.randn(30, 3), design(np.arange(3.0), 10))
    assert not net[0]._forward_hooks
    with pytest.raises(NotApplicable, match="not one row for each row"):
        _activations.record(torch.nn.Flatten(0), torch.randn(30, 3), design(np.arange(3.0), 10))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_layers_of_a_cuda_model_lie_on_the_cpu():
    net, x = Several().eval(), torch.randn(60, 3, generator=draw(0))
    found = _signal_designs.design_of(np.repeat([0.0, 1.0, 2.0], 20), most=100, seed=0)
    here, there = _activations.record(net, x, found)[0], _activations.record(net.cuda(), x.cuda(), found)[0]
    for one, other in zip(here, there, strict=True):
        assert torch.allclose(torch.cat(one.groups), torch.cat(other.groups), atol=1e-5)
