"""Checks of the area robustness."""
