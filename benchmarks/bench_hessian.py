"""Hessian: products, trace and top eigenvalue against curvlinops and PyHessian, same model, weights and rows.

All in one process, in turn, CPU or CUDA as found; prints the least of some times, ratios and how far the values are
apart in units of the stated error. A peer that is not installed is named with how to install it.
Run: python benchmarks/bench_hessian.py
"""

from __future__ import annotations

import importlib
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from assessor.contract import Task
from assessor_checks.generalization import _hessian as ours
from assessor_checks.generalization import _lanczos, _landscape

REPEATS = 15
SLOW_REPEATS = 5
DRAWS, STEPS = 30, 40
EXACT = 3000  # parameters up to which the exact trace is computed
TOLERANCE = 1e-4  # of the top eigenvalue
NEVER = float("-inf")  # PyHessian's tolerance with which it takes all draws, also where a mean is negative
PEERS = {"curvlinops": "curvlinops-for-pytorch", "pyhessian": "pyhessian", "scipy.sparse.linalg": "scipy"}


def seconds(work: Callable[[], object], device: str) -> float:
    """Processor time of one call on a CPU, which others on the machine disturb less; wall time on a device."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


class Attention(nn.Module):
    """Two small encoder layers and a head."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, activation="gelu")
        self.embed, self.head = nn.Linear(16, 32), nn.Linear(32, 10)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 16, 16) to (n, 10)."""
        logits: torch.Tensor = self.head(self.layers(self.embed(x)).mean(dim=1))
        return logits


def cases() -> dict[str, tuple[nn.Module, torch.Tensor]]:
    """Models in eval mode with rows to measure on."""
    tiny = nn.Sequential(nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 10))
    wide = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    )
    lenet = nn.Sequential(
        nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 10),
    )  # fmt: skip
    normed = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip
    return {
        "tanh network": (tiny, torch.randn(500, 20)),
        "wide ReLU network": (wide, torch.randn(500, 1, 28, 28)),
        "LeNet": (lenet, torch.randn(200, 1, 28, 28)),
        "batch-norm network": (normed, torch.randn(100, 3, 32, 32)),
        "attention": (Attention(), torch.randn(100, 16, 16)),
    }


def train(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    """A few steps, so that the spectrum has the outliers of a trained network."""
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(5):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()
    net.eval().zero_grad(set_to_none=True)


def our_trace(land: _landscape.Landscape, steps: int, draws: int) -> ours.Crossed:
    """Hutchinson with `draws` products, after `steps` Lanczos directions are taken out."""
    hessian, generator = ours.Hessian(land), torch.Generator().manual_seed(0)
    taken, basis = torch.zeros(1, 0, dtype=torch.float64), land.weights.new_zeros(0, land.parameters)
    if steps:
        start = torch.randn(1, land.parameters, generator=generator).to(land.weights)
        krylov, taken = ours.krylov_space(hessian, start, steps)
        basis = krylov.basis[0, : krylov.steps[0]]
    drawn = ours.drawn_forms(hessian, basis, draws, generator)
    return ours.crossed_mean(hessian.shares, taken.to(drawn), drawn)


def our_top(land: _landscape.Landscape) -> tuple[float, float]:
    """Largest eigenvalue with its error."""
    start = torch.randn(1, land.parameters, generator=torch.Generator().manual_seed(0)).to(land.weights)
    krylov, _ = ours.krylov_space(ours.Hessian(land), start, 10 * STEPS, tolerance=TOLERANCE)
    return _lanczos.top_ritz(krylov, 0)


def found_peers() -> dict[str, Any]:
    """The peers that are installed."""
    found = {}
    for name, package in PEERS.items():
        try:
            found[name] = importlib.import_module(name)
        except ImportError:
            print(f"{name} is not installed; pip install {package}")
    return found


def works(
    net: nn.Module, x: torch.Tensor, y: torch.Tensor, land: _landscape.Landscape, peers: dict[str, Any]
) -> dict[str, dict[str, Callable[[], Any]]]:
    """What is compared: measure, then who does it."""
    loss, parameters = nn.CrossEntropyLoss(), list(net.parameters())
    vectors = torch.randn(8, land.parameters, device=x.device)
    hessian = ours.Hessian(land)
    every: dict[str, dict[str, Callable[[], Any]]] = {
        "product": {"ours": lambda: hessian(vectors[:1])[0]},
        "8 products": {"ours": lambda: hessian(vectors)[0]},
        f"trace, {DRAWS} products": {"ours": lambda: our_trace(land, 0, DRAWS)},
        f"trace, {STEPS + DRAWS} products": {"ours": lambda: our_trace(land, STEPS, DRAWS)},
        "top eigenvalue": {"ours": lambda: our_top(land)},
    }
    if "curvlinops" in peers:
        curvlinops, sparse = peers["curvlinops"], peers["scipy.sparse.linalg"]
        operator = curvlinops.HessianLinearOperator(net, loss, parameters, [(x, y)], check_deterministic=False)
        numpy_operator = operator.to_scipy()
        for name, work in zip(
            every,
            (
                lambda: operator @ vectors[0],
                lambda: (operator @ vectors.mT.contiguous())[:, 0],
                lambda: float(curvlinops.hutchinson_trace(operator, DRAWS)),
                lambda: float(curvlinops.xtrace(operator, STEPS + DRAWS)),
                lambda: float(sparse.eigsh(numpy_operator, k=1, which="LA", ncv=20, tol=TOLERANCE)[0][0]),
            ),
            strict=True,
        ):
            every[name]["curvlinops"] = work
    if "pyhessian" in peers:
        with_graph = peers["pyhessian"].hessian(net, loss, data=(x, y), cuda=x.is_cuda)
        product = importlib.import_module("pyhessian.utils").hessian_vector_product
        pieces = [v.view(p.shape) for v, p in zip(vectors[0].split([p.numel() for p in parameters]), parameters)]  # noqa: B905

        def fresh() -> Any:
            net.zero_grad(set_to_none=True)
            return peers["pyhessian"].hessian(net, loss, data=(x, y), cuda=x.is_cuda)

        every["product"]["pyhessian"] = lambda: torch.cat(
            [part.flatten() for part in product(with_graph.gradsH, with_graph.params, pieces)]
        )
        every[f"trace, {DRAWS} products"]["pyhessian"] = lambda: sum(fresh().trace(DRAWS, NEVER)) / DRAWS
        every["top eigenvalue"]["pyhessian"] = lambda: fresh().eigenvalues(maxIter=400, tol=TOLERANCE)[0][0]
    return every


def agreement(mine: Any, theirs: Any, exact: float | None) -> str:
    """How far both are apart, or from the exact trace, in the error that ours states where there is one."""
    if isinstance(mine, ours.Crossed) and exact is not None:
        errors = ((value - exact) / mine.draws_error for value in (mine.value, theirs))
        return "ours {:+.1f}, theirs {:+.1f} of our standard errors from the exact trace".format(*errors)
    if isinstance(mine, ours.Crossed):
        return f"{(theirs - mine.value) / mine.draws_error:+.1f} of our standard errors apart"
    if isinstance(mine, tuple):
        return f"{(theirs - mine[0]) / mine[0]:+.1e} relative, ours states {mine[1] / mine[0]:.0e}"
    return f"{float((mine - theirs).norm() / mine.norm()):.1e} relative"


def compare(every: dict[str, dict[str, Callable[[], Any]]], exact: float | None, device: str) -> None:
    """Run in turn what is compared, and print times, ratios and how far the values are apart."""
    for measure, who in every.items():
        values: dict[str, Any] = {key: work() for key, work in who.items()}
        taken: dict[str, list[float]] = {key: [] for key in who}
        for _ in range(REPEATS if measure.endswith(("product", "8 products")) else SLOW_REPEATS):
            for key, work in who.items():
                taken[key].append(seconds(work, device))
        mine = min(taken.pop("ours"))
        print(f"  {measure:<20}{1e3 * mine:>10.2f} ours")
        for key, times in taken.items():
            theirs = min(times)
            apart = agreement(values["ours"], values[key], exact)
            print(f"  {'':<20}{1e3 * theirs:>10.2f} {key}, {theirs / mine:.2f} x ours; {apart}")


def main() -> None:
    """Print a table for every model."""
    warnings.simplefilter("ignore")  # the peers' own
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    peers = found_peers()
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads; least milliseconds; ratio to ours")
    for name, (net, x) in cases().items():
        net, x = net.to(device), x.to(device)  # noqa: PLW2901 - moved
        y = torch.randint(10, (len(x),), device=device)
        train(net, x, y)
        land = _landscape.Landscape(net, _landscape.exact_loss(Task.MULTICLASS), x, y)
        print(f"{name}: {land.parameters} parameters, {land.n} rows")
        whole = float(ours.full_matrix(ours.Hessian(land))[0].trace()) if land.parameters <= EXACT else None
        with _landscape.twice_differentiable(net):  # the peers leave the choice of attention kernels to the caller
            compare(works(net, x, y, land, peers), whole, device)
        net.zero_grad(set_to_none=True)


if __name__ == "__main__":
    main()
