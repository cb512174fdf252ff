"""Rescalings that change no output change the Hessian, and leave normalised relative flatness as it is.

Claim (Petzka et al. 2021, arXiv 2001.00939; the problem: Dinh et al. 2017, arXiv 1703.04933): in a ReLU network a
neuron may be multiplied by any positive factor if whatever reads it divides by it. The function, and with it
generalization, stays the same; a measure of flatness that changes cannot explain generalization.

Trained networks (64-16-16-10 and two convolutions with a linear layer) in float64 are rescaled with one factor of 10
for a hidden layer, and with a random factor from 5 to 25 for every hidden neuron, as the authors draw theirs. Trace
and top eigenvalue are of the full Hessian, exactly; relative flatness is exact too.

PASS: normalised relative flatness of every layer changes by at most 1e-9 of itself under every rescaling, and the
Hessian's trace and top eigenvalue each change by more than a factor of 2. 1e-9 is some hundred roundings of the sums.
"""

from __future__ import annotations

import math

import torch
from _networks import Data, cnn, cross_entropy, descend, digits, hidden_sizes, mlp, rescaled, train
from _report import Cell, Criterion, Outcome, Table, main, progress
from matplotlib.figure import Figure
from torch import nn

from assessor.contract import Task
from assessor_checks._layers import find_sites
from assessor_checks._losses import per_sample_loss
from assessor_checks.generalization import _hessian, _landscape, _norms, _sharpness
from assessor_checks.generalization._curvature import Budget, Problem, layer_curvature, layer_scale

EXACT, FACTOR = 1e-9, 2.0
FLAT, PLAIN = "relative flatness, normalised", "relative flatness"
TRACE, TOP = "Hessian trace", "top eigenvalue"
BEFORE, LAYER, NEURON = "before", "one factor for the last hidden layer", "a factor for every hidden neuron"
PLACES = ("first", "second", "third")
Found = dict[tuple[str, str], dict[str, float]]
"""By network and rescaling, by measure."""


def study(quick: bool) -> Outcome:
    """Measure both networks before and after each rescaling."""
    rows, steps = (40, 50) if quick else (300, 600)
    nets = {"MLP": (mlp(64, 16, 16, 10, seed=0), digits(rows)), "CNN": (cnn(0), digits(rows, images=True))}
    found: Found = {}
    for name, (net, data) in nets.items():
        exact = fitted(net, data, steps)
        found[name, BEFORE] = measures(net, exact)
        for which, factors in rescalings(net).items():
            found[name, which] = measures(rescaled(net, factors), exact)
            progress("measured", len(found), 3 * len(nets))
    return outcome(found)


def fitted(net: nn.Sequential, data: Data, steps: int) -> Data:
    """Train the network and put it into float64 and eval mode; its data in float64."""
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    train(descend(optimiser, cross_entropy(net)), data.x, data.y, batch=50, steps=steps, seed=0)
    net.double().eval()
    return Data(data.x.double(), data.y, data.x_test.double(), data.y_test)


def rescalings(net: nn.Sequential) -> dict[str, list[torch.Tensor]]:
    """Factors by hidden layer, for each way of rescaling."""
    sizes, generator = hidden_sizes(net), torch.Generator().manual_seed(0)
    ones = [torch.ones(size, dtype=torch.float64) for size in sizes]
    return {
        LAYER: [*ones[:-1], 10 * ones[-1]],
        NEURON: [torch.randint(5, 26, (size,), generator=generator).double() for size in sizes],
    }


