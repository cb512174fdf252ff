"""evidence.yaml: the register of what was shown, one item a digest. Content lies in evidence/<sha256>/<name>."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field, RootModel, StringConstraints

from assessor.contract import Frozen, Integer
from assessor.model.answers import EvidenceRef, FileName, Moment
from assessor.model.catalog import EvidenceType
from assessor.model.words import Identifier, OptionalText, Sha256, Text


class Classification(StrEnum):
    """Who may see it, widest first."""

    PUBLIC = "public"
    INTERNAL = "internal"
    CONFIDENTIAL = "confidential"
    RESTRICTED = "restricted"


class ToolFinding(Frozen):
    """One line of what another tool found, in its own words; no verdict of ours."""

    name: Text
    value: OptionalText = ""
    outcome: OptionalText = ""


class Imported(Frozen):
    """Where an imported result comes from, as its file says.

    Attributes:
        format: The format that was recognised.
        tool: What wrote it.
        version: Version of the tool, or of the format where the file names no tool.
        made: Day it was made.
        subject: What it is about.
        source: Digest of the file that was read.
        findings: The first of its findings, those that failed in front.
        total: How many there were.
    """

    format: Text
    tool: OptionalText = ""
    version: OptionalText = ""
    made: date | None = None
    subject: OptionalText = ""
    source: Sha256
    findings: tuple[ToolFinding, ...] = ()
    total: Annotated[Integer, Field(ge=0)] = 0


Uri = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9+.-]*:[^\s\x00-\x1f\x7f]+$", max_length=2000)]


class Evidence(Frozen):
    """One piece of evidence; its digest is its key in the register and never changes.

    Attributes:
        name: File name.
        media_type: What kind of file it is.
        size: Bytes.
        type: Its form, in the catalog's words.
        title: What it is, for people.
        document: Which document of the catalog's list it is, so that it is offered wherever that one is expected.
        owner: Who answers for it.
        classification: Who may see it.
        collected: Day it was made or obtained; its age counts from there.
        expires: Last day it holds.
        requirements: Ids it serves, beside those whose answers name it.
        by: Who added it.
        at: When.
        uri: Where the content lies, for what is not kept in the folder.
        withheld: Why the content is not handed on; empty for what is.
        provenance: Where an imported result comes from.
    """

    name: FileName
    media_type: Text
    size: Annotated[Integer, Field(ge=0)]
    type: EvidenceType = EvidenceType.DOCUMENT
    title: OptionalText = ""
    document: Identifier | None = None
    owner: OptionalText = ""
    classification: Classification = Classification.INTERNAL
    collected: date | None = None
    expires: date | None = None
    requirements: tuple[Text, ...] = ()
    by: Text
    at: Moment
    uri: Uri | None = None
    withheld: OptionalText = ""
    provenance: Imported | None = None

    def reference(self, sha256: str) -> EvidenceRef:
        """How an answer names it."""
        return EvidenceRef(name=self.name, sha256=sha256, document=self.document, collected=self.collected)

    def is_expired(self, today: date) -> bool:
        """Whether its last day is over."""
        return self.expires is not None and today > self.expires


class Register(RootModel[Mapping[Sha256, Evidence]]):
    """evidence.yaml."""

    model_config = ConfigDict(frozen=True, title="Register of evidence")
