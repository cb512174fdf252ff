"""robustness.robust_flatness: exact on one weight, plain flatness without attack, and left as it was."""

import math

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from pydantic import ValidationError
from scipy import stats
from sklearn.linear_model import LogisticRegression

from assessor.contract import Lent, NotApplicable, Split, Task, lending
from assessor.subjects.sklearn_estimator import SklearnSubject
from assessor.subjects.torch_module import TorchSubject
from assessor_checks._pgd import Box
from assessor_checks.robustness._robust_flatness import Attack, Surface
from assessor_checks.robustness.robust_flatness import CHECK, RobustFlatnessParams

matplotlib.use("Agg")


def split(name, x, y, names=()):
    return Split(name=name, labels=np.asarray(y), sha256=name, features=np.asarray(x), feature_names=names)


def data(n=80, m=1, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, m))
    return x, (x[:, 0] + 0.5 * rng.standard_normal(n) > 0).astype(np.int64)


def slope(weight):
    """z = w x, a single weight."""
    net = torch.nn.Linear(1, 1, bias=False).double()
    net.weight.data.fill_(weight)
    return net


def network(seed=0, width=3, norm=False):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts = [torch.nn.Linear(width, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)]
        if norm:
            parts.insert(1, torch.nn.BatchNorm1d(8))
        return torch.nn.Sequential(*parts).double()


def subject(net, n=80, m=1, y=None, **more):
    x, labels = data(n, m)
    return TorchSubject(net, Task.BINARY, ("no", "yes"), {"test": split("test", x, labels if y is None else y)}, **more)


def run(found, seed=0, **params):
    defaults = {"eps": 0.2, "steps": 10, "directions": 8, "worst_starts": 3}
    return CHECK.measure(found, RobustFlatnessParams(**{**defaults, **params}), seed)


def robust_loss(w, eps):
    """Exact for z = w x: the attack moves every row by eps against its label."""
    x, y = data()
    margin = (2 * y - 1) * w * x[:, 0] - eps * abs(w)
    return np.logaddexp(0, -margin).mean()


def test_one_weight_is_exact():
    w, size, worst = 1.3, 0.5, 0.1
    result = run(subject(slope(w)), average_size=size, worst_size=worst)
    reference = robust_loss(w, 0.2)
    assert result.metric("robust_loss").value == pytest.approx(reference, rel=1e-12)
    assert result.metric("clean_loss").value == pytest.approx(robust_loss(w, 0), rel=1e-12)
    # In one dimension the sphere is two points, so every disturbance gives one of two rises.
    both = sorted(robust_loss(w * (1 + sign * size), 0.2) - reference for sign in (-1, 1))
    clean = sorted(robust_loss(w * (1 + sign * size), 0) - robust_loss(w, 0) for sign in (-1, 1))
    rises, columns = result.metric("average_robust_flatness"), result.series[0].columns
    assert sorted({round(value, 9) for value in columns["attacked"]}) == pytest.approx(both, abs=1e-8)
    assert sorted({round(value, 9) for value in columns["clean"]}) == pytest.approx(clean, abs=1e-8)
    assert rises.value == pytest.approx(np.mean(columns["attacked"]))
    half = stats.t.ppf(0.975, 7) * np.std(columns["attacked"], ddof=1) / math.sqrt(8)
    assert (rises.low, rises.high) == pytest.approx((rises.value - half, rises.value + half))
    assert rises.primary
    most = max(robust_loss(w * (1 + sign * worst), 0.2) for sign in (-1, 1)) - reference
    assert result.metric("worst_robust_flatness").value == pytest.approx(most, rel=1e-9)
    assert result.metric("worst_robust_flatness").low is None
    assert "a lower bound" in result.metric("worst_robust_flatness").method


def test_everything_is_reported():
    result = run(subject(network(norm=True), m=3))
    assert [metric.name for metric in result.metrics] == [
        "average_robust_flatness",
        "average_clean_flatness",
        "worst_robust_flatness",
        "robust_loss",
        "clean_loss",
    ]
    assert result.remarks[0] == (
        "80 of 80 test rows; 4 weight tensors disturbed, those of normalisation layers left alone. The rows were "
        "attacked anew at every disturbance, from the same starts."
    )
    assert result.remarks[1].startswith("The worst disturbance was searched in a ball much smaller")
    assert result.metric("robust_loss").value > result.metric("clean_loss").value
    assert list(result.series[0].columns["attacked"]) == sorted(result.series[0].columns["attacked"])
    assert result.doubt is None
    none = run(subject(network(), m=3), worst_starts=0)
    assert len(none.remarks) == 1
    assert "worst_robust_flatness" not in [metric.name for metric in none.metrics]


