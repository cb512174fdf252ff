"""How alike two explanations of the same rows are: by ranks, by their first parts, as pictures."""

from __future__ import annotations

import numpy as np

_WINDOW = 7  # pixels; side of the windows of `ssim`, as in Wang et al.'s uniform variant
_K1, _K2 = 0.01, 0.03  # as Wang et al. 2004 chose them


def ranks(values: np.ndarray) -> np.ndarray:
    """(n, K) ranks from 0 within each row, ties sharing their mean.

    >>> ranks(np.array([[3.0, 1.0, 1.0, 2.0]]))
    array([[3. , 0.5, 0.5, 2. ]])
    """
    n, count = values.shape
    order = values.argsort(axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    starts = np.concatenate([np.ones((n, 1), dtype=bool), ordered[:, 1:] != ordered[:, :-1]], axis=1)
    ends = np.concatenate([starts[:, 1:], np.ones((n, 1), dtype=bool)], axis=1)
    place = np.arange(count)
    first = np.maximum.accumulate(np.where(starts, place, 0), axis=1)
    last = np.minimum.accumulate(np.where(ends, place, count - 1)[:, ::-1], axis=1)[:, ::-1]
    found = np.empty((n, count))
    np.put_along_axis(found, order, (first + last) / 2, axis=1)
    return found


def spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n,) Spearman's rank correlation of each row of a (n, K) with that of b; NaN where a row is constant."""
    x, y = (each - each.mean(axis=1, keepdims=True) for each in (ranks(a), ranks(b)))
    scale = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    found: np.ndarray = np.divide((x * y).sum(axis=1), scale, out=np.full(len(a), np.nan), where=scale > 0)
    return found


def shared_first(a: np.ndarray, b: np.ndarray, first: int) -> np.ndarray:
    """(n,) share of the `first` greatest of a row of a (n, K) that are among those of b; ties go to the earlier.

    >>> shared_first(np.array([[3.0, 2.0, 1.0, 0.0]]), np.array([[3.0, 0.0, 1.0, 2.0]]), 2)
    array([0.5])
    """
    tops = []
    for each in (a, b):
        chosen = np.zeros(each.shape, dtype=bool)
        np.put_along_axis(chosen, (-each).argsort(axis=1, kind="stable")[:, :first], True, axis=1)
        tops.append(chosen)
    found: np.ndarray = (tops[0] & tops[1]).sum(axis=1) / min(first, a.shape[1])
    return found


def ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n,) structural similarity of pictures a and b (n, H, W), each scaled to [0, 1] by its own range.

    Mean over uniform windows of 7 x 7 (or the largest odd side that fits), with unbiased variances; Wang, Bovik,
    Sheikh, Simoncelli 2004, equation 13. NaN where a picture is constant.

    Args:
        a: Pictures.
        b: Pictures of the same size.

    Returns:
        From -1 to 1; 1 for equal pictures.
    """
    side = min(_WINDOW, *a.shape[1:])
    side -= 1 - side % 2
    x, y = _windows(_scaled(a), side), _windows(_scaled(b), side)
    mean_x, mean_y = x.mean(axis=-1), y.mean(axis=-1)
    spread = side**2 / max(1, side**2 - 1)
    both = spread * ((x * y).mean(axis=-1) - mean_x * mean_y)
    squares = spread * ((x**2 + y**2).mean(axis=-1) - mean_x**2 - mean_y**2)
    light = (2 * mean_x * mean_y + _K1**2) / (mean_x**2 + mean_y**2 + _K1**2)
    found: np.ndarray = (light * (2 * both + _K2**2) / (squares + _K2**2)).mean(axis=(1, 2))
    return found


def _scaled(pictures: np.ndarray) -> np.ndarray:
    low, high = (end(pictures, axis=(1, 2), keepdims=True) for end in (np.min, np.max))
    found: np.ndarray = np.divide(pictures - low, high - low, out=np.full(pictures.shape, np.nan), where=high > low)
    return found


def _windows(pictures: np.ndarray, side: int) -> np.ndarray:
    """(n, H', W', side^2) every window."""
    found = np.lib.stride_tricks.sliding_window_view(pictures, (side, side), axis=(1, 2))
    return found.reshape(*found.shape[:3], -1)
