"""In grokking, features cluster while the network memorises, and relative flatness comes with generalization.

Claim (Han, Adilova, Petzka, Kleesiek, Kamp, NeurIPS 2025, arXiv 2509.17738): when generalization comes long after
memorisation, the clustering of features (neural collapse, NC1) already falls during memorisation, while relative
flatness falls just when generalization begins; training that is kept from flat solutions generalizes later.

Addition modulo 31: a network (two embeddings of 64, one hidden layer of 256, 31 outputs) sees half of all 961 pairs,
full batch, AdamW with learning rate 0.01 and weight decay 2, and is tested on the other half. Train and test accuracy,
training loss, normalised relative flatness of the last layer, NC1 and NC2 are recorded on the training pairs at 70
steps, evenly spaced in their logarithm up to 1000 and then every 100.

What is compared. Generalization begins and ends where test accuracy first has 10 % and 90 % of its final value. Both
quantities fall over orders of magnitude, so their progress is that of their logarithm from its highest to its lowest
point thereafter; half-way is where half of that is done. PASS: in every seed
- test accuracy ends above 0.9, and begins to rise at least ten times later than training accuracy is at 0.99 (else
  nothing grokked and there is nothing to compare);
- relative flatness is half-way between the beginning and the end of generalization;
- NC1 is half-way before it begins;
and over seeds the part of the fall done before generalization begins is larger for NC1 than for relative flatness,
with the whole 95 % t interval.

Two further trainings: "kept sharp", with 0.1 times the amount by which log kappa lies under log 100 added to the loss
(FAM, turned round); and as its control "kept uncertain", where the loss itself is kept at the level that the former
has (flooding, Ishida et al. 2020, arXiv 2002.08709), with no word of flatness. PASS further asks that the kept sharp
generalize later (time to half of full accuracy, ratio to plain within seeds, whole interval above 1). The control is
no criterion; it shows how much of the delay needs no more than less certainty.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from _ranks import Estimate, mean
from _report import Cell, Criterion, Outcome, Table, main, progress
from matplotlib.figure import Figure
from torch import nn

from assessor.contract import Task
from assessor_checks import _collapse
from assessor_checks._layers import last_linear
from assessor_checks._reference_models import flatness_of
from assessor_checks.fam import FAM

MODULUS, WIDTH, HIDDEN = 31, 64, 256
SHARP, PULL, FLOOD = 100.0, 0.1, 0.035  # the loss of the networks kept sharp, in a first run
TRAININGS = ("plain", "kept sharp", "kept uncertain")


class Sums(nn.Module):
    """Two numbers in, logits of their sum out."""

    def __init__(self) -> None:
        """Random, from the global generator."""
        super().__init__()
        self.embedding, self.hidden = nn.Embedding(MODULUS, WIDTH), nn.Linear(2 * WIDTH, HIDDEN)
        self.out = nn.Linear(HIDDEN, MODULUS)

    def forward(self, pairs: torch.Tensor) -> torch.Tensor:
        """(n, 2) int64 to (n, MODULUS)."""
        found: torch.Tensor = self.out(self.hidden(self.embedding(pairs).flatten(1)).relu())
        return found


class Sets(NamedTuple):
    """Half of all pairs to train on, the others to test on."""

    pairs: torch.Tensor
    sums: torch.Tensor
    test_pairs: torch.Tensor
    test_sums: torch.Tensor


class Trace(NamedTuple):
    """What was recorded, (points,) each."""

    step: np.ndarray
    train: np.ndarray
    test: np.ndarray
    loss: np.ndarray
    kappa: np.ndarray
    nc1: np.ndarray
    nc2: np.ndarray


class Timing(NamedTuple):
    """When things happen in one training, in steps, and the part of each fall done when generalization begins."""

    memorised: float
    begins: float
    half: float
    ends: float
    kappa: float
    nc1: float
    kappa_before: float
    nc1_before: float
    loss_before: float
    accuracy: float


def study(quick: bool) -> Outcome:
    """Train all ways for every seed."""
    seeds, steps = (1, 1000) if quick else (5, 3000)
    traces = {}
    for seed in range(seeds):
        for way in TRAININGS:
            traces[way, seed] = trained(way, seed, steps)
            progress("trainings", len(traces), seeds * len(TRAININGS))
    return outcome(traces, seeds)


def divided(seed: int) -> Sets:
    """All pairs, divided at random."""
    pairs = torch.cartesian_prod(torch.arange(MODULUS), torch.arange(MODULUS))
    sums = pairs.sum(dim=1) % MODULUS
    here, there = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed)).tensor_split(2)
    return Sets(pairs[here], sums[here], pairs[there], sums[there])


def trained(way: str, seed: int, steps: int) -> Trace:
    """One training, recorded on its way."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Sums()
    data, points = divided(seed), recorded_at(steps)
    loss = loss_of(way, net, data)
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=2.0, betas=(0.9, 0.98), fused=True)
    rows = []
    for step in range(steps + 1):
        if step in points:
            rows.append((step, *recorded(net, data)))
        optimiser.zero_grad(set_to_none=True)
        loss().backward()
        optimiser.step()
    return Trace(*np.array(rows).T)


