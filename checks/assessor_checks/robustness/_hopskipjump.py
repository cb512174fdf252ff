"""The smallest change of a row that changes a model's answer, found from answers alone, for many rows at once.

Every row starts at the nearest known rows of another answer. Each start is searched a little and the worse half is
given up, again and again (successive halving: Jamieson and Talwalkar 2016, arXiv 1502.07943). Then two kinds of moves
share the budget by what they gain a query:

- hops: HopSkipJump (Chen, Jordan, Wainwright 2020, arXiv 1904.02144, algorithm 2): back to the boundary, its normal
  from answers around (equation 12 with the mean taken off, equation 16), a step along it, back to the boundary;
- nudges (`_nudges`): single random changes, kept where the answer stays another one and the row gets nearer. Trees,
  whose boundaries run along single features, fall to these.

What is found is an upper bound on the true smallest change; nothing here proves that there is no smaller one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from assessor_checks.robustness._nudges import NUDGES, Norm, Nudging

Decide = Callable[[np.ndarray], np.ndarray]
"""Rows (k, d) to answers (k,): class indices, negative where there is none."""

STARTS = 8  # rows of another answer that a search begins at
_QUERIES_A_START = 100  # a budget of fewer has fewer starts
_APPROACH = 8  # halvings of the way from a start to its row
_HALVING_SHARE = 0.25  # of the budget, spent on telling starts apart
_TELLING = 64  # features up to which that share is well spent; of more, single nudges tell less
_TRIED = 64  # farther known rows, and random points, tried at most where the nearest do not do
_PROBES = (25, 100)  # answers around a boundary point for one normal, at least and at most; else one a feature
_PROBE_RADIUS = 0.1  # of the distance to the row: wide enough for trees, where the nearest surroundings are flat
_STRIDES = 2.0 ** np.arange(2, -6, -1)  # of the distance: steps along the normal, all tried at once
_RAYS = 3  # successful steps followed back to the boundary, longest first
_RETURN, _STEP_BACK = 6, 5  # halvings of the way back to the boundary, after a step and before a hop
_TURN = 60  # nudges of a row in a turn
_AT_ONCE = 1024  # nudges asked in one call where rows are few; of one row
_LEAST_ABREAST, _ROUNDS = 4, 500  # no more than this many or this part of the budget: they do not learn of each other
_LIVELY = 0.1  # a kind of turn gets at least about this share of the other's
_CHANCE = 0.3  # share of nudges that is spread evenly over all kinds, whatever they gained
_MEMORY = 20  # nudges of a row over which gains are remembered
_ENTRIES = 2**20  # changed values of all starts held at once
_PROBE_ENTRIES = 2**22  # values of probes held at once


class Reach(NamedTuple):
    """How rows may be changed, one entry a feature (d,).

    Attributes:
        unit: Length of a change of 1, in the feature's own unit; 0 where it is held fixed.
        low: Least allowed value, finite where the feature may change.
        high: Greatest allowed value, likewise.
        whole: Whether changed values are rounded to whole numbers.
    """

    unit: np.ndarray
    low: np.ndarray
    high: np.ndarray
    whole: np.ndarray


class Found(NamedTuple):
    """What a search found for n rows.

    Attributes:
        distance: (n,) length of the smallest change found; inf where none was found.
        changed: (n,) number of features it touches; 0 where none was found.
        queries: (n,) answers asked.
        unanswered: (n,) answers that were none.
        by_queries: (n, k) distance after each checkpoint's number of answers.
    """

    distance: np.ndarray
    changed: np.ndarray
    queries: np.ndarray
    unanswered: np.ndarray
    by_queries: np.ndarray

    @property
    def failed(self) -> int:
        """Rows for which nothing was found."""
        return int(np.isinf(self.distance).sum())

    def plain(self) -> list[Any]:
        """As lists without infinities."""
        return [np.where(np.isinf(part), -1.0, part).tolist() for part in self]

    @staticmethod
    def joined(parts: Sequence[Any], checkpoints: int) -> Found:
        """From what `plain` gave for blocks of rows."""
        columns = [np.concatenate([np.array(part[place]) for part in parts]) for place in range(4)]
        by_queries = np.concatenate([np.array(part[4]).reshape(-1, checkpoints) for part in parts])
        distance, *counts = (np.where(part < 0, np.inf, part) for part in columns)
        changed, queries, unanswered = (count.astype(np.int64) for count in counts)
        return Found(distance, changed, queries, unanswered, np.where(by_queries < 0, np.inf, by_queries))


class Search(NamedTuple):
    """What is searched: model, room and budget.

    Attributes:
        decide: The model.
        reach: How rows may be changed.
        known: Rows (m, d) to start from.
        answers: (m,) the model's answers for them.
        norm: Length of a change, in units of `reach`.
        queries: Answers asked for a row at most, at least 1.
        checkpoints: Numbers of answers after which the distance is noted.
    """

    decide: Decide
    reach: Reach
    known: np.ndarray
    answers: np.ndarray
    norm: Norm
    queries: int
    checkpoints: tuple[int, ...] = ()


def rows_at_once(search: Search) -> int:
    """Rows that are searched together; bounds memory."""
    return max(1, _ENTRIES // (STARTS * max(1, int((search.reach.unit > 0).sum()))))


def smallest_changes(search: Search, rows: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Found:
    """For each row the nearest point found that is answered with another class than its label.

    Args:
        search: Model and budget.
        rows: (n, d) finite rows within `search.reach`, each answered with its label; `rows_at_once` at most, for
            memory's sake. Their dtype is what the model is given.
        labels: (n,) class indices.
        rng: All randomness.

    Returns:
        Distances and what they cost.
    """
    chains = _Chains(search, rows, labels, rng)
    if len(rows) and len(chains.free):
        chains.run()
    return chains.found()


class _Chains:
    """Rows with one or more chains each: points of another answer that are brought nearer.

    `change` (c, f) and `size` (c,) are the best point of each chain, over the free features; `owner` (c,) is its row.
    """

    def __init__(self, search: Search, rows: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> None:
        self.search, self.rows, self.labels, self.rng = search, rows, labels, rng
        self.free = np.flatnonzero(search.reach.unit > 0)
        self.reach = Reach(*(part[self.free] for part in search.reach))
        self.origin = rows[:, self.free].astype(np.float64)
        n, self.checkpoints = len(rows), np.asarray(search.checkpoints, dtype=np.int64)
        self.asked, self.unanswered = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        self.best, self.by_queries = np.full(n, np.inf), np.full((n, len(self.checkpoints)), np.inf)
        self.owner, self.change, self.size = np.empty(0, np.int64), np.empty((0, len(self.free))), np.empty(0)
        self.gains = np.full(len(NUDGES), 1e-3)

    def run(self) -> None:
        """Begin, tell the starts apart, then hops and nudges until the budget is spent."""
        count = int(np.clip(self.search.queries // _QUERIES_A_START, 1, STARTS))
        self._begin(count)
        share = _HALVING_SHARE * min(1.0, _TELLING / len(self.free))
        turn = int(self.search.queries * share / (count * max(1.0, np.log2(count))))
        while len(self.owner) > len(np.unique(self.owner)):
            self._nudge(turn)
            self._keep_best(int(np.bincount(self.owner).max()) // 2)
            turn *= 2
        self._take_turns()

    def found(self) -> Found:
        """What was found so far; of each row its smallest chain."""
        changed = np.zeros(len(self.rows), dtype=np.int64)
        changed[self.owner] = (self.change != 0).sum(axis=1)
        return Found(self.best, changed, self.asked, self.unanswered, self.by_queries)

    def _take_turns(self) -> None:
        """Hops and nudges in turns, shared by the distance that they gained a query."""
        spent, gain = np.ones(2), np.full(2, 1e-3)
        cost = _STEP_BACK + self.probes + len(_STRIDES) + _RAYS * _RETURN
        while len(self.owner) and (left := self.search.queries - self.asked[self.owner]).max() > 0:
            due = gain + _LIVELY * gain[::-1]
            kind = 0 if left.max() >= cost and spent[0] * due[1] < spent[1] * due[0] else 1
            before, asked = self._log_size(), self.asked.sum()
            if kind == 0:
                self._hop(np.flatnonzero(left >= cost))
            else:
                self._nudge(_TURN)
            used = (self.asked.sum() - asked) / len(self.owner)
            gain[kind] = (gain[kind] + (before - self._log_size()) / used) / 2
            spent[kind] += used

    def _log_size(self) -> float:
        return float(np.log(np.maximum(self.size, 1e-300)).mean())

    @property
    def probes(self) -> int:
        """Answers asked around a boundary point for one normal."""
        return int(np.clip(len(self.free), *_PROBES))

    # --- asking ---

    def _ask(self, chains: np.ndarray, changes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ask for changes (k, f) of chains (k,), the best of which become the chains' points.

        Returns:
            (k,) whether the answer is another than the label, and (k, f) the changes really made: within the allowed
            values, and rounded as the model is given them.
        """
        if not len(chains):
            return np.empty(0, dtype=bool), changes
        owner = self.owner[chains]
        inputs, made = self._inputs(owner, changes)
        answers = self.search.decide(inputs)
        other = (answers != self.labels[owner]) & (answers >= 0)
        np.add.at(self.unanswered, owner, answers < 0)
        np.add.at(self.asked, owner, 1)
        sizes = np.where(other, self.search.norm.size(made), np.inf)
        order = np.lexsort((sizes, chains))
        first = order[np.unique(chains[order], return_index=True)[1]]  # of each chain the smallest
        better = first[sizes[first] < self.size[chains[first]]]
        self.size[chains[better]], self.change[chains[better]] = sizes[better], made[better]
        np.minimum.at(self.best, owner[better], sizes[better])
        np.copyto(self.by_queries, self.best[:, None], where=self.asked[:, None] <= self.checkpoints)
        return other, made

    def _inputs(self, owner: np.ndarray, changes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Inputs (k, d) in the rows' own dtype, and the changes (k, f) that they are."""
        values = self.origin[owner] + changes * self.reach.unit
        np.copyto(values, np.rint(values), where=self.reach.whole)
        values = np.clip(values, self.reach.low, self.reach.high)
        inputs = self.rows[owner]
        inputs[:, self.free] = np.where(changes == 0, self.origin[owner], values)
        return inputs, (inputs[:, self.free].astype(np.float64) - self.origin[owner]) / self.reach.unit

    def _approach(self, chains: np.ndarray, changes: np.ndarray, halvings: int) -> None:
        """Binary search for the least length at which these changes, cut to it, are still answered otherwise."""
        low, high = np.zeros(len(chains)), self.search.norm.size(changes)
        for _ in range(halvings):
            middle = (low + high) / 2
            other, _made = self._ask(chains, self.search.norm.cut(changes, middle))
            low, high = np.where(other, low, middle), np.where(other, middle, high)

    # --- starts ---

    def _begin(self, count: int) -> None:
        """Chains at the nearest known rows of another answer; where none of them does, at farther or random points."""
        more = min(_TRIED, self.search.queries // 4)
        attempts: tuple[Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], ...] = (
            lambda which: self._nearest(which, slice(count)),
            lambda which: self._nearest(which, slice(count, count + more)),
            lambda which: self._anywhere(which, more),
        )
        kept = []
        for attempt in attempts:
            self.owner, self.change = attempt(np.flatnonzero(np.isinf(self.best)))
            self.size = np.full(len(self.owner), np.inf)
            self._ask(np.arange(len(self.owner)), self.change.copy())
            fine = np.isfinite(self.size)
            kept.append((self.owner[fine], self.change[fine], self.size[fine]))
        self.owner, self.change, self.size = (np.concatenate(part) for part in zip(*kept, strict=True))
        self._keep_best(count)
        fits = self.asked + _APPROACH * np.bincount(self.owner, minlength=len(self.rows)) <= self.search.queries
        chains = np.flatnonzero(fits[self.owner])
        self._approach(chains, self.change[chains], _APPROACH)

    def _nearest(self, which: np.ndarray, places: slice) -> tuple[np.ndarray, np.ndarray]:
        """Rows and the changes that make them their nearest known rows of another answer, those at some places."""
        owners, changes = [np.empty(0, dtype=np.int64)], [np.empty((0, len(self.free)))]
        known = self.search.known[:, self.free] / self.reach.unit
        for label in np.unique(self.labels[which]):
            others = known[(self.search.answers != label) & (self.search.answers >= 0)]
            for row in which[self.labels[which] == label]:
                here = self.origin[row] / self.reach.unit
                near = others[np.argsort(self.search.norm.size(others - here), kind="stable")[places]]
                owners.append(np.full(len(near), row))
                changes.append(near - here)
        return np.concatenate(owners), np.concatenate(changes)

    def _anywhere(self, which: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and changes to points drawn within the allowed values, the second half of them corners."""
        share = self.rng.random((len(which), count, len(self.free)))
        share[:, count // 2 :] = np.rint(share[:, count // 2 :])
        values = self.reach.low + share * (self.reach.high - self.reach.low)
        changes = (values - self.origin[which][:, None]) / self.reach.unit
        return np.repeat(which, count), changes.reshape(-1, len(self.free))

    def _keep_best(self, count: int) -> None:
        """Keep each row's `count` smallest chains."""
        order = np.lexsort((self.size, self.owner))
        owner = self.owner[order]
        keep = np.sort(order[np.arange(len(owner)) - np.searchsorted(owner, owner) < count])
        self.owner, self.change, self.size = self.owner[keep], self.change[keep], self.size[keep]

    # --- moves ---

    def _hop(self, chains: np.ndarray) -> None:
        """One iteration of HopSkipJump on each of these chains, with all steps along the normal tried at once."""
        self._approach(chains, self.change[chains], _STEP_BACK)
        part = max(1, _PROBE_ENTRIES // (self.probes * len(self.free)))
        normal = np.concatenate([self._normal(chains[i : i + part]) for i in range(0, len(chains), part)])
        size = self.size[chains, None, None]
        steps = self.change[chains, None] + _STRIDES[:, None] * size * normal[:, None]
        which = np.repeat(chains, len(_STRIDES))
        nearer = self.search.norm.cut(steps.reshape(len(which), -1), 0.995 * self.size[which])
        other, made = self._ask(which, nearer)
        tried = other.reshape(len(chains), -1)
        followed = (tried & (np.cumsum(tried, axis=1) <= _RAYS)).reshape(-1)
        self._approach(which[followed], made[followed], _RETURN)

    def _normal(self, chains: np.ndarray) -> np.ndarray:
        """(k, f) directions of length 1, or signs, in which the answer becomes another one: weighted mean of probes."""
        change, k, f = self.change[chains], len(chains), len(self.free)
        probes = self.rng.standard_normal((k, self.probes, f))
        radius = _PROBE_RADIUS * self.size[chains] * (1 if self.search.norm is Norm.L2 else np.sqrt(f))
        probes *= radius[:, None, None] / np.linalg.norm(probes, axis=2, keepdims=True)
        other, made = self._ask(np.repeat(chains, self.probes), (change[:, None] + probes).reshape(-1, f))
        sign = 2.0 * other.reshape(k, -1) - 1
        mean = sign.mean(axis=1, keepdims=True)
        weight = np.where(np.abs(mean) == 1, sign, sign - mean)
        normal: np.ndarray = np.einsum("kb,kbf->kf", weight, made.reshape(k, -1, f) - change[:, None])
        length = np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)
        normal = np.sign(normal) if self.search.norm is Norm.LINF else normal / length
        return normal

    def _nudge(self, turn: int) -> None:
        """Nudge every chain `turn` times, or as often as its row's budget allows; kinds by what they gained so far."""
        most = max(_LEAST_ABREAST, self.search.queries // _ROUNDS)
        at_once = int(np.clip(round(_AT_ONCE / max(1, len(self.owner))), 1, most))
        for done in range(0, turn, at_once):
            chains = self._affordable(np.repeat(np.arange(len(self.owner)), min(at_once, turn - done)))
            if not len(chains):
                return
            shares = _CHANCE / len(self.gains) + (1 - _CHANCE) * self.gains / self.gains.sum()
            kinds = self.rng.choice(len(self.gains), size=len(chains), p=shares / shares.sum())
            change, size = self.change[chains], self.size[chains]
            moved, together = np.empty_like(change), Nudging(self.rng, self.search.norm, self.change)
            for kind in np.unique(kinds):
                which = np.flatnonzero(kinds == kind)
                moved[which] = NUDGES[kind](together, change[which], size[which])
            other, made = self._ask(chains, moved)
            self._learn(
                kinds, np.where(other, np.maximum(0.0, 1 - self.search.norm.size(made) / np.maximum(size, 1e-300)), 0.0)
            )

    def _learn(self, kinds: np.ndarray, gain: np.ndarray) -> None:
        """Remember what each kind of nudge gained, as a share of the distance."""
        count = np.bincount(kinds, minlength=len(self.gains))
        mean = np.bincount(kinds, gain, minlength=len(self.gains)) / np.maximum(count, 1)
        weight = np.minimum(1.0, count / len(self.owner) / _MEMORY)
        self.gains = np.maximum(self.gains + weight * (mean - self.gains), 1e-12)

    def _affordable(self, chains: np.ndarray) -> np.ndarray:
        """Those of these chains, in this order, whose rows may still be asked."""
        owner = self.owner[chains]
        order = np.argsort(owner, kind="stable")
        place = np.empty(len(owner), dtype=np.int64)
        place[order] = np.arange(len(owner)) - np.searchsorted(owner[order], owner[order])
        found: np.ndarray = chains[self.asked[owner] + place < self.search.queries]
        return found
