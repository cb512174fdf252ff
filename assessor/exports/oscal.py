"""An assessment as the four OSCAL documents it takes: catalog, profile, assessment plan, assessment results.

The same state of the folder gives the same bytes, in every place and at every time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from assessor import ledger
from assessor.assessment import Assessment
from assessor.exports.oscal_catalog import catalog_to_oscal
from assessor.exports.oscal_plan import plan_to_oscal
from assessor.exports.oscal_profile import profile_to_oscal
from assessor.exports.oscal_results import results_to_oscal
from assessor.exports.oscal_scope import Export
from assessor.exports.oscal_words import CATALOG, PLAN, PROFILE, RESULTS, Node
from assessor.project import Project, now


def export_of(project: Project, base: str = "..") -> Export:
    """An assessment ready to be exported.

    Args:
        project: The folder.
        base: The folder as seen from where the documents will lie.

    Returns:
        The assessment with the identity of its folder.

    Raises:
        IntegrityError: The ledger does not hold.
        ConfigurationError: A file has faults.
    """
    found = Assessment.read(project)
    entries = list(ledger.entries(project.ledger_bytes()))
    name = entries[0].hash if entries else found.configuration.system.name
    return Export(found, name, base, entries[-1].time if entries else now())


def oscal_documents(export: Export) -> Mapping[str, Node]:
    """The documents by file name; they refer to each other by these names.

    Args:
        export: The assessment.

    Returns:
        Plain data, to be written with `oscal_json`.
    """
    return {
        CATALOG: catalog_to_oscal(export.found.catalog, export.modified),
        PROFILE: profile_to_oscal(export),
        PLAN: plan_to_oscal(export),
        RESULTS: results_to_oscal(export),
    }


def oscal_json(document: Node) -> bytes:
    """A document as indented UTF-8 JSON."""
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
