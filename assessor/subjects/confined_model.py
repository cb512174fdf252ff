"""A model in a format of others as a subject: opened in a confined child, and asked there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from assessor.contract import Origin, Subject
from assessor.errors import UsageError
from assessor.model import TargetSpec
from assessor.subjects.black_box import Source, black_box_subject
from assessor.subjects.child import Child, ChildError
from assessor.subjects.data import RawSplit
from assessor.subjects.extras import require
from assessor.subjects.modules import Place

PACKAGES = {"torchscript": ("torch", "torch"), "torch_export": ("torch", "torch"), "xgboost": ("xgboost", "xgboost"),
            "lightgbm": ("lightgbm", "lightgbm"), "onnx": ("onnxruntime", "onnx")}  # fmt: skip
"""The package that opens a format, and the extra that brings it."""
REMEDIES = {
    "torch_export": "; a program must take any number of rows: export it with dynamic_shapes for the first axis"
}
TREES = ("xgboost", "lightgbm")
"""Formats whose models take missing values."""


def confined_subject(
    place: Place, spec: TargetSpec, raws: Mapping[str, RawSplit], *, origin: Origin, lenient: bool
) -> tuple[Subject, str, str | None]:
    """Open the model in a child and check that model and data fit.

    Args:
        place: Where the model is.
        spec: `target` of assessor.yaml.
        raws: Data by split.
        origin: Where both come from.
        lenient: Open it even where the kernel cannot keep it from the network.

    Returns:
        The subject, its kind and the digest of its file.

    Raises:
        UsageError: The file cannot be opened, or does not fit.
    """
    form, path = place.form.form, place.file()
    require(*PACKAGES[form], place.named)
    readable = [place.folder / name for name in place.form.files]
    try:
        child = Child(form, path, options={"output": place.form.output}, readable=readable, lenient=lenient)
    except ChildError as fault:
        raise UsageError(f"{place.named}: {place.form.path}: cannot be opened: {fault}") from fault
    source = Source(
        child.ask,
        place.named,
        outputs=child.about.get("outputs"),
        names=child.about.get("names"),
        faults=(ChildError, TypeError),
        allows_missing=form in TREES,
        confinement=child.confinement,
    )
    try:
        if form == "onnx":
            return _onnx_subject(place, path, source, spec, raws, origin)
        return black_box_subject(source, spec, raws, origin=origin), form, digest(path)
    except UsageError as fault:
        child.close()
        if form in REMEDIES and "raised an error on rows" in str(fault):
            raise UsageError(f"{fault}{REMEDIES[form]}") from fault
        raise


def _onnx_subject(
    place: Place, path: Path, source: Source, spec: TargetSpec, raws: Mapping[str, RawSplit], origin: Origin
) -> tuple[Subject, str, str | None]:
    """With gradients where the model can be turned into a module that gives the same, else one that can be asked."""
    from assessor.subjects.onnx_module import converted

    rows = raws["test"].features
    why = "there are no numeric features"
    if rows is not None:
        module = converted(path, place.form.output, rows[: source.probed], source.ask)
        if not isinstance(module, str):
            from assessor.subjects.torch_module import torch_subject

            return torch_subject(module, spec, raws, device="cpu", origin=origin), "onnx", digest(path)
        why = module
    source = source._replace(remarks=(f"The ONNX model gives no gradients here: {why}.",))
    return black_box_subject(source, spec, raws, origin=origin), "onnx", digest(path)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
