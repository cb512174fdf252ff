"""CycloneDX: models, data, libraries, broken input."""

from __future__ import annotations

import contextlib
import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assessor.errors import UsageError
from assessor.prefill.json_text import json_object
from assessor.prefill.ml_bom import found_in_ml_bom
from assessor.prefill.statements import KEYS, Facts

BOM: dict[str, Any] = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "metadata": {
        "component": {
            "type": "application",
            "bom-ref": "app",
            "name": "letter-desk",
            "version": "3.1",
            "description": "Sends letters to departments",
            "supplier": {"name": "Example Insurance"},
        }
    },
    "components": [
        {
            "type": "machine-learning-model",
            "bom-ref": "router",
            "name": "router",
            "version": "2.0",
            "description": "Routes letters.",
            "manufacturer": {"name": "Example Insurance"},
            "licenses": [{"license": {"id": "Apache-2.0"}}, {"license": {"name": "House terms"}}],
            "hashes": [{"alg": "SHA-256", "content": "ab" * 32}],
            "pedigree": {
                "ancestors": [
                    {
                        "type": "machine-learning-model",
                        "name": "tiny-encoder",
                        "version": "1",
                        "supplier": {"name": "Encoder Ltd"},
                        "licenses": [{"expression": "MIT"}],
                    },
                    {"name": "other-base"},
                ],
                "commits": [{"uid": "4f2a", "url": "https://example.org/4f2a"}],
            },
            "properties": [
                {"name": "hyperparameter:learning rate", "value": "2e-5"},
                {"name": "colour", "value": "red"},
            ],
            "modelCard": {
                "modelParameters": {
                    "approach": {"type": "supervised"},
                    "task": "text classification",
                    "architectureFamily": "transformer",
                    "modelArchitecture": "encoder",
                    "datasets": [
                        {"ref": "letters"},
                        {"type": "dataset", "name": "returns", "classification": "internal"},
                    ],
                    "inputs": [{"format": "text"}],
                    "outputs": [{"format": "label"}, {"format": "score"}],
                },
                "quantitativeAnalysis": {
                    "performanceMetrics": [
                        {
                            "type": "F1",
                            "value": "0.91",
                            "confidenceInterval": {"lowerBound": "0.89", "upperBound": "0.93"},
                        },
                        {"type": "F1", "value": "0.71", "slice": "Legal"},
                        {"type": "loss"},
                    ]
                },
                "considerations": {
                    "users": ["clerks"],
                    "useCases": ["Routing of scanned letters"],
                    "technicalLimitations": ["Handwriting"],
                    "performanceTradeoffs": ["Slower with long letters"],
                    "ethicalConsiderations": [
                        {"name": "Clerks are watched", "mitigationStrategy": "no names are logged"}
                    ],
                    "fairnessAssessments": [{"groupAtRisk": "writers in plain language", "harms": "later answers"}],
                    "environmentalConsiderations": {
                        "energyConsumptions": [
                            {
                                "activity": "training",
                                "energyProviders": [{"name": "City works", "energySource": "wind"}],
                                "activityEnergyCost": {"value": 1.4, "unit": "kWh"},
                                "co2CostEquivalent": {"value": 0.0006, "unit": "tCO2eq"},
                            }
                        ]
                    },
                },
            },
        },
        {
            "type": "data",
            "bom-ref": "letters",
            "name": "letters",
            "version": "2025",
            "licenses": [{"expression": "LicenseRef-house"}],
            "data": [
                {
                    "type": "dataset",
                    "name": "Letters 2025",
                    "contents": {"url": "https://example.org/letters"},
                    "sensitiveData": ["names", "health"],
                    "governance": {"owners": [{"organization": {"name": "Claims department"}}]},
                }
            ],
        },
        {
            "type": "framework",
            "name": "torch",
            "version": "2.6.0",
            "components": [{"type": "library", "name": "numpy"}],
        },
    ],
    "services": [{"name": "ocr", "description": "reads scans", "provider": {"name": "Scan Ltd"}}],
}


def values(found: Facts) -> dict[str, list[str]]:
    return {key: [item.value for item in items] for key, items in found.items()}


