"""Checks whose work is spread over workers: each gives to the last digit what it gives alone."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from assessor.engine import Job, run_job, subject_record
from assessor.executors.work import Task, opened, pieces_of
from assessor.keeping import Folder
from assessor.model import CheckRun, SubjectRecord, TargetSpec
from assessor.registry import load_checks
from assessor.subjects import load_subject

SYSTEM = """
import numpy as np, torch

def net(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(5, 12), torch.nn.Tanh(), torch.nn.Linear(12, 3))

class Pictures(torch.nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.norm = torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.BatchNorm2d(4)
        self.last = torch.nn.Linear(4 * 64, 3)
    def forward(self, x): return self.last(torch.tanh(self.norm(self.first(x))).flatten(1))

def rows(seed, n):
    x = np.random.default_rng(seed).normal(size=(n, 5)).astype("float32")
    return x, x[:, :3].argmax(1)

def pictures(seed, n):
    x = np.random.default_rng(seed).random((n, 1, 8, 8)).astype("float32")
    return x, (x[:, 0, :3, 0].argmax(1))

def test(): return rows(1, 60)
def train(): return rows(2, 60)
def many(): return rows(1, 600)
def seen(): return pictures(1, 20)
def learned(): return pictures(2, 30)

def fitted(x, y, seed):
    made = net(seed)
    optimiser = torch.optim.Adam(made.parameters(), lr=0.05)
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    for _ in range(12):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(made(x), y).backward()
        optimiser.step()
    return made.eval()

def trained(): return fitted(*train(), 0)
def other(): return fitted(*train(), 1)
def new(): return net(torch.initial_seed() % 1000)
def shown(): return Pictures().eval()
def shown_before(): return Pictures(1).eval()

def estimator():
    from sklearn.linear_model import LogisticRegression
    return LogisticRegression().fit(*train())
"""
DATA = {"train": {"load": "system:train"}, "test": {"load": "system:test"}}
SYSTEMS: dict[str, dict[str, Any]] = {
    "net": {
        "model": {"load": "system:trained", "build": "system:new", "train": "system:fitted"},
        "baseline": {"load": "system:other"},
        "data": DATA,
    },
    "many": {"model": {"load": "system:trained"}, "data": {**DATA, "test": {"load": "system:many"}}},
    "pictures": {
        "model": {"load": "system:shown"},
        "baseline": {"load": "system:shown_before"},
        "data": {"train": {"load": "system:learned"}, "test": {"load": "system:seen"}},
    },
    "estimator": {"model": {"load": "system:estimator"}, "data": DATA},
}


class Case(NamedTuple):
    """A check on a system, with parameters that make it short."""

    check: str
    system: str
    params: dict[str, Any]

    @property
    def named(self) -> str:
        return f"{self.check}-{self.system}"


CASES = (
    Case("auditability.reproducibility", "net", {"refits": 4}),
    Case("auditability.reproducibility", "estimator", {"refits": 4, "reloads": 1}),
    Case("data.label_noise", "estimator", {"folds": 4}),
    Case("data.label_noise", "net", {"folds": 3}),
    Case("generalization.flatness_calibration", "net", {"models": 8, "loss_target": 0.9, "batch_sizes": [16]}),
    Case("generalization.mode_connectivity", "net", {"steps": 10}),
    Case("generalization.mode_connectivity", "pictures", {"steps": 10}),
    Case("generalization.relative_flatness", "net", {"max_training_loss": 9}),
    Case("generalization.relative_flatness", "pictures", {"max_training_loss": 9, "profile_rows": 10, "exact": 4}),
    Case("privacy.membership_inference", "estimator", {"shadows": 8}),
    Case("robustness.certified_accuracy", "many", {"most": 300, "selection": 20, "max_samples": 600}),
    Case("robustness.corruption_accuracy", "net", {}),
    Case("robustness.corruption_accuracy", "pictures", {"severities": [1, 4]}),
    Case("robustness.decision_attack", "net", {"queries": 200}),
    Case("robustness.robust_flatness", "net", {"steps": 5, "directions": 3, "worst_starts": 3}),
    Case("security.backdoor_trigger", "estimator", {"refits": 3, "max_samples": 30}),
    Case("transparency.attribution_stability", "net", {"copies": 3, "max_samples": 10}),
    Case("transparency.model_randomization", "net", {"models": 3, "max_samples": 10}),
    Case("transparency.model_randomization", "pictures", {"models": 2, "max_samples": 4, "patch": 2}),
    Case("transparency.model_randomization", "estimator", {"refits": 3, "max_samples": 10}),
)


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, SubjectRecord]]:
    """Loads a system anew, as a worker does."""
    folder = tmp_path_factory.mktemp("systems")
    (folder / "system.py").write_text(SYSTEM)

    def loaded(name: str) -> tuple[Any, SubjectRecord]:
        target = TargetSpec.model_validate({"task": "multiclass", "device": "cpu", **SYSTEMS[name]})
        subject, kind, digest = load_subject(target, folder)
        return subject, subject_record(subject, kind, digest)

    return loaded


def said(run: CheckRun) -> dict[str, Any]:
    return run.model_dump(mode="json", exclude={"started", "seconds", "peak_memory_bytes"})


def told(*_: object) -> None:
    """No display."""


used: dict[str, set[str]] = {}
"""Modules whose work was spread by the tests below."""


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.named)
def test_spread_work_gives_the_same_to_the_last_digit(
    case: Case, load: Callable[[str], tuple[Any, SubjectRecord]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every piece is packed, and done on a subject of its own in the reverse order."""
    monkeypatch.setattr("assessor_checks.robustness._hopskipjump._ENTRIES", 8 * 5 * 20)  # blocks of 20 rows
    check = load_checks()[case.check]
    job = Job(check, check.params(**case.params), None, 0, ())
    (subject, record), (other, _) = load(case.system), load(case.system)
    alone = run_job(job, subject, record)
    assert alone.metrics, alone.outcome
    task = Task(
        TargetSpec.model_validate({"task": "multiclass", **SYSTEMS[case.system]}),
        tmp_path,
        "cpu",
        False,
        record,
        tmp_path / "kept",
    )
    shares: list[int] = []

    def spread(work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        pieces = pieces_of(job, work, items, subject)
        shares.append(len(pieces))
        used.setdefault(case.named, set()).add(getattr(work, "func", work).__module__)
        done = [task.done(piece, other, Folder(task.parts), told) for piece in reversed(pieces)]
        return [opened(content, subject) for content in reversed(done)]

    apart = task.run(job, subject, Folder(task.parts), told, spread)
    assert said(apart) == said(alone)
    assert max(shares, default=0) > 1, "nothing was spread"
    again = task.run(job, subject, Folder(task.parts), told)  # what the pieces kept is what it would keep alone
    assert said(again) == said(alone)


@pytest.mark.slow
def test_every_check_that_spreads_its_work_is_tried_here() -> None:
    found = importlib.util.find_spec("assessor_checks")
    assert found
    assert found.submodule_search_locations
    (folder,) = found.submodule_search_locations
    spreading = {
        ".".join(["assessor_checks", *path.relative_to(folder).with_suffix("").parts])
        for path in Path(folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "assessor.contract"
        if any(name.name == "spread" for name in node.names)
    }
    assert spreading
    assert {case.check for case in CASES} == {name for name, check in load_checks().items() if check.info.spreads}
    if len(used) == len(CASES):  # else only some of the tests above were run
        assert set().union(*used.values()) == spreading
