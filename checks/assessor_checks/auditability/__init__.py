"""Checks of the area auditability."""
