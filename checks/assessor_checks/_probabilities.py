"""Whether scores are class probabilities."""

from __future__ import annotations

import numpy as np

_TOLERANCE = 1e-3  # as tables of predictions are read


def improper(scores: np.ndarray) -> np.ndarray:
    """(n,) bool, rows of scores (n, C) that are not all from 0 to 1, or do not sum to 1; NaN counts as such.

    >>> improper(np.array([[0.25, 0.75], [0.5, 0.9]])).tolist()
    [False, True]
    """
    inside = ((scores >= 0) & (scores <= 1)).all(axis=1)
    return np.asarray(~inside | (np.abs(scores.sum(axis=1) - 1) > _TOLERANCE))
