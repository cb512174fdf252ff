"""The very inputs by which attacks fool a model: attacked row by row, with an eye on what is put to the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from assessor.contract import NotApplicable, Weakness, progress

if TYPE_CHECKING:
    import torch

    from assessor_checks._pgd import Logits

KEPT = 50  # inputs that are kept at most
TRIED = 500  # rows that are attacked at most


class Watched:
    """A model's logits for one row under attack, and the first point at which it was fooled."""

    def __init__(self, logits_of: Logits, label: int) -> None:
        """Watch a model.

        Args:
            logits_of: The model.
            label: What is right.
        """
        self.point: torch.Tensor | None = None
        self._logits_of, self._label = logits_of, label

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits (n, C) of points (n, ...)."""
        logits = self._logits_of(inputs)
        if self.point is None:
            wrong = (logits.argmax(dim=1) != self._label) & logits.isfinite().all(dim=1)
            if wrong.any():
                self.point = inputs[wrong][0].detach().clone()
        return logits


def weakness(found: Iterable[tuple[np.ndarray, object]], how: str) -> Weakness:
    """What an attack found, as inputs to keep.

    Args:
        found: Inputs, as many as the attack gives, each with its label.
        how: Which attack.

    Returns:
        At most `KEPT` of them.

    Raises:
        NotApplicable: There are none.
    """
    kept: list[tuple[np.ndarray, object]] = []
    for item in found:
        progress("inputs found", len(kept), KEPT)
        kept.append(item)
        if len(kept) == KEPT:
            break
    if not kept:
        raise NotApplicable(f"no input was found ({how}), so there is none to freeze")
    features, labels = np.stack([point for point, _label in kept]), np.array([label for _point, label in kept])
    return Weakness(told=f"{len(kept)} inputs that fooled a model: {how}", features=features, labels=labels)


def by_gradients(
    logits_of: Logits,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    attack: Callable[[Logits, torch.Tensor, torch.Tensor], object],
) -> Iterable[tuple[np.ndarray, object]]:
    """Points at which single rows are misclassified.

    Args:
        logits_of: The model.
        inputs: (n, ...) rows that it gets right.
        labels: (n,) their classes.
        attack: Attacks the rows it is given through the logits it is given, and leaves their allowed room never.

    Yields:
        Point and class, of every row that was fooled.
    """
    for row in range(min(TRIED, len(labels))):
        watched = Watched(logits_of, int(labels[row]))
        attack(watched, inputs[row : row + 1], labels[row : row + 1])
        if watched.point is not None:
            yield watched.point.cpu().numpy(), int(labels[row])
