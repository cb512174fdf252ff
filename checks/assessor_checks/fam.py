"""FAM: relative flatness as a penalty, for a training loop of your own.

    fam = FAM(model, "fc2", weight=1e-2)
    for x, y in batches:
        loss = criterion(model(x), y) + fam()

Source: Adilova, Abourayya, Li, Dada, Petzka, Egger, Kleesiek, Kamp, "FAM: Relative Flatness Aware Minimization",
TAG-ML 2023, arXiv 2307.02337: loss + lambda kappa(W) for one layer's weights W (d, m), with the relative flatness
of Petzka et al. 2021 (arXiv 2001.00939) on the batch, kappa = sum_{s,t} <w_s, w_t> Tr(H_st). Here its gradient is
exact: it flows through the weights, the features and the curvature, into every layer below.

What is computed
- `fam()`: the last layer in closed form, kappa = mean_i ||phi_i||^2 Tr(W^T Hz_i W) (see `_flatness`).
- `fam(loss)`: any linear or convolutional layer and any twice differentiable loss, by an unbiased estimate:
  kappa = E_R <W R, H[W R]>, R (m, m) of independent signs. A step of W along W R moves the pre-activations z = W phi
  along u = W R phi, hence <W R, H[W R]> = <u, (d2 loss / dz2) u>: one double backward pass through what follows the
  layer. The outer backward pass then takes the third derivative.

PyTorch (2.13) takes the saved mean and scale of layer and batch normalisation for constants when it derives a third
time, which is wrong. Normalisation layers that run after the watched one are therefore written out by their formula;
a normalisation that is called as a function there is refused.

Certainty is flat too: at the last layer the penalty also falls when probabilities go to one, which helps no test
row. Prefer a layer below it (the authors take the penultimate), and judge by held-out data, not by kappa alone.

The authors' public code has three forms, none of which is this one. Neuron-wise: the double sum, each trace divided
by m, with the Hessian copied into a new tensor, so that its gradient misses the curvature and acts on W alone; and
it indexes the Hessian in the order that only one of the code's three ways to compute it gives. Layer-wise: ||W||_F
(not squared) times a Hutchinson trace of up to 200 probes, which are copied likewise. Eigenvalue: ||W||_F times the
largest eigenvalue, unfinished there. A lambda of theirs for the first form is a `weight` of lambda / m here; their
image classifiers use lambda = 0.1. No maximum is offered here: the largest eigenvalue has no gradient where two meet.
"""

from __future__ import annotations

import difflib
from types import TracebackType
from typing import Any, Literal

import torch

from assessor_checks._flatness import Loss, per_sample_trace

MEASURED = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
_CLOSED = {"softmax": Loss.SOFTMAX, "sigmoid": Loss.SIGMOID, "squared": Loss.SQUARED}
_Layer = torch.nn.Linear | torch.nn.Conv1d | torch.nn.Conv2d | torch.nn.Conv3d
_NORMS = (torch.nn.LayerNorm, torch.nn.modules.batchnorm._BatchNorm, torch.nn.modules.instancenorm._InstanceNorm)
_WRONG_THIRD = ("NativeLayerNorm", "NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm")
_KEEP_VALUES = frozenset(
    {"Alias", "Clone", "ReshapeAlias", "Select", "Slice", "Squeeze", "ToCopy", "UnsafeView", "Unsqueeze", "View"}
)
"""Steps of a graph that, number of values kept, only copy or reshape."""


