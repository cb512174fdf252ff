"""Among models trained to near-zero training loss, relative flatness ranks the generalization gap.

Claim (Petzka, Kamp, Adilova, Sminchisescu, Boley, NeurIPS 2021, arXiv 2001.00939, section 5): at minima of the
training loss relative flatness correlates with the generalization gap, more than the Hessian's trace, weight norms,
Fisher-Rao norm and PAC-Bayes flatness; and it still does after rescalings of ReLU neurons that change no output, under
which the Hessian's correlation is lost. The theorem asks for a minimum and for labels that are locally constant, which
noisy labels are not; so tau is also given by label noise, and by how near the minimum the models are.

160 networks 64-128-128-10 on 500 digits: every combination of label noise (0 to 0.4), optimiser, learning rate, batch
size and weight decay, twice, each with a seed of its own, trained until the loss over the training rows is at most 0.1:
where the authors' published training script stops (train_cifar10.py of their RelativeFlatnessAndGeneralization). What
does not get there in 6000 steps is left out. The same networks are then trained on to 0.01 and 0.001, and their tau
there is shown. The gap is the mean loss (or error) on 1297 test rows with true labels, less that on the training rows
with the labels shown. Kendall's tau has a percentile bootstrap interval over models; granulated, it compares only
models that differ in one hyperparameter (Jiang et al. 2020, arXiv 1912.02178). Every measure is oriented so that more
should mean a larger gap. Rescalings: the last hidden layer by one random whole factor from 5 to 25 for each network,
divided out behind it, as in the authors' code; and such a factor for every hidden neuron.

PASS: over the converged models tau of normalised relative flatness of the last layer with the loss gap is at least
0.7; under both rescalings it changes by at most 0.01, while that of the Hessian's trace falls.
"""

from __future__ import annotations

import copy
import itertools
import math
from typing import NamedTuple

import numpy as np
import torch
from _measures import FLAT, MEASURES, RESCALED, TRACE, case_of
from _networks import Data, batches, cross_entropy, descend, digits, hidden_sizes, mlp, rescaled, scores
from _ranks import granulated, taus
from _report import Cell, Criterion, Outcome, Table, main, progress
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from torch import nn

from assessor.contract import Task
from assessor_checks._layers import last_linear
from assessor_checks.generalization._reference_models import flatness_of, noisy_labels

TAU, STAYS = 0.7, 0.01
LEVELS = (0.1, 0.01, 0.001)
SETTINGS = ("label noise", "optimiser", "learning rate", "batch size", "weight decay")
RATES = {"SGD": (0.05, 0.1), "AdamW": (2e-3, 6e-3)}
DECAYS = {"SGD": (0.0, 3e-5), "AdamW": (0.0, 1e-2)}
BATCHES = (25, 100)
SEEDS = (1000, 2000)  # of the first network of each round: none was used while the design was found


class Setting(NamedTuple):
    """Hyperparameters of one network; learning rate and weight decay are the optimiser's lower (0) or upper (1)."""

    noise: float
    optimiser: str
    rate: int
    batch: int
    decay: int


class Model(NamedTuple):
    """A network at the first level of training loss; relative flatness and gaps at each level it reached."""

    setting: Setting
    net: nn.Sequential
    data: Data
    flat: list[float]
    loss_gap: list[float]
    error_gap: list[float]


def study(quick: bool) -> Outcome:
    """Train, keep the converged, measure before and after rescaling."""
    noises, batch_sizes = ((0.0, 0.4), BATCHES[:1]) if quick else ((0.0, 0.1, 0.2, 0.3, 0.4), BATCHES)
    settings = [Setting(*one) for one in itertools.product(noises, RATES, (0, 1), batch_sizes, (0, 1))]
    design = [(seed + index, one) for seed in SEEDS[: 1 if quick else None] for index, one in enumerate(settings)]
    data, models = digits(200 if quick else 500), []
    for done, (seed, setting) in enumerate(design, start=1):
        models += fitted(setting, data, seed, steps=800 if quick else 6000)
        progress("networks", done, len(design))
    values: dict[str, dict[str, np.ndarray]] = {}
    for which in ("as trained", "a factor a network", "a factor a neuron"):
        names = MEASURES if which == "as trained" else RESCALED
        values[which] = {name: np.empty(len(models)) for name in names}
        for index, model in enumerate(models):
            case = case_of(rescaled(model.net, factors(which, model.net, index)), model.data)
            for name in names:
                values[which][name][index] = MEASURES[name](case)
            progress(f"measured {which}", index + 1, len(models))
    return outcome(models, values, len(design))


# --- training --------------------------------------------------------------------------------------------------------


