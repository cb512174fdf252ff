"""Hugging Face models from a folder: classifiers of texts and of images, and language models that choose a word.

Nothing is fetched, no code of the folder is run and no pickle is read, unless the user says --trust.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from assessor.errors import UsageError
from assessor.model import DataSpec, TargetSpec
from assessor.subjects.data import RawSplit
from assessor.subjects.extras import require
from assessor.subjects.modules import Place
from assessor.subjects.texts import prompted, with_texts

CONFIGURATION = 1 << 24  # bytes of a file with settings
KINDS = {"ForSequenceClassification": "texts", "ForImageClassification": "images", "ForCausalLM": "language",
         "LMHeadModel": "language"}  # fmt: skip
"""What a model does, by how the name of its architecture ends."""
SETTINGS = ("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor",
            "do_normalize", "image_mean", "image_std")  # fmt: skip
"""What can be said of how pictures are prepared."""

Loaded = tuple[Any, TargetSpec, Mapping[str, RawSplit]]


def transformers_model(
    place: Place, spec: TargetSpec, raws: Mapping[str, RawSplit], specs: Mapping[str, DataSpec | None], *, trust: bool
) -> Loaded:
    """The model as a PyTorch module that takes arrays, and the data as such arrays.

    Args:
        place: The folder.
        spec: `target` of assessor.yaml.
        raws: Data by split: one text a row, or pictures.
        specs: `target.data` by split.
        trust: Whether code and pickles in the folder may run.

    Returns:
        The module, the specification with the model's own class names where it has some, and the data.

    Raises:
        UsageError: The folder, its files or the data do not fit.
    """
    folder = _folder(place, trust=trust)
    settings = _settings(place, folder / "config.json")
    kind = _kind(place, settings)
    if settings.get("auto_map") and not trust:
        raise UsageError(
            f"{place.named}: config.json names code of its own (auto_map); run with --trust, if you trust it"
        )
    require("transformers", "transformers", place.named)
    model = _model(place, folder, kind, trust=trust)
    if kind == "images":
        from assessor.subjects.transformers_modules import Pictures

        prepared = _settings(place, folder / "preprocessor_config.json")
        for raw in raws.values():
            _check_pictures(raw)
        return Pictures(model, _preparation(place, prepared)), _named(spec, settings), raws
    texts = with_texts(raws, specs, place.folder)
    tokenizer = _tokenizer(place, folder, trust=trust)
    length = min(spec.model.length or 1 << 20, tokenizer.model_max_length, _positions(settings))
    if kind == "texts":
        from assessor.subjects.transformers_modules import Texts

        return Texts(model), _named(spec, settings), _changed(texts, lambda raw: _encoded(tokenizer, raw, length))
    from assessor.subjects.transformers_modules import Choices

    prompt, words = prompted(spec)
    return Choices(model), spec, _changed(texts, lambda raw: _choices(tokenizer, raw, prompt, words, length))


def _changed(raws: Mapping[str, RawSplit], change: Any) -> dict[str, RawSplit]:
    return {name: replace(raw, features=change(raw)) for name, raw in raws.items()}


# --- the folder ------------------------------------------------------------------------------------------------------


def _folder(place: Place, *, trust: bool) -> Path:
    folder = place.folder / str(place.form.transformers)
    if not (folder / "config.json").is_file():
        raise UsageError(
            f"{place.named}: found no config.json in {folder}, wanted a folder that save_pretrained wrote; models are "
            "not fetched: get it first"
        )
    if not any(folder.glob("*.safetensors")) and not trust:
        raise UsageError(
            f"{place.named}: found no safetensors in {folder}; save the model with save_pretrained(..., "
            "safe_serialization=True), or, if you trust its pickles, run with --trust"
        )
    return folder


def _settings(place: Place, path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise UsageError(f"{place.named}: no file {path.name} in {path.parent}")
    try:
        found = json.loads(path.read_text("utf-8")) if path.stat().st_size <= CONFIGURATION else None
    except (OSError, ValueError, RecursionError) as fault:
        raise UsageError(f"{place.named}: {path.name} cannot be read: {fault}") from fault
    if not isinstance(found, dict):
        raise UsageError(f"{place.named}: {path.name} holds no settings")
    return found


def _kind(place: Place, settings: Mapping[str, Any]) -> str:
    named = settings.get("architectures")
    name = str(named[0]) if isinstance(named, list) and named else "none"
    for end, kind in KINDS.items():
        if name.endswith(end):
            return kind
    raise UsageError(
        f"{place.named}: found the architecture {name}, wanted one that ends in {', '.join(KINDS)}; another model can "
        "be given by load: as a PyTorch module"
    )


def _model(place: Place, folder: Path, kind: str, *, trust: bool) -> Any:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import transformers

    made: Any = {
        "texts": transformers.AutoModelForSequenceClassification,
        "images": transformers.AutoModelForImageClassification,
        "language": transformers.AutoModelForCausalLM,
    }[kind]
    try:
        return made.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trust, use_safetensors=None if trust else True
        )
    except Exception as fault:  # the library raises anything on a folder that is not as it should be
        raise UsageError(f"{place.named}: cannot be loaded: {type(fault).__name__}: {fault}") from fault


def _tokenizer(place: Place, folder: Path, *, trust: bool) -> Any:
    import transformers

    try:
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=trust)
    except Exception as fault:  # as above
        raise UsageError(f"{place.named}: no tokenizer: {type(fault).__name__}: {fault}") from fault


def _positions(settings: Mapping[str, Any]) -> int:
    """Tokens that the model has positions for; as many as one likes where it does not say."""
    found = settings.get("max_position_embeddings") or settings.get("n_positions")
    return found if isinstance(found, int) and found > 0 else 1 << 20


def _named(spec: TargetSpec, settings: Mapping[str, Any]) -> TargetSpec:
    """With the classes that the model names, unless the user names some, or the model only numbers them."""
    names = settings.get("id2label")
    if spec.classes is not None or not spec.task.is_classification or not isinstance(names, dict):
        return spec
    classes = tuple(str(names[key]) for key in sorted(names, key=int))
    numbered = classes == tuple(f"LABEL_{place}" for place in range(len(classes)))
    return spec if numbered else spec.model_copy(update={"classes": classes})


# --- texts -----------------------------------------------------------------------------------------------------------


def _encoded(tokenizer: Any, raw: RawSplit, length: int) -> np.ndarray:
    """(n, L) int64: a token's number plus 1, 0 behind the end of a text; longer texts are cut, as in use."""
    assert raw.features is not None
    found = tokenizer(list(raw.features), truncation=True, max_length=length)["input_ids"]
    if not all(found):
        raise UsageError(f"{raw.where}: row {[not ids for ids in found].index(True)} has no token")
    return _padded(found)


