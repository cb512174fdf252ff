"""Hugging Face models from a folder: tiny ones with random weights, against the library called directly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from assessor import yamlfile
from assessor.assessment import measure
from assessor.contract import Need
from assessor.errors import UsageError
from assessor.model import Status, TargetSpec
from assessor.project import Project
from assessor.subjects import load_subject

pytestmark = pytest.mark.slow

WORDS = ["good", "bad", "film", "not", "very", "the", "a", "was", "dull", "fine", "yes", "no", "is", "it", ":"]
TEXTS = ["the film was very good", "bad", "it was not bad", "a dull film it was", "fine", "the film is not very fine"]
LABELS = ["pos", "neg", "pos", "neg", "pos", "neg"]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: place for place, word in enumerate(["[UNK]", "[PAD]", *WORDS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]", pad_token="[PAD]", model_max_length=32)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    """A folder of three models, their data and a table."""
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        GPT2Config,
        GPT2LMHeadModel,
        ResNetConfig,
        ResNetForImageClassification,
    )

    folder = tmp_path_factory.mktemp("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    bert = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=32, id2label={0: "neg", 1: "pos"}, **sizes)
    gpt = GPT2Config(vocab_size=len(tokenizer), n_positions=32, n_embd=16, n_layer=2, n_head=2)
    net = ResNetConfig(num_channels=3, embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic",
                       num_labels=3)  # fmt: skip
    for name, model in {
        "bert": BertForSequenceClassification(bert),
        "gpt": GPT2LMHeadModel(gpt),
        "resnet": ResNetForImageClassification(net),
    }.items():
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    prepared = {"do_resize": True, "size": {"height": 16, "width": 16}, "resample": 2, "do_rescale": True,
                "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5, 0.4, 0.3],
                "image_std": [0.2, 0.3, 0.4]}  # fmt: skip
    (folder / "resnet" / "preprocessor_config.json").write_text(json.dumps(prepared))
    pd.DataFrame({"text": TEXTS, "y": LABELS, "sex": list("fmfmfm")}).to_csv(folder / "t.csv", index=False)
    (folder / "system.py").write_text(
        "import numpy as np\n"
        "rng = np.random.default_rng(0)\n"
        "X = rng.random((9, 16, 16, 3), dtype=np.float32)\n"
        "y = np.arange(9) % 3\n"
        "def floats(): return X, y\n"
        "def first(): return X.transpose(0, 3, 1, 2), y\n"
        "def bytes_(): return (X * 255).round().astype(np.uint8), y\n"
        "def large(): return rng.random((9, 32, 32, 3), dtype=np.float32), y\n"
        "def wild(): return X * 9, y\n"
        "def flat(): return X[:, 0], y\n"
    )
    return folder


DATA = {"test": {"file": "t.csv", "label": "y", "features": ["text"], "sensitive": ["sex"]}}
GPT = {"transformers": "gpt", "prompt": "{text} : is it good :", "words": [" no", " yes very"]}


def target(model: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"task": "binary", "model": model, "data": DATA, "device": "cpu", **changes}


def loaded(folder: Path, spec: dict[str, Any], *, trust: bool = False) -> Any:
    return load_subject(TargetSpec.model_validate(spec), folder, trust=trust)[0]


def refusal(folder: Path, spec: dict[str, Any]) -> str:
    with pytest.raises(UsageError) as caught:
        loaded(folder, spec)
    return str(caught.value)


@torch.no_grad()
def said(folder: Path, tokenizer: Any) -> np.ndarray:
    """The text classifier's probabilities, one text at a time, as the library gives them."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder / "bert").eval()
    logits = [model(**tokenizer(text, return_tensors="pt", return_token_type_ids=False)).logits[0] for text in TEXTS]
    return torch.stack(logits).double().softmax(dim=1).numpy()


