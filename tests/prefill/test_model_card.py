"""Model cards: front matter, sections, placeholders, broken input."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assessor.errors import UsageError
from assessor.prefill.model_card import LONGEST_CARD, LONGEST_FRONT_MATTER, found_in_model_card, has_front_matter
from assessor.prefill.statements import KEYS, Facts

CARD = """\
---
license: other
license_name: example-research-licence
license_link: LICENSE.md
base_model: example/tiny-encoder
base_model_relation: finetune
datasets:
  - example/letters
  - example/returns
metrics: [f1, accuracy]
language: [de, no]
tags: [letters, routing]
library_name: transformers
pipeline_tag: text-classification
co2_eq_emissions:
  emissions: 640
  source: codecarbon
  training_type: fine-tuning
  geographical_location: Bonn, Germany
  hardware_used: 1 x T4
model-index:
  - name: router
    results:
      - task: {type: text-classification}
        dataset: {name: Letters 2025, type: example/letters, split: test, revision: 4f2a}
        metrics:
          - {type: f1, name: macro F1, value: 0.913}
          - {type: accuracy, value: 0.94, verified: false}
      - dataset: {type: example/returns}
        metrics: {type: f1, value: 0.88}
---

# Letter router

Sends the scanned letters of an insurer to one of eight departments.

# Model Details

## Model Description

<!-- Provide a longer summary of what this model is. -->

A small encoder with a linear head.

- **Developed by:** Example Insurance, data team
- **Shared by [optional]:** [More Information Needed]
- **Model type:** encoder, 14 million parameters
- **Finetuned from model [optional]:** {{ finetuned_from }}

# Uses

## Direct Use

Clerks get letters earlier, since nobody
has to sort them by hand.

## Downstream Use [optional]

[More Information Needed]

## Out-of-Scope Use

- handwriting
- languages other
  than German

# Bias, Risks, and Limitations

Letters with tables are often sent to Claims.

## Recommendations

Users (both direct and downstream) should be made aware of the risks, biases and limitations of the model.
More information needed for further recommendations.

## Known weak spots

Short letters.

# Training Details

## Training Data

41 000 letters of 2023 and 2024, labelled by two clerks each.

## Training Procedure

### Preprocessing [optional]

Cut at 256 tokens.

#### Speeds, Sizes, Times

Two hours.

# Evaluation

### Results

| Department | F1 |
|---|---|
| Claims | 0.95 |
| Legal | 0.71 |

# Environmental Impact

