"""Checks of the area fairness."""
