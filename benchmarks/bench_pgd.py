"""PGD: ours against a plain loop that never drops a row, same budget; prints time, rows and accuracies.

Run: python benchmarks/bench_pgd.py
"""

from __future__ import annotations

import statistics
import time

import torch
from sklearn.datasets import load_digits

from assessor_checks._balls import Ball, Box
from assessor_checks._pgd import Plan, ascend, campaign

STEPS, RESTARTS, REPEATS = 40, 5, 5


def plain(
    net: torch.nn.Module, x0: torch.Tensor, y: torch.Tensor, eps: float, generator: torch.Generator
) -> tuple[torch.Tensor, int]:
    """Straightforward PGD on all rows at all steps; (n,) standing and rows put through the model."""
    standing, rows = torch.ones_like(y, dtype=torch.bool), 0
    for start in range(RESTARTS):
        x = x0.clone()
        if start:
            x = (x0 + eps * (2 * torch.rand(x0.shape, generator=generator, device=x0.device) - 1)).clamp(0, 1)
        for _ in range(STEPS):
            x.requires_grad_(True)
            logits = net(x)
            standing &= logits.argmax(1) == y
            (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, y, reduction="sum"), x)
            moved = x.detach() + 2.5 * eps / STEPS * gradient.sign()
            x = moved.clamp(x0 - eps, x0 + eps).clamp(0, 1)
            rows += len(x)
        with torch.no_grad():
            standing &= net(x).argmax(1) == y
        rows += len(x)
    return standing, rows


def ours(
    net: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, eps: float, generator: torch.Generator
) -> tuple[torch.Tensor, int]:
    """The same budget with ours."""
    shape = x.shape[1:]
    ends = (torch.full(shape, value, device=x.device) for value in (eps, 0.0, 1.0))
    found = campaign(net, x, y, Ball(Box(*ends)), Plan(ascend, STEPS, RESTARTS), generator)
    return found.standing, found.model_rows


def digits(device: str, adversarial: bool) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """A small convolutional network, trained on clean or on attacked digits, and 597 test rows."""
    torch.manual_seed(0)
    data = load_digits()
    x = torch.tensor(data.images, dtype=torch.float32, device=device)[:, None] / 16
    y = torch.tensor(data.target, device=device)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(16, 32, 3, stride=2, padding=1),
        torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(512, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10),
    ).to(device)  # fmt: skip
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in range(25):
        for rows in torch.randperm(1200).split(100):
            batch, labels = x[rows], y[rows]
            if adversarial:
                probe = batch.clone().requires_grad_(True)
                (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(net(probe), labels), probe)
                batch = (batch + 0.15 * gradient.sign()).clamp(0, 1)
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(net(batch), labels).backward()
            optimiser.step()
    return net.eval(), x[1200:], y[1200:]


def main() -> None:
    """Print one line a model and size of the ball."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, {STEPS} steps, {RESTARTS} starts")
    print("model        eps   plain s   ours s  ratio   plain rows   ours rows   plain acc   ours acc")
    for name, adversarial in (("clean", False), ("adversarial", True)):
        net, x, y = digits(device, adversarial)
        for eps in (0.05, 0.1, 0.2):
            taken: dict[str, list[float]] = {"plain": [], "ours": []}
            found: dict[str, tuple[torch.Tensor, int]] = {}
            for _ in range(REPEATS):
                for kind, attack in (("plain", plain), ("ours", ours)):
                    begin = time.perf_counter()
                    found[kind] = attack(net, x, y, eps, torch.Generator(device).manual_seed(0))
                    if device == "cuda":
                        torch.cuda.synchronize()
                    taken[kind].append(time.perf_counter() - begin)
            slow, fast = (statistics.median(taken[kind]) for kind in ("plain", "ours"))
            accuracy = {kind: standing.float().mean().item() for kind, (standing, _) in found.items()}
            print(
                f"{name:<12}{eps:<6}{slow:>7.2f}{fast:>9.2f}{slow / fast:>7.2f}{found['plain'][1]:>13,}"
                f"{found['ours'][1]:>12,}{accuracy['plain']:>12.4f}{accuracy['ours']:>11.4f}"
            )


if __name__ == "__main__":
    main()