Carbon emissions can be estimated using the [calculator](https://example.org).

- **Hardware Type:** T4
- **Carbon Emitted:** [More Information Needed]

# How to Get Started with the Model

Not for the questionnaire.

## Details

Nor this.

# Model Card Contact

models@example.org
"""


def read(text: str) -> Facts:
    return found_in_model_card(text.encode(), "README.md")


def values(found: Facts) -> dict[str, list[str]]:
    return {key: [item.value for item in items] for key, items in found.items()}


def test_a_whole_card() -> None:
    assert values(read(CARD)) == {
        "purpose": [
            "Clerks get letters earlier, since nobody has to sort them by hand.",
            "A small encoder with a linear head.",
            "Sends the scanned letters of an insurer to one of eight departments.",
            "task: text-classification",
        ],
        "out_of_scope": ["- handwriting\n- languages other than German"],
        "limitations": ["Letters with tables are often sent to Claims.\nKnown weak spots:\nShort letters."],
        "inputs_outputs": ["task: text-classification; language: de, no"],
        "architecture": [
            "encoder, 14 million parameters",
            "A small encoder with a linear head.",
            "library: transformers; tags: letters, routing",
        ],
        "base_model": ["example/tiny-encoder (finetune)"],
        "training_data": [
            "41 000 letters of 2023 and 2024, labelled by two clerks each.",
            "- example/letters\n- example/returns",
        ],
        "preprocessing": ["Cut at 256 tokens.\nSpeeds, Sizes, Times:\nTwo hours."],
        "evaluation_data": ["- Letters 2025, split test, revision 4f2a\n- example/returns"],
        "metrics": [
            "macro F1 | Letters 2025, split test, revision 4f2a | 0.913\n"
            "accuracy | Letters 2025, split test, revision 4f2a | 0.94\n"
            "f1 | example/returns | 0.88",
            "f1, accuracy",
            "- Department: Claims; F1: 0.95\n- Department: Legal; F1: 0.71",
        ],
        "licence": ["example-research-licence (LICENSE.md)"],
        "contact": ["models@example.org", "Example Insurance, data team"],
        "fairness": ["Letters with tables are often sent to Claims.\nKnown weak spots:\nShort letters."],
        "energy": ["- Hardware Type: T4"],
        "carbon": [
            "emissions: 640 g CO2e; stage: fine-tuning; place: Bonn, Germany; hardware: 1 x T4; source: codecarbon",
            "- Hardware Type: T4",
        ],
    }


def test_origins_name_file_and_place() -> None:
    found = read(CARD)
    assert found["training_data"][0].origin == "model card README.md, section Training Data"
    assert found["preprocessing"][0].origin == "model card README.md, section Preprocessing"
    assert found["licence"][0].origin == "model card README.md, front matter, license"
    assert found["architecture"][2].origin == "model card README.md, front matter, library_name, tags"


TRAINER = """\
---
license: mit
co2_eq_emissions: 12
base_model: [a/one, b/two]
---
<!-- This model card has been generated automatically -->
# run-7

## Model description

More information needed

## Intended uses & limitations

Sorting only.

## Training and evaluation data

Letters.

### Training hyperparameters

The following hyperparameters were used during training:
- learning_rate: 2e-05

### Framework versions

- Transformers 4.50.0
"""


def test_a_card_written_by_the_trainer() -> None:
    assert values(read(TRAINER)) == {
        "purpose": ["Sorting only."],
        "limitations": ["Sorting only."],
        "base_model": ["a/one", "b/two"],
        "training_data": ["Letters."],
        "evaluation_data": ["Letters."],
        "hyperparameters": ["The following hyperparameters were used during training:\n- learning_rate: 2e-05"],
        "licence": ["mit"],
        "carbon": ["emissions: 12 g CO2e"],
        "dependencies": ["- Transformers 4.50.0"],
    }


def test_a_card_without_front_matter() -> None:
    found = read("# Card\n\n## Ethical considerations\n\nNo person is judged.\n\nMonitoring\n----------\n\nWeekly.\n")
    assert values(found) == {"ethics": ["No person is judged."], "monitoring": ["Weekly."]}


def test_a_card_of_placeholders_says_nothing() -> None:
    text = "# Uses\n[More Information Needed]\n## Limitations\nTBD\n## Bias\n{{ bias }}\n"
    assert read(f"---\nlicense: null\ntags: []\n---\n{text}") == {}
    assert read(text) == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "# Notes\n\nshopping",
            "README.md: found Markdown without front matter or a section of a model card, such as Training Data",
        ),
        ("---\na: [\n---\n", "README.md:3 not readable as YAML"),
        ("---\nlicense: &a mit\ntags: *a\n---\n", "README.md:3 found the alias *a, wanted the text itself"),
        ("---\nlicense: a\nlicense: b\n---\n", "README.md:3 key 'license' appears twice"),
        ("---\n- a\n---\n", "README.md:2 found front matter that is no mapping, wanted `key: value` lines"),
        ("---\na: " + "[" * 200 + "\n---\n", "README.md:2 found more than 100 levels of nesting"),
        ("---\na: !!python/object:os.system x\n---\n", "README.md:2 found 'x', which is no python/object:os.system"),
        ("---\na: !!int\n---\n", "README.md:2 found '', which is no int"),
        ("---\na: !!bool maybe\n---\n", "README.md:2 found 'maybe', which is no bool"),
        ("---\na: !!timestamp soon\n---\n", "README.md:2 found 'soon', which is no timestamp"),
        ("---\na: " + "x" * LONGEST_FRONT_MATTER + "\n---\n", "README.md: found front matter of 500005 characters"),
        ("x" * (LONGEST_CARD + 1), "README.md: found 2000001 bytes of Markdown, wanted at most 2000000"),
    ],
)
def test_broken_cards_are_refused(text: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(text)
    assert told in str(caught.value)


def test_other_encodings_are_refused_with_the_line() -> None:
    with pytest.raises(UsageError) as caught:
        found_in_model_card("# Uses\n\nfür".encode("latin-1"), "README.md")
    assert str(caught.value) == "README.md:3 found a byte that is not UTF-8, wanted UTF-8 text"


def test_a_byte_order_mark_and_windows_line_ends_do_not_matter() -> None:
    assert values(found_in_model_card(b"\xef\xbb\xbf" + CARD.replace("\n", "\r\n").encode(), "README.md")) == values(
        read(CARD)
    )


def test_front_matter_is_recognised() -> None:
    assert has_front_matter(CARD.encode())
    assert has_front_matter(b"\xef\xbb\xbf---\r\nlicense: mit\r\n---\r\n")
    assert not has_front_matter(b"---\ntitle: a page\n---\n")
    assert not has_front_matter(b"# license: mit\n---\n")
    assert not has_front_matter(b"---\nlicense: mit\n")


FRAGMENTS = [
    *(
        "---\n",
        "license: ",
        "base_model: ",
        "model-index: ",
        "results: ",
        "metrics: ",
        "dataset: ",
        "co2_eq_emissions: ",
    ),
    *(
        "# ",
        "## Uses\n",
        "# Training Data\n",
        "## Model Details\n",
        "\n",
        "- ",
        "**License:** ",
        "| a | b |\n|--|--|\n",
        "```\n",
    ),
    *(
        "<!--",
        "-->",
        "[",
        "]",
        "{",
        "}",
        "&a ",
        "*a",
        "!!int ",
        "0x",
        "2020-99-99",
        ".nan",
        "'",
        '"',
        ": ",
        ",",
        "\t",
        "\r",
        "\x00",
    ),
]


@given(st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=5), max_size=40).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    for card in (text, f"---\n{text}\n---\n# Uses\nx", f"---\nlicense: mit\n---\n{text}"):
        try:
            found = found_in_model_card(card.encode("utf-8", "replace"), "x.md")
        except UsageError:
            continue
        assert list(found) == [key for key in KEYS if key in found]
        assert all(
            item.value and item.origin.startswith("model card x.md") for items in found.values() for item in items
        )


@given(st.binary())
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    assert has_front_matter(content) in {True, False}
    with contextlib.suppress(UsageError):
        assert set(found_in_model_card(content, "x.md")) <= set(KEYS)
