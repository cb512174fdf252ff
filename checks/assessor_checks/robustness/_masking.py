"""Signs that an attack failed rather than that the model held: masked gradients, random answers, flat surfaces.

Sources: Athalye, Carlini, Wagner 2018, "Obfuscated gradients give a false sense of security" (ICML, arXiv 1802.00420),
section 3.1; Carlini et al. 2019, "On evaluating adversarial robustness" (arXiv 1902.06705), section 5; the warnings of
the standard ensemble (Croce and Hein 2020, arXiv 2003.01690). The absence of signs proves nothing.

Inputs are (n, ...), labels (n,) int64, all on one device; `logits_of` maps inputs to (n, C).
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from assessor.contract import NotApplicable, Table, in_batches
from assessor_checks._balls import Ball
from assessor_checks._intervals import clopper_pearson
from assessor_checks._pgd import ROWS, Logits, Plan, campaign

FLAT_SHARE = 0.05  # more attacked rows than this standing without a gradient to follow: masked
BLIND_SHARE = 0.005  # surely more attacked rows than this fooled without gradients only: masked or too weak
LOST_SHARE = 0.05  # more rows than this, on balance, fooled by a shorter climb only: misleading gradients
UNFOOLED_SHARE = 0.1  # more rows than this standing with the whole range allowed: masked
FEW = 3  # fewer rows than this are chance, whatever their share
SHORTER = 4  # the short climb has this part of the steps
_POINTS = 4  # random points of a row's ball at which its outputs are compared
_NOISE = 1e-4  # difference of outputs, by their length, that rounding may cause (as in the standard ensemble)


class Signs(NamedTuple):
    """What was seen; counts of rows, None where it was not tried.

    Attributes:
        rows: Rows attacked: those classified rightly before.
        standing: Of them, rows that no attack fooled.
        unsteady: Rows whose outputs differ between two passes, of all rows asked.
        broken: Attacked rows that met NaN or infinite outputs or gradients.
        flat: Standing rows whose gradient at the first point is exactly 0.
        still: Standing rows whose outputs are the same at random points of their ball.
        blind: Rows that a search without gradients fooled after the gradient attack.
        lost: Rows that a short climb fooled and a longer one did not, less those the other way round.
        lost_of: Rows both were tried on.
        unfooled: Rows that stand with the whole range of the data allowed.
    """

    rows: int
    standing: int
    unsteady: int
    broken: int
    flat: int
    still: int
    blind: int | None = None
    lost: int | None = None
    lost_of: int = 0
    unfooled: int | None = None


def refuse_batch_statistics(module: torch.nn.Module) -> None:
    """Refuse a module whose answer to a row depends on the other rows of its batch.

    Raises:
        NotApplicable: A normalisation layer is in train mode or uses the statistics of the batch.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            if layer.training:
                raise NotApplicable(f"layer '{name}' is in train mode; the model must be in eval mode")
            if layer.running_mean is None:
                raise NotApplicable(
                    f"layer '{name}' normalises by the batch it is given, so that no row has an answer of its own"
                )


@torch.no_grad()
def unsteady(logits_of: Logits, inputs: torch.Tensor) -> torch.Tensor:
    """(n,) bool: rows whose outputs differ between two passes, the second with the rows in reverse order.

    Differences up to 1e-4 of the outputs' length (more in half precision) are rounding; NaN equals NaN.
    """
    one = in_batches(logits_of, inputs, size=ROWS, work="forward")
    two = in_batches(logits_of, inputs.flip(0), size=ROWS, work="forward").flip(0)
    length = torch.linalg.vector_norm(one.nan_to_num(0.0, 0.0, 0.0), dim=1, dtype=torch.float64)
    apart = torch.linalg.vector_norm((one - two).nan_to_num(0.0, 0.0, 0.0), dim=1, dtype=torch.float64)
    noise = max(_NOISE, 8 * torch.finfo(one.dtype).eps)
    differs = apart > noise * torch.maximum(length, length.mean())
    odd = (one.isfinite() != two.isfinite()).any(dim=1)
    found: torch.Tensor = differs | odd
    return found


