"""Reference models: design, label noise, training, and the statistics that read a family off."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from assessor.contract import Task
from assessor_checks import _flatness as flatness
from assessor_checks._intervals import Estimate
from assessor_checks._layers import last_linear
from assessor_checks.generalization import _gap_prediction
from assessor_checks.generalization import _reference_models as reference
from assessor_checks.generalization._gap_prediction import Family
from assessor_checks.generalization._reference_models import Recipe, Schedule

RECIPE = Recipe(seed=3, batch_size=8, learning_rate=0.02, label_noise=0.0)
SCHEDULE = Schedule("adamw", 0.0, 200, 0.05)


# --- design and labels -----------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    models=st.integers(1, 40),
    rates=st.lists(st.floats(0.001, 1), min_size=1, max_size=4, unique=True),
    sizes=st.lists(st.integers(1, 99), min_size=1, max_size=4, unique=True),
    noise=st.lists(st.floats(0, 0.5), min_size=1, max_size=4, unique=True),
    seed=st.integers(0, 2**53 - 1),
)
def test_design_is_balanced(models, rates, sizes, noise, seed):
    settings_of = {"learning_rates": tuple(rates), "batch_sizes": tuple(sizes), "label_noise": tuple(noise)}
    found = reference.design(models, **settings_of, seed=seed)
    assert found == reference.design(models, **settings_of, seed=seed)
    assert len({recipe.seed for recipe in found}) == models
    for name, values in (("learning_rate", rates), ("batch_size", sizes), ("label_noise", noise)):
        counts = [sum(getattr(recipe, name) == value for recipe in found) for value in values]
        assert sum(counts) == models
        assert max(counts) - min(counts) <= 1


def test_design_depends_on_its_seed():
    levels = {"learning_rates": (1.0, 2.0), "batch_sizes": (1, 2), "label_noise": (0.0, 0.1)}
    assert reference.design(9, **levels, seed=0) != reference.design(9, **levels, seed=1)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(0, 60), classes=st.integers(2, 5), share=st.floats(0, 0.99), seed=st.integers(0, 2**31))
def test_label_noise_changes_that_share_to_other_classes(n, classes, share, seed):
    labels = torch.arange(n) % classes
    noisy = reference.noisy_labels(labels, share, classes, seed)
    assert int((noisy != labels).sum()) == round(share * n)
    assert noisy.dtype == labels.dtype
    assert bool(((noisy >= 0) & (noisy < classes)).all())
    assert torch.equal(noisy, reference.noisy_labels(labels, share, classes, seed))


def test_wrong_classes_are_drawn_evenly():
    labels = torch.zeros(3000, dtype=torch.long)
    counts = torch.bincount(reference.noisy_labels(labels, 0.9, 4, seed=1), minlength=4)
    assert counts[0] == 300
    assert stats.chisquare(counts[1:].numpy()).pvalue > 1e-4


def test_noise_of_a_regression_exchanges_targets():
    labels = torch.arange(20.0)
    noisy = reference.noisy_labels(labels, 0.5, 0, seed=1)
    assert int((noisy != labels).sum()) == 10
    assert torch.equal(noisy.sort().values, labels)


# --- training --------------------------------------------------------------------------------------------------------


def points(n=24, seed=0):
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))
    y = torch.arange(n) % 3
    x[torch.arange(n), y] += 2
    return x, y


def net(outputs=3, *more):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), *more, nn.ReLU(), nn.Linear(16, outputs))


def test_training_stops_at_the_first_pass_that_reaches_the_target_in_eval_mode():
    data, found = points(), {}
    for most in (200, "one fewer"):
        module = net(3, nn.BatchNorm1d(16), nn.Dropout(0.2))
        schedule = SCHEDULE._replace(max_epochs=most if most == 200 else found[200] - 1)
        torch.manual_seed(5)  # of the dropout
        found[most] = reference.train(Task.MULTICLASS, module, data, RECIPE, schedule)
        assert not module.training
        loss = nn.functional.cross_entropy(module(data[0]), data[1]).item()
        assert (loss <= SCHEDULE.loss_target) is (most == 200)
    assert 1 < found[200] < 200
    assert found["one fewer"] is None


def test_training_is_the_same_for_the_same_seeds_and_differs_for_others():
    runs = []
    for recipe in (RECIPE, RECIPE, RECIPE._replace(seed=4)):
        module = net()
        reference.train(Task.MULTICLASS, module, points(), recipe, SCHEDULE)
        runs.append(module[0].weight)
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_both_optimisers_and_weight_decay(optimiser):
    sizes = []
    for decay in (0.0, 0.3):
        module, schedule = net(), Schedule(optimiser, decay, 30, 1e-9)
        assert reference.train(Task.MULTICLASS, module, points(), RECIPE, schedule) is None
        sizes.append(module[0].weight.norm().item())
    assert sizes[1] < 0.8 * sizes[0]


def test_a_last_batch_of_one_row_is_left_out():
    module = net(3, nn.BatchNorm1d(16))
    assert reference.train(Task.MULTICLASS, module, points(25), RECIPE, SCHEDULE) is not None


def test_divergence_is_no_success():
    recipe = RECIPE._replace(learning_rate=1e30)
    assert reference.train(Task.MULTICLASS, net(), points(), recipe, SCHEDULE._replace(optimiser="sgd")) is None


@pytest.mark.parametrize(
    ("task", "outputs", "labels", "kind"),
    [
        (Task.MULTICLASS, 3, torch.arange(24) % 3, flatness.Loss.SOFTMAX),
        (Task.BINARY, 1, torch.arange(24) % 2, flatness.Loss.SIGMOID),
        (Task.REGRESSION, 1, (torch.arange(24) % 3).float(), flatness.Loss.SQUARED),
    ],
)
def test_one_fit_holds_what_the_trained_module_does(task, outputs, labels, kind):
    module, test = net(outputs), points(30, seed=1)[0]
    there = labels.repeat(2)[:30]
    found = reference.fitted(task, module, (points()[0], labels), (test, there), RECIPE, SCHEDULE)
    layer = last_linear(module, points()[0])
    way = flatness.normalise_neurons(layer.features, layer.weight)
    kappa = flatness.per_sample_trace(kind, *way, layer.logits).mean().item()
    assert found["kappa"] == pytest.approx(kappa, rel=1e-6)  # normalised features were rounded to float32
    z = module(test).detach().double()
    if task is Task.REGRESSION:
        wanted = ((z[:, 0] - there) ** 2).mean().item() / 2
        assert found["test_error"] is None
    elif task is Task.BINARY:
        wanted = nn.functional.binary_cross_entropy_with_logits(z[:, 0], there.double()).item()
        assert found["test_error"] == pytest.approx(((z[:, 0] > 0) != there).double().mean().item())
    else:
        wanted = nn.functional.cross_entropy(z, there).item()
        assert found["test_error"] == pytest.approx((z.argmax(1) != there).double().mean().item())
    assert found["test_loss"] == pytest.approx(wanted, rel=1e-9)
    assert found["train_loss"] <= 0.05
    unreached = reference.fitted(
        task, net(outputs), (points()[0], labels), (test, there), RECIPE, SCHEDULE._replace(max_epochs=1)
    )
    assert unreached == dict.fromkeys(found)


def test_state_digest_tells_weights_and_architecture_apart():
    first, same, other = net(), net(), net()
    with torch.no_grad():
        other[0].bias[0] += 1
    assert reference.state_digest(first) == reference.state_digest(same) != reference.state_digest(other)
    assert reference.state_digest(nn.Sequential(*first, nn.Identity())) != reference.state_digest(first)


# --- the line --------------------------------------------------------------------------------------------------------


def test_line_and_prediction_interval_equal_scipy_and_the_textbook():
    rng = np.random.default_rng(0)
    x = rng.normal(size=12)
    y = 2 * x + rng.normal(size=12)
    line, slow = _gap_prediction.fit_line(x, y), stats.linregress(x, y)
    at = line.at(0.7)
    assert at.value == pytest.approx(slow.intercept + 0.7 * slow.slope, rel=1e-12)
    residual = y - slow.intercept - slow.slope * x
    sigma = math.sqrt((residual**2).sum() / 10)
    width = stats.t.ppf(0.975, 10) * sigma * math.sqrt(1 + 1 / 12 + (0.7 - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum())
    assert at.high - at.value == pytest.approx(width, rel=1e-12)
    assert at.value - at.low == pytest.approx(width, rel=1e-12)


def test_prediction_interval_covers_a_new_point():
    """Nominal 95 %; 2000 families of ten models give a standard error of 0.5 %."""
    rng, inside = np.random.default_rng(1), 0
    for _ in range(2000):
        x = rng.normal(size=11)
        y = 0.5 * x + rng.normal(size=11)
        found = _gap_prediction.fit_line(x[:10], y[:10]).at(x[10])
        inside += found.low <= y[10] <= found.high
    assert abs(inside / 2000 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 2000)


def test_leaving_out_equals_the_hat_matrix():
    """A left-out residual is r / (1 - h); it lies inside if it is below the half width of the others' interval."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=15), rng.standard_cauchy(size=15)
    design = np.column_stack([np.ones(15), x])
    hat = np.diag(design @ np.linalg.pinv(design))
    residual = y - design @ np.linalg.pinv(design) @ y
    sse = (residual**2).sum() - residual**2 / (1 - hat)
    student = residual / np.sqrt(sse / 12 * (1 - hat))  # externally studentised, 12 degrees of freedom
    assert _gap_prediction.left_out_inside(x, y) == int((np.abs(student) <= stats.t.ppf(0.975, 12)).sum())


