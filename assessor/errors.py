"""Everything that can go wrong, and the exit code it ends in.

    AssessorError
    ├── UsageError            2   wrong use, wrong configuration, bad input: the message says where and what to do
    │   ├── ConfigurationError    a fault in a YAML file: file:line field: found, wanted
    │   └── MissingExtra          an optional package is not installed
    ├── CannotJudge           3   something the policy asks for has no answer or result
    └── IntegrityError        4   a signature, digest or ledger does not hold

A gate that finds what the policy forbids (1) and an interruption (130) are no errors.
A traceback (5) is a fault of ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AssessorError(Exception):
    """Base of all faults we tell in words; `exit_code` is the process's."""

    exit_code = 5


class UsageError(AssessorError):
    """Wrong use or wrong input."""

    exit_code = 2


class ConfigurationError(UsageError):
    """One or more faults in files of the assessment or the catalog, one a line."""


class MissingExtra(UsageError):  # noqa: N818 - says what it is
    """An optional package is needed and not installed."""

    def __init__(self, what: str, extra: str) -> None:
        """Message that names the extra to install.

        Args:
            what: What was asked for, as the start of the sentence.
            extra: Name of the extra in the project's metadata.
        """
        super().__init__(f"{what}: install the optional packages with  pip install 'ai-assessor[{extra}]'")


class CannotJudge(AssessorError):  # noqa: N818 - says what it is
    """Answers or results that the policy asks for are missing."""

    exit_code = 3


class IntegrityError(AssessorError):
    """Something was changed that must not change."""

    exit_code = 4


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the known word nearest to `word`, or an empty string.

    >>> nearest("robustness.pdg_accuracy", ["robustness.pgd_accuracy", "fairness.group_metrics"])
    "; did you mean 'robustness.pgd_accuracy'?"
    """
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{matches[0]}'?" if matches else ""