def measures(net: nn.Sequential, data: Data) -> dict[str, float]:
    """All measures of one network on its training rows, by name."""

    def loss(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return per_sample_loss(Task.MULTICLASS, z, y)

    found = {}
    problem = Problem(net, data.x, data.y, lambda x, y: loss(net(x), y))
    for place, site in zip(PLACES, find_sites(net, data.x[:1], net).values(), strict=True):
        for key, scale in ((FLAT, layer_scale(site, problem)), (PLAIN, None)):
            kappa = layer_curvature(site, problem, scale=scale, budget=Budget(exact=10_000, maximum=False)).kappa
            found[f"{key}, {place} layer"] = float(kappa.mean())
    land = _landscape.Landscape(net, loss, data.x, data.y)
    values = torch.linalg.eigvalsh(_hessian.full_matrix(_hessian.Hessian(land))[0])
    found |= {TRACE: float(values.sum()), TOP: float(values[-1])}
    for kind, scale, rho, sigma in (
        ("", torch.ones_like(land.weights), 0.05, 0.01),
        (", adaptive", land.weights.abs(), 0.5, 0.1),
    ):
        worst = _sharpness.worst_case(land, scale, rho, steps=20, restarts=1, generator=torch.Generator())
        found[f"worst-case sharpness{kind} ({'ASAM' if kind else 'SAM'})"] = worst.rise
        found[f"average-case sharpness{kind}"] = _sharpness.average_case(land, scale, sigma, draws=20, seed=0).value
    found["Fisher-Rao norm"] = float(_norms.fisher_rao(Task.MULTICLASS, *_norms.derivative_along_weights(land)).mean())
    return found


def outcome(found: Found) -> Outcome:
    """Tables, figure and verdict."""
    nets, (first, *_) = list(dict.fromkeys(net for net, _ in found)), found.values()
    changes = {
        (net, which): {key: found[net, which][key] / found[net, BEFORE][key] - 1 for key in first}
        for net, which in found
    }
    worst = max(abs(change) for one in changes.values() for key, change in one.items() if key.startswith(FLAT))
    least = {
        key: min(ratio(found[net, BEFORE][key], found[net, which][key]) for net in nets for which in (LAYER, NEURON))
        for key in (TRACE, TOP)
    }
    criteria = [
        Criterion(
            f"normalised relative flatness changes by at most {EXACT:g} of itself", f"{worst:.1e}", worst <= EXACT
        ),
        *(
            Criterion(f"{key} changes by more than a factor of {FACTOR:g}", f"{factor:.1f} at least", factor > FACTOR)
            for key, factor in least.items()
        ),
    ]
    notes = [
        "Relative flatness that is not normalised bears one factor for a layer, not one for every neuron.",
        "Adaptive sharpness and the Fisher-Rao norm do not change either: they too are in proportion to the weights. "
        "Invariance is needed to explain generalization and proves nothing by itself.",
    ]
    rows: list[tuple[Cell, ...]] = [
        (
            key,
            *(
                cell
                for net in nets
                for cell in (found[net, BEFORE][key], changes[net, LAYER][key], changes[net, NEURON][key])
            ),
        )
        for key in first
    ]
    heads = ("before", "change, layer", "change, neurons")
    columns = ("measure", *(f"{net}: {head}" for net in nets for head in heads))
    title = f"Measures before, and their relative change by {LAYER} and by {NEURON}"
    table = Table("measures", title, columns, rows)
    return Outcome(criteria, [table], figure(changes), notes)


def ratio(a: float, b: float) -> float:
    """The larger over the smaller of two numbers above 0.

    >>> ratio(2.0, 8.0), ratio(8.0, 2.0)
    (4.0, 4.0)
    """
    return max(a, b) / min(a, b) if min(a, b) > 0 else math.inf


def figure(changes: Found) -> Figure:
    """How many times larger each measure has become."""
    drawing = Figure(figsize=(8.5, 5), layout="constrained")
    axes = drawing.subplots()
    shown = {key: change for key, change in changes.items() if key[1] != BEFORE}
    for ((net, which), change), marker in zip(shown.items(), "osD^", strict=True):
        face = "none" if which == LAYER else "0.4"
        times = [1 + value for value in change.values()]
        axes.scatter(times, list(change), marker=marker, c=face, edgecolors="black", label=f"{net}, {which}")
    axes.axvline(1, color="0.5", linewidth=0.8)
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.set_xlabel("after the rescaling over before (1: unchanged)")
    drawing.legend(frameon=False, fontsize="small", loc="outside upper center", ncols=2)
    return drawing


if __name__ == "__main__":
    main(study)