def test_a_classifier_of_texts_through_the_engine(models: Path, tokenizer: Any, tmp_path: Path) -> None:
    configuration = {
        "format": 1,
        "catalog": {"id": "ai-assessment-catalog", "version": "1.1.0"},
        "system": {"name": "texts", "version": "1"},
        "target": target({"transformers": "bert"}),
    }
    files = {"assessor.yaml": yamlfile.dump(configuration).encode()}
    project = Project.create(tmp_path / "a", files, actor="tester", action="init")
    shutil.copytree(models / "bert", project.folder / "bert")
    shutil.copy(models / "t.csv", project.folder / "t.csv")
    ids = ["reliability.performance", "uncertainty.calibration", "reliability.determinism", "robustness.pgd_accuracy",
           "generalization.sharpness", "robustness.decision_attack"]  # fmt: skip
    runs = {run.check: run for run in measure(project, ids)}
    right = said(models, tokenizer).argmax(axis=1) == np.array([label == "pos" for label in LABELS])
    result = runs["reliability.performance"].result
    assert result is not None
    assert result.metric("accuracy").value == right.mean()
    assert runs["reliability.determinism"].outcome.status is Status.MEASURED
    assert runs["uncertainty.calibration"].outcome.status is Status.MEASURED
    for name in ("robustness.pgd_accuracy", "robustness.decision_attack"):
        assert runs[name].outcome.status is Status.NOT_APPLICABLE
        assert "inputs are of type int64, wanted floating-point numbers" in runs[name].outcome.sentence
    assert "bert/model.safetensors" in runs["reliability.performance"].subject.files
    assert not runs["reliability.performance"].subject.trusted
    looked = project.runs()["security.model_file"].result
    assert looked is not None
    assert looked.metric("dangerous_imports").value == 0


def test_texts_are_padded_exactly(models: Path, tokenizer: Any) -> None:
    subject = loaded(models, target({"transformers": "bert"}))
    assert subject.classes == ("neg", "pos")
    assert subject.splits["test"].features.shape == (6, 6)
    assert np.allclose(subject.scores("test"), said(models, tokenizer), atol=1e-6)
    assert Need.GRADIENTS in subject.offers
    short = loaded(models, target({"transformers": "bert", "length": 2}))
    assert short.splits["test"].features.shape == (6, 2)
    assert loaded(models, target({"transformers": "bert"}, classes=["neg", "pos"])).sha256 == subject.sha256


