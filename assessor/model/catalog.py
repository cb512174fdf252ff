"""The catalog: requirements with their questions, and the order they stand in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator

from assessor.contract import Frozen
from assessor.expressions import Expression, parse
from assessor.model.words import CheckId, Identifier, Sha256, Text


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


class State(StrEnum):
    """Whether a requirement is in use. Ids are withdrawn, never deleted or used again."""

    ACTIVE = "active"
    WITHDRAWN = "withdrawn"


class ProvenanceStatus(StrEnum):
    """How much of the source's item was read when ours was written; `own` is for packs outside the source."""

    SEEN = "seen"
    ID_ONLY = "id-only"
    PATTERN = "pattern"
    RECONSTRUCTED = "reconstructed"
    OWN = "own"


class Provenance(Frozen):
    """Where a requirement comes from.

    Attributes:
        status: How much of the source's item was read.
        sources: For packs: the publications it rests on, each with what can be looked up there.
    """

    status: ProvenanceStatus
    sources: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _sources(self) -> Provenance:
        if (self.status is ProvenanceStatus.OWN) != bool(self.sources):
            raise ValueError("sources go with status own, and only with it")
        return self


class Guidance(Frozen):
    """Help for a developer who does not have the original.

    Attributes:
        do: What to do to fulfil it.
        example: A good answer, for a made-up system.
        mistakes: What goes wrong often.
    """

    do: Text
    example: Text
    mistakes: tuple[Text, ...] = Field(min_length=1)


class Objective(Frozen):
    """One thing an assessor establishes. Its full id is `<requirement>.<id>`."""

    id: Annotated[str, StringConstraints(pattern=r"^[a-z]$")]
    text: Text


def _parses(text: str) -> str:
    parse(text)
    return text


Condition = Annotated[Text, AfterValidator(_parses)]


class QuestionType(StrEnum):
    """Form of the reply."""

    TEXT = "text"
    CHOICE = "choice"
    SEVERAL = "several"
    YES_NO = "yes_no"
    NUMBER = "number"
    INTERVAL = "interval"
    TABLE = "table"
    FILE = "file"
    PERSON = "person"
    DATE = "date"


class Role(StrEnum):
    """To whom a question is put."""

    DEVELOPER = "developer"
    AUDITOR = "auditor"


PREFILL = re.compile(r"^(result:[a-z_]+\.[a-z0-9_]+|known:[a-z_]+|answer:[A-Za-z-]+(-\d\d)?\.[a-z0-9_]+)$")


class Question(Frozen):
    """One question of a requirement.

    Attributes:
        id: Unique in its requirement.
        type: Form of the reply.
        text: The question.
        options: Permitted replies of type choice and several. These words are stored, whatever the language.
        labels: How the options are shown in another language.
        columns: Column names of a table, stored like options.
        unit: Of a number or interval.
        role: Who is asked.
        show_if: Condition under which it is asked; unknown counts as true.
        fact: Name under which conditions may use the reply as `profile.<fact>`; for the AI profile only.
        label: Short name of that fact, to be shown in "asked because ...".
        objectives: Objectives the reply speaks to.
        prefill: Where a first draft of the reply may come from, best first: `result:<check>`, `known:<what an
            imported model card, bill of materials or repository says>`, `answer:<requirement>.<question>`.
    """

    id: Identifier
    type: QuestionType
    text: Text
    options: tuple[Text, ...] = ()
    labels: Mapping[str, str] = Field(default_factory=dict)
    columns: tuple[Text, ...] = ()
    unit: Text | None = None
    role: Role = Role.DEVELOPER
    show_if: Condition | None = None
    fact: Identifier | None = None
    label: Text | None = None
    objectives: tuple[Text, ...] = ()
    prefill: tuple[Annotated[str, StringConstraints(pattern=PREFILL.pattern)], ...] = ()

    @model_validator(mode="after")
    def _fits_type(self) -> Question:
        if (self.type in {QuestionType.CHOICE, QuestionType.SEVERAL}) != bool(self.options):
            raise ValueError("options go with type choice or several, and only with them")
        if (self.type is QuestionType.TABLE) != bool(self.columns):
            raise ValueError("columns go with type table, and only with it")
        if self.unit and self.type not in {QuestionType.NUMBER, QuestionType.INTERVAL}:
            raise ValueError("unit goes with type number or interval")
        if (self.fact is None) != (self.label is None):
            raise ValueError("fact and label go together")
        if self.type is QuestionType.SEVERAL and any(mark in word for word in self.options for mark in ",;"):
            raise ValueError("options of type several hold no comma and no semicolon, which part a reply")
        return self

    @property
    def choices(self) -> tuple[str, ...]:
        """The permitted replies; empty when any text will do."""
        return ("yes", "no") if self.type is QuestionType.YES_NO else self.options

    @property
    def condition(self) -> Expression | None:
        """`show_if`, parsed."""
        return parse(self.show_if) if self.show_if else None


