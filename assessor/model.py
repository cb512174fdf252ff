"""The words of the domain: catalog, answers, outcomes, the assessment. Frozen, and nothing but data.

`Configuration` is assessor.yaml, `Answers` one file of answers/, `CheckRun` one file of results/,
`Requirement` one entry of the catalog.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, JsonValue, RootModel, StringConstraints, model_validator

from assessor.contract import MAX_INTEGER, Frozen, Metric, Number, Result, Series, Table, Task

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
OptionalText = Annotated[str, StringConstraints(strip_whitespace=True)]
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9._-]*$")]
CheckId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$")]


# --- catalog ---------------------------------------------------------------------------------------------------------


class Aspect(StrEnum):
    """Step of the catalog's argument a requirement belongs to."""

    PROFILE = "PF"
    PROTECTION = "P"
    RISK = "RI"
    CRITERION = "CR"
    MEASURE = "ME"
    OVERALL = "OA"
    SUMMARY = "S"
    JUDGEMENT = "AT"


class Lifecycle(StrEnum):
    """Where in the life cycle a measure acts."""

    DATA = "data"
    COMPONENT = "component"
    EMBEDDING = "embedding"
    OPERATION = "operation"
    ANY = "any"


class Kind(StrEnum):
    """What a requirement demands: documentation, a process description, a test report."""

    DOCUMENTATION = "Do"
    PROCESS = "Pr"
    TEST = "Te"


class ProvenanceStatus(StrEnum):
    """How much of the source's item was read when ours was written."""

    SEEN = "seen"
    ID_ONLY = "id-only"
    PATTERN = "pattern"
    RECONSTRUCTED = "reconstructed"


class Provenance(Frozen):
    """Where a requirement comes from."""

    status: ProvenanceStatus


class QuestionType(StrEnum):
    """Form of the reply."""

    TEXT = "text"
    CHOICE = "choice"
    YES_NO = "yes_no"


class Question(Frozen):
    """One question of a requirement, put to the developer."""

    id: Identifier
    type: QuestionType
    text: Text
    options: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _options(self) -> Question:
        if (self.type is QuestionType.CHOICE) != bool(self.options):
            raise ValueError("options go with type choice, and only with it")
        return self

    @property
    def choices(self) -> tuple[str, ...]:
        """The permitted replies; empty when any text will do."""
        return ("yes", "no") if self.type is QuestionType.YES_NO else self.options


class EvidenceType(StrEnum):
    """What an auditor expects to be shown."""

    DOCUMENT = "document"
    PROCESS = "process"
    TEST_REPORT = "test_report"
    RECORD = "record"
    DATA = "data"


class ExpectedEvidence(Frozen):
    """Evidence an auditor would ask for."""

    type: EvidenceType
    what: Text


REQUIREMENT_ID = re.compile(
    r"^(PF-T-(FA|ST)-(\d\d|[a-z])|(FN|AC|TR|RE|S|DP)-(P|S|R-[A-Z]{2}-((RI|CR|ME)-(\d\d|[a-z])|OA(-\d\d)?))|AT)$"
)


class Requirement(Frozen):
    """One requirement of the catalog, in our own words.

    Attributes:
        id: The catalog's id; a lower-case letter for the number where the source's was not seen.
        aliases: Other ids the same item is printed or known under.
        aspect: Step of the argument.
        lifecycle: For measures, where they act.
        kinds: What must be shown.
        conditional: The kinds that are due only under the statement's condition.
        title: The wanted state, in a few words.
        statement: What must be true for it to be fulfilled.
        questions: What the developer is asked.
        evidence: What an auditor expects to see.
        refers_to: Requirements it builds on.
        checks: Automated checks whose results are evidence for it.
        provenance: How much of the source's item was read.
    """

    id: str
    aliases: tuple[str, ...] = ()
    aspect: Aspect
    lifecycle: Lifecycle | None = None
    kinds: tuple[Kind, ...] = Field(min_length=1)
    conditional: tuple[Kind, ...] = ()
    title: Annotated[Text, StringConstraints(max_length=72)]
    statement: Text
    questions: tuple[Question, ...] = Field(min_length=1)
    evidence: tuple[ExpectedEvidence, ...] = Field(min_length=1)
    refers_to: tuple[str, ...] = ()
    checks: tuple[CheckId, ...] = ()
    provenance: Provenance

    @model_validator(mode="after")
    def _consistent(self) -> Requirement:
        if not REQUIREMENT_ID.match(self.id):
            raise ValueError(f"id: found '{self.id}', wanted an id such as FN-R-FN-ME-05")
        if (self.lifecycle is not None) != (self.aspect is Aspect.MEASURE):
            raise ValueError("lifecycle goes with aspect ME, and only with it")
        if not set(self.conditional) <= set(self.kinds):
            raise ValueError("conditional lists kinds that are not among kinds")
        if len({question.id for question in self.questions}) < len(self.questions):
            raise ValueError("question ids repeat")
        return self

    @property
    def area(self) -> str:
        """Id of the area (and name of the file) it stands in."""
        if self.aspect is Aspect.JUDGEMENT:
            return "AT"
        if self.aspect is Aspect.PROFILE:
            return "PF-T"
        return re.split(r"-(?:RI|CR|ME|OA)\b", self.id)[0]

    @property
    def dimension(self) -> str:
        """Id of its dimension: the first part of the id."""
        return self.id.split("-")[0]

    @property
    def wants_test(self) -> bool:
        """Whether a test report is demanded."""
        return Kind.TEST in self.kinds

    def question(self, question_id: str) -> Question | None:
        """The question of that id, if there is one."""
        return next((question for question in self.questions if question.id == question_id), None)


