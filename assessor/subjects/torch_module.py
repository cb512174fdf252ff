"""A PyTorch module as a subject."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from assessor.contract import (
    UNKNOWN,
    Inputs,
    Need,
    NotApplicable,
    Origin,
    Part,
    Scores,
    Split,
    Task,
    halved,
    in_batches,
    whole_split,
)
from assessor.errors import UsageError
from assessor.model import TargetSpec
from assessor.subjects.data import RawSplit, check_finite, offered_by, refuse_other_columns, splits_of
from assessor.subjects.spool import is_mapped, taken

PROBED = 256  # rows that tell the kind of outputs before anything is measured
BATCH = 4096  # rows a forward pass; bounds memory, changes no number


class TorchSubject:
    """A module in eval mode on its device, with its data; see `assessor.contract.Subject`."""

    def __init__(  # noqa: PLR0913 - what a subject is made of
        self,
        module: torch.nn.Module,
        task: Task,
        classes: tuple[str, ...],
        splits: Mapping[str, Split],
        *,
        device: str = "cpu",
        outputs: str = "logits",
        baseline: TorchSubject | None = None,
        build: Callable[[], torch.nn.Module] | None = None,
        train: Callable[[np.ndarray, np.ndarray, int], torch.nn.Module] | None = None,
        origin: Origin = UNKNOWN,
    ) -> None:
        """Move the module to `device` and put it in eval mode.

        Args:
            module: Takes (n, ...) inputs; gives (n, C), or for binary (n,) or (n, 1), or for regression (n,) or (n, 1).
            task: What it does.
            classes: Class names in index order, empty for regression.
            splits: At least "test".
            device: Torch's name of the device.
            outputs: "logits" or "probabilities".
            baseline: The model to compare with.
            build: Gives a new, untrained module of the same architecture.
            train: Takes features, labels and a seed and gives a module trained on them.
            origin: Where it comes from.
        """
        self._module = module.to(device).eval()
        self.task = task
        self.classes = classes
        self.device = device
        self.splits = splits
        self._outputs = outputs
        self._baseline = baseline
        self._build = build
        self._train = train
        self.origin = origin
        self._scores: dict[str, np.ndarray] = {}
        parameters = [p for p in module.parameters() if p.is_floating_point()]
        self.dtype = parameters[0].dtype if parameters else torch.float32

    @property
    def sha256(self) -> str:
        """Digest of architecture, parameters and buffers, and of how the outputs are taken."""
        return _digest(self._module, "" if self._outputs == "logits" else self._outputs)

    @property
    def architecture_sha256(self) -> str | None:
        """Digest of an untrained module as it is built with a fixed seed; None where it cannot be built."""
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(0)
            try:
                return _digest(self.new_module())
            except NotApplicable:
                return None

    @property
    def offers(self) -> frozenset[Need]:
        """What checks may ask of it."""
        offered = offered_by(self.splits, self.origin) | {Need.QUERY, Need.GRADIENTS}
        if self.task.is_classification:
            offered.add(Need.PROBABILITIES)
        if self._train is not None and "train" in self.splits:
            offered.add(Need.REFIT)
        if self._baseline is not None:
            offered.add(Need.BASELINE)
        if self._build is not None:
            offered.add(Need.ARCHITECTURE)
        return frozenset(offered)

    @property
    def module(self) -> torch.nn.Module:
        """The module itself."""
        return self._module

    @property
    def baseline(self) -> TorchSubject:
        """The model to compare with."""
        if self._baseline is None:
            raise NotApplicable("no model to compare with was named (target.baseline)")
        return self._baseline

    def new_module(self) -> torch.nn.Module:
        """A new, untrained module of the same architecture, in train mode, on the device and in the dtype."""
        if self._build is None:
            raise NotApplicable("nobody said how an untrained model is built (target.model.build)")
        made, own = self._build(), set(map(id, self._module.parameters()))
        if made is self._module or own & set(map(id, made.parameters())):
            raise NotApplicable("target.model.build gives the assessed model itself, wanted a new one")
        return made.to(self.device, self.dtype).train()

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, C) logits, or (n,) values for regression, differentiable in `inputs`."""
        out: torch.Tensor = self._module(inputs)
        if len(out) != len(inputs):
            raise ValueError(f"the model gave outputs of shape {tuple(out.shape)} for {len(inputs)} rows")
        if self.task is Task.REGRESSION:
            return out.reshape(len(inputs))
        if out.ndim == 1:
            out = out[:, None]
        if self._outputs == "probabilities":
            out = torch.cat([1 - out, out], dim=1) if out.shape[1] == 1 else out
            return out.clamp_min(torch.finfo(out.dtype).tiny).log()
        return torch.cat([torch.zeros_like(out), out], dim=1) if out.shape[1] == 1 else out

    def tensors(self, split: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs in the module's dtype and labels, on the device."""
        found = self.splits[split]
        if found.features is None:
            raise NotApplicable(f"the {split} split has no features")
        labels = torch.from_numpy(found.labels).to(self.device)
        whole = not labels.is_floating_point()
        return self._inputs(found.features), labels if whole else labels.to(self.dtype)

    def inputs(self, split: str) -> Inputs:
        """Inputs as `tensors` gives them; of features in a file only what is looked at is read."""
        features = self.splits[split].features
        return self.tensors(split)[0] if features is None or not is_mapped(features) else self._rows(features)

    def _rows(self, features: np.ndarray) -> Inputs:
        return _Rows(features, self._inputs) if is_mapped(features) else self._inputs(features)

    def _inputs(self, features: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(np.require(np.ascontiguousarray(features), requirements=["W"]))
        return tensor.to(self.device, self.dtype if tensor.is_floating_point() else None)

    def scores(self, split: str) -> np.ndarray:
        """(n, C) class probabilities or (n,) predicted values, float64, computed once."""
        if split not in self._scores:
            self._scores[split] = found = self._evaluate(self.inputs(split))
            if bad := int((~np.isfinite(found.reshape(len(found), -1))).any(axis=1).sum()):
                raise ValueError(f"the model gives NaN or infinite outputs for {bad} of {len(found)} {split} rows")
        return self._scores[split]

    def predictions(self, split: str) -> np.ndarray:
        """(n,) predicted class index or value."""
        return self._decide(self.scores(split))

    def parts(self, split: str) -> Iterator[Part]:
        """All rows of the split at once."""
        return whole_split(self, split)

    def query(self, features: np.ndarray) -> np.ndarray:
        """Predictions for new inputs; -1, which is no class, where the outputs are not finite."""
        scores = self._evaluate(self._rows(features))
        decided = self._decide(scores)
        return np.where(np.isfinite(scores).all(axis=1), decided, -1) if self.task.is_classification else decided

    def query_scores(self, features: np.ndarray) -> np.ndarray:
        """Scores for new inputs; NaN where the outputs are not finite."""
        scores = self._given(self._rows(features))
        lost = ~np.isfinite(scores.reshape(len(scores), -1)).all(axis=1)
        scores[lost] = np.nan
        return scores

    def refit(self, rows: np.ndarray, seed: int, labels: np.ndarray | None = None) -> Scores:
        """A module newly trained by the user's own function."""
        if self._train is None or "train" not in self.splits:
            raise NotApplicable("nobody said how the model is trained anew (target.model.train)")
        split = self.splits["train"]
        assert split.features is not None
        module: Any = self._train(split.features[rows], split.labels[rows] if labels is None else labels, seed)
        if not isinstance(module, torch.nn.Module):
            raise TypeError(f"target.model.train gave a {type(module).__qualname__}, wanted a torch.nn.Module")
        made = TorchSubject(module, self.task, self.classes, {}, device=self.device, outputs=self._outputs)
        return made.query_scores

    def _decide(self, scores: np.ndarray) -> np.ndarray:
        return scores.argmax(axis=1) if self.task.is_classification else scores

    def _evaluate(self, inputs: Inputs) -> np.ndarray:
        found = self._given(inputs)
        lost = np.isnan(found).reshape(len(found), -1).any(axis=1)
        if lost.any():
            raise ValueError(
                f"the model gives NaN for {int(lost.sum())} of {len(found)} rows (first: row "
                f"{int(np.flatnonzero(lost)[0])}); look there for divisions by 0, overflow or missing values"
            )
        return found

    @torch.no_grad()
    def _given(self, inputs: Inputs) -> np.ndarray:
        out = in_batches(lambda chunk: self.logits(chunk).double(), inputs, size=BATCH, work="forward")
        if self._outputs == "probabilities" and bool((off := (out.exp().sum(dim=1) - 1).abs() > 1e-3).any()):
            rows = off.nonzero()[:, 0].tolist()
            raise ValueError(
                f"the model's outputs for {len(rows)} of {len(out)} rows are no probabilities (first: row {rows[0]}), "
                "as target.model.outputs says they are"
            )
        if self.task.is_classification:
            out = out.softmax(dim=1)
        found: np.ndarray = out.cpu().numpy()
        return found


class _Rows:
    """Rows of a file as inputs of a module."""

    def __init__(self, features: np.ndarray, to_tensor: Callable[[np.ndarray], torch.Tensor]) -> None:
        self._features, self._to_tensor = features, to_tensor

    def __len__(self) -> int:
        return len(self._features)

    def __getitem__(self, rows: Any, /) -> torch.Tensor:
        return self._to_tensor(taken(self._features, rows.cpu().numpy() if isinstance(rows, torch.Tensor) else rows))


def _digest(module: torch.nn.Module, more: str = "") -> str:
    sha = hashlib.sha256(f"{module!r}{more}".encode())
    for name, value in sorted(module.state_dict().items()):
        array = value.detach().cpu().contiguous()
        sha.update(f"{name}{array.dtype}{tuple(array.shape)}".encode())
        sha.update(array.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def torch_subject(
    module: Any,
    spec: TargetSpec,
    raws: Mapping[str, RawSplit],
    *,
    device: str,
    baseline: Any = None,
    build: Callable[[], Any] | None = None,
    train: Callable[..., Any] | None = None,
    origin: Origin = UNKNOWN,
) -> TorchSubject:
    """Check that module and data fit and make the subject.

    Args:
        module: A torch.nn.Module.
        spec: `target` of assessor.yaml.
        raws: Data by split.
        device: "auto", "cpu", "cuda" or "cuda:N".
        baseline: A torch.nn.Module to compare with, or None.
        build: Gives a new, untrained torch.nn.Module of the same architecture, or None.
        train: Takes features, labels and a seed and gives a torch.nn.Module trained on them, or None.
        origin: Where all this comes from.

    Returns:
        The subject.

    Raises:
        UsageError: Device, features, outputs or labels do not fit.
    """
    for raw in raws.values():
        if raw.features is None:
            raise UsageError(f"{raw.where}: wanted numeric features for a PyTorch module; name them under features:")
        check_finite(raw)
    refuse_other_columns(raws)
    out = _first_outputs(module, spec.task, raws["test"], device := _device(device), f"target.model.{spec.model.form}")
    classes, outputs = _kind(out, spec)
    splits = splits_of(raws, classes)
    other = None
    if baseline is not None:
        named = f"target.baseline.{spec.baseline.form if spec.baseline else 'load'}"
        theirs = _first_outputs(baseline, spec.task, raws["test"], device, named)
        _check_baseline(theirs, out, spec.task, outputs, named)
        other = TorchSubject(baseline, spec.task, classes or (), splits, device=device, outputs=outputs)
    return TorchSubject(
        module,
        spec.task,
        classes or (),
        splits,
        device=device,
        outputs=outputs,
        baseline=other,
        build=build,
        train=train,
        origin=origin,
    )


def _device(wanted: str) -> str:
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"device: found '{wanted}', but PyTorch sees no CUDA device here; use --device cpu or auto")
    count = torch.cuda.device_count()
    if wanted.startswith("cuda:") and int(wanted.removeprefix("cuda:")) >= count:
        raise UsageError(f"device: found '{wanted}', but PyTorch sees {count} CUDA devices, numbered from 0")
    return wanted


def _first_outputs(module: Any, task: Task, raw: RawSplit, device: str, field: str) -> torch.Tensor:
    """What the module gives for some rows, one a row."""
    probe = TorchSubject(module, task, (), {}, device=device)
    assert raw.features is not None
    try:
        rows, out = _probed(probe, raw.features[:PROBED])
    except (RuntimeError, TypeError, ValueError, IndexError) as fault:
        raise UsageError(
            f"{field}: the model raised {type(fault).__name__} on rows of {raw.where} "
            f"of shape {raw.features.shape[1:]}: {fault}"
        ) from fault
    if not isinstance(out, torch.Tensor):
        raise UsageError(f"{field}: the model gave a {type(out).__name__}, wanted a tensor")
    if out.ndim == 0 or len(out) != rows:
        raise UsageError(f"{field}: {rows} rows gave outputs of shape {tuple(out.shape)}, wanted one a row")
    return out


@torch.no_grad()
def _probed(probe: TorchSubject, features: np.ndarray) -> tuple[int, Any]:
    """How many of the rows the device takes at once, and what the module gives for them."""
    rows = len(features)
    while True:
        try:
            return rows, probe.module(probe._inputs(features[:rows]))
        except torch.OutOfMemoryError as full:
            rows = halved(rows, full)


def _check_baseline(theirs: torch.Tensor, ours: torch.Tensor, task: Task, outputs: str, named: str) -> None:
    found, wanted = tuple(theirs.shape), tuple(ours.shape)
    if theirs.ndim > 2 or (not task.is_classification and theirs[0].numel() != 1):
        raise UsageError(f"{named}: outputs of shape {found} do not go with the model's of shape {wanted}")
    if not task.is_classification:
        return
    counts = [2 if out.ndim == 1 else max(2, out.shape[1]) for out in (theirs, ours)]
    if counts[0] != counts[1]:
        raise UsageError(f"target.baseline: found {counts[0]} classes, the model has {counts[1]}")
    alike = _like_probabilities(theirs)
    if not alike and outputs == "probabilities":
        raise UsageError(f"{named}: the model gives probabilities, and these outputs are none")
    if alike and outputs == "logits" and not _like_probabilities(ours):
        raise UsageError(f"{named}: the model gives logits, and these outputs look like probabilities")


def _kind(out: torch.Tensor, spec: TargetSpec) -> tuple[tuple[str, ...] | None, str]:
    """Class names and kind of outputs, from those of some rows."""
    width = 1 if out.ndim == 1 else out.shape[-1]
    if not spec.task.is_classification:
        if width != 1 or out.ndim > 2:
            raise UsageError(f"target.task: a regression wants outputs (n,) or (n, 1), found {tuple(out.shape)}")
        return None, "logits"
    if out.ndim > 2 or (spec.task is Task.MULTICLASS and width < 2) or (spec.task is Task.BINARY and width > 2):
        raise UsageError(f"target.task: a {spec.task} task does not go with outputs of shape {tuple(out.shape)}")
    count = max(width, 2)
    classes = spec.classes or tuple(map(str, range(count)))
    if len(classes) != count:
        raise UsageError(f"target.classes: found {len(classes)} names, the model has {count} classes")
    return classes, _outputs(out, spec)


def _like_probabilities(out: torch.Tensor) -> bool:
    within = bool(((out >= 0) & (out <= 1)).all())
    single = out.ndim == 1 or out.shape[-1] == 1
    return within and (single or bool(torch.allclose(out.sum(-1), torch.ones_like(out.sum(-1)), atol=1e-4)))


def _outputs(out: torch.Tensor, spec: TargetSpec) -> str:
    if spec.model.outputs is not None:
        if spec.model.outputs == "probabilities" and not _like_probabilities(out):
            raise UsageError("target.model.outputs: found 'probabilities', but the model's outputs are none")
        return spec.model.outputs
    if _like_probabilities(out):
        raise UsageError(
            "target.model: the outputs look like probabilities, and logits are taken by default; "
            "say which under target.model.outputs: logits or probabilities"
        )
    return "logits"
