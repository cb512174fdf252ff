"""Assess and audit AI systems: catalog, questionnaire, automated checks, signed reports."""

__version__ = "0.1.0"
