"""Relative flatness of a last linear layer in closed form, per sample.

Source: Petzka, Kamp, Adilova, Sminchisescu, Boley, NeurIPS 2021, "Relative Flatness and Generalization"
(arXiv 2001.00939), their definition of relative flatness. For a layer z = W phi + b with W (d, m), empirical
loss E(W) and the (m, m) blocks [H_st]_uv = d2E / dW_su dW_tv of its Hessian:

    trace    kappa     = sum_{s,t} <w_s, w_t> Tr(H_st)
    maximum  kappa_max = sum_s ||w_s||^2 lambda_max(H_ss)         (the authors' code: diagonal blocks only)

Low means flat. With Hz_i (d, d) the Hessian of sample i's loss in its pre-activation z_i, H_st is the mean of
(Hz_i)_st phi_i phi_i^T, hence kappa = mean_i kappa_i with kappa_i = ||phi_i||^2 Tr(W^T Hz_i W). The (dm, dm)
Hessian is never formed. The bias b is not part of W. Labels do not enter. Both measures are in the unit of the loss.

Features are (n, m), weight (d, m), logits (n, d); any floating dtype, on any one device. Sums are float64, rows
are streamed, so memory beyond the inputs does not grow with n except for the (n,) result.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

import torch

from assessor_checks._spectrum import chunk_rows_for, top_eigenvalues

_PAIRWISE = 256  # classes up to which all pairwise distances cost less than one product with W


class Loss(StrEnum):
    """Loss as a function of the pre-activations z: what fixes Hz."""

    SOFTMAX = "softmax cross-entropy"
    SIGMOID = "sigmoid cross-entropy"
    SQUARED = "half the squared error"


class MaxFlatness(NamedTuple):
    """kappa_max with `error`: how far it may lie below the exact value, in the same unit."""

    value: float
    error: float


def per_sample_trace(
    loss: Loss, features: torch.Tensor, weight: torch.Tensor, logits: torch.Tensor, *, chunk_rows: int | None = None
) -> torch.Tensor:
    """kappa_i of every sample, for any of the losses; their mean is the layer's relative flatness.

    Args:
        loss: Which loss; fixes Hz.
        features: (n, m) inputs of the layer.
        weight: (d, m) weights of the layer; d = 1 for a sigmoid.
        logits: (n, d) pre-activations.
        chunk_rows: Rows worked on at once; None chooses by device. Changes no number but for rounding.

    Returns:
        (n,) float64, each at least 0.
    """
    if loss is Loss.SOFTMAX:
        return per_sample_trace_softmax(features, weight, logits, chunk_rows=chunk_rows)
    if loss is Loss.SIGMOID:
        return per_sample_trace_sigmoid(features, weight, logits, chunk_rows=chunk_rows)
    return per_sample_trace_squared(features, weight, chunk_rows=chunk_rows)


def per_sample_trace_softmax(
    features: torch.Tensor, weight: torch.Tensor, logits: torch.Tensor, *, chunk_rows: int | None = None
) -> torch.Tensor:
    """kappa_i = ||phi_i||^2 Var_{p_i}(w): the class weights' variance under the predicted distribution.

    Softmax cross-entropy has Hz = diag(p) - p p^T, so Tr(W^T Hz W) = sum_s p_s ||w_s||^2 - ||sum_s p_s w_s||^2.
    That difference cancels where one class dominates. Used instead, both without cancellation at p = 1 - 1e-12:

    - up to 256 classes and d <= m: Var = 1/2 sum_st p_s p_t ||w_s - w_t||^2, a sum of terms none of which is
      negative, with the distances taken from differences; relative error a few roundings. Cost n d^2.
    - else: centred at the predicted class c, Var = M - ||r||^2 with M = sum_s p_s ||w_s - w_c||^2 and
      r = sum_s p_s (w_s - w_c). By Cauchy-Schwarz ||r||^2 <= (1 - p_c) M, so Var >= M / d and no more than a
      factor d of precision is lost. Cost n d m, one forward pass of the layer.

    Args:
        features: (n, m) inputs of the layer.
        weight: (d, m), one row a class.
        logits: (n, d).
        chunk_rows: Rows worked on at once; None chooses by device.

    Returns:
        (n,) float64 kappa_i >= 0, in nats.

    >>> kappa = per_sample_trace_softmax(torch.ones(1, 1), torch.tensor([[0.0], [2.0]]), torch.zeros(1, 2))
    >>> kappa.item()  # variance of 0 and 2, each with probability 1/2
    1.0
    """
    classes, width = weight.shape
    variance = _variance_pairwise if classes <= min(width, _PAIRWISE) else _variance_centred
    spread = variance(weight.double())
    return _streamed(
        lambda phi, z: _squared_norms(phi) * spread(z.double().softmax(dim=1)), features, logits, chunk_rows
    )


def per_sample_trace_sigmoid(
    features: torch.Tensor, weight: torch.Tensor, logits: torch.Tensor, *, chunk_rows: int | None = None
) -> torch.Tensor:
    """kappa_i = ||phi_i||^2 ||w||^2 p_i (1 - p_i): one output z with a sigmoid, Hz = p (1 - p).

    Equal to the softmax over the two logits (0, z), whose first weight vector is 0.

    Args:
        features: (n, m) inputs of the layer.
        weight: (1, m).
        logits: (n, 1).
        chunk_rows: Rows worked on at once; None chooses by device.

    Returns:
        (n,) float64 kappa_i >= 0, in nats.
    """
    scale = weight.double().square().sum()
    return _streamed(
        lambda phi, z: _squared_norms(phi) * _sigmoid_curvature(z).squeeze(1) * scale, features, logits, chunk_rows
    )


def per_sample_trace_squared(
    features: torch.Tensor, weight: torch.Tensor, *, chunk_rows: int | None = None
) -> torch.Tensor:
    """kappa_i = ||phi_i||^2 ||W||_F^2: loss ||z - y||^2 / 2, Hz = I; the paper's link to ridge regression.

    Args:
        features: (n, m) inputs of the layer.
        weight: (d, m).
        chunk_rows: Rows worked on at once; None chooses by device.

    Returns:
        (n,) float64 kappa_i >= 0, in squared units of the target.
    """
    scale = weight.double().square().sum()
    return _streamed(lambda phi, _: _squared_norms(phi) * scale, features, features, chunk_rows)


def per_sample_loss(loss: Loss, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(n,) float64 loss of every sample whose Hessian the functions above take.

    Args:
        loss: Which loss.
        logits: (n, d), d = 1 for a sigmoid or squared error.
        labels: (n,) class index, or target for squared error.

    Returns:
        In nats, or in squared units of the target.
    """
    z = logits.double()
    if loss is Loss.SQUARED:
        return (z[:, 0] - labels.double()).square() / 2
    if loss is Loss.SIGMOID:
        z = torch.cat([torch.zeros_like(z), z], dim=1)
    return torch.nn.functional.cross_entropy(z, labels, reduction="none")


