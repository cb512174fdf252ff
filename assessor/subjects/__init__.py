"""Loading what is assessed: a PyTorch module, a scikit-learn estimator or a table of predictions.

One loader a kind, chosen by assessor.yaml or by the loaded object's type, never by trying in turn.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from assessor.contract import Need, Origin, Subject
from assessor.errors import MissingExtra, UsageError
from assessor.git import git
from assessor.model import DataSpec, TargetSpec
from assessor.subjects.data import RawSplit, load_split
from assessor.subjects.files import FilesSubject
from assessor.subjects.loading import call_user, find_user, importable

__all__ = ["importable", "load_files", "load_subject"]

BEFORE_LOADING = frozenset({Need.FILES, Need.DEPENDENCIES})
"""What checks may need that are run before any code of the system is."""

# Before anybody's code loads torch: waiting threads sleep instead of spinning. On a machine with other work a small
# model runs ten times as fast so.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def load_files(spec: TargetSpec, folder: Path) -> FilesSubject:
    """What can be looked at before anything is loaded.

    Args:
        spec: `target` of assessor.yaml.
        folder: Where relative paths are looked up.

    Returns:
        The subject.

    Raises:
        UsageError: A named file is missing or cannot be read.
    """
    return FilesSubject(spec.task, _origin(spec, folder))


def load_subject(spec: TargetSpec, folder: Path, *, device: str | None = None) -> tuple[Subject, str, str | None]:
    """Load model and data.

    Args:
        spec: `target` of assessor.yaml.
        folder: Where relative paths and modules are looked up first.
        device: Overrides the specification's device.

    Returns:
        The subject, its kind ("torch", "sklearn", "predictions") and the digest of its parameters.

    Raises:
        UsageError: Something is missing or does not fit; the message says what and where.
    """
    again = None if spec.model.load is None else lambda: load_subject(spec, folder, device=device)[0]
    origin = _origin(spec, folder, reload=again)
    if spec.model.predictions is not None:
        _refuse_modules(spec)
        from assessor.subjects.predictions import predictions_subject

        return predictions_subject(spec, folder, origin=origin), "predictions", None
    raws = {name: load_split(data, name, folder) for name, data in _specs(spec).items() if data is not None}
    assert spec.model.load is not None
    model = call_user(spec.model.load, folder, field="target.model.load")
    return _wrap(model, spec, raws, folder, origin, device=device or spec.device)


def _specs(spec: TargetSpec) -> Mapping[str, DataSpec | None]:
    return {name: getattr(spec.data, name) for name in type(spec.data).model_fields}


def _origin(spec: TargetSpec, folder: Path, reload: Callable[[], Subject] | None = None) -> Origin:
    files = {name: folder / name for name in spec.model.files}
    for name, path in files.items():
        if not path.is_file():
            raise UsageError(f"target.model.files: no file {name} in {folder}")
    revision = git(folder, "rev-parse", "HEAD")
    changed = git(folder, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all", "--", str(folder))
    return Origin(
        files=files,
        dependencies={name: _text(folder / name) for name in spec.dependencies},
        revision=revision,
        modified=None if revision is None or changed is None else bool(changed),
        reload=reload,
    )


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise UsageError(f"target.dependencies: cannot read {path}: {fault}") from fault


def _wrap(
    model: object, spec: TargetSpec, raws: Mapping[str, RawSplit], folder: Path, origin: Origin, *, device: str
) -> tuple[Subject, str, str | None]:
    if _is_module(model):
        from assessor.subjects.torch_module import torch_subject

        baseline = build = train = None
        if spec.baseline is not None:
            baseline = _module(call_user(spec.baseline.load, folder, field="target.baseline.load"), "target.baseline")
        if (name := spec.model.build) is not None:
            build = partial(_built, name, folder)
        if (name := spec.model.train) is not None:
            train = find_user(name, folder, field="target.model.train")
        subject = torch_subject(
            model, spec, raws, device=device, baseline=baseline, build=build, train=train, origin=origin
        )
        return subject, "torch", subject.sha256
    _refuse_modules(spec)
    if hasattr(model, "predict") and hasattr(model, "get_params"):
        from assessor.subjects.sklearn_estimator import sklearn_subject

        estimator = sklearn_subject(model, spec, raws, origin=origin)
        return estimator, "sklearn", estimator.sha256
    raise UsageError(
        f"target.model.load: {spec.model.load} gave a {type(model).__module__}.{type(model).__qualname__}, "
        "wanted a torch.nn.Module or a fitted scikit-learn estimator"
    )


def _refuse_modules(spec: TargetSpec) -> None:
    """A baseline or an architecture beside anything but a PyTorch module would silently stay unused."""
    if spec.baseline is not None:
        raise UsageError("target.baseline: only PyTorch modules are compared, and target.model is none; leave it out")
    if spec.model.build is not None:
        raise UsageError("target.model.build: only PyTorch modules are built, and target.model is none; leave it out")
    if spec.model.train is not None:
        raise UsageError(
            "target.model.train: only PyTorch modules are trained so, and target.model is none; leave it out "
            "(a scikit-learn estimator is fitted again by itself)"
        )


def _built(name: str, folder: Path) -> object:
    return _module(call_user(name, folder, field="target.model.build"), "target.model.build")


def _module(value: object, field: str) -> object:
    if not _is_module(value):
        raise UsageError(f"{field}: gave a {type(value).__qualname__}, wanted a torch.nn.Module")
    return value


def _is_module(value: object) -> bool:
    """Told without importing torch, which a scikit-learn user need not have."""
    return "torch.Module" in [f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in type(value).__mro__]


def require(package: str, extra: str, what: str) -> None:
    """Make sure that an optional package is there.

    Raises:
        MissingExtra: It is not installed.
    """
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise MissingExtra(what, extra)
