"""A model whose robust accuracy in a ball is known by hand."""

import pytest
import torch

from assessor_checks._balls import Ball, Box


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def ball(eps, m, low=-torch.inf, high=torch.inf, norm="linf"):
    ends = (torch.full((m,), float(value), dtype=torch.float64) for value in (eps, low, high))
    return Ball(Box(*ends), norm)


class Linear:
    """Two classes, z = (0, w x + b); what is the worst point of a ball is known."""

    def __init__(self, n=200, m=9, seed=0):
        self.x = torch.rand(n, m, generator=seeded(seed), dtype=torch.float64)
        self.w = torch.randn(m, generator=seeded(seed + 1), dtype=torch.float64)
        self.b = -(self.x @ self.w).mean()
        self.y = (self.margin(self.x) > 0).long()

    def margin(self, x):
        return x @ self.w + self.b

    def __call__(self, x):
        return torch.stack([0 * x[:, 0], self.margin(x)], 1)

    def survives(self, where):
        """(n,) whether the worst point is still right: all features at their ends, or d = clamp(l w) of length eps."""
        down = torch.where(self.y[:, None] > 0, -self.w, self.w)
        eps, low, high = (float(end[0]) for end in where.box)
        if where.norm == "linf":
            worst = torch.clamp(self.x + eps * down.sign(), low, high)
        else:
            short, long = torch.zeros(len(self.x), 1).double(), torch.full((len(self.x), 1), 1e4).double()
            for _ in range(100):
                half = (short + long) / 2
                far = (torch.clamp(self.x + half * down, low, high) - self.x).norm(dim=1, keepdim=True) > eps
                short, long = torch.where(far, short, half), torch.where(far, half, long)
            worst = torch.clamp(self.x + short * down, low, high)
        return (self.margin(worst) > 0) == (self.y > 0)


BALLS = [
    pytest.param(norm, eps, ends, id=f"{norm}-{eps}-{'cut' if ends[1] == 1 else 'free'}")
    for norm in ("linf", "l2")
    for eps in (0.05, 0.3)
    for ends in ((-torch.inf, torch.inf), (0.0, 1.0))
]
