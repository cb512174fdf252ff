"""Whether all that people see is there in every language, and says the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

from assessor.assessment import measure
from assessor.criteria import load_catalog
from assessor.messages import LANGUAGES, SOURCE
from assessor.model import CheckRun
from assessor.project import Project
from assessor.registry import load_checks
from assessor.report_cards import TOLD_COLUMNS
from assessor.retelling import PLACE, Retelling
from tools.messages import LOCALE, extracted

OTHERS = [language for language in LANGUAGES if language != SOURCE]
ALIKE = frozenset(
    {
        ".xlsx", "Aggregation", "Brier Score", "Data", "Dimension", "F1", "Index", "Interval", "Name", "Passphrase",
        "Status", "Text", "Version", "XML", "absolute", "brier", "container", "ece", "eps", "f1", "id", "index",
        "format", "information", "p", "p (Holm)", "pickles", "version",
        "kappa", "log loss", "mae", "n", "NC1", "NC4", "nats", "nc1", "nc3", "nc4",
        "SHA-256", "assessor ledger record --by NAME --because TEXT",
        "nll", "ok", "param", "r2", "recall", "rmse", "roc auc", "status",
        "95 % Clopper-Pearson", "AUPR", "AUROC",
        "EL2N", "MiB", "deep lift", "eps {eps}; {text}", "inverted cdf", "mirror 101",
        "p max t", "tf keras", "test", "text", "train", "{n} g CO2e",
        "--assessor: {fault}", "--executor ray", "<!-- assessor-gate {text} -->", "assessor gate",
        "{where} evidence: {text}", "{where} params.{name}: {fault}", "{where} replies.{name}: {fault}",
    }
)  # fmt: skip
"""Texts that may read the same in another language."""
MAPPINGS = "catalog/mappings/"
"""Where laws and standards are named."""
NAMED = frozenset({"The final statement: yes, with conditions or no.", "the end, and, or or"})
"""Texts that name English words, since these are what is typed."""
ENGLISH = re.compile(r"(?<![\w-])(the|and|is not|which|with|were|found|wanted)(?![\w-])")
COMMANDS = "demo|init|prefill|profile|answer|audit|status|gate|report|export|migrate|sign|verify|catalog|check|key"
KEPT = re.compile(rf"--[a-z][a-z-]*|assessor (?:{COMMANDS})\b|\b[a-z_]+\.(?:yaml|jsonl|csv|xlsx|json)\b|\n")
"""What a translation leaves as it is: options, commands, files, line ends."""


@pytest.fixture(scope="module", params=OTHERS)
def translations(request: pytest.FixtureRequest) -> dict[str, str]:
    content = (LOCALE / f"{request.param}.po").read_bytes()
    return {str(item.id): str(item.string) for item in read_po(BytesIO(content)) if item.id}


def some(texts: list[str]) -> str:
    return "\n".join([f"{len(texts)} of them:", *texts[:20]])


@pytest.mark.slow
def test_the_files_hold_the_texts_of_the_sources(translations: dict[str, str]) -> None:
    missing, stale = [*(extracted().keys() - translations.keys())], [*(translations.keys() - extracted().keys())]
    assert not missing, f"run  make messages: {some(missing)}"
    assert not stale, f"run  make messages: {some(stale)}"


def test_every_text_is_translated(translations: dict[str, str]) -> None:
    missing = [text for text, said in translations.items() if not said]
    assert not missing, some(missing)


def test_translations_keep_places_options_files_and_lines(translations: dict[str, str]) -> None:
    wrong = [
        f"{text!r}: {said!r}"
        for text, said in translations.items()
        if said and (set(PLACE.findall(text)), _kept(text)) != (set(PLACE.findall(said)), _kept(said))
    ]
    assert not wrong, some(wrong)


def _kept(text: str) -> list[str]:
    return sorted(KEPT.findall(text))


def test_translations_begin_and_end_as_the_text_does(translations: dict[str, str]) -> None:
    """Spaces and marks at the ends join a text to others."""
    wrong = [text for text, said in translations.items() if said and _ends(text) != _ends(said)]
    assert not wrong, some(wrong)


def _ends(text: str) -> tuple[str, str]:
    start, end = re.match(r"[ ;,(]*", text), re.search(r"[ .:?!]*$", text)
    assert start is not None
    assert end is not None
    return start[0], end[0]


@pytest.mark.slow
def test_nothing_is_left_in_english(translations: dict[str, str]) -> None:
    names = {text for text, places in extracted().items() if all(place.startswith(MAPPINGS) for place in places)}
    same = [text for text, said in translations.items() if said == text and text not in ALIKE | names]
    assert not same, some(same)
    cited = {check.info.source for check in load_checks().values()}  # titles of papers stay as they are
    words = [
        said for text, said in translations.items() if text not in NAMED | cited and ENGLISH.search(PLACE.sub("", said))
    ]
    assert not words, some(words)


@pytest.mark.slow
@pytest.mark.parametrize("language", OTHERS)
def test_the_catalog_is_there_in_every_language(language: str) -> None:
    packs = load_catalog().head.packs
    catalog = load_catalog(packs=packs, language=language)
    for requirement in catalog.requirements:
        for question in requirement.questions:
            assert {*question.options, *question.columns} <= question.labels.keys(), (requirement.id, question.id)
        for param in requirement.params:
            assert {*param.options} <= param.labels.keys(), (requirement.id, param.id)


# --- what results hold can be said again -----------------------------------------------------------------------------

SYSTEM = """
import numpy as np
import pandas as pd
import torch

