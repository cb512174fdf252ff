"""How many rows a model takes at once on a GPU: found by trial, once, and kept beside the parts of measurements.

On the CPU nothing is tried: batches there are as large as a check says, so that its numbers stay as they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from assessor.contract import Pass, Subject
from assessor.keeping import Store, lent_from

START, MOST = 1024, 2**16  # rows
GAIN = 1.1  # rows a second of twice as many rows, as compared with these, below which more are not worth their memory
TIMES = 2  # the faster of so many counts


def largest(
    run: Callable[[int], object],
    *,
    start: int = START,
    most: int = MOST,
    clock: Callable[[], float] = time.perf_counter,
) -> int:
    """Rows a batch: twice as many again and again until memory ends or no more rows a second are won.

    Args:
        run: Puts so many rows through the model and waits until that is done.
        start: Rows to begin with; fewer are found where these are too many.
        most: Rows that are enough.
        clock: Seconds.

    Returns:
        Rows, at least 1.
    """
    import torch

    rows, speed = start, 0.0
    while not (speed := _speed(run, rows, clock)) and rows > 1:
        rows //= 2
    while speed and start <= rows < most:
        faster = _speed(run, 2 * rows, clock)
        if faster < GAIN * speed:
            break
        rows, speed = 2 * rows, faster
    torch.cuda.empty_cache()
    return rows


def _speed(run: Callable[[int], object], rows: int, clock: Callable[[], float]) -> float:
    """Rows a second; 0 where the device has no room for them."""
    import torch

    try:
        run(rows)  # the first time kernels are chosen and memory is taken
        seconds = []
        for _ in range(TIMES):
            before = clock()
            run(rows)
            seconds.append(clock() - before)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return 0.0
    return rows / max(min(seconds), 1e-9)


def rows_by_trial(subject: Subject, model_sha256: str | None, store: Store) -> Callable[[Pass], int | None] | None:
    """What `contract.Lent.rows` is for a subject; None for one that is not a module on a GPU.

    Args:
        subject: The subject.
        model_sha256: Digest of its model.
        store: Where what was found is kept.

    Returns:
        Gives rows a batch for what they are put through; None where that cannot be tried.
    """
    if not subject.device.startswith("cuda"):
        return None
    import torch

    about = torch.cuda.get_device_properties(subject.device)
    scope = [model_sha256, about.name, about.total_memory, torch.__version__]

    def found(work: Pass) -> int:
        with torch.random.fork_rng(devices=[subject.device]):
            return largest(trial(subject, work))

    return kept_rows(found, scope, store)


def kept_rows(found: Callable[[Pass], int], scope: list[Any], store: Store) -> Callable[[Pass], int | None]:
    """What is found, kept by what it depends on; None where it cannot be found."""
    lent = lent_from(store, ["rows at once", *scope], lambda *_: None)
    known: dict[Pass, int | None] = {}

    def rows(work: Pass) -> int | None:
        if work not in known:
            kept = lent.find(work)
            known[work] = kept if isinstance(kept, int) else _tried(found, work)
            if kept is None and known[work] is not None:
                lent.keep(work, known[work])
        return known[work]

    return rows


def _tried(found: Callable[[Pass], int], work: Pass) -> int | None:
    try:
        return found(work)
    except Exception:  # noqa: BLE001 - whatever a model raises is for the check to say, which runs it on its own batches
        return None


def trial(subject: Subject, work: Pass) -> Callable[[int], None]:
    """Puts so many rows of the test split, over and over again, through a module and perhaps back."""
    import torch

    inputs = subject.inputs("test")
    n, on_gpu = len(inputs), subject.device.startswith("cuda")

    def run(rows: int) -> None:
        x = inputs[torch.arange(rows, device=subject.device) % n]
        if work == "backward":
            x = x.detach().requires_grad_(True)
        with torch.set_grad_enabled(work == "backward"):
            total = subject.logits(x).sum()
            if work == "backward":
                torch.autograd.grad(total, x)
        if on_gpu:
            torch.cuda.synchronize(subject.device)
            torch.cuda.reset_peak_memory_stats(subject.device)  # a trial is none of the check's memory

    return run
