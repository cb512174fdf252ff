"""What changed between two editions of the catalog, and what becomes of answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import Run

from assessor.catalog_diff import Change, Edition, Fate, What, compare, edition_of, read_edition, told
from assessor.criteria import load_catalog
from assessor.errors import ConfigurationError, UsageError
from assessor.exports.oscal_reading import to_yaml
from assessor.model import Catalog

Edit = Callable[[dict[str, Any]], None]
NAME = "FN-R-FN-CR-01"


def edited(catalog: Catalog, edit: Edit, name: str = NAME) -> Edition:
    """The catalog with one requirement changed."""
    edition = edition_of(catalog)
    item = json.loads(json.dumps(edition.requirements[name]))
    edit(item)
    return edition._replace(requirements={**edition.requirements, name: item})


def only(before: Edition, after: Edition) -> Change:
    (change,) = compare(before, after)
    return change


def test_an_edition_does_not_differ_from_itself(tiny_catalog: Catalog) -> None:
    assert compare(edition_of(tiny_catalog), edition_of(tiny_catalog)) == ()


def test_files_and_the_loaded_catalog_are_the_same_edition(catalog: Catalog, tmp_path: Path) -> None:
    for name, content in to_yaml(catalog).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert compare(read_edition(tmp_path), edition_of(catalog)) == ()


def test_the_packs_of_a_folder_are_read(tiny: Path) -> None:
    edition = read_edition(tiny)
    assert "X-TRY-R-ME-OA" in edition.requirements
    assert (edition.id, edition.version) == ("tiny", "1.0.0")
    assert compare(edition, edition_of(load_catalog(tiny, packs=["X-TRY"]))) == ()


def question(item: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = item["questions"][0]
    return found


EDITS: list[tuple[Edit, Fate, str]] = [
    (lambda item: item["questions"].pop(), Fate.AGAIN, "answer again: question q1 went"),
    (
        lambda item: item["questions"].append({**question(item), "id": "q2"}),
        Fate.INCOMPLETE,
        "answers stay, complete them: question q2 is new",
    ),
    (
        lambda item: question(item).update(type="number"),
        Fate.AGAIN,
        "answer again: question q1 takes number instead of text",
    ),
    (
        lambda item: question(item).update(text="Who?"),
        Fate.LOOK,
        "answers stay, look again: question q1 reads differently",
    ),
    (
        lambda item: question(item).update(show_if="need == 'high'"),
        Fate.LOOK,
        "answers stay, look again: question q1 is asked under another condition",
    ),
    (lambda item: question(item).update(unit="days"), Fate.AGAIN, "answer again: question q1 is in another unit"),
    (
        lambda item: question(item).update(role="auditor"),
        Fate.AGAIN,
        "answer again: question q1 went; auditor: question q1 is new",
    ),
    (lambda item: question(item).update(prefill=["known:purpose"]), Fate.STAYS, "answers stay"),
    (lambda item: item.update(title="Other"), Fate.STAYS, "answers stay"),
    (lambda item: item.update(guidance={"do": "x", "example": "y", "mistakes": ["z"]}), Fate.STAYS, "answers stay"),
    (
        lambda item: item.update(statement="Other."),
        Fate.LOOK,
        "answers stay, look again: the statement reads differently",
    ),
    (
        lambda item: item.update(applicability="need == 'high'"),
        Fate.LOOK,
        "answers stay, look again: asked only when need == 'high'",
    ),
    (
        lambda item: item.update(kinds=["Do", "Te"]),
        Fate.INCOMPLETE,
        "answers stay, complete them: now demands Te too",
    ),
    (lambda item: item.update(checks=["a.b"]), Fate.STAYS, "answers stay: measured by a.b too"),
    (lambda item: item["evidence"].pop(), Fate.STAYS, "answers stay: other evidence is expected"),
    (lambda item: item["params"].pop(), Fate.AGAIN, "answer again: target gap went"),
    (
        lambda item: item["params"].append({**item["params"][0], "id": "p2"}),
        Fate.INCOMPLETE,
        "answers stay, complete them: target p2 is new",
    ),
    (lambda item: item["params"][0].update(unit="s"), Fate.AGAIN, "answer again: target gap is of another form"),
    (
        lambda item: item["params"][0].update(label="L"),
        Fate.LOOK,
        "answers stay, look again: target gap reads differently",
    ),
    (
        lambda item: item["objectives"][0].update(text="Other."),
        Fate.LOOK,
        "answers stay, look again: other objectives are established",
    ),
    (lambda item: item.update(state="withdrawn"), Fate.ENDS, "no longer asked, and nothing took its place"),
    (lambda item: item.update(state="withdrawn", replaced_by=["A", "B"]), Fate.MOVED, "moved to A, B"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "fate", "sentence"), EDITS, ids=[sentence for _edit, _fate, sentence in EDITS])
def test_what_becomes_of_an_answer(tiny_catalog: Catalog, edit: Edit, fate: Fate, sentence: str) -> None:
    change = only(edition_of(tiny_catalog), edited(tiny_catalog, edit))
    assert (change.id, change.answers, told(change)) == (NAME, fate, sentence)


def test_words_of_a_choice(tiny_catalog: Catalog) -> None:
    def lose(item: dict[str, Any]) -> None:
        item["questions"][1]["options"] = ["text", "image"]

    def gain(item: dict[str, Any]) -> None:
        item["questions"][1]["options"].append("sound")

    before = edition_of(tiny_catalog)
    lost = only(before, edited(tiny_catalog, lose, "PF-T-FA-01"))
    gained = only(before, edited(tiny_catalog, gain, "PF-T-FA-01"))
    assert told(lost) == "answer again: question uses lost none"
    assert told(gained) == "answers stay, look again: question uses takes more words"


def test_what_an_auditor_is_asked_does_not_touch_answers(tiny_catalog: Catalog) -> None:
    change = only(edition_of(tiny_catalog), edited(tiny_catalog, lambda item: item["questions"].pop(), "PF-T-FA-01"))
    assert told(change) == "answers stay: auditor: question probe went"


def test_new_gone_and_renamed(tiny_catalog: Catalog) -> None:
    before = edition_of(tiny_catalog)
    less = {name: item for name, item in before.requirements.items() if name != NAME}
    gone = only(before, before._replace(requirements=less))
    assert (gone.what, gone.answers) == (What.WITHDRAWN, Fate.ENDS)
    new = only(before._replace(requirements=less), before)
    assert (new.what, new.answers, told(new)) == (What.ADDED, Fate.NEW, "to be answered")
    renamed = {**before.requirements[NAME], "id": "FN-R-FN-CR-09", "aliases": [NAME]}
    moved = only(before, before._replace(requirements={**less, "FN-R-FN-CR-09": renamed}))
    assert (moved.what, moved.moved_to, told(moved)) == (
        What.REPLACED,
        ("FN-R-FN-CR-09",),
        "moved to FN-R-FN-CR-09",
    )


def test_what_was_withdrawn_before_is_no_news(tiny_catalog: Catalog) -> None:
    withdrawn = edited(tiny_catalog, lambda item: item.update(state="withdrawn"))
    assert compare(withdrawn, withdrawn) == ()
    back = only(withdrawn, edition_of(tiny_catalog))
    assert (back.what, back.answers) == (What.ADDED, Fate.NEW)


EARLIER = """area: FN-P
requirements:
  - id: FN-P
    aspect: P
    kinds: [Do]
    title: The protection need for fairness is set
    statement: It is set.
    questions:
      - {id: level, type: choice, text: Which?, options: [low, medium, high]}
    evidence:
      - {type: document, what: An analysis}
    provenance: {status: id-only}
