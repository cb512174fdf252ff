"""Attributions by captum (optional): DeepLift and LIME.

Sources: DeepLift, Shrikumar, Greenside, Kundaje 2017 (arXiv 1704.02685), its Rescale rule; LIME, Ribeiro, Singh,
Guestrin 2016 (arXiv 1602.04938), equation 1, with ridge regression of strength 1 and the kernel exp(-d^2 / w^2) of
section 3.4, d the cosine distance of the set of kept parts from the set of all, w = 0.25 as in its authors' package.
LIME draws from torch's global generator: it is seeded here and put back.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch

from assessor.contract import NotApplicable, progress
from assessor_checks._attribution_method import AttributionParams, Method
from assessor_checks._explained import Model, Parts, Rows
from assessor_checks._gradient_attributions import Held, Net

_WIDTH = 0.25


def attribute(
    model: Model, rows: Rows, parts: Parts, method: Method, params: AttributionParams, seed: int
) -> np.ndarray:
    """(n, K) attributions of every player.

    Args:
        model: What is explained.
        rows: Rows, classes, baselines.
        parts: Players.
        method: deep_lift or lime.
        params: Their settings.
        seed: Of what is drawn.

    Returns:
        The attributions.

    Raises:
        NotApplicable: Captum is not installed, or the method cannot follow this model or output.
    """
    try:
        import captum.attr as methods  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise NotApplicable(
            f"{method} needs the package captum: pip install 'ai-assessor[explain]', or set another method"
        ) from None
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), warnings.catch_warnings():
        torch.manual_seed(seed)
        warnings.simplefilter("ignore")  # captum warns of the hooks that it sets and removes
        if method == "lime":
            return _lime(methods, model, rows, parts, params.samples)
        assert model.net is not None
        return parts.sums(_deep_lift(methods, model.net, rows).detach().double().cpu().numpy())


def _deep_lift(methods: Any, net: Net, rows: Rows) -> torch.Tensor:
    """(n, ...) mean over the baselines; DeepLift's rules follow differences up to the logits and no further."""
    x = net.inputs(rows.x)
    classes = net.logits(x[:1]).ndim > 1
    if classes and net.explained != "logit":
        raise NotApplicable("deep_lift follows differences up to the logits; set explained: logit")
    target = torch.from_numpy(rows.classes).to(net.device) if classes else None
    lift = methods.DeepLift(Held(net.module, net.logits))
    try:
        found = [lift.attribute(x, baselines=net.inputs(base), target=target) for base in rows.baselines]
    except (RuntimeError, AssertionError, AttributeError) as fault:
        raise NotApplicable(f"deep_lift cannot follow this model ({fault}); set another method") from fault
    return torch.stack(found).mean(dim=0)


def _lime(methods: Any, model: Model, rows: Rows, parts: Parts, samples: int) -> np.ndarray:
    """(n, K) coefficients, row by row: a regression for each."""
    from captum._utils.models.linear_model import SkLearnRidge  # type: ignore[import-untyped,unused-ignore]

    mask, base = torch.from_numpy(np.ascontiguousarray(parts.of))[None], rows.baselines.mean(axis=0)
    found = np.empty((len(rows.x), parts.count))
    for row in range(len(rows.x)):
        wanted = rows.classes[row : row + 1]

        def forward(x: torch.Tensor, wanted: np.ndarray = wanted) -> torch.Tensor:
            return torch.from_numpy(model.values(x.numpy().astype(rows.x.dtype), np.repeat(wanted, len(x))))

        lime = methods.Lime(forward, interpretable_model=SkLearnRidge(alpha=1.0), similarity_func=_similarity)
        found[row] = lime.attribute(
            torch.from_numpy(rows.x[row : row + 1].astype(np.float64)),
            baselines=torch.from_numpy(base[row : row + 1].astype(np.float64)),
            feature_mask=mask,
            n_samples=samples,
            perturbations_per_eval=samples,
            return_input_shape=False,
        )[0].numpy()
        progress("rows explained by LIME", row + 1, len(rows.x))
    return found


def _similarity(original: torch.Tensor, perturbed: torch.Tensor, kept: torch.Tensor, **_: object) -> float:
    """Weight of a perturbed copy by the share of parts that it keeps."""
    distance = 1 - math.sqrt(float(kept.double().mean()))
    return math.exp(-((distance / _WIDTH) ** 2))
