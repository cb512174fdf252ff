"""Attacks: ours against torchattacks, Foolbox and ART, all in one process; prints ratios of process time, one thread.

PGD with 40 steps of 2.5 eps / 40, all rows in one batch, in L-infinity from one random start and in L2 from the clean
row (there the packages draw random starts of other lengths), on small networks for 8 x 8 digits, trained plainly and
on attacked digits; then the members of the standard ensemble against those of torchattacks. Sides take turns; the
times are the least of the repeats. Robust accuracies are means over the repeats' seeds, and have to agree within four
standard errors of their difference (at least half a row).

The packages need an environment of their own (requirements.txt beside this file says how). Run, with it:
python benchmarks/peers/attacks.py [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits

from assessor_checks._balls import Ball, Box, Norm
from assessor_checks._pgd import Plan, ascend, campaign
from assessor_checks.robustness import _apgd, _fab, _square

STEPS, TRAINED = 40, 1197
RADII: dict[Norm, float] = {"linf": 0.1, "l2": 0.5}


class Case(NamedTuple):
    """A network with rows and labels, and the ball they are attacked in, within [0, 1]."""

    net: torch.nn.Module
    x: torch.Tensor
    y: torch.Tensor
    norm: Norm

    @property
    def eps(self) -> float:
        """Radius of the ball."""
        return RADII[self.norm]

    @property
    def ball(self) -> Ball:
        """The ball as ours takes it."""
        return Ball(Box(*(torch.full(self.x.shape[1:], value) for value in (self.eps, 0.0, 1.0))), self.norm)

    def accuracy(self, adversarial: torch.Tensor) -> float:
        """Accuracy on a peer's rows, which have to lie in the ball."""
        moved = (adversarial - self.x).flatten(1)
        length = moved.abs().amax(1) if self.norm == "linf" else moved.norm(dim=1)
        assert length.max() <= self.eps * (1 + 1e-3), f"a peer left the ball: {length.max()}"
        with torch.no_grad():
            return (self.net(adversarial).argmax(1) == self.y).float().mean().item()


Attack = Callable[[Case, int], float]
"""Attacks all rows with a seed and gives the robust accuracy."""


def ours(case: Case, seed: int) -> float:
    """Our PGD with the same budget."""
    plan = Plan(ascend, STEPS, clean_start=case.norm == "l2")
    found = campaign(case.net, case.x, case.y, case.ball, plan, torch.Generator().manual_seed(seed))
    return found.standing.float().mean().item()


def by_torchattacks(case: Case, seed: int) -> float:
    """torchattacks.PGD and PGDL2."""
    import torchattacks

    torch.manual_seed(seed)
    kind = torchattacks.PGD if case.norm == "linf" else torchattacks.PGDL2
    attack = kind(case.net, eps=case.eps, alpha=2.5 * case.eps / STEPS, steps=STEPS, random_start=case.norm == "linf")
    return case.accuracy(attack(case.x, case.y))


def by_foolbox(case: Case, seed: int) -> float:
    """foolbox.attacks.LinfPGD and L2PGD."""
    import foolbox

    torch.manual_seed(seed)
    kind = foolbox.attacks.LinfPGD if case.norm == "linf" else foolbox.attacks.L2PGD
    model = foolbox.PyTorchModel(case.net, bounds=(0, 1), device="cpu")
    attack = kind(rel_stepsize=2.5 / STEPS, steps=STEPS, random_start=case.norm == "linf")
    return case.accuracy(attack(model, case.x, case.y, epsilons=case.eps)[1])


def by_art(case: Case, seed: int) -> float:
    """ART's ProjectedGradientDescentPyTorch, all rows in one batch."""
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    np.random.seed(seed)
    torch.manual_seed(seed)
    shape = tuple(case.x.shape[1:])
    model = PyTorchClassifier(case.net, torch.nn.CrossEntropyLoss(), shape, 10, clip_values=(0, 1), device_type="cpu")
    attack = ProjectedGradientDescentPyTorch(
        model, norm=np.inf if case.norm == "linf" else 2, eps=case.eps, eps_step=2.5 * case.eps / STEPS,
        max_iter=STEPS, num_random_init=int(case.norm == "linf"), batch_size=len(case.x), verbose=False,
    )  # fmt: skip
    return case.accuracy(torch.from_numpy(attack.generate(case.x.numpy(), case.y.numpy())))


PEERS: Mapping[str, Attack] = {"torchattacks": by_torchattacks, "foolbox": by_foolbox, "art": by_art}