@torch.no_grad()
def still(logits_of: Logits, inputs: torch.Tensor, ball: Ball, generator: torch.Generator) -> torch.Tensor:
    """(n,) bool: rows whose outputs are exactly the same at a few random points of their ball as at themselves."""

    def some(rows: torch.Tensor) -> torch.Tensor:
        near = ball.near(inputs[rows])
        here = logits_of(near.clean)
        same = torch.ones(len(rows), dtype=torch.bool, device=inputs.device)
        for _ in range(_POINTS):
            same &= (logits_of(near.random(generator)) == here).all(dim=1)
        return same

    every = torch.arange(len(inputs), device=inputs.device)
    return in_batches(some, every, size=ROWS, work="backward") if len(inputs) else every.bool()


def lost_by_steps(logits_of: Logits, inputs: torch.Tensor, labels: torch.Tensor, ball: Ball, plan: Plan) -> int:
    """Rows that a quarter of the plan's steps fools and all of them do not, less those the other way round.

    Both begin at the clean row and know nothing of each other. More steps follow the gradient more closely: where that
    helps the model, the gradient misleads.
    """
    generator = torch.Generator(inputs.device)  # never asked: both starts are the clean rows
    short, whole = (
        campaign(logits_of, inputs, labels, ball, plan._replace(steps=steps, restarts=1, clean_start=True), generator)
        for steps in (max(1, plan.steps // SHORTER), plan.steps)
    )
    return int((whole.standing & ~short.standing).sum() - (short.standing & ~whole.standing).sum())


def doubt(signs: Signs) -> str | None:
    """Why the standing rows may not be robust, or None."""
    found = []
    if signs.unsteady:
        found.append(
            f"the model answers the same input differently from pass to pass ({signs.unsteady} rows), so that rows may "
            "count as fooled by chance, and gradients are noise; attack the average over many passes instead"
        )
    if signs.broken:
        found.append(f"the model gave NaN or infinite outputs or gradients on the way for {signs.broken} rows")
    flat, still = signs.flat > FLAT_SHARE * signs.rows, signs.still > FLAT_SHARE * signs.rows
    if still:
        found.append(
            f"the outputs do not change at all within the distance for {signs.still} of {signs.rows} rows, as with "
            "saturated outputs or a model that ignores its inputs"
        )
    if flat:
        found.append(f"the gradient is exactly 0 for {signs.flat} of {signs.rows} rows, which stand")
    if signs.blind and clopper_pearson(signs.blind, signs.rows).low > BLIND_SHARE:
        found.append(
            f"a search without gradients fooled {signs.blind} rows that the gradient attack had left standing, so that "
            "other attacks may fool more"
        )
    if signs.lost is not None and signs.lost >= FEW and signs.lost > LOST_SHARE * signs.lost_of:
        found.append(f"with more steps the attack fooled {signs.lost} rows fewer")
    if signs.unfooled is not None and signs.unfooled > UNFOOLED_SHARE * signs.rows:
        found.append(f"even with the whole range of the data allowed, {signs.unfooled} of {signs.rows} rows stand")
    return f"The gradients may be masked or the attack too weak: {'; '.join(found)}." if found else None


def table(signs: Signs) -> Table:
    """Every sanity check with what it found and from where on it makes the result doubtful."""
    rows = (
        ("outputs differ between two passes", signs.unsteady, signs.rows, 0.0),
        ("NaN or infinite outputs or gradients", signs.broken, signs.rows, 0.0),
        ("no gradient, and standing", signs.flat, signs.rows, FLAT_SHARE),
        ("outputs the same all around, and standing", signs.still, signs.rows, FLAT_SHARE),
        ("fooled without gradients only", signs.blind, signs.rows, BLIND_SHARE),
        ("fooled by fewer steps only, on balance", signs.lost, signs.lost_of, LOST_SHARE),
        ("standing with the whole range allowed", signs.unfooled, signs.rows, UNFOOLED_SHARE),
    )
    return Table(
        name="sanity",
        title="Signs of masked gradients",
        columns=("sign", "rows", "of", "doubtful above this share"),
        rows=rows,
    )