@torch.no_grad()
def test_a_language_model_gives_exact_likelihoods(models: Path, tokenizer: Any) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(models / "gpt").eval()
    wanted = []
    for text in TEXTS:
        row = []
        for word in GPT["words"]:
            asked = tokenizer(GPT["prompt"].replace("{text}", text))["input_ids"]
            ids = asked + tokenizer(word)["input_ids"]
            told = model(torch.tensor([ids])).logits[0].double().log_softmax(dim=-1)
            row.append(sum(told[place - 1, ids[place]].item() for place in range(len(asked), len(ids))))
        wanted.append(row)
    subject = loaded(models, target(dict(GPT), classes=["neg", "pos"]))
    inputs, _ = subject.tensors("test")
    assert np.allclose(subject.logits(inputs).numpy(), wanted, atol=1e-4)
    raised = np.exp(np.array(wanted))
    assert np.allclose(subject.scores("test"), raised / raised.sum(axis=1, keepdims=True), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("source", ["floats", "first", "bytes_"])
def test_a_classifier_of_pictures(models: Path, source: str) -> None:
    from transformers import AutoModelForImageClassification

    scope: dict[str, Any] = {}
    exec((models / "system.py").read_text(), scope)
    pixels = scope["X"] if source != "bytes_" else scope["bytes_"]()[0].astype(np.float32) / 255
    prepared = (torch.from_numpy(pixels) - torch.tensor([0.5, 0.4, 0.3])) / torch.tensor([0.2, 0.3, 0.4])
    model = AutoModelForImageClassification.from_pretrained(models / "resnet").eval()
    wanted = model(pixel_values=prepared.permute(0, 3, 1, 2)).logits.double().softmax(dim=1).numpy()
    data = {"test": {"load": f"system:{source}"}}
    subject = loaded(models, target({"transformers": "resnet"}, task="multiclass", data=data))
    assert np.allclose(subject.scores("test"), wanted, atol=1e-5)


def test_pictures_of_another_size_are_resized_and_have_gradients(models: Path) -> None:
    data = {"test": {"load": "system:large"}}
    subject = loaded(models, target({"transformers": "resnet"}, task="multiclass", data=data))
    inputs = subject.tensors("test")[0].requires_grad_(True)
    subject.logits(inputs).sum().backward()
    assert inputs.grad is not None
    assert bool((inputs.grad.abs() > 0).any())


@pytest.mark.parametrize(
    ("source", "told"),
    [("wild", "wanted 0 to 1, or uint8"), ("flat", "found rows of shape (16, 3), wanted pictures: height x width")],
)
def test_what_is_no_picture(models: Path, source: str, told: str) -> None:
    data = {"test": {"load": f"system:{source}"}}
    assert told in refusal(models, target({"transformers": "resnet"}, task="multiclass", data=data))


# --- folders that are not as they should be --------------------------------------------------------------------------


@pytest.fixture
def folder(models: Path, tmp_path: Path) -> Path:
    shutil.copytree(models / "bert", tmp_path / "bert")
    shutil.copy(models / "t.csv", tmp_path / "t.csv")
    return tmp_path


def changed(folder: Path, **settings: Any) -> None:
    path = folder / "bert" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def test_pickled_weights_are_not_read_without_trust(folder: Path, models: Path) -> None:
    from safetensors.torch import load_file

    weights = load_file(folder / "bert" / "model.safetensors")
    torch.save(weights, folder / "bert" / "pytorch_model.bin")
    (folder / "bert" / "model.safetensors").unlink()
    told = refusal(folder, target({"transformers": "bert"}))
    assert "found no safetensors in" in told
    assert told.endswith("or, if you trust its pickles, run with --trust")
    subject = loaded(folder, target({"transformers": "bert"}), trust=True)
    assert subject.origin.trusted
    wanted = loaded(models, target({"transformers": "bert"})).scores("test")
    assert np.array_equal(subject.scores("test"), wanted)


def test_code_of_the_folder_is_not_run(folder: Path) -> None:
    (folder / "bert" / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    changed(folder, auto_map={"AutoModelForSequenceClassification": "evil.Net"})
    assert "config.json names code of its own (auto_map); run with --trust" in refusal(
        folder, target({"transformers": "bert"})
    )
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"architectures": ["T5ForConditionalGeneration"]}, "found the architecture T5ForConditionalGeneration, w"),
        ({"architectures": None}, "found the architecture none, wanted one that ends in ForSequenceClassification"),
        ({"model_type": "no_such_type"}, "target.model.transformers: cannot be loaded:"),
    ],
)
def test_settings_that_do_not_fit(folder: Path, settings: dict[str, Any], told: str) -> None:
    changed(folder, **settings)
    assert told in refusal(folder, target({"transformers": "bert"}))


def test_folders_that_are_none(folder: Path) -> None:
    assert "target.model.transformers: no file nowhere in" in refusal(folder, target({"transformers": "nowhere"}))
    (folder / "bert" / "config.json").write_text("[")
    assert "config.json cannot be read" in refusal(folder, target({"transformers": "bert"}))
    (folder / "bert" / "config.json").unlink()
    assert "models are not fetched: get it first" in refusal(folder, target({"transformers": "bert"}))


def test_words_and_lengths_that_do_not_fit(models: Path) -> None:
    spec = target(dict(GPT), classes=["neg", "pos"])
    spec["model"]["length"] = 5
    assert "tokens with its prompt, and the model takes 5" in refusal(models, spec)
    spec["model"].update(length=None, words=[" no", " "])
    assert "target.model.words: ' ' adds no token to the prompt" in refusal(models, spec)
    spec["model"].pop("prompt")
    assert "a language model wants prompt:" in refusal(models, spec)
