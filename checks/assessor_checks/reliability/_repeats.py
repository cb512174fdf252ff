"""The same rows asked again in ways that must not matter: order, company, batch size, threads, random numbers."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from assessor.contract import Need, Subject, progress

ODD = 7  # rows in a batch: no multiple of what processors work on at once
ONE_BY_ONE = 64  # rows asked one at a time


class Answers(NamedTuple):
    """Answers to n rows.

    Attributes:
        decided: (n,) class index or value.
        scores: (n, k) probabilities where there are some, else what was decided.
    """

    decided: np.ndarray
    scores: np.ndarray


class Variation(NamedTuple):
    """Answers that were got in another way, compared with the first ones.

    Attributes:
        name: The way, in words.
        rows: (k,) numbers of the rows asked.
        changed: (k,) bool, decisions that are not the same.
        moved: (k,) largest difference of a score; infinite where one of them is no number.
        equal: (k,) bool, all scores the same to the last bit.
    """

    name: str
    rows: np.ndarray
    changed: np.ndarray
    moved: np.ndarray
    equal: np.ndarray


Ask = Callable[[np.ndarray], Answers]


def variations(subject: Subject, x: np.ndarray, others: np.ndarray, seed: int) -> tuple[Answers, list[Variation]]:
    """Ask for the same rows in several ways.

    The global random generators, PyTorch's number of threads and the module's buffers are afterwards as before.

    Args:
        subject: Whom to ask.
        x: (n, ...) the rows.
        others: (m, ...) further rows, asked in between; m may be 0.
        seed: Of the other order and the other random numbers.

    Returns:
        The first answers, and each way compared with them.
    """
    n, scored = len(x), Need.PROBABILITIES in subject.offers
    everyone, order = np.arange(n), np.random.default_rng(seed).permutation(n)

    def ask(rows: np.ndarray) -> Answers:
        decided = np.asarray(subject.query(rows))
        scores = subject.query_scores(rows) if scored else decided
        return Answers(decided, np.asarray(scores, dtype=np.float64).reshape(len(rows), -1))

    def shuffled(rows: np.ndarray) -> Answers:
        found, back = ask(rows[order]), np.argsort(order)
        return Answers(found.decided[back], found.scores[back])

    def after_others(rows: np.ndarray) -> Answers:
        ask(others[:n] if len(others) else np.flip(rows, axis=0).copy())
        return ask(rows)

    def reseeded(rows: np.ndarray) -> Answers:
        _seed_everything(seed + 1)
        return ask(rows)

    ways: list[tuple[str, np.ndarray, Ask]] = [
        ("the same rows again", everyone, ask),
        ("with other random numbers", everyone, reseeded),
        ("in another order", everyone, shuffled),
        ("after other rows", everyone, after_others),
        (f"in batches of {ODD}", everyone, _in_batches(ask, ODD)),
        ("one at a time", everyone[:ONE_BY_ONE], _in_batches(ask, 1)),
    ]
    if Need.GRADIENTS in subject.offers and subject.device.startswith("cpu"):
        ways.append(("with another number of threads", everyone, _on_other_threads(ask)))
    found = []
    with _random_state_kept(), _buffers_kept(subject):
        first = ask(x)
        for place, (name, rows, way) in enumerate(ways):
            progress(name, place, len(ways))
            found.append(compared(name, rows, Answers(first.decided[rows], first.scores[rows]), way(x[rows])))
    return first, found


def compared(name: str, rows: np.ndarray, first: Answers, second: Answers) -> Variation:
    """Two answers to the same rows, compared."""
    same = (first.scores == second.scores) | (np.isnan(first.scores) & np.isnan(second.scores))
    with np.errstate(invalid="ignore"):
        moved = np.where(same, 0.0, np.abs(first.scores - second.scores)).max(axis=1)
    changed = first.decided != second.decided
    return Variation(name, rows, changed, np.nan_to_num(moved, nan=np.inf, posinf=np.inf), same.all(axis=1))


def _in_batches(ask: Ask, size: int) -> Ask:
    def asked(rows: np.ndarray) -> Answers:
        parts = [ask(rows[start : start + size]) for start in range(0, len(rows), size)]
        return Answers(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    return asked


def _on_other_threads(ask: Ask) -> Ask:
    def asked(rows: np.ndarray) -> Answers:
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(1 if before > 1 else 2)
        try:
            return ask(rows)
        finally:
            torch.set_num_threads(before)

    return asked


def _seed_everything(seed: int) -> None:
    """Another state of the global generators, from which models may draw."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(seed)


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """The global generators are afterwards as before."""
    state, python_state = np.random.get_state(), random.getstate()
    torch = sys.modules.get("torch")
    try:
        if torch is None:
            yield
        else:
            with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
                yield
    finally:
        np.random.set_state(state)
        random.setstate(python_state)


@contextmanager
def _buffers_kept(subject: Subject) -> Iterator[None]:
    """A module that keeps statistics while it answers has its old ones back afterwards."""
    if Need.GRADIENTS not in subject.offers:
        yield
        return
    import torch

    before = {name: value.clone() for name, value in subject.module.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, value in subject.module.named_buffers():
                if name in before:
                    value.copy_(before[name])
