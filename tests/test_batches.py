"""Batches on a GPU: found by trial, kept, used; without a GPU tried on functions that act as if there were one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from assessor.batches import MOST, START, kept_rows, largest, rows_by_trial, trial
from assessor.contract import Lent, Pass, Split, Task, collecting, in_batches, lending
from assessor.keeping import Folder
from assessor.subjects.torch_module import TorchSubject

FULL = "The device ran out of memory; the model was run on batches of {} rows instead."
TRIED = "The model was run on batches of {} rows: as many as pay on this GPU, found by trial."


class Device:
    """Has room for so many rows; does `busy` of them at a time, a millisecond each turn."""

    def __init__(self, room: float = np.inf, busy: float = np.inf) -> None:
        self.room, self.busy = room, busy
        self.seconds = 0.0
        self.asked: list[int] = []

    def run(self, rows: int) -> None:
        self.asked.append(rows)
        if rows > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.seconds += 0.001 * max(1, rows / self.busy)

    def found(self) -> int:
        return largest(self.run, clock=lambda: self.seconds)


def test_doubled_until_memory_ends() -> None:
    device = Device(room=10_000)
    assert device.found() == 8192
    assert sorted(set(device.asked)) == [1024, 2048, 4096, 8192, 16_384]


def test_doubled_until_nothing_is_won() -> None:
    assert Device(busy=6000).found() == 8192  # half as many again a second from 4096 to 8192, nothing beyond
    assert Device(busy=100).found() == START


def test_no_more_than_enough() -> None:
    device = Device()
    assert device.found() == MOST
    assert max(device.asked) == MOST


@pytest.mark.parametrize(("room", "rows"), [(1023, 512), (100, 64), (1, 1), (0, 1)])
def test_fewer_where_the_first_are_too_many(room: int, rows: int) -> None:
    device = Device(room=room)
    assert device.found() == rows
    assert max(device.asked) == START


def test_what_was_found_is_kept(tmp_path: Path) -> None:
    asked: list[Pass] = []

    def found(work: Pass) -> int:
        asked.append(work)
        return 2048 if work == "forward" else 512

    for _ in range(2):
        rows = kept_rows(found, ["model", "GPU"], Folder(tmp_path))
        assert [rows("forward"), rows("backward"), rows("forward")] == [2048, 512, 2048]
    assert asked == ["forward", "backward"]
    assert kept_rows(found, ["model", "another GPU"], Folder(tmp_path))("forward") == 2048
    assert asked == ["forward", "backward", "forward"]


def test_a_trial_that_fails_is_nobodys_result(tmp_path: Path) -> None:
    def broken(work: Pass) -> int:
        raise RuntimeError("a tensor of whole numbers has no gradient")

    assert kept_rows(broken, [], Folder(tmp_path))("backward") is None
    assert not list(tmp_path.iterdir())


# --- what checks see -------------------------------------------------------------------------------------------------


def seen(n: int, rows: Callable[[Pass], int | None] | None, *, room: float = np.inf) -> tuple[list[int], list[str]]:
    """Sizes of the batches of n rows, and the remarks."""
    sizes: list[int] = []

    def function(chunk: torch.Tensor) -> torch.Tensor:
        if len(chunk) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(chunk))
        return chunk

    lent = Lent(lambda *_: None, find=lambda _: None, keep=lambda *_: None, rows=rows)
    with lending(lent), collecting() as remarks:
        assert in_batches(function, torch.arange(n), size=4, work="forward").equal(torch.arange(n))
    return sizes, remarks


def test_batches_are_as_large_as_was_found() -> None:
    assert seen(10, lambda _: 8) == ([8, 2], [TRIED.format(8)])
    assert seen(10, lambda _: 3) == ([3, 3, 3, 1], [TRIED.format(3)])


def test_few_rows_are_no_reason_to_try() -> None:
    def never(work: Pass) -> int:
        raise AssertionError

    assert seen(4, never) == ([4], [])


@pytest.mark.parametrize("rows", [None, lambda _: None])
def test_elsewhere_batches_stay_as_they_are(rows: Callable[[Pass], int | None] | None) -> None:
    assert seen(10, rows) == ([4, 4, 2], [])


def test_batches_that_are_too_large_after_all_are_halved() -> None:
    assert seen(10, lambda _: 8, room=5) == ([4, 4, 2], [TRIED.format(8), FULL.format(4)])


# --- a model ---------------------------------------------------------------------------------------------------------


def subject(dtype: str = "float32") -> TorchSubject:
    x = np.arange(12, dtype=dtype).reshape(4, 3)
    net = torch.nn.Linear(3, 2) if dtype == "float32" else torch.nn.Embedding(20, 2)
    return TorchSubject(net, Task.BINARY, ("0", "1"), {"test": Split("test", np.zeros(4, np.int64), "0", features=x)})


def test_nothing_is_tried_on_the_cpu(tmp_path: Path) -> None:
    assert rows_by_trial(subject(), "0" * 64, Folder(tmp_path)) is None


@pytest.mark.parametrize("work", ["forward", "backward"])
def test_a_trial_runs_the_model_on_so_many_rows(work: Pass) -> None:
    of, rows, slopes = subject(), [], []
    of.module.register_forward_hook(lambda _, given, out: rows.append(len(given[0])) or None)
    of.module.register_full_backward_hook(lambda *_: slopes.append(1))
    trial(of, work)(9)
    assert rows == [9]
    assert bool(slopes) is (work == "backward")
    assert all(parameter.grad is None for parameter in of.module.parameters())


def test_whole_numbers_have_no_slope_to_try() -> None:
    with pytest.raises(RuntimeError, match="floating point"):
        trial(subject("int64"), "backward")(2)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("work", ["forward", "backward"])
def test_on_a_gpu(tmp_path: Path, work: Pass) -> None:
    net = torch.nn.Linear(3, 2)
    split = Split("test", np.zeros(4, np.int64), "0", features=np.ones((4, 3), np.float32))
    on_gpu = TorchSubject(net, Task.BINARY, ("0", "1"), {"test": split}, device="cuda")
    rows = rows_by_trial(on_gpu, on_gpu.sha256, Folder(tmp_path))
    assert rows is not None
    found = rows(work)
    assert found is not None
    assert START <= found <= MOST
    assert len(list(tmp_path.iterdir())) == 1
