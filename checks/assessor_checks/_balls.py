"""Where an attack may move rows: boxes, and L-infinity and L2 balls within them, with their steps and projections.

Inputs are (n, ...); a ball has the shape of one row. Lengths are in radii, so that 1 is the surface of a ball.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch

NEAR, FAR = 1, 4  # rounds of Newton's method when projecting onto a cut l2 ball
_TINY = 1e-30  # below every radius and norm that matters in float32

Norm = Literal["linf", "l2"]


class Box(NamedTuple):
    """Where a row may be moved: within `radius` of itself and within [low, high]; each of a feature's shape.

    A feature of radius 0 is never moved, whatever its bounds.
    """

    radius: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor

    def around(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Lower and upper ends (n, ...) for these rows."""
        held = self.radius == 0
        low = torch.maximum(inputs - self.radius, self.low)
        high = torch.minimum(inputs + self.radius, self.high)
        return torch.where(held, inputs, low), torch.where(held, inputs, high)

    @property
    def per_radius(self) -> torch.Tensor:
        """1 / radius, 0 where that is 0."""
        return torch.where(self.radius > 0, 1 / self.radius, 0.0)


class Ball(NamedTuple):
    """Where a row may be moved: within a box, and for "l2" also with sum_i (d_i / radius_i)^2 <= 1."""

    box: Box
    norm: Norm = "linf"

    def near(self, inputs: torch.Tensor) -> Neighbourhood:
        """The neighbourhoods of these rows (n, ...)."""
        low, high = self.box.around(inputs)
        if self.norm == "linf":
            return Neighbourhood(inputs, low, high, self)
        radius, bounds = self.box.radius, (self.box.low, self.box.high)
        even = float(radius.amax()) if len(inputs) and bool((radius == radius.amax()).all()) else None
        cut = any(bool(end.isfinite().any()) for end in bounds)
        near = Neighbourhood(inputs, low, high, self, even)
        return near._replace(cut=(near._units(low - inputs), near._units(high - inputs))) if cut else near


