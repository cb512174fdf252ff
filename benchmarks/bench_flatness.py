"""Relative flatness: closed form, whole check, hidden layers, large heads and long streams, each beside its peer.

All in one process, in turn, CPU or CUDA as found; prints medians and ratios. On a CPU one thread and its own time
count, so that other work on the machine does not. Run: python benchmarks/bench_flatness.py
"""

from __future__ import annotations

import itertools
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from assessor.contract import Split, Task
from assessor.subjects.torch_module import TorchSubject
from assessor_checks import _flatness as flatness
from assessor_checks import _layers as layers
from assessor_checks.generalization import _curvature as curvature
from assessor_checks.generalization._curvature import Budget
from assessor_checks.generalization._layer_flatness import measure_last
from assessor_checks.generalization.relative_flatness import CHECK, RelativeFlatnessParams

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES = ((1_000, 10, 512), (10_000, 10, 512), (10_000, 100, 512), (2_000, 1_000, 512))  # n, d, m
SLOW_SHAPES = ((1_000, 10, 512), (1_000, 10, 64))  # the full Hessian: d m double backward passes
REPEATS = 7
Work = Callable[[], object]


def seconds(work: Work) -> float:
    """Processor time of one call; on a GPU wall time, its queue drained."""
    clock = time.perf_counter if DEVICE == "cuda" else time.process_time
    start = clock()
    work()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def in_turn(works: dict[str, Work], repeats: int = REPEATS) -> dict[str, float]:
    """Median milliseconds of each, run one after the other, `repeats` times, after one call to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()
    for _ in range(repeats):
        for name, work in works.items():
            taken[name].append(1e3 * seconds(work))
    return {name: statistics.median(values) for name, values in taken.items()}


def case(n: int, d: int, m: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Float32 features after a ReLU, weights and logits."""
    generator = torch.Generator().manual_seed(0)
    phi = torch.randn(n, m, generator=generator).relu().to(DEVICE)
    weight = (torch.randn(d, m, generator=generator) * 4 / m**0.5).to(DEVICE)
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


def closed_form() -> None:
    """Against one forward pass of the layer: at most 2 x at (10 000, 100, 512)."""
    print("closed form of the last layer against one forward pass of it, milliseconds")
    print(f"{'n':>7}{'d':>6}{'m':>5}{'forward':>10}{'trace':>10}{'ratio':>7}{'normalise':>11}{'max':>10}")
    for n, d, m in SHAPES:
        phi, weight, logits = case(n, d, m)
        works: dict[str, Work] = {
            "forward": lambda p=phi, w=weight: p @ w.T,
            "trace": lambda p=phi, w=weight, z=logits: flatness.per_sample_trace(flatness.Loss.SOFTMAX, p, w, z),
            "normalise": lambda p=phi, w=weight: flatness.normalise_neurons(p, w),
        }
        if n * d * m < 10**9:
            works["max"] = lambda p=phi, w=weight, z=logits: flatness.max_flatness(flatness.Loss.SOFTMAX, [(p, z)], w)
        ms = in_turn(works)
        most = f"{ms['max']:.1f}" if "max" in ms else "not run"
        print(
            f"{n:>7}{d:>6}{m:>5}{ms['forward']:>10.3f}{ms['trace']:>10.3f}{ms['trace'] / ms['forward']:>7.2f}"
            f"{ms['normalise']:>11.3f}{most:>10}"
        )


def full_hessian() -> None:
    """Against the row-by-row Hessian of the authors' way: at least 1 000 x."""
    print("full Hessian by double backward, row by row, against the closed form (one slow run each)")
    for n, d, m in SLOW_SHAPES:
        phi, weight, logits = case(n, d, m)
        fast: Work = lambda p=phi, w=weight, z=logits: flatness.per_sample_trace(flatness.Loss.SOFTMAX, p, w, z)  # noqa: E731
        ours = in_turn({"fast": fast})["fast"]
        values: list[float] = []
        slow = seconds(lambda p=phi, w=weight, v=values: v.append(row_by_row(p, w)))
        exact = flatness.per_sample_trace(flatness.Loss.SOFTMAX, phi, weight, logits).mean().item()
        print(
            f"{n:>7}{d:>6}{m:>5}  {slow:.3f} s against {ours:.3f} ms: {1e3 * slow / ours:,.0f} x; "
            f"values {values[0]:.4f} and {exact:.4f} (float32 against float64 sums)"
        )