def _padded(rows: list[list[int]]) -> np.ndarray:
    made = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for row, ids in enumerate(rows):
        made[row, : len(ids)] = np.array(ids, np.int64) + 1
    return made


def _choices(tokenizer: Any, raw: RawSplit, prompt: str, words: tuple[str, ...], length: int) -> np.ndarray:
    """(n, C, 2, L) int64: tokens of the prompt with each word as above, and which of them are the word's."""
    assert raw.features is not None
    whole: list[list[int]] = []
    own: list[int] = []
    for row, text in enumerate(raw.features):
        asked = prompt.replace("{text}", text)
        before = tokenizer(asked)["input_ids"]
        for word in words:
            ids = tokenizer(asked + word)["input_ids"]
            same = _alike(before, ids)
            if not 0 < same < len(ids):
                raise UsageError(f"target.model.words: '{word}' adds no token to the prompt of {raw.where} row {row}")
            if len(ids) > length:
                raise UsageError(
                    f"{raw.where}: row {row} has {len(ids)} tokens with its prompt, and the model takes {length}; "
                    "shorten the texts"
                )
            whole.append(ids)
            own.append(same)
    tokens = _padded(whole)
    places = np.arange(tokens.shape[1])
    meant = (places >= np.array(own)[:, None]) & (tokens > 0)
    both = np.stack([tokens, meant.astype(np.int64)], axis=1)
    return both.reshape(len(raw.features), len(words), 2, -1)


def _alike(one: list[int], other: list[int]) -> int:
    """How many tokens both begin with."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


# --- pictures --------------------------------------------------------------------------------------------------------


def _check_pictures(raw: RawSplit) -> None:
    rows = raw.features
    if rows is None or rows.ndim != 4 or (rows.shape[1] not in {1, 3} and rows.shape[3] not in {1, 3}):
        found = "no pictures" if rows is None else f"rows of shape {rows.shape[1:]}"
        raise UsageError(f"{raw.where}: found {found}, wanted pictures: height x width x channels, or channels first")
    if rows.dtype.kind == "f" and not ((rows >= 0) & (rows <= 1)).all():
        raise UsageError(f"{raw.where}: pixels lie from {rows.min():g} to {rows.max():g}, wanted 0 to 1, or uint8")
    if rows.dtype.kind != "f" and rows.dtype != np.uint8:
        raise UsageError(f"{raw.where}: pixels are {rows.dtype}, wanted numbers from 0 to 1, or uint8")


def _preparation(place: Place, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """How pictures are prepared, of what is known here."""
    strange = sorted(
        name
        for name, value in settings.items()
        if name.startswith("do_") and value and name not in {*SETTINGS, "do_convert_rgb"}
    )
    if strange:
        raise UsageError(
            f"{place.named}: preprocessor_config.json asks for {', '.join(strange)}, which is not known here"
        )
    return {name: settings[name] for name in SETTINGS if name in settings}
