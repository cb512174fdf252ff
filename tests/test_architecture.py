"""Who may import whom: the arrows of the architecture, held by reading every import of every module."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"assessor": ROOT / "assessor", "assessor_checks": ROOT / "checks" / "assessor_checks"}
HEAVY = ("numpy", "pandas", "torch", "scipy", "sklearn", "weasyprint", "matplotlib", "pyhanko")

# Room -> rooms it may enter. `assessor` alone is the package with its version; nothing may enter cli.
GROUND = "contract errors messages"
ALLOWED = {
    "assessor": "",
    "contract": "",
    "errors": "",
    "retelling": "",
    "messages": "retelling",
    "expressions": "",
    "git": "",
    "canonical": "",
    "model": "model expressions contract",
    "yamlfile": "errors",
    "merkle": "",
    "ledger": "merkle model canonical " + GROUND,
    "ledger_proofs": "findings ledger merkle model " + GROUND,
    "criteria": "yamlfile expressions model canonical " + GROUND,
    "replies": "model " + GROUND,
    "folder": "files ledger canonical errors",
    "project": "folder yamlfile replies model canonical " + GROUND,
    "applicability": "expressions model " + GROUND,
    "protection": "model " + GROUND,
    "questionnaire": "applicability expressions replies verdicts model " + GROUND,
    "registry": GROUND,
    "verdicts": "model " + GROUND,
    "judgement": "applicability verdicts model " + GROUND,
    "coverage": "judgement model " + GROUND,
    "catalog_diff": "criteria yamlfile model " + GROUND,
    "succession": "catalog_diff replies messages model",
    "migration": "catalog_diff succession project yamlfile messages model " + GROUND,
    "prefill": "prefill git yamlfile model " + GROUND,
    "gate": "applicability comparison model verdicts " + GROUND,
    "baseline": "claims git model errors",
    "paired_test": "contract",
    "freezing": "engine project registry subjects yamlfile canonical model " + GROUND,
    "gating": "assessment baseline comparison gate gate_formats gate_places project registry model " + GROUND,
    "gate_places": "canonical git yamlfile model " + GROUND,
    "gate_formats": "gate_formats assessor gate gate_places verdicts canonical model " + GROUND,
    "confinement": "",
    "frames": "",
    "opened": "",
    "sealed": "confinement frames opened",
    "subjects": "subjects footprint frames git canonical model " + GROUND,
    "footprint": "",
    "engine": "footprint verdicts registry subjects model canonical " + GROUND,
    "evidence_files": GROUND,
    "evidence_formats": "evidence_formats prefill model canonical " + GROUND,
    "evidence": "evidence_files evidence_formats project model canonical " + GROUND,
    "answering": "evidence_files files applicability criteria project protection questionnaire replies model " + GROUND,
    "keeping": "files canonical contract",
    "batches": "keeping contract",
    "tracing": "",
    "observing": "tracing contract model errors",
    "executors": "executors batches engine keeping observing subjects model " + GROUND,
    "assessment": "assessor applicability engine executors observing project registry subjects judgement verdicts "
    "criteria ledger canonical model " + GROUND,
    "planning": "assessment engine executors footprint model " + GROUND,
    "hand_edits": "assessment ledger project errors",
    "auditing": "assessment project questionnaire replies canonical model " + GROUND,
    "sheets": "answering applicability assessment criteria evidence project questionnaire replies yamlfile model "
    + GROUND,
    "exports": "exports assessor assessment applicability judgement project ledger replies yamlfile model canonical "
    + GROUND,
    "charts": "svg_renderer verdicts model " + GROUND,
    "svg_renderer": "",
    "signers": "certificates errors",
    "certificates": "errors",
    "timestamps": "certificates errors",
    "findings": "",
    "pdf_container": "certificates findings",
    "pdf_content": "certificates signers errors",
    "pdf_revisions": "certificates",
    "signing": "certificates files pdf_container signers timestamps errors",
    "keys": "pdf_container signers errors",
    "pdf_signatures": "certificates findings pdf_container pdf_revisions signers timestamps errors",
    "attestation": "certificates findings pdf_container pdf_content pdf_signatures report_content signers signing "
    "timestamps canonical errors",
    "report_cards": "charts verdicts model " + GROUND,
    "report_argument": "assessment report_cards judgement replies verdicts model " + GROUND,
    "report_content": "assessment evidence report_argument report_cards verdicts canonical model " + GROUND,
    "files": "",
    "confined": "pages errors messages",
    "pages": GROUND,
    "assessed": "assessment charts pages project registry report_cards verdicts yamlfile model " + GROUND,
    "api": "assessed criteria engine registry subjects model " + GROUND,
    "pytest_plugin": "api assessed assessment gate project registry model errors",
    "report": "assessment charts confined pages report_cards report_content canonical " + GROUND,
    "claims": "assessment pdf_content pdf_signatures project report_content verify canonical model " + GROUND,
    "rerun": "assessor assessment claims engine files project registry canonical model " + GROUND,
    "rerun_report": "rerun verify pages report_cards verdicts canonical model " + GROUND,
    "comparison": "claims paired_test model " + GROUND,
    "verify": "attestation certificates criteria evidence findings ledger ledger_proofs hand_edits pdf_content "
    "pdf_signatures project registry report_content signers canonical " + GROUND,
    "demonstration": "assessment criteria evidence project subjects yamlfile model " + GROUND,
}


def modules() -> dict[str, Path]:
    """Every module of ours by its full name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = (package, *path.relative_to(folder).with_suffix("").parts)
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports(name: str) -> set[str]:
    """Full names of our modules that a module imports anywhere: lazily and for type checking too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} line {node.lineno}: a relative import"
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {item if item in MODULES else str(node.module) for item in full}
    return {item for item in found if item.partition(".")[0] in FOLDERS}


def room(name: str) -> str:
    """The room a module of the engine is in: its name without the package, a folder being one room."""
    return name.split(".")[1] if "." in name else name


@pytest.mark.parametrize("name", [name for name in MODULES if name.partition(".")[0] == "assessor"])
def test_engine_modules_enter_only_the_rooms_below_them(name: str) -> None:
    used = imports(name)
    assert not {item for item in used if item.startswith("assessor_checks")}
    rooms = {room(item) for item in used}
    if room(name) == "cli":
        assert rooms <= {*ALLOWED, "cli"}
    else:
        assert rooms <= set(ALLOWED[room(name)].split()), f"{name} enters {rooms - set(ALLOWED[room(name)].split())}"


@pytest.mark.parametrize("name", [name for name in MODULES if name.partition(".")[0] == "assessor_checks"])
def test_checks_know_the_contract_and_shared_maths_only(name: str) -> None:
    used = imports(name)
    ours = {item for item in used if item.startswith("assessor_checks")}
    assert used - ours <= {"assessor.contract"}
    if name != "assessor_checks":
        area = ".".join(name.split(".")[:2])
        strangers = {item for item in ours if not item.startswith(("assessor_checks._", f"{area}._"))}
        assert not strangers, f"{name} imports another check, or the maths of another area"


def test_every_room_of_the_table_exists() -> None:
    assert {room(name) for name in MODULES if name.startswith("assessor.")} == {*ALLOWED, "cli"} - {"assessor"}


def test_there_is_no_cycle() -> None:
    graph = {name: imports(name) - {name} for name in MODULES}
    while graph:
        free = {name for name, used in graph.items() if not used & graph.keys()}
        assert free, f"these import each other: {sorted(graph)}"
        graph = {name: used for name, used in graph.items() if name not in free}


def loaded_after(code: str) -> dict[str, object]:
    """Exit code of some code, and which heavy packages it loaded."""
    script = f"""
import json, sys
code = 0
try:
    {code}
except SystemExit as end:
    code = end.code or 0
print()
print(json.dumps({{"code": code, "heavy": [name for name in {HEAVY} if name in sys.modules]}}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def command(*arguments: str) -> str:
    return f"from assessor.cli import main; sys.argv = {['assessor', *arguments]}; main()"


@pytest.mark.parametrize("code", ["import assessor.cli", command("--help"), command("catalog", "show", "AT")])
def test_the_command_line_starts_without_anything_heavy(code: str) -> None:
    assert loaded_after(code) == {"code": 0, "heavy": []}


def test_listing_the_checks_does_not_load_torch() -> None:
    found = loaded_after(command("check", "list"))
    assert found["code"] == 0
    assert "torch" not in str(found["heavy"])
