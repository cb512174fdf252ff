"""Square attack: random search without gradients, in squares of an image or in random sets of columns of a table.

Source: Andriushchenko, Croce, Flammarion, Hein 2020, "Square Attack: a query-efficient black-box adversarial attack
via random search" (ECCV, arXiv 1912.00049), algorithms 1 to 3 with the schedule of their section 3.1 for the standard
ensemble of arXiv 2003.01690 (first window 80 % of the features, 5000 queries). A change is kept when it lowers the
margin z_y - max of the other logits. Every row has its own windows. Where inputs are no images (n, C, H, W), random
sets of features take the place of squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch

from assessor.contract import in_batches, progress
from assessor_checks._balls import Ball, Neighbourhood, column, length_of
from assessor_checks._pgd import ROWS, Attack, Goal, Logits, Tally

FIRST_SHARE = 0.8  # of the features in the first window (p_init)
_STAGES = (10, 50, 200, 500, 1000, 2000, 4000)  # queries of 5000 after which the share is halved
_STANDARD = 5000
_COMPACT_EVERY = 25  # queries between removals of fooled rows


def share_at(query: int, queries: int) -> float:
    """Share of the features in a window at a query; with another budget than 5000 the schedule is stretched.

    >>> [share_at(query, 5000) for query in (0, 10, 11, 51, 4001)]
    [0.8, 0.8, 0.4, 0.2, 0.00625]
    """
    at = query * _STANDARD / queries
    halvings = sum(at > stage for stage in _STAGES)
    return FIRST_SHARE / float(2**halvings)


def square(
    logits_of: Logits,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    ball: Ball,
    *,
    queries: int,
    generator: torch.Generator,
) -> Attack:
    """Random search until a row is misclassified or its queries are spent; no gradient is asked for.

    Args:
        logits_of: The model; only its outputs are used.
        inputs: (n, ...) clean rows.
        labels: (n,) true classes.
        ball: Where rows may be moved.
        queries: Points tried a row, after the first.
        generator: Random numbers, on the inputs' device.

    Returns:
        What was found; `flat` is false throughout.
    """
    found = Attack.begun(inputs)

    def some(rows: torch.Tensor) -> torch.Tensor:
        tally = _search(logits_of, ball.near(inputs[rows]), Goal(labels[rows]), queries, generator)
        found.model_rows += tally.model_rows
        return tally.close()

    if len(inputs):
        pool = torch.arange(len(inputs), device=inputs.device)
        found.mark(pool, in_batches(some, pool, size=ROWS, work="forward"))
    return found


@torch.no_grad()
def _search(logits_of: Logits, near: Neighbourhood, goal: Goal, queries: int, generator: torch.Generator) -> Tally:
    tally, propose = Tally(near.clean), _in_box if near.ball.norm == "linf" else _in_ball
    best = _striped(near, generator) if near.ball.norm == "linf" else _tiled(near, generator)
    value = _noted(tally, logits_of, best, goal)
    for query in range(queries):
        if query % _COMPACT_EVERY == 0:
            progress("Square, queries", query, queries)
            if (keep := tally.survivors()) is not None:
                if not len(keep):
                    break
                best, value = best.index_select(0, keep), value[keep]
                near, goal = near.rows(keep), goal.rows(keep)
        tried = propose(best, near, share_at(query, queries), generator)
        reached = _noted(tally, logits_of, tried, goal)
        better = reached > value
        best = torch.where(column(better, best), tried, best)
        value = torch.where(better, reached, value)
    return tally


def _noted(tally: Tally, logits_of: Logits, x: torch.Tensor, goal: Goal) -> torch.Tensor:
    """(n,) minus the margins at x; what is not finite is as bad as can be."""
    logits = logits_of(x)
    tally.note(logits, goal.labels)
    true = goal.labels[:, None]
    margin = logits.scatter(1, true, -torch.inf).amax(dim=1) - logits.gather(1, true).squeeze(1)
    return margin.nan_to_num(-torch.inf, -torch.inf, -torch.inf)


def _striped(near: Neighbourhood, generator: torch.Generator) -> torch.Tensor:
    """Corners of the boxes: an image's columns all up or all down, other features each as they fall."""
    shape = list(near.clean.shape)
    if len(shape) == 4:
        shape[2] = 1
    return torch.where(_uniform(shape, near, generator) < 0.5, near.low, near.high)


def _in_box(best: torch.Tensor, near: Neighbourhood, share: float, generator: torch.Generator) -> torch.Tensor:
    """A window of each row set to its ends: one end for each channel of an image, else one for each feature."""
    window = _window(near, share, 1, generator).mask
    shape = (*best.shape[:2], 1, 1) if best.ndim == 4 else best.shape
    coin = _uniform(shape, near, generator) < 0.5
    return torch.where(window.reshape(len(best), *_grid(best, 1)), torch.where(coin, near.high, near.low), best)


def _in_ball(best: torch.Tensor, near: Neighbourhood, share: float, generator: torch.Generator) -> torch.Tensor:
    """Length moved from a second window, and what is left of the ball's radius, into a first one (algorithm 3)."""
    radius = near.ball.box.radius
    offset = _as_image((best - near.clean) * near.ball.box.per_radius)
    window, second = _window(near, share, 3, generator), _window(near, share, 3, generator).mask
    first, pattern = window.mask, _pattern(window, near, generator)
    left = (1 - _squares(offset).sum(dim=1, keepdim=True)).clamp_min(0.0)
    within = _squares(offset * (first | second))
    sign = _signs((*offset.shape[:2], 1, 1), near, generator)
    fresh = (_unit(offset * first) + sign * _unit(pattern)) * _as_image((radius > 0)[None])
    fresh = _unit(fresh) * (within + left / offset.shape[1]).sqrt()
    moved = torch.where(first, fresh, offset * ~second)
    return near.inside(torch.addcmul(near.clean, moved.reshape(best.shape), radius))


