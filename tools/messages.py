"""Brings `assessor/locale/*.po` up to date with the English texts of the sources: `make messages`.

Translations are kept, new texts come with an empty one, texts that are gone are taken out. The files hold no line
numbers and no dates, so that they change only where a text does.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import NamedTuple, get_args

from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po, write_po

from assessor import demonstration, evidence, protection, replies, report_argument, report_cards
from assessor.catalog_diff import What
from assessor.cli import app
from assessor.cli.localise import help_texts
from assessor.contract import Need, Task
from assessor.coverage import ClauseState, Standing
from assessor.criteria import validate_catalog
from assessor.messages import LANGUAGES, SOURCE
from assessor.model import (
    Assurance,
    Classification,
    EvidenceType,
    Kind,
    Level,
    ParamType,
    ProvenanceStatus,
    QuestionType,
    Requirement,
    ResidualRisk,
    Role,
    Status,
    System,
    Verdict,
)
from assessor.registry import load_checks
from tools.english import python_texts, template_texts

ROOT = Path(__file__).parents[1]
LOCALE = ROOT / "assessor" / "locale"
CHECKS = "checks/assessor_checks"
MARKED_ALONE = (
    *("assessor/cli", "assessor/exports", "assessor/prefill", "assessor/demonstration.py"),
    f"{CHECKS}/security/_known_imports.py",
)
"""Modules that mark all texts of theirs that people see; what they do not mark is for programs."""
NOT_SHOWN = frozenset(
    {
        "IBM Plex Mono",
        "IBM Plex Sans",
        "Machine-readable record of a measurement made again (canonical JSON)",
        "Machine-readable results of this assessment (canonical JSON)",  # beside a file that is in English
        "More Info",  # a key of another tool
        "audit summary",  # this and the next three are written into the ledger
        "check run {check}",
        "edit by hand",
        "evidence add {told}",
        "chain sha256 {text}",  # in signatures
        "donot use mm for euclid dist",  # an argument
        "my system",  # written into assessor.yaml
        "not in",  # an operator
    }
)
HEADER = """\
# Texts of ai-assessor in another language. `make messages` brings this file up to date; people translate.
# A text keeps its {{places}}; they may stand in another order.
msgid ""
msgstr ""
"Language: {language}\\n"
"Content-Type: text/plain; charset=UTF-8\\n"
"Content-Transfer-Encoding: 8bit\\n"

