"""Checks of the area reliability."""