def _tiled(near: Neighbourhood, generator: torch.Generator) -> torch.Tensor:
    """Points on the surface of the balls: an image in tiles of the pattern, other features each up or down."""
    clean = near.clean
    if clean.ndim != 4:
        offset = _signs(clean.shape, near, generator)
    else:
        rows, height, width = (*clean.shape[:2],), clean.shape[2], clean.shape[3]
        side = max(min(height, width) // 5, min(3, height, width))
        down, across = -(-height // side), -(-width // side)
        signs = _signs((*rows, down, across), near, generator)
        signs = signs.repeat_interleave(side, 2).repeat_interleave(side, 3)
        offset = (signs * pattern_of(side).to(clean).repeat(down, across))[..., :height, :width]
    offset = offset * (near.ball.box.radius > 0)
    offset = offset / column(length_of(offset).clamp_min(1e-30), clean)
    return near.inside(torch.addcmul(clean, offset, near.ball.box.radius))


def pattern_of(side: int) -> torch.Tensor:
    """(side, side) of length 1: a bump in the upper half and its opposite in the lower (supplement, algorithm 3).

    >>> pattern_of(2)
    tensor([[ 0.1387,  0.6934],
            [-0.1387, -0.6934]])
    """
    upper, lower = _bump(side // 2, side), _bump(side - side // 2, side)
    found = torch.cat([upper / upper.norm() if len(upper) else upper, -lower / lower.norm()])
    whole: torch.Tensor = found / found.norm()
    return whole


def _bump(height: int, width: int) -> torch.Tensor:
    """Sum over k of 1 / (k + 1)^2 within k of the centre."""
    size = max(height, width) // 2 + 1
    from_centre = torch.maximum(
        (torch.arange(height) - height // 2).abs()[:, None], (torch.arange(width) - width // 2).abs()[None]
    )
    heights = (1 / torch.arange(1, size + 1) ** 2).flip(0).cumsum(0).flip(0)
    found: torch.Tensor = heights[from_centre]
    return found


class _Window(NamedTuple):
    """One window a row: (n, 1, H, W) bool, and for images its side and its upper left corners (n, 1)."""

    mask: torch.Tensor
    side: int = 0
    top: torch.Tensor | None = None
    left: torch.Tensor | None = None


def _window(near: Neighbourhood, share: float, least: int, generator: torch.Generator) -> _Window:
    """Windows of this share of the features: squares of images, at least `least` wide, else random sets."""
    clean = near.clean
    if clean.ndim != 4:
        noise = _uniform((len(clean), 1, clean[0].numel(), 1), near, generator)
        return _Window(noise <= noise.amin(dim=2, keepdim=True).clamp_min(share))
    height, width = clean.shape[2:]
    side = min(max(round((share * height * width) ** 0.5), least), height, width)
    corner = _uniform((2, len(clean), 1), near, generator)
    top, left = (corner[0] * (height - side + 1)).long(), (corner[1] * (width - side + 1)).long()
    down, across = (_within(length, start, side) for length, start in ((height, top), (width, left)))
    return _Window((down[:, :, None] & across[:, None, :])[:, None], side, top, left)


def _within(length: int, start: torch.Tensor, side: int) -> torch.Tensor:
    """(n, length) bool: places in [start, start + side)."""
    place = torch.arange(length, device=start.device)
    return (place >= start) & (place < start + side)


def _pattern(window: _Window, near: Neighbourhood, generator: torch.Generator) -> torch.Tensor:
    """(n, 1, H, W) what is put into the windows: the bumps, upright or lying, or random signs."""
    if window.top is None or window.left is None:
        return _signs(window.mask.shape, near, generator) * window.mask
    (height, width), side = window.mask.shape[2:], window.side
    bump = _bumps(side).to(near.clean)
    down = (torch.arange(height, device=bump.device) - window.top).clamp_(0, side - 1)[:, :, None]
    across = (torch.arange(width, device=bump.device) - window.left).clamp_(0, side - 1)[:, None, :]
    lying = (_uniform((len(down), 1, 1), near, generator) < 0.5).long()
    place = ((lying * side + down) * side + across).flatten()  # one index is three times as fast as three
    return bump.flatten().index_select(0, place).reshape(window.mask.shape) * window.mask


@cache
def _bumps(side: int) -> torch.Tensor:
    """(2, side, side) the pattern upright and lying."""
    return torch.stack([pattern_of(side), pattern_of(side).T])


def _as_image(x: torch.Tensor) -> torch.Tensor:
    """(n, C, H, W) as it is, anything else as one channel of one column."""
    return x if x.ndim == 4 else x.reshape(len(x), 1, -1, 1)


def _grid(x: torch.Tensor, channels: int) -> tuple[int, ...]:
    return (channels, *x.shape[2:]) if x.ndim == 4 else tuple(x.shape[1:])


def _unit(x: torch.Tensor) -> torch.Tensor:
    """Each channel (n, C, H, W) with length 1; 0 stays."""
    return x / _squares(x).sqrt().clamp_min(1e-30)


def _squares(x: torch.Tensor) -> torch.Tensor:
    """(n, C, 1, 1) sum of the squares of each channel."""
    return x.square().flatten(2).sum(dim=2)[:, :, None, None]


def _uniform(shape: Sequence[int], near: Neighbourhood, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(tuple(shape), generator=generator, device=near.clean.device, dtype=near.clean.dtype)


def _signs(shape: Sequence[int], near: Neighbourhood, generator: torch.Generator) -> torch.Tensor:
    return torch.where(_uniform(shape, near, generator) < 0.5, -1.0, 1.0).to(near.clean.dtype)