def whole_check() -> None:
    """Against one forward pass of the network over the same data: at most 1.3 x without the maximum."""
    torch.manual_seed(0)
    sizes = (784, 512, 512, 512)
    hidden = [layer for a, b in itertools.pairwise(sizes) for layer in (torch.nn.Linear(a, b), torch.nn.ReLU())]
    net = torch.nn.Sequential(*hidden, torch.nn.Linear(512, 100))
    x = np.random.default_rng(0).standard_normal((10_000, 784)).astype(np.float32)
    splits = {
        name: Split(name=name, labels=np.arange(10_000) % 100, sha256=name, features=x) for name in ("train", "test")
    }
    subject = TorchSubject(net, Task.MULTICLASS, tuple(map(str, range(100))), splits, device=DEVICE)
    inputs = subject.tensors("train")[0]

    @torch.no_grad()
    def forward() -> None:
        for chunk in inputs.split(layers.BATCH):
            subject.module(chunk)

    def check(**params: bool) -> Work:
        return lambda: CHECK.measure(subject, RelativeFlatnessParams(profile=False, **params), 0)

    ms = in_turn({"forward": forward, "check": check(maximum=False), "and maximum": check(maximum=True)}, 5)
    print("whole check (both normalisations, losses, intervals) against one forward pass of a 784-512-512-512-100 net,")
    print(f"  10 000 rows: forward {ms['forward']:.0f} ms; ", end="")
    print("; ".join(f"{name} {ms[name]:.0f} ms, {ms[name] / ms['forward']:.2f} x" for name in ("check", "and maximum")))


def hidden_layer() -> None:
    """Exact hidden layer against as many Hessian-vector products, vectorised with torch.func: at most 3 x."""
    print("exact hidden linear layer against min(d, m) Hessian-vector products of its tail under vmap, milliseconds")
    for n, d, m in ((1_000, 64, 128), (1_000, 128, 64), (4_000, 32, 32)):
        torch.manual_seed(0)
        net = torch.nn.Sequential(
            torch.nn.Linear(m, d), torch.nn.GELU(), torch.nn.Linear(d, 64), torch.nn.GELU(), torch.nn.Linear(64, 10)
        ).to(DEVICE)
        x, y = torch.randn(n, m, device=DEVICE), torch.arange(n, device=DEVICE) % 10
        problem = curvature.Problem(
            net.eval(), x, y, lambda a, b, f=net: torch.nn.functional.cross_entropy(f(a), b, reduction="none")
        )
        site = layers.find_sites(net, x[:1], net)["0"]
        directions = net[0].weight.detach() if d > m else torch.eye(d, device=DEVICE)
        directions = directions.T if d > m else directions

        def tail(z: torch.Tensor, f: torch.nn.Module = net, labels: torch.Tensor = y) -> torch.Tensor:
            return torch.nn.functional.cross_entropy(f[1:](z), labels, reduction="sum")  # type: ignore[index]

        def vectorised(f: torch.nn.Module = net, v: torch.Tensor = directions, rows: torch.Tensor = x) -> None:
            z = f[0](rows).detach()  # type: ignore[index]
            slope = torch.func.grad(tail)
            torch.func.vmap(lambda u: torch.func.jvp(slope, (z,), (u.expand_as(z),))[1], chunk_size=8)(v)

        ms = in_turn(
            {
                "products": vectorised,
                "ours": lambda p=problem, s=site: curvature.layer_curvature(
                    s, p, budget=curvature.Budget(maximum=False)
                ),
            },
            3,
        )
        print(f"{n:>7}{d:>6}{m:>5}{ms['products']:>10.1f}{ms['ours']:>10.1f}{ms['ours'] / ms['products']:>7.2f} x")


