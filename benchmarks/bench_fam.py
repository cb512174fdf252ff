"""FAM: a training step with the penalty against one without, and against SAM, which takes two passes a step.

All in one process, in turn, CPU or CUDA as found; prints medians and ratios. Run: python benchmarks/bench_fam.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from assessor_checks.fam import FAM

REPEATS, WARM = 15, 3
RHO = 0.05  # radius of SAM, the default of Foret et al. 2021 (arXiv 2010.01412)
Step = Callable[[], None]


def mlp() -> tuple[nn.Module, tuple[int, ...], str, str]:
    """784-512-512-10: model, shape of a row, last layer, layer below."""
    net = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    return net, (784,), "4", "2"


def convolutions() -> tuple[nn.Module, tuple[int, ...], str, str]:
    """Four 3 x 3 convolutions with batch normalisation on 32 x 32 images, 100 classes; the layer below is linear."""
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 64), (64, 128), (128, 128)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    head = [nn.Flatten(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 100)]
    return nn.Sequential(*layers, *head), (3, 32, 32), "15", "13"


def stepped(net: nn.Module, loss: Callable[[], torch.Tensor]) -> Step:
    """One step of SGD on a loss."""
    optimiser = torch.optim.SGD(net.parameters(), lr=1e-4)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        loss().backward()
        optimiser.step()

    return step


def sam(net: nn.Module, loss: Callable[[], torch.Tensor]) -> Step:
    """One step of SAM: up by rho along the gradient, the gradient there, back, down."""
    optimiser = torch.optim.SGD(net.parameters(), lr=1e-4)
    parameters = list(net.parameters())

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        loss().backward()
        slopes = [parameter.grad for parameter in parameters if parameter.grad is not None]
        with torch.no_grad():
            norm = torch.stack([slope.norm() for slope in slopes]).norm()
            rises = [slope * (RHO / (norm + 1e-12)) for slope in slopes]
            torch._foreach_add_(parameters, rises)
        optimiser.zero_grad(set_to_none=True)
        loss().backward()
        with torch.no_grad():
            torch._foreach_sub_(parameters, rises)
        optimiser.step()

    return step


def milliseconds(step: Step, device: str) -> float:
    """Wall time of one step, the device's queue drained."""
    start = time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - start)


def steps_of(make: Callable[[], tuple[nn.Module, tuple[int, ...], str, str]], batch: int, device: str) -> list[Step]:
    """Plain, FAM on the last layer, FAM on the layer below with one probe, SAM; a model of its own for each."""
    found: list[Step] = []
    for way in ("plain", "last", "below", "sam"):
        torch.manual_seed(0)
        net, shape, last, below = make()
        net.to(device)
        x = torch.randn(batch, *shape, device=device)
        y = torch.randint(0, 10, (batch,), device=device)

        def plain(net: nn.Module = net, x: torch.Tensor = x, y: torch.Tensor = y) -> torch.Tensor:
            return nn.functional.cross_entropy(net(x), y)

        if way in {"plain", "sam"}:
            found.append((stepped if way == "plain" else sam)(net, plain))
            continue
        fam = FAM(net, last if way == "last" else below, weight=1e-4)

        def penalised(
            plain: Callable[[], torch.Tensor] = plain, fam: FAM = fam, closed: bool = way == "last"
        ) -> torch.Tensor:
            loss = plain()
            return loss + (fam() if closed else fam(loss))

        found.append(stepped(net, penalised))
    return found


def main() -> None:
    """Print one line a model and batch."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads; median of {REPEATS} steps, ms")
    print(f"{'model':>14}{'batch':>7}{'plain':>9}{'FAM last':>10}{'ratio':>7}{'FAM below':>11}{'ratio':>7}", end="")
    print(f"{'SAM':>9}{'ratio':>7}")
    for name, make, batch in (("mlp", mlp, 128), ("mlp", mlp, 512), ("convolutions", convolutions, 128)):
        steps = steps_of(make, batch, device)
        taken: list[list[float]] = [[] for _ in steps]
        for _ in range(WARM + REPEATS):
            for step, times in zip(steps, taken, strict=True):
                times.append(milliseconds(step, device))
        plain, last, below, two = (statistics.median(times[WARM:]) for times in taken)
        print(
            f"{name:>14}{batch:>7}{plain:>9.2f}{last:>10.2f}{last / plain:>7.2f}{below:>11.2f}{below / plain:>7.2f}"
            f"{two:>9.2f}{two / plain:>7.2f}"
        )


if __name__ == "__main__":
    main()
