"""A search in mixed precision whose finds count only where full precision confirms them.

Source: Micikevicius et al. 2018, "Mixed Precision Training" (arXiv 1710.03740); here without its scaling of losses,
because bfloat16 has the exponents of float32. Matrix products and convolutions are computed in bfloat16, what PyTorch
holds to be in need of more is not (torch.autocast).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Logits = Callable[[torch.Tensor], torch.Tensor]


class Mixed:
    """Logits in mixed precision, for a search; `full` are those that judge what it finds."""

    def __init__(self, full: Logits) -> None:
        """Of the model in its own precision."""
        self.full = full

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(n, C) in the dtype of x."""
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            return self.full(x).to(x.dtype)


class Claims:
    """Rows that a search holds to be fooled, with the last such point of each, until full precision has spoken.

    Nothing here waits for the device but `confirmed`.
    """

    def __init__(self, points: torch.Tensor, full: Logits) -> None:
        """None yet, of rows (n, ...)."""
        self._full, self._points = full, points.detach()
        self._open = torch.zeros(len(points), dtype=torch.bool, device=points.device)
        self._labels = torch.zeros(len(points), dtype=torch.int64, device=points.device)

    def note(self, wrong: torch.Tensor, points: torch.Tensor, labels: torch.Tensor) -> None:
        """Claim the rows (n,) that are wrong at their points (n, ...)."""
        wide = wrong.view(-1, *[1] * (points.ndim - 1))
        self._points = torch.where(wide, points.detach(), self._points)
        self._open, self._labels = self._open | wrong, labels

    @torch.no_grad()
    def confirmed(self, alive: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Positions of rows alive whose claims full precision confirms, and how many it looked at; all are closed."""
        rows = (self._open & alive).nonzero().squeeze(1)
        self._open = torch.zeros_like(self._open)
        if not len(rows):
            return rows, 0
        logits = self._full(self._points[rows])
        wrong = (logits.argmax(dim=1) != self._labels[rows]) & logits.isfinite().all(dim=1)
        return rows[wrong], len(rows)

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with some rows (k,)."""
        self._points, self._open, self._labels = self._points[rows], self._open[rows], self._labels[rows]
