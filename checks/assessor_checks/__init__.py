"""The checks that come with ai-assessor, offered through the entry point group `assessor.checks`."""

from assessor.contract import Check

CHECKS: tuple[Check, ...] = ()
