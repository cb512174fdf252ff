"""Checks of the area privacy."""
