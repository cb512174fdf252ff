"""From one catalog version to the next: nothing that somebody said is lost, and no verdict gets better."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from commands import Done, Run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assessor import ledger, yamlfile
from assessor.assessment import Assessment
from assessor.catalog_diff import Edition, edition_of, read_edition
from assessor.criteria import load_catalog
from assessor.errors import UsageError
from assessor.evidence import check
from assessor.migration import Plan, migrate, planned, without_key
from assessor.model import Answer, Answers, Catalog, CatalogHead, Requirement
from assessor.project import Project
from assessor.succession import told_reply

Make = Callable[..., Any]
OLD = Path(__file__).parent / "data" / "assessment-1.0.0"
AT = datetime(2026, 3, 1, 10, tzinfo=UTC)
SHEET = {"name": "sheet.md", "sha256": "a" * 64}


# --- the real one ----------------------------------------------------------------------------------------------------


@pytest.fixture
def old(tmp_path: Path) -> Project:
    """What the demo wrote under catalog 1.0.0."""
    files = {str(path.relative_to(OLD)): path.read_bytes() for path in sorted(OLD.rglob("*.yaml"))}
    return Project.create(tmp_path / "old", files, actor="dev", action="init")


def raw_answers(folder: Path) -> dict[str, Answer]:
    found: dict[str, Answer] = {}
    for path in sorted((folder / "answers").glob("*.yaml")):
        found |= yamlfile.validate(yamlfile.read(path), Answers).root
    return found


def test_the_folder_of_1_0_0_cannot_be_used_before_and_can_after(old: Project, catalog: Catalog) -> None:
    with pytest.raises(UsageError, match="bring it up to date with  assessor migrate"):
        Assessment.read(old)
    before = raw_answers(old.folder)
    plan = migrate(old, catalog, by="Ada")
    assert (plan.before, plan.after) == ("1.0.0", catalog.head.version)
    found = Assessment.read(Project(old.folder))
    assert found.answers.keys() == before.keys()
    assert found.configuration.catalog.version == catalog.head.version
    for name, answer in found.answers.items():
        earlier = before[name]
        assert (answer.value, answer.by, answer.at, answer.evidence) == (
            earlier.value,
            earlier.by,
            earlier.at,
            earlier.evidence,
        )
        assert answer.because.startswith(earlier.because)
        for question, reply in earlier.replies.items():
            if question in answer.replies:
                assert told_reply(answer.replies[question]) == told_reply(reply)
                assert answer.origins[question] == "said under catalog 1.0.0"
            else:
                assert f"(earlier reply to {question}: {told_reply(reply)})" in answer.because
    assert sum(len(earlier.replies) for earlier in before.values()) > 20
    assert any("(earlier reply to level: high)" in answer.because for answer in found.answers.values())


def test_it_is_one_recorded_step(old: Project, catalog: Catalog) -> None:
    migrate(old, catalog, by="Ada")
    entries = list(ledger.entries(old.ledger_bytes()))
    assert [entry.action for entry in entries] == ["init", f"migrate 1.0.0 to {catalog.head.version}"]
    assert entries[1].actor == "Ada"
    assert "assessor.yaml" in entries[1].files
    digests = ledger.expected_files(old.ledger_bytes())
    from assessor.canonical import sha256_hex

    for name, digest in digests.items():
        assert sha256_hex((old.folder / name).read_bytes()) == digest


def test_comments_in_assessor_yaml_stay(old: Project, catalog: Catalog) -> None:
    before = (old.folder / "assessor.yaml").read_text()
    migrate(old, catalog)
    after = (old.folder / "assessor.yaml").read_text()
    lines = [line for line in before.splitlines() if line.lstrip().startswith("#")]
    assert len(lines) > 5
    assert [line for line in after.splitlines() if line.lstrip().startswith("#")] == lines


def test_a_dry_run_writes_nothing_and_a_second_run_has_nothing_to_do(old: Project, catalog: Catalog) -> None:
    before = {path: path.read_bytes() for path in old.folder.rglob("*.*") if path.is_file()}
    dry = migrate(old, catalog, dry_run=True)
    assert {path: path.read_bytes() for path in old.folder.rglob("*.*") if path.is_file()} == before
    done = migrate(old, catalog)
    assert done == dry
    again = migrate(old, catalog)
    assert (again.files, again.steps) == ({}, ())
    assert len(list(ledger.entries(old.ledger_bytes()))) == 2


@pytest.mark.slow
def test_the_command(old: Project, catalog: Catalog, run: Run) -> None:
    def ran(*arguments: object) -> Done:
        return run("migrate", "--project", old.folder, *arguments)

    plan = planned(old, catalog)
    changed = sum(step.what == "changed" for step in plan.steps)
    code, out, _err = ran("--dry-run", "--json")
    found = json.loads(out)
    assert (code, found["before"], found["dry_run"]) == (0, "1.0.0", True)
    assert sum(step["what"] == "changed" for step in found["steps"]) == changed
    code, out, _err = ran("--dry-run")
    assert code == 0
    assert out.splitlines()[-1] == "nothing was written"
    code, out, _err = ran("--by", "Ada")
    assert code == 0
    assert f"catalog 1.0.0 to {catalog.head.version}: {len(plan.steps) - changed} kept, {changed} changed" in out
    assert "answers FN-P  changed\n    (earlier reply to level: high)\n" in out
    assert "complete them with  assessor answer PF-T-FA-01" in out
    code, out, _err = ran()
    assert (code, out) == (0, f"nothing to do: the assessment follows catalog {catalog.head.version}\n")


# --- made ones -------------------------------------------------------------------------------------------------------


def answer(value: str = "fulfilled", because: str = "so it is", **more: Any) -> dict[str, Any]:
    return {"value": value, "because": because, "by": "Ada", "at": AT.isoformat(), **more}


def audit(value: str = "fulfilled", **more: Any) -> dict[str, Any]:
    deviation = {"deviation": "something"} if value in {"partly", "not_fulfilled"} else {}
    said = {"value": value, "because": "seen", "assurance": "re_performed", "by": "Grace", "at": AT.isoformat()}
    return {**said, **deviation, **more}


def later(catalog: Catalog, **changes: Mapping[str, Any]) -> Catalog:
    """The tiny catalog as version 2.0.0, with requirements changed by id (`_` for `-`)."""
    requirements = [
        Requirement.model_validate({**item.model_dump(), **changes.get(item.id.replace("-", "_"), {})})
        for item in catalog.requirements
    ]
    head = CatalogHead.model_validate({**catalog.head.model_dump(by_alias=True), "version": "2.0.0"})
    return Catalog(head=head, requirements=tuple(requirements), sha256=catalog.sha256)


@pytest.fixture
def make_old(tmp_path: Path) -> Make:
    """Makes an assessment of the tiny catalog 1.0.0 from texts or data by path."""

    def make(**files: Any) -> Project:
        configuration = {
            "format": 1,
            "catalog": {"id": "tiny", "version": "1.0.0"},
            "system": {"name": "s", "version": "1"},
        }
        contents = {"assessor.yaml": yamlfile.dump(configuration).encode()}
        for name, data in files.items():
            folder, _, area = name.partition("__")
            text = data if isinstance(data, str) else yamlfile.dump(data)
            contents[f"{folder}/{area.replace('_', '-')}.yaml"] = text.encode()
        return Project.create(tmp_path / "made", contents, actor="t", action="init")

    return make


def steps(plan: Plan) -> dict[str, str]:
    return {step.id: step.what for step in plan.steps}


def withdrawn(*replaced_by: str) -> dict[str, Any]:
    return {"state": "withdrawn", "replaced_by": replaced_by}


def test_what_still_fits_stays_byte_for_byte(make_old: Make, tiny_catalog: Catalog) -> None:
    text = "# ours\nFN-R-FN-OA:   # mine\n  {value: partly, because: x, by: y, at: 2026-03-01T10:00:00Z}\n"
    project = make_old(answers__FN_R_FN=text)
    plan = migrate(project, later(tiny_catalog))
    assert set(plan.files) == {"assessor.yaml"}
    assert (project.folder / "answers" / "FN-R-FN.yaml").read_text() == text
    assert steps(plan) == {"FN-R-FN-OA": "kept"}


def test_replies_that_do_not_fit_go_into_the_reason(make_old: Make, tiny_catalog: Catalog) -> None:
    replies = {"learns": "at times", "uses": ["text", "image"], "when": "each month", "gone": [None, 0.5]}
    origins = {"learns": "card.md", "gone": "card.md"}
    project = make_old(answers__PF_T={"PF-T-FA-01": answer(replies=replies, origins=origins)})
    questions = [item.model_dump() for item in tiny_catalog.by_id["PF-T-FA-01"].questions]
    questions[1]["options"] = ["none", "text"]
    questions[2]["role"] = "auditor"
    catalog = later(tiny_catalog, PF_T_FA_01={"questions": questions})
    (step,) = migrate(project, catalog).steps
    found = project.answers(catalog)["PF-T-FA-01"]
    assert found.replies == {"learns": "at times"}
    assert found.origins == {"learns": "card.md"}
    assert found.because == (
        "so it is\n(earlier reply to uses: text, image)\n(earlier reply to when: each month)\n"
        "(earlier reply to gone: at most 0.5)"
    )
    assert (step.what, len(step.notes), step.unanswered) == ("changed", 3, ("PF-T-FA-01.uses",))


def test_with_the_earlier_edition_only_changed_questions_are_marked(make_old: Make, tiny_catalog: Catalog) -> None:
    said = {"FN-R-FN-RI-01": answer(replies={"q1": "a"}), "FN-R-FN-OA": answer(replies={"q1": "b"})}
    project = make_old(answers__FN_R_FN=said)
    questions = [{**tiny_catalog.by_id["FN-R-FN-OA"].questions[0].model_dump(), "text": "Why?"}]
    catalog = later(tiny_catalog, FN_R_FN_OA={"questions": questions})
    migrate(project, catalog, edition_of(tiny_catalog))
    found = project.answers(catalog)
    assert found["FN-R-FN-RI-01"].origins == {}
    assert found["FN-R-FN-OA"].origins == {"q1": "said under catalog 1.0.0"}


def test_the_earlier_edition_must_be_the_one_followed(make_old: Make, tiny_catalog: Catalog) -> None:
    project = make_old()
    with pytest.raises(UsageError, match=r"--from: found tiny 9\.9\.9, wanted tiny 1\.0\.0"):
        migrate(project, later(tiny_catalog), Edition("tiny", "9.9.9", {}))


def test_a_withdrawn_requirement_moves_to_the_one_that_replaced_it(make_old: Make, tiny_catalog: Catalog) -> None:
    said = answer(replies={"q1": "text"}, evidence=[SHEET], same_as="FN-R-FN-RI-01")
    project = make_old(answers__FN_R_FN={"FN-R-FN-ME-02": said, "FN-R-FN-RI-01": answer()})
    catalog = later(tiny_catalog, FN_R_FN_ME_02=withdrawn("FN-S"))
    plan = migrate(project, catalog)
    assert steps(plan) == {"FN-R-FN-RI-01": "kept", "FN-R-FN-ME-02": "moved"}
    found = project.answers(catalog)
    assert found.keys() == {"FN-R-FN-RI-01", "FN-S"}
    moved = found["FN-S"]
    assert (moved.value, moved.replies, moved.same_as) == ("fulfilled", {}, "FN-R-FN-RI-01")
    assert [item.name for item in moved.evidence] == ["sheet.md"]
    assert moved.because == (
        "so it is\n(earlier reply to q1: text)\n(taken over from FN-R-FN-ME-02, which this requirement replaces)"
    )
    assert "FN-R-FN-ME-02" not in yamlfile.read(project.folder / "answers" / "FN-R-FN.yaml").data


def test_evidence_serves_what_replaced_its_requirement(make_old: Make, tiny_catalog: Catalog) -> None:
    text = "".join(
        f"{letter * 64}:  # {letter}\n  name: {letter}.md\n  media_type: text/markdown\n  size: 1  # byte\n"
        f"  requirements: [{ids}]\n  by: Ada\n  at: '2026-03-01T10:00:00Z'\n"
        for letter, ids in {"a": "FN-R-FN-ME-02, FN-S", "b": "FN-R-FN-CR-02", "c": "FN-S", "d": "FN-R-FN-OA"}.items()
    )
    project = make_old(answers__FN_R_FN={"FN-R-FN-ME-02": answer()})
    project.commit({"evidence.yaml": text.encode()}, actor="Ada", action="evidence add")
    catalog = later(
        tiny_catalog,
        FN_R_FN_ME_02=withdrawn("FN-S"),
        FN_R_FN_CR_02=withdrawn("FN-R-FN-ME-01", "FN-R-FN-ME-02"),
        FN_R_FN_OA=withdrawn(),
    )
    plan = migrate(project, catalog, by="Bo")
    served = {item.name: item.requirements for item in project.evidence(catalog).values()}
    assert served == {"a.md": ("FN-S",), "b.md": ("FN-R-FN-ME-01", "FN-S"), "c.md": ("FN-S",), "d.md": ()}
    told = [(step.id, step.to, step.what, step.notes) for step in plan.steps if step.folder == "evidence"]
    assert told == [
        ("FN-R-FN-CR-02", ("FN-R-FN-ME-01", "FN-S"), "moved", ("b.md",)),
        ("FN-R-FN-ME-02", ("FN-S",), "moved", ("a.md",)),
        ("FN-R-FN-OA", (), "set aside", ("d.md",)),
    ]
    aside = yamlfile.read(project.folder / "evidence" / "withdrawn.yaml.txt").data
    assert aside == {"FN-R-FN-OA": {"d" * 64: "d.md"}}
    after = (project.folder / "evidence.yaml").read_text()
    assert after.count("# byte") == 4
    assert after[after.index("c" * 64) : after.index("d" * 64)] == text[text.index("c" * 64) : text.index("d" * 64)]
    last = list(ledger.entries(project.ledger_bytes()))[-1]
    assert (last.action, last.actor) == ("migrate 1.0.0 to 2.0.0", "Bo")
    assert {"evidence.yaml", "evidence/withdrawn.yaml.txt", "answers/FN-S.yaml"} <= set(last.files)
    assert not [item for item in check(project, catalog, AT.date()) if item.standing == "orphaned"]


def test_a_register_that_names_nothing_that_moved_keeps_every_byte(make_old: Make, tiny_catalog: Catalog) -> None:
    project = make_old()
    text = f"{'a' * 64}: {{name: a, media_type: a/b, size: 1, requirements: [FN-S], by: x, at: '2026-03-01T10:00:00Z'}}"
    project.commit({"evidence.yaml": text.encode()}, actor="Ada", action="evidence add")
    assert set(migrate(project, later(tiny_catalog)).files) == {"assessor.yaml"}
    assert (project.folder / "evidence.yaml").read_text() == text


def test_several_replacements_get_a_marked_copy_each(make_old: Make, tiny_catalog: Catalog) -> None:
    project = make_old(answers__FN_R_FN={"FN-R-FN-ME-02": answer("partly")})
    catalog = later(
        tiny_catalog,
        FN_R_FN_ME_02=withdrawn("FN-R-FN-ME-01", "FN-R-FN-CR-02"),
        FN_R_FN_CR_02=withdrawn("FN-R-FN-OA", "FN-R-FN-ME-02"),  # a chain, and a ring
    )
    (step,) = migrate(project, catalog).steps
    found = project.answers(catalog)
    assert step.to == tuple(found) == ("FN-R-FN-ME-01", "FN-R-FN-OA")
    mark = "(taken over from FN-R-FN-ME-02, which FN-R-FN-ME-01, FN-R-FN-OA replace; the same text stands in each)"
    assert {item.because for item in found.values()} == {f"so it is\n{mark}"}


def test_answers_that_meet_give_the_worse_verdict_and_both_reasons(make_old: Make, tiny_catalog: Catalog) -> None:
    said = {
        "FN-R-FN-ME-02": answer("not_fulfilled", "first", evidence=[SHEET]),
        "FN-R-FN-ME-01": answer("fulfilled", "second", replies={"q1": "kept"}),
    }
    project = make_old(answers__FN_R_FN=said)
    catalog = later(tiny_catalog, FN_R_FN_ME_02=withdrawn("FN-R-FN-ME-01"))
    migrate(project, catalog)
    (found,) = project.answers(catalog).values()
    assert (found.value, found.replies) == ("not_fulfilled", {"q1": "kept"})
    assert [item.name for item in found.evidence] == ["sheet.md"]
    assert found.because == (
        "second\n(taken over from FN-R-FN-ME-02, answered not_fulfilled by Ada:)\nfirst\n"
        "(taken over from FN-R-FN-ME-02, which this requirement replaces)"
    )


def test_what_has_no_place_is_set_aside_and_named(make_old: Make, tiny_catalog: Catalog) -> None:
    said = {
        "FN-R-FN-ME-02": answer(),
        "FN-R-FN-ME-77": answer("partly", "of a catalog of ours"),
        "FN-R-FN-OA": answer(),
    }
    project = make_old(answers__FN_R_FN=said, audit__FN_R_FN={"FN-R-FN-ME-02": audit()})
    catalog = later(tiny_catalog, FN_R_FN_ME_02=withdrawn())
    plan = migrate(project, catalog)
    assert [(step.folder, step.id) for step in plan.steps if step.what == "set aside"] == [
        ("answers", "FN-R-FN-ME-02"),
        ("answers", "FN-R-FN-ME-77"),
        ("audit", "FN-R-FN-ME-02"),
    ]
    assert project.answers(catalog).keys() == {"FN-R-FN-OA"}
    assert project.audits(catalog) == {}
    aside = yamlfile.parse((project.folder / "answers" / "withdrawn.yaml.txt").read_text(), "x")
    kept = yamlfile.validate(aside, Answers).root
    assert {name: (item.value, item.because) for name, item in kept.items()} == {
        "FN-R-FN-ME-02": ("fulfilled", "so it is"),
        "FN-R-FN-ME-77": ("partly", "of a catalog of ours"),
    }
    assert "FN-R-FN-ME-02" in (project.folder / "audit" / "withdrawn.yaml.txt").read_text()


def test_what_was_set_aside_before_is_not_overwritten(make_old: Make, tiny_catalog: Catalog) -> None:
    project = make_old(answers__FN_R_FN={"FN-R-FN-ME-77": answer("partly", "new")})
    (project.folder / "answers" / "withdrawn.yaml.txt").write_text("FN-R-FN-ME-77: old\n")
    migrate(project, later(tiny_catalog))
    found = yamlfile.parse((project.folder / "answers" / "withdrawn.yaml.txt").read_text(), "x").data
    assert found["FN-R-FN-ME-77"] == "old"
    assert found["FN-R-FN-ME-77 (1.0.0)"]["because"] == "new"


def test_an_alias_is_the_same_requirement(make_old: Make, tiny_catalog: Catalog) -> None:
    said = {"FN-R-FN-ME-99": answer(replies={"q1": "stays"}), "FN-R-FN-OA": answer(same_as="FN-R-FN-ME-99")}
    project = make_old(answers__FN_R_FN=said)
    catalog = later(tiny_catalog, FN_R_FN_ME_02={"aliases": ["FN-R-FN-ME-99"]})
    plan = migrate(project, catalog)
    found = project.answers(catalog)
    assert steps(plan)["FN-R-FN-ME-99"] == "moved"
    assert found["FN-R-FN-ME-02"].replies == {"q1": "stays"}
    assert found["FN-R-FN-ME-02"].because == "so it is"
    assert found["FN-R-FN-OA"].same_as == "FN-R-FN-ME-02"


def test_same_as_without_a_single_place(make_old: Make, tiny_catalog: Catalog) -> None:
    said = {"FN-R-FN-OA": answer(same_as="FN-R-FN-ME-02"), "FN-R-FN-RI-01": answer(same_as="FN-R-FN-RI-01")}
    project = make_old(answers__FN_R_FN=said)
    catalog = later(tiny_catalog, FN_R_FN_ME_02=withdrawn("FN-R-FN-ME-01", "FN-R-FN-CR-02"))
    migrate(project, catalog)
    found = project.answers(catalog)
    assert found["FN-R-FN-OA"].same_as is None
    assert found["FN-R-FN-OA"].because == "so it is\n(was said to be the same as FN-R-FN-ME-02)"


def test_an_answer_that_stands_twice_is_refused(make_old: Make, tiny_catalog: Catalog) -> None:
    project = make_old(answers__FN_P={"FN-S": answer()}, answers__FN_S={"FN-S": answer("partly")})
    with pytest.raises(UsageError, match=r"answers/FN-S\.yaml:1 FN-S: stands in answers/FN-P\.yaml too; keep one"):
        migrate(project, later(tiny_catalog))


def test_an_answer_in_the_wrong_file_finds_its_place(make_old: Make, tiny_catalog: Catalog) -> None:
    project = make_old(answers__FN_P={"FN-S": answer(), "FN-P": answer()})
    migrate(project, later(tiny_catalog))
    assert project.answers(later(tiny_catalog)).keys() == {"FN-P", "FN-S"}


def test_targets_that_do_not_fit(make_old: Make, tiny_catalog: Catalog) -> None:
    params = {
        "gap": {"value": [0, 0.1], "because": "a"},
        "gone": {"value": 3, "because": "b"},
    }
    project = make_old(answers__FN_R_FN={"FN-R-FN-CR-01": answer(params=params)})
    catalog = later(tiny_catalog)
    migrate(project, catalog)
    found = project.answers(catalog)["FN-R-FN-CR-01"]
    assert found.params.keys() == {"gap"}
    assert found.because == "so it is\n(earlier target gone: 3: b)"


def test_audits(make_old: Make, tiny_catalog: Catalog) -> None:
    said = {
        "PF-T-FA-01": audit(replies={"probe": "yes", "lost": "no"}),
    }
    risk = {
        "FN-R-FN-ME-02": audit("partly", objectives=["a"], deviation="d2", comment="c2", assurance="self_declared"),
        "FN-R-FN-ME-01": audit("fulfilled", comment="c1"),
        "FN-R-FN-OA": audit("partly", objectives=["a", "z"]),
    }
    project = make_old(audit__PF_T=said, audit__FN_R_FN=risk)
    catalog = later(tiny_catalog, FN_R_FN_ME_02=withdrawn("FN-R-FN-ME-01"))
    migrate(project, catalog)
    found = project.audits(catalog)
    assert found["PF-T-FA-01"].replies == {"probe": "yes"}
    assert found["PF-T-FA-01"].because == "seen\n(earlier reply to lost: no)"
    merged = found["FN-R-FN-ME-01"]
    assert (merged.value, merged.assurance, merged.deviation, merged.comment) == (
        "partly",
        "self_declared",
        "d2",
        "c1\nc2",
    )
    assert "(earlier unmet objectives: a)" in merged.because
    assert found["FN-R-FN-OA"].objectives == ("a",)
    assert found["FN-R-FN-OA"].because == "seen\n(earlier unmet objectives: z)"


@pytest.mark.parametrize(
    ("followed", "told"),
    [
        ({"id": "other", "version": "1.0.0"}, "found 'other', installed is 'tiny'"),
        ({"id": "tiny", "version": "2.0.1"}, r"found 2\.0\.1, later than the installed 2\.0\.0"),
    ],
)
def test_ways_that_there_are_not(make_old: Make, tiny_catalog: Catalog, followed: Mapping[str, str], told: str) -> None:
    project = make_old()
    path = project.folder / "assessor.yaml"
    path.write_text(yamlfile.set_key(path.read_text(), "catalog", dict(followed), "x"))
    before = project.ledger_bytes()
    with pytest.raises(UsageError, match=told):
        migrate(project, later(tiny_catalog))
    assert project.ledger_bytes() == before


# --- any assessment --------------------------------------------------------------------------------------------------

WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).filter(str.strip)
VALUES = st.sampled_from(["fulfilled", "partly", "not_fulfilled", "not_applicable"])
ORDER = ["not_fulfilled", "partly", "fulfilled", "not_applicable"]


@pytest.mark.slow
@given(st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_is_lost_and_no_verdict_gets_better(
    tiny_catalog: Catalog, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    ids = [item.id for item in tiny_catalog.by_area["FN-R-FN"]]
    changes = {
        name.replace("-", "_"): withdrawn(*data.draw(st.lists(st.sampled_from(ids), max_size=2)))
        for name in data.draw(st.lists(st.sampled_from(ids), max_size=3))
    }
    catalog = later(tiny_catalog, **changes)
    said = {
        name: answer(
            data.draw(VALUES),
            f"because {data.draw(WORDS)}",
            replies={"q1": f"one {data.draw(WORDS)}", "q7": f"two {data.draw(WORDS)}"},
        )
        for name in data.draw(st.lists(st.sampled_from([*ids, "FN-R-FN-ME-77"]), unique=True))
    }
    folder = tmp_path_factory.mktemp("any")
    configuration = {
        "format": 1,
        "catalog": {"id": "tiny", "version": "1.0.0"},
        "system": {"name": "s", "version": "1"},
    }
    files = {"assessor.yaml": yamlfile.dump(configuration).encode()}
    if said:
        files["answers/FN-R-FN.yaml"] = yamlfile.dump(said).encode()
    project = Project.create(folder / "a", files, actor="t", action="init")
    before = raw_answers(project.folder)
    plan = migrate(project, catalog)
    found = project.answers(catalog)
    path = project.folder / "answers" / "withdrawn.yaml.txt"
    aside = yamlfile.validate(yamlfile.read(path), Answers).root if path.exists() else {}
    for step in plan.steps:
        earlier = before[step.id]
        for place in [found[name] for name in step.to] or [aside[step.id]]:
            texts = [place.because, *map(told_reply, place.replies.values())]
            for text in (earlier.because, *map(str, earlier.replies.values())):
                assert any(text in kept for kept in texts)
            assert ORDER.index(place.value) <= ORDER.index(earlier.value)
    assert {step.id for step in plan.steps} == before.keys()
    shutil.rmtree(folder)


@given(st.dictionaries(st.sampled_from("abcd"), WORDS, min_size=1), st.data())
def test_taking_out_a_key_leaves_the_rest(entries: dict[str, str], data: st.DataObject) -> None:
    gaps = st.sampled_from(["", "# a comment\n", "\n\n", "# x\n\n# y\n"])
    text = "".join(data.draw(gaps) + yamlfile.dump({key: {"v": value}}) for key, value in entries.items())
    text += data.draw(gaps)
    key = data.draw(st.sampled_from(sorted(entries)))
    shorter = without_key(text, key, "f")
    rest = {other: {"v": value} for other, value in entries.items() if other != key}
    assert (yamlfile.parse(shorter, "f").data or {}) == rest
    assert shorter.count("#") >= text.count("# a comment") + text.count("# x") + text.count("# y")


def test_taking_out_a_key_of_a_flow_mapping() -> None:
    assert yamlfile.parse(without_key("{a: 1, b: [x]}\n", "a", "f"), "f").data == {"b": ["x"]}
    assert without_key("{a: 1}\n", "a", "f") == ""


@pytest.mark.slow
def test_the_installed_catalog_needs_no_migration_from_itself(make_folder: Make, catalog: Catalog) -> None:
    project = make_folder(catalog={"id": catalog.head.id, "version": catalog.head.version})
    assert migrate(project, load_catalog()).files == {}


def test_from_a_folder(old: Project, catalog: Catalog, tmp_path: Path) -> None:
    from assessor.exports.oscal_reading import to_yaml

    for name, content in to_yaml(catalog).items():
        (tmp_path / "c" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "c" / name).write_bytes(content)
    with pytest.raises(UsageError, match="--from: found ai-assessment-catalog"):
        migrate(old, catalog, read_edition(tmp_path / "c"))