def split(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 3)).astype(np.float32)
    y = (x[:, 0] + 0.5 * rng.normal(size=60) > 0).astype(np.int64)
    return x, y, pd.DataFrame({"sex": rng.choice(["f", "m"], 60), "age": rng.choice(["old", "young"], 60, p=[.1, .9])})

def value(seed):
    x, _, _ = split(seed)
    return x, x[:, 0] * 2

train, test = lambda: split(0), lambda: split(1)
train_value, test_value = lambda: value(0), lambda: value(1)

def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))

def regressor():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
"""
OWN = re.compile(r"(?:sex|age|f|m|old|young|[012]| |×|:)+")  # words of the data above
TARGETS = {
    "binary": ("system:model", "system:train", "system:test", {"sensitive": ["sex", "age"]}),
    "regression": ("system:regressor", "system:train_value", "system:test_value", {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("task", TARGETS)
def test_every_text_in_a_result_is_known(make_folder: Callable[..., Project], task: str) -> None:
    model, train, test, more = TARGETS[task]
    data = {"train": {"load": train}, "test": {"load": test, **more}}
    target = {"task": task, "model": {"load": model}, "data": data, "device": "cpu"}
    if task == "binary":
        target["model"] = {"load": model, "outputs": "logits"}
    project = make_folder(target=target)
    Path(project.folder, "system.py").write_text(SYSTEM, "utf-8")
    unchanged = Retelling({text: text for text in extracted()})
    unknown = [
        f"{run.check}: {text}" for run in measure(project) for text in texts_of(run) if unchanged.said(text) is None
    ]
    assert not unknown, some(unknown)


def texts_of(run: CheckRun) -> Iterator[str]:
    yield from (run.title, run.outcome.sentence, *run.limits, *run.remarks)
    yield from () if run.doubt is None else (run.doubt,)
    for metric in run.metrics:
        yield from (metric.name.replace("_", " "), metric.method)
        yield from () if metric.unit == "1" else (metric.unit,)
    yield from (series.title for series in run.series)
    for table in run.tables:
        columns = table.columns[:1] if "\\" in table.columns[0] else table.columns
        yield from (
            table.title,
            *(
                column.replace("_", " ")
                for column in columns
                if not column.endswith(("low", "high")) and not OWN.fullmatch(column)
            ),
        )
        for row in table.rows:
            for column, cell in zip(table.columns, row, strict=True):
                if isinstance(cell, str) and column in TOLD_COLUMNS and not OWN.fullmatch(cell):
                    yield cell.replace("_", " ")


@pytest.mark.slow
def test_every_text_about_a_check_is_known() -> None:
    known = extracted().keys()
    for check in load_checks().values():
        info = check.info
        fields = [field.description for field in check.params.model_fields.values() if field.description]
        unknown = {info.title, info.measures, info.remedy, *info.limits, *fields} - known
        assert not unknown, (check.id, unknown)
