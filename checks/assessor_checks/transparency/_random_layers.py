"""Networks with some of their layers made random, and how alike the explanations stay.

Source: Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim 2018, "Sanity Checks for Saliency Maps" (arXiv 1810.03292),
model parameter randomization test: layers are randomised from the output downwards (cascading), or one group at a time
(independent). Modules are never changed: parameters are lent to them for a pass.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch.func import functional_call

from assessor.contract import NotApplicable, Subject, progress, spread
from assessor_checks._gradient_attributions import Held, Logits, net_of
from assessor_checks._interpolation import State, layers_of, state_of
from assessor_checks.transparency._attributions import Explainer
from assessor_checks.transparency._randomization import seed_of
from assessor_checks.transparency._similarity import spearman, ssim


class Layers(NamedTuple):
    """Likeness (models, n) of explanations after randomising, by stage from the output down.

    Attributes:
        stages: Names of the layers.
        cascading: Rank correlation with all layers down to here random.
        absolute: The same of absolute values.
        alone: Rank correlation with these layers alone random.
        pictures: Structural similarity with all layers random; None for tables.
        shuffled: Layers that do not say how they are initialised, so that their entries were shuffled.
    """

    stages: list[tuple[str, ...]]
    cascading: list[np.ndarray]
    absolute: list[np.ndarray]
    alone: list[np.ndarray]
    pictures: np.ndarray | None
    shuffled: tuple[str, ...]


def randomised(subject: Subject, explainer: Explainer, here: np.ndarray, *, models: int, stages: int) -> Layers:
    """Likeness to the explanations of random models.

    Args:
        subject: A PyTorch module.
        explainer: How, and which rows.
        here: (n, K) scores of the trained model.
        models: Random models, each drawn anew.
        stages: Groups that layers are put into at most.

    Returns:
        The likenesses.

    Raises:
        NotApplicable: The module has no parameters.
    """
    groups = stages_of(subject.module, stages)
    if not groups:
        raise NotApplicable("the module has no parameters that could be made random")
    drawn = spread(partial(_drawn, subject, explainer, here, groups, models), range(models))
    likeness = np.stack([one.likeness for one in drawn], axis=2)
    pictures = [one.pictures for one in drawn if one.pictures is not None]
    cascading, absolute, alone = (list(kind) for kind in likeness)
    return Layers(groups, cascading, absolute, alone, np.stack(pictures) if pictures else None, drawn[-1].shuffled)


class _Drawn(NamedTuple):
    """One random model: likeness (3, stages, n) cascading, absolute and alone; pictures (n,) with all layers random."""

    likeness: np.ndarray
    pictures: np.ndarray | None
    shuffled: tuple[str, ...]


def _drawn(
    subject: Subject, explainer: Explainer, here: np.ndarray, groups: list[tuple[str, ...]], models: int, number: int
) -> _Drawn:
    fresh, shuffled = fresh_state(subject.module, seed_of(explainer.seed, number))

    def explained(chosen: list[tuple[str, ...]]) -> np.ndarray:
        state = partly(subject.module, fresh, [name for group in chosen for name in group])
        logits = logits_with(subject.module, subject.logits, state)
        return explainer.scores(net_of(subject, logits, explainer.params.explained).model)

    rows, down = [], here
    for stage in range(len(groups)):
        alone = explained(groups[stage : stage + 1])
        down = explained(groups[: stage + 1]) if stage else alone
        rows.append((spearman(here, down), spearman(np.abs(here), np.abs(down)), spearman(here, alone)))
        progress("random models explained", number * len(groups) + stage + 1, models * len(groups))
    return _Drawn(np.stack(rows, axis=1), _pictures(np.abs(here), np.abs(down), explainer), shuffled)


def _pictures(here: np.ndarray, there: np.ndarray, explainer: Explainer) -> np.ndarray | None:
    """(n,) structural similarity of attributions drawn as pictures; None for tables and tiny pictures."""
    shape = explainer.rows.x.shape
    if len(shape) not in {3, 4}:
        return None
    height, width = (-(-side // explainer.params.patch) for side in shape[-2:])
    if min(height, width) < 3:
        return None
    return ssim(*(each.reshape(-1, height, width) for each in (here, there)))


def stages_of(module: torch.nn.Module, most: int) -> list[tuple[str, ...]]:
    """Layers in groups of about equal number, those nearest to the output first.

    Args:
        module: Its layers stand in the order in which it registers them.
        most: Groups at most.

    Returns:
        Names of the layers by group.
    """
    layers = list(layers_of(module, state_of(module)))[::-1]
    groups = np.array_split(np.arange(len(layers)), min(most, len(layers))) if layers else []
    return [tuple(layers[position] for position in group) for group in groups]


def fresh_state(module: torch.nn.Module, seed: int) -> tuple[State, tuple[str, ...]]:
    """Parameters and buffers as of a module of this kind that was never trained.

    A layer that knows how it is initialised (`reset_parameters`) is initialised anew; the entries of other layers'
    parameters are shuffled, which keeps their scale and takes away what they learned. The module is not touched.

    Args:
        module: The trained one.
        seed: Of what is drawn.

    Returns:
        The state, and the names of the layers that were shuffled.
    """
    twin, shuffled = copy.deepcopy(module), []
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), torch.no_grad():
        torch.manual_seed(seed)
        for layer in layers_of(twin, state_of(twin)):
            held = twin if layer == "(root)" else twin.get_submodule(layer)
            if layer != "(root)" and callable(reset := getattr(held, "reset_parameters", None)):
                reset()
                continue
            shuffled.append(layer)
            for value in held.parameters(recurse=False):
                value.copy_(value.flatten()[torch.randperm(value.numel(), device=value.device)].view_as(value))
    return state_of(twin), tuple(shuffled)


def partly(module: torch.nn.Module, fresh: State, layers: Collection[str]) -> State:
    """What of a fresh state belongs to these layers."""
    names = layers_of(module, fresh)
    return {name: fresh[name] for layer in layers for name in names[layer]}


def logits_with(module: torch.nn.Module, logits: Logits, state: State) -> Logits:
    """Logits of the module with these parameters in place of its own."""
    held, lent = Held(module, logits), {f"module.{name}": value for name, value in state.items()}

    def outputs(x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = functional_call(held, lent, (x,))
        return found

    return outputs