def max_flatness(loss: Loss, features: torch.Tensor, weight: torch.Tensor, logits: torch.Tensor) -> MaxFlatness:
    """kappa_max = sum_s ||w_s||^2 lambda_max(H_ss), H_ss = mean_i (Hz_i)_ss phi_i phi_i^T.

    (Hz)_ss is p_s (1 - p_s) for a softmax, p (1 - p) for a sigmoid, 1 for half the squared error.

    min(n, m) <= 128: all eigenvalues of H_ss, or of the (n, n) Gram matrix with the same spectrum, whichever is
    smaller. Else Lanczos with full reorthogonalisation for all classes at once, H_ss applied and never formed:
    two products of the layer's size a step, against m / 2 forward passes to form it. With rho the residual of the
    Ritz pair and g its distance to the next one, the value is at most rho^2 / g (where g > 2 rho, else rho) too small;
    it stops where that is 1e-10 of the value in every class, or after 300 steps. The bound holds unless the fixed
    random start is orthogonal to the top eigenvector, which has probability 0.

    Args:
        loss: Which loss.
        features: (n, m) inputs of the layer.
        weight: (d, m).
        logits: (n, d).

    Returns:
        Value and error bound, in the loss's unit.
    """
    norms = weight.double().square().sum(dim=1)
    if loss is Loss.SQUARED:
        top, error = top_eigenvalues(features, features[:, :1], lambda z: torch.ones_like(z, dtype=torch.float64))
        return MaxFlatness(float(norms.sum() * top[0]), float(norms.sum() * error[0]))
    curvature = _softmax_curvature if loss is Loss.SOFTMAX else _sigmoid_curvature
    top, error = top_eigenvalues(features, logits, curvature)
    return MaxFlatness(float(norms @ top), float(norms @ error))


