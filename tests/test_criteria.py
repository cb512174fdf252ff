"""The catalog: quick to read, and every fault in it told with its line. What ours says is in test_catalog.py."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assessor import yamlfile
from assessor.criteria import active, followed_catalog, load_catalog, load_frameworks
from assessor.errors import ConfigurationError, UsageError
from assessor.messages import speaking
from assessor.model import Catalog, Configuration, Relationship, Requirement, Requirements, State
from assessor.model.translation import text_digest

Make = Callable[..., Any]
FOLDER = Path(__file__).parents[1] / "catalog"


def told(folder: Path, **named: Any) -> list[str]:
    """The faults of a catalog."""
    with pytest.raises(ConfigurationError) as caught:
        load_catalog(folder, **named)
    return str(caught.value).splitlines()


def changed(folder: Path, name: str, old: str, new: str) -> None:
    """Replace the one place in a file where some text stands."""
    path = folder / name
    text = path.read_text("utf-8")
    assert text.count(old) == 1, text
    path.write_text(text.replace(old, new), "utf-8")


def line_of(folder: Path, name: str, mark: str) -> int:
    """Line of the first place where some text stands."""
    text = (folder / name).read_text("utf-8")
    return text[: text.index(mark)].count("\n") + 1


# --- ours ------------------------------------------------------------------------------------------------------------


def test_schema_is_the_generated_one() -> None:
    generated = json.dumps(Requirements.model_json_schema(by_alias=True), indent=2, ensure_ascii=False) + "\n"
    assert (FOLDER / "schema.json").read_text("utf-8") == generated


def test_selection(catalog: Catalog) -> None:
    assert catalog.select(None) == catalog.requirements
    assert [item.id for item in catalog.select("PF-T-FA-*")] == ["PF-T-FA-a"]
    assert len(catalog.select("RE-R-SC")) == 12
    assert len(catalog.select("RE")) == 54
    assert catalog.select("XX") == ()


# --- a small one -----------------------------------------------------------------------------------------------------


def test_the_tiny_catalog_is_sound(tiny: Path) -> None:
    found = load_catalog(tiny)
    assert [item.id for item in found.requirements][:3] == ["PF-T-FA-01", "FN-P", "FN-R-FN-RI-01"]
    assert (found.language, found.head.version, len(found.requirements)) == ("en", "1.0.0", 10)
    assert set(found.facts) == {"learning", "uses"}
    assert found.used_by["FN-R-FN-CR-01"] == ("FN-R-FN-ME-01",)
    assert found.document("report").title == "Report"
    assert found.document("none") is None


def test_withdrawn_requirements_are_kept_and_not_in_use(tiny: Path) -> None:
    changed(tiny, "FN/FN-R-FN.yaml", "FN-R-FN-RI-01\n", "FN-R-FN-RI-01\n    state: withdrawn\n    replaced_by: [AT]\n")
    found = load_catalog(tiny)
    assert found.by_id["FN-R-FN-RI-01"].state is State.WITHDRAWN
    assert "FN-R-FN-RI-01" not in {item.id for item in active(found)}
    assert len(active(found)) == len(found.requirements) - 1


def test_the_digest_is_of_what_was_read(tiny: Path) -> None:
    plain, packed = load_catalog(tiny).sha256, load_catalog(tiny, packs=["X-TRY"]).sha256
    assert plain != packed
    changed(tiny, "packs/X-TRY/pack.yaml", "For trial.", "For a trial.")
    assert load_catalog(tiny).sha256 == plain
    assert load_catalog(tiny, packs=["X-TRY"]).sha256 != packed
    (tiny / "AT/AT.yaml").write_text((tiny / "AT/AT.yaml").read_text() + "# a remark\n")
    assert load_catalog(tiny).sha256 != plain


P, R, S, PF = "FN/FN-P.yaml", "FN/FN-R-FN.yaml", "FN/FN-S.yaml", "PF/PF-T.yaml"
LEARNS = "applicability: profile.learning != 'never'"
IMAGE = "applicability: need == 'high' or 'image' in profile.uses"


@pytest.mark.parametrize(
    ("file", "old", "new", "mark", "fault"),
    [
        # keys and values
        (S, "aspect: S", "aspct: S", "aspct", "requirements[0].aspct: unknown key 'aspct'; did you mean 'aspect'?"),
        (S, "    title: A title\n", "", "- id", "requirements[0]: wanted the key 'title', found none"),
        (S, "title: A title", f"title: {'x' * 89}", "title", f"requirements[0].title: found '{'x' * 76}..."),
        (S, "kinds: [Do]", "kinds: [Xx]", "kinds", "requirements[0].kinds[0]: found 'Xx', wanted 'Do', 'Pr' or 'Te'"),
        (
            S,
            "{status: seen}",
            "{status: read}",
            "provenance",
            "requirements[0].provenance.status: found 'read', wanted",
        ),
        (S, "area: FN-S", "area: FN-S\narea: FN-S", "area: FN-S\nreq", "key 'area' appears twice (first in line 1)"),
        (S, "[FN-R-FN-OA]", "[FN-R-FN-OA", "questions", "not readable as YAML (column "),
        # ids
        (S, "- id: FN-S", "- id: FN-Q", "- id", "requirements[0]: id: found 'FN-Q', wanted an id such as"),
        (S, "- id: FN-S", "- id: TR-S", "- id", "id: found 'TR-S', wanted an id of area FN-S"),
        (S, "area: FN-S", "area: FN-P", "area", "area: found 'FN-P', wanted 'FN-S'"),
        (
            S,
            "    aspect: S",
            "    aliases: [FN-P]\n    aspect: S",
            "- id",
            "FN-S: id 'FN-P' appears twice (first FN/FN-P.yaml:3 FN-P)",
        ),
        # what belongs together
        (S, "aspect: S", "aspect: ME", "- id", "requirements[0]: lifecycle goes with aspect ME, and only with it"),
        (
            S,
            "kinds: [Do]",
            "kinds: [Do]\n    conditional: [Te]",
            "- id",
            "requirements[0]: conditional lists kinds that are not among kinds",
        ),
        (
            S,
            "    objectives: [{id: a, text: It is done.}]\n",
            "",
            "- id",
            "requirements[0]: ",
        ),
        (S, "    guidance: {do: Do it., example: Done., mistakes: [Not doing it.]}\n", "", "- id", "requirements[0]: "),
        (S, "mistakes: [Not doing it.]", "mistakes: []", "guidance", "requirements[0].guidance.mistakes: found a list"),
        (
            S,
            "refers_to",
            "params: [{id: x, type: text, label: X}]\n    refers_to",
            "- id",
            "requirements[0]: params go with aspect CR, and every criterion has one",
        ),
        (
            R,
            "    params: [{id: gap, type: interval, label: Gap, unit: '1', check: trial.share}]\n",
            "",
            "- id: FN-R-FN-CR-01",
            "requirements[1]: params go with aspect CR, and every criterion has one",
        ),
        (
            R,
            "    checks: [trial.share]\n",
            "",
            "- id: FN-R-FN-ME-01",
            "requirements[3]: a test is demanded: wanted checks, or no_check_because",
        ),
        (
            R,
            "    checks: [trial.share]\n",
            "    checks: [trial.share]\n    no_check_because: None.\n",
            "- id: FN-R-FN-ME-01",
            "requirements[3]: no_check_because goes with a demanded test",
        ),
        (
            S,
            "refers_to",
            "replaced_by: [AT]\n    refers_to",
            "- id",
            "requirements[0]: replaced_by goes with state withdrawn",
        ),
        (
            S,
            "{status: seen}",
            "{status: seen, sources: [A book]}",
            "provenance",
            "requirements[0].provenance: sources go with status own, and only with it",
        ),
        # questions
        (
            S,
            "{id: reason, type: text",
            "{id: residual_risk, type: text",
            "- id",
            "requirements[0]: question ids repeat",
        ),
        (
            S,
            "{id: reason, type: text",
            "{id: reason, type: choice",
            "- {id: reason",
            "requirements[0].questions[1]: options go with type choice or several, and only with them",
        ),
        (
            S,
            "{id: reason, type: text",
            "{id: reason, type: table",
            "- {id: reason",
            "requirements[0].questions[1]: columns go with type table, and only with it",
        ),
        (
            S,
            "{id: reason, type: text",
            "{id: reason, type: text, unit: days",
            "- {id: reason",
            "requirements[0].questions[1]: unit goes with type number or interval",
        ),
        (
            S,
            "{id: reason, type: text",
            "{id: reason, type: text, objectives: [z]",
            "- id",
            "requirements[0]: question reason objectives: no objective 'z'",
        ),
        (
            S,
            "{id: reason, type: text",
            "{id: reason, type: text, fact: x",
            "- {id: reason",
            "requirements[0].questions[1]: fact and label go together",
        ),
        (
            S,
            "{id: reason, type: text",
            "{id: reason, type: several, options: ['a, b']",
            "- {id: reason",
            "requirements[0].questions[1]: options of type several hold no comma and no semicolon",
        ),
        (
            S,
            "'answer:FN-R-FN-OA.q1'",
            "'guess:x'",
            "- {id: reason",
            "requirements[0].questions[1].prefill[0]: found 'guess:x', wanted text that matches",
        ),
        # params
        (
            R,
            "{id: gap, type: interval, label: Gap, unit: '1', check: trial.share}",
            "{id: gap, type: interval, label: Gap}",
            "{id: gap",
            "requirements[1].params[0]: unit goes with type interval or number, and is compulsory there",
        ),
        (
            R,
            "{id: days, type: number, label: Days, unit: days}",
            "{id: days, type: number, label: Days, unit: days, check: a.b}",
            "{id: days",
            "requirements[2].params[0]: a target of a check is an interval",
        ),
        (
            R,
            "{id: days, type: number, label: Days, unit: days}",
            "{id: days, type: choice, label: Days}",
            "{id: days",
            "requirements[2].params[0]: options go with type choice, and only with it",
        ),
        # references
        (S, "[FN-R-FN-OA]", "[FN-R-FN-OB]", "refers_to", "FN-S refers_to: no requirement 'FN-R-FN-OB'; did you mean"),
        (
            S,
            "document: report",
            "document: reprot",
            "evidence",
            "FN-S evidence.0.document: no document 'reprot' in catalog.yaml; did you mean 'report'?",
        ),
        (
            S,
            "answer:FN-R-FN-OA.q1",
            "answer:FN-R-FN-OA.q2",
            "- {id: reason",
            "FN-S questions.1.prefill: FN-R-FN-OA has no question 'q2'",
        ),
        (
            S,
            "answer:FN-R-FN-OA.q1",
            "answer:FN-R-FN-OB.q1",
            "- {id: reason",
            "FN-S questions.1.prefill: no requirement 'FN-R-FN-OB'; did you mean",
        ),
        (
            S,
            "{id: reason, type: text",
            "{id: reason, type: text, fact: x, label: x",
            "- {id: reason",
            "FN-S questions.1.fact: found a fact outside the AI profile",
        ),
        (
            PF,
            "fact: uses, label: uses",
            "fact: learning, label: uses",
            "- {id: uses",
            "PF-T-FA-01 questions.1.fact: fact 'learning' appears twice",
        ),
        # conditions
        (
            R,
            LEARNS,
            "applicability: profile.learning = 'never'",
            "applicability: profile.l",
            "requirements[2].applicability: column 18: found '=', wanted a name, a word in quotes or ==",
        ),
        (
            R,
            LEARNS,
            "applicability: profile.learns != 'never'",
            "applicability: profile.l",
            "FN-R-FN-CR-02 applicability: no fact 'profile.learns' in the AI profile; did you mean 'learning'?",
        ),
        (
            R,
            LEARNS,
            "applicability: profile.learning != 'nevr'",
            "applicability: profile.l",
            "FN-R-FN-CR-02 applicability: profile.learning is never 'nevr'; did you mean 'never'?; it is one of: never",
        ),
        (
            R,
            LEARNS,
            "applicability: profile.learning in ['never', 'now']",
            "applicability: profile.l",
            "FN-R-FN-CR-02 applicability: profile.learning is never 'now'",
        ),
        (
            R,
            IMAGE,
            "applicability: need == 'hgh'",
            "applicability: need",
            "FN-R-FN-ME-02 applicability: need is never 'hgh'; did you mean 'high'?; it is one of: low, medium, high",
        ),
        (
            R,
            IMAGE,
            "applicability: need.FM == 'high'",
            "applicability: need",
            "FN-R-FN-ME-02 applicability: no protection need of 'FM'",
        ),
        (
            R,
            IMAGE,
            "applicability: profile.uses == 'image'",
            "applicability: profile.u",
            "FN-R-FN-ME-02 applicability: profile.uses holds several words; wanted 'word' in profile.uses",
        ),
        (
            R,
            IMAGE,
            "applicability: profile.uses in ['image']",
            "applicability: profile.u",
            "FN-R-FN-ME-02 applicability: profile.uses holds several words; wanted 'word' in profile.uses",
        ),
        (
            R,
            IMAGE,
            "applicability: reply('FN-S.risk') == 'x'",
            "applicability: reply",
            "FN-R-FN-ME-02 applicability: FN-S has no question 'risk'",
        ),
        (
            R,
            IMAGE,
            "applicability: reply('FN-S.residual_risk') == 'small'",
            "applicability: reply",
            "FN-R-FN-ME-02 applicability: reply('FN-S.residual_risk') is never 'small'",
        ),
        (
            R,
            IMAGE,
            "applicability: answered('FN-Q')",
            "applicability: answered",
            "FN-R-FN-ME-02 applicability: no requirement 'FN-Q'",
        ),
        (
            PF,
            "show_if: profile.learning != 'never'",
            "show_if: answered('FN-Q')",
            "- {id: when",
            "PF-T-FA-01 questions.2.show_if: no requirement 'FN-Q'",
        ),
        # the head
        (
            "catalog.yaml",
            "kind: summary",
            "kind: sumary",
            "kind: sumary",
            "dimensions[1].areas[2].kind: found 'sumary'",
        ),
        ("catalog.yaml", "version: 1.0.0", "version: one", "version", "version: found 'one', wanted text that matches"),
    ],
)
def test_faults_are_told_with_file_and_line(tiny: Path, file: str, old: str, new: str, mark: str, fault: str) -> None:
    text = (tiny / file).read_text("utf-8")
    place = text.index(f"- id: {re_id(fault)}") if re_id(fault) else 0
    at = text.index(old, place)
    (tiny / file).write_text(text[:at] + new + text[at + len(old) :], "utf-8")
    wanted = f"{file}:{line_of(tiny, file, mark)} {fault}"
    found = told(tiny)
    assert [line for line in found if line.startswith(wanted)], "\n".join(found)


def re_id(fault: str) -> str:
    """The requirement that a fault names, to change it there."""
    name = fault.partition(" ")[0]
    return name if name.startswith("FN-R") else ""


def test_a_word_that_stands_for_itself_is_no_fault(tiny: Path) -> None:
    changed(tiny, R, IMAGE, "applicability: reply('FN-S.reason') == 'any' or need.FN == need or answered('FN-P')")
    assert load_catalog(tiny).by_id["FN-R-FN-ME-02"].condition is not None


def test_faults_of_all_files_are_told_at_once(tiny: Path) -> None:
    (tiny / P).write_text("area: 1\n")
    (tiny / S).unlink()
    (tiny / "FN/FN-X.yaml").write_text("")
    found = "\n".join(told(tiny))
    for part in (
        "FN/FN-P.yaml:1 area: found 1",
        "FN-S.yaml: cannot read it: No such file",
        "FN/FN-X.yaml:1 found a file that catalog.yaml does not list under areas",
    ):
        assert part in found


def test_a_folder_without_a_catalog(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no catalog\.yaml here; wanted the folder of a catalog"):
        load_catalog(tmp_path)


def test_a_whole_requirement_cannot_be_without_guidance(tiny_catalog: Catalog) -> None:
    data = tiny_catalog.by_id["FN-S"].model_dump()
    assert Requirement.model_validate(data) == tiny_catalog.by_id["FN-S"]
    for name in ("guidance", "objectives"):
        with pytest.raises(ValueError):
            Requirement.model_validate({**data, name: None})


# --- packs -----------------------------------------------------------------------------------------------------------


def test_a_pack_stands_before_the_final_judgement(tiny: Path) -> None:
    found = load_catalog(tiny, packs=["X-TRY", "X-TRY"])
    assert [head.id for head in found.head.dimensions] == ["PF", "FN", "X-TRY", "AT"]
    assert [item.id for item in found.by_area["X-TRY-R-ME"]] == ["X-TRY-R-ME-RI-01", "X-TRY-R-ME-OA"]
    assert [item.dimension for item in found.by_area["X-TRY-R-ME"]] == ["X-TRY", "X-TRY"]
    assert "X-TRY-R-ME-OA" not in load_catalog(tiny).by_id


def test_a_pack_there_is_not(tiny: Path) -> None:
    with pytest.raises(UsageError, match="no pack 'X-TRI' in the catalog; did you mean 'X-TRY'"):
        load_catalog(tiny, packs=["X-TRI"])


PACK = "packs/X-TRY/pack.yaml"
OWN = "packs/X-TRY/X-TRY-R-ME.yaml"


@pytest.mark.parametrize(
    ("file", "old", "new", "fault"),
    [
        (PACK, "\n  id: X-TRY\n", "\n  id: X-TRI\n", f"{PACK}:1 dimension.id: found 'X-TRI', wanted 'X-TRY'"),
        (PACK, "X-TRY", "X-OTHER", f"{PACK}:2 id: found 'X-OTHER', wanted 'X-TRY'"),
        (PACK, "id: X-TRY\nv", "id: TRY\nv", f"{PACK}:2 id: found 'TRY', wanted text that matches"),
        (PACK, "note: For trial.\n", "", f"{PACK}:1 wanted the key 'note', found none"),
        (
            OWN,
            "- id: X-TRY-R-ME-OA",
            "- id: X-TRY-R-MM-OA",
            f"{OWN}:13 id: found 'X-TRY-R-MM-OA', wanted an id of area",
        ),
        (OWN, ", sources: [A book]", "", f"{OWN}:11 requirements[0].provenance: sources go with status own"),
    ],
)
def test_faults_of_a_pack(tiny: Path, file: str, old: str, new: str, fault: str) -> None:
    path = tiny / file
    path.write_text(path.read_text().replace(old, new))
    assert [line for line in told(tiny, packs=["X-TRY"]) if line.startswith(fault)]
    assert load_catalog(tiny)


def test_a_stray_file_of_a_pack(tiny: Path) -> None:
    (tiny / "packs/X-TRY/more.yaml").write_text("")
    assert told(tiny, packs=["X-TRY"]) == [
        "packs/X-TRY/more.yaml:1 found a file that catalog.yaml does not list under areas"
    ]


# --- translations ----------------------------------------------------------------------------------------------------


@pytest.fixture
def german(tiny: Path) -> Path:
    """The tiny catalog with everything in another language: the English words, marked."""
    catalog = load_catalog(tiny)
    head = {
        "title": "Winzig",
        "source_note": "f",
        "dimensions": {dimension.id: f"{dimension.title}!" for dimension in catalog.head.dimensions},
        "areas": {area.id: f"{area.title}!" for _, area in catalog.areas()},
        "documents": {"report": "Bericht"},
    }
    files = {"catalog.yaml": head}
    for dimension, area in catalog.areas():
        texts = {item.id: in_german(item) for item in catalog.by_area[area.id]}
        files[f"{dimension.id}/{area.id}.yaml"] = {"area": area.id, "translations": texts}
    for name, data in files.items():
        path = tiny / "i18n" / "de" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yamlfile.dump(data), "utf-8")
    return tiny


def in_german(item: Requirement) -> dict[str, Any]:
    questions = {}
    for question in item.questions:
        text: dict[str, Any] = {"text": f"{question.text}!"}
        if question.options:
            text["options"] = {word: f"{word}!" for word in question.options}
        if question.label:
            text["label"] = f"{question.label}!"
        questions[question.id] = text
    params = {param.id: {"label": f"{param.label}!", "unit": f"{param.unit}!"} for param in item.params}
    return {
        "source": text_digest(item),
        "title": "Ein Titel",
        "statement": "Ein Satz.",
        "guidance": {"do": "Tun.", "example": "Getan.", "mistakes": ["Nichts tun."]},
        "objectives": {"a": "Es ist getan."},
        **({"params": params} if params else {}),
        "questions": questions,
        "evidence": ["Ein Dokument"],
    }


def test_another_language_changes_words_and_nothing_else(german: Path) -> None:
    english, other = load_catalog(german), load_catalog(german, language="de")
    assert (other.language, other.sha256) == ("de", english.sha256)
    assert [item.id for item in other.requirements] == [item.id for item in english.requirements]
    profile = other.by_id["PF-T-FA-01"]
    uses = profile.question("uses")
    assert (profile.title, uses.text, uses.label) == ("Ein Titel", "What?!", "uses!")
    assert (uses.options, uses.labels["image"]) == (("none", "text", "image"), "image!")
    criterion = other.by_id["FN-R-FN-CR-01"]
    assert (criterion.params[0].label, criterion.params[0].unit, criterion.params[0].check) == (
        "Gap!",
        "1!",
        "trial.share",
    )
    assert criterion.evidence[0].what == "Ein Dokument"
    assert other.by_id["FN-R-FN-CR-02"].condition == english.by_id["FN-R-FN-CR-02"].condition
    assert other.head.dimensions[1].title == "Fairness!"
    assert other.head.dimensions[1].areas[0].title == "Need!"
    assert other.document("report").title == "Bericht"
    for name in ("FN-R-FN", "FN", "FN-P", None):  # by area and by id the same words
        assert {item.title for item in other.select(name)} == {"Ein Titel"}


def test_a_language_there_is_not(tiny: Path) -> None:
    with pytest.raises(UsageError, match="--lang: found 'fr', wanted one of en, de"):
        load_catalog(tiny, language="fr")


DE_P, DE_R, DE_S = (f"i18n/de/{name}" for name in (P, R, S))


def test_a_changed_english_text_makes_its_translation_stale(german: Path) -> None:
    old = text_digest(load_catalog(german).by_id["FN-S"])
    changed(german, S, "A statement.", "Another statement.")
    new = text_digest(load_catalog(german).by_id["FN-S"])
    line = line_of(german, DE_S, "FN-S:")
    assert told(german, language="de") == [
        f"{DE_S}:{line} FN-S source: found '{old}', wanted '{new}': the English text has changed since"
    ]


@pytest.mark.parametrize(
    ("old", "new", "stale"),
    [
        ("A title", "Another title", True),
        ("Not doing it.", "Forgetting it.", True),
        ("It is done.", "It was done.", True),
        ("[negligible, acceptable,", "[negligible, tolerable,", True),
        ("what: A document", "what: The document", True),
        ("max_age_days: 30", "max_age_days: 60", False),
        ("prefill: ['answer:FN-R-FN-OA.q1']", "prefill: []", False),
        ("aspect: S", "aliases: [FN-S-old]\n    aspect: S", False),
    ],
)
def test_only_words_count_for_the_digest(tiny: Path, old: str, new: str, stale: bool) -> None:
    before = text_digest(load_catalog(tiny).by_id["FN-S"])
    changed(tiny, S, old, new)
    assert (text_digest(load_catalog(tiny).by_id["FN-S"]) != before) == stale


@pytest.mark.parametrize(
    ("file", "change", "fault"),
    [
        (DE_S, lambda data: data["translations"].pop("FN-S"), f"{DE_S}: 'FN-S' is missing"),
        (
            DE_S,
            lambda data: data["translations"].update({"FN-Q": data["translations"]["FN-S"]}),
            f"{DE_S}: found 'FN-Q', which FN-S does not have",
        ),
        (DE_S, lambda data: data.update(area="FN-P"), f"{DE_S}:1 area: found 'FN-P', wanted 'FN-S'"),
        (DE_S, lambda data: data["translations"]["FN-S"].pop("title"), "translations.FN-S: wanted the key 'title'"),
        (
            DE_S,
            lambda data: data["translations"]["FN-S"].update(titel="x"),
            "unknown key 'titel'; did you mean 'title'",
        ),
        (DE_S, lambda data: data["translations"]["FN-S"]["questions"].pop("reason"), "questions: 'reason' is missing"),
        (
            DE_S,
            lambda data: data["translations"]["FN-S"]["questions"].update(more={"text": "x"}),
            "FN-S questions: found 'more', which the English text does not have",
        ),
        (
            DE_S,
            lambda data: data["translations"]["FN-S"]["questions"]["residual_risk"]["options"].pop("acceptable"),
            "FN-S questions.residual_risk.options: 'acceptable' is missing",
        ),
        (
            DE_S,
            lambda data: data["translations"]["FN-S"]["questions"]["residual_risk"]["options"].update(
                acceptable="Negligible!"
            ),
            "FN-S questions.residual_risk.options: 'Negligible!' appears twice",
        ),
        (
            DE_S,
            lambda data: data["translations"]["FN-S"]["questions"]["reason"].update(options={"a": "b"}),
            "FN-S questions.reason.options: found 'a', which the English text does not have",
        ),
        (
            DE_S,
            lambda data: data["translations"]["FN-S"]["questions"]["reason"].update(label="x"),
            "FN-S questions.reason.label: found, but the English text has none",
        ),
        (DE_S, lambda data: data["translations"]["FN-S"]["objectives"].clear(), "FN-S objectives: 'a' is missing"),
        (DE_S, lambda data: data["translations"]["FN-S"]["evidence"].append("x"), "FN-S evidence: found 2, wanted 1"),
        (
            DE_S,
            lambda data: data["translations"]["FN-S"]["guidance"]["mistakes"].append("x"),
            "FN-S guidance.mistakes: found 2, wanted 1",
        ),
        (
            DE_S,
            lambda data: data["translations"]["FN-S"].update(no_check_because="x"),
            "FN-S no_check_because: found, but the English text has none",
        ),
        (
            DE_R,
            lambda data: data["translations"]["FN-R-FN-CR-01"].pop("params"),
            "FN-R-FN-CR-01 params: 'gap' is missing",
        ),
        (
            DE_R,
            lambda data: data["translations"]["FN-R-FN-CR-01"]["params"]["gap"].pop("unit"),
            "FN-R-FN-CR-01 params.gap.unit: is missing",
        ),
        (
            "i18n/de/PF/PF-T.yaml",
            lambda data: data["translations"]["PF-T-FA-01"]["questions"]["uses"]["options"].update(text="Text, Ton"),
            "PF-T-FA-01 questions.uses.options: hold no comma and no semicolon, which part a reply",
        ),
        (
            "i18n/de/catalog.yaml",
            lambda data: data["areas"].pop("FN-P"),
            "i18n/de/catalog.yaml areas: 'FN-P' is missing",
        ),
        (
            "i18n/de/catalog.yaml",
            lambda data: data["documents"].clear(),
            "i18n/de/catalog.yaml documents: 'report' is missing",
        ),
    ],
)
def test_faults_of_translations(german: Path, file: str, change: Callable[[Any], Any], fault: str) -> None:
    data = yamlfile.read(german / file).data
    change(data)
    (german / file).write_text(yamlfile.dump(data), "utf-8")
    assert [line for line in told(german, language="de") if fault in line]
    assert load_catalog(german)


def test_a_translation_that_is_not_there(german: Path) -> None:
    (german / DE_S).unlink()
    with pytest.raises(UsageError, match=r"FN-S\.yaml: cannot read it"):
        load_catalog(german, language="de")


# --- frameworks ------------------------------------------------------------------------------------------------------

MAPPING = """schema: aic-mapping/1
id: law
title: A law
publisher: A state
edition: first
url: https://example.org
status: by hand
dates:
  - {what: All of it, applies_from: 2026-08-02, clauses: [§1], source: the law, confidence: high}
