"""answers/ and audit/: what developers say of a requirement, and what auditors find, in slots of their own."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, RootModel, model_validator

from assessor.contract import Frozen, Number
from assessor.model.words import Identifier, OptionalText, Sha256, Text


class Verdict(StrEnum):
    """How far a requirement is met, in the words of whoever fills that slot."""

    FULFILLED = "fulfilled"
    PARTLY = "partly"
    NOT_FULFILLED = "not_fulfilled"
    NOT_APPLICABLE = "not_applicable"
    NOT_ASSESSED = "not_assessed"


StatedVerdict = Literal[Verdict.FULFILLED, Verdict.PARTLY, Verdict.NOT_FULFILLED, Verdict.NOT_APPLICABLE]


def _zoned(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError(f"found '{moment}', wanted a time with its zone, such as 2026-11-21T10:00:00Z")
    return moment


Moment = Annotated[datetime, AfterValidator(_zoned)]


LONGEST_NAME = 255  # bytes that file systems take


def _inside(name: str) -> str:
    unfit = set("/\\") | {chr(code) for code in (*range(32), 127)}
    if name in {"", ".", ".."} or not unfit.isdisjoint(name):
        raise ValueError(f"found {name!r}, wanted the name of a file")
    if (size := len(name.encode("utf-8", "replace"))) > LONGEST_NAME:
        raise ValueError(f"found a name of {size} bytes, wanted at most {LONGEST_NAME}")
    return name


FileName = Annotated[str, AfterValidator(_inside)]


class EvidenceRef(Frozen):
    """One piece of evidence, by content: evidence/<sha256>/<name>.

    Attributes:
        name: File name.
        sha256: Digest of its content.
        document: Which document of the catalog's list it is, so that it is offered wherever that one is expected.
        collected: Day it was made or obtained; its age counts from there.
    """

    name: FileName
    sha256: Sha256
    document: Identifier | None = None
    collected: date | None = None


def _plain(value: object) -> object:
    """YAML reads an unquoted yes, no or date as its own type; here it is the reply that was written."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value.isoformat() if isinstance(value, date) else value


Cell = Annotated[str, BeforeValidator(lambda value: "" if value is None else str(_plain(value)))]
Bounds = tuple[Number | None, Number | None]
Reply = Annotated[
    Text | Number | Bounds | tuple[Text, ...] | tuple[Mapping[str, Cell], ...],
    Field(union_mode="left_to_right"),
    BeforeValidator(_plain),
]


class ParamValue(Frozen):
    """The value of a criterion's param, never without its reason.

    Attributes:
        value: The target; None where none is set, which is a statement too.
        because: Why this one, or why none.
    """

    value: Annotated[Text | Number | Bounds | None, Field(union_mode="left_to_right")]
    because: Text


class Answer(Frozen):
    """The developer's answer to one requirement.

    Attributes:
        value: The developer's own verdict.
        because: The reason, compulsory.
        replies: Replies to the requirement's questions by question id.
        origins: Where a reply was taken over from instead of being typed, by question id.
        params: Values of a criterion's params by param id.
        same_as: Requirement whose replies and evidence serve here too.
        by: Who answered.
        at: When, with time zone.
        evidence: What was attached.
    """

    value: StatedVerdict
    because: Text
    replies: Mapping[Identifier, Reply] = Field(default_factory=dict)
    origins: Mapping[Identifier, Text] = Field(default_factory=dict)
    params: Mapping[Identifier, ParamValue] = Field(default_factory=dict)
    same_as: str | None = None
    by: Text
    at: Moment
    evidence: tuple[EvidenceRef, ...] = ()


class Answers(RootModel[Mapping[str, Answer]]):
    """One file of answers/: the answers of one area by requirement id."""

    model_config = ConfigDict(frozen=True, title="Answers of one area")


class Known(Frozen):
    """A statement found outside the questionnaire, such as in a model card.

    Attributes:
        value: What it says.
        origin: Where: file and section, for a person.
    """

    value: Text
    origin: Text


class KnownFacts(RootModel[Mapping[str, tuple[Known, ...]]]):
    """prefill.yaml: statements found in files, by the key that questions look for."""

    model_config = ConfigDict(frozen=True, title="What was found in files")


# --- the auditor's slot ----------------------------------------------------------------------------------------------


class Assurance(StrEnum):
    """How the auditor came to the verdict, weakest first."""

    SELF_DECLARED = "self_declared"
    DOCUMENT_REVIEWED = "document_reviewed"
    RE_PERFORMED = "re_performed"


class Audit(Frozen):
    """The auditor's verdict on one requirement.

    Attributes:
        value: The auditor's verdict.
        because: The reason, compulsory.
        assurance: How it was established.
        deviation: What falls short; compulsory for partly and not fulfilled.
        objectives: Ids of objectives that are not met.
        replies: Replies to the auditor's questions by question id.
        comment: Anything else.
        answer_at: Time of the developer's answer that was judged; a later one outdates the verdict.
        by: Who judged.
        at: When, with time zone.
    """

    value: StatedVerdict
    because: Text
    assurance: Assurance
    deviation: OptionalText = ""
    objectives: tuple[Identifier, ...] = ()
    replies: Mapping[Identifier, Reply] = Field(default_factory=dict)
    comment: OptionalText = ""
    answer_at: Moment | None = None
    by: Text
    at: Moment

    @model_validator(mode="after")
    def _deviation(self) -> Audit:
        if self.value in {Verdict.PARTLY, Verdict.NOT_FULFILLED} and not self.deviation:
            raise ValueError(f"deviation: is missing; a verdict '{self.value}' says what falls short")
        return self


class Audits(RootModel[Mapping[str, Audit]]):
    """One file of audit/: the auditor's verdicts of one area by requirement id."""

    model_config = ConfigDict(frozen=True, title="Audit of one area")


class ResidualRisk(StrEnum):
    """What a person rates a dimension's remaining risk."""

    NEGLIGIBLE = "negligible"
    ACCEPTABLE = "acceptable"
    UNACCEPTABLE = "unacceptable"


class Second(Frozen):
    """A second person who agrees, as a high protection need asks for."""

    by: Text
    at: Moment


class DimensionRating(Frozen):
    """The auditor's rating of a dimension's residual risk."""

    residual_risk: ResidualRisk
    because: Text
    by: Text
    at: Moment
    second: Second | None = None

    @model_validator(mode="after")
    def _two_people(self) -> DimensionRating:
        if self.second and self.second.by.casefold() == self.by.casefold():
            raise ValueError(f"second.by: found '{self.second.by}' twice, wanted two people")
        return self


class TradeOff(Frozen):
    """A gap that one dimension leaves for the sake of another, and who accepts it.

    Attributes:
        between: The dimension that gives, then those that gain.
        what: What is given up.
        because: Why that is within reason and cannot be avoided.
        accepted_by: The person who answers for it.
        at: When it was accepted.
    """

    between: tuple[Identifier, ...] = Field(min_length=2)
    what: Text
    because: Text
    accepted_by: Text
    at: Moment


class Conclusion(Frozen):
    """The final statement on trustworthiness."""

    trustworthy: Literal["yes", "with conditions", "no"]
    because: Text
    conditions: OptionalText = ""
    by: Text
    at: Moment


class AuditSummary(Frozen):
    """audit/summary.yaml."""

    model_config = ConfigDict(frozen=True, title="Summary of the audit")

    dimensions: Mapping[Identifier, DimensionRating] = Field(default_factory=dict)
    trade_offs: Mapping[Identifier, TradeOff] = Field(default_factory=dict)
    conclusion: Conclusion | None = None