def fitted(setting: Setting, data: Data, seed: int, *, steps: int) -> list[Model]:
    """The network as it was at the first level, in eval mode, and what came after; none where it does not get there."""
    shown = data._replace(y=noisy_labels(data.y, setting.noise, 10, seed))
    net = mlp(64, 128, 128, 10, seed=seed)
    step = descend(optimiser_of(setting, net), cross_entropy(net))
    found: list[Model] = []
    n = len(shown.y)
    for index, rows in enumerate(batches(n, setting.batch, seed), start=1):
        step(shown.x[rows], shown.y[rows])
        if index % (n // setting.batch) == 0:
            here = scores(net, shown.x, shown.y)
            if not found and here.loss <= LEVELS[0]:
                found.append(Model(setting, copy.deepcopy(net), shown, [], [], []))
            while found and len(found[0].flat) < len(LEVELS) and here.loss <= LEVELS[len(found[0].flat)]:
                record(found[0], net)
            if index >= steps or not math.isfinite(here.loss) or (found and len(found[0].flat) == len(LEVELS)):
                break
    return found


def optimiser_of(setting: Setting, net: nn.Module) -> torch.optim.Optimizer:
    """SGD with momentum 0.9, or AdamW."""
    rate, decay = RATES[setting.optimiser][setting.rate], DECAYS[setting.optimiser][setting.decay]
    if setting.optimiser == "SGD":
        return torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9, weight_decay=decay)
    return torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=decay, fused=True)


def record(model: Model, net: nn.Sequential) -> None:
    """Append relative flatness and gaps of the network as it is now."""
    data = model.data
    here, there = (scores(net, x, y) for x, y in ((data.x, data.y), (data.x_test, data.y_test)))
    model.flat.append(float(flatness_of(Task.MULTICLASS, last_linear(net, data.x)).mean()))
    model.loss_gap.append(there.loss - here.loss)
    model.error_gap.append(here.accuracy - there.accuracy)


def factors(which: str, net: nn.Sequential, index: int) -> list[torch.Tensor]:
    """Factors by hidden layer of one network's rescaling."""
    sizes, generator = hidden_sizes(net), torch.Generator().manual_seed(index)
    if which == "a factor a neuron":
        return [torch.randint(5, 26, (size,), generator=generator).float() for size in sizes]
    ones = [torch.ones(size) for size in sizes]
    if which == "a factor a network":
        ones[-1] /= torch.randint(5, 26, (1,), generator=generator)
    return ones


# --- what it says ----------------------------------------------------------------------------------------------------


def outcome(models: list[Model], values: dict[str, dict[str, np.ndarray]], designed: int) -> Outcome:
    """Criteria, tables, notes."""
    loss_gap, error_gap = (
        np.array([getattr(model, name)[0] for model in models]) for name in ("loss_gap", "error_gap")
    )
    names, (before, *after) = list(MEASURES), values.values()
    all_taus = taus(np.stack([before[name] for name in names], axis=1), loss_gap)
    flat, hessian = all_taus.of(names.index(FLAT)), all_taus.of(names.index(TRACE))
    moved = {name: [tau_of(found[name], loss_gap) for found in after] for name in RESCALED}
    furthest = max(abs(tau - flat.value) for tau in moved[FLAT])
    criteria = [
        Criterion(f"tau of relative flatness with the loss gap is at least {TAU:g}", str(flat), flat.value >= TAU),
        Criterion(f"under rescalings it changes by at most {STAYS:g}", f"{furthest:.4f}", furthest <= STAYS),
        Criterion(
            f"under rescalings tau of the Hessian's trace falls from {hessian.value:.2f}",
            " and ".join(f"{tau:.2f}" for tau in moved[TRACE]),
            max(moved[TRACE]) < hessian.value,
        ),
    ]
    best = sorted(names, key=lambda name: -all_taus.value[names.index(name)])
    ahead = all_taus.difference(names.index(FLAT), names.index(TRACE))
    alone = [granulated(before[FLAT], loss_gap, codes(models), which)[0] for which in range(len(SETTINGS))]
    notes = [
        f"{len(models)} of {designed} networks converged.",
        f"Of {len(names)} measures relative flatness ranks {best.index(FLAT) + 1}; first are {', '.join(best[:3])}.",
        f"Its tau is above that of the Hessian's trace by {ahead}.",
        "Over pairs that differ in one thing alone its tau is "
        + ", ".join(f"{tau:.2f} ({name})" for name, tau in zip(SETTINGS, alone, strict=True))
        + ".",
    ]
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            str(all_taus.of(index)),
            str(taus(before[name][:, None], error_gap).of(0)),
            *(
                [round(tau, 2) for tau in moved[name]]
                if name in moved
                else [round(float(all_taus.value[index]), 2)] * 2
            ),
        )
        for index, name in enumerate(names)
    ]
    columns = ("measure", "tau, loss gap", "tau, error gap", "a factor a network", "a factor a neuron")
    title = "Kendall's tau with the gap over converged models, 95 % bootstrap intervals; loss gap after rescalings"
    tables = [
        Table("measures", title, columns, rows),
        by_hyperparameter(models, before, loss_gap),
        by_noise(models, before, loss_gap),
        by_level(models),
        every(models, before),
    ]
    return Outcome(criteria, tables, figure(models, before, after[0], loss_gap), notes)


