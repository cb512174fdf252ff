"""SPDX 3.0: AI packages, data sets, relationships, broken input."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assessor.errors import UsageError
from assessor.prefill.spdx import found_in_spdx
from assessor.prefill.statements import KEYS, Facts

BASE = "https://example.org/spdx#"


def relation(kind: str, to: str, start: str = "model") -> dict[str, Any]:
    return {"type": "Relationship", "relationshipType": kind, "from": BASE + start, "to": [BASE + to]}


def pair(key: str, value: str) -> dict[str, str]:
    return {"type": "DictionaryEntry", "key": key, "value": value}


DOCUMENT: dict[str, Any] = {
    "@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld",
    "@graph": [
        {"type": "CreationInfo", "@id": "_:info", "specVersion": "3.0.1"},
        {"type": "Organization", "spdxId": BASE + "maker", "name": "Example Insurance"},
        {
            "type": "ai_AIPackage",
            "spdxId": BASE + "model",
            "creationInfo": "_:info",
            "name": "router",
            "software_packageVersion": "2.0",
            "description": "Routes letters.",
            "suppliedBy": BASE + "maker",
            "verifiedUsing": [{"type": "Hash", "algorithm": "sha256", "hashValue": "ab" * 32}],
            "ai_typeOfModel": ["transformer", "encoder"],
            "ai_domain": ["office work"],
            "ai_informationAboutApplication": "Behind the scanner of the post room.",
            "ai_informationAboutTraining": "Three epochs.",
            "ai_limitation": "Handwriting.",
            "ai_modelDataPreprocessing": ["OCR", "cut at 256 tokens"],
            "ai_modelExplainability": ["words that decided are marked"],
            "ai_metric": [pair("F1", "0.91")],
            "ai_hyperparameter": [pair("learning rate", "2e-5")],
            "ai_metricDecisionThreshold": [pair("score", "0.5")],
            "ai_useSensitivePersonalInformation": "yes",
            "ai_energyConsumption": "_:energy",
        },
        {
            "type": "ai_EnergyConsumption",
            "@id": "_:energy",
            "ai_trainingEnergyConsumption": [
                {"type": "ai_EnergyConsumptionDescription", "ai_energyQuantity": "1.4", "ai_energyUnit": "kilowattHour"}
            ],
        },
        {
            "type": "dataset_DatasetPackage",
            "spdxId": BASE + "train",
            "name": "letters-2024",
            "dataset_datasetType": ["text"],
            "dataset_datasetSize": 41000,
            "dataset_dataCollectionProcess": "Scanned in the post room.",
            "dataset_dataPreprocessing": ["names replaced"],
            "dataset_knownBias": ["few letters in plain language"],
            "dataset_hasSensitivePersonalInformation": "noAssertion",
            "dataset_anonymizationMethodUsed": ["pseudonyms"],
        },
        {"type": "dataset_DatasetPackage", "spdxId": BASE + "test", "name": "letters-2025"},
        {
            "type": "simplelicensing_LicenseExpression",
            "spdxId": BASE + "licence",
            "simplelicensing_licenseExpression": "MIT",
        },
        {"type": "software_Package", "spdxId": BASE + "torch", "name": "torch", "software_packageVersion": "2.6.0"},
        relation("trainedOn", "train"),
        relation("testedOn", "test"),
        relation("hasDeclaredLicense", "licence"),
        relation("dependsOn", "torch"),
    ],
}


def values(found: Facts) -> dict[str, list[str]]:
    return {key: [item.value for item in items] for key, items in found.items()}


def test_a_whole_document() -> None:
    found = found_in_spdx(DOCUMENT, "ai.spdx.json")
    assert values(found) == {
        "purpose": ["Routes letters."],
        "context": ["Behind the scanner of the post room."],
        "limitations": ["Handwriting."],
        "architecture": ["router 2.0: transformer, encoder"],
        "training_data": ["data set: letters-2024; kind: text; collected: Scanned in the post room.; size: 41000"],
        "preprocessing": ["- OCR\n- cut at 256 tokens", "- names replaced"],
        "evaluation_data": ["data set: letters-2025"],
        "metrics": ["F1 | overall | 0.91"],
        "hyperparameters": ["- learning rate: 2e-5\n- decision threshold for score: 0.5", "Three epochs."],
        "licence": ["router 2.0: MIT"],
        "contact": ["Example Insurance"],
        "fairness": ["- few letters in plain language"],
        "explainability": ["words that decided are marked"],
        "energy": ["- training: 1.4 kWh"],
        "source_revision": [f"- router 2.0, sha256 {'ab' * 32}"],
        "release": ["router 2.0"],
        "dependencies": ["torch 2.6.0"],
        "sensitive_data": ["router 2.0, sensitive personal information: yes", "anonymised by: pseudonyms"],
    }
    assert found["purpose"][0].origin == "SPDX document ai.spdx.json, model router 2.0"
    assert found["fairness"][0].origin == "SPDX document ai.spdx.json, data letters-2024"


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"spdxVersion": "SPDX-2.3"}, "2.3"),
        ({"@context": "https://spdx.org/rdf/3.1/spdx-context.jsonld"}, "3.1"),
        ({"@context": ["https://example.org/"]}, "?"),
        ({}, "?"),
    ],
)
def test_other_versions_are_refused(document: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        found_in_spdx(document, "a.json")
    assert str(caught.value) == f"a.json: found SPDX {told}, wanted SPDX 3.0 as JSON-LD"


def test_a_document_without_models_says_nothing() -> None:
    assert found_in_spdx({"@context": DOCUMENT["@context"], "@graph": []}, "a") == {}


ELEMENT_FIELDS = sorted({(index, field) for index, item in enumerate(DOCUMENT["@graph"]) for field in item})
ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from([BASE + "model", BASE + "train", "_:energy"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["key", "value", "name", "to"]), inner),
    max_leaves=8,
)


@given(st.sampled_from(ELEMENT_FIELDS), ANY)
def test_anything_anywhere_is_read(field: tuple[int, str], value: object) -> None:
    document = copy.deepcopy(DOCUMENT)
    document["@graph"][field[0]][field[1]] = value
    found = found_in_spdx(document, "a")
    assert list(found) == [key for key in KEYS if key in found]
