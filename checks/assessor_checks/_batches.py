"""Model calls on batches of rows."""

from __future__ import annotations

from assessor.contract import in_batches

__all__ = ["in_batches"]
