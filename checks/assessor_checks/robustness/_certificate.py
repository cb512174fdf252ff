"""How far a row's features may move before its class can change, and how far its loss can rise meanwhile.

For the last layer z = W phi + b with softmax cross-entropy l, a change D of the features changes the logits by u = W D.
With p = softmax(z), w_bar = sum_s p_s w_s, c_s = w_s - w_y:

    l(z + u) = l(z) + E_p u - u_y + K,   K = log E_p exp(u - E_p u)

    |E_p u - u_y| <= ||D|| g,     g = ||w_bar - w_y||
    u_s - E_p u   <= ||D|| b,     b = max_s ||w_s - w_bar||
    Var_p(u)      <= ||D||^2 v,   v = lambda_max(Cov_p(w)) <= Tr(Cov_p(w)) = kappa / ||phi||^2

where kappa is the row's relative flatness. Among all centred variables of variance at most v ||D||^2 that stay below
b ||D|| the largest E exp has the one with two values (Bennett 1962), hence for ||D|| <= e

    l(z + u) <= B(e) = l + e g + log((1 - q) exp(-e v / b) + q exp(e b)),   q = v / (b^2 + v),

which grows with e. While B(e) < log 2 the true class keeps more than half of the probability. The plain margin
certificate min_s (z_y - z_s) / ||c_s|| is exact: at that distance the class does change. So the flatness certificate
is never the larger one (for two classes they are equal); what it adds is B. Proofs: docs/flatness-certificate.md.

Features are (n, m), weight (d, m), bias (d,), labels (n,) int64, on any one device. All work is float64. Rounding never
turns against a claim: logits and moments are widened by bounds on their error.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import binom

from assessor_checks._intervals import CONFIDENCE, Estimate

LOG_2 = math.log(2)
EIGEN_CLASSES = 32  # classes up to which lambda_max is computed; beyond, the trace stands for it
_BISECTIONS = 60  # halvings of [0, margin radius]: all that float64 can tell apart
_ROUNDING = 1e-12  # relative error allowed for sums over classes, far above what float64 makes of them
_UNIT = 2.0**-53
_ENTRIES = 2**21  # float64 entries of a chunk of rows


class Certificate(NamedTuple):
    """What bounds the loss around each row; all (n,) float64.

    Attributes:
        loss: l, cross-entropy at the row itself, in nats.
        slope: g, length of w_bar - w_y.
        reach: b, length of the longest w_s - w_bar.
        variance: v, largest variance of the class weights along any direction, under the predicted distribution.
        margin: Radius in feature space within which the class stays the true one; 0 where it is not, inf where no
            change of the features changes it.
        length: Length of the row's features.
    """

    loss: torch.Tensor
    slope: torch.Tensor
    reach: torch.Tensor
    variance: torch.Tensor
    margin: torch.Tensor
    length: torch.Tensor


def certify(
    features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, labels: torch.Tensor
) -> Certificate:
    """Margin radius and the terms of the loss bound, row by row.

    A single output (d = 1) is the logit of class 1 of two; it is taken as the two logits (0, z).

    Args:
        features: (n, m) inputs of the last linear layer.
        weight: (d, m), one row a class.
        bias: (d,) or None.
        labels: (n,) true classes.

    Returns:
        Terms for `loss_bound` and `flatness_radius`; cost n d (m + d), and n d^3 up to 32 classes.

    >>> eye = torch.eye(2)
    >>> certify(torch.tensor([[3.0, 1.0]]), eye, None, torch.tensor([0])).margin.item()  # (3 - 1) / sqrt(2)
    1.41421356...
    """
    weight = weight.double()
    bias = weight.new_zeros(len(weight)) if bias is None else bias.double()
    if len(weight) == 1:
        weight, bias = torch.cat([torch.zeros_like(weight), weight]), torch.cat([torch.zeros_like(bias), bias])
    apart = torch.cdist(weight, weight, compute_mode="donot_use_mm_for_euclid_dist")
    d, m = weight.shape
    rows = max(1, _ENTRIES // max(m, d * d if d <= EIGEN_CLASSES else d))
    parts = [
        _certify(phi.double(), weight, bias, y, apart)
        for phi, y in zip(features.split(rows), labels.split(rows), strict=True)
    ]
    return Certificate(*map(torch.cat, zip(*parts, strict=True)))


def loss_bound(terms: Certificate, radius: torch.Tensor | float) -> torch.Tensor:
    """B(radius): the loss is nowhere larger within this distance of the row's features.

    Args:
        terms: From `certify`.
        radius: One distance in feature space, or one a row (n,), at least 0 and finite.

    Returns:
        (n,) float64 nats; holds for rows of any class and grows with the radius.
    """
    radius = torch.as_tensor(radius, dtype=torch.float64, device=terms.loss.device)
    tiny = torch.finfo(torch.float64).tiny  # for weights that are all equal: 0 / tiny
    share = terms.variance / (terms.reach.square() + terms.variance).clamp_min(tiny)
    below = torch.log1p(-share) - radius * terms.variance / terms.reach.clamp_min(tiny)
    growth = torch.logaddexp(below, share.log() + radius * terms.reach)
    found: torch.Tensor = terms.loss + radius * terms.slope + growth.clamp_min(0.0)
    return found


def flatness_radius(terms: Certificate) -> torch.Tensor:
    """Largest distance in feature space at which `loss_bound` stays under log 2, from below.

    Bisection of [0, margin] for all rows at once: at the margin the bound is at least log 2, since the class changes
    there.

    Args:
        terms: From `certify`.

    Returns:
        (n,) float64, at most the margin radius; 0 where the row is misclassified or has p_y <= 1/2.
    """
    under = LOG_2 - _ROUNDING
    low, high = torch.zeros_like(terms.margin), terms.margin
    whole = torch.isinf(high)  # all class weights are equal: the loss never changes
    high = torch.where(whole, 0.0, high)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        holds = loss_bound(terms, middle) < under
        low, high = torch.where(holds, middle, low), torch.where(holds, high, middle)
    low = torch.where(whole, torch.inf, low)
    return torch.where(terms.loss < under, low, 0.0)


def median(values: np.ndarray) -> Estimate | None:
    """Median with its distribution-free interval between order statistics, coverage at least 95 %.

    Args:
        values: (n,), inf allowed.

    Returns:
        None below 6 values, where no such interval exists.

    >>> median(np.arange(9.0))
    Estimate(value=4.0, low=1.0, high=7.0)
    """
    tail = (1 - CONFIDENCE) / 2
    below = int(binom.ppf(tail, len(values), 0.5)) if len(values) else 0
    if below < 1:
        return None
    ordered = np.sort(values)
    return Estimate(float(np.median(ordered)), float(ordered[below - 1]), float(ordered[-below]))


def _certify(
    phi: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, labels: torch.Tensor, apart: torch.Tensor
) -> Certificate:
    z = phi @ weight.mT + bias
    true = labels[:, None]
    length = torch.linalg.vector_norm(phi, dim=1)
    size = length * torch.linalg.vector_norm(weight, dim=1).max() + bias.abs().max()
    slack = 2 * (phi.shape[1] + 3) * _UNIT * size[:, None]  # error of a difference of two logits
    behind = (z.gather(1, true) - z - slack).scatter(1, true, torch.inf)
    distance = apart[labels]
    ratio = (behind / distance).nan_to_num(nan=0.0, posinf=torch.inf, neginf=0.0).clamp_min(0.0)
    odds = (-behind).logsumexp(dim=1)
    loss = torch.logaddexp(odds, torch.zeros_like(odds))  # softplus would drop what is beyond its threshold
    moments = _moments(z.softmax(dim=1), true, distance, apart, _ROUNDING + 4 * slack[:, 0])
    return Certificate(loss, *moments, ratio.amin(dim=1) * (1 - _ROUNDING), length)


def _moments(
    p: torch.Tensor, true: torch.Tensor, distance: torch.Tensor, apart: torch.Tensor, wobble: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """g, b and v from probabilities and the distances between class weights alone, none of them too small.

    With c_s = w_s - w_y the inner products <c_s, c_t> follow from the three distances, and everything is a sum over
    the classes other than y, whose small probabilities keep all their digits. `wobble` (n,) bounds the relative error
    of the probabilities.
    """
    squares = apart.square()
    from_true = distance.square()
    rest = p.scatter(1, true, 0.0)
    mass = rest.sum(dim=1)
    second = torch.linalg.vecdot(rest, from_true)  # sum_s p_s ||c_s||^2
    along = (mass[:, None] * from_true + second[:, None] - rest @ squares) / 2  # <c_s, w_bar - w_y>
    drift = torch.linalg.vecdot(rest, along).clamp_min(0.0)  # ||w_bar - w_y||^2
    slope = (drift + wobble * mass * second).sqrt()
    furthest = (from_true - 2 * along + drift[:, None]).amax(dim=1) + wobble * (second + from_true.amax(dim=1))
    variance = (second - drift).clamp_min(0.0)
    if p.shape[1] <= EIGEN_CLASSES:
        inner = (from_true[:, :, None] + from_true[:, None, :] - squares) / 2
        inner = inner - along[:, :, None] - along[:, None, :] + drift[:, None, None]
        root = p.sqrt()
        top = torch.linalg.eigvalsh(root[:, :, None] * inner * root[:, None, :])[:, -1]
        variance = torch.minimum(variance, top.clamp_min(0.0))
    return slope, furthest.sqrt(), variance + wobble * second