class ParamType(StrEnum):
    """What a criterion's target is."""

    INTERVAL = "interval"
    NUMBER = "number"
    CHOICE = "choice"
    TEXT = "text"


class Param(Frozen):
    """A target the user sets for a criterion, always with a reason: the catalog sets none.

    Attributes:
        id: Unique in its requirement.
        type: Form of the value.
        label: What is set.
        options: Permitted values of type choice; stored words, whatever the language.
        labels: How the options are shown in another language.
        unit: Of a number or interval.
        check: Check whose target in assessor.yaml this is; then it is set there and nowhere else.
    """

    id: Identifier
    type: ParamType
    label: Text
    options: tuple[Text, ...] = ()
    labels: Mapping[str, str] = Field(default_factory=dict)
    unit: Text | None = None
    check: CheckId | None = None

    @model_validator(mode="after")
    def _fits_type(self) -> Param:
        if (self.type is ParamType.CHOICE) != bool(self.options):
            raise ValueError("options go with type choice, and only with it")
        if (self.type in {ParamType.INTERVAL, ParamType.NUMBER}) != bool(self.unit):
            raise ValueError("unit goes with type interval or number, and is compulsory there (1 for a plain fraction)")
        if self.check and self.type is not ParamType.INTERVAL:
            raise ValueError("a target of a check is an interval")
        return self


class EvidenceType(StrEnum):
    """What an auditor expects to be shown."""

    DOCUMENT = "document"
    PROCESS = "process"
    TEST_REPORT = "test_report"
    RECORD = "record"
    DATA = "data"


class ExpectedEvidence(Frozen):
    """Evidence an auditor would ask for.

    Attributes:
        type: Its form.
        what: What it must show.
        document: Id of the document it is usually found in (catalog.yaml `documents`): one document, once attached, is
            offered again wherever it is expected.
        max_age_days: How old it may be; None when it does not age.
    """

    type: EvidenceType
    what: Text
    document: Identifier | None = None
    max_age_days: Annotated[int, Field(gt=0)] | None = None


CODE = r"(FN|AC|TR|RE|S|DP|X-[A-Z]+)"
REQUIREMENT_ID = re.compile(
    rf"^(PF-T-(FA|ST)-(\d\d|[a-z])|{CODE}-(P|S|R-[A-Z]{{2}}-((RI|CR|ME)-(\d\d|[a-z])|OA(-\d\d)?))|AT)$"
)
_DIMENSION = re.compile(r"^(X-[A-Z]+|[A-Z]+)")


def dimension_of(name: str) -> str:
    """Id of the dimension that a requirement's or an area's id names.

    >>> dimension_of("FN-R-FN-ME-05"), dimension_of("X-GEN-R-PI-ME-01")
    ('FN', 'X-GEN')
    """
    found = _DIMENSION.match(name)
    return found[0] if found else name


