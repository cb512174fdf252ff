"""Running checks: plan, refuse what does not apply, measure, judge, describe how it can be measured again.

The engine knows no check by name and writes no files.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import platform
import random
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from assessor.canonical import canonical_json, sha256_hex
from assessor.contract import Check, Need, NotApplicable, Params, Result, Subject, collecting, metering
from assessor.footprint import Peak
from assessor.messages import SOURCE, speaking
from assessor.model import (
    CheckRun,
    CodeRecord,
    Environment,
    JudgedTarget,
    Outcome,
    SplitDigest,
    Status,
    SubjectRecord,
)
from assessor.registry import load_checks
from assessor.verdicts import judge

PACKAGES = ("ai-assessor", "numpy", "pandas", "scipy", "scikit-learn", "torch")
FORMAT_PACKAGES: Mapping[str, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxruntime"),
    "xgboost": ("xgboost", "xgboost-cpu"),
    "lightgbm": ("lightgbm",),
    "transformers": ("transformers", "tokenizers"),
}
"""What else the numbers of a model in these formats may depend on."""
THREADED = ("torch", "onnx", "transformers")
"""Kinds of subjects that torch may compute, with as many threads as it has."""

REASONS: Mapping[Need, str] = {
    Need.TEST: "test data (target.data.test)",
    Need.TRAIN: "training data (target.data.train)",
    Need.PROBABILITIES: "class probabilities or scores",
    Need.SENSITIVE: "sensitive attributes (target.data.test sensitive: [...], or a third item of the loaded data)",
    Need.QUERY: "the model itself, to ask it for new inputs",
    Need.GRADIENTS: "a PyTorch module, for its gradients",
    Need.BASELINE: "a model to compare with (target.baseline)",
    Need.DESIGN: "repeated inputs at known values of a parameter (target.data.design)",
    Need.ARCHITECTURE: "a way to build the untrained model (target.model.build)",
    Need.REFIT: "training data and a way to train the model anew (target.model.train)",
    Need.OOD: "rows from outside the field of use (target.data.ood)",
    Need.PRODUCTION: "rows met in use (target.data.production)",
    Need.FILES: "the files that hold the model (target.model.files)",
    Need.DEPENDENCIES: "the files that list its packages (target.dependencies)",
    Need.RELOAD: "a way to load it once more (target.model.load)",
}


@dataclass(frozen=True)
class Job:
    """One check to run on one subject.

    Attributes:
        check: The check.
        params: Its validated parameters.
        target: What to judge against, or None.
        seed: Seed of all its randomness.
        requirements: Requirements it is evidence for: its own and those the catalog binds.
    """

    check: Check
    params: Params
    target: JudgedTarget | None
    seed: int
    requirements: tuple[str, ...]


def subject_record(subject: Subject, kind: str, model_sha256: str | None) -> SubjectRecord:
    """Digests of what is measured."""
    data = {
        name: SplitDigest(sha256=split.sha256, n=split.n, sample=split.sample)
        for name, split in sorted(subject.splits.items())
    }
    baseline = getattr(subject.baseline, "sha256", None) if Need.BASELINE in subject.offers else None
    untrained = getattr(subject, "architecture_sha256", None) if Need.ARCHITECTURE in subject.offers else None
    return SubjectRecord(
        kind=kind,
        model_sha256=model_sha256,
        baseline_sha256=baseline,
        architecture_sha256=untrained,
        files={name: _file_digest(path) for name, path in sorted(subject.origin.files.items())},
        dependencies={name: sha256_hex(text.encode()) for name, text in sorted(subject.origin.dependencies.items())},
        data=data,
        trusted=subject.origin.trusted,
        confinement=getattr(subject, "confinement", ()),
    )


def _file_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def key_of(job: Job, record: SubjectRecord, device: str) -> str:
    """Digest of everything a measurement depends on: equal keys mean that it need not be made again."""
    parts = {"scope": scope_of(job, record, device), "params": job.params.model_dump(mode="json"), "seed": job.seed}
    return sha256_hex(canonical_json(parts))


def scope_of(job: Job, record: SubjectRecord, device: str) -> JsonValue:
    """All that every part of a measurement depends on, whatever the parameters and the seed."""
    return {
        "check": job.check.id,
        "version": job.check.info.version,
        "code": code_record(job.check).sha256,
        "subject": record.model_dump(mode="json"),
        "environment": environment(device, record.kind).model_dump(mode="json"),
    }


def run_job(job: Job, subject: Subject, record: SubjectRecord) -> CheckRun:
    """Measure and judge.

    Args:
        job: What to run.
        subject: On what.
        record: Its digests.

    Returns:
        The run; a check that cannot measure ends as not_applicable or error with its reason.
    """  # noqa: DOC501 - NotApplicable stays inside
    started, clock = datetime.now(UTC), time.perf_counter()
    peak = Peak.begun(subject.device)
    result: Result | None = None
    try:
        lacking = refusal(job.check, subject)
        if lacking:
            raise NotApplicable(lacking)
        with fixed_randomness(job.seed), metering(lambda: peak.size), collecting() as remarks:
            result = _measured(job.check.measure(subject, job.params, job.seed))
        result = result.model_copy(update={"remarks": (*result.remarks, *remarks, *_samples(subject))})
        with speaking(SOURCE):
            outcome = judge(result, job.target)
    except NotApplicable as reason:
        outcome = Outcome(status=Status.NOT_APPLICABLE, sentence=_plain(str(reason)) or "not applicable")
        result = None
    except (Exception, SystemExit) as fault:  # noqa: BLE001 - whatever is raised is this outcome, never a pass
        outcome = Outcome(status=Status.ERROR, sentence=_told(fault))
        result = None
    return CheckRun(
        check=job.check.id,
        check_version=job.check.info.version,
        title=job.check.info.title,
        requirements=job.requirements,
        outcome=outcome,
        target=job.target,
        **(_contents(result) if result else {}),
        limits=job.check.info.limits,
        params=job.params.model_dump(mode="json"),
        seed=job.seed,
        subject=record,
        environment=environment(subject.device, record.kind),
        code=code_record(job.check),
        key=key_of(job, record, subject.device),
        started=started,
        seconds=round(time.perf_counter() - clock, 3),
        peak_memory_bytes=peak.size,
    )


def _samples(subject: Subject) -> tuple[str, ...]:
    """What readers must know of splits that are samples."""
    drawn = {name: split for name, split in sorted(subject.splits.items()) if split.sample}
    return tuple(
        f"The {name} split is a sample: {split.sample.told(split.n)}." for name, split in drawn.items() if split.sample
    )


def _measured(value: object) -> Result:
    if not isinstance(value, Result):
        raise TypeError(f"the check gave a {type(value).__qualname__}, wanted a Result")
    return value


def _contents(result: Result) -> dict[str, Any]:
    return {name: getattr(result, name) for name in Result.model_fields}


def rejudge(run: CheckRun, job: Job) -> CheckRun:
    """The same measurement against the job's target; nothing is measured again."""
    with speaking(SOURCE):
        outcome = judge(run.result, job.target) if run.result else run.outcome
    changed = {"outcome": outcome, "target": job.target, "requirements": job.requirements, "started": datetime.now(UTC)}
    return run.model_copy(update=changed)


