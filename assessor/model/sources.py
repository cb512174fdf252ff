"""Where a model is: one field a format, never told by trying."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, StringConstraints, model_validator

from assessor.contract import Frozen
from assessor.model.words import Text

Callable_ = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*$")]
Pointer = Annotated[str, StringConstraints(pattern=r"^(/[^/]+)*$")]

FILE_FORMATS = ("safetensors", "state_dict", "torch_export", "torchscript", "sklearn", "joblib", "pickle", "xgboost",
                "lightgbm", "onnx")  # fmt: skip
FORMS = ("load", *FILE_FORMATS, "transformers", "endpoint", "predictions")
BUILT = ("safetensors", "state_dict")
"""Formats of weights alone: `build` gives the module that they belong to."""


class EndpointSpec(Frozen):
    """A model behind HTTP, and how much may be asked of it.

    Attributes:
        url: Address, https or on this machine; with `openapi` that of the server, else of the call itself.
        api: "json": rows in, outputs out, as named here; "openai": chat completions, one row a request.
        openapi: A file with the OpenAPI document of the server (JSON or YAML).
        operation: operationId of the call in it.
        inputs: JSON pointer of the rows in the request.
        outputs: JSON pointer of the outputs in the answer, one a row.
        body: Further fields of every request.
        model: Name of the model, for "openai".
        headers: Header to the name of the environment variable that holds its value; secrets stay out of files.
        rate: Requests a second at most.
        timeout: Seconds for an answer.
        retries: Times that a request is sent again after 429, 5xx or no answer.
        batch: Rows a request, for "json".
        max_requests: Requests at most; nothing is asked when more are wanted for the data alone.
        request_cost: What a request costs, in any currency.
        token_cost: What a token costs, for "openai".
        max_cost: What may be spent at most.
        insecure: Whether http to another machine is allowed.
    """

    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s@]+$")]
    api: Literal["json", "openai"] = "json"
    openapi: str | None = None
    operation: Text | None = None
    inputs: Pointer = "/inputs"
    outputs: Pointer = "/outputs"
    body: Mapping[str, JsonValue] = Field(default_factory=dict)
    model: Text | None = None
    headers: Mapping[str, Variable] = Field(default_factory=dict)
    rate: float = Field(default=10.0, gt=0, le=10_000)
    timeout: float = Field(default=60.0, gt=0, le=3600)
    retries: int = Field(default=4, ge=0, le=20)
    batch: int = Field(default=32, ge=1, le=10_000)
    max_requests: int = Field(default=10_000, ge=1)
    request_cost: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    token_cost: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    max_cost: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    insecure: bool = False

    @model_validator(mode="after")
    def _whole(self) -> EndpointSpec:
        if (self.openapi is None) != (self.operation is None):
            raise ValueError("wanted openapi (a file) and operation (an operationId in it) together")
        if self.api == "openai" and (self.model is None or self.openapi is not None):
            raise ValueError("api 'openai': wanted model (its name there) and no openapi")
        return self


def _with_url(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value


class ModelForm(Frozen):
    """Where a model is: exactly one of the formats, named by its field.

    Attributes:
        load: `module:callable` that gives the trained model.
        safetensors: Weights in a safetensors file; `build` gives the module.
        state_dict: Weights as torch.save wrote them; `build` gives the module.
        torch_export: A program as torch.export.save wrote it.
        torchscript: A module as torch.jit.save wrote it.
        sklearn: An estimator as skops.io.dump wrote it.
        joblib: An estimator as joblib.dump wrote it; loading runs its code.
        pickle: An estimator or a module as pickle.dump wrote it; loading runs its code.
        xgboost: A booster as JSON or UBJSON.
        lightgbm: A booster as text.
        onnx: An ONNX model.
        transformers: A folder with a Hugging Face model.
        endpoint: The address of a served model, or more about it.
        build: Gives a new, untrained PyTorch module of the same architecture.
        files: Files that hold the model; they are looked into before it is loaded.
        output: Which output of an ONNX model is meant.
        trusted: Types in a skops file that somebody vouches for.
        prompt: For a language model: the text around {text}.
        words: For a language model: what it answers for each class, in their order.
        length: Tokens of a text at most; default what the model takes.
    """

    load: Callable_ | None = None
    safetensors: Text | None = None
    state_dict: Text | None = None
    torch_export: Text | None = None
    torchscript: Text | None = None
    sklearn: Text | None = None
    joblib: Text | None = None
    pickle: Text | None = None
    xgboost: Text | None = None
    lightgbm: Text | None = None
    onnx: Text | None = None
    transformers: Text | None = None
    endpoint: EndpointSpec | None = None
    build: Callable_ | None = None
    files: tuple[str, ...] = ()
    output: Text | None = None
    trusted: tuple[Text, ...] = ()
    prompt: Annotated[str, StringConstraints(pattern=r"(?s)^.*\{text\}.*$")] | None = None
    words: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = ()
    length: int | None = Field(default=None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _address(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "endpoint" in value:
            return {**value, "endpoint": _with_url(value["endpoint"])}
        return value

    @model_validator(mode="after")
    def _one(self) -> ModelForm:
        given = [name for name in FORMS if getattr(self, name, None) is not None]
        if len(given) != 1:
            known = [name for name in FORMS if name in type(self).model_fields]
            raise ValueError(f"found {' and '.join(given) or 'none'}, wanted exactly one of {', '.join(known)}")
        if given[0] in BUILT and self.build is None:
            raise ValueError(f"{given[0]}: wanted build beside it: the module:callable that gives the untrained module")
        return self

    @property
    def form(self) -> str:
        """The format: the name of the field that is set."""
        return next(name for name in FORMS if getattr(self, name, None) is not None)

    @property
    def path(self) -> str | None:
        """The file or folder that holds the model; None for code, tables and addresses."""
        form = self.form
        return getattr(self, form) if form in {*FILE_FORMATS, "transformers"} else None

    @property
    def named_files(self) -> tuple[str, ...]:
        """All that is looked into before the model is loaded: `files`, and the model itself."""
        return tuple(dict.fromkeys([*self.files, *([self.path] if self.path else [])]))


class ModelSpec(ModelForm):
    """What is measured; see `ModelForm`.

    Attributes:
        predictions: A table of predictions, when the model itself is not at hand.
        outputs: What the model gives; needed where it gives probabilities and its format does not say so.
        train: Takes features, labels (positions in `classes`, or values) and a seed; gives a PyTorch module newly
            trained on them, as the model was.
    """

    predictions: str | None = None
    outputs: Literal["logits", "probabilities"] | None = None
    train: Callable_ | None = None


class BaselineSpec(ModelForm):
    """The model to compare with: an earlier release, another client's or seed's, for the same task and data."""