class Requirement(Frozen):
    """One requirement of the catalog, in our own words.

    Attributes:
        id: The catalog's id; a lower-case letter for the number where the source's was not seen.
        aliases: Other ids the same item is printed or known under.
        state: Whether it is in use.
        replaced_by: For a withdrawn one: what took its place.
        aspect: Step of the argument.
        lifecycle: For measures, where they act.
        kinds: What must be shown.
        conditional: The kinds that are due only under the statement's condition.
        title: The wanted state, in a few words.
        statement: What must be true for it to be fulfilled.
        guidance: Help in answering.
        objectives: What an assessor establishes, one by one.
        applicability: Condition under which it is asked, beside its dimension's protection need; unknown is asked.
        params: Targets the user sets, for criteria.
        questions: What developers and auditors are asked.
        evidence: What an auditor expects to see.
        refers_to: Requirements it builds on.
        checks: Automated checks whose results are evidence for it.
        no_check_because: Where a test is demanded and no check is bound: why.
        provenance: How much of the source's item was read.
    """

    id: str
    aliases: tuple[str, ...] = ()
    state: State = State.ACTIVE
    replaced_by: tuple[str, ...] = ()
    aspect: Aspect
    lifecycle: Lifecycle | None = None
    kinds: tuple[Kind, ...] = Field(min_length=1)
    conditional: tuple[Kind, ...] = ()
    title: Annotated[Text, StringConstraints(max_length=88)]
    statement: Text
    guidance: Guidance
    objectives: tuple[Objective, ...] = Field(min_length=1)
    applicability: Condition | None = None
    params: tuple[Param, ...] = ()
    questions: tuple[Question, ...] = Field(min_length=1)
    evidence: tuple[ExpectedEvidence, ...] = Field(min_length=1)
    refers_to: tuple[str, ...] = ()
    checks: tuple[CheckId, ...] = ()
    no_check_because: Text | None = None
    provenance: Provenance

    @model_validator(mode="after")
    def _consistent(self) -> Requirement:
        if not REQUIREMENT_ID.match(self.id):
            raise ValueError(f"id: found '{self.id}', wanted an id such as FN-R-FN-ME-05")
        if (self.lifecycle is not None) != (self.aspect is Aspect.MEASURE):
            raise ValueError("lifecycle goes with aspect ME, and only with it")
        if not set(self.conditional) <= set(self.kinds):
            raise ValueError("conditional lists kinds that are not among kinds")
        for what, ids in (
            ("question", [question.id for question in self.questions]),
            ("objective", [objective.id for objective in self.objectives]),
            ("param", [param.id for param in self.params]),
        ):
            if len(set(ids)) < len(ids):
                raise ValueError(f"{what} ids repeat")
        if bool(self.params) != (self.aspect is Aspect.CRITERION):
            raise ValueError("params go with aspect CR, and every criterion has one")
        if self.wants_test and not self.checks and not self.no_check_because:
            raise ValueError("a test is demanded: wanted checks, or no_check_because saying why none can be automatic")
        if self.no_check_because and (self.checks or not self.wants_test):
            raise ValueError("no_check_because goes with a demanded test (Te) that no check is bound to")
        if self.replaced_by and self.state is not State.WITHDRAWN:
            raise ValueError("replaced_by goes with state withdrawn")
        known = {objective.id for objective in self.objectives}
        for question in self.questions:
            if stray := set(question.objectives) - known:
                raise ValueError(f"question {question.id} objectives: no objective '{min(stray)}'")
        return self

    @property
    def area(self) -> str:
        """Id of the area (and name of the file) it stands in."""
        if self.aspect is Aspect.JUDGEMENT:
            return "AT"
        if self.aspect is Aspect.PROFILE:
            return "PF-T"
        return re.sub(r"-((RI|CR|ME)-(\d\d|[a-z])|OA(-\d\d)?)$", "", self.id)

    @property
    def dimension(self) -> str:
        """Id of its dimension: the first part of the id."""
        return dimension_of(self.id)

    @property
    def wants_test(self) -> bool:
        """Whether a test report is demanded."""
        return Kind.TEST in self.kinds

    @property
    def condition(self) -> Expression | None:
        """`applicability`, parsed."""
        return parse(self.applicability) if self.applicability else None

    @property
    def for_developer(self) -> tuple[Question, ...]:
        """Questions put to the developer."""
        return tuple(question for question in self.questions if question.role is Role.DEVELOPER)

    @property
    def for_auditor(self) -> tuple[Question, ...]:
        """Questions put to the auditor."""
        return tuple(question for question in self.questions if question.role is Role.AUDITOR)

    def question(self, question_id: str) -> Question | None:
        """The question of that id, if there is one."""
        return next((question for question in self.questions if question.id == question_id), None)

    def param(self, param_id: str) -> Param | None:
        """The param of that id, if there is one."""
        return next((param for param in self.params if param.id == param_id), None)


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
    """A dimension's lines in catalog.yaml. PF and AT stand beside the six dimensions; packs bring their own."""

    id: Identifier
    title: Text
    lowest_need: Literal["low", "medium"] = "low"
    areas: tuple[AreaHead, ...]

    @property
    def is_dimension(self) -> bool:
        """Whether it is one of the six or a pack's, and not the profile or the final judgement."""
        return any(area.kind is AreaKind.RISK for area in self.areas)

    @property
    def is_pack(self) -> bool:
        """Whether it stands outside the source's id space."""
        return self.id.startswith("X-")


