"""A program of torch.export as a module like any other."""

from __future__ import annotations

from typing import Any

import torch


class Exported(torch.nn.Module):
    """Runs the program as it was exported; it knows no train mode."""

    def __init__(self, program: torch.nn.Module) -> None:
        """Keep the program's module."""
        super().__init__()
        self.program = program

    def forward(self, inputs: torch.Tensor) -> Any:
        """What the program gives."""
        return self.program(inputs)

    def train(self, mode: bool = True) -> Exported:
        """Only said of this module: the program stays as it was exported."""
        self.training = mode
        return self
