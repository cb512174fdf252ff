"""In grokking, features cluster while the network memorises, and relative flatness comes with generalization.

Claim (Han, Adilova, Petzka, Kleesiek, Kamp, NeurIPS 2025, arXiv 2509.17738): when generalization comes long after
memorisation, the clustering of features (neural collapse, NC1) already falls during memorisation, while relative
flatness falls just when generalization begins; training that is kept from flat solutions generalizes later.

Addition modulo 31: a network (two embeddings of 64, one hidden layer of 256, 31 outputs) sees half of all 961 pairs,
full batch, AdamW with learning rate 0.01 and weight decay 0.5, 1, 2 or 4, and is tested on the other half. Train and
test accuracy, training loss, normalised relative flatness of the last layer, NC1 and NC2 are recorded on the training
pairs at steps evenly spaced in their logarithm up to 1000, then every 100.

What is compared. Generalization begins and ends where test accuracy first has 10 % and 90 % of its final value. Both
quantities fall over orders of magnitude, so their progress is that of their logarithm, from its highest point before
its lowest one to that; half-way is where half of that is done. PASS: for every weight decay,
- test accuracy ends above 0.9 and begins to rise at least ten times later than training accuracy is at 0.99, in every
  seed (else nothing grokked and there is nothing to compare);
- NC1 is half-way before generalization begins, in every seed;
- relative flatness is half-way between the beginning and the end of generalization, in every seed;
- the part of the fall done when generalization begins is larger for NC1 than for relative flatness, with the whole
  95 % t interval over seeds.
A claim about generalization should not hang on one weight decay, so all are asked for.

Two further trainings at weight decay 2: "kept sharp", with 0.1 times the amount by which log kappa lies under log 100
added to the loss (FAM, turned round); and as its control "kept uncertain", where the loss itself is kept at the level
that the former has (flooding, Ishida et al. 2020, arXiv 2002.08709), with no word of flatness. PASS further asks that
the kept sharp generalize later (time to half of full accuracy, ratio to plain within seeds, whole interval above 1).
The control is no criterion; it shows how much of the delay needs no more than less certainty.
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
from assessor_checks._layers import last_linear
from assessor_checks.fam import FAM
from assessor_checks.generalization import _collapse
from assessor_checks.generalization._reference_models import flatness_of

MODULUS, WIDTH, HIDDEN = 31, 64, 256
SHARP, PULL, FLOOD = 100.0, 0.1, 0.035  # the loss of the networks kept sharp, in a first run
PLAIN = {"weight decay 0.5": 0.5, "weight decay 1": 1.0, "weight decay 2": 2.0, "weight decay 4": 4.0}
MAIN, KEPT = "weight decay 2", ("kept sharp", "kept uncertain")
TRAININGS = (*PLAIN, *KEPT)


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
    seeds, steps = (1, 400) if quick else (4, 3000)
    traces = {}
    for seed in range(seeds):
        for way in TRAININGS:
            traces[way, seed] = trained(way, seed, 2 * steps if PLAIN.get(way, 1.0) < 1 else steps)  # the slow ones
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
    decay = PLAIN[way if way in PLAIN else MAIN]
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=decay, betas=(0.9, 0.98), fused=True)
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
    """(points,) part still to come of the fall of the logarithm, from the highest point before its lowest to that.

    >>> left(np.array([2.0, 100.0, 10.0, 1.0, 200.0])).tolist()
    [1.0, 1.0, 0.5, 0.0, 0.0]
    """
    logs = np.log(values)
    low = int(logs.argmin())
    top = int(logs[: low + 1].argmax())
    found: np.ndarray = (logs - logs[low]) / (logs[top] - logs[low]) if low > top else np.ones_like(logs)
    found[:top], found[low:] = 1.0, 0.0
    return found


def outcome(traces: dict[tuple[str, int], Trace], seeds: int) -> Outcome:
    """Criteria, table, figure."""
    times = {key: timing(trace) for key, trace in traces.items()}
    by_decay = {way: [times[way, seed] for seed in range(seeds)] for way in PLAIN}
    leads = {
        way: mean(np.array([one.nc1_before - one.kappa_before for one in found])) for way, found in by_decay.items()
    }
    least = min(leads, key=lambda way: leads[way].low)
    later = {way: delay(times, way, seeds) for way in KEPT}
    criteria = [
        counted("it groks", by_decay, lambda one: one.accuracy > 0.9 and one.begins >= 10 * one.memorised),
        counted("NC1 is half-way before test accuracy rises", by_decay, lambda one: one.nc1 < one.begins),
        counted(
            "relative flatness is half-way while it rises", by_decay, lambda one: one.begins <= one.kappa <= one.ends
        ),
        Criterion(
            "when it begins to rise, more of NC1's fall is done (difference of shares)",
            f"{leads[least]} at {least}, the least",
            leads[least].low > 0,
        ),
        Criterion("kept sharp, it generalizes later (times)", str(later["kept sharp"]), later["kept sharp"].low > 1),
    ]
    notes = [
        f"{way}: done when generalization begins are {share(found, 'kappa')} of the fall of relative flatness, "
        f"{share(found, 'nc1')} of that of NC1, {share(found, 'loss')} of that of the training loss."
        for way, found in by_decay.items()
    ]
    notes.append(
        f"The control, kept uncertain and nothing else, takes {later['kept uncertain']} times as long as plain."
    )
    columns = ("training", "seed", "memorised", "begins", "half", "ends", "kappa half-way", "NC1 half-way")
    parts = ("kappa done", "NC1 done", "training loss done", "accuracy")
    rows: list[tuple[Cell, ...]] = [
        (way, seed, *one[:4], *(one[4:9] if way in PLAIN else ("",) * 5), one.accuracy)
        for (way, seed), one in times.items()
    ]
    title = "Steps at which things happen, and parts of the falls done when generalization begins"
    tables = [Table("times", title, columns + parts, rows), recordings(traces)]
    return Outcome(criteria, tables, figure(traces, times[MAIN, 0]), notes)


def counted(expected: str, found: dict[str, list[Timing]], holds: Callable[[Timing], bool]) -> Criterion:
    """A criterion that every seed of every weight decay must meet."""
    counts = {way: sum(map(holds, ones)) for way, ones in found.items()}
    text = ", ".join(f"{count} of {len(found[way])} ({way})" for way, count in counts.items())
    return Criterion(f"{expected}, in every seed", text, all(count == len(found[way]) for way, count in counts.items()))


def share(found: list[Timing], name: str) -> Estimate:
    """Mean part of a fall that is done when generalization begins."""
    return mean(np.array([getattr(one, f"{name}_before") for one in found]))


def delay(times: dict[tuple[str, int], Timing], way: str, seeds: int) -> Estimate:
    """Geometric mean over seeds of the time to half of full accuracy over that of plain training.

    A training that never gets there counts with its last step, so that the delay is too small rather than too large.
    """
    last = max((one.half for one in times.values() if math.isfinite(one.half)), default=1.0)
    halves = [[min(times[one, seed].half, last) for one in (way, MAIN)] for seed in range(seeds)]
    logs = [math.log(here / plain) for here, plain in halves]
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
    """Accuracy above, what falls below, for the first seed; shaded where the middle one generalizes."""
    drawing = Figure(figsize=(9.5, 4.6), layout="constrained")
    panels = drawing.subplots(2, 3, sharex=True, sharey="row")
    middle = traces[MAIN, 0]
    panels[0, 0].plot(middle.step, middle.train, "--", color="black", label="train")
    panels[0, 0].plot(middle.step, middle.test, "-", color="black", label="test")
    for values, style, words in (
        (middle.kappa, "-", "relative flatness"),
        (middle.nc1, "--", "NC1"),
        (middle.loss, ":", "loss"),
    ):
        panels[1, 0].plot(middle.step, values / values.max(), style, color="black", label=words)
    panels[1, 0].legend(frameon=False, fontsize="small")
    styles = dict(zip(TRAININGS, (":", "-.", "-", "--", "--", ":"), strict=True))
    for place, ways in ((1, tuple(PLAIN)), (2, (MAIN, *KEPT))):
        for way in ways:
            trace = traces[way, 0]
            panels[0, place].plot(trace.step, trace.test, styles[way], color="black", label=way)
            panels[1, place].plot(trace.step, trace.kappa / middle.kappa.max(), styles[way], color="black")
    for above, below, words in zip(*panels, (MAIN, "test; relative flatness", "test; relative flatness"), strict=True):
        above.set_title(words, fontsize="medium")
        above.legend(frameon=False, fontsize="small")
        below.set_xlabel("step")
        for axes in (above, below):
            axes.axvspan(times.begins, times.ends, color="0.9")
    panels[0, 0].set_xscale("symlog", linthresh=1)
    panels[1, 0].set_yscale("log")
    panels[0, 0].set_ylabel("accuracy")
    panels[1, 0].set_ylabel("over the highest value")
    return drawing


if __name__ == "__main__":
    main(study)