def is_same(run: CheckRun, job: Job) -> bool:
    """Whether a stored run already says what this job would: target and requirements included."""
    return run.target == job.target and run.requirements == job.requirements


def refusal(check: Check, subject: Subject) -> str | None:
    """Why the check cannot measure the subject, with the checks that can instead; None where it can."""
    reason = _lack(check, subject)
    if reason is None or not check.info.instead:
        return reason
    installed = load_checks()
    others = [name for name in check.info.instead if name in installed and _lack(installed[name], subject) is None]
    return f"{reason}; measure this instead: {', '.join(others)}" if others else reason


def _lack(check: Check, subject: Subject) -> str | None:
    if subject.task not in check.info.tasks:
        tasks = ", ".join(sorted(check.info.tasks))
        return f"measures {tasks} tasks, and this is a {subject.task} task"
    missing = sorted(check.info.needs - subject.offers)
    return f"needs {' and '.join(REASONS[need] for need in missing)}" if missing else None


def _told(fault: BaseException) -> str:
    """What was raised and the last line of the user's or our code on the way, not of a library."""
    text = _plain(str(fault))
    frames = traceback.extract_tb(fault.__traceback__)
    own = [frame for frame in frames if not {"site-packages", "dist-packages"} & set(Path(frame.filename).parts)]
    where = f" ({Path(own[-1].filename).name}:{own[-1].lineno})"
    return f"{type(fault).__name__}: {text[:500]}{where}" if text else f"{type(fault).__name__}{where}"


def _plain(text: str) -> str:
    """One line of text that every file can hold."""
    return " ".join(text.encode("utf-8", "replace").decode().split())


@contextmanager
def fixed_randomness(seed: int) -> Iterator[None]:
    """Seed Python's, numpy's and torch's global generators for a while: users' models may draw from them."""
    import numpy as np

    state, python_state = np.random.get_state(), random.getstate()
    np.random.seed(seed % 2**32)
    random.seed(seed)
    torch = sys.modules.get("torch")
    try:
        if torch is None:
            yield
        else:
            with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
                torch.manual_seed(seed)
                yield
    finally:
        np.random.set_state(state)
        random.setstate(python_state)


def environment(device: str, kind: str) -> Environment:
    """Where this process measures a subject of that kind; torch's threads matter to its modules only."""
    return Environment(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        packages=_versions(PACKAGES + FORMAT_PACKAGES.get(kind, ())),
        device=_device_name(device),
        threads=_threads() if kind in THREADED else 1,
    )


@lru_cache(maxsize=len(FORMAT_PACKAGES) + 1)
def _versions(packages: tuple[str, ...]) -> Mapping[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _device_name(device: str) -> str:
    torch = sys.modules.get("torch")
    if torch is not None and device.startswith("cuda"):
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return device


def _threads() -> int:
    torch = sys.modules.get("torch")
    return int(torch.get_num_threads()) if torch is not None else 1


def code_record(check: Check) -> CodeRecord:
    """The package a check comes from and the digest of its sources."""
    top = check.measure.__module__.partition(".")[0]
    return _code_record(top)


@lru_cache(maxsize=16)
def _code_record(top: str) -> CodeRecord:
    distribution = next(iter(importlib.metadata.packages_distributions().get(top, [])), None) or _builtin(top)
    try:
        version = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    return CodeRecord(package=distribution, version=version, sha256=_source_digest(top))


def _builtin(top: str) -> str:
    """Editable installs hide which distribution a mapped folder belongs to."""
    return "ai-assessor" if top == "assessor_checks" else top


def _source_digest(top: str) -> str:
    module = importlib.import_module(top)
    sha = hashlib.sha256()
    folders = [Path(folder) for folder in getattr(module, "__path__", [])]
    sources = [path for folder in folders for path in sorted(folder.rglob("*.py"))] or [Path(str(module.__file__))]
    for path in sources:
        sha.update(f"{path.name}\n".encode())
        sha.update(path.read_bytes())
    return sha.hexdigest()