def test_a_line_needs_two_values():
    with pytest.raises(ValueError, match="two values of x"):
        _gap_prediction.fit_line(np.ones(5), np.arange(5.0))
    with pytest.raises(ValueError, match="three points"):
        _gap_prediction.fit_line(np.arange(2.0), np.arange(2.0))


# --- rank correlation ------------------------------------------------------------------------------------------------


def test_kendall_equals_scipy():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=20), rng.normal(size=20)
    found, slow = _gap_prediction.kendall(x, x + y, 0), stats.kendalltau(x, x + y)
    assert found.tau == pytest.approx(slow.statistic, abs=1e-12)
    assert found.pairs == 190
    assert found.p == pytest.approx(slow.pvalue, abs=4 * math.sqrt(slow.pvalue / _gap_prediction.PERMUTATIONS))
    null = stats.kendalltau(x, y)
    ours = _gap_prediction.kendall(x, y, 0).p
    assert ours == pytest.approx(null.pvalue, abs=4 * 0.5 / math.sqrt(_gap_prediction.PERMUTATIONS))


def test_kendall_within_groups_by_hand():
    # Simpson: rising over both groups together, falling inside each. Pairs inside: 3 + 3, all but one discordant.
    x = np.array([1.0, 2.0, 3.0, 11.0, 12.0, 13.0])
    y = np.array([3.0, 2.0, 1.0, 12.0, 13.0, 11.0])
    groups = np.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0])
    assert _gap_prediction.kendall(x, y, 0).tau == pytest.approx((9 + 1 - 5) / 15)
    found = _gap_prediction.kendall(x, y, 0, groups=groups)
    assert (found.tau, found.pairs) == (pytest.approx((1 - 5) / 6), 6)
    # 36 equally likely orders; |C - D| of a group of three is 3, 1, 1, 1, 1, 3 with signs: at least 4 for 10 of 36.
    assert found.p == pytest.approx(10 / 36, abs=0.03)


