"""Between two networks the loss rises when all layers are averaged, and hardly when a single one is.

Claim (Adilova, Andriushchenko, Kamp, Fischer, Jaggi, ICLR 2024, arXiv 2307.06966): networks trained from different
initial weights have a barrier on the straight line between them, single layers have almost none, and the first and
last layers behave differently from those in the middle. (Singh et al. 2024, arXiv 2406.16300: distance and curvature
at the ends tell of the barrier.)

Networks 64-64-64-64-10 on digits, trained until they fit (momentum 0.9, learning rate 0.1, 1500 steps), in independent
pairs: of different initial weights, and of the same ones with another order of the data. The check
`generalization.mode_connectivity` measures each pair on 797 test rows. A layer has two baselines, which answer
different questions: averaged against the mean loss of both networks (is averaging safe?), and its highest rise on the
line from the layer kept to the layer swapped (is there a hump?); both are the mean of the two directions.

PASS, over pairs of different initial weights, with the whole 95 % t interval: the barrier of the whole is above 0.5
nats; averaged, every layer behind the first has less than a tenth of its pair's whole barrier; and no layer, the first
included, has a hump of a tenth of it. The first layer averaged is reported and no criterion, since the paper sets it
apart; a tenth is what "almost none" is taken to mean.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from _networks import Data, cross_entropy, descend, digits, mlp, subject, train
from _ranks import Estimate, mean, taus
from _report import Cell, Criterion, Outcome, Table, main, progress
from matplotlib.figure import Figure
from torch import nn

from assessor.contract import Result
from assessor_checks.generalization.mode_connectivity import CHECK, ModeConnectivityParams

WHOLE, SHARE = 0.5, 0.1
LAYERS = ("first", "second", "third", "last")
KINDS = ("different initial weights", "same initial weights")


class Pair(NamedTuple):
    """Barriers between two networks in nats: whole, after alignment, foretold, and by layer (4,)."""

    whole: float
    aligned: float
    foretold: float
    averaged: np.ndarray
    hump: np.ndarray


def study(quick: bool) -> Outcome:
    """Train pairs, measure them, compare."""
    pairs, steps = (2, 200) if quick else (16, 1500)
    data, curves = digits(1000), dict[str, Result]()
    found: dict[str, list[Pair]] = {kind: [] for kind in KINDS}
    for index in range(pairs):
        net = fitted(data, steps, start=2 * index, order=2 * index)
        for kind, start in zip(KINDS, (2 * index + 1, 2 * index), strict=True):
            other = fitted(data, steps, start=start, order=2 * index + 1)
            result = CHECK.measure(subject(net, data, baseline=other), ModeConnectivityParams(), 0)
            found[kind].append(pair_of(result))
            curves.setdefault(kind, result)
        progress("pairs", index + 1, pairs)
    return outcome(found, curves)


def fitted(data: Data, steps: int, *, start: int, order: int) -> nn.Sequential:
    """A trained network in eval mode; `start` seeds its initial weights, `order` the order of the data."""
    net = mlp(64, 64, 64, 64, 10, seed=start)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    train(descend(optimiser, cross_entropy(net)), data.x, data.y, batch=32, steps=steps, seed=order)
    return net.eval()


def pair_of(result: Result) -> Pair:
    """The numbers of a pair; a layer's are the mean over both directions."""
    rows = np.array([row[2:] for row in result.tables[0].rows], dtype=float).reshape(len(LAYERS), 2, 2).mean(axis=1)
    whole, aligned, foretold = (
        result.metric(name).value for name in ("barrier", "barrier_aligned", "predicted_barrier")
    )
    return Pair(whole, aligned, foretold, rows[:, 0], rows[:, 1])


def outcome(found: dict[str, list[Pair]], curves: dict[str, Result]) -> Outcome:
    """Criteria over pairs of different initial weights, tables of both kinds."""
    pairs = found[KINDS[0]]
    whole = mean(np.array([pair.whole for pair in pairs]))
    averaged, humps = (
        [mean(np.array([getattr(pair, name)[layer] / pair.whole for pair in pairs])) for layer in range(len(LAYERS))]
        for name in ("averaged", "hump")
    )
    criteria = [
        Criterion(f"the barrier of the whole is above {WHOLE:g} nats", str(whole), whole.low > WHOLE),
        _share("every layer behind the first, averaged", averaged[1:], LAYERS[1:]),
        _share("every layer's hump", humps, LAYERS),
    ]
    notes = [f"The first layer averaged alone has {averaged[0]} of the whole barrier (no criterion)."]
    notes += [foretold_note(kind, found[kind]) for kind in KINDS]
    return Outcome(criteria, [by_layer(found), by_pair(found)], figure(found, curves[KINDS[0]]), notes)