def tau_of(measure: np.ndarray, target: np.ndarray) -> float:
    """Kendall's tau alone."""
    return float(taus(measure[:, None], target).value[0])


def codes(models: list[Model]) -> np.ndarray:
    """(n, 5) hyperparameters as numbers."""
    return np.array([(m.setting.noise, m.setting.optimiser == "SGD", *m.setting[2:]) for m in models], dtype=float)


def by_hyperparameter(models: list[Model], values: dict[str, np.ndarray], gap: np.ndarray) -> Table:
    """Granulated tau with the loss gap."""
    settings = codes(models)
    counts = [granulated(gap, gap, settings, which)[1] for which in range(len(SETTINGS))]
    rows: list[tuple[Cell, ...]] = []
    for name, measure in values.items():
        each = [granulated(measure, gap, settings, which)[0] for which in range(len(SETTINGS))]
        rows.append((name, *(round(tau, 2) for tau in each), round(float(np.nanmean(each)), 2)))
    columns = ("measure", *(f"{name} ({count} pairs)" for name, count in zip(SETTINGS, counts, strict=True)), "mean")
    return Table("granulated", "Granulated Kendall's tau: pairs that differ in this alone", columns, rows)


def by_noise(models: list[Model], values: dict[str, np.ndarray], gap: np.ndarray) -> Table:
    """Tau with the loss gap among the models of one label noise."""
    noise = np.array([model.setting.noise for model in models])
    levels = [level for level in np.unique(noise).tolist() if (noise == level).sum() > 1]
    rows: list[tuple[Cell, ...]] = [
        (name, *(round(tau_of(measure[noise == level], gap[noise == level]), 2) for level in levels))
        for name, measure in values.items()
    ]
    columns = ("measure", *(f"{level:g} ({int((noise == level).sum())} models)" for level in levels))
    return Table("noise", "Kendall's tau with the loss gap among the models of one label noise", columns, rows)


def by_level(models: list[Model]) -> Table:
    """The same models when they are trained on."""
    rows: list[tuple[Cell, ...]] = []
    for place, level in enumerate(LEVELS):
        there = [model for model in models if len(model.flat) > place]
        if len(there) > 1:
            flat, gap = (np.array([getattr(model, name)[place] for model in there]) for name in ("flat", "loss_gap"))
            rows.append((level, len(there), str(taus(flat[:, None], gap).of(0))))
    title = "Relative flatness when the same models are trained on; what is left of them at each training loss"
    return Table("levels", title, ("training loss", "models", "tau, loss gap"), rows)


def every(models: list[Model], values: dict[str, np.ndarray]) -> Table:
    """One row a model."""
    rows: list[tuple[Cell, ...]] = [
        (*model.setting[:2], RATES[model.setting.optimiser][model.setting.rate], model.setting.batch,
         DECAYS[model.setting.optimiser][model.setting.decay], model.loss_gap[0], model.error_gap[0],
         *(float(measure[index]) for measure in values.values()))
        for index, model in enumerate(models)
    ]  # fmt: skip
    return Table("models", "", (*SETTINGS, "loss gap", "error gap", *values), rows)


def figure(models: list[Model], before: dict[str, np.ndarray], after: dict[str, np.ndarray], gap: np.ndarray) -> Figure:
    """Gap over relative flatness and over the Hessian's trace, as trained and rescaled by a factor a network."""
    drawing = Figure(figsize=(9, 4), layout="constrained")
    panels, noise = drawing.subplots(1, 2, sharey=True), [model.setting.noise for model in models]
    for axes, name in zip(panels, (FLAT, TRACE), strict=True):
        axes.scatter(after[name], gap, marker="x", c="0.5", s=18, label="rescaled, same function")
        axes.scatter(before[name], gap, c=noise, cmap="Greys", edgecolors="black", s=26, label="as trained")
        axes.set_xscale("log")
        axes.set_xlabel(f"{name} (low: flat)")
        axes.xaxis.set(major_locator=LogLocator(subs=(1, 3)), major_formatter="{x:g}", minor_locator=NullLocator())
    panels[0].set_ylabel("generalization gap of the loss (nats)")
    drawing.colorbar(panels[0].collections[1], ax=panels, label="label noise")
    drawing.legend(*panels[0].get_legend_handles_labels(), frameon=False, loc="outside upper center", ncols=2)
    return drawing


if __name__ == "__main__":
    main(study)
