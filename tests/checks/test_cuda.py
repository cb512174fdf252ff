"""Every check that asks for tensors on a GPU; without one on a device that is not there, where none may mix devices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from device_cases import ASKS_NO_TENSORS, CASES, measured, told_apart
from systems import system

from assessor.contract import NotApplicable
from assessor.registry import load_checks
from assessor.subjects.torch_module import TorchSubject

QUICK = ("generalization.norm_measures", "reliability.determinism", "robustness.noise_accuracy")
OURS = {name for name, check in load_checks().items() if check.measure.__module__.startswith("assessor_checks.")}


def test_every_check_is_in_the_table():
    assert CASES.keys() | ASKS_NO_TENSORS == OURS
    assert not CASES.keys() & ASKS_NO_TENSORS


class Untouchable(TorchSubject):
    """Gives scores and predictions that were computed before, and nothing else."""

    def refused(self, *_: object) -> None:
        raise AssertionError("the check asks for tensors")

    module = property(refused)
    logits = tensors = inputs = query = query_scores = refit = new_module = refused


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ASKS_NO_TENSORS))
def test_the_others_ask_for_no_tensors(name: str):
    check = load_checks()[name]
    subject = system("table" if "multiclass" in check.info.tasks else "values", "cpu")
    for split in subject.splits:
        subject.predictions(split)
    subject.__class__ = Untouchable
    with suppress(NotApplicable):
        assert check.measure(subject, check.params(), 0).metrics


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", CASES)
def test_a_gpu_gives_the_same(name: str, tmp_path: Path):
    case = CASES[name]
    here, there = (measured(name, case, device, tmp_path) for device in ("cpu", "cuda"))
    if case.compared:
        assert told_apart(here, there, case.rtol, case.atol) == []


# --- a device that is not there --------------------------------------------------------------------------------------


def elsewhere(*names: str) -> Mapping[str, list[str]]:
    """What differs elsewhere, by check."""
    program = Path(__file__).with_name("elsewhere.py")
    given = {**os.environ, "OMP_NUM_THREADS": "1"}
    wanted = [sys.executable, program, *names]
    done = subprocess.run(wanted, check=False, capture_output=True, text=True, env=given, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.slow
def test_some_checks_keep_to_one_device():
    assert elsewhere(*QUICK) == {name: [] for name in QUICK}


@pytest.mark.slow
def test_all_checks_keep_to_one_device():
    assert elsewhere() == {name: [] for name in CASES}


@pytest.mark.slow
def test_devices_that_meet_are_told():
    assert elsewhere("--mixed") == {
        "sum": ["Mixed"],
        "in place": ["Mixed"],
        "index": [],
        "generator": ["Mixed"],
        "numpy": ["RuntimeError"],
        "number": [],
    }