def large_head() -> None:
    """A language model's head, classes streamed: memory beside the weights and time beside its forward pass."""
    d, m, n = (128_000, 4096, 512) if DEVICE == "cuda" else (128_000, 1024, 128)
    phi, weight, _ = case(n, 1, m)
    weight = torch.randn(d, m, device=DEVICE, dtype=torch.bfloat16 if DEVICE == "cuda" else torch.float32) / m**0.5
    phi = phi.to(weight.dtype)

    def trace(accumulate: torch.dtype) -> Work:
        def work() -> None:
            of = flatness.trace_function(flatness.Loss.SOFTMAX, weight, accumulate=accumulate)
            for rows in phi.split(64):
                of(rows, rows @ weight.T)

        return work

    print(f"head of {d:,} x {m} ({weight.dtype}, {weight.nbytes / 2**20:,.0f} MiB), {n} tokens, 64 at a time")
    for accumulate in (torch.float32, torch.float64):
        before = _memory()
        ms = in_turn({"forward": lambda: [rows @ weight.T for rows in phi.split(64)], "ours": trace(accumulate)}, 3)
        must = 2 * weight.nbytes * (n // 64) / 1e9  # once for the logits, once for the products with them
        print(
            f"  sums in {accumulate}: forward {ms['forward']:.0f} ms, logits and trace {ms['ours']:.0f} ms, "
            f"{ms['ours'] / ms['forward']:.1f} x; weights that must be read {must:.1f} GB, "
            f"{must / ms['ours'] * 1e3:.0f} GB/s; peak memory grew by {(_memory() - before) / 2**20:,.0f} MiB"
        )


class Rows:
    """Rows that are made when they are asked for."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, rows: slice) -> torch.Tensor:
        start, stop, _ = rows.indices(self.n)
        generator = torch.Generator(DEVICE).manual_seed(start)
        return torch.randn(stop - start, 64, generator=generator, device=DEVICE)


def long_stream() -> None:
    """A million rows: memory must not grow with them, but for the eight bytes each of a few values a row."""
    net = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10)).to(DEVICE).eval()
    print("rows streamed through a 64-256-10 network, features never kept")
    for n in (100_000, 1_000_000):
        before = _memory()
        activations = layers.Activations(net, Rows(n), keep=0)  # type: ignore[arg-type]
        labels = torch.zeros(n, dtype=torch.long, device=DEVICE)
        taken = seconds(lambda a=activations, y=labels: measure_last(Task.MULTICLASS, a, y, "neuron", "train"))
        grown = (_memory() - before) / 2**20
        features = n * 1024 / 2**20
        print(f"  {n:>9,} rows: {taken:.1f} s, peak memory grew by {grown:.0f} MiB (features {features:,.0f} MiB)")


def transformer() -> None:
    """A transformer block layer by layer, on a GPU."""
    if DEVICE != "cuda":
        print("transformer block: needs a GPU, not run")
        return
    torch.manual_seed(0)
    block = torch.nn.TransformerEncoderLayer(1024, 16, 4096, batch_first=True, dropout=0.0)
    net = torch.nn.Sequential(block, torch.nn.Flatten(), torch.nn.Linear(64 * 1024, 10)).to(DEVICE).eval()
    x, y = torch.randn(256, 64, 1024, device=DEVICE), torch.arange(256, device=DEVICE) % 10
    problem = curvature.Problem(net, x, y, lambda a, b: torch.nn.functional.cross_entropy(net(a), b, reduction="none"))
    for name, site in layers.find_sites(net, x[:1], net).items():
        torch.cuda.reset_peak_memory_stats()
        taken = seconds(lambda s=site: curvature.layer_curvature(s, problem, budget=Budget(0, 16)))
        print(f"  {name:<28}{taken:.2f} s for 16 directions, peak {_memory() / 2**30:.1f} GiB")


def _memory() -> int:
    """Most bytes held so far: of the device, or of the process."""
    if DEVICE == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Print all tables."""
    torch.set_num_threads(1)
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"torch {torch.__version__}, {DEVICE}, {name}; medians of runs in turn")
    long_stream()
    closed_form()
    full_hessian()
    whole_check()
    hidden_layer()
    large_head()
    transformer()


if __name__ == "__main__":
    main()
