"""Assess and audit AI systems: catalog, questionnaire, automated checks, signed reports."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`assess` and `measure`, loaded when they are asked for: the command line starts without them."""
    if name in {"assess", "measure"}:
        return getattr(import_module("assessor.api"), name)
    raise AttributeError(f"module 'assessor' has no attribute '{name}'")