def weight_decay_trace(weight: torch.Tensor, alpha: float) -> float:
    """What a penalty alpha ||W||_F^2 in the loss adds to kappa: its H_st is 2 alpha I_m for s = t, else 0.

    Hence 2 alpha m sum_s ||w_s||^2. (The authors' code adds 2 alpha sum_s ||w_s||^2, which is the term of
    kappa_max, or of kappa with traces divided by m.) PyTorch's `weight_decay` is 2 alpha.
    """
    return 2 * alpha * weight.shape[1] * float(weight.double().square().sum())


def weight_decay_max(weight: torch.Tensor, alpha: float) -> float:
    """What a penalty alpha ||W||_F^2 in the loss adds to kappa_max: 2 alpha sum_s ||w_s||^2."""
    return 2 * alpha * float(weight.double().square().sum())


def normalise_neurons(features: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Features divided by their standard deviation over the data, columns of W multiplied by it.

    As the authors measure it. Afterwards kappa does not change when each feature is rescaled by a factor of its own
    and W undoes that; without it only a factor common to all features cancels. A feature that is constant over the
    data (a dead unit, for instance) is left out, with its column: together they act as a bias, which is not part of W,
    and kept they would change kappa under a rescaling that changes no output. The authors' code does so too, since it
    multiplies that column by its standard deviation 0.

    Args:
        features: (n, m).
        weight: (d, m).

    Returns:
        Features (n, m) and weight (d, m), in their own dtypes, constant features and their columns 0.
    """
    scale = feature_scale(features)
    inverse = torch.where(scale > 0, 1 / scale, 0.0)
    return features * inverse.to(features.dtype), weight * scale.to(weight.dtype)


def feature_scale(features: torch.Tensor) -> torch.Tensor:
    """(m,) float64 standard deviation of each feature over the rows (divisor n), exactly 0 where it is constant."""
    count, rows = len(features), chunk_rows_for(features, None)
    mean = torch.stack([chunk.double().sum(dim=0) for chunk in features.split(rows)]).sum(dim=0) / count
    squares = torch.zeros_like(mean)
    constant = torch.ones_like(mean, dtype=torch.bool)
    for chunk in features.split(rows):
        squares += (chunk.double() - mean).square().sum(dim=0)
        constant &= (chunk == features[0]).all(dim=0)
    return torch.where(constant, 0.0, (squares / count).sqrt())


def _variance_pairwise(weight: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Function p (rows, d) -> 1/2 sum_st p_s p_t ||w_s - w_t||^2."""
    half = torch.cdist(weight, weight, compute_mode="donot_use_mm_for_euclid_dist").square() / 2
    return lambda p: torch.linalg.vecdot(p @ half, p)


def _variance_centred(weight: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Function p (rows, d) -> sum_s p_s ||w_s - w_c||^2 - ||sum_s p_s (w_s - w_c)||^2, c the most probable class.

    The weights' common mean is taken out first: it changes nothing and would only cost digits.
    """
    weight = weight - weight.mean(dim=0)
    squares = weight.square().sum(dim=1)

    def variance(p: torch.Tensor) -> torch.Tensor:
        top = p.argmax(dim=1)
        rest = p.scatter(1, top[:, None], 0.0)  # the predicted class has distance 0: its 1 - eps never enters
        mass, centre = rest.sum(dim=1), weight[top]
        drift = rest @ weight - mass[:, None] * centre
        second = rest @ squares - mass * squares[top] - 2 * torch.linalg.vecdot(drift, centre)
        found: torch.Tensor = (second - drift.square().sum(dim=1)).clamp_min(0.0)
        return found

    return variance


def _softmax_curvature(logits: torch.Tensor) -> torch.Tensor:
    """Float64 p (1 - p); 1 - p of the most probable class is the sum of the others, which does not cancel."""
    p = logits.double().softmax(dim=1)
    top = p.argmax(dim=1, keepdim=True)
    rest = p.scatter(1, top, 0.0).sum(dim=1, keepdim=True)
    return p * (1 - p).scatter(1, top, rest)


def _sigmoid_curvature(logits: torch.Tensor) -> torch.Tensor:
    return logits.double().sigmoid() * (-logits.double()).sigmoid()


def _squared_norms(features: torch.Tensor) -> torch.Tensor:
    norms: torch.Tensor = torch.linalg.vector_norm(features.double(), dim=1)
    return norms.square()


def _streamed(
    of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    features: torch.Tensor,
    logits: torch.Tensor,
    chunk_rows: int | None,
) -> torch.Tensor:
    rows = chunk_rows_for(features, chunk_rows, logits.shape[1])
    return torch.cat([of(phi, z) for phi, z in zip(features.split(rows), logits.split(rows), strict=True)])
