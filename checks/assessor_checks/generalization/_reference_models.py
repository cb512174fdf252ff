"""Reference models: the subject's architecture trained anew in many ways.

The design follows the correlation studies of generalization measures: vary seed, batch size, learning rate and label
noise, stop all at one training loss, compare (Jiang, Neyshabur, Mobahi, Krishnan, Bengio, ICLR 2020, arXiv
1912.02178, section 4; Petzka et al. 2021, arXiv 2001.00939, section 5). A gap is that of the loss the model was
trained on: mean loss on test rows with their true labels, minus mean loss on training rows with the labels, noise
included, that it was shown.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple, cast

import numpy as np
import torch
from pydantic import JsonValue

from assessor.contract import NotApplicable, Subject, Task, kept, progress, spread
from assessor_checks import _flatness as flatness
from assessor_checks._layers import LastLayer, last_linear
from assessor_checks._losses import per_sample_loss

MOMENTUM = 0.9

Data = tuple[torch.Tensor, torch.Tensor]
"""Inputs (n, ...) and labels (n,)."""
Fit = dict[str, float | int | None]
"""One trained reference model in numbers, as `fitted` gives them."""


class Recipe(NamedTuple):
    """How one reference model differs from the others; label noise is a share of the training rows."""

    seed: int
    batch_size: int
    learning_rate: float
    label_noise: float


class Schedule(NamedTuple):
    """What all reference models share: optimiser, weight decay, most passes over the data, loss to stop at."""

    optimiser: Literal["adamw", "sgd"]
    weight_decay: float
    max_epochs: int
    loss_target: float


class Rows(NamedTuple):
    """What a model does on some data: (n,) losses, (n,) whether right (None for regression)."""

    losses: np.ndarray
    correct: np.ndarray | None

    @property
    def loss(self) -> float:
        """Mean loss."""
        return float(self.losses.mean())

    @property
    def error(self) -> float:
        """Share of wrong decisions; NaN for regression."""
        return math.nan if self.correct is None else float(1 - self.correct.mean())


# --- training --------------------------------------------------------------------------------------------------------


def design(
    models: int,
    *,
    learning_rates: tuple[float, ...],
    batch_sizes: tuple[int, ...],
    label_noise: tuple[float, ...],
    seed: int,
) -> tuple[Recipe, ...]:
    """A Latin hypercube: every value of each setting is used equally often, give or take one; combined by `seed`.

    Args:
        models: How many.
        learning_rates: Values to vary over.
        batch_sizes: Values to vary over.
        label_noise: Values to vary over.
        seed: Seed of the combination, and of the models' own seeds.

    Returns:
        Recipes, each with a seed of its own.

    >>> found = design(4, learning_rates=(0.1,), batch_sizes=(8, 16), label_noise=(0.0, 0.2), seed=0)
    >>> sorted(recipe.batch_size for recipe in found), sorted(recipe.label_noise for recipe in found)
    ([8, 8, 16, 16], [0.0, 0.0, 0.2, 0.2])
    """
    rng = np.random.default_rng(seed)
    columns = [rng.permutation(models) % len(values) for values in (batch_sizes, learning_rates, label_noise)]
    seeds = rng.choice(10**6, size=models, replace=False)  # short enough to be read and typed
    return tuple(
        Recipe(int(own), batch_sizes[b], learning_rates[r], label_noise[s])
        for own, b, r, s in zip(seeds, *columns, strict=True)
    )


def noisy_labels(labels: torch.Tensor, share: float, classes: int, seed: int) -> torch.Tensor:
    """Labels with a share of them wrong: another class each, drawn evenly; for regression their values exchanged.

    Args:
        labels: (n,) class indices, or targets.
        share: Of the rows, rounded to whole rows.
        classes: Number of classes; 0 for regression.
        seed: Seed of the draw.

    Returns:
        (n,) new labels; exactly round(share n) classes differ.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))].to(labels.device)
    changed = labels.clone()
    if classes:
        shift = torch.randint(1, classes, (len(rows),), generator=generator).to(labels)
        changed[rows] = (labels[rows] + shift) % classes
    else:
        changed[rows] = labels[rows.roll(1)]
    return changed


