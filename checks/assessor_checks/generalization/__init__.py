"""Checks of the area generalization."""