def _share(what: str, shares: list[Estimate], layers: tuple[str, ...]) -> Criterion:
    most = max(range(len(layers)), key=lambda layer: shares[layer].high)
    text = f"{shares[most]} in the {layers[most]} layer, the highest"
    return Criterion(f"{what}, is below {SHARE:g} of the whole barrier", text, shares[most].high < SHARE)


def foretold_note(kind: str, pairs: list[Pair]) -> str:
    """How the foretold barriers rank beside the measured ones."""
    foretold, whole = (np.array([getattr(pair, name) for pair in pairs]) for name in ("foretold", "whole"))
    tau = taus(foretold[:, None], whole).of(0)
    return f"Foretold from the ends over {len(pairs)} pairs of {kind}: Kendall's tau {tau} with the measured barrier."


def by_layer(found: dict[str, list[Pair]]) -> Table:
    """Means over pairs with t intervals, in nats."""
    rows: list[tuple[Cell, ...]] = []
    for kind, pairs in found.items():
        for name in ("whole", "aligned", "foretold"):
            rows.append((kind, name, str(mean(np.array([getattr(pair, name) for pair in pairs]))), ""))
        for place, layer in enumerate(LAYERS):
            both = (mean(np.array([getattr(pair, name)[place] for pair in pairs])) for name in ("averaged", "hump"))
            rows.append((kind, f"{layer} layer", *map(str, both)))
    columns = ("pairs of", "what", "averaged or barrier (nats)", "hump on its own line (nats)")
    return Table("layers", "Mean over pairs with 95 % t interval", columns, rows)


def by_pair(found: dict[str, list[Pair]]) -> Table:
    """Whole barrier, measured and foretold, of every pair."""
    rows: list[tuple[Cell, ...]] = [
        (kind, index, pair.whole, pair.foretold, pair.aligned)
        for kind, pairs in found.items()
        for index, pair in enumerate(pairs)
    ]
    columns = ("pairs of", "pair", "barrier (nats)", "foretold (nats)", "after alignment (nats)")
    return Table("pairs", "Every pair", columns, rows)


def figure(found: dict[str, list[Pair]], first: Result) -> Figure:
    """One pair's line; whole barrier and layers of all pairs; foretold beside measured."""
    drawing = Figure(figsize=(11, 3.8), layout="constrained")
    way, layers, ranks = drawing.subplots(1, 3)
    columns = first.series[0].columns
    for name, style, words in (
        ("loss", "o-", "as they are"),
        ("aligned", "s--", "aligned"),
        ("straight", ":", "straight line"),
    ):
        way.plot(columns["share"], columns[name], style, color="black", markersize=3, label=words)
    way.set_xlabel("from one network (0) to the other (1)")
    way.set_ylabel("mean test loss, first pair (nats)")
    way.legend(frameon=False, fontsize="small")
    for kind, marker, face in zip(KINDS, "os", ("black", "none"), strict=True):
        values = np.array([[pair.whole, *pair.averaged] for pair in found[kind]])
        for place, column in enumerate(values.T):
            shift = 0.12 if face == "none" else -0.12
            label = kind if place == 0 else None
            layers.scatter(
                np.full(len(column), place + shift),
                column,
                marker=marker,
                s=18,
                c=face,
                edgecolors="black",
                label=label,
            )
        ranks.scatter(
            [pair.foretold for pair in found[kind]], values[:, 0], marker=marker, s=18, c=face, edgecolors="black"
        )
    layers.axhline(0, color="0.6", linewidth=0.8)
    layers.set_xticks(range(5), ("whole", *LAYERS))
    layers.set_ylabel("averaged, above the mean of both (nats)")
    layers.legend(frameon=False, fontsize="small")
    ranks.set_xlabel("barrier foretold from the ends (nats)")
    ranks.set_ylabel("barrier measured (nats)")
    return drawing


if __name__ == "__main__":
    main(study)
