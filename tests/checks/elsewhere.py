"""A device that is not there: tensors that say they lie elsewhere, with their numbers on the CPU.

What meets on a GPU only if all of it lies there meets here only if all of it says so: an operation on tensors of two
devices, a generator of another device, and `.numpy()` without `.cpu()` are refused as CUDA refuses them. Numbers are
those of the CPU, so that a check must find the same here as there.

Run as a program it measures all cases of `device_cases.py` here and elsewhere and prints what differs, as JSON: a
process of its own, because PyTorch takes a new device once and for good.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

HERE, NAME = torch.device("cpu"), "elsewhere"
MOVES = ("aten::copy_", "aten::_to_copy")
WAITS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::masked_select")
PATIENCE, FEW = 0.15, 20  # share of the operations, and waits that cost nothing whatever their share
TAKES_INDICES = ("aten::index", "aten::index_put", "aten::index_put_")  # of the CPU too, as CUDA does


class Mixed(AssertionError):
    """Two devices meet; no RuntimeError, which some checks take for an answer."""


class Far(torch.Tensor):
    """A tensor that says it lies elsewhere; `held` are its numbers."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Far:
        about: dict[str, Any] = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, held.shape, **about, device=torch.device(NAME, 0))
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return computed(func, args, kwargs or {})

    @property
    def data(self):
        return torch.Tensor.data.__get__(self)

    @data.setter
    def data(self, value):
        torch.Tensor.data.__set__(self, value)
        self.held = value.held

    def untyped_storage(self):
        return self.held.untyped_storage()

    def tolist(self):
        return self.held.tolist()


class Generator(torch.Generator):
    """One of the CPU that says where it is."""

    def __new__(cls, device="cpu"):
        return super().__new__(cls, "cpu")

    def __init__(self, device="cpu"):
        self.place = torch.device(device)

    @property
    def device(self):
        return self.place


class Counts:
    """Operations on tensors elsewhere, and those for whose numbers the program here would have to wait."""

    operations = waits = 0


def computed(func, args, kwargs):
    """What an operation gives: computed here, and elsewhere if its tensors or `device` are."""
    name, given = func._schema.name, pytree.arg_tree_leaves(*args, **kwargs)
    far = [one for one in given if isinstance(one, Far)]
    Counts.operations += bool(far)
    Counts.waits += bool(far) and _waits(name, args, kwargs)
    _refuse_mixed(func, args, given, far)
    is_far = bool(far)
    if kwargs.get("device") is not None:
        is_far = kwargs["device"].type == NAME
        kwargs = {**kwargs, "device": HERE}
    elif name == "aten::copy_":
        is_far = isinstance(args[0], Far)
    args, kwargs = pytree.tree_map_only(Far, lambda one: one.held, (args, kwargs))
    out = func(*args, **kwargs)
    if not is_far:
        return out
    same = {id(one.held): one for one in far}  # what was changed in place comes back as itself
    return pytree.tree_map_only(torch.Tensor, lambda one: same[id(one)] if id(one) in same else Far(one), out)


def _waits(name, args, kwargs):
    """Whether an operation ends only when the device has done all that was asked of it before."""
    if name in TAKES_INDICES:
        return any(index is not None and index.dtype == torch.bool for index in args[1])
    leaves = (kwargs.get("device") or torch.device(NAME)).type != NAME
    return (
        name in WAITS or (name == "aten::_to_copy" and leaves) or (name == "aten::copy_" and type(args[0]) is not Far)
    )


def _refuse_mixed(func, args, given, far):
    name = func._schema.name
    if not far or name in MOVES:
        return
    changed = [
        one
        for one, told in zip(args, func._schema.arguments, strict=False)
        if told.alias_info is not None and told.alias_info.is_write
    ]
    free = pytree.arg_tree_leaves(args[1]) if name in TAKES_INDICES else []
    for one in given:
        if not isinstance(one, torch.Tensor) or isinstance(one, Far) or any(one is index for index in free):
            continue
        if one.ndim > 0 or any(one is target for target in changed):  # single numbers of the CPU are taken along
            raise Mixed(f"{func}: a tensor {tuple(one.shape)} of the CPU meets {tuple(far[0].shape)} elsewhere")


def _refuse_generator(func, args, kwargs):
    """Numbers are drawn where they are to lie: on `device`, or where the tensor is that is filled or drawn from."""
    drawn = kwargs.get("generator")
    tensors = [one for one in args if isinstance(one, torch.Tensor)]
    place = torch.device(kwargs.get("device") or (tensors[0].device if tensors else HERE))
    if drawn is not None and drawn.device.type != place.type:
        raise Mixed(f"{func}: a generator of {drawn.device} for numbers of {place}")


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return computed(func, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """What the dispatcher does not see: tensors made from lists, and which generator was meant."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        _refuse_generator(func, args, kwargs)
        if func in {torch.tensor, torch.as_tensor} and torch.device(kwargs.get("device") or HERE).type == NAME:
            return func(*args, **{**kwargs, "device": HERE}).to(NAME)
        if func in {torch.Tensor.__getitem__, torch.Tensor.__setitem__} and isinstance(args[1], list):
            args = (args[0], torch.tensor(args[1], dtype=None if args[1] else torch.long), *args[2:])
        return func(*args, **kwargs)


@contextmanager
def elsewhere() -> Iterator[str]:
    """Have the device for a while; its name."""
    usual, torch.Generator = torch.Generator, Generator
    try:
        with _Functions(), _Operations():
            yield NAME
    finally:
        torch.Generator = usual


def mixed() -> dict[str, list[str]]:
    """What happens where devices meet, so that a test can see that it is noticed."""
    here = torch.ones(3)
    with elsewhere() as device:
        far = here.to(device)
        attempts = {
            "sum": lambda: far + here,
            "in place": lambda: here.add_(far),
            "index": lambda: far[here.long()],
            "generator": lambda: torch.rand(2, device=device, generator=torch.Generator().manual_seed(0)),
            "numpy": far.numpy,
            "number": lambda: far * torch.tensor(2.0),
        }
        return {name: _raised(attempt) for name, attempt in attempts.items()}


def _raised(attempt: Callable[[], object]) -> list[str]:
    try:
        attempt()
    except (Mixed, RuntimeError) as fault:
        return [type(fault).__name__]
    return []


def kept_apart(names: Sequence[str]) -> dict[str, list[str]]:
    """What differs between here and elsewhere, by check: of all cases, or those named."""
    from device_cases import CASES, measured, told_apart

    found = {}
    for check, case in CASES.items():
        if names and check not in names:
            continue
        Counts.operations = Counts.waits = 0
        try:
            with TemporaryDirectory() as folder:
                here = measured(check, case, "cpu", Path(folder))
                with elsewhere() as device:
                    there = measured(check, case, device, Path(folder))
            found[check] = told_apart(here, there, 1e-6, 1e-9) if case.compared else []
            if Counts.waits > max(FEW, PATIENCE * Counts.operations):
                found[check].append(f"waits for the device in {Counts.waits} of {Counts.operations} operations")
        except Exception:  # noqa: BLE001 - whatever it is, the test says it
            found[check] = [traceback.format_exc()]
    return found


def main() -> None:
    """Print what was found as JSON."""
    warnings.simplefilter("error")
    _setup_privateuseone_for_python_backend(NAME)
    print(json.dumps(mixed() if sys.argv[1:] == ["--mixed"] else kept_apart(sys.argv[1:])))
    sys.stdout.flush()
    os._exit(0)  # PyTorch waits for the threads of a device that it does not know


if __name__ == "__main__":
    main()