def recorded_at(steps: int) -> set[int]:
    """Steps at which to look.

    >>> sorted(recorded_at(1200))[:3], sorted(recorded_at(1200))[-3:]
    ([0, 1, 2], [1000, 1100, 1200])
    """
    return {0, *np.geomspace(1, 1000, 50).round().astype(int).tolist(), *range(1000, steps + 1, 100)}


def loss_of(way: str, net: Sums, data: Sets) -> Callable[[], torch.Tensor]:
    """The loss over all training pairs, by way of training."""

    def plain() -> torch.Tensor:
        return nn.functional.cross_entropy(net(data.pairs), data.sums)

    if way == "kept uncertain":
        return lambda: (plain() - FLOOD).abs() + FLOOD
    if way == "kept sharp":
        fam = FAM(net, "out", 1.0)
        return lambda: plain() + PULL * (math.log(SHARP) - fam().log()).relu()
    return plain


def recorded(net: Sums, data: Sets) -> tuple[float, ...]:
    """Accuracies, training loss, relative flatness, NC1, NC2 at this moment."""
    layer = last_linear(net, data.pairs)
    with torch.no_grad():
        test = (net(data.test_pairs).argmax(dim=1) == data.test_sums).double().mean()
    train = (layer.logits.argmax(dim=1) == data.sums).double().mean()
    loss = nn.functional.cross_entropy(layer.logits.double(), data.sums)
    found = _collapse.geometry(layer.features, _collapse.classes_of(layer.features, data.sums))
    kappa = float(flatness_of(Task.MULTICLASS, layer).mean())
    return float(train), float(test), float(loss), kappa, float(found.nc1.mean()), found.nc2_angles or math.nan


def timing(trace: Trace) -> Timing:
    """When what happens."""
    final = float(trace.test[-1])
    begins, ends = (first(trace, trace.test >= share * final) for share in (0.1, 0.9))
    falls = {name: left(getattr(trace, name)) for name in ("kappa", "nc1", "loss")}
    done = {f"{name}_before": 1 - float(np.interp(begins, trace.step, fall)) for name, fall in falls.items()}
    return Timing(
        memorised=first(trace, trace.train >= 0.99),
        begins=begins,
        half=first(trace, trace.test >= 0.5),
        ends=ends,
        kappa=first(trace, falls["kappa"] <= 0.5),
        nc1=first(trace, falls["nc1"] <= 0.5),
        **done,
        accuracy=final,
    )


def first(trace: Trace, where: np.ndarray) -> float:
    """The first recorded step at which something holds, infinite where it never does."""
    return float(trace.step[where.argmax()]) if where.any() else math.inf


def left(values: np.ndarray) -> np.ndarray:
    """(points,) part of the fall of the logarithm, from its highest point to the lowest thereafter, still to come.

    >>> left(np.array([1.0, 100.0, 10.0, 1.0, 1.5])).tolist()
    [1.0, 1.0, 0.5, 0.0, 0.0]
    """
    logs = np.log(values)
    top = int(logs.argmax())
    low = top + int(logs[top:].argmin())
    found: np.ndarray = (logs - logs[low]) / (logs[top] - logs[low]) if low > top else np.ones_like(logs)
    found[:top], found[low:] = 1.0, 0.0
    return found