class FAM:
    """A penalty on the relative flatness of one layer, from what the model's last forward pass left there.

    Only calls of the whole model count, and the layer must run once in each. Choose `weight` so that the penalty is
    about a tenth of the loss after the first epochs; far too large a weight drives features and weights to zero.

    Attributes:
        weight: Factor of the penalty; may be changed at any time.
        kappa: Relative flatness of the last batch as a detached scalar, in the unit of the loss; None before.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        layer: str | None = None,
        weight: float = 1e-2,
        *,
        criterion: Literal["softmax", "sigmoid", "squared"] = "softmax",
        normalise: Literal["none", "neuron"] = "none",
        probes: int = 1,
        seed: int = 0,
    ) -> None:
        """Watch one layer of a model until `close`.

        Args:
            model: Trained as usual; its outputs and its random draws stay what they were.
            layer: Name as in `model.named_modules()`; None: the last torch.nn.Linear there.
            weight: Factor of the penalty, at least 0.
            criterion: What `fam()` takes for the loss, averaged over rows: cross-entropy of a softmax (label
                smoothing changes nothing), of a sigmoid with one output, or half the squared error. `fam(loss)` needs
                none of it.
            normalise: "neuron" divides each feature by its standard deviation over the batch and multiplies the
                weights by it, as the authors measure it; for linear layers, rows of at least some ten.
            probes: Matrices R that `fam(loss)` averages over; the standard error falls with their square root.
            seed: Of a generator of its own that draws R.

        Raises:
            ValueError: There is no such layer, it is of another kind, or a number is out of its range.
        """
        if weight < 0 or probes < 1:
            raise ValueError(f"found weight {weight} and probes {probes}, wanted at least 0 and at least 1")
        for found, known in ((criterion, _CLOSED), (normalise, ("none", "neuron"))):
            if found not in known:
                raise ValueError(f"found '{found}', wanted one of {', '.join(known)}")
        self.weight = weight
        self.kappa: torch.Tensor | None = None
        self._name, self._layer = _find(model, layer)
        if normalise == "neuron" and not isinstance(self._layer, torch.nn.Linear):
            raise ValueError(f"layer '{self._name}' is a convolution: normalise='neuron' is for linear layers")
        self._criterion, self._normalise, self._probes, self._seed = _CLOSED[criterion], normalise, probes, seed
        self._generator: torch.Generator | None = None
        self._runs: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._output: object = None
        self._graph_is_fine = False
        norms = [part for part in model.modules() if isinstance(part, _NORMS)]
        self._handles = [
            *(part.register_forward_hook(self._normalised) for part in norms),
            self._layer.register_forward_hook(self._ran, with_kwargs=True),
            model.register_forward_pre_hook(self._starts),
            model.register_forward_hook(self._ends),
        ]

    def __call__(self, loss: torch.Tensor | None = None) -> torch.Tensor:
        """`weight` times kappa of the batch that the model was last called on; to be added to its loss.

        Args:
            loss: None: closed form, for the layer that gives the model's output. Else the scalar loss of that batch,
                for any layer; with float16 autocast give it unscaled and mind underflow, bfloat16 is safe.

        Returns:
            Scalar, in float32 or better, with gradient.

        Raises:
            RuntimeError: The layer has not run, or ran more than once, or without gradients; or it is frozen.
            ValueError: The closed form does not hold for this layer, or `loss` does not depend on it.
        """
        (phi, z), output = self._last_run()
        with torch.autocast(device_type=z.device.type, enabled=False):
            kappa = self._closed(phi, z, output) if loss is None else self._estimated(phi, z, loss)
        self.kappa = kappa.detach()
        return self.weight * kappa

    def close(self) -> None:
        """Leave the model as it was, before it is pickled for instance. May be called twice."""
        for handle in self._handles:
            handle.remove()
        self._runs, self._output = [], None

    def __enter__(self) -> FAM:
        """Itself; at the end of the block it is closed."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    # --- what the model leaves -----------------------------------------------------------------------------------

    def _starts(self, _model: torch.nn.Module, _args: object) -> None:
        self._runs, self._output = [], None

    def _ran(
        self, _layer: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], z: torch.Tensor
    ) -> torch.Tensor:
        self._runs.append((args[0] if args else kwargs["input"], z))
        return z.clone()  # what follows may write into its input, as ReLU(inplace=True) does

    def _normalised(self, norm: Any, args: tuple[Any, ...], out: torch.Tensor) -> torch.Tensor | None:
        """The same output, to rounding, with right third derivatives; None leaves it as it is."""
        if not self._runs or not out.requires_grad:
            return None
        x: torch.Tensor = args[0]
        axes, shape = _statistics_of(norm, x.ndim)
        if not axes:
            return None  # its mean and scale are constants
        variance, mean = torch.var_mean(x, dim=axes, correction=0, keepdim=True)
        found: torch.Tensor = (x - mean) * (variance + norm.eps).rsqrt()
        if norm.weight is not None:
            found = found * norm.weight.reshape(shape)
        return found if norm.bias is None else found + norm.bias.reshape(shape)

    def _ends(self, _model: torch.nn.Module, _args: object, output: object) -> None:
        self._output = output

    def _last_run(self) -> tuple[tuple[torch.Tensor, torch.Tensor], object]:
        """Input and output of the layer, output of the model; forgotten here so that no graph outlives its step."""
        runs, output = self._runs, self._output
        self._runs, self._output = [], None
        if len(runs) != 1:
            said = f"ran {len(runs)} times in one forward pass" if runs else "has not run since the last call"
            raise RuntimeError(f"layer '{self._name}' {said}: call the model, which uses it once, and then fam, once")
        if not self._layer.weight.requires_grad:
            raise RuntimeError(f"layer '{self._name}' is frozen: its weight.requires_grad is False; choose another one")
        if not runs[0][1].requires_grad:
            raise RuntimeError(f"layer '{self._name}' ran without gradients: call the model outside torch.no_grad()")
        return runs[0], output

    # --- both ways to kappa --------------------------------------------------------------------------------------

    def _closed(self, phi: torch.Tensor, z: torch.Tensor, output: object) -> torch.Tensor:
        if not isinstance(self._layer, torch.nn.Linear) or z.ndim != 2 or not _is_same(output, z):
            raise ValueError(
                f"layer '{self._name}' does not give the model's output as one row of values a sample, so that its "
                "curvature depends on what follows: call fam(loss) with the batch's loss"
            )
        if not {Loss.SOFTMAX: z.shape[1] > 1, Loss.SIGMOID: z.shape[1] == 1}.get(self._criterion, True):
            raise ValueError(
                f"layer '{self._name}' has {z.shape[1]} outputs, which do not go with criterion "
                f"'{self._criterion.name.lower()}': a sigmoid has one, a softmax several; or call fam(loss)"
            )
        features, weight = self._measured(phi)
        kappa = per_sample_trace(self._criterion, features, weight, z).mean()
        return kappa.to(torch.promote_types(z.dtype, torch.float32))

    def _estimated(self, phi: torch.Tensor, z: torch.Tensor, loss: torch.Tensor) -> torch.Tensor:
        """E_R <u, (d2 loss / dz2) u>; u is no function of z, so that it passes the inner derivative unchanged."""
        (slope,) = torch.autograd.grad(loss, z, create_graph=True, allow_unused=True)
        if slope is None:
            raise ValueError(f"the loss given does not depend on layer '{self._name}' in the model's last call")
        self._refuse_wrong_derivatives(loss, z)
        features, weight = self._measured(phi)
        if not slope.requires_grad:
            return 0 * weight.sum()  # the loss is linear in z
        total = weight.new_zeros(())
        for _ in range(self._probes):
            u = self._moved(features, weight)
            (bent,) = torch.autograd.grad(slope, z, u.to(z.dtype), create_graph=True, materialize_grads=True)
            total = total + (bent.to(u.dtype) * u).sum()
        return total / self._probes

    def _refuse_wrong_derivatives(self, loss: torch.Tensor, z: torch.Tensor) -> None:
        """Look once at what lies between the layer and the loss."""
        if self._graph_is_fine:
            return
        if name := _wrong_third(loss.grad_fn, z.grad_fn):
            raise ValueError(
                f"layer '{self._name}' is followed by {name}, called as a function, whose third derivative is wrong in "
                "PyTorch, so that the gradient would be: use the layer torch.nn.LayerNorm or torch.nn.BatchNorm"
            )
        self._graph_is_fine = True

    def _measured(self, phi: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features and weight in float32 or better, as they are or normalised by neuron."""
        dtype = torch.promote_types(self._layer.weight.dtype, torch.float32)
        features, weight = phi.to(dtype), self._layer.weight.to(dtype)
        if self._normalise == "none":
            return features, weight
        rows = features.flatten(0, -2)
        varies = (rows != rows[0]).any(dim=0)  # a constant feature acts as a bias: left out, as in _flatness
        scale = torch.where(varies, rows.var(dim=0, correction=0), 1.0).sqrt()
        return features * (varies / scale), weight * torch.where(varies, scale, 0.0)

    def _moved(self, features: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """u: what z gains when W gains W R, for a new R."""
        flat = weight.flatten(1)
        if isinstance(self._layer, torch.nn.Linear):
            signs = self._signs(flat.shape[1], flat)
            if features.numel() < flat.numel():
                return features @ signs.T @ flat.T  # fewer rows than outputs: cheaper than W R
            return torch.nn.functional.linear(features, flat @ signs)
        groups = flat.chunk(self._layer.groups)  # each a layer of its own, on inputs of its own
        step = torch.cat([part @ self._signs(part.shape[1], part) for part in groups]).view_as(weight)
        moved: torch.Tensor = self._layer._conv_forward(features, step, None)
        return moved

    def _signs(self, size: int, like: torch.Tensor) -> torch.Tensor:
        """R (size, size): independent, 1 or -1 with equal probability."""
        if self._generator is None or self._generator.device != like.device:
            self._generator = torch.Generator(like.device).manual_seed(self._seed)
        bits = torch.randint(
            0,
            2,
            (size, size),
            dtype=torch.int8,  # drawn fastest
            device=like.device,
            generator=self._generator,
        )
        return bits.mul_(2).sub_(1).to(like.dtype)


def _find(model: torch.nn.Module, wanted: str | None) -> tuple[str, _Layer]:
    known = {name: layer for name, layer in model.named_modules() if isinstance(layer, MEASURED)}
    linear = [name for name, layer in known.items() if isinstance(layer, torch.nn.Linear)]
    name = (linear or [""])[-1] if wanted is None else wanted
    if name in known:
        return name, known[name]
    other = dict(model.named_modules()).get(name) if wanted else None
    if other is not None:
        raise ValueError(f"layer '{name}' is a {type(other).__name__}, wanted a torch.nn.Linear or a convolution")
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or list(known)[-3:]
    raise ValueError(
        f"no layer '{name}'; the nearest are {', '.join(map(repr, near))}"
        if near
        else "the model has no torch.nn.Linear and no convolution"
    )


def _statistics_of(norm: Any, dimensions: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Axes that mean and scale are taken over, none for kept ones, and the shape in which its weight is applied."""
    if isinstance(norm, torch.nn.LayerNorm):
        return tuple(range(-len(norm.normalized_shape), 0)), tuple(norm.normalized_shape)
    if not norm.training and norm.running_mean is not None:
        return (), ()
    rows = (0,) if isinstance(norm, torch.nn.modules.batchnorm._BatchNorm) else ()
    return (*rows, *range(2, dimensions)), (-1, *[1] * (dimensions - 2))


def _wrong_third(loss: Any, z: Any) -> str:
    """Name of a step between z and the loss that PyTorch cannot derive a third time; empty where there is none."""
    reaches: dict[Any, bool] = {None: False, z: True}
    stack = [loss]
    while stack:
        node = stack[-1]
        below = [child for child, _ in node.next_functions] if node not in reaches else []
        waiting = [child for child in below if child not in reaches]
        if waiting:
            stack.extend(waiting)
            continue
        stack.pop()
        if node in reaches:
            continue
        reaches[node] = any(reaches[child] for child in below)
        name: str = node.name()
        if reaches[node] and name.startswith(_WRONG_THIRD) and getattr(node, "_saved_training", True):
            return name.partition("Backward")[0]
    return ""


def _is_same(output: object, z: torch.Tensor) -> bool:
    """Whether the model's output holds the values of z and no others, read from the graph between them."""
    if not isinstance(output, torch.Tensor) or output.numel() != z.numel():
        return False
    node = output.grad_fn
    while node is not None and node is not z.grad_fn:
        if node.name().removesuffix("0").removesuffix("1").removesuffix("Backward") not in _KEEP_VALUES:
            return False
        node = node.next_functions[0][0]
    return node is not None
