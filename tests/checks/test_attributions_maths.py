"""Attributions against known answers (linear models) and against captum."""

import importlib.util
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assessor.contract import NotApplicable, Split, Task
from assessor.subjects.torch_module import TorchSubject
from assessor_checks import _explained
from assessor_checks._attribution_method import BY_CAPTUM, AttributionParams
from assessor_checks._gradient_attributions import Net
from assessor_checks.transparency import _attributions as attributions
from assessor_checks.transparency import _captum
from assessor_checks.transparency import _coalitions as coalitions

CLASSES = ("a", "b", "c")


def split(name, x, y):
    return Split(name=name, labels=np.asarray(y), sha256=name, features=np.asarray(x))


def network(inputs=6, outputs=3, seed=0):
    torch.manual_seed(seed)
    layers = [torch.nn.Linear(inputs, 8), torch.nn.ReLU(), torch.nn.Linear(8, outputs)]
    return torch.nn.Sequential(*layers).double()


def data(n=12, inputs=6, seed=1):
    return np.random.default_rng(seed).standard_normal((n, inputs))


def subject(net, x, task=Task.MULTICLASS, classes=CLASSES):
    labels = np.zeros(len(x), dtype=np.int64) if classes else np.zeros(len(x))
    splits = {name: split(name, x, labels) for name in ("train", "test")}
    return TorchSubject(net, task, classes, splits)


def found(method, net=None, x=None, **params):
    net, x = network() if net is None else net, data() if x is None else x
    wanted = AttributionParams(method=method, **params)
    of = subject(net, x)
    rows = attributions.rows_of(of, wanted, 0)
    parts = attributions.parts_of(rows.x.shape[1:], wanted.patch)
    model = attributions.model_of(of, wanted.explained)
    return attributions.attribute(model, rows, parts, method, wanted, 0), rows, parts, model


def linear(weights):
    """A regression with known attributions: w (x - b)."""
    net = torch.nn.Linear(len(weights), 1).double()
    with torch.no_grad():
        net.weight.copy_(torch.tensor([weights]))
        net.bias.fill_(3.0)
    return net


WEIGHTS = [2.0, -1.0, 0.0, 0.5, 4.0, -3.0]


@pytest.mark.parametrize(
    "method", ["gradient_x_input", "integrated_gradients", "occlusion", "shapley_sampling", "deep_lift"]
)
def test_of_a_linear_model_are_known(method):
    if method in BY_CAPTUM:
        pytest.importorskip("captum")
    x = data()
    of = subject(linear(WEIGHTS), x, Task.REGRESSION, ())
    params = AttributionParams(method=method, steps=3, samples=4)
    rows = attributions.rows_of(of, params, 0)
    model, parts = attributions.model_of(of, "probability"), attributions.parts_of((6,), 1)
    scores, change = attributions.attribute(model, rows, parts, method, params, 0)
    assert scores == pytest.approx(np.array(WEIGHTS) * (x - x.mean(axis=0)), abs=1e-12)
    assert change is scores or (change == scores).all()


@pytest.mark.parametrize("method", ["gradient", "smoothgrad"])
def test_slopes_of_a_linear_model_are_its_weights(method):
    x = data()
    of = subject(linear(WEIGHTS), x, Task.REGRESSION, ())
    params = AttributionParams(method=method, samples=2)
    rows = attributions.rows_of(of, params, 0)
    parts = attributions.parts_of((6,), 1)
    scores, change = attributions.attribute(attributions.model_of(of, "probability"), rows, parts, method, params, 0)
    assert scores == pytest.approx(np.tile(np.abs(WEIGHTS), (12, 1)))
    assert change == pytest.approx(np.array(WEIGHTS) * (x - x.mean(axis=0)))


def test_lime_ranks_a_linear_model_rightly():
    pytest.importorskip("captum")
    x = data(n=3)
    of = subject(linear(WEIGHTS), x, Task.REGRESSION, ())
    params = AttributionParams(method="lime", samples=200)
    rows = attributions.rows_of(of, params, 0)
    before = torch.random.get_rng_state()
    scores, _ = attributions.attribute(
        attributions.model_of(of, "probability"), rows, attributions.parts_of((6,), 1), "lime", params, 0
    )
    assert (torch.random.get_rng_state() == before).all()
    wanted = np.array(WEIGHTS) * (x - x.mean(axis=0))
    assert np.corrcoef(scores.ravel(), wanted.ravel())[0, 1] > 0.99  # ridge shrinks the size, not the order