def outcome(traces: dict[tuple[str, int], Trace], seeds: int) -> Outcome:
    """Criteria, table, figure."""
    times = {key: timing(trace) for key, trace in traces.items()}
    plain = [times["plain", seed] for seed in range(seeds)]
    grokked = [one.accuracy > 0.9 and one.begins >= 10 * one.memorised for one in plain]
    inside = [one.begins <= one.kappa <= one.ends for one in plain]
    earlier = [one.nc1 < one.begins for one in plain]
    lead = mean(np.array([one.nc1_before - one.kappa_before for one in plain]))
    later = {way: delay(times, way, seeds) for way in TRAININGS[1:]}
    share = [mean(np.array([getattr(one, f"{name}_before") for one in plain])) for name in ("kappa", "nc1", "loss")]
    criteria = [
        Criterion("it groks", f"{sum(grokked)} of {seeds} seeds", all(grokked)),
        Criterion(
            "relative flatness is half-way while test accuracy rises", f"{sum(inside)} of {seeds} seeds", all(inside)
        ),
        Criterion("NC1 is half-way before test accuracy rises", f"{sum(earlier)} of {seeds} seeds", all(earlier)),
        Criterion("more of NC1's fall is done by then (difference of shares)", str(lead), lead.low > 0),
        Criterion("kept sharp, it generalizes later (times)", str(later["kept sharp"]), later["kept sharp"].low > 1),
    ]
    notes = [
        f"Done when generalization begins: {share[0]} of the fall of relative flatness, {share[1]} of that of NC1.",
        f"The training loss has {share[2]} of its fall done by then. At the last layer a network that grows "
        "certain grows flat, and this study cannot tell the one from the other.",
        f"The control, kept uncertain and nothing else, takes {later['kept uncertain']} times as long as plain.",
    ]
    columns = ("training", "seed", "memorised", "begins", "half", "ends", "kappa half-way", "NC1 half-way")
    parts = ("kappa done", "NC1 done", "training loss done", "accuracy")
    rows: list[tuple[Cell, ...]] = [
        (way, seed, *one[:4], *(one[4:9] if way == "plain" else ("",) * 5), one.accuracy)
        for (way, seed), one in times.items()
    ]
    table = Table(
        "times",
        "Steps at which things happen, and parts of the falls done when generalization begins",
        columns + parts,
        rows,
    )
    return Outcome(criteria, [table, recordings(traces)], figure(traces, plain[0]), notes)


def delay(times: dict[tuple[str, int], Timing], way: str, seeds: int) -> Estimate:
    """Geometric mean over seeds of the time to half of full accuracy over that of plain training.

    A training that never gets there counts with its last step, so that the delay is too small rather than too large.
    """
    last = max(one.half for one in times.values() if math.isfinite(one.half))
    logs = [math.log(min(times[way, seed].half, last) / times["plain", seed].half) for seed in range(seeds)]
    return Estimate(*(math.exp(end) for end in mean(np.array(logs))))


def recordings(traces: dict[tuple[str, int], Trace]) -> Table:
    """Every recorded point, for the CSV file."""
    rows: list[tuple[Cell, ...]] = [
        (way, seed, *(float(value) for value in point))
        for (way, seed), trace in traces.items()
        for point in zip(*trace, strict=True)
    ]
    columns = (
        "training",
        "seed",
        "step",
        "train accuracy",
        "test accuracy",
        "training loss",
        "kappa",
        "NC1",
        "NC2 angles",
    )
    return Table("traces", "", columns, rows)


def figure(traces: dict[tuple[str, int], Trace], times: Timing) -> Figure:
    """Accuracy above; relative flatness, NC1 and loss over their highest values below; the first seed."""
    drawing = Figure(figsize=(9, 5.5), layout="constrained")
    panels = drawing.subplots(2, 2, sharex=True, sharey="row")
    plain = traces["plain", 0]
    for way, style in zip(TRAININGS, ("-", "--", ":"), strict=True):
        trace = traces[way, 0]
        panels[0, 1].plot(trace.step, trace.test, style, color="black", label=f"test, {way}")
        panels[1, 1].plot(
            trace.step, trace.kappa / plain.kappa.max(), style, color="black", label=f"relative flatness, {way}"
        )
    panels[0, 0].plot(plain.step, plain.train, "--", color="0.5", label="train")
    panels[0, 0].plot(plain.step, plain.test, "-", color="black", label="test")
    for name, style, words in (
        ("kappa", "-", "relative flatness"),
        ("nc1", "--", "NC1"),
        ("loss", ":", "training loss"),
    ):
        values = getattr(plain, name)
        panels[1, 0].plot(
            plain.step, values / values.max(), style, color="black" if style == "-" else "0.4", label=words
        )
    for axes in panels.flat:
        axes.axvspan(times.begins, times.ends, color="0.9")
        axes.legend(frameon=False, fontsize="small")
    panels[0, 0].set_xscale("symlog", linthresh=1)
    panels[0, 0].set_ylabel("accuracy")
    panels[1, 0].set_yscale("log")
    panels[1, 0].set_ylabel("over its highest value")
    panels[1, 0].set_xlabel("step (shaded: generalization, plain training)")
    panels[1, 1].set_xlabel("step")
    return drawing


if __name__ == "__main__":
    main(study)
