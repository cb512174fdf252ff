"""The checks that come with ai-assessor, offered through the entry point group `assessor.checks`."""

from assessor.contract import Check
from assessor_checks.auditability import provenance, reproducibility
from assessor_checks.data import drift, label_noise, leakage, quality, representation
from assessor_checks.fairness import (
    calibration_by_group,
    counterfactual_flip,
    data_bias,
    distance_covariance,
    group_metrics,
    individual_consistency,
    intersectional,
    regression_parity,
)
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
from assessor_checks.privacy import membership_inference, memorised_records
from assessor_checks.reliability import determinism, domain_coverage, latency, performance, weak_slices
from assessor_checks.robustness import (
    autoattack,
    certified_accuracy,
    corruption_accuracy,
    decision_attack,
    flatness_certificate,
    flatness_trace,
    noise_accuracy,
    ood_detection,
    pgd_accuracy,
    robust_flatness,
)
from assessor_checks.security import backdoor_trigger, dependencies, model_file
from assessor_checks.transparency import (
    attribution_faithfulness,
    attribution_stability,
    model_randomization,
    surrogate_fidelity,
)
from assessor_checks.uncertainty import calibration, conformal_coverage, selective_risk

CHECKS: tuple[Check, ...] = (
    group_metrics.CHECK,
    calibration_by_group.CHECK,
    counterfactual_flip.CHECK,
    data_bias.CHECK,
    distance_covariance.CHECK,
    individual_consistency.CHECK,
    intersectional.CHECK,
    regression_parity.CHECK,
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
    determinism.CHECK,
    domain_coverage.CHECK,
    latency.CHECK,
    weak_slices.CHECK,
    noise_accuracy.CHECK,
    pgd_accuracy.CHECK,
    flatness_certificate.CHECK,
    flatness_trace.CHECK,
    robust_flatness.CHECK,
    autoattack.CHECK,
    corruption_accuracy.CHECK,
    certified_accuracy.CHECK,
    decision_attack.CHECK,
    ood_detection.CHECK,
    calibration.CHECK,
    conformal_coverage.CHECK,
    selective_risk.CHECK,
    membership_inference.CHECK,
    memorised_records.CHECK,
    drift.CHECK,
    label_noise.CHECK,
    leakage.CHECK,
    quality.CHECK,
    representation.CHECK,
    attribution_faithfulness.CHECK,
    attribution_stability.CHECK,
    model_randomization.CHECK,
    surrogate_fidelity.CHECK,
    backdoor_trigger.CHECK,
    dependencies.CHECK,
    model_file.CHECK,
    provenance.CHECK,
    reproducibility.CHECK,
)
