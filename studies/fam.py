"""Training with FAM finds flatter networks and costs no accuracy, with clean and with noisy labels.

Claim (Adilova et al. 2023, "FAM: Relative Flatness Aware Minimization", arXiv 2307.02337): the loss plus a weight
times the relative flatness of one layer gives flatter networks that generalize at least as well.

Networks 64-64-64-64-10 on 500 digits, Adam, 1500 steps: plain; with FAM of weight 0.001 and 0.01 on the penultimate
linear layer, as the authors place it; with SAM (Foret et al. 2021, arXiv 2010.01412) of radius 0.05, for comparison.
Labels are clean, or a fifth of them wrong. Every seed trains all ways from the same initial weights on the same
batches, and differences are taken within seeds. Flatness is that of the penalised layer on the training rows, by the
measure of `generalization.relative_flatness`: normalised, while FAM's penalty is not, so that the study does not
measure what was minimised; natural logarithms of ratios are averaged over seeds.

PASS, for clean and noisy labels and for both weights, with the whole 95 % t interval over seeds: the ratio of
relative flatness to plain training is below 1, and the difference of test accuracy above -0.02.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from _networks import Data, Loss, Step, cross_entropy, descend, digits, mlp, scores, train
from _ranks import Estimate, mean
from _report import Cell, Criterion, Outcome, Table, main, progress
from matplotlib.figure import Figure
from torch import nn

from assessor.contract import Task
from assessor_checks._layers import find_sites, last_linear
from assessor_checks.fam import FAM
from assessor_checks.generalization._curvature import Budget, Problem, layer_curvature, layer_scale
from assessor_checks.generalization._reference_models import flatness_of, noisy_labels

LAYER, RADIUS, LOST = "4", 0.05, -0.02
FAM_WEIGHTS = {"FAM 0.001": 1e-3, "FAM 0.01": 1e-2}
WAYS = ("plain", *FAM_WEIGHTS, "SAM 0.05")
NOISE = {"clean labels": 0.0, "a fifth wrong": 0.2}


class Trained(NamedTuple):
    """One network: relative flatness of two layers, losses in nats, accuracy on test rows."""

    penultimate: float
    last: float
    train_loss: float
    test_loss: float
    accuracy: float


def study(quick: bool) -> Outcome:
    """Train every way for every seed and kind of labels."""
    seeds, steps = (2, 100) if quick else (8, 1500)
    data, found = digits(500), {}
    for done, (labels, share) in enumerate(NOISE.items()):
        for seed in range(seeds):
            shown = data._replace(y=noisy_labels(data.y, share, 10, seed))
            for way in WAYS:
                found[labels, way, seed] = measured(fitted(way, shown, steps, seed), shown)
            progress("networks", (done * seeds + seed + 1) * len(WAYS), len(NOISE) * seeds * len(WAYS))
    return outcome(found, seeds)


def fitted(way: str, data: Data, steps: int, seed: int) -> nn.Sequential:
    """A network in eval mode, trained in one of `WAYS`."""
    net = mlp(64, 64, 64, 64, 10, seed=seed)
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    plain = cross_entropy(net)
    if way in FAM_WEIGHTS:
        with FAM(net, LAYER, FAM_WEIGHTS[way], seed=seed) as fam:
            step = descend(optimiser, lambda x, y: (loss := plain(x, y)) + fam(loss))
            train(step, data.x, data.y, batch=32, steps=steps, seed=seed)
    else:
        step = descend(optimiser, plain) if way == "plain" else sam(net, optimiser, plain)
        train(step, data.x, data.y, batch=32, steps=steps, seed=seed)
    return net.eval()


def sam(net: nn.Module, optimiser: torch.optim.Optimizer, loss: Loss) -> Step:
    """A step of SAM: the gradient is taken at the worst point of a small ball, to first order."""
    parameters = list(net.parameters())

    @torch.no_grad()
    def move(rises: list[torch.Tensor], sign: int) -> None:
        for parameter, rise in zip(parameters, rises, strict=True):
            parameter.add_(rise, alpha=sign)

    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        slopes = torch.autograd.grad(loss(x, y), parameters)
        norm = torch.stack([slope.norm() for slope in slopes]).norm().clamp_min(1e-12)
        rises = [slope * (RADIUS / norm) for slope in slopes]
        move(rises, 1)
        optimiser.zero_grad(set_to_none=True)
        loss(x, y).backward()
        move(rises, -1)
        optimiser.step()

    return step


def measured(net: nn.Sequential, data: Data) -> Trained:
    """The numbers of a trained network; flatness on the training rows as it was shown them."""

    def losses(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(net(x).double(), y, reduction="none")

    problem, site = Problem(net, data.x, data.y, losses), find_sites(net, data.x[:1], net)[LAYER]
    kappa = layer_curvature(site, problem, scale=layer_scale(site, problem), budget=Budget(maximum=False)).kappa
    last = flatness_of(Task.MULTICLASS, last_linear(net, data.x))
    test = scores(net, data.x_test, data.y_test)
    return Trained(float(kappa.mean()), float(last.mean()), scores(net, data.x, data.y).loss, *test)


def outcome(found: dict[tuple[str, str, int], Trained], seeds: int) -> Outcome:
    """Paired differences to plain training and what they say."""
    rows: list[tuple[Cell, ...]] = []
    ratios, accuracies = {}, {}
    for labels in NOISE:
        for way in WAYS:
            here, plain = ([found[labels, one, seed] for seed in range(seeds)] for one in (way, "plain"))
            averages = (
                float(np.mean([getattr(one, name) for one in here])) for name in ("train_loss", "test_loss", "accuracy")
            )
            rows.append((labels, way, *averages))
            if way != "plain":
                ratios[labels, way] = ratio(here, plain, "penultimate")
                gained = np.array([one.accuracy - other.accuracy for one, other in zip(here, plain, strict=True)])
                accuracies[labels, way] = mean(gained)
                beside = (ratios[labels, way], ratio(here, plain, "last"))
                rows[-1] += (*map(str, beside), three(accuracies[labels, way]))
            else:
                rows[-1] += ("1", "1", "0")
    columns = ("labels", "training", "training loss", "test loss", "test accuracy")
    compared = ("flatness, penultimate layer", "flatness, last layer", "accuracy gained")
    title = (
        f"Means of {seeds} seeds; flatness over plain training and accuracy gained with 95 % t intervals within seeds"
    )
    criteria = [criterion for labels in NOISE for criterion in judged(labels, ratios, accuracies)]
    return Outcome(criteria, [Table("training", title, columns + compared, rows)], figure(found, seeds), [])


def ratio(here: list[Trained], plain: list[Trained], layer: str) -> Estimate:
    """Geometric mean over seeds of a layer's relative flatness over that of plain training."""
    logs = [math.log(getattr(one, layer) / getattr(other, layer)) for one, other in zip(here, plain, strict=True)]
    return Estimate(*(math.exp(end) for end in mean(np.array(logs))))


