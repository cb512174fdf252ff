"""Planted defects: what one is, and what a check says to one of them.

An area module (`studies/detection/<area>.py`) offers `DEFECTS`. Every defect has a clean twin, its strength 0.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from assessor.contract import Check, Metric, Result, Subject
from assessor.engine import Job, run_job
from assessor.model import JudgedTarget, Status, SubjectRecord
from assessor.verdicts import judge

HERE = Path(__file__).parent
ALARM = Status.FAIL
MEASURING = 1_000_000  # added to the seed that made the subject: its noise and the check's draws must not be the same


class Defect(NamedTuple):
    """One way in which a system can be bad, in several strengths.

    Attributes:
        check: Id of the check that should notice.
        name: The defect in words.
        unit: Of strength.
        strengths: Rising; the first is 0: the clean twin.
        make: Strength and seed to the subject.
        target: As in assessor.yaml: `metric`, and `at_most`, `at_least` or `interval`. A fail is an alarm.
        params: Of the check.
        named: The strength that the target names: power is judged there.
        repeats: Seeds a strength.
        nominal: False-alarm level promised on clean twins.
    """

    check: str
    name: str
    unit: str
    strengths: tuple[float, ...]
    make: Callable[[float, int], Subject]
    target: Mapping[str, Any]
    params: Mapping[str, Any] = {}
    named: float = 0.0
    repeats: int = 40
    nominal: float = 0.05

    @property
    def judged(self) -> JudgedTarget:
        """The target as the engine takes it.

        Raises:
            ValueError: It names no end, or a key that is none of a target's.
        """
        known = {"metric", "at_most", "at_least", "interval", "because"}
        if unknown := set(self.target) - known:
            raise ValueError(f"{self.check}, {self.name}: target has {sorted(unknown)}, wanted some of {sorted(known)}")
        interval = self.target.get("interval", (self.target.get("at_least"), self.target.get("at_most")))
        if interval[0] is None and interval[1] is None:
            raise ValueError(f"{self.check}, {self.name}: target has no end")
        return JudgedTarget(
            metric=self.target.get("metric"), interval=tuple(interval), because=self.name, source="planted"
        )

    def refuse_faults(self) -> None:
        """Say what cannot be right about it before anything is measured.

        Raises:
            ValueError: The strengths do not start at 0 or do not rise, or the named one is none of them or the twin.
        """
        rising = all(a < b for a, b in zip(self.strengths, self.strengths[1:], strict=False))
        if self.strengths[:1] != (0,) or not rising or len(self.strengths) < 2:
            raise ValueError(f"{self.check}, {self.name}: strengths {self.strengths}, wanted 0 first, then rising")
        if self.named not in self.strengths[1:]:
            raise ValueError(f"{self.check}, {self.name}: named {self.named}, wanted one of {self.strengths[1:]}")
        if self.repeats < 1 or not 0 < self.nominal < 1:
            raise ValueError(f"{self.check}, {self.name}: wanted repeats from 1 and nominal between 0 and 1")
        _ = self.judged


class Measured(NamedTuple):
    """What one measurement gave: its numbers, or why there are none. Judged later, so that targets may change."""

    metrics: tuple[Metric, ...]
    doubt: str | None
    refused: Status | None
    sentence: str
    seconds: float

    def status(self, target: JudgedTarget) -> Status:
        """The verdict against the target; not_applicable or error where nothing was measured."""
        if self.refused is not None:
            return self.refused
        return judge(Result(metrics=self.metrics, doubt=self.doubt), target).status


def measured(defect: Defect, strength: float, seed: int) -> Measured:
    """Plant the defect, let the engine run the check.

    Args:
        defect: What to plant.
        strength: How much of it.
        seed: Of the subject; the check has another one.

    Returns:
        What was measured; an error where the check crashes, or where the defect cannot be planted.
    """
    check = check_of(defect.check)
    try:
        subject = defect.make(strength, seed)
    except Exception as fault:  # noqa: BLE001 - one defect of many: the others go on, and this one is told
        return Measured((), None, Status.ERROR, f"could not be planted: {type(fault).__name__}: {fault}", 0.0)
    job = Job(check, check.params(**defect.params), None, MEASURING + seed, ())
    run = run_job(job, subject, SubjectRecord(kind="planted", model_sha256=None, data={}))
    refused = run.outcome.status if run.outcome.status in {Status.NOT_APPLICABLE, Status.ERROR} else None
    return Measured(run.metrics, run.doubt, refused, run.outcome.sentence, run.seconds)


@cache
def check_of(name: str) -> Check:
    """The check of that id, whether it is registered yet or not: the id is its path."""
    found: Check = importlib.import_module(f"assessor_checks.{name}").CHECK
    return found


def areas(folder: Path = HERE) -> dict[str, tuple[Defect, ...]]:
    """Defects by area: of every module in the folder that offers some.

    Raises:
        ValueError: A defect cannot be right, or two of a check bear one name.
    """
    found = {path.stem: defects_of(path) for path in sorted(folder.glob("[a-z]*.py")) if path.stem != "run"}
    for defects in found.values():
        for defect in defects:
            defect.refuse_faults()
    names = [(defect.check, defect.name) for defects in found.values() for defect in defects]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"planted twice: {twice}")
    return {area: defects for area, defects in found.items() if defects}


@cache
def defects_of(path: Path) -> tuple[Defect, ...]:
    """`DEFECTS` of an area module; none where it offers none."""
    name = f"detection_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look there
    spec.loader.exec_module(module)
    return tuple(getattr(module, "DEFECTS", ()))


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Small tensors: more threads only wait for each other, and sums keep their order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