def test_without_attack_it_is_plain_flatness():
    result = run(subject(network(), m=3), eps=0.0)
    robust, clean = (result.metric(f"average_{name}_flatness") for name in ("robust", "clean"))
    assert (robust.value, robust.low, robust.high) == (clean.value, clean.low, clean.high)
    assert result.metric("robust_loss").value == result.metric("clean_loss").value


def surface(net, m=3, **more):
    found = subject(net, m=m, **more)
    return Surface(found, *found.tensors("test"))


def attack(eps, m=3, steps=10, restarts=1):
    ends = (torch.full((m,), end, dtype=torch.float64) for end in (eps, -math.inf, math.inf))
    return Attack(Box(*ends), steps, restarts)


def test_directions_lie_on_their_spheres_and_point_anywhere():
    found = surface(network())
    draws = [found.direction(0.3, torch.Generator().manual_seed(seed)) for seed in range(400)]
    for name, value in found.parameters.items():
        lengths = torch.stack([draw[name].norm() for draw in draws])
        assert lengths.numpy() == pytest.approx(0.3 * value.norm().item(), rel=1e-9)
        unit = torch.stack([draw[name].flatten() for draw in draws]) / (0.3 * value.norm())
        # mean 0 and variance 1 / size of every entry, within 5 standard errors over all entries
        assert unit.mean(dim=0).abs().max() < 5 / math.sqrt(400 * value.numel())
        assert (unit.square().mean() * value.numel()).item() == pytest.approx(1, rel=1e-9)


def test_average_is_unbiased():
    # One weight: the expectation is the mean of the two points; 100 seeds within 4 standard errors.
    w = 1.3
    expected = np.mean([robust_loss(w * f, 0.2) for f in (0.5, 1.5)]) - robust_loss(w, 0.2)
    values = [
        run(subject(slope(w)), seed, directions=2, worst_starts=0, steps=1).metric("average_robust_flatness").value
        for seed in range(100)
    ]
    assert abs(np.mean(values) - expected) < 4 * np.std(values) / math.sqrt(100)


def test_robust_loss_is_exact_for_linear_models_and_grows_with_the_attack():
    net = torch.nn.Linear(3, 1).double()
    found = surface(net)
    x, y = (part.numpy() for part in (found.inputs, found.labels))
    w, b = net.weight.detach().numpy()[0], net.bias.item()
    margin = (2 * y - 1) * (x @ w + b) - 0.3 * np.abs(w).sum()
    losses = found.robust_loss(found.parameters, attack(0.3), torch.Generator().manual_seed(0))
    assert losses.numpy() == pytest.approx(np.logaddexp(0, -margin), rel=1e-9)
    deep = surface(network(4))
    few, many = (
        deep.robust_loss(deep.parameters, attack(0.5, steps=4, restarts=k), torch.Generator().manual_seed(0)).mean()
        for k in (1, 8)
    )
    assert deep.clean_loss(deep.parameters).mean() < few <= many


def test_saturated_rows_still_have_a_slope():
    # float32 logits of 80: a float32 softmax is exactly 1 and has no gradient, the loss here still rises
    net = torch.nn.Linear(1, 2)
    net.weight.data, net.bias.data = torch.tensor([[-40.0], [40.0]]), torch.zeros(2)
    x = np.ones((4, 1), np.float32)
    found = TorchSubject(net, Task.BINARY, ("no", "yes"), {"test": split("test", x, np.ones(4, np.int64))})
    result = run(found, eps=0.5, steps=5)
    assert result.metric("clean_loss").value == pytest.approx(math.exp(-80), rel=1e-5)
    assert result.metric("robust_loss").value == pytest.approx(math.exp(-40), rel=1e-5)


def test_worst_exceeds_random_disturbances_of_its_size_and_stays_in_its_ball():
    net = network(5)
    found = surface(net)
    parameters, reached = found.ascend(attack(0.1), 0.2, torch.Generator().manual_seed(0))
    for name, value in found.parameters.items():
        assert (parameters[name] - value).norm() <= 0.2 * value.norm() * (1 + 1e-9)
        assert not parameters[name].requires_grad
    random = [
        found.robust_loss(found.moved(found.direction(0.2, torch.Generator().manual_seed(seed))), attack(0.1),
                          torch.Generator().manual_seed(0)).mean().item()
        for seed in range(20)
    ]  # fmt: skip
    assert reached > max(random)
    again = found.robust_loss(parameters, attack(0.1), torch.Generator().manual_seed(0)).mean().item()
    assert again == pytest.approx(reached, rel=0.05)  # the joint search attacks the rows nearly as well
    result = run(subject(net, m=3), eps=0.1, worst_size=0.2, average_size=0.2)
    assert result.metric("worst_robust_flatness").value > max(result.series[0].columns["attacked"])


