"""What is explained: a number of the model, rows, the parts of an input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from assessor.contract import NotApplicable

Values = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Inputs (n, ...) and classes (n,) to the explained numbers (n,) float64."""


class Model(NamedTuple):
    """The explained number as a function of the input; `net` where it is differentiable."""

    values: Values
    net: Any = None


class Rows(NamedTuple):
    """Rows to explain.

    Attributes:
        x: (n, ...) inputs.
        classes: (n,) int64 class whose output is explained; zeros for regression.
        baselines: (k, n, ...) what stands for absent parts.
        numbers: (n,) int64 the rows' positions in the test split; their random numbers depend on these.
        spread: (...) standard deviation of each feature; for images of all pixels, everywhere the same.
    """

    x: np.ndarray
    classes: np.ndarray
    baselines: np.ndarray
    numbers: np.ndarray
    spread: np.ndarray

    def some(self, which: slice | np.ndarray) -> Rows:
        """Some of the rows."""
        return self._replace(
            x=self.x[which],
            classes=self.classes[which],
            baselines=self.baselines[:, which],
            numbers=self.numbers[which],
        )


@dataclass(frozen=True, eq=False)
class Parts:
    """How an input is divided into players.

    Attributes:
        of: (...) int64 player of each entry of an input.
        count: Number of players K.
    """

    of: np.ndarray
    count: int

    def sums(self, entries: np.ndarray) -> np.ndarray:
        """(n, K) sums over the entries (n, ...) of each player, float64."""
        flat = entries.reshape(len(entries), -1).astype(np.float64)
        if self.count == flat.shape[1]:
            return flat
        return np.stack([np.bincount(self.of.ravel(), weights=row, minlength=self.count) for row in flat])

    def blended(self, x: np.ndarray, base: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """Inputs (n, ...) with the players that are not kept (n, K) replaced by those of the base."""
        return np.where(kept[:, self.of], x, base)


def finite(values: np.ndarray) -> np.ndarray:
    """The values themselves.

    Raises:
        NotApplicable: Some are NaN or infinite.
    """
    if bad := int((~np.isfinite(values)).sum()):
        raise NotApplicable(f"the model gives no finite output for {bad} of {len(values)} inputs that had to be asked")
    return values
