"""Checks of the area data."""
