"""The catalog that comes with the product, every file of it: ids, questions, evidence, checks, references, wording."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from assessor.criteria import load_catalog
from assessor.model import Aspect, Catalog, Kind, ProvenanceStatus, QuestionType, Requirement, Role
from assessor.registry import load_checks

PACKS = ("X-GEN", "X-ENV")
COUNTS = {
    "PF-T": 5, "AT": 1, "FN-R-FN": 13, "FN-R-CD": 8, "AC-R-TD": 10, "AC-R-IE": 8, "TR-R-UA": 11, "TR-R-EX": 12,
    "TR-R-AU": 9, "TR-R-CD": 6, "RE-R-SC": 12, "RE-R-RO": 13, "RE-R-IM": 13, "RE-R-UE": 8, "RE-R-CD": 6, "S-R-FS": 22,
    "S-R-IA": 20, "S-R-CD": 6, "DP-R-PD": 19, "DP-R-BI": 19, "DP-R-CD": 7,
} | {f"{code}-{part}": 1 for code in ("FN", "AC", "TR", "RE", "S", "DP") for part in ("P", "S")}  # fmt: skip
WHOLE = load_catalog(packs=PACKS)
CORE = tuple(item for item in WHOLE.requirements if not item.id.startswith("X-"))
GERMAN = {item.id: item for item in load_catalog(packs=PACKS, language="de").requirements}

every = pytest.mark.parametrize("item", WHOLE.requirements, ids=lambda item: item.id)


def test_counts_of_the_source(catalog: Catalog) -> None:
    assert Counter(item.area for item in catalog.requirements) == COUNTS
    assert sum(COUNTS.values()) == 240
    aspects = Counter(item.aspect for item in CORE)
    assert (aspects[Aspect.CRITERION], aspects[Aspect.RISK], aspects[Aspect.OVERALL]) == (38, 28, 20)
    assert sum(Kind.TEST in item.kinds and Kind.TEST not in item.conditional for item in CORE) >= 34
    assert sum(item.provenance.status is ProvenanceStatus.SEEN for item in CORE) == 222


def test_packs_are_large_enough_and_name_their_sources() -> None:
    packs = Counter(item.dimension for item in WHOLE.requirements if item.id.startswith("X-"))
    assert packs["X-GEN"] >= 25
    assert packs["X-ENV"] >= 6
    for item in WHOLE.requirements:
        assert (item.dimension in PACKS) == (item.provenance.status is ProvenanceStatus.OWN)


@every
def test_requirement_is_complete(item: Requirement) -> None:
    assert len(item.guidance.do.split()) >= 15
    assert len(item.guidance.example.split()) >= 10
    assert len(item.guidance.mistakes) >= 1
    assert bool(item.params) == (item.aspect is Aspect.CRITERION)
    assert item.for_developer
    assert [question.id for question in item.for_auditor] == ["probe"]
    letters = {objective.id for objective in item.objectives}
    assert letters == set("abcdefgh"[: len(letters)])
    always = [question for question in item.for_developer if not question.show_if]
    limit = {Aspect.PROTECTION: 5, Aspect.PROFILE: 12, Aspect.SUMMARY: 3}.get(item.aspect, 2)
    assert len(always) <= limit
    for question in item.questions:
        assert question.objectives or question.fact, question.id
        assert len(question.text.split()) <= 45, question.id
    for expected in item.evidence:
        assert expected.document is not None


@every
def test_demanded_test_is_bound_or_says_why_not(item: Requirement) -> None:
    if Kind.TEST in item.kinds:
        assert bool(item.checks) != bool(item.no_check_because)


def test_bindings_of_catalog_and_checks_agree() -> None:
    checks = load_checks()
    bound = {check for item in WHOLE.requirements for check in item.checks}
    assert bound <= set(checks)
    for item in WHOLE.requirements:
        for check in item.checks:
            assert item.id in checks[check].info.requirements, (check, item.id)
    for name, check in checks.items():
        for requirement in check.info.requirements:
            assert name in WHOLE.by_id[requirement].checks, (name, requirement)


def test_what_a_check_names_instead_is_another_check() -> None:
    checks = load_checks()
    for name, check in checks.items():
        assert set(check.info.instead) <= set(checks) - {name}


def test_a_target_of_a_check_is_set_in_one_place() -> None:
    checks = [param.check for item in WHOLE.requirements for param in item.params if param.check]
    assert len(set(checks)) == len(checks)
    assert set(checks) <= set(load_checks())


def test_references_go_both_ways() -> None:
    for item in WHOLE.requirements:
        for name in item.refers_to:
            assert item.id in WHOLE.used_by[WHOLE.by_id[name].id]
    orphans = [item.id for item in CORE if item.aspect is Aspect.CRITERION and not WHOLE.used_by[item.id]]
    assert not orphans, "a criterion that nothing measures up to"


def test_every_document_is_expected_somewhere_and_many_serve_often() -> None:
    used = Counter(expected.document for item in WHOLE.requirements for expected in item.evidence)
    assert set(used) == {document.id for document in WHOLE.head.documents}
    assert sum(count for _, count in used.most_common(10)) > 150


@every
def test_german_is_complete_and_another_language(item: Requirement) -> None:
    german = GERMAN[item.id]
    english_words = re.compile(r"\b(the|and|which|with|are|of|is)\b")
    texts = [german.title, german.statement, german.guidance.do, german.guidance.example, *german.guidance.mistakes]
    texts += [objective.text for objective in german.objectives] + [question.text for question in german.questions]
    texts += [expected.what for expected in german.evidence] + [param.label for param in german.params]
    for text in texts:
        plain = re.sub(r"(in|on|out|of|-)+[ -]the[ -]loop", "", text, flags=re.IGNORECASE)  # a term of art
        assert len(english_words.findall(plain)) <= len(plain.split()) // 20, text
    assert german.statement != item.statement
    for question in german.questions:
        if question.type in {QuestionType.CHOICE, QuestionType.SEVERAL, QuestionType.TABLE}:
            assert set(question.labels) == {*question.options, *question.columns}


def test_questions_are_few() -> None:
    """Asked without any condition: the ceiling that prefill, profile and needs bring down."""
    always = [
        question
        for item in CORE
        for question in item.questions
        if question.role is Role.DEVELOPER and not question.show_if
    ]
    assert len(always) <= 335
