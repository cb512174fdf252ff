"""Certificates by randomised smoothing, with as many noisy copies of a row as it needs.

Smoothing turns a classifier f into g(x) = the class that f gives most often to x + N(0, sigma^2 I). If the class is
given with probability p above 1/2, then g gives it to every point within sigma Phi^-1(p) of x, in Euclidean distance
(Cohen, Rosenfeld, Kolter 2019, arXiv 1902.02918, theorem 1 with the runner-up at 1 - p). So a radius R is certified
where p surely lies above Phi(R / sigma).

Instead of a fixed number of copies, each such threshold t is tested after every batch by betting: under p <= t

    E = integral over q in (t, 1) of (q / t)^k ((1 - q) / (1 - t))^(n - k) dPi(q),    k hits among n copies,

is a supermartingale that starts at 1, so that it ever exceeds 2 / alpha with probability alpha / 2 at most (Ville
1939; Waudby-Smith and Ramdas 2024, arXiv 2010.09686; for smoothing: Voracek 2024, arXiv 2406.17830). Pi is
Beta(1/2, 1/2), cut off below t. A row that spends all copies is tested once more by Clopper and Pearson's bound at
alpha / 2. Rising thresholds are tested in order and none after one that does not fall: a row gets a wrong certificate
at any of its radii with probability alpha at most, as the first threshold at or above p would have to fall.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import betainc, betaincinv, betaln, ndtr, xlog1py, xlogy

from assessor.contract import Need, Subject

Draw = Callable[[np.ndarray, int], np.ndarray]
"""Rows (k,) and a number m: answers (k, m) for m noisy copies of each, negative where there is none."""

FIRST = 32  # copies before the first test
_GROWTH = 8  # later tests come after an eighth more copies
_ON_THE_WAY = 0.25  # of all copies: what a row may spend on thresholds between the first and the last
_HOPELESS = 0.001  # chance of giving a row up on a threshold that it exceeds; costs certificates, never wrong ones
_PRIOR = 0.5
_ENTRIES = 2**22  # feature values of noisy copies held at once


class Certified(NamedTuple):
    """What was found for n rows.

    Attributes:
        rung: (n,) number of thresholds, from the first on, that the probability of the row's class surely exceeds.
        copies: (n,) noisy copies used.
    """

    rung: np.ndarray
    copies: np.ndarray


def thresholds_of(radii: np.ndarray, sigma: float) -> np.ndarray:
    """Probabilities above which each radius is certified; radius 0 stands for 1/2, an answer at all.

    >>> thresholds_of(np.array([0.0, 0.5]), 0.5).round(4)
    array([0.5   , 0.8413])
    """
    found: np.ndarray = ndtr(radii / sigma)
    return found


def log_evidence(hits: np.ndarray, copies: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """Logarithm of E for p <= threshold, elementwise; see the module.

    Args:
        hits: k, from 0 to `copies`.
        copies: n.
        threshold: t, strictly between 0 and 1.

    Returns:
        log E; -inf where it is too small for a float.

    >>> bool(log_evidence(np.array(0), np.array(0), np.array(0.9)).round(12) == 0)
    True
    """
    a, b = hits + _PRIOR, copies - hits + _PRIOR
    with np.errstate(divide="ignore"):
        mixed = betaln(a, b) + np.log(betainc(b, a, 1 - threshold))
    prior = betaln(_PRIOR, _PRIOR) + np.log(betainc(_PRIOR, _PRIOR, 1 - threshold))
    found: np.ndarray = mixed - prior - xlogy(hits, threshold) - xlog1py(copies - hits, -threshold)
    return found


def lower_bound(hits: np.ndarray, copies: int, alpha: float) -> np.ndarray:
    """Clopper and Pearson's lower bound of a probability, wrong with probability alpha at most, elementwise."""
    found: np.ndarray = np.where(hits > 0, betaincinv(np.maximum(hits, 1), copies - hits + 1, alpha), 0.0)
    return found


def most_certifiable(copies: int, alpha: float) -> float:
    """The greatest threshold that falls where every one of that many copies is a hit."""
    return float(lower_bound(np.array(copies), copies, alpha / 2))