class DocumentHead(Frozen):
    """A document that serves as evidence in many places."""

    id: Identifier
    title: Text


class Source(Frozen):
    """The published catalog ours is structured after."""

    title: Text
    publisher: Text
    edition: Text
    url: Text
    note: Text


Version = Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+$")]


class CatalogHead(Frozen):
    """catalog.yaml.

    Attributes:
        id: Of the catalog.
        version: Of the catalog.
        title: Of the catalog.
        source: What it is structured after.
        documents: Documents that serve as evidence in many places.
        dimensions: In order, each with its areas.
        packs: Packs that can be switched on in assessor.yaml.
    """

    model_config = ConfigDict(title="Catalog head file")

    schema_: Literal["aic-catalog/1"] = Field(alias="schema")
    id: Identifier
    version: Version
    title: Text
    source: Source
    documents: tuple[DocumentHead, ...] = ()
    dimensions: tuple[DimensionHead, ...]
    packs: tuple[Identifier, ...] = ()


class Pack(Frozen):
    """packs/<id>/pack.yaml: one more dimension, outside the source's id space."""

    model_config = ConfigDict(title="Pack head file")

    schema_: Literal["aic-pack/1"] = Field(alias="schema")
    id: Annotated[str, StringConstraints(pattern=r"^X-[A-Z]+$")]
    version: Version
    note: Text
    dimension: DimensionHead

    @model_validator(mode="after")
    def _one_name(self) -> Pack:
        if self.dimension.id != self.id:
            raise ValueError(f"dimension.id: found '{self.dimension.id}', wanted '{self.id}'")
        return self


class Catalog(Frozen):
    """The whole catalog in its order.

    Attributes:
        head: catalog.yaml, with the dimensions of the packs that are switched on.
        requirements: All requirements, in the order of the head's areas.
        sha256: Digest over the content of all its files.
        language: Of the texts.
    """

    head: CatalogHead
    requirements: tuple[Requirement, ...]
    sha256: Sha256
    language: str = "en"

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

    @cached_property
    def used_by(self) -> Mapping[str, tuple[str, ...]]:
        """By requirement id, the ids that refer to it, in order."""
        users: dict[str, list[str]] = {requirement.id: [] for requirement in self.requirements}
        for requirement in self.requirements:
            for name in requirement.refers_to:
                users[self.by_id[name].id].append(requirement.id)
        return {name: tuple(found) for name, found in users.items()}

    @cached_property
    def facts(self) -> Mapping[str, Question]:
        """Questions of the AI profile by the name that conditions use."""
        return {
            question.fact: question
            for requirement in self.requirements
            for question in requirement.questions
            if question.fact
        }

    def document(self, name: str) -> DocumentHead | None:
        """The document of that id, if there is one."""
        return next((document for document in self.head.documents if document.id == name), None)

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
