"""assessor.yaml: the system, its protection needs, what is measured, and the targets."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue, StringConstraints, model_validator

from assessor.contract import MAX_INTEGER, Frozen, Number, Task
from assessor.model.data import Data
from assessor.model.sources import BaselineSpec, ModelSpec
from assessor.model.words import CheckId, Identifier, OptionalText, Text


class Level(StrEnum):
    """Protection need."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"

    @property
    def rank(self) -> int:
        """Order of the levels, from 0."""
        return list(Level).index(self)


class ProtectionNeed(Frozen):
    """Protection need of one dimension, with its reason.

    Attributes:
        level: The need.
        because: Its reason.
        by: Who decided.
    """

    level: Level
    because: Text
    by: OptionalText = ""


DIMENSION_NAMES: Mapping[str, str] = {
    "fairness": "FN",
    "autonomy": "AC",
    "transparency": "TR",
    "reliability": "RE",
    "safety": "S",
    "data_protection": "DP",
}


class ProtectionNeeds(Frozen):
    """Protection needs by dimension; None while nobody has decided."""

    fairness: ProtectionNeed | None = None
    autonomy: ProtectionNeed | None = None
    transparency: ProtectionNeed | None = None
    reliability: ProtectionNeed | None = None
    safety: ProtectionNeed | None = None
    data_protection: ProtectionNeed | None = None

    @model_validator(mode="after")
    def _reliability(self) -> ProtectionNeeds:
        if self.reliability is not None and self.reliability.level is Level.LOW:
            raise ValueError(
                "reliability.level: found 'low', wanted medium or high: the catalog never skips reliability"
            )
        return self

    def of(self, dimension: str) -> ProtectionNeed | None:
        """Need of a dimension by its catalog id, such as "FN".

        A pack has the highest of all six: it is known once one is high or all are decided.
        """
        if dimension.startswith("X-"):
            needs = [self.of(code) for code in DIMENSION_NAMES.values()]
            highest = max((need for need in needs if need), key=lambda need: need.level.rank, default=None)
            return highest if highest and (highest.level is Level.HIGH or None not in needs) else None
        for name, code in DIMENSION_NAMES.items():
            if code == dimension:
                need: ProtectionNeed | None = getattr(self, name)
                return need
        return None


class CatalogRef(Frozen):
    """Which catalog an assessment follows."""

    id: Identifier = "ai-assessment-catalog"
    version: str
    packs: tuple[Identifier, ...] = ()