@pytest.mark.parametrize("explained", ["probability", "log_odds", "logit"])
def test_integrated_gradients_equal_captum_and_are_complete(explained):
    methods = pytest.importorskip("captum.attr")
    (scores, _), rows, _, model = found("integrated_gradients", explained=explained, steps=20)
    x, base = torch.from_numpy(rows.x), torch.from_numpy(rows.baselines[0].copy())
    theirs = methods.IntegratedGradients(model.net.number).attribute(
        x, baselines=base, additional_forward_args=(torch.from_numpy(rows.classes),), n_steps=20, method="gausslegendre"
    )
    assert scores == pytest.approx(theirs.numpy(), abs=1e-7)  # captum's positions on the path are float32
    fine, *_ = found("integrated_gradients", explained=explained, steps=300)
    difference = model.values(rows.x, rows.classes) - model.values(rows.baselines[0], rows.classes)
    assert fine.scores.sum(axis=1) == pytest.approx(difference, abs=5e-3)  # kinks of the ReLU: error of order 1/steps


def test_gradient_occlusion_and_deep_lift_equal_captum():
    methods = pytest.importorskip("captum.attr")
    (scores, _), rows, _, model = found("gradient", explained="logit")
    x, classes = torch.from_numpy(rows.x).requires_grad_(True), torch.from_numpy(rows.classes)
    theirs = methods.Saliency(model.net.number).attribute(x, additional_forward_args=(classes,))
    assert scores == pytest.approx(theirs.numpy(), rel=1e-12)
    (scores, _), rows, _, model = found("occlusion")
    theirs = methods.FeatureAblation(model.net.number).attribute(
        x, baselines=torch.from_numpy(rows.baselines[0].copy()), additional_forward_args=(classes,)
    )
    assert scores == pytest.approx(theirs.detach().numpy(), abs=1e-12)
    (scores, _), *_ = found("deep_lift", explained="logit")
    difference = found("deep_lift", explained="logit")[3].values
    whole = difference(rows.x, rows.classes) - difference(rows.baselines[0], rows.classes)
    assert scores.sum(axis=1) == pytest.approx(whole, abs=1e-9)


def exact_shapley(values, rows, players):
    """Shapley values by all orders: the slow way."""
    from itertools import permutations

    parts = attributions.parts_of(rows.x.shape[1:], 1)
    total = np.zeros((len(rows.x), players))
    orders = list(permutations(range(players)))
    for order in orders:
        kept = np.zeros((len(rows.x), players), dtype=bool)
        before = values(parts.blended(rows.x, rows.baselines[0], kept), rows.classes)
        for player in order:
            kept[:, player] = True
            after = values(parts.blended(rows.x, rows.baselines[0], kept), rows.classes)
            total[:, player] += after - before
            before = after
    return total / len(orders)


def test_shapley_sampling_is_unbiased_and_complete():
    x = data(n=2, inputs=4)
    of = subject(network(inputs=4), x)
    rows = attributions.rows_of(of, AttributionParams(), 0)
    model, parts = attributions.model_of(of, "probability"), attributions.parts_of((4,), 1)
    exact = exact_shapley(model.values, rows, 4)
    draws = np.stack([coalitions.shapley_sampling(model.values, rows, parts, 2, seed) for seed in range(200)])
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(axis=0) - exact) <= 4 * error + 1e-12).all()
    whole = model.values(rows.x, rows.classes) - model.values(rows.baselines[0], rows.classes)
    assert draws.sum(axis=2) == pytest.approx(np.tile(whole, (200, 1)), abs=1e-12)


