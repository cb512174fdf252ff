"""PyTorch modules: from the user's code, from weights, and, where the user trusts them, from programs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from assessor.errors import UsageError
from assessor.model import ModelForm
from assessor.subjects.extras import require
from assessor.subjects.formats import model_file
from assessor.subjects.loading import call_user

if TYPE_CHECKING:
    import torch


class Place(NamedTuple):
    """A model's description and where it is looked up: folder and field, such as "target.model"."""

    form: ModelForm
    folder: Path
    field: str

    @property
    def named(self) -> str:
        """The field that holds the model, for messages."""
        return f"{self.field}.{self.form.form}"

    def file(self) -> Path:
        """The model's file, of the right format."""
        return model_file(self.form, self.folder, field=self.field)


def built(place: Place) -> Any:
    """A new, untrained module."""
    assert place.form.build is not None
    field = f"{place.field}.build"
    return module_or_refusal(call_user(place.form.build, place.folder, field=field), field)


def module_or_refusal(value: object, field: str) -> Any:
    """The value, which is a module.

    Raises:
        UsageError: It is something else.
    """
    if not is_module(value):
        raise UsageError(f"{field}: gave a {type(value).__qualname__}, wanted a torch.nn.Module")
    return value


def is_module(value: object) -> bool:
    """Told without importing torch, which a scikit-learn user need not have."""
    return "torch.Module" in [f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in type(value).__mro__]


def from_safetensors(place: Place) -> Any:
    """The built module with the weights of a safetensors file."""
    path = place.file()
    require("safetensors", "safetensors", place.named)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
    except (SafetensorError, ValueError, KeyError) as fault:
        raise UsageError(f"{place.named}: {place.form.path}: cannot be read: {fault}") from fault
    return _filled(place, weights)


def from_state_dict(place: Place) -> Any:
    """The built module with the weights that torch.save wrote; nothing but tensors is read."""
    path = place.file()
    require("torch", "torch", place.named)
    import pickle

    import torch

    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError, OSError) as fault:
        raise UsageError(
            f"{place.named}: {place.form.path}: found more than tensors, or a broken file; save the weights alone, "
            f"with torch.save(model.state_dict(), file) ({str(fault).splitlines()[0][:200]})"
        ) from fault
    if not isinstance(weights, Mapping) or not all(isinstance(one, torch.Tensor) for one in weights.values()):
        raise UsageError(
            f"{place.named}: {place.form.path}: found a {type(weights).__name__} that holds more than tensors, wanted "
            "a state dict; save it with torch.save(model.state_dict(), file)"
        )
    return _filled(place, weights)


def _filled(place: Place, weights: Mapping[str, torch.Tensor]) -> Any:
    module = built(place)
    wanted = module.state_dict()
    missing, more = sorted(wanted.keys() - weights.keys()), sorted(weights.keys() - wanted.keys())
    other = [
        f"{name} has the shape {tuple(weights[name].shape)}, wanted {tuple(wanted[name].shape)}"
        for name in wanted.keys() & weights.keys()
        if weights[name].shape != wanted[name].shape
    ]
    said = [
        *([f"it lacks {', '.join(missing[:5])}"] if missing else []),
        *([f"it has {', '.join(more[:5])}, which the module lacks"] if more else []),
        *sorted(other)[:5],
    ]
    if said:
        raise UsageError(
            f"{place.named}: {place.form.path} does not fit the module that {place.form.build} gives: {'; '.join(said)}"
        )
    module.load_state_dict(weights)
    return module


def from_torchscript(place: Place) -> Any:
    """A TorchScript module, in this process: only for files that the user trusts."""
    path = place.file()
    require("torch", "torch", place.named)
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of the format itself
            return torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, ValueError) as fault:
        raise UsageError(f"{place.named}: {place.form.path}: cannot be read: {fault}") from fault


def from_torch_export(place: Place) -> Any:
    """A program of torch.export as a module, in this process: only for files that the user trusts."""
    path = place.file()
    require("torch", "torch", place.named)
    import torch

    from assessor.subjects.exported import Exported

    try:
        return Exported(torch.export.load(str(path)).module())
    except Exception as fault:  # it unpickles, and may raise anything
        raise UsageError(f"{place.named}: {place.form.path}: cannot be read: {fault}") from fault


IN_PROCESS: Mapping[str, Callable[[Place], Any]] = {
    "safetensors": from_safetensors,
    "state_dict": from_state_dict,
    "torchscript": from_torchscript,
    "torch_export": from_torch_export,
}
"""Loaders by format."""