def members(quick: bool) -> Mapping[str, tuple[Attack, Attack]]:
    """The ensemble's members, ours and those of torchattacks, with the same steps, targets and queries."""
    import torchattacks

    steps, queries = (20, 100) if quick else (100, 1000)
    said: dict[Norm, str] = {"linf": "Linf", "l2": "L2"}
    first = Plan(_apgd.climb, steps, clean_start=False)
    aimed = first._replace(losses=("dlr",), targets=9)

    def mine(run: Callable[[Case, torch.Generator], torch.Tensor]) -> Attack:
        return lambda case, seed: run(case, torch.Generator().manual_seed(seed)).float().mean().item()

    def theirs(kind: type, **more: object) -> Attack:
        def attack(case: Case, seed: int) -> float:
            made = kind(case.net, norm=said[case.norm], eps=case.eps, seed=seed, n_restarts=1, **more)
            return case.accuracy(made(case.x, case.y))

        return attack

    return {
        "APGD-CE": (
            mine(lambda case, drawn: campaign(case.net, case.x, case.y, case.ball, first, drawn).standing),
            theirs(torchattacks.APGD, steps=steps),
        ),
        "APGD-T": (
            mine(lambda case, drawn: campaign(case.net, case.x, case.y, case.ball, aimed, drawn).standing),
            theirs(torchattacks.APGDT, steps=steps, n_classes=10),
        ),
        "FAB-T": (
            mine(lambda case, _: _fab.fab(case.net, case.x, case.y, case.ball, steps=steps, targets=9)[0].standing),
            theirs(torchattacks.FAB, steps=steps, n_classes=10, multi_targeted=True),
        ),
        "Square": (
            mine(
                lambda case, drawn: (
                    _square.square(case.net, case.x, case.y, case.ball, queries=queries, generator=drawn).standing
                )
            ),
            theirs(torchattacks.Square, n_queries=queries),
        ),
    }


def digits(kind: str, attacked: bool) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """A small network, perhaps trained on attacked digits, and the 600 rows it was not trained on."""
    torch.manual_seed(0)
    data = load_digits()
    x, y = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, torch.tensor(data.target)
    layers: list[torch.nn.Module] = [torch.nn.Flatten(), torch.nn.Linear(64, 128), torch.nn.ReLU()]
    if kind == "CNN":
        layers = [
            torch.nn.Conv2d(1, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(16, 32, 3, stride=2, padding=1),
            torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(512, 128), torch.nn.ReLU(),
        ]  # fmt: skip
    net = torch.nn.Sequential(*layers, torch.nn.Linear(128, 10))
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    loss = torch.nn.functional.cross_entropy
    for _ in range(25):
        for rows in torch.randperm(TRAINED).split(100):
            batch, labels = x[rows], y[rows]
            if attacked:
                probe = batch.clone().requires_grad_(True)
                (gradient,) = torch.autograd.grad(loss(net(probe), labels), probe)
                batch = (batch + 0.15 * gradient.sign()).clamp(0, 1)
            optimiser.zero_grad()
            loss(net(batch), labels).backward()
            optimiser.step()
    return net.eval(), x[TRAINED:], y[TRAINED:]


class Timed(NamedTuple):
    """Least process time in seconds, and the robust accuracy of every repeat."""

    seconds: float
    accuracies: list[float]

    @property
    def accuracy(self) -> float:
        """Mean robust accuracy."""
        return statistics.fmean(self.accuracies)


def race(sides: Mapping[str, Attack], case: Case, repeats: int) -> dict[str, Timed]:
    """Every side in turn, each turn with a seed of its own, after one turn that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    found: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(-1, repeats):
        for name, attack in sides.items():
            begin = time.process_time()
            accuracy = attack(case, turn + 1)
            if turn >= 0:
                seconds[name].append(time.process_time() - begin)
                found[name].append(accuracy)
    return {name: Timed(min(seconds[name]), found[name]) for name in sides}


def agree(a: Timed, b: Timed, n: int) -> bool:
    """Whether two mean accuracies differ by no more than chance: four standard errors, at least half a row."""
    spread = sum(statistics.variance(side.accuracies) / len(side.accuracies) for side in (a, b))
    return abs(a.accuracy - b.accuracy) <= max(4 * spread**0.5, 0.5 / n)


def line(what: str, found: Mapping[str, Timed], n: int) -> bool:
    """Print one race; whether ours was never slower."""
    mine = found["ours"]
    peers = {name: timed for name, timed in found.items() if name != "ours"}
    ratios = "".join(f"{name:>14} {timed.seconds / mine.seconds:5.2f}x" for name, timed in peers.items())
    apart = [name for name, timed in peers.items() if not agree(mine, timed, n)]
    said = ", ".join(f"{name} {timed.accuracy:.4f}" for name, timed in found.items())
    fast = all(timed.seconds >= mine.seconds for timed in peers.values())
    print(
        f"{what:<30}{mine.seconds * 1e3:8.1f} ms{ratios}   accuracy {said}"
        f"{'' if not apart else '; APART: ' + ', '.join(apart)}{'' if fast else '; SLOWER'}",
        flush=True,
    )
    return fast


def main() -> None:
    """Print one line a race."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few repeats and small budgets, as a trial")
    quick = parser.parse_args().quick
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread; ratio: time of the peer / time of ours")
    fast = True
    for kind in ("MLP", "CNN"):
        for attacked in (False, True):
            net, x, y = digits(kind, attacked)
            named = f"{kind} {'robust' if attacked else 'plain'}"
            for norm in RADII:
                sides = {"ours": ours, **PEERS}
                found = race(sides, Case(net, x, y, norm), 3 if quick else 15)
                fast &= line(f"{named}, PGD-{STEPS} {norm}", found, len(y))
    rows = slice(60 if quick else 200)
    for norm in RADII:
        for name, (mine, theirs) in members(quick).items():
            found = race({"ours": mine, "torchattacks": theirs}, Case(net, x[rows], y[rows], norm), 2 if quick else 3)
            fast &= line(f"{named}, {name} {norm}", found, len(y[rows]))
    print("ours was never slower" if fast else "ours was slower somewhere")


if __name__ == "__main__":
    main()
