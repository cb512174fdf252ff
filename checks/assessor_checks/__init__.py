"""The checks that come with ai-assessor, offered through the entry point group `assessor.checks`."""

from assessor.contract import Check
from assessor_checks.fairness import group_metrics
from assessor_checks.generalization import gap, relative_flatness
from assessor_checks.reliability import performance
from assessor_checks.robustness import noise_accuracy, pgd_accuracy
from assessor_checks.uncertainty import calibration

CHECKS: tuple[Check, ...] = (
    group_metrics.CHECK,
    gap.CHECK,
    relative_flatness.CHECK,
    performance.CHECK,
    noise_accuracy.CHECK,
    pgd_accuracy.CHECK,
    calibration.CHECK,
)
