"""Loading what is assessed: one loader a format, chosen by the field of assessor.yaml, never by trying in turn.

`docs/models.md` says what each format offers, where it is opened, and what `--trust` changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from assessor.contract import Need, Origin, Subject
from assessor.errors import UsageError
from assessor.git import git
from assessor.model import DataSpec, ModelForm, TargetSpec
from assessor.subjects.data import RawSplit
from assessor.subjects.files import FilesSubject
from assessor.subjects.loading import call_user, find_user, importable
from assessor.subjects.modules import IN_PROCESS, Place, built, is_module, module_or_refusal
from assessor.subjects.splits import load_split

__all__ = ["importable", "load_files", "load_subject"]

BEFORE_LOADING = frozenset({Need.FILES, Need.DEPENDENCIES})
"""What checks may need that are run before any code of the system is."""
RUN_CODE = ("joblib", "pickle")
"""Formats that run code when they are loaded: never without --trust."""
CONFINED = ("torchscript", "torch_export", "xgboost", "lightgbm", "onnx")
"""Formats that are opened in a child without network, files and programs; the first two in this process on --trust."""
TRUST_COUNTS = (*RUN_CODE, "torchscript", "torch_export", "sklearn", "transformers")
"""Formats that --trust loads in another way."""

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


def load_subject(
    spec: TargetSpec, folder: Path, *, device: str | None = None, trust: bool = False
) -> tuple[Subject, str, str | None]:
    """Load model and data.

    Args:
        spec: `target` of assessor.yaml.
        folder: Where relative paths and modules are looked up first.
        device: Overrides the specification's device.
        trust: Whether the user vouches for files that may run code.

    Returns:
        The subject, its kind ("torch", "sklearn", or its format) and the digest of the model.

    Raises:
        UsageError: Something is missing or does not fit; the message says what and where.
    """
    return _Loading(spec, folder, device or spec.device, trust).subject()


@dataclass(frozen=True)
class _Loading:
    """One model with its data on the way to be a subject."""

    spec: TargetSpec
    folder: Path
    device: str
    trust: bool

    @property
    def place(self) -> Place:
        return Place(self.spec.model, self.folder, "target.model")

    def subject(self) -> tuple[Subject, str, str | None]:
        spec, form = self.spec, self.spec.model.form
        self._refuse_code(spec.model, "target.model")
        reload = None if form in {"predictions", "endpoint"} else lambda: self.subject()[0]
        origin = _origin(spec, self.folder, reload=reload, trusted=self.trust and form in TRUST_COUNTS)
        if form == "predictions":
            _refuse_modules(spec)
            from assessor.subjects.predictions import predictions_subject

            return predictions_subject(spec, self.folder, origin=origin), "predictions", None
        raws = {name: load_split(data, name, self.folder) for name, data in _specs(spec).items() if data is not None}
        if form == "endpoint":
            return self._endpoint(raws, origin)
        if form == "transformers":
            return self._transformers(raws, origin)
        if form in CONFINED and not (self.trust and form in IN_PROCESS):
            return self._confined(raws, origin)
        return self._wrapped(self._in_process(self.place), raws, origin)

    def _refuse_code(self, form: ModelForm, field: str) -> None:
        if form.form in RUN_CODE and not self.trust:
            raise UsageError(
                f"{field}.{form.form}: {form.path} is loaded by running the code that it names; save the estimator "
                "with skops.io.dump and name it under sklearn:, or, if you trust whoever made it, add --trust"
            )

    def _in_process(self, place: Place) -> object:
        form = place.form.form
        if place.form.load is not None:
            return call_user(place.form.load, self.folder, field=place.named)
        if form in IN_PROCESS:
            return IN_PROCESS[form](place)
        from assessor.subjects.estimators import PICKLES, from_skops

        return from_skops(place, trust=self.trust) if form == "sklearn" else PICKLES[form](place)

    def _endpoint(self, raws: Mapping[str, RawSplit], origin: Origin) -> tuple[Subject, str, str | None]:
        from assessor.subjects.endpoint_model import endpoint_subject
        from assessor.subjects.texts import with_texts

        _refuse_modules(self.spec)
        assert self.spec.model.endpoint is not None
        if self.spec.model.endpoint.api == "openai" or any(raw.features is None for raw in raws.values()):
            raws = with_texts(raws, _specs(self.spec), self.folder)
        return endpoint_subject(self.spec, self.folder, raws, origin=origin)

    def _transformers(self, raws: Mapping[str, RawSplit], origin: Origin) -> tuple[Subject, str, str | None]:
        from assessor.subjects.torch_module import torch_subject
        from assessor.subjects.transformers_model import transformers_model

        _refuse_modules(self.spec)
        module, spec, raws = transformers_model(self.place, self.spec, raws, _specs(self.spec), trust=self.trust)
        subject = torch_subject(module, spec, raws, device=self.device, origin=origin)
        return subject, "transformers", subject.sha256

    def _confined(self, raws: Mapping[str, RawSplit], origin: Origin) -> tuple[Subject, str, str | None]:
        from assessor.subjects.confined_model import confined_subject

        _refuse_modules(self.spec)
        return confined_subject(self.place, self.spec, raws, origin=origin, lenient=self.trust)

    def _wrapped(self, model: object, raws: Mapping[str, RawSplit], origin: Origin) -> tuple[Subject, str, str | None]:
        spec = self.spec
        if is_module(model):
            return self._module_subject(model, raws, origin)
        _refuse_modules(spec)
        if hasattr(model, "predict") and hasattr(model, "get_params"):
            from assessor.subjects.sklearn_estimator import sklearn_subject

            estimator = sklearn_subject(model, spec, raws, origin=origin)
            return estimator, "sklearn", estimator.sha256
        raise UsageError(
            f"{self.place.named}: {spec.model.load or spec.model.path} gave a "
            f"{type(model).__module__}.{type(model).__qualname__}, "
            "wanted a torch.nn.Module or a fitted scikit-learn estimator"
        )

    def _module_subject(
        self, model: object, raws: Mapping[str, RawSplit], origin: Origin
    ) -> tuple[Subject, str, str | None]:
        from assessor.subjects.torch_module import torch_subject

        spec, train = self.spec, None
        if spec.model.train is not None:
            train = find_user(spec.model.train, self.folder, field="target.model.train")
        subject = torch_subject(
            model,
            spec,
            raws,
            device=self.device,
            baseline=self._baseline(),
            build=None if spec.model.build is None else partial(built, self.place),
            train=train,
            origin=origin,
        )
        return subject, "torch", subject.sha256

    def _baseline(self) -> Any:
        """The module to compare with, or None."""
        if self.spec.baseline is None:
            return None
        place = Place(self.spec.baseline, self.folder, "target.baseline")
        form = place.form.form
        self._refuse_code(place.form, place.field)
        if form in {"transformers", "endpoint"} or (form in CONFINED and not (self.trust and form in IN_PROCESS)):
            remedy = "add --trust, if you trust the file" if form in IN_PROCESS else "name a PyTorch module"
            raise UsageError(f"{place.named}: only PyTorch modules in this process are compared; {remedy}")
        return module_or_refusal(self._in_process(place), place.field)


def _specs(spec: TargetSpec) -> Mapping[str, DataSpec | None]:
    return {name: getattr(spec.data, name) for name in type(spec.data).model_fields}


def _origin(
    spec: TargetSpec, folder: Path, reload: Callable[[], Subject] | None = None, *, trusted: bool = False
) -> Origin:
    revision = git(folder, "rev-parse", "HEAD")
    changed = git(folder, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all", "--", str(folder))
    return Origin(
        files=_files(spec, folder),
        dependencies={name: _text(folder / name) for name in spec.dependencies},
        revision=revision,
        modified=None if revision is None or changed is None else bool(changed),
        reload=reload,
        trusted=trusted,
        folder=folder,
    )


def _files(spec: TargetSpec, folder: Path) -> dict[str, Path]:
    """All files that hold the model or the one that it is compared with, those in folders too."""
    forms: dict[str, ModelForm | None] = {"target.model": spec.model, "target.baseline": spec.baseline}
    found: dict[str, Path] = {}
    for field, form in forms.items():
        for name in form.named_files if form else ():
            path = folder / name
            if form is not None and path.is_dir() and name == form.transformers:
                found |= {f"{name}/{one.name}": one for one in sorted(path.iterdir()) if one.is_file()}
            elif path.is_file():
                found[name] = path
            else:
                where = f"{field}.files" if form is None or name in form.files else f"{field}.{form.form}"
                raise UsageError(f"{where}: no file {name} in {folder}")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise UsageError(f"target.dependencies: cannot read {path}: {fault}") from fault


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