class Requirements(Frozen):
    """One file of the catalog: the requirements of one area, in order."""

    model_config = ConfigDict(title="Catalog area file")

    area: Identifier
    requirements: tuple[Requirement, ...] = Field(min_length=1)


class AreaKind(StrEnum):
    """What an area of the catalog is there for."""

    PROFILE = "profile"
    PROTECTION = "protection"
    RISK = "risk"
    SUMMARY = "summary"
    JUDGEMENT = "judgement"


class AreaHead(Frozen):
    """An area's line in catalog.yaml."""

    id: Identifier
    kind: AreaKind
    title: Text


class DimensionHead(Frozen):
    """A dimension's lines in catalog.yaml. PF and AT stand beside the six dimensions."""

    id: Identifier
    title: Text
    lowest_need: Literal["low", "medium"] = "low"
    areas: tuple[AreaHead, ...]

    @property
    def is_dimension(self) -> bool:
        """Whether it is one of the six, and not the profile or the final judgement."""
        return any(area.kind is AreaKind.RISK for area in self.areas)


class Source(Frozen):
    """The published catalog ours is structured after."""

    title: Text
    publisher: Text
    edition: Text
    url: Text
    note: Text


class CatalogHead(Frozen):
    """catalog.yaml."""

    model_config = ConfigDict(title="Catalog head file")

    schema_: Literal["aic-catalog/1"] = Field(alias="schema")
    id: Identifier
    version: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+$")]
    title: Text
    source: Source
    dimensions: tuple[DimensionHead, ...]


class Catalog(Frozen):
    """The whole catalog in its order.

    Attributes:
        head: catalog.yaml.
        requirements: All requirements, in the order of the head's areas.
        sha256: Digest over the content of all its files.
    """

    head: CatalogHead
    requirements: tuple[Requirement, ...]
    sha256: Sha256

    @cached_property
    def by_id(self) -> Mapping[str, Requirement]:
        """Requirements by id and by alias."""
        known = {alias: requirement for requirement in self.requirements for alias in requirement.aliases}
        return known | {requirement.id: requirement for requirement in self.requirements}

    @cached_property
    def by_area(self) -> Mapping[str, tuple[Requirement, ...]]:
        """Requirements by area id, in order."""
        areas: dict[str, list[Requirement]] = {area.id: [] for _, area in self.areas()}
        for requirement in self.requirements:
            areas[requirement.area].append(requirement)
        return {area: tuple(found) for area, found in areas.items()}

    def areas(self) -> Iterator[tuple[DimensionHead, AreaHead]]:
        """Every area with its dimension, in order."""
        for dimension in self.head.dimensions:
            for area in dimension.areas:
                yield dimension, area

    def select(self, which: str | None) -> tuple[Requirement, ...]:
        """Requirements by id, area or dimension; all for None; empty when nothing has that name."""
        if which is None:
            return self.requirements
        if which in self.by_id:
            return (self.by_id[which],)
        if which in self.by_area:
            return self.by_area[which]
        return tuple(requirement for requirement in self.requirements if requirement.dimension == which)


# --- answers ---------------------------------------------------------------------------------------------------------


class Verdict(StrEnum):
    """How far a requirement is met, in the words of whoever fills that slot."""

    FULFILLED = "fulfilled"
    PARTLY = "partly"
    NOT_FULFILLED = "not_fulfilled"
    NOT_APPLICABLE = "not_applicable"
    NOT_ASSESSED = "not_assessed"


class EvidenceRef(Frozen):
    """One piece of evidence, by content: evidence/<sha256>/<name>."""

    name: Annotated[str, StringConstraints(pattern=r"^[^/\\\x00]+$", min_length=1)]
    sha256: Sha256


