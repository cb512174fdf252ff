"""The files of a model before it is loaded, as a subject: what they hold can be looked at without running any of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from assessor.contract import Need, NotApplicable, Origin, Split, Task
from assessor.subjects.data import offered_by
from assessor.subjects.no_module import NoModule

NOT_LOADED = "the model is not loaded yet"


class FilesSubject(NoModule):
    """Files alone; see `assessor.contract.Subject`."""

    device = "cpu"
    no_module = NOT_LOADED
    classes: tuple[str, ...] = ()
    splits: Mapping[str, Split] = {}

    def __init__(self, task: Task, origin: Origin) -> None:
        """Keep both.

        Args:
            task: What the model is said to do.
            origin: Its files.
        """
        self.task = task
        self.origin = origin

    @property
    def offers(self) -> frozenset[Need]:
        """Nothing but files."""
        return frozenset(offered_by(self.splits, self.origin) - {Need.RELOAD})

    def scores(self, split: str) -> NoReturn:
        """Never there."""
        raise NotApplicable(NOT_LOADED)

    def predictions(self, split: str) -> NoReturn:
        """Never there."""
        raise NotApplicable(NOT_LOADED)

    def parts(self, split: str) -> NoReturn:
        """Never there."""
        raise NotApplicable(NOT_LOADED)

    def query(self, features: object) -> NoReturn:
        """Never there."""
        raise NotApplicable(NOT_LOADED)

    def query_scores(self, features: object) -> NoReturn:
        """Never there."""
        raise NotApplicable(NOT_LOADED)

    def refit(self, rows: object, seed: int, labels: object = None) -> NoReturn:
        """Never there."""
        raise NotApplicable(NOT_LOADED)
