"""Checks of the area transparency."""