def judged(
    labels: str, ratios: dict[tuple[str, str], Estimate], accuracies: dict[tuple[str, str], Estimate]
) -> list[Criterion]:
    """Both criteria for one kind of labels, by the worse of both weights."""
    flat = max((ratios[labels, way] for way in FAM_WEIGHTS), key=lambda one: one.high)
    right = min((accuracies[labels, way] for way in FAM_WEIGHTS), key=lambda one: one.low)
    return [
        Criterion(f"{labels}: FAM is flatter than plain training (ratio)", str(flat), flat.high < 1),
        Criterion(f"{labels}: FAM costs no more than {-LOST:g} accuracy", three(right), right.low > LOST),
    ]


def three(estimate: Estimate) -> str:
    """Value and interval to three decimals, signed."""
    return f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"


def figure(found: dict[tuple[str, str, int], Trained], seeds: int) -> Figure:
    """Accuracy over flatness, one point a network."""
    drawing = Figure(figsize=(9, 4), layout="constrained")
    for axes, labels in zip(drawing.subplots(1, 2), NOISE, strict=True):
        for way, marker, face in zip(WAYS, "oss^", ("none", "0.7", "black", "0.4"), strict=True):
            nets = [found[labels, way, seed] for seed in range(seeds)]
            x, y = [net.penultimate for net in nets], [net.accuracy for net in nets]
            axes.scatter(x, y, marker=marker, c=face, edgecolors="black", label=way)
        axes.set_xscale("log")
        axes.set_title(labels, fontsize="medium")
        axes.set_xlabel("relative flatness of the penultimate layer (low: flat)")
        axes.set_ylabel("test accuracy")
        axes.legend(frameon=False)
    return drawing


if __name__ == "__main__":
    main(study)