def train(task: Task, module: torch.nn.Module, data: Data, recipe: Recipe, schedule: Schedule) -> int | None:
    """Train a module in place until the mean training loss in eval mode, over all rows, is at the target.

    Args:
        task: What it does; fixes the loss: cross-entropy, or half the squared error.
        module: Gives logits, in any shape with one row a sample.
        data: Training inputs and labels.
        recipe: Batch size, learning rate, and the seed of the order of rows.
        schedule: The rest.

    Returns:
        Passes over the data, or None when the target was not reached or the loss became NaN; in eval mode.
    """
    optimiser = _optimiser(module, recipe, schedule)
    generator, (inputs, labels) = torch.Generator().manual_seed(recipe.seed), data
    for epoch in range(1, schedule.max_epochs + 1):
        module.train()
        for rows in torch.randperm(len(labels), generator=generator).to(labels.device).split(recipe.batch_size):
            if len(rows) == 1 < min(recipe.batch_size, len(labels)):
                continue  # a last batch of one row: batch normalisation cannot take it
            optimiser.zero_grad(set_to_none=True)
            per_sample_loss(task, outputs_of(task, module, inputs[rows]), labels[rows]).mean().backward()
            optimiser.step()
        loss = rows_of(task, _outputs(task, module.eval(), inputs), labels).loss
        if not math.isfinite(loss):
            return None
        if loss <= schedule.loss_target:
            return epoch
    return None


def _optimiser(module: torch.nn.Module, recipe: Recipe, schedule: Schedule) -> torch.optim.Optimizer:
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    rate, decay = recipe.learning_rate, schedule.weight_decay
    if schedule.optimiser == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=MOMENTUM, weight_decay=decay)
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)


