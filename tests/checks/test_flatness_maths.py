"""The closed forms against the full Hessian by automatic differentiation, and against their own promises."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assessor.contract import NotApplicable, Task
from assessor_checks import _flatness as flatness
from assessor_checks import _layers as layers
from assessor_checks._flatness import Loss
from assessor_checks._spectrum import top_eigenvalues
from assessor_checks.generalization._layer_flatness import measure_last

FEW = settings(max_examples=15, deadline=None)
SHAPES = {"n": st.integers(1, 6), "d": st.integers(2, 5), "m": st.integers(1, 6), "seed": st.integers(0, 10_000)}


def case(n, d, m, seed, dtype=torch.float64, confidence=1.0):
    generator = torch.Generator().manual_seed(seed)
    phi = torch.randn(n, m, generator=generator, dtype=torch.float64).to(dtype)
    weight = (confidence * torch.randn(d, m, generator=generator, dtype=torch.float64)).to(dtype)
    bias = torch.randn(d, generator=generator, dtype=torch.float64).to(dtype)
    return phi, weight, phi @ weight.T + bias


def hessian(loss, phi, weight, logits, labels, decay=0.0):
    """(d, m, d, m) Hessian of the mean loss in the weight, the slow way."""
    shift = logits - phi @ weight.T

    def value(w):
        return flatness.per_sample_loss(loss, phi @ w.T + shift, labels).mean() + decay * w.square().sum()

    return torch.func.jacrev(torch.func.jacrev(value))(weight)


def slow_trace(full, weight):
    return torch.einsum("sutu,sv,tv->", full, weight, weight).item()


def slow_max(full, weight):
    return sum((w @ w * torch.linalg.eigvalsh(full[s, :, s, :])[-1].clamp_min(0)).item() for s, w in enumerate(weight))


@FEW
@given(**SHAPES)
def test_softmax_equals_the_full_hessian(n, d, m, seed):
    phi, weight, logits = case(n, d, m, seed)
    full = hessian(Loss.SOFTMAX, phi, weight, logits, torch.arange(n) % d)
    kappa = flatness.per_sample_trace(Loss.SOFTMAX, phi, weight, logits)
    assert kappa.shape == (n,)
    assert kappa.mean().item() == pytest.approx(slow_trace(full, weight), rel=1e-9, abs=1e-14)
    most = flatness.max_flatness(Loss.SOFTMAX, [(phi, logits)], weight)
    assert most.value == pytest.approx(slow_max(full, weight), rel=1e-9, abs=1e-14)


@FEW
@given(n=SHAPES["n"], m=SHAPES["m"], seed=SHAPES["seed"])
def test_sigmoid_and_squared_error_equal_the_full_hessian(n, m, seed):
    phi, weight, logits = case(n, 1, m, seed)
    for loss, labels in ((Loss.SIGMOID, torch.arange(n) % 2), (Loss.SQUARED, torch.linspace(-1, 1, n).double())):
        full = hessian(loss, phi, weight, logits, labels)
        kappa = flatness.per_sample_trace(loss, phi, weight, logits)
        assert kappa.mean().item() == pytest.approx(slow_trace(full, weight), rel=1e-9, abs=1e-14)
        most = flatness.max_flatness(loss, [(phi, logits)], weight)
        assert most.value == pytest.approx(slow_max(full, weight), rel=1e-9, abs=1e-14)


@pytest.mark.parametrize(("n", "m", "d"), [(400, 150, 3), (200, 300, 4), (140, 140, 2)])
def test_lanczos_equals_all_eigenvalues(n, m, d):
    phi, weight, logits = case(n, d, m, seed=n)
    found = flatness.max_flatness(Loss.SOFTMAX, [(phi, logits)], weight)
    curvature = logits.softmax(1) * (1 - logits.softmax(1))
    moments = torch.stack([(phi.T * c) @ phi / n for c in curvature.T])
    exact = (weight.square().sum(1) * torch.linalg.eigvalsh(moments)[:, -1]).sum().item()
    assert found.value == pytest.approx(exact, rel=1e-9)
    assert exact - found.value <= found.error + 1e-12 * exact


def test_lanczos_of_a_flat_and_of_a_rank_one_problem():
    phi, weight, logits = case(150, 2, 140, seed=0)
    collapsed = torch.zeros_like(logits)
    collapsed[:, 0] = 4000.0  # p (1 - p) is 0 in float64 too
    assert flatness.max_flatness(Loss.SOFTMAX, [(phi, collapsed)], weight) == (0.0, 0.0)
    same = phi[:1].expand(150, 140)
    found = flatness.max_flatness(Loss.SQUARED, [(same, logits[:, :1])], weight[:1])
    assert found.value == pytest.approx((phi[0] @ phi[0] * (weight[0] @ weight[0])).item(), rel=1e-9)


def test_weight_decay_is_the_hessian_of_the_penalty():
    phi, weight, logits = case(4, 3, 5, seed=1)
    full = hessian(Loss.SOFTMAX, phi, weight, logits, torch.tensor([0, 1, 2, 0]), decay=0.3)
    kappa = flatness.per_sample_trace(Loss.SOFTMAX, phi, weight, logits).mean().item()
    assert kappa + flatness.weight_decay_trace(weight, 0.3) == pytest.approx(slow_trace(full, weight), rel=1e-9)
    most = flatness.max_flatness(Loss.SOFTMAX, [(phi, logits)], weight).value
    assert most + flatness.weight_decay_max(weight, 0.3) == pytest.approx(slow_max(full, weight), rel=1e-9)


@FEW
@given(**SHAPES)
def test_pairwise_and_centred_variance_agree(n, d, m, seed):
    _phi, weight, logits = case(n, d, m, seed, confidence=3.0)
    p = logits.softmax(1)
    pairwise, centred = flatness._variance_pairwise(weight)(p), flatness._variance_centred(weight)(p)
    torch.testing.assert_close(pairwise, centred, rtol=1e-10, atol=0)


@pytest.mark.parametrize("variance", [flatness._variance_pairwise, flatness._variance_centred])
@pytest.mark.parametrize("eps", [1e-3, 1e-12, 1e-30, 1e-200])
def test_nothing_cancels_where_one_class_dominates(variance, eps):
    # Two classes: Var = p (1 - p) ||w_0 - w_1||^2 = eps (1 - eps) 25, by hand; a common offset must not matter.
    weight = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.float64) + 1000.0
    p = torch.tensor([[1 - eps, eps]], dtype=torch.float64)
    assert variance(weight)(p).item() == pytest.approx(25 * eps * (1 - eps), rel=1e-12)


def test_curvature_where_one_class_dominates():
    logits = torch.tensor([[0.0, -27.631021115928547]], dtype=torch.float64)  # log(1e-12)
    p = 1e-12 / (1 + 1e-12)
    torch.testing.assert_close(flatness._softmax_curvature(logits)[0, 0].item(), p * (1 - p), rtol=1e-12, atol=0)
    assert flatness._sigmoid_curvature(-logits[:, 1:]).item() == pytest.approx(p * (1 - p), rel=1e-12)


@pytest.mark.parametrize("loss", list(Loss))
def test_streaming_equals_in_memory(loss):
    phi, weight, logits = case(301, 5 if loss is Loss.SOFTMAX else 1, 17, seed=3)
    whole = flatness.per_sample_trace(loss, phi, weight, logits, chunk_rows=301)
    for rows in (1, 7, 300):
        chunked = flatness.per_sample_trace(loss, phi, weight, logits, chunk_rows=rows)
        torch.testing.assert_close(chunked, whole, rtol=1e-12, atol=0)


@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize("n", [1, 20, 300])
def test_float32_is_near_float64(loss, n):
    phi, weight, logits = case(n, 6 if loss is Loss.SOFTMAX else 1, 150, seed=4, confidence=0.2)
    single = [x.float() for x in (phi, weight, logits)]
    exact = flatness.per_sample_trace(loss, phi, weight, logits)
    torch.testing.assert_close(flatness.per_sample_trace(loss, *single), exact, rtol=1e-4, atol=0)
    most = flatness.max_flatness(loss, [(phi, logits)], weight).value
    assert flatness.max_flatness(loss, [(single[0], single[2])], single[1]).value == pytest.approx(most, rel=1e-4)


def test_inputs_are_not_changed():
    phi, weight, logits = case(9, 3, 4, seed=5)
    kept = [x.clone() for x in (phi, weight, logits)]
    flatness.per_sample_trace(Loss.SOFTMAX, phi, weight, logits)
    flatness.max_flatness(Loss.SOFTMAX, [(phi, logits)], weight)
    flatness.normalise_neurons(phi, weight)
    assert all(torch.equal(a, b) for a, b in zip(kept, (phi, weight, logits), strict=True))


def both(phi, weight, logits):
    return (
        flatness.per_sample_trace(Loss.SOFTMAX, phi, weight, logits).mean().item(),
        flatness.max_flatness(Loss.SOFTMAX, [(phi, logits)], weight).value,
    )


def test_rescaling_a_whole_layer_changes_nothing_and_the_hessian_trace_much():
    phi, weight, logits = case(30, 4, 6, seed=6)
    moved = phi / 7.3, weight * 7.3, logits
    assert both(*moved) == pytest.approx(both(phi, weight, logits), rel=1e-12)
    labels = torch.arange(30) % 4
    plain = [torch.einsum("susu->", hessian(Loss.SOFTMAX, *x, labels)).item() for x in ((phi, weight, logits), moved)]
    assert plain[0] / plain[1] == pytest.approx(7.3**2, rel=1e-9)


@FEW
@given(**SHAPES)
def test_rescaling_each_neuron_changes_nothing_after_normalisation(n, d, m, seed):
    phi, weight, logits = case(n + 1, d, m + 1, seed)
    factors = torch.logspace(-1, 1, m + 1, dtype=torch.float64)
    before = both(*flatness.normalise_neurons(phi, weight), logits)
    after = both(*flatness.normalise_neurons(phi * factors, weight / factors), logits)
    assert after == pytest.approx(before, rel=1e-9)


def test_rescaling_each_neuron_changes_the_plain_value():
    phi, weight, logits = case(30, 4, 6, seed=7)
    factors = torch.logspace(-1, 1, 6, dtype=torch.float64)
    assert both(phi * factors, weight / factors, logits)[0] != pytest.approx(both(phi, weight, logits)[0], rel=0.1)


def test_constant_features_and_their_columns_are_left_out():
    phi = torch.tensor([[1.0, 0.1, 0.0], [3.0, 0.1, 0.0], [5.0, 0.1, 0.0]])
    scaled, weight = flatness.normalise_neurons(phi, torch.ones(2, 3))
    spread = (8 / 3) ** 0.5
    torch.testing.assert_close(scaled[:, 0], phi[:, 0] / spread)
    assert torch.equal(scaled[:, 1:], torch.zeros(3, 2))
    torch.testing.assert_close(weight[0], torch.tensor([spread, 0.0, 0.0]))
    assert torch.equal(flatness.feature_scale([phi[:1]]), torch.zeros(3, dtype=torch.float64))


def test_normalised_value_ignores_what_a_dead_unit_is_wired_to():
    phi, weight, logits = case(30, 4, 6, seed=8)
    phi[:, 2] = 0.0
    other = weight.clone()
    other[:, 2] *= 1000
    for one, two in zip(
        both(*flatness.normalise_neurons(phi, weight), logits),
        both(*flatness.normalise_neurons(phi, other), logits),
        strict=True,
    ):
        assert one == pytest.approx(two, rel=1e-12)


class Squeezed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Linear(3, 1)
        self.head = torch.nn.Linear(3, 1)

    def forward(self, x):
        return self.head(x).squeeze(-1)


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(torch.relu(self.layer(x)))


def test_last_linear_streams_and_finds_the_layer():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.ReLU(inplace=True), torch.nn.Linear(5, 2)).eval()
    x = torch.randn(11, 3)
    found = layers.last_linear(net, x, batch=4)
    assert found.name == "2"
    torch.testing.assert_close(found.features, net[:2](x))
    torch.testing.assert_close(found.logits, net(x))
    assert not found.logits.requires_grad
    assert layers.last_linear(Squeezed(), x).name == "head"
    assert not net[0]._forward_hooks
    assert not net[2]._forward_hooks


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (torch.nn.Flatten(), "no torch.nn.Linear"),
        (torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Softmax(1)), "not the output of its last linear"),
        (torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU(inplace=True)), "not the output"),
        (torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.GLU(1)), "not the output"),
        (Tied(), "runs 2 times"),
        (torch.nn.Sequential(torch.nn.Unflatten(1, (3, 1)), torch.nn.Linear(1, 1), torch.nn.Flatten()), "shape"),
    ],
)
def test_last_linear_says_why_not(net, words):
    with pytest.raises(NotApplicable, match=words):
        layers.last_linear(net.eval(), torch.randn(20, 3))


def test_no_rows():
    with pytest.raises(NotApplicable, match="no rows"):
        layers.last_linear(torch.nn.Linear(3, 2), torch.empty(0, 3))


def test_saturated_rows_are_counted_in_their_own_dtype():
    logits = torch.tensor([[0.0, 30.0], [0.0, 1.0]])
    assert layers.saturated_rows(logits) == 1
    assert layers.saturated_rows(logits.double()) == 0
    assert layers.saturated_rows(torch.tensor([[30.0], [-300.0], [0.0]])) == 2


class Counted(torch.nn.Sequential):
    """Counts the rows that are put through it."""

    rows = 0

    def forward(self, x):
        self.rows += len(x)
        return super().forward(x)


def test_activations_are_kept_while_they_fit_and_come_again_where_not():
    torch.manual_seed(0)
    net = Counted(torch.nn.Linear(3, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2)).eval()
    x = torch.randn(20, 3)
    features, logits = net[:2](x).detach(), net(x).detach()
    for keep, whole, rows in ((2**20, True, 20), (2 * 8 * 7 * 4, False, 20 + 4), (0, False, 40)):
        found = layers.Activations(net, x, batch=8, keep=keep)
        net.rows = 0
        for _ in range(2):
            phi, z = (torch.cat(parts) for parts in zip(*found, strict=True))
            torch.testing.assert_close(phi, features)
            torch.testing.assert_close(z, logits)
        assert (found.whole, net.rows) == (whole, rows)


class Endless:
    """A million rows of which only a slice exists at a time."""

    def __init__(self, n):
        self.n, self.largest = n, 0

    def __len__(self):
        return self.n

    def __getitem__(self, rows):
        start, stop, _ = rows.indices(self.n)
        self.largest = max(self.largest, stop - start)
        return torch.linspace(0, 1, 3).repeat(stop - start, 1) + torch.arange(start, stop)[:, None] / self.n


@pytest.mark.parametrize("loss", list(Loss))
def test_streaming_the_whole_measurement_equals_in_memory(loss):
    torch.manual_seed(1)
    outputs = 4 if loss is Loss.SOFTMAX else 1
    task = Task.REGRESSION if loss is Loss.SQUARED else Task.MULTICLASS
    net = torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.Tanh(), torch.nn.Linear(6, outputs)).double().eval()
    x = torch.randn(50, 3, dtype=torch.float64)
    y = torch.randn(50, dtype=torch.float64) if loss is Loss.SQUARED else torch.arange(50) % max(2, outputs)
    for way in ("neuron", "none"):
        whole = measure_last(task, layers.Activations(net, x), y, way, "train")
        parts = measure_last(task, layers.Activations(net, x, batch=7, keep=0), y, way, "train")
        assert whole.closed is loss
        assert (whole.kappa, whole.other) == (
            pytest.approx(parts.kappa, rel=1e-12),
            pytest.approx(parts.other, rel=1e-12),
        )
        assert whole.losses == pytest.approx(parts.losses, rel=1e-12)
        assert whole.maximum is not None
        assert parts.maximum is None  # it would take the model once more for every Lanczos step


def test_a_stream_of_rows_is_never_held_whole():
    net = torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.Tanh(), torch.nn.Linear(6, 4)).eval()
    rows = Endless(50_000)
    activations = layers.Activations(net, rows, batch=1000, keep=0)
    found = measure_last(Task.MULTICLASS, activations, torch.zeros(50_000, dtype=torch.long), "neuron", "train")
    assert (len(found.kappa), rows.largest) == (50_000, 1000)
    assert activations._kept == []


def test_a_large_head_is_widened_in_blocks_of_classes(monkeypatch):
    phi, weight, logits = case(9, 40, 5, seed=2, dtype=torch.float32, confidence=3.0)
    whole = flatness.per_sample_trace(Loss.SOFTMAX, phi, weight, logits)
    monkeypatch.setattr(flatness, "_WEIGHTS", 35)
    blocks = flatness._blocks(weight)
    assert len(blocks) == 6
    parts = flatness.per_sample_trace(Loss.SOFTMAX, phi, weight, logits)
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=0)


@pytest.mark.parametrize("confidence", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("d", [10, 600])
def test_single_precision_sums_are_near(d, confidence):
    phi, weight, logits = case(50, d, 20, seed=3, dtype=torch.float32, confidence=confidence)
    exact = flatness.per_sample_trace(Loss.SOFTMAX, phi, weight, logits)
    single = flatness.trace_function(Loss.SOFTMAX, weight, accumulate=torch.float32)(phi, logits).values[:, 0]
    assert single.dtype is torch.float64
    assert single.mean().item() == pytest.approx(exact.mean().item(), rel=1e-4)


@FEW
@given(**SHAPES)
def test_neuron_traces_equal_the_full_hessian(n, d, m, seed):
    phi, weight, logits = case(n, d, m, seed)
    full = hessian(Loss.SOFTMAX, phi, weight, logits, torch.arange(n) % d)
    found = flatness.neuron_traces(Loss.SOFTMAX, [(phi, logits)], weight)
    slow = torch.stack([full[s, :, s, :].trace() * (w @ w) for s, w in enumerate(weight)])
    torch.testing.assert_close(found, slow, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize(("n", "m"), [(5, 9), (30, 9), (200, 150), (140, 200)])
def test_eigenvalues_of_curvatures_of_either_sign(n, m):
    generator = torch.Generator().manual_seed(n)
    phi = torch.randn(n, m, generator=generator, dtype=torch.float64)
    c = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    exact = torch.linalg.eigvalsh(torch.stack([(phi.T * s) @ phi / n for s in c.T]))[:, -1]
    found = top_eigenvalues([(phi[:3], c[:3]), (phi[3:], c[3:])], lambda z: z)
    torch.testing.assert_close(found.values, exact, rtol=1e-9, atol=1e-12)
    falling = top_eigenvalues([(phi, -c.abs())], lambda z: z).values
    assert bool((falling <= 1e-12).all())
    assert bool((falling.abs() <= 1e-12).all()) == (n < m)  # singular: the largest is 0


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("loss", list(Loss))
@pytest.mark.parametrize(("n", "m"), [(20, 300), (400, 50), (400, 300)])
def test_cuda_equals_cpu(loss, n, m):
    phi, weight, logits = case(n, 7 if loss is Loss.SOFTMAX else 1, m, seed=8)
    there = [x.cuda() for x in (phi, weight, logits)]
    kappa = flatness.per_sample_trace(loss, *there)
    assert kappa.is_cuda
    torch.testing.assert_close(kappa.cpu(), flatness.per_sample_trace(loss, phi, weight, logits), rtol=1e-10, atol=0)
    most = flatness.max_flatness(loss, [(phi, logits)], weight).value
    assert flatness.max_flatness(loss, [(there[0], there[2])], there[1]).value == pytest.approx(most, rel=1e-9)
