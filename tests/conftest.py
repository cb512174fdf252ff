"""What several tests need: the catalog, an assessment folder over a small table, a tiny check of our own."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads: spinning threads starve each other
os.environ.setdefault("OMP_NUM_THREADS", "1")  # small tensors, and as many test processes as cores

from commands import Done, Run, ended

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
    "catalog": {"id": "ai-assessment-catalog", "version": "1.1.0"},
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


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in this process, on a wide terminal; what it printed before does not count."""
    monkeypatch.setenv("COLUMNS", "300")

    def call(*arguments: object) -> Done:
        capfd.readouterr()
        code = ended(*arguments)
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return Done(code, out, err)

    return call


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


# --- a catalog of a few requirements ---------------------------------------------------------------------------------

HEAD = """schema: aic-catalog/1
id: tiny
version: 1.0.0
title: Tiny
source: {title: a, publisher: b, edition: c, url: d, note: e}
documents:
  - {id: report, title: Report}
dimensions:
  - id: PF
    title: Profile
    areas:
      - {id: PF-T, kind: profile, title: Structure}
  - id: FN
    title: Fairness
    areas:
      - {id: FN-P, kind: protection, title: Need}
      - {id: FN-R-FN, kind: risk, title: Risk}
      - {id: FN-S, kind: summary, title: Summary}
  - id: AT
    title: Judgement
    areas:
      - {id: AT, kind: judgement, title: Final}
packs: [X-TRY]
"""
PACK = """schema: aic-pack/1
id: X-TRY
version: 1.0.0
note: For trial.
dimension:
  id: X-TRY
  title: Trial
  areas:
    - {id: X-TRY-R-ME, kind: risk, title: Memory}
"""
COMMON = """    title: A title
    statement: A statement.
    guidance: {do: Do it., example: Done., mistakes: [Not doing it.]}
    objectives: [{id: a, text: It is done.}]
    evidence: [{type: document, what: A document, document: report, max_age_days: 30}]
    provenance: {status: seen}
"""
TEXT_QUESTION = "    questions: [{id: q1, type: text, text: What?, objectives: [a]}]\n"
PROBE = "      - {id: probe, type: text, text: Really?, role: auditor}\n"
SCENARIOS = "    questions:\n" + "".join(
    f"      - {{id: {name}, type: choice, options: [low, medium, high], text: How bad?}}\n"
    for name in ("material", "bodily", "immaterial", "indirect")
)


def _requirement(name: str, aspect: str, more: str = TEXT_QUESTION, kinds: str = "Do") -> str:
    return f"  - id: {name}\n    aspect: {aspect}\n    kinds: [{kinds}]\n{COMMON}{more}"


def _area(area: str, *requirements: str) -> str:
    return f"area: {area}\nrequirements:\n" + "".join(requirements)


TINY = {
    "catalog.yaml": HEAD,
    "PF/PF-T.yaml": _area(
        "PF-T",
        _requirement(
            "PF-T-FA-01",
            "PF",
            "    questions:\n"
            "      - {id: learns, type: choice, options: [never, at times], text: H?, fact: learning, label: learns}\n"
            "      - {id: uses, type: several, options: [none, text, image], text: What?, fact: uses, label: uses}\n"
            "      - {id: when, type: text, text: When?, show_if: profile.learning != 'never'}\n" + PROBE,
        ),
    ),
    "FN/FN-P.yaml": _area("FN-P", _requirement("FN-P", "P", SCENARIOS)),
    "FN/FN-R-FN.yaml": _area(
        "FN-R-FN",
        _requirement("FN-R-FN-RI-01", "RI"),
        _requirement(
            "FN-R-FN-CR-01",
            "CR",
            "    params: [{id: gap, type: interval, label: Gap, unit: '1', check: trial.share}]\n" + TEXT_QUESTION,
        ),
        _requirement(
            "FN-R-FN-CR-02",
            "CR",
            "    applicability: profile.learning != 'never'\n"
            "    params: [{id: days, type: number, label: Days, unit: days}]\n" + TEXT_QUESTION,
        ),
        _requirement(
            "FN-R-FN-ME-01",
            "ME",
            "    lifecycle: data\n    checks: [trial.share]\n    refers_to: [FN-R-FN-CR-01]\n" + TEXT_QUESTION,
            kinds="Te",
        ),
        _requirement(
            "FN-R-FN-ME-02",
            "ME",
            "    lifecycle: any\n    applicability: need == 'high' or 'image' in profile.uses\n" + TEXT_QUESTION,
        ),
        _requirement("FN-R-FN-OA", "OA"),
    ),
    "FN/FN-S.yaml": _area(
        "FN-S",
        _requirement(
            "FN-S",
            "S",
            "    refers_to: [FN-R-FN-OA]\n    questions:\n"
            "      - {id: residual_risk, type: choice, options: [negligible, acceptable, unacceptable], text: How?}\n"
            "      - {id: reason, type: text, text: Why?, prefill: ['answer:FN-R-FN-OA.q1']}\n",
        ),
    ),
    "AT/AT.yaml": _area("AT", _requirement("AT", "AT", "    refers_to: [FN-S]\n" + TEXT_QUESTION)),
    "packs/X-TRY/pack.yaml": PACK,
    "packs/X-TRY/X-TRY-R-ME.yaml": _area(
        "X-TRY-R-ME", _requirement("X-TRY-R-ME-RI-01", "RI"), _requirement("X-TRY-R-ME-OA", "OA")
    ).replace("{status: seen}", "{status: own, sources: [A book]}"),
}


def write_tiny(folder: Path) -> Path:
    """Put the tiny catalog into a folder."""
    for name, text in TINY.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return folder


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Folder of a valid catalog of nine requirements, and a pack of two."""
    return write_tiny(tmp_path / "tiny")


@pytest.fixture(scope="session")
def tiny_catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """The tiny catalog, without its pack."""
    return load_catalog(write_tiny(tmp_path_factory.mktemp("tiny")))