class System(Frozen):
    """AI profile: what is assessed, in a person's words. Further fields are kept and shown."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: Text
    version: Text
    purpose: OptionalText = ""
    context: OptionalText = ""
    affected: OptionalText = ""
    provider: OptionalText = ""
    assessed_by: OptionalText = ""


class TargetSpec(Frozen):
    """What is measured: task, model, data, device; what it is compared with; files that list its packages.

    `row_outcomes` says whether results keep which rows came out how, for a paired test against later results.
    """

    task: Task
    classes: tuple[str, ...] | None = None
    model: ModelSpec
    baseline: BaselineSpec | None = None
    dependencies: tuple[str, ...] = ()
    data: Data
    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    seed: int = Field(default=0, ge=0, le=MAX_INTEGER)
    row_outcomes: bool = True

    @property
    def model_files(self) -> tuple[str, ...]:
        """Files and folders that are looked into before the model, or the one it is compared with, is loaded."""
        return (*self.model.named_files, *(self.baseline.named_files if self.baseline else ()))


Interval = tuple[Number | None, Number | None]


class Target(Frozen):
    """The interval a metric should lie in, set by a person for a reason.

    Attributes:
        metric: Name of the metric; None for the check's primary one.
        interval: Lower and upper end, both included; None for an open end.
        because: Why this interval is right for this system.
    """

    metric: str | None = None
    interval: Interval
    because: Text

    @model_validator(mode="after")
    def _interval(self) -> Target:
        low, high = self.interval
        if low is None and high is None:
            raise ValueError("interval: found both ends open, wanted at least one number")
        if low is not None and high is not None and low > high:
            raise ValueError(f"interval: found [{low}, {high}], wanted the lower end first")
        return self


class Excuse(StrEnum):
    """What a waiver may cover. A crashed check and a missing result are never covered."""

    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    NOT_APPLICABLE = "not_applicable"
    UNANSWERED = "unanswered"
    CONTRADICTION = "contradiction"
    DEVIATION = "deviation"
    WORSE = "worse"
    WENT = "went"
    NOT_COMPARABLE = "not_comparable"


USUAL_EXCUSES = tuple(item for item in Excuse if item not in {Excuse.WORSE, Excuse.WENT, Excuse.NOT_COMPARABLE})


class Waiver(Frozen):
    """A named person's decision to accept one finding for a time.

    Attributes:
        id: The check or requirement.
        covers: What of it is accepted; by default all but what a comparison with a baseline found.
        because: Why.
        by: Who.
        until: The last day.
    """

    id: Identifier
    covers: tuple[Excuse, ...] = Field(default=USUAL_EXCUSES, min_length=1)
    because: Text
    by: Text
    until: date


Outcomes = tuple[Literal["fail", "inconclusive", "error"], ...]
Asked = Literal["none", "criteria", "all"]


class Rule(Frozen):
    """What the gate decides on in one dimension or at one protection need, beside what holds everywhere.

    Attributes:
        fail_on: Check outcomes that block too.
        answers: Which unanswered requirements count as incomplete too.
    """

    fail_on: Outcomes = ()
    answers: Asked = "none"


class BaselinePolicy(Frozen):
    """What the gate makes of a comparison with an earlier result.

    Attributes:
        block: Whether a number that got worse blocks (exit 1) or is shown only.
        tolerance: By how much the judged number of a check may get worse, in its unit.
    """

    block: Literal["worse", "nothing"] = "worse"
    tolerance: Mapping[CheckId, Annotated[Number, Field(ge=0)]] = Field(default_factory=dict)


DimensionName = Annotated[str, StringConstraints(pattern=rf"^({'|'.join(DIMENSION_NAMES)}|X-[A-Z]+)$")]


class Policy(Frozen):
    """What the gate decides on.

    Attributes:
        mode: `observe` says everything and ends with 0, but where nothing could be judged at all.
        fail_on: Check outcomes that block (exit 1).
        incomplete: Whether what cannot be judged blocks (exit 3); a crashed check and a missing result always do.
        answers: Which unanswered requirements count as incomplete.
        contradictions: Whether a statement that a measurement contradicts blocks (exit 1).
        deviations: Whether what the auditor found partly or not fulfilled is shown, or blocks (exit 1).
        dimensions: More of fail_on and answers for one dimension; the strictest rule counts.
        needs: More of both for dimensions of one protection need.
        baseline: What is made of a comparison with an earlier result.
        waivers: Accepted findings.
    """

    mode: Literal["enforce", "observe"] = "enforce"
    fail_on: Outcomes = ("fail",)
    incomplete: Literal["error", "ignore"] = "error"
    answers: Asked = "none"
    contradictions: Literal["show", "block"] = "show"
    deviations: Literal["ignore", "show", "block"] = "ignore"
    dimensions: Mapping[DimensionName, Rule] = Field(default_factory=dict)
    needs: Mapping[Level, Rule] = Field(default_factory=dict)
    baseline: BaselinePolicy = BaselinePolicy()
    waivers: tuple[Waiver, ...] = ()

    @model_validator(mode="after")
    def _one_waiver_a_finding(self) -> Policy:
        covered = [(waiver.id, excuse) for waiver in self.waivers for excuse in waiver.covers]
        if twice := sorted({f"{name} ({excuse})" for name, excuse in covered if covered.count((name, excuse)) > 1}):
            raise ValueError(f"waivers: found two for one finding: {', '.join(twice)}; wanted one")
        return self


class Configuration(Frozen):
    """assessor.yaml."""

    model_config = ConfigDict(title="assessor.yaml")

    format: Literal[1]
    catalog: CatalogRef
    system: System
    protection_needs: ProtectionNeeds = ProtectionNeeds()
    target: TargetSpec | None = None
    targets: Mapping[CheckId, Target] = Field(default_factory=dict)
    checks: Mapping[CheckId, Literal[False] | Mapping[str, JsonValue]] = Field(default_factory=dict)
    policy: Policy = Policy()