def test_a_whole_bill_of_materials() -> None:
    assert values(found_in_ml_bom(BOM, "bom.json")) == {
        "purpose": ["- Routing of scanned letters", "Routes letters.", "Sends letters to departments"],
        "users": ["- clerks"],
        "limitations": ["- Handwriting\n- Slower with long letters"],
        "inputs_outputs": ["- input: text\n- output: label\n- output: score"],
        "components": [
            "letter-desk 3.1 | Sends letters to departments | conventional | Example Insurance\n"
            "router 2.0 | Routes letters. | AI | Example Insurance\n"
            "ocr | reads scans | service | Scan Ltd"
        ],
        "architecture": [
            "model: router 2.0; family: transformer; architecture: encoder; learning: supervised; "
            "task: text classification"
        ],
        "base_model": ["tiny-encoder 1 | Encoder Ltd | MIT\nother-base"],
        "training_data": [
            "data set: Letters 2025; sensitive data: names, health; held by: Claims department; from: https://example.org/letters",
            "data set: returns; classification: internal",
        ],
        "metrics": ["F1 | overall | 0.91 [0.89, 0.93]\nF1 | Legal | 0.71"],
        "hyperparameters": ["- hyperparameter:learning rate: 2e-5"],
        "licence": ["router 2.0: Apache-2.0, House terms", "letters 2025: LicenseRef-house"],
        "contact": ["Example Insurance"],
        "fairness": ["- group at risk: writers in plain language; harms: later answers"],
        "ethics": ["- Clerks are watched (mitigation: no names are logged)"],
        "energy": ["- training: 1.4 kWh; source: City works (wind)"],
        "carbon": ["- training: 0.0006 tCO2eq"],
        "source_revision": [f"- router 2.0, SHA-256 {'ab' * 32}\n- 4f2a https://example.org/4f2a"],
        "release": ["router 2.0", "letter-desk 3.1"],
        "dependencies": ["2 libraries: torch 2.6.0, numpy"],
        "sensitive_data": ["Letters 2025: names, health"],
    }


def test_origins_name_file_and_component() -> None:
    found = found_in_ml_bom(BOM, "bom.json")
    assert found["metrics"][0].origin == "bill of materials bom.json, model router 2.0"
    assert found["licence"][1].origin == "bill of materials bom.json, data letters 2025"
    assert found["dependencies"][0].origin == "bill of materials bom.json"


@pytest.mark.parametrize("version", ["1.5", "1.7"])
def test_other_versions_read_the_same(version: str) -> None:
    assert found_in_ml_bom({**BOM, "specVersion": version}, "b") == found_in_ml_bom(BOM, "b")


@pytest.mark.parametrize(("version", "told"), [("1.4", "1.4"), (None, "?"), (["1.6"], "?")])
def test_versions_without_model_cards_are_refused(version: object, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        found_in_ml_bom({**BOM, "specVersion": version}, "bom.json")
    assert str(caught.value) == f"bom.json: found CycloneDX {told}, wanted 1.5, 1.6, 1.7"


def test_an_empty_bill_says_nothing() -> None:
    assert found_in_ml_bom({"specVersion": "1.6"}, "b") == {}
    assert found_in_ml_bom({"specVersion": "1.6", "components": [{"type": "machine-learning-model"}]}, "b") == {}


def test_deep_nesting_of_components_is_followed_without_recursion() -> None:
    entry: dict[str, Any] = {"type": "library", "name": "deepest"}
    for _step in range(5000):
        entry = {"components": [entry]}
    assert values(found_in_ml_bom({"specVersion": "1.6", "components": [entry]}, "b")) == {
        "dependencies": ["1 library: deepest"]
    }


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{", "b:1 not readable as JSON: Expecting property name enclosed in double quotes"),
        (b'{"a":\n1,}', "b:2 not readable as JSON"),
        (b"[" * 200_000, "b: found JSON nested too deeply"),
        (b'{"a":' * 200_000, "b: found JSON nested too deeply"),
        (b"[]", "b: found JSON that is no object"),
        (b'{"a": ' + b"9" * 5000 + b"}", "b: not readable as JSON: Exceeds the limit"),
        (b"\xff{}", "b:1 found a byte that is not UTF-8"),
        (b"", "b:1 not readable as JSON"),
    ],
)
def test_broken_json_is_refused(content: bytes, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        assert isinstance(json_object(content, "b"), dict)
    assert told in str(caught.value)


def paths(value: object, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in nested data."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
    return [at, *(path for key, item in items for path in paths(item, (*at, key)))]


FIELDS = sorted({part for path in paths(BOM) for part in path if isinstance(part, str)})
LEAVES = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5)
JSON = st.recursive(
    LEAVES | st.sampled_from(["letters", "data", "machine-learning-model"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.sampled_from(paths(BOM)[1:]), JSON)
def test_anything_anywhere_is_read_or_refused(path: tuple[Any, ...], value: object) -> None:
    document = copy.deepcopy(BOM)
    place: Any = document
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    try:
        found = found_in_ml_bom(document, "b")
    except UsageError:
        assert path == ("specVersion",)
        return
    assert list(found) == [key for key in KEYS if key in found]


@given(JSON)
def test_any_object_is_read(value: object) -> None:
    found = found_in_ml_bom({"specVersion": "1.6", "components": value, "metadata": value, "services": value}, "b")
    assert set(found) <= set(KEYS)


@given(st.binary() | st.text().map(lambda text: json.dumps(text).encode()))
def test_any_bytes_are_json_or_refused(content: bytes) -> None:
    with contextlib.suppress(UsageError):
        assert isinstance(json_object(content, "b"), dict)
