"""Along an attack the loss surface is sharpest near the flip, then flat, while the label stays wrong.

Claim (Walter, Adilova, Vreeken, Kamp, "The Uncanny Valley", arXiv 2405.16918): a gradient attack that goes on after
the label has flipped meets a rising relative flatness (ever sharper) with its peak near the flip, then a flat region
in which the model is surely wrong. Adversarial training shifts the peak outwards and does not remove the valley.

Networks 64-64-64-10 on digits, trained plainly and adversarially (Madry et al. 2018: every batch attacked by PGD,
L-infinity, eps 0.1), are attacked on the same test rows: L-infinity PGD, eps 0.8, 160 steps of 0.0125. So far all
rows flip early on the way, and where the valley lies does not depend on where the attack ends. The check
`robustness.flatness_trace` gives the summary of each network; the shift of the peak is taken row by row, over the
rows that both networks of a seed classify rightly and both attacks flip.

PASS, for every seed and both kinds of training, with the whole 95 % interval: the median peak is above the start;
most flipped rows (more than half) are sharpest within one step of their flip; most end flatter than they began; and
the median shift of the peak by adversarial training is above 0 steps.
"""

from __future__ import annotations

import numpy as np
import torch
from _networks import Data, descend, digits, mlp, subject, train
from _report import Cell, Criterion, Outcome, Table, main, progress
from matplotlib.figure import Figure
from torch import nn

from assessor.contract import Result
from assessor_checks._intervals import Estimate
from assessor_checks._pgd import Box
from assessor_checks.robustness import _valley
from assessor_checks.robustness._certificate import median
from assessor_checks.robustness.flatness_trace import CHECK, FlatnessTraceParams

KINDS = ("plain", "adversarial")
TRAINED_EPS, TRAINED_STEPS = 0.1, 5
EPS, STEPS = 0.8, 160


def study(quick: bool) -> Outcome:
    """Train both kinds for every seed, attack them, compare."""
    seeds, steps = (1, 200) if quick else (3, 1000)
    data, results, shifts = digits(1000), {}, {}
    for seed in range(seeds):
        nets = {kind: fitted(kind, data, steps, seed) for kind in KINDS}
        for kind, net in nets.items():
            params = FlatnessTraceParams(eps=EPS, steps=STEPS, bounds=(0, 1))
            results[kind, seed] = CHECK.measure(subject(net, data), params, 0)
        shifts[seed] = shift(nets, data)
        progress("seeds", seed + 1, seeds)
    return outcome(results, shifts)


def fitted(kind: str, data: Data, steps: int, seed: int) -> nn.Sequential:
    """A trained network in eval mode."""
    net = mlp(64, 64, 64, 10, seed=seed)

    def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(net(attacked(net, x, y) if kind == "adversarial" else x), y)

    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    train(descend(optimiser, loss), data.x, data.y, batch=50, steps=steps, seed=seed)
    return net.eval()


def attacked(net: nn.Module, clean: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The batch after projected gradient ascent in the ball of training, inside [0, 1]."""
    x = clean
    for _ in range(TRAINED_STEPS):
        x = x.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(nn.functional.cross_entropy(net(x), y), x)
        x = (x + 2.5 * TRAINED_EPS / TRAINED_STEPS * slope.sign()).clamp(clean - TRAINED_EPS, clean + TRAINED_EPS)
        x = x.clamp(0, 1)
    return x.detach()


def shift(nets: dict[str, nn.Sequential], data: Data) -> Estimate:
    """Median over rows of how many steps later the adversarially trained network is sharpest."""
    ones = torch.ones(64)
    ways = [
        _valley.trace(net, net, data.x_test, data.y_test, Box(EPS * ones, 0 * ones, ones), steps=STEPS, norm="linf")
        for net in (nets[kind] for kind in KINDS)
    ]
    plain, adversarial = map(_valley.summarise, ways)
    both = plain.flipped & adversarial.flipped & ~ways[0].wrong[0] & ~ways[1].wrong[0]
    later = (adversarial.peak - plain.peak)[both].astype(np.float64)
    return median(later) or Estimate(float(np.median(later)), -np.inf, np.inf)


def outcome(results: dict[tuple[str, int], Result], shifts: dict[int, Estimate]) -> Outcome:
    """Criteria on the worst network of each kind, one row a network."""
    wanted = (
        ("peak_height", 1.0, "the peak is above the start (times)"),
        ("peak_near_flip", 0.5, "most rows are sharpest within one step of the flip (share)"),
        ("ends_flatter", 0.5, "most rows end flatter than they began (share)"),
    )
    criteria = []
    for kind in KINDS:
        for name, bound, words in wanted:
            found = [result.metric(name) for (which, _), result in results.items() if which == kind]
            least = min(found, key=lambda metric: metric.low or 0.0)
            text = f"{least.value:.3g} [{least.low:.3g}, {least.high:.3g}] in the worst seed"
            criteria.append(Criterion(f"{kind} training: {words}", text, (least.low or 0.0) > bound))
    least_shift = min(shifts.values(), key=lambda one: one.low)
    text = f"{least_shift.value:.0f} [{least_shift.low:.0f}, {least_shift.high:.0f}] in the worst seed"
    criteria.append(Criterion("adversarial training shifts the peak outwards (steps)", text, least_shift.low > 0))
    names = ("peak_height", "flip_to_peak", "peak_near_flip", "ends_flatter", "confidently_wrong", "flipped_share")
    rows: list[tuple[Cell, ...]] = [
        (kind, seed, *(result.metric(name).value for name in names), float(shifts[seed].value))
        for (kind, seed), result in results.items()
    ]
    columns = ("training", "seed", *names, "later than plain (steps)")
    return Outcome(criteria, [Table("networks", "Each network", columns, rows)], figure(results), [])


def figure(results: dict[tuple[str, int], Result]) -> Figure:
    """Relative flatness around the flip and by step, first seed."""
    drawing = Figure(figsize=(9, 4), layout="constrained")
    around, by_step = drawing.subplots(1, 2, sharey=True)
    for kind, style, shade in zip(KINDS, ("-", "--"), ("0.8", "0.6"), strict=True):
        steps, flip = (drawn(series.columns) for series in results[kind, 0].series)
        places = flip["steps_after_flip"]
        around.fill_between(places, flip["low_quartile"], flip["high_quartile"], color=shade, alpha=0.6, linewidth=0)
        around.plot(places, flip["median"], style, color="black", label=f"{kind} training")
        by_step.plot(steps["step"], steps["flatness_median"], style, color="black", label=f"{kind} training")
    around.axvline(0, color="black", linestyle=":")
    around.set_xlabel("steps after the flip (quartiles shaded)")
    around.set_ylabel("relative flatness over its start (high: sharp)")
    by_step.set_xlabel(f"steps of {2.5 * EPS / STEPS:g}")
    by_step.legend(frameon=False)
    around.set_yscale("log")
    return drawing


def drawn(columns: object) -> dict[str, list[float]]:
    """Columns of a series with NaN for what is not known."""
    assert isinstance(columns, dict)
    return {name: [float("nan") if value is None else value for value in column] for name, column in columns.items()}


if __name__ == "__main__":
    main(study)