def test_sharp_model_and_its_flat_twin():
    # Both separate the rows; the sharp one leans on two large weights that almost cancel, so that small relative
    # disturbances of them decide.
    x, y = data(m=2)
    x[:, 1] = x[:, 0]
    y = (x[:, 0] > 0).astype(np.int64)
    splits = {"test": split("test", x, y)}
    rises = []
    for weight in ([2.0, 0.0], [21.0, -19.0]):
        net = torch.nn.Linear(2, 1, bias=False).double()
        net.weight.data = torch.tensor([weight]).double()
        found = run(TorchSubject(net, Task.BINARY, ("no", "yes"), splits), eps=0.01, average_size=0.2, worst_size=0.02)
        rises.append((found.metric("average_robust_flatness").value, found.metric("worst_robust_flatness").value))
    assert rises[1][0] > 5 * rises[0][0]
    assert rises[1][1] > 5 * rises[0][1]


def test_layers_rescaled_give_the_same_value():
    # Relative balls: W -> a W in one layer, W / a in the next is the same function and the same measure.
    net = network(6)
    twin = network(6)
    twin[0].weight.data *= 8
    twin[0].bias.data *= 8
    twin[2].weight.data /= 8
    ours, theirs = (run(subject(found, m=3)).metrics for found in (net, twin))
    for one, other in zip(ours, theirs, strict=True):
        assert other.value == pytest.approx(one.value, rel=1e-6)


def test_nothing_of_the_model_is_changed():
    net = network(norm=True)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    run(subject(net, m=3))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in net.parameters())


def test_kept_parts_are_used_again_and_progress_is_told():
    store, told, asked = {}, [], []

    def find(key):
        asked.append(str(key))
        return store.get(str(key))

    with lending(Lent(lambda *step: told.append(step), find, lambda key, value: store.__setitem__(str(key), value))):
        first = run(subject(network(), m=3), 4)
        assert len(store) == 8 + 3
        assert [step[1:] for step in told] == [(done, 11) for done in range(11)]
        store.popitem()  # a killed run lost its last part
        assert run(subject(network(), m=3), 4).model_dump_json() == first.model_dump_json()
    assert len(set(asked)) == 11
    assert run(subject(network(), m=3), 4).model_dump_json() == first.model_dump_json()
    assert run(subject(network(), m=3), 5).model_dump_json() != first.model_dump_json()


def test_one_row_and_few_directions():
    result = run(subject(slope(1.0), n=1), directions=2)
    assert result.metric("robust_loss").low is None
    assert result.metric("robust_loss").n == 1
    assert result.doubt == "The numbers show little: only 2 disturbances were drawn."


class Steps(torch.nn.Module):
    """Rounds its inputs, so that the attack finds no slope."""

    def __init__(self):
        super().__init__()
        self.last = slope(1.0)

    def forward(self, x):
        return self.last(x.round()) + 0 * x


def test_masked_gradients_give_a_doubt():
    assert run(subject(Steps()), eps=1e-6).doubt.endswith(  # and the change is less than any unit would explain
        "The numbers show little: the attack did not raise the loss of 80 of 80 rows, as with masked gradients."
    )
    assert run(subject(Steps()), eps=0.0).doubt is None


class Train(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.last, self.drop = torch.nn.Linear(1, 1).double(), torch.nn.Dropout(0.5)

    def forward(self, x):
        self.drop.train()
        return self.last(self.drop(x))


def test_refused():
    with pytest.raises(NotApplicable, match="not finite for 80 of 80 rows"):
        run(subject(slope(float("nan"))))
    with pytest.raises(NotApplicable, match="outside its normalisation layers, or they are all 0"):
        run(subject(slope(0.0)))
    with pytest.raises(NotApplicable, match=r"different outputs for the same inputs|train mode"):
        run(subject(Train()))
    with pytest.raises(NotApplicable, match="no rows"):
        run(subject(slope(1.0), n=0))
    with pytest.raises(NotApplicable, match="no feature '#1'"):
        run(subject(slope(1.0)), frozen=("#1",))
    estimator = LogisticRegression().fit(*data())
    with pytest.raises(NotApplicable, match="no PyTorch module"):
        run(SklearnSubject(estimator, Task.BINARY, ("0", "1"), {"test": split("test", *data())}))
    for wrong in ({"eps": -1}, {"directions": 1}, {"average_size": 0}, {"worst_starts": -1}, {"steps": 0}):
        with pytest.raises(ValidationError):
            RobustFlatnessParams(**wrong)


def test_plot_draws():
    axes = Figure().add_subplot()
    CHECK.plot(run(subject(network(), m=3)), axes)
    assert axes.get_ylabel() == "rise of the mean loss (nats)"
    assert len(axes.lines) == 3


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_is_exact_too():
    result = run(subject(slope(1.3), device="cuda"), worst_size=0.1)
    most = max(robust_loss(1.3 * f, 0.2) for f in (0.9, 1.1)) - robust_loss(1.3, 0.2)
    assert result.metric("worst_robust_flatness").value == pytest.approx(most, rel=1e-6)