clauses:
  - id: §1
    title: First
    maps:
      - {requirements: [FN-S, FN-R-FN], relationship: superset-of, confidence: medium}
  - id: §2
    title: Second
    open_because: nothing here speaks to it
"""


@pytest.fixture
def mapped(tiny: Path) -> Path:
    """The tiny catalog with one framework."""
    (tiny / "mappings").mkdir()
    (tiny / "mappings" / "law.yaml").write_text(MAPPING, "utf-8")
    return tiny


def test_frameworks_are_read_in_order(mapped: Path) -> None:
    (mapped / "mappings" / "act.yaml").write_text(MAPPING.replace("id: law", "id: act"), "utf-8")
    found = load_frameworks(load_catalog(mapped), mapped)
    assert [framework.id for framework in found] == ["act", "law"]
    assert found[1].clauses[0].maps[0].relationship is Relationship.SUPERSET_OF
    assert [relation for relation in Relationship if relation.is_whole] == ["equal-to", "equivalent-to", "superset-of"]


def test_a_catalog_without_frameworks(tiny: Path) -> None:
    assert load_frameworks(load_catalog(tiny), tiny) == ()


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("id: law", "id: lore", "mappings/law.yaml:2 id: found 'lore', wanted the file's name"),
        (
            "[FN-S, FN-R-FN]",
            "[FN-S, FN-R-FM]",
            "mappings/law.yaml:14 §1: no requirement or area 'FN-R-FM'; did you mean",
        ),
        ("superset-of", "superset", "mappings/law.yaml:14 clauses[0].maps[0].relationship: found 'superset', wanted"),
        ("id: §2", "id: §1", "mappings/law.yaml:1 clauses: '§1' appears twice"),
        ("clauses: [§1]", "clauses: [§3]", "mappings/law.yaml:1 dates: no clause '§3'"),
        (
            "    open_because: nothing here speaks to it\n",
            "",
            "mappings/law.yaml:15 clauses[1]: wanted maps, or open_because saying why",
        ),
        (
            "    maps:\n",
            "    open_because: none\n    maps:\n",
            "mappings/law.yaml:11 clauses[0]: wanted maps, or open_because saying why",
        ),
    ],
)
def test_faults_of_frameworks(mapped: Path, old: str, new: str, fault: str) -> None:
    changed(mapped, "mappings/law.yaml", old, new)
    with pytest.raises(ConfigurationError) as caught:
        load_frameworks(load_catalog(mapped), mapped)
    assert str(caught.value).startswith(fault)


# --- the one that an assessment follows -------------------------------------------------------------------------------


def test_an_assessment_follows_the_installed_catalog(configure: Make, catalog: Catalog) -> None:
    assert followed_catalog(configure()) == catalog
    assert followed_catalog(configure()) is followed_catalog(configure())
    with speaking("de"):
        assert followed_catalog(configure()).language == "de"
        assert followed_catalog(configure(), "en").language == "en"


@pytest.mark.parametrize("changes", [{"version": "0.9.0"}, {"id": "another", "version": "1.1.0"}])
def test_an_assessment_of_another_catalog(configure: Make, changes: dict[str, str]) -> None:
    configuration: Configuration = configure(catalog=changes)
    with pytest.raises(UsageError, match=r"the assessment follows .*, installed is .* bring it up to date with"):
        followed_catalog(configuration)


def test_a_copy_of_ours_has_its_digest(tmp_path: Path, catalog: Catalog) -> None:
    shutil.copytree(FOLDER, tmp_path / "catalog", ignore=shutil.ignore_patterns("i18n", "packs", "mappings"))
    assert load_catalog(tmp_path / "catalog").sha256 == catalog.sha256