def outputs_of(task: Task, module: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """(n, C) logits, a single one z as (0, z); for regression (n,) values. Differentiable."""
    out: torch.Tensor = module(inputs)
    return as_outputs(task, out.reshape(len(inputs), -1))


def as_outputs(task: Task, logits: torch.Tensor) -> torch.Tensor:
    """The layer's (n, d) logits as `per_sample_loss` takes them."""
    if not task.is_classification:
        return logits[:, 0]
    return torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits


@torch.no_grad()
def _outputs(task: Task, module: torch.nn.Module, inputs: torch.Tensor, batch: int = 4096) -> torch.Tensor:
    return torch.cat([outputs_of(task, module, chunk) for chunk in inputs.split(batch)])


def train_family(subject: Subject, recipes: tuple[Recipe, ...], schedule: Schedule) -> tuple[list[Fit], int]:
    """Train and measure all reference models; those that an earlier run has finished are not trained again.

    Args:
        subject: Whose architecture, data and untrained modules are used.
        recipes: One a model.
        schedule: What they share.

    Returns:
        What `fitted` gives for each, and how many different initial weights there were.

    Raises:
        NotApplicable: The built module is of another architecture, or is the assessed model itself.
    """
    work = partial(_reference, subject, recipes, schedule, state_digest(subject.module))
    found = spread(work, range(len(recipes)))
    progress("training reference model", len(recipes), len(recipes))
    return [fit for fit, _ in found], len({start for _, start in found})


def _reference(
    subject: Subject, recipes: tuple[Recipe, ...], schedule: Schedule, own: str, position: int
) -> tuple[Fit, str]:
    """What `fitted` gives for one of the recipes, and the digest of its initial weights."""
    progress("training reference model", position, len(recipes))
    recipe, (inputs, labels) = recipes[position], subject.tensors("train")
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(recipe.seed)
        module = subject.new_module()
        if _shapes(module) != _shapes(subject.module):
            raise NotApplicable("target.model.build gives a module of another architecture than the assessed model")
        start = state_digest(module)
        if start == own:
            raise NotApplicable("target.model.build gives the trained model itself, wanted an untrained one")
        shown = noisy_labels(labels, recipe.label_noise, len(subject.classes), recipe.seed)
        work = partial(fitted, subject.task, module, (inputs, shown), subject.tensors("test"), recipe, schedule)
        key: JsonValue = {"initial": start, "recipe": recipe._asdict(), "schedule": schedule._asdict()}
        found = cast("Fit", kept(key, cast("Callable[[], JsonValue]", work)))
    return {name: value if value is None else float(value) for name, value in found.items()}, start


def _shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def state_digest(module: torch.nn.Module) -> str:
    """Digest of architecture, parameters and buffers."""
    sha = hashlib.sha256(repr(module).encode())
    for name, value in sorted(module.state_dict().items()):
        array = value.detach().cpu().contiguous()
        sha.update(f"{name}{array.dtype}{tuple(array.shape)}".encode())
        sha.update(array.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


# --- measuring one model ---------------------------------------------------------------------------------------------


def rows_of(task: Task, outputs: torch.Tensor, labels: torch.Tensor) -> Rows:
    """Losses in float64 and decisions of a model on some rows."""
    losses = per_sample_loss(task, outputs.double(), labels if task.is_classification else labels.double())
    correct = (outputs.argmax(dim=1) == labels).cpu().numpy() if task.is_classification else None
    return Rows(losses.cpu().numpy(), correct)


def flatness_of(task: Task, layer: LastLayer) -> np.ndarray:
    """(n,) kappa_i of the last linear layer, features normalised neuron-wise over these rows as the authors do."""
    loss = flatness.Loss.SQUARED if not task.is_classification else flatness.Loss.SOFTMAX
    if task.is_classification and layer.logits.shape[1] == 1:
        loss = flatness.Loss.SIGMOID
    of = flatness.trace_function(loss, layer.weight, scales=flatness.feature_scale([layer.features])[None])
    chunks = flatness.in_chunks(layer.features, layer.logits)
    kappa: np.ndarray = torch.cat([of(phi, z).values[:, 0] for phi, z in chunks]).cpu().numpy()
    return kappa


def fitted(
    task: Task, module: torch.nn.Module, train_data: Data, test_data: Data, recipe: Recipe, schedule: Schedule
) -> Fit:
    """One reference model: trained, then measured; plain data, so that it can be kept.

    Args:
        task: What the models do.
        module: New and untrained; trained in place.
        train_data: Rows to train on, with the labels it is to be shown.
        test_data: Rows to test on.
        recipe: How it is trained.
        schedule: What it shares with the others.

    Returns:
        epochs, kappa, train_loss, test_loss, train_error, test_error; all None when it did not reach the target.
    """
    names = ("epochs", "kappa", "train_loss", "test_loss", "train_error", "test_error")
    epochs = train(task, module, train_data, recipe, schedule)
    if epochs is None:
        return dict.fromkeys(names)
    layer = last_linear(module, train_data[0])
    here = rows_of(task, as_outputs(task, layer.logits), train_data[1])
    there = rows_of(task, _outputs(task, module, test_data[0]), test_data[1])
    values = (epochs, float(flatness_of(task, layer).mean()), here.loss, there.loss, here.error, there.error)
    return {name: value if math.isfinite(value) else None for name, value in zip(names, values, strict=True)}


class Assessed(NamedTuple):
    """The assessed model: (n,) kappa, what it does on both splits, its training loss as loss_target counts it."""

    kappa: np.ndarray
    train: Rows
    test: Rows
    loss: float

    @property
    def flatness(self) -> float:
        """Relative flatness."""
        return float(self.kappa.mean())


def assess(subject: Subject) -> tuple[Assessed, float]:
    """The assessed model, and what one unit of loss_target is: 1 nat, or half the variance of the targets.

    Args:
        subject: A PyTorch module with train and test split.

    Returns:
        Both.

    Raises:
        NotApplicable: Too few rows, losses that are not finite, no flatness, or targets that are all equal.
    """
    sides, layer = {}, None
    for split in ("test", "train"):
        inputs, labels = subject.tensors(split)
        if len(labels) < 2:
            raise NotApplicable(f"the {split} split has {len(labels)} rows; a gap needs at least 2 on either side")
        layer = last_linear(subject.module, inputs)
        sides[split] = rows_of(subject.task, as_outputs(subject.task, layer.logits), labels)
        if bad := int((~np.isfinite(sides[split].losses)).sum()):
            raise NotApplicable(f"the model's loss is not finite for {bad} of {len(labels)} rows of the {split} split")
    assert layer is not None
    kappa = flatness_of(subject.task, layer)
    if not 0 < kappa.mean() < np.inf:
        raise NotApplicable(
            f"the relative flatness of layer '{layer.name}' is {kappa.mean():g}, which has no place on a logarithmic "
            "scale: its features are constant, or every prediction is certain to the last digit"
        )
    unit = 1.0 if subject.task.is_classification else float(np.var(subject.splits["train"].labels)) / 2
    if unit == 0:
        raise NotApplicable("all training targets are equal, so that there is nothing to train reference models for")
    return Assessed(kappa, sides["train"], sides["test"], sides["train"].loss / unit), unit