def test_opposite_orders_remove_the_error_of_pairwise_products():
    # f = x0 x1: one order and its reverse give each the half of it, exactly.
    rows = _explained.Rows(np.array([[2.0, 3.0]]), np.zeros(1, np.int64), np.zeros((1, 1, 2)), np.arange(1), np.ones(2))
    values = coalitions.shapley_sampling(
        lambda x, _: x[:, 0] * x[:, 1], rows, attributions.parts_of((2,), 1), 2, seed=0
    )
    assert values.tolist() == [[3.0, 3.0]]


def test_several_baselines_are_averaged():
    x = data(n=5)
    of = subject(network(), x)
    params = AttributionParams(replacement="marginal", draws=3)
    rows = attributions.rows_of(of, params, 0)
    assert rows.baselines.shape == (3, 5, 6)
    model, parts = attributions.model_of(of, "probability"), attributions.parts_of((6,), 1)
    for method in ("integrated_gradients", "occlusion"):
        together = attributions.attribute(model, rows, parts, method, params, 0).scores
        alone = [
            attributions.attribute(model, rows._replace(baselines=base[None]), parts, method, params, 0).scores
            for base in rows.baselines
        ]
        assert together == pytest.approx(np.mean(alone, axis=0), abs=1e-12)


def test_patches_share_channels_and_sum_entries():
    parts = attributions.parts_of((3, 5, 4), 2)
    assert parts.count == 6
    assert (parts.of[0] == parts.of[2]).all()
    assert parts.of[0, 4].tolist() == [4, 4, 5, 5]
    entries = np.random.default_rng(0).standard_normal((2, 3, 5, 4))
    sums = parts.sums(entries)
    assert sums[1, 4] == pytest.approx(entries[1, :, 4, :2].sum())
    kept = np.zeros((2, 6), dtype=bool)
    kept[:, 4] = True
    blended = parts.blended(entries, np.zeros_like(entries), kept)
    assert (blended[:, :, 4, :2] == entries[:, :, 4, :2]).all()
    assert np.count_nonzero(blended) == 2 * 3 * 2
    assert attributions.parts_of((7,), 3).count == 7
    assert attributions.parts_of((2, 2, 2, 2), 3).of.shape == (2, 2, 2, 2)


def test_blur_keeps_constant_pictures_and_refuses_tables():
    x = np.full((3, 1, 8, 8), 0.7)
    params = AttributionParams(replacement="blur")
    assert attributions._baselines(x, x, params, 0) == pytest.approx(0.7)
    spot = np.zeros((1, 1, 8, 8))
    spot[..., 4, 4] = 1.0
    blurred = attributions._baselines(spot, spot, params, 0)[0, 0, 0]
    assert 0 < blurred[4, 4] < 0.3
    assert blurred[4, 3] == pytest.approx(blurred[3, 4])
    with pytest.raises(NotApplicable, match="blur needs images"):
        attributions._baselines(data(), data(), params, 0)


def test_noise_depends_on_the_row_alone():
    net, x = network(), data()
    params = AttributionParams(method="smoothgrad", samples=3)
    of = subject(net, x)
    rows = attributions.rows_of(of, params, 0)
    parts, model = attributions.parts_of((6,), 1), attributions.model_of(of, "probability")
    for method in ("smoothgrad", "shapley_sampling"):
        whole = attributions.attribute(model, rows, parts, method, params, 0).scores
        some = attributions.attribute(model, rows.some(slice(4, 7)), parts, method, params, 0).scores
        assert some == pytest.approx(whole[4:7], rel=1e-12)
        assert (attributions.attribute(model, rows, parts, method, params, 1).scores != whole).any()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), rows=st.integers(2, 6), entries=st.integers(1, 200))
def test_memory_bound_changes_no_number(seed, rows, entries):
    x = data(n=rows, seed=seed)
    of = subject(network(), x)
    chosen = attributions.rows_of(of, AttributionParams(), 0)
    parts, model = attributions.parts_of((6,), 1), attributions.model_of(of, "probability")
    wanted = coalitions.occlusion(model.values, chosen, parts)
    before = coalitions.ENTRIES
    try:
        coalitions.ENTRIES = entries
        assert coalitions.occlusion(model.values, chosen, parts) == pytest.approx(wanted, abs=1e-14)
        assert coalitions.shapley_sampling(model.values, chosen, parts, 3, 0).shape == (rows, 6)
    finally:
        coalitions.ENTRIES = before


