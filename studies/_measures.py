"""Measures from the literature that are meant to tell of the generalization gap, of one network on its training rows.

Oriented so that more should mean a larger gap. Radii and noise are the defaults of the checks, steps and draws fewer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from _networks import Data
from torch import nn

from assessor.contract import Task
from assessor_checks import _flatness as flatness
from assessor_checks._layers import LastLayer, find_sites, last_linear
from assessor_checks._losses import per_sample_loss
from assessor_checks.generalization import _hessian, _lanczos, _landscape, _norms, _sharpness
from assessor_checks.generalization._curvature import Budget, Problem, layer_curvature, layer_scale
from assessor_checks.generalization._reference_models import flatness_of

FLAT, TRACE = "relative flatness", "Hessian trace"


class Case(NamedTuple):
    """A network on its training rows, ready to be measured."""

    net: nn.Sequential
    x: torch.Tensor
    y: torch.Tensor
    layer: LastLayer
    land: _landscape.Landscape


def case_of(net: nn.Sequential, data: Data) -> Case:
    """The network with its last layer's features and its loss surface."""
    loss = partial(per_sample_loss, Task.MULTICLASS)
    return Case(net, data.x, data.y, last_linear(net, data.x), _landscape.Landscape(net, loss, data.x, data.y))


def plain(case: Case) -> float:
    """Relative flatness of the last layer, features as they are."""
    layer = case.layer
    kappa = flatness.per_sample_trace(flatness.Loss.SOFTMAX, layer.features, layer.weight, layer.logits)
    return float(kappa.mean())


def neurons(case: Case) -> float:
    """The measure of Petzka et al. 2019, summed over neurons, features normalised."""
    phi, weight = flatness.normalise_neurons(case.layer.features, case.layer.weight)
    return float(flatness.neuron_traces(flatness.Loss.SOFTMAX, [(phi, case.layer.logits)], weight).sum())


def hidden(case: Case) -> float:
    """Normalised relative flatness of the layer before the last, from 4 random directions a row."""
    problem = Problem(case.net, case.x, case.y, lambda x, y: per_sample_loss(Task.MULTICLASS, case.net(x).double(), y))
    site = find_sites(case.net, case.x[:1], case.net)["2"]
    budget = Budget(exact=0, probes=4, maximum=False)
    return float(layer_curvature(site, problem, scale=layer_scale(site, problem), budget=budget).kappa.mean())


def last_trace(case: Case) -> float:
    """Trace of the last layer's Hessian, which the authors compare with: mean_i ||phi_i||^2 Tr(Hz_i)."""
    layer = case.layer
    found = flatness.trace_function(flatness.Loss.SOFTMAX, layer.weight)(layer.features, layer.logits)
    return float((found.diagonal().sum(dim=1) * found.norms[:, 0]).mean())


def trace(case: Case) -> float:
    """Trace of the whole Hessian by Hutchinson's estimate from 20 directions."""
    empty, generator = case.land.weights.new_zeros(0, case.land.parameters), torch.Generator().manual_seed(0)
    return float(_hessian.drawn_forms(_hessian.Hessian(case.land), empty, 20, generator)[0].mean())


def top(case: Case) -> float:
    """Largest eigenvalue of the whole Hessian, 12 Lanczos steps."""
    start = torch.randn(1, case.land.parameters, generator=torch.Generator().manual_seed(0))
    return float(_lanczos.ritz(_lanczos.lanczos(_hessian.Hessian(case.land), start, 12), 0)[0][-1])


def scale_of(case: Case, adaptive: bool) -> torch.Tensor:
    """What a parameter's change is measured by: 1, or its size."""
    return case.land.weights.abs() if adaptive else torch.ones_like(case.land.weights)


def worst(case: Case, *, adaptive: bool) -> float:
    """Rise of the loss at the worst point of the ball of SAM (0.05) or ASAM (0.5)."""
    scale, radius = scale_of(case, adaptive), 0.5 if adaptive else 0.05
    generator = torch.Generator().manual_seed(0)
    return _sharpness.worst_case(case.land, scale, radius, steps=10, restarts=1, generator=generator).rise


def average(case: Case, *, adaptive: bool) -> float:
    """Mean rise of the loss under noise of 0.01, or of 0.1 of each weight."""
    sigma = 0.1 if adaptive else 0.01
    return _sharpness.average_case(case.land, scale_of(case, adaptive), sigma, draws=10, seed=0).value


def pac_bayes(case: Case, *, adaptive: bool) -> float:
    """1 / sigma^2 of the noise that raises the loss by 0.1."""
    found = _sharpness.tolerated_noise(case.land, scale_of(case, adaptive), 0.1, draws=3, seed=0).sigma
    return 0.0 if found is None else found**-2


def fisher_rao(case: Case) -> float:
    """<w, F w>."""
    return float(_norms.fisher_rao(Task.MULTICLASS, *_norms.derivative_along_weights(case.land)).mean())


def spectral(case: Case) -> float:
    """Logarithm of the product of the layers' spectral norms."""
    return math.fsum(math.log(layer.spectral) for layer in _norms.layer_norms(case.net, case.x[:1]))


def margin(case: Case) -> float:
    """Minus the 10 % quantile of the margins."""
    return -float(_norms.margins(case.layer.logits, case.y).quantile(0.1))


def path(case: Case) -> float:
    """Path norm."""
    return float(_norms.path_norm(case.net, case.x[:1]))


MEASURES: dict[str, Callable[[Case], float]] = {
    FLAT: lambda case: float(flatness_of(Task.MULTICLASS, case.layer).mean()),
    "relative flatness, not normalised": plain,
    "relative flatness, hidden layer": hidden,
    "neuron flatness (2019)": neurons,
    TRACE: trace,
    "Hessian trace, last layer": last_trace,
    "top eigenvalue": top,
    "worst-case sharpness (SAM)": partial(worst, adaptive=False),
    "worst-case sharpness, adaptive (ASAM)": partial(worst, adaptive=True),
    "average-case sharpness": partial(average, adaptive=False),
    "average-case sharpness, adaptive": partial(average, adaptive=True),
    "PAC-Bayes flatness": partial(pac_bayes, adaptive=False),
    "PAC-Bayes flatness, adaptive": partial(pac_bayes, adaptive=True),
    "Fisher-Rao norm": fisher_rao,
    "minus margin": margin,
    "minus normalised margin": lambda case: margin(case) / math.exp(spectral(case)),
    "spectral norm product": spectral,
    "path norm": path,
    "Frobenius norm": lambda case: float(case.land.weights.norm()),
}
"""By name."""
UNCHANGED = ("PAC-Bayes flatness, adaptive", "Fisher-Rao norm", "minus margin", "path norm")
"""By any rescaling of neurons that changes no output, besides relative flatness itself (see reparameterization.py)."""
RESCALED = [name for name in MEASURES if name not in UNCHANGED]