"""
EARLIER_HEAD = """schema: aic-catalog/1
id: ai-assessment-catalog
version: 1.0.0
dimensions:
  - {id: FN, title: Fairness, areas: [{id: FN-P, kind: protection, title: Need}]}
"""


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A folder in the schema of version 1.0.0, which had neither guidance nor objectives."""
    (tmp_path / "old" / "FN").mkdir(parents=True)
    (tmp_path / "old" / "catalog.yaml").write_text(EARLIER_HEAD)
    (tmp_path / "old" / "FN" / "FN-P.yaml").write_text(EARLIER)
    return tmp_path / "old"


def test_editions_of_an_older_schema_are_read(earlier: Path, catalog: Catalog) -> None:
    with pytest.raises(ConfigurationError):
        load_catalog(earlier)
    (change,) = (item for item in compare(read_edition(earlier), edition_of(catalog)) if item.id == "FN-P")
    assert change.answers is Fate.AGAIN
    assert "question level went" in change.because


def test_folders_that_are_no_catalog(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no catalog\.yaml here"):
        read_edition(tmp_path)
    (tmp_path / "catalog.yaml").write_text("dimensions: 3")
    with pytest.raises(ConfigurationError, match="not readable as a catalog"):
        read_edition(tmp_path)


@pytest.mark.slow
def test_the_command(earlier: Path, tiny: Path, run: Run) -> None:
    code, out, _err = run("catalog", "diff", earlier, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["before"] == {"id": "ai-assessment-catalog", "version": "1.0.0", "requirements": 1}
    assert {item["what"] for item in found["changes"]} == {"changed", "added"}
    code, out, _err = run("catalog", "diff", earlier, tiny)
    assert code == 0
    assert "question level went" in out
    added = len(read_edition(tiny).requirements) - 1
    assert out.splitlines()[-1] == f"ai-assessment-catalog 1.0.0 → tiny 1.0.0: {added} added, 1 changed"
    code, out, _err = run("catalog", "diff", tiny, tiny)
    assert (code, out) == (0, "tiny 1.0.0 → tiny 1.0.0: no requirement changed\n")
