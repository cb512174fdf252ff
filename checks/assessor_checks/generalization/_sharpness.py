"""How much the mean loss rises when the parameters are moved: worst case, average case, tolerated noise.

With a scale c > 0 for every parameter, c = 1 (plain) or c = |w| (adaptive: invariant where rescaling the layers of a
ReLU network leaves its function unchanged), and e = c * u entry by entry:

- worst case: max over ||u||_2 <= rho of L(w + e) - L(w). Plain: Foret, Kleiner, Mobahi, Neyshabur 2021 (SAM,
  arXiv 2010.01412); adaptive: Kwon, Kim, Park, Choi 2021 (ASAM, arXiv 2102.11600), ||T_w^-1 e|| <= rho with
  T_w = diag |w|. In u both are a plain ball.
- average case: E L(w + e) - L(w) with u ~ N(0, sigma^2 I). Definitions of both as in Andriushchenko, Croce, Mueller,
  Hein, Flammarion 2023 (arXiv 2302.07011, section 2).
- PAC-Bayes flatness 1 / sigma^2: sigma the largest noise that keeps the average case under a target (Jiang, Neyshabur,
  Mobahi, Krishnan, Bengio 2020, arXiv 1912.02178, (53) and magnitude-aware (61), whose epsilon is 0 here). Jiang et al.
  bound the classification error; here it is the loss.

At a minimum with Hessian H: worst case rho^2 / 2 lambda_max(c H c), average case sigma^2 / 2 tr(c H c).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from assessor.contract import progress
from assessor_checks.generalization._hessian import Crossed, crossed_mean
from assessor_checks.generalization._landscape import Landscape

NARROW = 1.05  # ratio of a bracket's ends at which interpolation in sigma^2 takes over
LEAST, MOST = 2.0**-40, 2.0**20  # noise outside these is not searched


class Worst(NamedTuple):
    """The worst point found.

    Attributes:
        rise: L(w + e) - L(w) there, at least 0: e = 0 is in the ball. A lower bound of the maximum.
        first_order: The rise after the single step along the gradient that SAM takes; may be negative or not finite.
        point: (P,) the e of the worst point.
        broken: Points tried where the loss was NaN or infinite.
    """

    rise: float
    first_order: float
    point: torch.Tensor
    broken: int


def worst_case(
    land: Landscape,
    scale: torch.Tensor,
    radius: float,
    *,
    steps: int,
    restarts: int,
    generator: torch.Generator,
) -> Worst:
    """Projected gradient ascent in the ball, from its centre and from random points of its sphere.

    Every step has the length of the radius, so the first one is SAM's; shorter and shrinking steps found less on
    trained networks, jumping to the sphere at once found less on untrained ones.

    Args:
        land: Loss, rows and weights.
        scale: (P,) c, at least 0.
        radius: rho.
        steps: Gradients a start.
        restarts: Starts.
        generator: Random numbers, on the CPU.

    Returns:
        The worst of all points visited. More restarts with the same seed never find less.
    """
    clean, _ = land.gradient(land.weights)
    best, point = torch.zeros_like(clean), torch.zeros_like(scale)
    first, broken = best, torch.zeros((), dtype=torch.long, device=scale.device)
    for start in range(restarts):
        u = torch.zeros_like(scale) if start == 0 else on_sphere(scale, radius, generator)
        for step in range(steps + 1):
            loss, gradient = land.gradient(land.weights + scale * u)
            rise = loss - clean
            broken += ~rise.isfinite()
            better = rise.isfinite() & (rise > best)
            best, point = torch.where(better, rise, best), torch.where(better, scale * u, point)
            if (start, step) == (0, 1):
                first = rise
            u = _into_ball(u + radius * _unit(scale * gradient), radius)
        progress("starts of the weight attack", start + 1, restarts)
    return Worst(float(best), float(first), point, int(broken))


def _unit(gradient: torch.Tensor) -> torch.Tensor:
    return torch.nan_to_num(gradient / gradient.norm().clamp_min(torch.finfo(gradient.dtype).tiny))


def _into_ball(u: torch.Tensor, radius: float) -> torch.Tensor:
    length: torch.Tensor = u.norm().clamp_min(radius)
    return u * (radius / length)


def on_sphere(like: torch.Tensor, radius: float, generator: torch.Generator) -> torch.Tensor:
    """(P,) a uniformly random point of the sphere."""
    drawn = torch.randn(like.shape, generator=generator, dtype=like.dtype)
    return drawn.mul_(radius / drawn.norm()).to(like.device)


def rises(land: Landscape, scale: torch.Tensor, sigma: float, draws: int, seed: int) -> torch.Tensor:
    """(n, draws) float64 rise of every row's loss, the mean of w + e and w - e, with e = sigma c z, z standard normal.

    The z depend on the seed alone, so that different sigma share them (common random numbers); the mean of both signs
    removes the first order, which averages to nothing.
    """
    clean = land.losses(land.weights)
    found = []
    for draw in range(draws):
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, draw]).generate_state(1)[0]))
        step = sigma * scale * torch.randn(scale.shape, generator=generator, dtype=scale.dtype).to(scale.device)
        found.append((land.losses(land.weights + step) + land.losses(land.weights - step)) / 2 - clean)
        progress("random directions", draw + 1, draws)
    return torch.stack(found, dim=1)


def average_case(land: Landscape, scale: torch.Tensor, sigma: float, *, draws: int, seed: int) -> Crossed:
    """Average-case sharpness with a t interval over draws and rows."""
    found = rises(land, scale, sigma, draws, seed)
    return crossed_mean(torch.full_like(found[:, 0], 1 / land.n), found[:, :0], found)


class Tolerated(NamedTuple):
    """The largest noise that keeps the average rise of the loss at or under a target, with its 95 % interval.

    Each is None where no noise up to 2^20 reaches the target (`high`: where the rise's lower end never does).
    """

    sigma: float | None
    low: float | None
    high: float | None


def tolerated_noise(land: Landscape, scale: torch.Tensor, target: float, *, draws: int, seed: int) -> Tolerated:
    """The noise at which the average case first reaches `target`, searched upwards.

    The interval holds the sigma whose average case is not told apart from the target.

    Args:
        land: Loss, rows and weights.
        scale: (P,) c.
        target: Rise of the mean loss, above 0.
        draws: Pairs of random directions, the same at every sigma.
        seed: Their seed.

    Returns:
        sigma and its interval.
    """
    known: dict[float, Crossed] = {}

    def at(sigma: float) -> Crossed:
        if sigma not in known:
            known[sigma] = average_case(land, scale, sigma, draws=draws, seed=seed)
        return known[sigma]

    start = 2.0**-7
    middle = crossing(lambda sigma: at(sigma).value, target, start)
    if middle is None:
        return Tolerated(None, None, None)
    near = 2.0 ** round(math.log2(middle))
    low = crossing(lambda sigma: _end(at(sigma).high), target, near)
    high = crossing(lambda sigma: _end(at(sigma).low), target, near)
    return Tolerated(middle, None if low is None else min(low, middle), None if high is None else max(high, middle))


def _end(value: float | None) -> float:
    return math.nan if value is None else value


def crossing(curve: Callable[[float], float], target: float, start: float) -> float | None:
    """Where a curve through (0, 0) first exceeds `target` on the way up; None where it does not up to 2^20.

    Values that are not finite count as above. Interpolated in sigma^2 at the end, so exact for a parabola.

    >>> crossing(lambda sigma: 3 * sigma**2, 12.0, 0.125)
    2.0
    """
    low = high = start
    while _above(curve(low), target):
        high, low = low, low / 2
        if low < LEAST:
            return None
    while not _above(curve(high), target):
        low, high = high, high * 2
        if high > MOST:
            return None
    while high / low > NARROW:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if _above(curve(middle), target) else (middle, high)
    rise = curve(high) - curve(low)
    share = (target - curve(low)) / rise if math.isfinite(rise) and rise > 0 else 0.0
    return math.sqrt(low**2 + share * (high**2 - low**2))


def _above(value: float, target: float) -> bool:
    return not value <= target