def test_saturated_probabilities_keep_their_gradients():
    # logits 30 apart in float32: 1 - p = 1e-13 is lost in float32 and kept here.
    net = torch.nn.Linear(2, 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[30.0, 0.0], [0.0, 1.0]]))
        net.bias.zero_()
    x = np.array([[1.0, 0.0], [1.0, 0.1]], dtype=np.float32)
    (scores, _), *_ = found("gradient", net, x)
    assert scores[0] / scores[0, 1] == pytest.approx([30.0, 1.0], rel=0.01)  # 1 - p has three digits left
    odds, *_ = found("gradient", net, x, explained="log_odds")
    assert odds.scores[0] == pytest.approx([30.0, 1.0])


def test_refusals_say_why():
    class Broken(torch.nn.Module):
        def __init__(self, made):
            super().__init__()
            self.made, self.unused = made, torch.nn.Linear(1, 1)

        def forward(self, x):
            return self.made(x)

    x = data().astype(np.float32)
    with pytest.raises(NotApplicable, match="do not depend differentiably on its inputs; set method: shapley_sampling"):
        found("gradient", Broken(lambda x: torch.ones(len(x), 3)), x)
    with pytest.raises(NotApplicable, match="no finite output for 12 of 12 inputs"):
        found("occlusion", Broken(lambda x: torch.full((len(x), 3), torch.nan) * x[:, :1]), x)
    with pytest.raises(NotApplicable, match="attributions are not finite for 12 of 12 rows"):
        found("gradient", Broken(lambda x: torch.sqrt(0 * x[:, :3])), x)
    with pytest.raises(NotApplicable, match="a single row, wanted at least two"):
        found("gradient", network(), data(n=1))
    wide = Broken(lambda x: x.flatten(1)[:, :3])
    with pytest.raises(NotApplicable, match="about every part of an input, and there are 4900, more than 4096"):
        found("occlusion", wide, np.zeros((2, 70, 70), np.float32))


def test_deep_lift_refuses_probabilities_and_names_the_extra(monkeypatch):
    pytest.importorskip("captum")
    with pytest.raises(NotApplicable, match="set explained: logit"):
        found("deep_lift")
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(
        NotApplicable, match=r"deep_lift needs the package captum: pip install 'ai-assessor\[explain\]'"
    ):
        found("deep_lift", explained="logit")


def test_nothing_of_the_model_is_changed():
    net, x = network(), data()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    for method in ("gradient", "integrated_gradients", "smoothgrad", "occlusion"):
        found(method, net, x, steps=3, samples=2)
    if importlib.util.find_spec("captum"):
        found("deep_lift", net, x, explained="logit")
    assert all((net.state_dict()[name] == value).all() for name, value in state.items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())
    assert all(not layer._forward_hooks and not layer._forward_pre_hooks for layer in net.modules())


def test_similarity_of_lime_is_1_for_all_parts_kept():
    assert _captum._similarity(torch.ones(1), torch.ones(1), torch.ones(1, 9)) == 1.0
    assert _captum._similarity(torch.ones(1), torch.ones(1), torch.zeros(1, 9)) < 1e-6


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_same():
    net, x = network(), data()
    params = AttributionParams(method="integrated_gradients", steps=10)
    results = []
    for device in ("cpu", "cuda"):
        splits = {"test": split("test", x, np.zeros(len(x), np.int64))}
        of = TorchSubject(net, Task.MULTICLASS, CLASSES, splits, device=device)
        rows = attributions.rows_of(of, params, 0)
        model, parts = attributions.model_of(of, "probability"), attributions.parts_of((6,), 1)
        results.append(attributions.attribute(model, rows, parts, "integrated_gradients", params, 0).scores)
    assert results[0] == pytest.approx(results[1], abs=1e-9)


def test_net_takes_what_the_module_takes():
    net = Net(network(), "probability", "cpu", torch.float64, network())
    assert net.inputs(np.zeros((2, 6), np.float32)).dtype is torch.float64
