"""An ONNX model as a PyTorch module, for its gradients, where it consists of operators known here.

Operators after the ONNX specification, opset 13 to 21, https://onnx.ai/onnx/operators. Whether the module is right is
not believed: its outputs are compared with those of onnxruntime.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

CLOSE = 1e-4  # by which outputs may differ, relative to their size: the rounding of float32 over some layers
MOST = 1 << 31  # bytes of a file, the most that protobuf takes


def converted(
    path: Path, output: str | None, rows: np.ndarray, ask: Callable[[np.ndarray], np.ndarray]
) -> torch.nn.Module | str:
    """The model as a module that gives the same.

    Args:
        path: The ONNX file.
        output: Which output is meant; None where there is one.
        rows: (n, ...) to compare on.
        ask: Gives onnxruntime's outputs for rows.

    Returns:
        The module, or why there is none, in words without a full stop.
    """
    if missing := [name for name in ("torch", "onnx") if importlib.util.find_spec(name) is None]:
        return f"the package {' and '.join(missing)} is not installed"
    if path.stat().st_size >= MOST:
        return "the file is too large"
    import onnx
    import torch

    try:
        from assessor.subjects.onnx_graph import Graph

        module = Graph(onnx.load(str(path), load_external_data=False), output)
        with torch.no_grad():
            floats = torch.from_numpy(np.ascontiguousarray(rows, np.float32) if rows.dtype.kind == "f" else rows.copy())
            ours: Any = module(floats).double().numpy()
        theirs = ask(rows)
    except NotImplementedError as lack:
        return str(lack)
    except Exception as fault:  # noqa: BLE001 - any file that onnxruntime takes may come here
        return f"it could not be turned into a PyTorch module ({type(fault).__name__})"
    if ours.shape != theirs.shape:
        return f"as a PyTorch module it gives outputs of shape {ours.shape}, onnxruntime of {theirs.shape}"
    if not np.isfinite(theirs).all():
        return "its outputs are not finite, so that a PyTorch module cannot be compared with it"
    difference = float(np.abs(ours - theirs).max(initial=0.0)) / max(1.0, float(np.abs(theirs).max(initial=0.0)))
    if not difference <= CLOSE:
        return f"as a PyTorch module it gives outputs that differ from onnxruntime's by {difference:.2g}"
    return module
