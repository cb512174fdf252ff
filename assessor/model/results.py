"""results/: what one run of one check measured, and how it compares."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator

from assessor.contract import (
    Document,
    Frozen,
    Metric,
    Outcomes,
    Result,
    Sample,
    Series,
    Table,
    refuse_other_outcomes,
)
from assessor.model.configuration import Interval
from assessor.model.words import CheckId, Sha256, Text


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
    """Digest and size of one split, and how its rows were drawn from more, where they were."""

    sha256: Sha256
    n: int
    sample: Sample | None = None


class SubjectRecord(Frozen):
    """Exactly what was measured.

    Attributes:
        kind: "torch", "sklearn", "files", or the model's format as assessor.yaml calls it.
        model_sha256: Digest of the model: of its parameters, or of its file.
        baseline_sha256: That of the model it is compared with.
        architecture_sha256: That of the untrained model.
        files: Digests of the files that hold the model.
        dependencies: Digests of the files that list its packages.
        data: Digests and sizes of the splits.
        trusted: Whether --trust loaded it although its files can run code.
        confinement: What kept a model in a process of its own from everything else; empty for one in this process.
    """

    kind: str
    model_sha256: Sha256 | None
    baseline_sha256: Sha256 | None = None
    architecture_sha256: Sha256 | None = None
    files: Mapping[str, Sha256] = {}
    dependencies: Mapping[str, Sha256] = {}
    data: Mapping[str, SplitDigest]
    trusted: bool = False
    confinement: tuple[str, ...] = ()


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
    documents: tuple[Document, ...] = ()
    outcomes: tuple[Outcomes, ...] = ()
    doubt: str | None = None
    danger: str | None = None
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

    @model_validator(mode="after")
    def _fitting_outcomes(self) -> CheckRun:
        refuse_other_outcomes(self.metrics, self.outcomes)
        return self

    @model_serializer(mode="wrap")
    def _without_nothing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """No outcomes are no field, so that results from before there were any keep their digests."""
        data: dict[str, Any] = handler(self)
        if not self.outcomes:
            data.pop("outcomes", None)
        return data

    @property
    def result(self) -> Result | None:
        """What `measure` returned, or None when it could not measure."""
        if not self.metrics:
            return None
        return Result(**{name: getattr(self, name) for name in Result.model_fields})

    @property
    def judged_metric(self) -> Metric | None:
        """The metric the target means: the named one, else the primary, else the first."""
        wanted = self.target.metric if self.target else None
        for metric in self.metrics:
            if metric.name == wanted or (wanted is None and metric.primary):
                return metric
        return self.metrics[0] if self.metrics and wanted is None else None