def _yes_no(value: object) -> object:
    """YAML reads an unquoted yes or no as a truth value; here it is the reply that was written."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


class Answer(Frozen):
    """The developer's answer to one requirement.

    Attributes:
        value: The developer's own verdict.
        because: The reason, compulsory.
        replies: Replies to the requirement's questions by question id.
        by: Who answered.
        at: When, with time zone.
        evidence: What was attached.
    """

    value: Literal[Verdict.FULFILLED, Verdict.PARTLY, Verdict.NOT_FULFILLED, Verdict.NOT_APPLICABLE]
    because: Text
    replies: Mapping[Identifier, Annotated[Text, BeforeValidator(_yes_no)]] = Field(default_factory=dict)
    by: Text
    at: datetime
    evidence: tuple[EvidenceRef, ...] = ()

    @model_validator(mode="after")
    def _zone(self) -> Answer:
        if self.at.tzinfo is None:
            raise ValueError(f"at: found '{self.at}', wanted a time with its zone, such as 2026-11-21T10:00:00Z")
        return self


class Answers(RootModel[Mapping[str, Answer]]):
    """One file of answers/: the answers of one area by requirement id."""

    model_config = ConfigDict(frozen=True, title="Answers of one area")


# --- assessor.yaml ---------------------------------------------------------------------------------------------------


class Level(StrEnum):
    """Protection need."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class ProtectionNeed(Frozen):
    """Protection need of one dimension, with its reason."""

    level: Level
    because: Text


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
        """Need of a dimension by its catalog id, such as "FN"."""
        for name, code in DIMENSION_NAMES.items():
            if code == dimension:
                need: ProtectionNeed | None = getattr(self, name)
                return need
        return None


class CatalogRef(Frozen):
    """Which catalog an assessment follows."""

    id: Identifier = "ai-assessment-catalog"
    version: str


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
    """Where the model is: exactly one of `load` (module:callable) or `predictions` (a table)."""

    load: Callable_ | None = None
    predictions: str | None = None
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
    """The splits."""

    train: DataSpec | None = None
    test: DataSpec


class TargetSpec(Frozen):
    """What is measured: task, model, data, device."""

    task: Task
    classes: tuple[str, ...] | None = None
    model: ModelSpec
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


# --- results ---------------------------------------------------------------------------------------------------------


class Status(StrEnum):
    """Outcome of one check. `measured`: no target was set, so nothing is judged."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    NOT_APPLICABLE = "not_applicable"
    ERROR = "error"
    MEASURED = "measured"


class Outcome(Frozen):
    """Status with the sentence that says why."""

    status: Status
    sentence: Text


class JudgedTarget(Frozen):
    """The target a result was judged against, and where it was set."""

    metric: str | None
    interval: Interval
    because: Text
    source: Text


class SplitDigest(Frozen):
    """Digest and size of one split."""

    sha256: Sha256
    n: int


class SubjectRecord(Frozen):
    """Exactly what was measured."""

    kind: str
    model_sha256: Sha256 | None
    data: Mapping[str, SplitDigest]


class Environment(Frozen):
    """Where it was measured."""

    python: str
    platform: str
    packages: Mapping[str, str]
    device: str
    threads: int


class CodeRecord(Frozen):
    """The code that measured."""

    package: str
    version: str
    sha256: Sha256


class CheckRun(Frozen):
    """One file of results/: what one run of one check measured, and how it compares.

    On CPU the same inputs and seed give the same bytes but for started, seconds and peak_memory_bytes.
    """

    model_config = ConfigDict(title="Check result, format 1")

    format: Literal[1] = 1
    check: CheckId
    check_version: str
    title: str
    requirements: tuple[str, ...]
    outcome: Outcome
    target: JudgedTarget | None
    metrics: tuple[Metric, ...] = ()
    series: tuple[Series, ...] = ()
    tables: tuple[Table, ...] = ()
    remarks: tuple[str, ...] = ()
    doubt: str | None = None
    limits: tuple[str, ...]
    params: Mapping[str, Any]
    seed: int
    subject: SubjectRecord
    environment: Environment
    code: CodeRecord
    key: Sha256
    started: datetime
    seconds: float
    peak_memory_bytes: int

    @property
    def result(self) -> Result | None:
        """What `measure` returned, or None when it could not measure."""
        if not self.metrics:
            return None
        return Result(
            metrics=self.metrics, series=self.series, tables=self.tables, remarks=self.remarks, doubt=self.doubt
        )

    @property
    def judged_metric(self) -> Metric | None:
        """The metric the target means: the named one, else the primary, else the first."""
        wanted = self.target.metric if self.target else None
        for metric in self.metrics:
            if metric.name == wanted or (wanted is None and metric.primary):
                return metric
        return self.metrics[0] if self.metrics and wanted is None else None