def certify(
    draw: Draw,
    classes: np.ndarray,
    rungs: np.ndarray,
    thresholds: np.ndarray,
    *,
    alpha: float,
    most: int,
    told: Callable[[int], None] = lambda _: None,
) -> Certified:
    """How many thresholds the probability of each row's class surely exceeds.

    Args:
        draw: Asks the model about noisy copies; independent of how `classes` were chosen.
        classes: (n,) class of each row.
        rungs: (n,) number of thresholds that matter for each row, from the first on.
        thresholds: (m,) rising, strictly between 0 and 1.
        alpha: Probability of any wrong certificate of a row, at most.
        most: Copies of a row, at most.
        told: Called with the number of copies after each test.

    Returns:
        The number of thresholds and the copies used.
    """
    n = len(classes)
    rung, hits, copies = (np.zeros(n, dtype=np.int64) for _ in range(3))
    live, done = np.flatnonzero(rungs > 0), 0
    while len(live) and done < most:
        batch = min(most - done, max(FIRST, done // _GROWTH))
        hits[live] += (draw(live, batch) == classes[live, None]).sum(axis=1)
        done += batch
        copies[live] = done
        evidence = log_evidence(hits[live, None], np.array(done), thresholds)
        fallen = evidence >= np.log(2 / alpha)
        if done == most:
            fallen |= lower_bound(hits[live], most, alpha / 2)[:, None] > thresholds
        rung[live] = _climbed(rung[live], fallen, rungs[live])
        live = live[rung[live] < rungs[live]]
        live = live[~_hopeless(hits[live], done, thresholds[rung[live]])]
        if done >= most * _ON_THE_WAY:
            live = live[(rung[live] == 0) | ~_hopeless(hits[live], done, thresholds[rungs[live] - 1])]
        told(done)
    return Certified(rung, copies)


def _climbed(rung: np.ndarray, fallen: np.ndarray, rungs: np.ndarray) -> np.ndarray:
    """Rungs after thresholds fell: those reached before stay, and each next one counts only after all below it."""
    places = np.arange(fallen.shape[1])
    held = fallen | (places < rung[:, None])
    found: np.ndarray = np.minimum(np.cumprod(held, axis=1).sum(axis=1), rungs)
    return found


def _hopeless(hits: np.ndarray, copies: int, threshold: np.ndarray) -> np.ndarray:
    """(k,) whether the probability surely lies below its next threshold: the same bet on misses."""
    found: np.ndarray = log_evidence(copies - hits, np.array(copies), 1 - threshold) >= -np.log(_HOPELESS)
    return found


def noisy(subject: Subject, rows: np.ndarray, scale: np.ndarray, seed: int) -> Draw:
    """Answers of the model for rows with Gaussian noise; on the model's own device where it is a PyTorch module.

    Args:
        subject: Any classifier that answers new inputs.
        rows: (n, ...) floating-point rows, complete.
        scale: Standard deviation of the noise, of a row's shape.
        seed: Of the noise.

    Returns:
        What asks it.
    """
    size = max(1, _ENTRIES // max(1, rows[0].size))
    draw = _noisy_module(subject, rows, scale, seed) if Need.GRADIENTS in subject.offers else None
    rng = np.random.default_rng([seed, 1])

    def plain(which: np.ndarray) -> np.ndarray:
        noise = rng.standard_normal((len(which), *rows.shape[1:]))
        return subject.query((rows[which] + scale * noise).astype(rows.dtype))

    def ask(which: np.ndarray, count: int) -> np.ndarray:
        each = np.repeat(which, count)
        parts = [(draw or plain)(each[start : start + size]) for start in range(0, len(each), size)]
        return np.concatenate(parts).reshape(len(which), count)

    return ask


def _noisy_module(
    subject: Subject, rows: np.ndarray, scale: np.ndarray, seed: int
) -> Callable[[np.ndarray], np.ndarray]:
    import torch

    from assessor.contract import in_batches

    like = subject.tensors("test")[0]
    x = torch.from_numpy(np.ascontiguousarray(rows)).to(like)
    spread = torch.from_numpy(np.ascontiguousarray(scale)).to(like)
    generator = torch.Generator(like.device).manual_seed(seed)

    @torch.no_grad()
    def answers(copies: torch.Tensor) -> torch.Tensor:
        logits = subject.logits(copies)
        return torch.where(logits.isfinite().all(dim=1), logits.argmax(dim=1), -1)

    def draw(which: np.ndarray) -> np.ndarray:
        chosen = x[torch.from_numpy(which).to(x.device)]
        noise = torch.randn(chosen.shape, generator=generator, device=x.device, dtype=x.dtype)
        found: np.ndarray = in_batches(answers, chosen + spread * noise, size=4096, work="forward").cpu().numpy()
        return found

    return draw
