"""Checks of the area uncertainty."""
