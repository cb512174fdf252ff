"""assessor.yaml: the system, its protection needs, what is measured, and the targets."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue, StringConstraints, model_validator

from assessor.contract import MAX_INTEGER, Frozen, Number, Task
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


Callable_ = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]


class ModelSpec(Frozen):
    """Where the model is: exactly one of `load` (module:callable) or `predictions` (a table).

    Attributes:
        load: Gives the trained model.
        predictions: A table of predictions, when the model itself is not at hand.
        outputs: What the model gives; needed where it gives probabilities.
        build: Gives a new, untrained PyTorch module of the same architecture.
        train: Takes features, labels (positions in `classes`, or values) and a seed; gives a PyTorch module newly
            trained on them, as the model was.
        files: Files that hold the model; they are looked into before it is loaded.
    """

    load: Callable_ | None = None
    predictions: str | None = None
    build: Callable_ | None = None
    train: Callable_ | None = None
    files: tuple[str, ...] = ()
    outputs: Literal["logits", "probabilities"] | None = None

    @model_validator(mode="after")
    def _one(self) -> ModelSpec:
        if (self.load is None) == (self.predictions is None):
            raise ValueError("wanted exactly one of load (module:callable) or predictions (a csv or parquet file)")
        return self


class DataSpec(Frozen):
    """Where one split is, and which columns mean what.

    Attributes:
        load: `module:callable` giving (X, y), (X, y, attributes), a DataFrame or a torch Dataset.
        file: csv or parquet, relative to the assessment folder.
        label: Column of true labels.
        features: Columns of features; default all others.
        sensitive: Columns of sensitive attributes.
        prediction: Column of predicted labels, for a table of predictions.
        score: Column of the positive class's probability, or one column a class in order.
    """

    load: Callable_ | None = None
    file: str | None = None
    label: str | None = None
    features: tuple[str, ...] | None = None
    sensitive: tuple[str, ...] = ()
    prediction: str | None = None
    score: str | tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _one(self) -> DataSpec:
        if self.load is not None and self.file is not None:
            raise ValueError("found both load and file, wanted one")
        return self


class Data(Frozen):
    """The splits.

    Attributes:
        train: What the model was trained on.
        test: What it is judged on.
        design: Repeated inputs at known values of one parameter (an angle, a contrast, a dose), which is the label.
        ood: Inputs from outside the field of use; labels are not needed.
        production: Inputs met in use; labels are not needed.
    """

    train: DataSpec | None = None
    test: DataSpec
    design: DataSpec | None = None
    ood: DataSpec | None = None
    production: DataSpec | None = None


class BaselineSpec(Frozen):
    """The model to compare with: an earlier release, another client's or seed's, for the same task and data."""

    load: Callable_


class TargetSpec(Frozen):
    """What is measured: task, model, data, device; what it is compared with; files that list its packages."""

    task: Task
    classes: tuple[str, ...] | None = None
    model: ModelSpec
    baseline: BaselineSpec | None = None
    dependencies: tuple[str, ...] = ()
    data: Data
    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    seed: int = Field(default=0, ge=0, le=MAX_INTEGER)


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


class Waiver(Frozen):
    """A named person's decision to accept one check's failure for a time."""

    id: CheckId
    because: Text
    by: Text
    until: date


class Policy(Frozen):
    """What the gate decides on.

    Attributes:
        fail_on: Check outcomes that block (exit 1).
        incomplete: Whether a missing, inconclusive or crashed result blocks (exit 3).
        answers: Which unanswered requirements count as incomplete.
        waivers: Accepted failures.
    """

    fail_on: tuple[Literal["fail", "inconclusive", "error"], ...] = ("fail",)
    incomplete: Literal["error", "ignore"] = "error"
    answers: Literal["none", "criteria", "all"] = "none"
    waivers: tuple[Waiver, ...] = ()

    @model_validator(mode="after")
    def _one_waiver_a_check(self) -> Policy:
        checks = [waiver.id for waiver in self.waivers]
        if len(set(checks)) < len(checks):
            raise ValueError(f"waivers: found two for one check among {', '.join(checks)}, wanted one")
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