"""

# --- texts that no call shows: words that reach `_` through variables, sentences of libraries ------------------------

_OF_CHECKS = """
absolute accuracy affected answer area asked attack attribute attributes aurc bound brier by cells change class classes
classification code column columns compared confidence conflict corruption coverage difference digests distinct
duplicate ece eigenvalue eps errors f1 feature fidelity first fixed fooled gap group high if infidelity infinite judged
kappa kind label largest layer layers level low mae mape margin mean meaning metric n nats nc1 nc3 nc4 neuron nll none
outlier p-value packages part parts positive precision predicted predictions r2 rank rate ratio recall region
regression reliability residual resolution risk rmse row rows score scores second seed share sign shrunken smallest
spearman split status step subgroup test throughput timed together train true truly uncertainty unsteadiness value
values weights barrier bytes churn confirmed consistency curvature dangerous distance end entries excess format hashed
information inside known network numbers outside p package pickles pinned sharpest slope to unreadable version wanted
"""
_PHRASES = (
    "nc1 test",
    "nc4 test",
    "p (Holm)",
    "p-value of a score up to 0.95 (Holm)",
    "pair coverage",
    "same class as the nearest rows",
    "size of the trigger (features)",
    "size of the trigger (share of the input)",
    "value coverage",
)
_PICTURES = """
gaussian_noise shot_noise impulse_noise defocus_blur glass_blur motion_blur zoom_blur snow frost fog brightness contrast
elastic_transform pixelate jpeg_compression
"""
_OOD = ("AUROC", "AUPR", "FPR at 95 % TPR", "auroc", "aupr")
_TABLES = "missing unit_thousand unit_inch sign_error outliers rounding swapped_columns stuck_sensor"
ENUMERATIONS = (
    *(Assurance, Level, ParamType, ProvenanceStatus, QuestionType, ResidualRisk, Role, Status, Verdict),
    *(Classification, ClauseState, EvidenceType, Need, Standing, Task, What),
)
WORDS: Mapping[str, Iterable[str]] = {
    "assessor/retelling.py": ("and", "or"),
    "assessor/model/answers.py": ("yes", "with conditions", "no", "none"),
    "assessor/model/catalog.py": [kind.name.lower() for kind in Kind],
    "assessor/model/configuration.py": [name.replace("_", " ").capitalize() for name in System.model_fields],
    "assessor/protection.py": protection.SCENARIOS,
    "assessor/replies.py": [*replies.HINTS.values(), QuestionType.TEXT.value],
    "assessor/report_argument.py": [
        *report_cards.WORDS.values(),
        *report_argument.ASSURANCE.values(),
        *report_argument.STEPS.values(),
        *report_argument.COLUMNS,
    ],
    "templates/demo": ("Status", "Data source"),
    "assessor/gate.py": ("missing", "outdated", "unanswered", "waived"),
    "assessor/pdf_signatures.py": (
        *("ok", "failed", "unknown", "withheld", "signature", "ending"),
        *("{name} integrity", "{name} coverage", "{name} container", "{name} signer", "{name} time", "{name} trust"),
        "{name} modifications",
    ),
    "assessor/answering.py": ("{loc}: found {input}: {msg}",),
    "assessor/assessment.py": ("done",),
    "assessor/catalog_diff.py": Requirement.model_fields,
    "assessor/cli/clauses.py": ("framework", "clauses", "in the catalog"),
    "assessor/cli/migrate.py": ("kept", "changed", "moved", "set aside"),
    "assessor/evidence.py": get_args(evidence.Standing),
    "assessor/demonstration.py": (demonstration.DEVELOPER, demonstration.AUDITOR),
    "assessor/engine.py": ("needs {text}",),
    "assessor/verify.py": (
        *("results", "ledger", "files", "file", "{path} {text}"),
        *("missing: {text}", "different: {text}"),
    ),
    "assessor/yamlfile.py": ("nothing", "a mapping", "a list", " (column {column})"),
    f"{CHECKS}/uncertainty/calibration.py": ("{interval}; {replicates} resamples",),
    f"{CHECKS}/": [
        *_OF_CHECKS.split(),
        *_PHRASES,
        "Group",
        "NC1",
        "NC4",
        "EL2N",
        "MiB",
        "milliseconds",
        "{text}; exact",
        *_OOD,
    ],
    f"{CHECKS}/auditability/provenance.py": ("test data",),
    f"{CHECKS}/data/drift.py": [
        f"{name} {split}"
        for name in (
            "joint auc",
            "joint p value",
            "largest feature shift",
            "feature p value",
            "label change",
            "label p value",
            "output change",
            "output p value",
        )
        for split in ("test", "production")
    ],
    f"{CHECKS}/data/label_noise.py": [
        f"{name} {split}" for name in ("noise rate", "suspicious share") for split in ("train", "test")
    ],
    f"{CHECKS}/data/quality.py": [
        f"{name} share" for name in ("affected", "code", "conflict", "duplicate", "infinite", "missing", "outlier")
    ],
    f"{CHECKS}/reliability/latency.py": ("PyTorch used {threads} threads.",),
    f"{CHECKS}/robustness/corruption_accuracy.py": [
        *(name.replace("_", " ") for name in (*_PICTURES.split(), *_TABLES.split())),
        *(f"{name} accuracy".replace("_", " ") for name in (*_PICTURES.split(), *_TABLES.split())),
        *(f"severity {severity}" for severity in range(1, 6)),
    ],
    f"{CHECKS}/robustness/decision_attack.py": ("eps {eps}; {text}",),
    f"{CHECKS}/generalization/sharpness.py": [
        f"{name} adaptive"
        for name in ("worst case sharpness", "first order sharpness", "average case sharpness", "pac bayes flatness")
    ],
}
LIBRARIES: Mapping[str, Iterable[str]] = {
    "typer": (
        "No such option: {name}",
        "No such option: {name} (Possible options: {names})",
        "No such command '{name}'.",
        "No such command '{name}'. Did you mean {names}?",
        "Missing argument '{name}'.",
        "Missing option '{name}'.",
        "Missing option '{name}' (env var: '{variable}').",
        "Missing command.",
        "Got unexpected extra argument(s) ({words})",
        "Option '{name}' requires an argument.",
        "Option '{name}' does not take a value.",
        "Invalid value for {name}: {text}",
        "'{value}' is not one of {words}.",
        "file '{path}' is a directory.",
        "dir '{path}' is a file.",
        "wanted {text}",
    ),
    "pydantic": (
        "Value error, {text}",
        "Invalid JSON: {text}",
        "Input should be {text}",
        "String should have {text}",
        "a valid string",
        "a valid string, unable to parse raw data as a unicode string",
        "a valid integer",
        "a valid integer, unable to parse string as an integer",
        "a valid integer, got a number with a fractional part",
        "a valid number",
        "a valid number, unable to parse string as a number",
        "a finite number",
        "a valid boolean",
        "a valid boolean, unable to interpret input",
        "a valid date",
        "a valid date in the format YYYY-MM-DD, {error}",
        "a valid date or datetime, {error}",
        "a valid datetime",
        "a valid datetime or date, {error}",
        "a valid list",
        "a valid tuple",
        "an object",
        "a valid dictionary",
        "a valid dictionary or instance of {name}",
        "at least {n} character",
        "at least {n} characters",
        "at most {n} characters",
        "greater than {limit}",
        "greater than or equal to {limit}",
        "less than {limit}",
        "less than or equal to {limit}",
        "text that matches '{pattern}'",
        "Field required",
        "Extra inputs are not permitted",
        "Tuple should have at least {n} item after validation, not {found}",
        "Tuple should have at least {n} items after validation, not {found}",
        "Tuple should have at most {n} items after validation, not {found}",
        "Dictionary should have at least {n} item after validation, not {found}",
    ),
    "yaml": (
        "mapping values are not allowed in this context",
        "did not find expected key while parsing a block mapping",
        "did not find expected '-' indicator while parsing a block collection",
        "did not find expected ',' or ']' while parsing a flow sequence",
        "did not find expected ',' or '}' while parsing a flow mapping",
        "did not find expected node content while parsing a flow node",
        "could not find expected ':' while scanning a simple key",
        "found character that cannot start any token while scanning for the next token",
        "found unexpected end of stream while scanning a quoted scalar",
    ),
    "json": (
        "Expecting value",
        "Expecting property name enclosed in double quotes",
        "Expecting ',' delimiter",
        "Expecting ':' delimiter",
        "Extra data",
    ),
    "the operating system": (
        "No such file or directory",
        "Permission denied",
        "Is a directory",
        "Not a directory",
        "File exists",
        "Read-only file system",
        "No space left on device",
    ),
}


def extracted() -> dict[str, tuple[str, ...]]:
    """Every English text that a person can see, with the places it comes from, in order of these places."""
    found: dict[str, dict[str, None]] = {}
    for place, text in _placed():
        if text not in NOT_SHOWN and re.search("[A-Za-z]", re.sub(r"\{\w+\}", "", text)):
            found.setdefault(text, {})[place] = None
    return {text: tuple(sorted(places)) for text, places in sorted(found.items(), key=lambda x: (min(x[1]), x[0]))}


def _placed() -> Iterator[tuple[str, str]]:
    for path in [*sorted((ROOT / "assessor").rglob("*.py")), *sorted((ROOT / CHECKS).rglob("*.py"))]:
        place = path.relative_to(ROOT).as_posix()
        yield from ((place, text) for text in python_texts(path, generous=not place.startswith(MARKED_ALONE)))
        if place.startswith(CHECKS) and not place.startswith(MARKED_ALONE):
            yield from ((place, name.replace("_", " ")) for name in _snake_names(path))
    for path in sorted((ROOT / "templates" / "report").glob("*.j2")):
        yield from ((path.relative_to(ROOT).as_posix(), text) for text in template_texts(path))
    yield from (("assessor/cli", text) for text in help_texts(app))
    for kind in ENUMERATIONS:
        place = kind.__module__.replace(".", "/") + ".py"
        yield from ((place, member.value.replace("_", " ")) for member in kind)
    yield from _mapping_texts()
    yield from ((f"{CHECKS}/{name.replace('.', '/')}.py", check.info.source) for name, check in load_checks().items())
    for source in (WORDS, LIBRARIES):
        yield from ((place, text) for place, texts in source.items() for text in texts)


def _mapping_texts() -> Iterator[tuple[str, str]]:
    """Words of the mapping files that `catalog coverage` shows."""
    for framework in validate_catalog().frameworks:
        place = f"catalog/mappings/{framework.id}.yaml"
        texts = [framework.title, framework.edition, framework.status]
        texts += [text for item in framework.dates for text in (item.what, item.source)]
        for clause in framework.clauses:
            texts += [clause.group, clause.duty_of, clause.title, clause.open_because]
            texts += [item.note for item in clause.maps]
        yield from ((place, text) for text in texts if text)


def _snake_names(path: Path) -> Iterator[str]:
    """Names of metrics, rates and columns, which reports show with spaces."""
    tree = ast.parse(path.read_text("utf-8"))
    compared = [child for node in ast.walk(tree) if _looks_up(node) for child in ast.walk(node)]
    for node in ast.walk(tree):
        name = node.value if isinstance(node, ast.Constant) and node not in compared else None
        if isinstance(name, str) and re.fullmatch("[a-z][a-z0-9]*(_[a-z0-9]+)+", name):
            yield name


def _looks_up(node: ast.AST) -> bool:
    """Whether strings below it are names in the code: of attributes, or what another name is compared with."""
    called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
    return isinstance(node, ast.Compare) or called in {"getattr", "hasattr"}


class Change(NamedTuple):
    """What became of a file."""

    content: bytes
    texts: int
    new: tuple[str, ...]
    gone: tuple[str, ...]
    untranslated: int


def updated(content: bytes, language: str, texts: Mapping[str, tuple[str, ...]]) -> Change:
    """A translation file brought up to date.

    Args:
        content: Of the file; empty for a new one.
        language: Into which it translates.
        texts: As from `extracted`.

    Returns:
        New content, and what is new, gone and not translated in it.
    """
    known = {str(item.id): str(item.string) for item in read_po(BytesIO(content), locale=language) if item.id}
    catalog = Catalog(locale=language)
    for text, places in texts.items():
        message = Message(text, known.get(text, ""), [(place, 0) for place in places])
        message.flags.clear()
        catalog[text] = message
    stream = BytesIO()
    write_po(stream, catalog, width=110, omit_header=True, sort_by_file=True, include_lineno=False)
    return Change(
        content=HEADER.format(language=language).encode() + stream.getvalue(),
        texts=len(texts),
        new=tuple(text for text in texts if text not in known),
        gone=tuple(text for text in known if text not in texts),
        untranslated=sum(not known.get(text) for text in texts),
    )


def main() -> None:
    """Bring every language up to date and say what changed."""
    texts = extracted()
    for language in LANGUAGES:
        if language == SOURCE:
            continue
        path = LOCALE / f"{language}.po"
        path.parent.mkdir(exist_ok=True)
        change = updated(path.read_bytes() if path.is_file() else b"", language, texts)
        path.write_bytes(change.content)
        print(
            f"{path.relative_to(ROOT)}: {change.texts} texts, {len(change.new)} new, {len(change.gone)} gone, "
            f"{change.untranslated} not translated"
        )
        for text in change.gone:
            print(f"  gone: {text[:100]}")


if __name__ == "__main__":
    main()
