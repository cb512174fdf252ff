"""Every check that asks for tensors, on a small system, and how far its numbers on a GPU may be from the CPU's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from systems import FEATURES, system

from assessor.canonical import sha256_hex
from assessor.contract import Result
from assessor.freezing import packed
from assessor.registry import load_checks

FEW = 5 / 60  # five of the test rows
INPUTS = packed(np.ones((4, FEATURES), np.float32), np.array(["a", "b", "c", "a"]))


class Case(NamedTuple):
    """One check on one system.

    Attributes:
        params: Small ones, so that it is measured in about a second.
        system: "table", "pictures" or "values".
        rtol: How far, in parts of a number, metrics on a GPU may be from those on the CPU.
        atol: How far they may be whatever their size: shares of a few rows where the device draws its own numbers.
        compared: Whether metrics are compared at all: not times, and not models trained on the device.
    """

    params: Mapping[str, Any] = {}
    system: str = "table"
    rtol: float = 1e-3
    atol: float = 1e-5
    compared: bool = True


CASES: Mapping[str, Case] = {
    "auditability.reproducibility": Case({"reloads": 1, "refits": 3}, atol=1e-3),
    "data.label_noise": Case({"replicates": 50}, atol=FEW),
    "fairness.counterfactual_flip": Case(atol=1 / 60),
    "generalization.fisher_flow": Case(rtol=0.01),
    "generalization.flatness_calibration": Case(
        {"models": 8, "max_epochs": 20, "loss_target": 0.7, "learning_rates": (0.05,), "batch_sizes": (16,)},
        compared=False,
    ),
    "generalization.hessian_spectrum": Case({"probes": 4}, rtol=0.01),
    "generalization.mode_connectivity": Case({"steps": 10}, atol=1e-4),
    "generalization.neural_collapse": Case({"replicates": 200}),
    "generalization.norm_measures": Case(),
    "generalization.relative_flatness": Case(rtol=0.01),
    "generalization.sharpness": Case({"steps": 4, "restarts": 1, "draws": 4}, rtol=0.01, atol=1e-4),
    "privacy.membership_inference": Case({"shadows": 4}, rtol=0.01, atol=FEW),
    "privacy.memorised_records": Case(rtol=0.01, atol=FEW),
    "reliability.determinism": Case(atol=1e-4),
    "reliability.frozen_weakness": Case(
        {"cases": {"ones": {"told": "Rows of ones.", "inputs": sha256_hex(INPUTS)}}}, atol=1e-9
    ),
    "reliability.latency": Case({"repeats": 20, "warm_up": 1, "seconds": 0.1}, compared=False),
    "robustness.autoattack": Case({"steps": 4, "queries": 20}, atol=FEW),
    "robustness.certified_accuracy": Case({"radius": 0.1, "sigma": 0.1, "most": 200, "selection": 20}, atol=FEW),
    "robustness.corruption_accuracy": Case({"severities": (1, 5)}, "pictures", atol=FEW),
    "robustness.decision_attack": Case({"eps": 0.1, "queries": 50}, rtol=0.1, atol=FEW),
    "robustness.flatness_certificate": Case(),
    "robustness.flatness_trace": Case({"steps": 8, "eps": 1.0}, rtol=0.05, atol=1e-3),
    "robustness.noise_accuracy": Case({"levels": (0.1,)}, atol=1 / 60),
    "robustness.ood_detection": Case(atol=1e-3),
    "robustness.pgd_accuracy": Case({"steps": 4, "restarts": 2}, atol=FEW),
    "robustness.robust_flatness": Case({"steps": 3, "directions": 5, "worst_starts": 1}, rtol=0.5, atol=FEW),
    "security.backdoor_trigger": Case({"steps": 10}, rtol=0.5, atol=0.2),
    "transparency.attribution_faithfulness": Case({"max_samples": 10}, rtol=0.05, atol=0.01),
    "transparency.attribution_stability": Case({"max_samples": 5, "copies": 3}, rtol=0.05, atol=0.01),
    "transparency.model_randomization": Case({"max_samples": 5, "models": 2}, atol=0.5),
}

ASKS_NO_TENSORS = frozenset(
    {
        "auditability.provenance",
        "data.drift",
        "data.leakage",
        "data.quality",
        "data.representation",
        "fairness.calibration_by_group",
        "fairness.data_bias",
        "fairness.distance_covariance",
        "fairness.group_metrics",
        "fairness.individual_consistency",
        "fairness.intersectional",
        "fairness.regression_parity",
        "generalization.gap",
        "reliability.domain_coverage",
        "reliability.performance",
        "reliability.weak_slices",
        "security.dependencies",
        "security.model_file",
        "transparency.surrogate_fidelity",
        "uncertainty.calibration",
        "uncertainty.conformal_coverage",
        "uncertainty.selective_risk",
    }
)
"""Checks of files, data, and of the model's scores and predictions, which `TorchSubject` gives as arrays."""


def measured(check: str, case: Case, device: str, folder: Path) -> Result:
    """The case on a device, in an assessment folder."""
    (folder / "frozen").mkdir(exist_ok=True)
    (folder / "frozen" / f"{sha256_hex(INPUTS)}.npz").write_bytes(INPUTS)
    found = load_checks()[check]
    return found.measure(system(case.system, device, folder), found.params(**case.params), 0)


def told_apart(here: Result, there: Result, rtol: float, atol: float) -> list[str]:
    """Metrics that differ by more than that, in words."""
    names = ([metric.name for metric in result.metrics] for result in (here, there))
    if (one := next(names)) != (other := next(names)):
        return [f"metrics {one} became {other}"]
    return [
        f"{metric.name}.{field}: {one} became {other}"
        for metric in here.metrics
        for field, one, other in _values(metric.name, here, there)
        if (one is None) != (other is None)
        or (one is not None and other is not None and not math.isclose(one, other, rel_tol=rtol, abs_tol=atol))
    ]


def _values(name: str, *results: Result) -> Iterator[tuple[str, float | None, float | None]]:
    one, other = (result.metric(name) for result in results)
    yield "value", one.value, other.value
    yield "low", one.low, other.low
    yield "high", one.high, other.high
