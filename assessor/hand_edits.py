"""Hand edits: files that people may edit, other than the ledger has them, and how they are recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from assessor import ledger
from assessor.assessment import Assessment
from assessor.errors import IntegrityError, UsageError
from assessor.project import Project

ACTION = "edit by hand"
RECORD = "assessor ledger record --by NAME --because TEXT"
FIXED = ("results/", "evidence/", "reports/")  # never edited: a change there is no edit but a break
READ = ("assessor.yaml", "prefill.yaml", "evidence.yaml", "answers/*.yaml", "audit/*.yaml")


class Difference(NamedTuple):
    """A file that is not as the ledger has it.

    Attributes:
        name: Path in the folder.
        recorded: Digest in the ledger; None where it knows of no such file.
        found: Digest now; None where the file is gone.
    """

    name: str
    recorded: str | None
    found: str | None

    @property
    def change(self) -> ledger.Change:
        """What a ledger line says of it."""
        return ledger.Change(before=self.recorded, after=self.found)


def hand_edits(project: Project, recorded: Mapping[str, str | None]) -> list[Difference]:
    """Files that people may edit and did: changed, gone, or new where the assessment reads them.

    Args:
        project: The folder.
        recorded: Digests by name, from the ledger.

    Returns:
        The edits, in order of name.
    """
    read = {path.relative_to(project.folder).as_posix() for place in READ for path in project.folder.glob(place)}
    return _differences(project, recorded, {name for name in recorded if not name.startswith(FIXED)} | read)


def breaks(project: Project, recorded: Mapping[str, str | None]) -> list[Difference]:
    """Files that nobody may edit, and somebody did: results, evidence and reports that are changed or gone.

    Args:
        project: The folder.
        recorded: Digests by name, from the ledger.

    Returns:
        The breaks, in order of name; results that the ledger does not know are among them, evidence that is withheld
        and not there is not.
    """
    results = {path.relative_to(project.folder).as_posix() for path in project.folder.glob("results/**/*.json")}
    found = _differences(project, recorded, {name for name in recorded if name.startswith(FIXED)} | results)
    withheld = project.withheld() if any(item.found is None for item in found) else frozenset()
    return [item for item in found if item.found is not None or item.name not in withheld]


def _differences(project: Project, recorded: Mapping[str, str | None], names: Iterable[str]) -> list[Difference]:
    found = [Difference(name, recorded.get(name), project.digest(name)) for name in sorted(names)]
    return [item for item in found if item.recorded != item.found]


def record(project: Project, *, by: str, because: str) -> list[Difference]:
    """Write all hand edits into the ledger, in one line.

    Args:
        project: The folder.
        by: Who edited.
        because: Why.

    Returns:
        What was recorded; empty where nothing was edited.

    Raises:
        UsageError: Nobody is named, or no reason.
        IntegrityError: The ledger does not hold, or a file was changed that nobody may edit.
        ConfigurationError: An edited file has faults.
    """
    if not by.strip() or not because.strip():
        raise UsageError("found an empty text, wanted  --by NAME --because TEXT")
    with project.lock():
        recorded = ledger.history(project.ledger_bytes()).files
        if broken := breaks(project, recorded):
            names = ", ".join(item.name for item in broken)
            raise IntegrityError(
                f"{names}: other than recorded, and never edited by hand: get the recorded content back; nothing was "
                "written; see  assessor verify"
            )
        edits = hand_edits(project, recorded)
        if edits:
            Assessment.read(project)  # refuses what has faults
            changes = {item.name: item.change for item in edits}
            project.record(changes, actor=by, action=ACTION, because=because)
    return edits
