"""Relative flatness: closed form against the layer's forward pass and against the full Hessian by autograd.

All in one process, in turn, CPU or CUDA as found; prints medians and ratios. Run: python benchmarks/bench_flatness.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from assessor_checks import _flatness as flatness

SHAPES = ((1_000, 10, 512), (10_000, 10, 512), (10_000, 100, 512), (2_000, 1_000, 512))  # n, d, m
SLOW_SHAPES = ((1_000, 10, 512), (1_000, 10, 64))  # the full Hessian: d m double backward passes
REPEATS = 7


def seconds(work: Callable[[], object], device: str) -> float:
    """Wall time of one call, the device's queue drained."""
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def case(n: int, d: int, m: int, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Float32 features after a ReLU, weights and logits."""
    generator = torch.Generator().manual_seed(0)
    phi = torch.randn(n, m, generator=generator).relu().to(device)
    weight = (torch.randn(d, m, generator=generator) * 4 / m**0.5).to(device)
    return phi, weight, phi @ weight.T


def row_by_row(phi: torch.Tensor, weight: torch.Tensor) -> float:
    """The trace from the full Hessian: one double backward pass for each of the d m weights."""
    w = weight.clone().requires_grad_(True)
    loss = torch.nn.functional.cross_entropy(phi @ w.T, torch.zeros(len(phi), dtype=torch.long, device=phi.device))
    (gradient,) = torch.autograd.grad(loss, w, create_graph=True)
    gram, total = weight @ weight.T, torch.zeros((), device=phi.device)
    for s in range(weight.shape[0]):
        for u in range(weight.shape[1]):
            (row,) = torch.autograd.grad(gradient[s, u], w, retain_graph=True)
            total += row[:, u] @ gram[s]
    return float(total)


def main() -> None:
    """Print both tables."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads; median of {REPEATS}, milliseconds")
    print(f"{'n':>7}{'d':>6}{'m':>5}{'forward':>10}{'trace':>10}{'ratio':>7}{'normalise':>11}{'max':>10}")
    for n, d, m in SHAPES:
        phi, weight, logits = case(n, d, m, device)
        works: dict[str, Callable[[], object]] = {
            "forward": lambda p=phi, w=weight: p @ w.T,
            "trace": lambda p=phi, w=weight, z=logits: flatness.per_sample_trace(flatness.Loss.SOFTMAX, p, w, z),
            "normalise": lambda p=phi, w=weight: flatness.normalise_neurons(p, w),
        }
        if n * d * m < 10**9:
            works["max"] = lambda p=phi, w=weight, z=logits: flatness.max_flatness(flatness.Loss.SOFTMAX, [(p, z)], w)
        taken: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(REPEATS):
            for name, work in works.items():
                taken[name].append(seconds(work, device))
        ms = {name: 1e3 * statistics.median(values) for name, values in taken.items()}
        most = f"{ms['max']:.1f}" if "max" in ms else "not run"
        print(
            f"{n:>7}{d:>6}{m:>5}{ms['forward']:>10.3f}{ms['trace']:>10.3f}{ms['trace'] / ms['forward']:>7.2f}"
            f"{ms['normalise']:>11.3f}{most:>10}"
        )
    print("full Hessian by double backward, row by row, against the closed form (one slow run each)")
    for n, d, m in SLOW_SHAPES:
        phi, weight, logits = case(n, d, m, device)
        fast = [
            seconds(lambda p=phi, w=weight, z=logits: flatness.per_sample_trace(flatness.Loss.SOFTMAX, p, w, z), device)
            for _ in range(REPEATS)
        ]
        values: list[float] = []
        slow = seconds(lambda p=phi, w=weight, v=values: v.append(row_by_row(p, w)), device)
        exact = flatness.per_sample_trace(flatness.Loss.SOFTMAX, phi, weight, logits).mean().item()
        ours = statistics.median(fast)
        print(
            f"{n:>7}{d:>6}{m:>5}  {slow:.3f} s against {1e3 * ours:.3f} ms: {slow / ours:,.0f} x; "
            f"values {values[0]:.4f} and {exact:.4f} (float32 against float64 sums)"
        )


if __name__ == "__main__":
    main()
