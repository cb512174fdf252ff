"""What every subject has to say that is no PyTorch module."""

from __future__ import annotations

from typing import NoReturn

from assessor.contract import NotApplicable


class NoModule:
    """Refuses all that only PyTorch modules have.

    Attributes:
        no_module: Why, in a sentence without a full stop.
    """

    no_module: str

    @property
    def module(self) -> NoReturn:
        """Never there."""
        raise NotApplicable(self.no_module)

    def logits(self, inputs: object) -> NoReturn:
        """Never there."""
        raise NotApplicable(self.no_module)

    def tensors(self, split: str) -> NoReturn:
        """Never there."""
        raise NotApplicable(self.no_module)

    def inputs(self, split: str) -> NoReturn:
        """Never there."""
        raise NotApplicable(self.no_module)

    @property
    def baseline(self) -> NoReturn:
        """Never there."""
        raise NotApplicable(self.no_module)

    def new_module(self) -> NoReturn:
        """Never there."""
        raise NotApplicable(self.no_module)