class Neighbourhood(NamedTuple):
    """Where each of some rows may be moved.

    Attributes:
        clean: (n, ...) the rows.
        low: (n, ...) lower ends of the features.
        high: (n, ...) upper ends.
        ball: What they come from.
        even: The radius of an l2 ball where it is the same in every feature, else None.
        cut: (n, ...) least and greatest moves, in `_units`, where bounds may cut the l2 ball, else None.
    """

    clean: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    ball: Ball
    even: float | None = None
    cut: tuple[torch.Tensor, torch.Tensor] | None = None

    def rows(self, keep: torch.Tensor) -> Neighbourhood:
        """Those of some rows."""
        return self._replace(
            clean=self.clean.index_select(0, keep),
            low=self.low.index_select(0, keep),
            high=self.high.index_select(0, keep),
            cut=None if self.cut is None else (self.cut[0].index_select(0, keep), self.cut[1].index_select(0, keep)),
        )

    def random(self, generator: torch.Generator) -> torch.Tensor:
        """One point of each, uniform in the ball; for l2 then clipped to the bounds, which "linf" starts within."""
        shape, device, dtype = self.clean.shape, self.clean.device, self.clean.dtype
        if self.ball.norm == "linf":
            noise = torch.rand(shape, generator=generator, device=device, dtype=dtype)
            return torch.lerp(self.low, self.high, noise).clamp(self.low, self.high)
        moved = int((self.ball.box.radius > 0).sum())
        noise = torch.randn(shape, generator=generator, device=device, dtype=dtype) * (self.ball.box.radius > 0)
        length = torch.rand(len(noise), generator=generator, device=device, dtype=dtype) ** (1 / moved)
        scale = length / length_of(noise).clamp_min(_TINY)
        return self.inside(self.clean + noise * column(scale, noise) * self.ball.box.radius)

    def stepped(self, x: torch.Tensor, gradient: torch.Tensor, size: float | torch.Tensor) -> torch.Tensor:
        """X moved by `size` (in radii; a number, or one a row) in the steepest direction; not projected.

        Steepest is sign(g) radius for "linf" and radius^2 g / ||radius g||_2 for "l2". NaN moves nothing.
        """
        radius = self.ball.box.radius
        if self.ball.norm == "linf":
            way = gradient.sign().nan_to_num_(0.0)
        else:
            way = (gradient if self.even else gradient * radius).nan_to_num(0.0, 0.0, 0.0)
            scale = size / _squares(way).sqrt_().clamp_min_(_TINY)
            if self.even:
                return torch.addcmul(x, way, column(scale * self.even, way))
            return torch.addcmul(x, way * column(scale, way), radius)
        if isinstance(size, torch.Tensor):
            return torch.addcmul(x, way, radius * column(size, way))
        return torch.addcmul(x, way, radius, value=size)

    def inside(self, x: torch.Tensor, rounds: int = FAR) -> torch.Tensor:
        """The nearest point (in radii) of each neighbourhood.

        Within the l2 ball cut by bounds that is clamp(s d) with the largest s <= 1 whose length is at most 1 (its
        Karush-Kuhn-Tucker conditions): a root of the squared length, which is concave in s^2 and linear between the
        points where further features reach their ends. Newton's method from s = 1 is below the root after one round,
        rises from then on, and is exact as soon as it knows which features are at their ends.

        Args:
            x: (n, ...) points.
            rounds: Of Newton's method: `NEAR` for points up to a tenth of the radius outside, else `FAR`; 0 for points
                that are known to lie in the ball and may only be out of bounds.

        Returns:
            (n, ...) points inside.
        """
        if self.ball.norm == "linf" or not rounds:
            return torch.clamp(x, self.low, self.high)
        moved = self._units(x - self.clean)
        whole = _squares(moved)
        tried = least = (self.reach / whole).sqrt_().clamp_max_(1.0)
        if self.cut is not None:
            aimed = moved
            for turn in range(rounds):
                if turn:
                    aimed = moved * column(tried, moved)
                kept = torch.clamp(aimed, *self.cut)
                ended = (aimed - kept).sign_().mul_(moved)  # the features at their ends; floats, for masks are slow
                free = (whole - _squares(ended)).clamp_min_(_TINY)
                grown = (self.reach - _squares(kept)) / free
                squared = grown + 1.0 if turn == 0 else grown + tried.square()
                tried = squared.clamp_(0.0, 1.0).sqrt_().maximum(least)
        if self.even:
            found = torch.addcmul(self.clean, moved, column(tried, moved))
        else:
            found = torch.addcmul(self.clean, moved * column(tried, moved), self.ball.box.radius)
        return torch.clamp(found, self.low, self.high)

    def _units(self, moved: torch.Tensor) -> torch.Tensor:
        """Moves in radii, or as they are where all radii are equal."""
        return moved if self.even else moved * self.ball.box.per_radius

    @property
    def reach(self) -> float:
        """The squared radius of an l2 ball in the units of `_units`."""
        return self.even**2 if self.even else 1.0

    def distance(self, x: torch.Tensor) -> torch.Tensor:
        """(n,) length of x - clean in radii: 1 is the surface of the ball."""
        if self.ball.norm == "l2":
            return (_squares(self._units(x - self.clean)) / self.reach).sqrt()
        return ((x - self.clean) * self.ball.box.per_radius).flatten(1).abs().amax(dim=1)


def level(weights: torch.Tensor, caps: torch.Tensor, total: float | torch.Tensor, rounds: int = 12) -> torch.Tensor:
    """(n, 1) the level l with sum_i weights_i min(l, caps_i) = total; where the caps allow less, a level above them.

    Newton's method on a concave function, from below: it rises to the solution, never beyond, and is exact as soon as
    it knows which caps are reached.

    Args:
        weights: (n, m) not negative.
        caps: (n, m) not negative, perhaps infinite.
        total: (n, 1), or one for all, not negative.
        rounds: Of Newton's method.

    Returns:
        The level; 0 where all weights are 0.

    >>> level(torch.tensor([[1.0, 1.0, 2.0]]), torch.tensor([[0.5, torch.inf, 1.0]]), torch.tensor([[3.0]])).item()
    0.83...
    """
    slope = weights.sum(dim=1, keepdim=True)
    found = torch.where(slope > 0, total / slope, 0.0)
    for _ in range(rounds):
        free = weights * (caps > found)
        slope = free.sum(dim=1, keepdim=True)
        reached = (weights * torch.minimum(caps, found)).sum(dim=1, keepdim=True)
        found = torch.where(slope > 0, found + ((total - reached) / slope).clamp_min(0.0), found)
    return found


def length_of(vectors: torch.Tensor) -> torch.Tensor:
    """(n,) Euclidean lengths, summed in float64 so that no square underflows, in the vectors' dtype."""
    found: torch.Tensor = torch.linalg.vector_norm(vectors.flatten(1), dim=1, dtype=torch.float64)
    return found.to(vectors.dtype)


def _squares(vectors: torch.Tensor) -> torch.Tensor:
    """(n,) sums of squares."""
    found: torch.Tensor = torch.linalg.vector_norm(vectors.flatten(1), dim=1)
    return found.square_()


def column(per_row: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(n,) numbers as (n, 1, ...) beside a tensor of rows."""
    return per_row.reshape(-1, *(1,) * (like.ndim - 1))
