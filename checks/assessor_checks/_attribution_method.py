"""How attributions are to be made: the parameters that all checks of explanations share."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from assessor.contract import Need, NotApplicable, Params, Subject

Method = Literal[
    "gradient",
    "gradient_x_input",
    "integrated_gradients",
    "smoothgrad",
    "occlusion",
    "shapley_sampling",
    "deep_lift",
    "lime",
]
Explained = Literal["probability", "log_odds", "logit"]
Replacement = Literal["mean", "zero", "blur", "marginal"]

SLOPES: frozenset[Method] = frozenset({"gradient", "smoothgrad"})
"""Say how fast the output changes with an entry, not how much the entry contributes."""

COMPLETE: frozenset[Method] = frozenset({"integrated_gradients", "shapley_sampling", "deep_lift"})
"""Promise that the attributions add up to the output's difference from that of the replaced input."""

STOCHASTIC: frozenset[Method] = frozenset({"smoothgrad", "shapley_sampling", "lime"})
"""Draw random numbers: another seed gives other attributions."""

BY_QUERY: frozenset[Method] = frozenset({"occlusion", "shapley_sampling"})
"""Only ask the model; ours."""

BY_CAPTUM: frozenset[Method] = frozenset({"deep_lift", "lime"})
"""Taken from captum, which is optional."""


class AttributionParams(Params):
    """What explains which output, against which replacement."""

    method: Method | None = Field(
        default=None,
        description="How attributions are made. By default integrated_gradients where the model gives gradients, else "
        "shapley_sampling. deep_lift and lime need captum (pip install 'ai-assessor[explain]').",
    )
    explained: Explained = Field(
        default="probability",
        description="The number that is explained, of the class the model predicts; log_odds and logit need a PyTorch "
        "module. For regression it is always the predicted value.",
    )
    replacement: Replacement = Field(
        default="mean",
        description="What stands for an absent feature: its mean over the train split (test split without one), 0, a "
        "blurred copy (images), or its value in other rows drawn at random (with integrated_gradients: expected "
        "gradients).",
    )
    draws: int = Field(default=5, ge=1, le=1000, description="Other rows drawn where replacement is marginal.")
    patch: int = Field(default=1, ge=1, description="Side of the square patches images are divided into, in pixels.")
    steps: int = Field(default=50, ge=1, le=10_000, description="Points on the path of integrated_gradients.")
    samples: int = Field(
        default=20,
        ge=2,
        le=100_000,
        description="Noisy copies of smoothgrad, orders of features of shapley_sampling, perturbed copies of lime; for "
        "each row.",
    )
    noise: float = Field(
        default=0.3,
        gt=0,
        description="Standard deviation of the noise of smoothgrad, in standard deviations of each feature (images: of "
        "all pixels).",
    )
    max_samples: int = Field(default=200, ge=2, description="Test rows explained at most, chosen by the seed.")

    def method_for(self, subject: Subject) -> Method:
        """The method asked for, or the one that fits the subject.

        Raises:
            NotApplicable: The subject gives no gradients and the method needs them.
        """
        gradients = Need.GRADIENTS in subject.offers
        if self.method is None:
            return "integrated_gradients" if gradients else "shapley_sampling"
        if not gradients and self.method not in {*BY_QUERY, "lime"}:
            raise NotApplicable(
                f"{self.method} needs gradients and the model gives none; set method: shapley_sampling or occlusion, "
                "which only ask the model"
            )
        return self.method
