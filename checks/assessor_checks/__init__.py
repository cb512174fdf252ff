"""The checks that come with ai-assessor, offered through the entry point group `assessor.checks`."""

from assessor.contract import Check
from assessor_checks.fairness import group_metrics
from assessor_checks.generalization import (
    fisher_flow,
    flatness_calibration,
    gap,
    hessian_spectrum,
    mode_connectivity,
    neural_collapse,
    norm_measures,
    relative_flatness,
    sharpness,
)
from assessor_checks.reliability import performance
from assessor_checks.robustness import (
    flatness_certificate,
    flatness_trace,
    noise_accuracy,
    pgd_accuracy,
    robust_flatness,
)
from assessor_checks.uncertainty import calibration

CHECKS: tuple[Check, ...] = (
    group_metrics.CHECK,
    gap.CHECK,
    relative_flatness.CHECK,
    flatness_calibration.CHECK,
    hessian_spectrum.CHECK,
    sharpness.CHECK,
    norm_measures.CHECK,
    neural_collapse.CHECK,
    mode_connectivity.CHECK,
    fisher_flow.CHECK,
    performance.CHECK,
    noise_accuracy.CHECK,
    pgd_accuracy.CHECK,
    flatness_certificate.CHECK,
    flatness_trace.CHECK,
    robust_flatness.CHECK,
    calibration.CHECK,
)
