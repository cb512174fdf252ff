"""Flatness of the adversarial loss in weight space: how much it rises when the weights move while inputs are attacked.

Source: Stutz, Hein, Schiele, "Relating Adversarially Robust Generalization to Flat Minima", ICCV 2021
(arXiv 2104.04448), section 3, with the settings of the authors' public code. With the robust loss

    R(w) = mean_i max_{||d||_inf <= eps} l(f(x_i + d; w), y_i)

and the relative ball B_xi(w): ||nu_l|| <= xi ||w_l|| for every parameter tensor l (weights and biases apart, those of
normalisation layers left out),

    average case:  E_nu R(w + nu) - R(w),           nu_l uniform on the surface of its ball (as in the authors' code)
    worst case:    max_{nu in B_xi} R(w + nu) - R(w)

so that rescaling layers changes neither. For every nu the attack on the inputs starts anew. All maxima are searched by
projected gradient ascent, so R is a lower bound of the true robust loss and the worst case a lower bound of the largest
rise that this attack can show. Parameters are swapped by `functional_call` and never written to.

Inputs are (n, ...), labels (n,) int64, on one device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch

from assessor.contract import NotApplicable, Subject, Task, in_batches
from assessor_checks._losses import per_sample_loss
from assessor_checks._pgd import ROWS, STEP_RATIO, Box

WEIGHT_STEP = 10 / 3  # step of the ascent in the weights over the ball's radius: 0.01 over 0.003 in the authors' code
_NORMALISING = ("BatchNorm", "LayerNorm", "GroupNorm", "InstanceNorm", "RMSNorm")

Parameters = Mapping[str, torch.Tensor]


class Attack(NamedTuple):
    """An attack on inputs: where they may go, how long it searches, and how often it starts."""

    box: Box
    steps: int
    restarts: int


class Surface:
    """The loss of a model over its parameters and inputs, both of which may be moved.

    Attributes:
        parameters: The parameter tensors that may move, detached; those of normalisation layers stay.
    """

    def __init__(self, subject: Subject, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        """Take the rows on which the loss is measured.

        Args:
            subject: A PyTorch classifier in eval mode.
            inputs: (n, ...) rows.
            labels: (n,) true classes.

        Raises:
            NotApplicable: No parameter may be moved.
        """
        self.inputs, self.labels = inputs, labels
        self._model = _Logits(subject)
        self.parameters: dict[str, torch.Tensor] = {
            name: value.detach()
            for name, value in self._model.named_parameters()
            if value.is_floating_point() and not _normalises(subject.module, name.removeprefix("model."))
        }
        if not any(bool(value.any()) for value in self.parameters.values()):
            raise NotApplicable("the model has no weights outside its normalisation layers, or they are all 0")

    def losses(self, parameters: Parameters, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """(rows,) float64 cross-entropy with these parameters, differentiable in them and in `x`.

        In float64 the gradient does not vanish where a float32 softmax is exactly 1.
        """
        logits = torch.func.functional_call(self._model, dict(parameters), (x,))
        return per_sample_loss(Task.MULTICLASS, logits.double(), y)

    def clean_loss(self, parameters: Parameters) -> torch.Tensor:
        """(n,) float64 losses at the rows themselves."""
        with torch.no_grad():
            return in_batches(partial(self.losses, parameters), self.inputs, self.labels, size=ROWS, work="forward")

    def robust_loss(self, parameters: Parameters, attack: Attack, generator: torch.Generator) -> torch.Tensor:
        """Largest loss of every row that the attack finds, the row itself included.

        Args:
            parameters: Values of the parameters.
            attack: Box, steps of size 2.5 radius / steps along the gradient's sign, starts uniform in the box.
            generator: Random starts, on the inputs' device.

        Returns:
            (n,) float64, at least the clean loss; NaN where the model gave NaN on the way.
        """
        worst = self.clean_loss(parameters)
        if not bool(attack.box.radius.any()):
            return worst
        attacked = partial(self._attacked, parameters, attack)
        for _ in range(attack.restarts):
            points = started(*attack.box.around(self.inputs), generator)  # of all rows: whatever the batches, the same
            worst = torch.maximum(
                worst, in_batches(attacked, points, self.inputs, self.labels, size=ROWS, work="backward")
            )
        return worst

    def _attacked(
        self, parameters: Parameters, attack: Attack, x: torch.Tensor, clean: torch.Tensor, y: torch.Tensor
    ) -> torch.Tensor:
        """(rows,) largest losses on the way from points x within the box around the clean rows."""
        low, high = attack.box.around(clean)
        stride = attack.box.radius * (STEP_RATIO / attack.steps)
        worst = x.new_full((len(x),), -torch.inf, dtype=torch.float64)
        for _ in range(attack.steps):
            x = x.detach().requires_grad_(True)
            with torch.enable_grad():
                losses = self.losses(parameters, x, y)
                (gradient,) = torch.autograd.grad(losses.sum(), x, materialize_grads=True, allow_unused=True)
            worst = torch.maximum(worst, losses.detach())
            x = torch.clamp(x.detach() + stride * gradient.sign().nan_to_num(0.0), low, high)
        with torch.no_grad():
            return torch.maximum(worst, self.losses(parameters, x, y))

    def ascend(self, attack: Attack, xi: float, generator: torch.Generator) -> tuple[dict[str, torch.Tensor], float]:
        """Parameters in the ball found by ascending the mean loss in parameters and inputs jointly.

        From a random point of the ball (direction and length uniform) and of the box, `attack.steps` steps of both,
        with the gradient over all rows; each parameter tensor along its own gradient, 10/3 of its radius, then back
        into its ball.

        Args:
            attack: Box of the inputs and number of steps.
            xi: Radius of the balls over the length of the parameter tensors.
            generator: Random starts, on the inputs' device.

        Returns:
            The parameters with the largest mean loss met on the way, and that loss.
        """
        share = torch.rand((), generator=generator, device=self.inputs.device)
        shift = {name: share * found for name, found in self.direction(xi, generator).items()}
        points = started(*attack.box.around(self.inputs), generator)
        best, most = self.moved(shift), torch.full((), -torch.inf, dtype=torch.float64, device=self.inputs.device)
        for _ in range(attack.steps):
            at = {name: value.requires_grad_(True) for name, value in self.moved(shift).items()}
            total, slopes = torch.zeros_like(most), {name: torch.zeros_like(value) for name, value in at.items()}
            climbed = partial(self._climbed, at, attack, total, slopes)
            points = in_batches(climbed, points, self.inputs, self.labels, size=ROWS, work="backward")
            better = total > most
            most = torch.where(better, total, most)
            best = {name: torch.where(better, value.detach(), best[name]) for name, value in at.items()}
            shift = self._stepped(shift, slopes, xi)
        return best, float(most) / len(self.labels)

    def _climbed(
        self,
        at: Parameters,
        attack: Attack,
        total: torch.Tensor,
        slopes: Parameters,
        x: torch.Tensor,
        clean: torch.Tensor,
        y: torch.Tensor,
    ) -> torch.Tensor:
        """Points x one step further; their loss and its slopes in the parameters are added to `total` and `slopes`."""
        x, (low, high) = x.detach().requires_grad_(True), attack.box.around(clean)
        with torch.enable_grad():
            loss = self.losses(at, x, y).sum()
            gradient, *found = torch.autograd.grad(loss, [x, *at.values()], materialize_grads=True, allow_unused=True)
        stride = attack.box.radius * (STEP_RATIO / attack.steps)
        moved = torch.clamp(x.detach() + stride * gradient.sign().nan_to_num(0.0), low, high)
        total += loss.detach()  # last: a batch that does not fit into memory has added nothing
        for slope, part in zip(slopes.values(), found, strict=True):
            slope.add_(part)
        return moved

    def _stepped(self, shift: Parameters, slopes: Parameters, xi: float) -> dict[str, torch.Tensor]:
        found = {}
        for name, value in self.parameters.items():
            radius, tiny = xi * value.norm(), torch.finfo(value.dtype).tiny
            slope = slopes[name].nan_to_num(0.0, 0.0, 0.0)
            slope = slope / slope.abs().max().clamp_min(tiny)  # first by its largest entry: no square underflows
            step = shift[name] + WEIGHT_STEP * radius * slope / slope.norm().clamp_min(tiny)
            found[name] = step * (radius / step.norm().clamp_min(tiny)).clamp_max(1.0)
        return found

    def direction(self, xi: float, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """A random nu: every parameter tensor's part uniform on the sphere of radius xi ||w_l||."""
        found = {}
        for name, value in self.parameters.items():
            draw = torch.randn(value.shape, generator=generator, device=value.device, dtype=value.dtype)
            found[name] = draw * (xi * value.norm() / draw.norm())
        return found

    def moved(self, shift: Parameters) -> dict[str, torch.Tensor]:
        """Parameters plus a nu."""
        return {name: value + shift[name] for name, value in self.parameters.items()}


class _Logits(torch.nn.Module):
    """The subject's logits as a module, so that `functional_call` can swap the model's parameters."""

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        self.model = subject.module
        self._outputs: Callable[[torch.Tensor], torch.Tensor] = subject.logits

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._outputs(x)


def started(low: torch.Tensor, high: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A point of every row's box, uniform."""
    noise = torch.rand(low.shape, generator=generator, device=low.device, dtype=low.dtype)
    return torch.lerp(low, high, noise).clamp(low, high)


def _normalises(module: torch.nn.Module, name: str) -> bool:
    """Whether the parameter belongs to a normalisation layer."""
    holder = module.get_submodule(name.rpartition(".")[0])
    return any(kind.__name__.startswith(_NORMALISING) for kind in type(holder).__mro__)
