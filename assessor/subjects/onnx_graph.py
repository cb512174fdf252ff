"""The graph of an ONNX model, run by PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch.nn import functional

Tensors = Sequence[torch.Tensor]
Attributes = Mapping[str, Any]
TYPES = {1: torch.float32, 2: torch.uint8, 3: torch.int8, 6: torch.int32, 7: torch.int64, 9: torch.bool,
         10: torch.float16, 11: torch.float64}  # fmt: skip
"""onnx.TensorProto's numbers."""


class Graph(torch.nn.Module):
    """Runs the operators in the file's order; weights are parameters; shapes, indices and running means are fixed."""

    def __init__(self, model: Any, output: str | None) -> None:
        """Take the weights and look whether every operator is known.

        Args:
            model: onnx.ModelProto.
            output: Name of the output that is given; None for the only one.

        Raises:
            NotImplementedError: It has an operator, attribute or input that is not known here.
        """
        super().__init__()
        import onnx

        graph = model.graph
        weights = {tensor.name: tensor for tensor in graph.initializer}
        if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in weights.values()):
            raise NotImplementedError("its weights lie in other files")
        strange = sorted({node.op_type for node in graph.node if node.op_type not in OPERATORS or _is_custom(node)})
        if strange:
            raise NotImplementedError(f"it has operators that are not known here: {', '.join(strange)}")
        inputs = [one.name for one in graph.input if one.name not in weights]
        outputs = [one.name for one in graph.output]
        self.input, self.output = inputs[0], output or outputs[0]
        self.weights = torch.nn.ParameterDict()
        self._constants: dict[str, torch.Tensor] = {}
        self._places: dict[str, str] = {}
        counted = {name for node in graph.node if node.op_type == "BatchNormalization" for name in node.input[3:]}
        for place, (name, tensor) in enumerate(weights.items()):
            value = torch.from_numpy(np.array(onnx.numpy_helper.to_array(tensor)))
            if value.is_floating_point() and name not in counted:
                self._places[name] = f"w{place}"
                self.weights[f"w{place}"] = torch.nn.Parameter(value)
            else:
                self._constants[name] = value
        self._nodes = [
            (node.op_type, tuple(node.input), tuple(node.output), {a.name: _attribute(a) for a in node.attribute})
            for node in graph.node
        ]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The output for a batch."""
        known: dict[str, Any] = {**self._constants, self.input: inputs, "": None}
        known |= {name: self.weights[place] for name, place in self._places.items()}
        for kind, takes, gives, attributes in self._nodes:
            known[gives[0]] = OPERATORS[kind]([known[name] for name in takes], attributes)
        found: torch.Tensor = known[self.output]
        return found


def _is_custom(node: Any) -> bool:
    return node.domain not in {"", "ai.onnx"} or len([name for name in node.output if name]) != 1


def _attribute(attribute: Any) -> Any:
    import onnx

    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return torch.from_numpy(np.array(onnx.numpy_helper.to_array(value)))
    return value.decode() if isinstance(value, bytes) else value


def _only(attributes: Attributes, **defaults: Any) -> None:
    """Refuse attributes with another value than these."""
    for name, wanted in defaults.items():
        if (found := attributes.get(name, wanted)) != wanted:
            raise NotImplementedError(f"it has an operator with {name} = {found}")


def _gemm(x: Tensors, a: Attributes) -> torch.Tensor:
    left, right = (x[0].T if a.get("transA") else x[0]), (x[1].T if a.get("transB") else x[1])
    product = (left @ right) * float(a.get("alpha", 1.0))
    return product if len(x) < 3 or x[2] is None else product + float(a.get("beta", 1.0)) * x[2]


def _padded(x: torch.Tensor, a: Attributes, value: float) -> torch.Tensor:
    """With the pads of a convolution or pooling, which are given as all begins, then all ends."""
    _only(a, auto_pad="NOTSET")
    dims = x.ndim - 2
    pads = list(a.get("pads", [0] * 2 * dims))
    both = [side for axis in reversed(range(dims)) for side in (pads[axis], pads[axis + dims])]
    return functional.pad(x, both, value=value) if any(both) else x


def _conv(x: Tensors, a: Attributes) -> torch.Tensor:
    run = {3: functional.conv1d, 4: functional.conv2d, 5: functional.conv3d}[x[0].ndim]
    dims = x[0].ndim - 2
    return run(
        _padded(x[0], a, 0.0),
        x[1],
        x[2] if len(x) > 2 else None,
        stride=tuple(a.get("strides", [1] * dims)),
        dilation=tuple(a.get("dilations", [1] * dims)),
        groups=a.get("group", 1),
    )


def _max_pool(x: Tensors, a: Attributes) -> torch.Tensor:
    _only(a, ceil_mode=0, storage_order=0)
    run = {3: functional.max_pool1d, 4: functional.max_pool2d, 5: functional.max_pool3d}[x[0].ndim]
    shape = a["kernel_shape"]
    ones = [1] * len(shape)
    strides, dilations = a.get("strides", ones), a.get("dilations", ones)
    return run(_padded(x[0], a, -torch.inf), tuple(shape), tuple(strides), dilation=tuple(dilations))


def _average_pool(x: Tensors, a: Attributes) -> torch.Tensor:
    _only(a, ceil_mode=0)
    if any(a.get("pads", [])):
        _only(a, count_include_pad=1)
    run: Callable[..., torch.Tensor] = {3: functional.avg_pool1d, 4: functional.avg_pool2d, 5: functional.avg_pool3d}[
        x[0].ndim
    ]
    shape = a["kernel_shape"]
    return run(_padded(x[0], a, 0.0), tuple(shape), tuple(a.get("strides", [1] * len(shape))))


def _normalised(x: Tensors, a: Attributes) -> torch.Tensor:
    _only(a, training_mode=0)
    return functional.batch_norm(x[0], x[3], x[4], x[1], x[2], False, 0.0, a.get("epsilon", 1e-5))


def _layer_norm(x: Tensors, a: Attributes) -> torch.Tensor:
    axis = a.get("axis", -1)
    shape = x[0].shape[axis:]
    return functional.layer_norm(x[0], shape, x[1], x[2] if len(x) > 2 else None, a.get("epsilon", 1e-5))


def _reshape(x: Tensors, a: Attributes) -> torch.Tensor:
    _only(a, allowzero=0)
    wanted = [int(x[0].shape[place]) if size == 0 else size for place, size in enumerate(x[1].tolist())]
    return x[0].reshape(wanted)


def _flatten(x: Tensors, a: Attributes) -> torch.Tensor:
    axis = a.get("axis", 1) % (x[0].ndim + 1)
    rows = int(np.prod(x[0].shape[:axis]))
    return x[0].reshape(rows, -1)


def _axes(x: Tensors, a: Attributes) -> list[int]:
    """An input since opset 13, an attribute before."""
    given = x[1].tolist() if len(x) > 1 and x[1] is not None else a.get("axes")
    return list(given) if given is not None else list(range(x[0].ndim))


def _mean(x: Tensors, a: Attributes) -> torch.Tensor:
    return x[0].mean(dim=_axes(x, a), keepdim=bool(a.get("keepdims", 1)))


def _sum(x: Tensors, a: Attributes) -> torch.Tensor:
    return x[0].sum(dim=_axes(x, a), keepdim=bool(a.get("keepdims", 1)))


def _squeeze(x: Tensors, a: Attributes) -> torch.Tensor:
    return x[0].squeeze(tuple(_axes(x, a)))


def _unsqueeze(x: Tensors, a: Attributes) -> torch.Tensor:
    found, axes = x[0], _axes(x, a)
    for axis in sorted(axis % (x[0].ndim + len(axes)) for axis in axes):
        found = found.unsqueeze(axis)
    return found


def _clip(x: Tensors, a: Attributes) -> torch.Tensor:
    low, high = (x[place] if len(x) > place else a.get(name) for place, name in ((1, "min"), (2, "max")))
    return torch.clamp(x[0], low, high)


def _constant(x: Tensors, a: Attributes) -> torch.Tensor:
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        if name in a:
            value = a[name]
            return value if isinstance(value, torch.Tensor) else torch.tensor(value)
    raise NotImplementedError("it has a constant that is no number")


def _cast(x: Tensors, a: Attributes) -> torch.Tensor:
    if a["to"] not in TYPES:
        raise NotImplementedError(f"it casts to a type that is not known here: {a['to']}")
    return x[0].to(TYPES[a["to"]])


def _gather(x: Tensors, a: Attributes) -> torch.Tensor:
    axis, indices = a.get("axis", 0), x[1].long()
    size = x[0].shape[axis]
    found = x[0].index_select(axis, torch.where(indices < 0, indices + size, indices).reshape(-1))
    axis %= x[0].ndim
    shape = (*x[0].shape[:axis], *indices.shape, *x[0].shape[axis + 1 :])
    return found.reshape(shape)


def _gelu(x: Tensors, a: Attributes) -> torch.Tensor:
    return functional.gelu(x[0], approximate=a.get("approximate", "none"))


def _transposed(x: Tensors, a: Attributes) -> torch.Tensor:
    return x[0].permute(*a.get("perm", reversed(range(x[0].ndim))))


OPERATORS: Mapping[str, Callable[[Tensors, Attributes], torch.Tensor]] = {
    "Abs": lambda x, a: x[0].abs(),
    "Add": lambda x, a: x[0] + x[1],
    "AveragePool": _average_pool,
    "BatchNormalization": _normalised,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": lambda x, a: torch.cat(list(x), dim=a["axis"]),
    "Constant": _constant,
    "Conv": _conv,
    "Div": lambda x, a: x[0] / x[1] if x[0].is_floating_point() else torch.div(x[0], x[1], rounding_mode="trunc"),
    "Dropout": lambda x, a: x[0],
    "Elu": lambda x, a: functional.elu(x[0], a.get("alpha", 1.0)),
    "Erf": lambda x, a: torch.erf(x[0]),
    "Exp": lambda x, a: x[0].exp(),
    "Flatten": _flatten,
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda x, a: x[0].mean(dim=tuple(range(2, x[0].ndim)), keepdim=True),
    "GlobalMaxPool": lambda x, a: x[0].amax(dim=tuple(range(2, x[0].ndim)), keepdim=True),
    "HardSigmoid": lambda x, a: torch.clamp(a.get("alpha", 0.2) * x[0] + a.get("beta", 0.5), 0, 1),
    "HardSwish": lambda x, a: functional.hardswish(x[0]),
    "Identity": lambda x, a: x[0],
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda x, a: functional.leaky_relu(x[0], a.get("alpha", 0.01)),
    "Log": lambda x, a: x[0].log(),
    "LogSoftmax": lambda x, a: x[0].log_softmax(dim=a.get("axis", -1)),
    "MatMul": lambda x, a: x[0] @ x[1],
    "Max": lambda x, a: reduce(torch.maximum, x),
    "MaxPool": _max_pool,
    "Mul": lambda x, a: x[0] * x[1],
    "Neg": lambda x, a: -x[0],
    "Pow": lambda x, a: x[0] ** x[1],
    "Reciprocal": lambda x, a: 1 / x[0],
    "ReduceMean": _mean,
    "ReduceSum": _sum,
    "Relu": lambda x, a: functional.relu(x[0]),
    "Reshape": _reshape,
    "Shape": lambda x, a: torch.tensor(x[0].shape[a.get("start", 0) : a.get("end")]),
    "Sigmoid": lambda x, a: torch.sigmoid(x[0]),
    "Softmax": lambda x, a: x[0].softmax(dim=a.get("axis", -1)),
    "Softplus": lambda x, a: functional.softplus(x[0]),
    "Sqrt": lambda x, a: x[0].sqrt(),
    "Squeeze": _squeeze,
    "Sub": lambda x, a: x[0] - x[1],
    "Tanh": lambda x, a: torch.tanh(x[0]),
    "Transpose": _transposed,
    "Unsqueeze": _unsqueeze,
}
"""By ONNX's name: inputs and attributes to the first output."""
