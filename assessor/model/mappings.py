"""catalog/mappings/: clauses of laws, standards and other catalogs, and which requirements speak to them."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from assessor.contract import Frozen
from assessor.model.words import Identifier, OptionalText, Text


class Relationship(StrEnum):
    """How the requirements relate to the clause, in the words of NIST IR 8477."""

    EQUAL_TO = "equal-to"
    EQUIVALENT_TO = "equivalent-to"
    SUPERSET_OF = "superset-of"
    SUBSET_OF = "subset-of"
    INTERSECTS_WITH = "intersects-with"

    @property
    def is_whole(self) -> bool:
        """Whether fulfilled requirements leave nothing of the clause open."""
        return self in {Relationship.EQUAL_TO, Relationship.EQUIVALENT_TO, Relationship.SUPERSET_OF}


class Confidence(StrEnum):
    """How sure the author of a mapping is."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class ClauseMapping(Frozen):
    """Requirements that speak to a clause.

    Attributes:
        requirements: Ids of requirements or of whole areas.
        relationship: Of these requirements to the clause.
        confidence: Of the author.
        note: What part of the clause is meant, or is left.
    """

    requirements: tuple[str, ...] = Field(min_length=1)
    relationship: Relationship
    confidence: Confidence
    note: OptionalText = ""


class Clause(Frozen):
    """One clause of a framework.

    Attributes:
        id: As the framework numbers it.
        title: In our own words.
        group: Heading it stands under.
        duty_of: Who has to act, where the framework says so (provider, deployer, organisation, ...).
        maps: What speaks to it.
        open_because: Why nothing does.
    """

    id: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    title: Text
    group: OptionalText = ""
    duty_of: OptionalText = ""
    maps: tuple[ClauseMapping, ...] = ()
    open_because: OptionalText = ""

    @model_validator(mode="after")
    def _one_of_both(self) -> Clause:
        if bool(self.maps) == bool(self.open_because):
            raise ValueError("wanted maps, or open_because saying why nothing in the catalog speaks to it")
        return self


class ApplicationDate(Frozen):
    """From when something applies.

    Attributes:
        what: Which duties.
        applies_from: The day.
        clauses: Ids of the clauses meant; empty for all.
        source: Where the day was read.
        confidence: Whether the source is the law itself or something that reports it.
    """

    what: Text
    applies_from: date
    clauses: tuple[str, ...] = ()
    source: Text
    confidence: Confidence


class Framework(Frozen):
    """One file of mappings/.

    Attributes:
        id: Short name, as in `catalog coverage ID`.
        title: Full name.
        publisher: Who issues it.
        edition: Which edition the clauses are of.
        url: Where it can be read.
        status: How the clauses and mappings were made and what review they need.
        dates: From when it applies.
        clauses: In its order.
    """

    model_config = ConfigDict(title="Framework mapping file")

    schema_: Literal["aic-mapping/1"] = Field(alias="schema")
    id: Identifier
    title: Text
    publisher: Text
    edition: Text
    url: Text
    status: Text
    dates: tuple[ApplicationDate, ...] = ()
    clauses: tuple[Clause, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _unique(self) -> Framework:
        ids = [clause.id for clause in self.clauses]
        if repeated := {name for name in ids if ids.count(name) > 1}:
            raise ValueError(f"clauses: '{min(repeated)}' appears twice")
        for item in self.dates:
            if stray := set(item.clauses) - set(ids):
                raise ValueError(f"dates: no clause '{min(stray)}'")
        return self