def test_kendall_without_pairs():
    assert _gap_prediction.kendall(np.arange(3.0), np.arange(3.0), 0, groups=np.arange(3.0)) == (0.0, 1.0, 0)


def test_kendall_interval_covers():
    """Bivariate normal with correlation 0.6: tau = 2 / pi asin 0.6. Nominal 95 %, n = 24, 600 draws."""
    rng, wanted, inside = np.random.default_rng(4), 2 / math.pi * math.asin(0.6), 0
    for _ in range(600):
        x = rng.normal(size=24)
        y = 0.6 * x + 0.8 * rng.normal(size=24)
        found = _gap_prediction.tau_interval(float(stats.kendalltau(x, y).statistic), 24)
        inside += found.low <= wanted <= found.high
    assert abs(inside / 600 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 600)


def test_a_perfect_order_has_an_interval_too():
    found = _gap_prediction.tau_interval(1.0, 10)
    assert found.value == found.high == 1.0
    assert 0.5 < found.low < 1.0
    assert _gap_prediction.tau_interval(-1.0, 10).low == -1.0


# --- all together ----------------------------------------------------------------------------------------------------


def planted(slope, models=20, noise_step=0.0, seed=0):
    """A family whose gap rises with log kappa by `slope` and with the label noise, which then moves both."""
    rng = np.random.default_rng(seed)
    level = np.arange(models) % 2
    x = rng.normal(size=models) * 0.3 + (2 * level if noise_step else 0)
    gap = slope * x + noise_step * level + 0.05 * rng.normal(size=models)
    return Family(np.exp(x), gap, 0.1 * level)


def test_a_planted_relation_is_read_off_and_its_shuffled_twin_is_not():
    found = _gap_prediction.read_off(planted(1.0), math.exp(0.2), 0)
    assert found.predicted.low < 0.2 < found.predicted.high
    assert found.predicted.value == pytest.approx(0.2, abs=0.05)
    assert found.tau.low > 0.5
    assert found.same.p < 0.01
    family = planted(1.0)
    shuffled = _gap_prediction.read_off(family._replace(gap=np.roll(family.gap, 7)), math.exp(0.2), 0)
    assert shuffled.tau.low < 0 < shuffled.tau.high


def test_a_relation_that_label_noise_alone_makes():
    found = _gap_prediction.read_off(planted(0.0, noise_step=1.0), 1.0, 0)
    assert found.tau.low > 0
    assert found.same.p > 0.05
    assert _gap_prediction.read_off(planted(1.0)._replace(noise=np.zeros(20)), 1.0, 0).same is None


def test_difference_by_hand():
    found = _gap_prediction.difference(Estimate(3.0, 2.0, 5.0), Estimate(1.0, 0.0, 5.0))
    assert found == Estimate(2.0, 2 - math.hypot(1, 4), 2 + math.hypot(2, 1))
