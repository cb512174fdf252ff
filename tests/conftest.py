"""What several tests need: the catalog, an assessment folder over a small table, a tiny check of our own."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads: spinning threads starve each other

from assessor import yamlfile
from assessor.contract import Better, Check, CheckInfo, Metric, Need, Params, Result, Series, Subject, Task
from assessor.criteria import load_catalog
from assessor.model import (
    Catalog,
    CheckRun,
    CodeRecord,
    Configuration,
    Environment,
    Outcome,
    Status,
    SubjectRecord,
)
from assessor.project import Project

TABLE = "y,p,s,sex\n" + "".join(
    f"{i % 2},{int(i % 5 == 0) ^ i % 2},{0.1 + 0.8 * (i % 2)},{'fm'[i % 3 == 0]}\n" for i in range(20)
)
CONFIGURATION: dict[str, Any] = {
    "format": 1,
    "catalog": {"id": "ai-assessment-catalog", "version": "1.0.0"},
    "system": {"name": "small system", "version": "1"},
    "target": {
        "task": "binary",
        "model": {"predictions": "p.csv"},
        "data": {"test": {"label": "y", "prediction": "p", "score": "s", "sensitive": ["sex"]}},
        "device": "cpu",
    },
}
ZEROS = "0" * 64


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    """The catalog that comes with the product."""
    return load_catalog()


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Project]:
    """Makes an assessment folder over a table of predictions; keywords replace keys of assessor.yaml."""

    def make(folder: str = "assessment", table: str = TABLE, **changes: Any) -> Project:
        files = {"assessor.yaml": yamlfile.dump({**CONFIGURATION, **changes}).encode(), "p.csv": table.encode()}
        return Project.create(tmp_path / folder, files, actor="tester", action="init")

    return make


@pytest.fixture(scope="session")
def configure() -> Callable[..., Configuration]:
    """Makes a configuration; keywords replace keys of assessor.yaml."""
    return lambda **changes: Configuration.model_validate({**CONFIGURATION, **changes})


class ShareParams(Params):
    """Of the tiny check."""

    half_width: float = 0.25


def share(subject: Subject, params: ShareParams, seed: int) -> Result:
    """Share of right predictions, give or take a parameter."""
    import numpy as np

    right = subject.predictions("test") == subject.splits["test"].labels
    value, draws = float(right.mean()), np.random.default_rng(seed).random(3)
    metric = Metric(
        name="share",
        value=value,
        low=value - params.half_width,
        high=value + params.half_width,
        confidence=0.95,
        n=len(right),
        better=Better.HIGHER,
        method="made up",
        primary=True,
    )
    return Result(
        metrics=(metric,), series=(Series(name="draws", title="Draws", columns={"x": tuple(map(float, draws))}),)
    )


@pytest.fixture(scope="session")
def make_check() -> Callable[..., Check]:
    """Makes a tiny check; `measure` replaces what it does, other keywords fields of its info."""

    def make(measure: Callable[..., Any] = share, **changes: Any) -> Check:
        fields: dict[str, Any] = {
            "id": "trial.share",
            "version": "1",
            "title": "Share of right predictions",
            "measures": "The share of right predictions.",
            "unit": "1",
            "needs": frozenset({Need.TEST}),
            "tasks": frozenset({Task.BINARY}),
            "limits": ("It is made up",),
            "remedy": "None.",
            "source": "This file",
            "requirements": ("RE-R-SC-ME-05",),
        }
        return Check(info=CheckInfo(**{**fields, **changes}), params=ShareParams, measure=measure)

    return make


@pytest.fixture(scope="session")
def make_run() -> Callable[..., CheckRun]:
    """Makes a stored result; keywords replace its fields."""

    def make(
        check: str = "trial.share", status: str = "pass", sentence: str = "a sentence", **changes: Any
    ) -> CheckRun:
        metric = Metric(name="share", value=0.5, low=0.4, high=0.6, n=20, better=Better.HIGHER, method="made up")
        measured = status not in {"error", "not_applicable"}
        fields: dict[str, Any] = {
            "check": check,
            "check_version": "1",
            "title": "Share",
            "requirements": (),
            "outcome": Outcome(status=Status(status), sentence=sentence),
            "target": None,
            "metrics": (metric,) if measured else (),
            "limits": ("none",),
            "params": {},
            "seed": 0,
            "subject": SubjectRecord(kind="predictions", model_sha256=None, data={}),
            "environment": Environment(python="3", platform="Linux", packages={}, device="cpu", threads=1),
            "code": CodeRecord(package="p", version="1", sha256=ZEROS),
            "key": ZEROS,
            "started": datetime(2026, 11, 21, 10, tzinfo=UTC),
            "seconds": 0.5,
            "peak_memory_bytes": 1,
        }
        return CheckRun(**{**fields, **changes})

    return make
