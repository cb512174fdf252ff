"""What a model card says: Hugging Face's README.md, its front matter and its sections.

Sections are found by their headings, see `card_words`. Fields of the front matter:
https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from assessor import yamlfile
from assessor.errors import ConfigurationError, UsageError
from assessor.messages import _
from assessor.prefill.card_words import BOILERPLATE, KEYS_BY_NAME, LABELS, LAST_RESORT_BY_NAME, NOTHING
from assessor.prefill.markdown import Section, blocks, name_of, sections
from assessor.prefill.statements import (
    Facts,
    Statements,
    bullets,
    labelled,
    listed,
    mappings,
    member,
    merged,
    row,
    says_nothing,
    scalar,
    scalars,
    short,
)

LONGEST_CARD = 2_000_000  # bytes, thousands of pages
LONGEST_FRONT_MATTER = 500_000  # characters; real ones with hundreds of results stay below a tenth of it

FRONT_MATTER_KEYS = frozenset({"license", "base_model", "datasets", "metrics", "model-index", "language", "tags"}) | {
    *("library_name", "pipeline_tag", "co2_eq_emissions")
}
STRUCTURED = ("licence", "base_model", "metrics", "carbon")
"""Keys for which the front matter is more exact than prose."""


def found_in_model_card(content: bytes, name: str) -> Facts:
    """Statements of a model card.

    Args:
        content: The file.
        name: How origins and messages call it.

    Returns:
        Statements by key; prose first, but licence, base model, metrics and emissions from the front matter first.

    Raises:
        ConfigurationError: It is not UTF-8, or its front matter is not readable.
        UsageError: It is too long, or holds neither front matter nor a section of a model card.
    """
    if len(content) > LONGEST_CARD:
        raise UsageError(
            _(
                "{name}: found {n} bytes of Markdown, wanted at most {most}",
                name=name,
                n=len(content),
                most=LONGEST_CARD,
            )
        )
    text = yamlfile.decoded(content, name)
    source = _("model card {name}", name=name)
    front, body = _split(text, name)
    from_front = _front_matter(front, source) if front is not None else {}
    parts = [_Part(section) for section in sections(body)]
    if front is None and not any(part.keys for part in parts):
        raise UsageError(
            _(
                "{name}: found Markdown without front matter or a section of a model card, such as Training Data",
                name=name,
            )
        )
    prose = _prose(parts, source)
    structured = {key: statements for key, statements in from_front.items() if key in STRUCTURED}
    return merged([structured, prose, from_front])


def has_front_matter(content: bytes) -> bool:
    """Whether a Markdown file is a model card by its front matter."""
    head = content[:LONGEST_FRONT_MATTER].decode("utf-8", "replace").lstrip("\ufeff")
    front, end, _rest = head.removeprefix("---").partition("\n---")
    return (
        head.startswith("---")
        and bool(end)
        and any(line.split(":")[0] in FRONT_MATTER_KEYS for line in front.split("\n"))
    )


def _split(text: str, name: str) -> tuple[Mapping[str, Any] | None, str]:
    """Front matter as data, None without one, and the text below it."""
    lines = text.split("\n")
    if lines[0].rstrip() != "---":
        return None, text
    end = next((number for number, line in enumerate(lines[1:], start=1) if line.rstrip() in {"---", "..."}), None)
    if end is None:
        return None, text
    front = "\n".join(["", *lines[1:end], ""])  # an empty line in place of the first mark, so that line numbers hold
    if len(front) > LONGEST_FRONT_MATTER:
        raise ConfigurationError(
            _(
                "{name}: found front matter of {n} characters, wanted at most {most}",
                name=name,
                n=len(front),
                most=LONGEST_FRONT_MATTER,
            )
        )
    data = yamlfile.parse(front, name).data
    if data is not None and not isinstance(data, dict):
        raise ConfigurationError(
            _("{name}:2 found front matter that is no mapping, wanted `key: value` lines", name=name)
        )
    return data or {}, "\n".join(lines[end + 1 :])


# --- front matter -----------------------------------------------------------------------------------------------------


def _front_matter(data: Mapping[str, Any], source: str) -> Facts:
    found = Statements(source)

    def add(key: str, text: str, field: str) -> None:
        found.add(key, text, _("front matter, {field}", field=field))

    add("licence", _licence(data), "license")
    relation = scalar(data.get("base_model_relation"))
    for base in scalars(data.get("base_model")):
        add("base_model", f"{base} ({relation})" if relation else base, "base_model")
    add("metrics", "\n".join(_results(data)), "model-index")
    add("metrics", listed(scalars(data.get("metrics"))), "metrics")
    add("evaluation_data", bullets(dict.fromkeys(map(_dataset, _tested(data)))), "model-index")
    add("training_data", bullets(scalars(data.get("datasets"))), "datasets")
    task = {_("task"): scalar(data.get("pipeline_tag"))}
    add("purpose", labelled(task), "pipeline_tag")
    add("inputs_outputs", labelled({**task, _("language"): listed(scalars(data.get("language")))}), "language")
    built = {_("library"): scalar(data.get("library_name")), _("tags"): listed(scalars(data.get("tags")))}
    add("architecture", labelled(built), ", ".join(field for field in ("library_name", "tags") if data.get(field)))
    add("carbon", _emissions(data.get("co2_eq_emissions")), "co2_eq_emissions")
    return found.facts


def _licence(data: Mapping[str, Any]) -> str:
    name = listed(scalars(data.get("license"))) or scalar(data.get("license_name"))
    link = scalar(data.get("license_link"))
    return f"{name} ({link})" if name and link else name or link


def _tested(data: Mapping[str, Any]) -> Iterator[Mapping[str, object]]:
    """One mapping a result: task, dataset, metrics."""
    for model in mappings(data.get("model-index")):
        yield from mappings(model.get("results"))


def _results(data: Mapping[str, Any]) -> Iterator[str]:
    """Rows `metric | data set | value`."""
    for result in _tested(data):
        for metric in mappings(result.get("metrics")):
            value = scalar(metric.get("value"))
            if value:
                yield row(scalar(metric.get("name")) or scalar(metric.get("type")), _dataset(result), value)


def _dataset(result: Mapping[str, object]) -> str:
    dataset = result.get("dataset")
    name = scalar(member(dataset, "name")) or scalar(member(dataset, "type"))
    parts = {
        _("configuration"): scalar(member(dataset, "config")),
        _("split"): scalar(member(dataset, "split")),
        _("revision"): scalar(member(dataset, "revision")),
    }
    return ", ".join([name, *(f"{label} {text}" for label, text in parts.items() if text)]) if name else ""


def _emissions(value: object) -> str:
    """Emissions; the field is defined in grams, https://huggingface.co/docs/hub/model-cards-co2."""
    grams = scalar(member(value, "emissions") if isinstance(value, dict) else value)
    return labelled(
        {
            _("emissions"): _("{n} g CO2e", n=grams) if grams else "",
            _("stage"): scalar(member(value, "training_type")),
            _("place"): scalar(member(value, "geographical_location")),
            _("hardware"): scalar(member(value, "hardware_used")),
            _("source"): scalar(member(value, "source")),
        }
    )


# --- sections ---------------------------------------------------------------------------------------------------------


class _Owner(NamedTuple):
    """A section that gives its text to keys, with the text of those below it that belong to no key."""

    level: int
    part: _Part | None


class _Part:
    """A section: the keys it speaks to, its text in blocks, its details by label."""

    def __init__(self, section: Section) -> None:
        self.level, self.title = section.level, section.title.replace("[optional]", "").strip()
        self.name = name_of(section.title)
        self.keys, self.last = KEYS_BY_NAME.get(self.name, ()), LAST_RESORT_BY_NAME.get(self.name, ())
        self.details: list[tuple[str, str]] = []
        self.blocks: list[str] = []
        describes = bool(self.last) or self.level == 0 or self.name == "model sources"
        for block in blocks(section.lines):
            label, value = _label(block)
            if not _is_statement(block):
                continue
            if describes and label in LABELS:
                self.details.append((LABELS[label], value))
            else:
                self.blocks.append(block)

    @property
    def belongs_above(self) -> bool:
        """Whether it is part of the section it stands in."""
        return not self.keys and not self.last and self.name not in NOTHING


def _label(block: str) -> tuple[str, str]:
    label, colon, value = block.removeprefix("- ").partition(":")
    return (name_of(label), value.strip()) if colon and len(label) < 60 else ("", "")


def _is_statement(block: str) -> bool:
    small = block.casefold()
    value = _label(block)[1]
    return (
        not says_nothing(block)
        and not (value and says_nothing(value))
        and not ("{{" in block and "}}" in block)
        and not any(sentence in small for sentence in BOILERPLATE)
    )


def _prose(parts: list[_Part], source: str) -> Facts:
    """Statements of the sections, those of a last resort behind the others."""
    found, later = Statements(source), Statements(source)
    gathered = _gathered(parts)
    for part, text in gathered:
        place = _("section {title}", title=short(part.title)) if part.title else ""
        for key in part.keys:
            found.add(key, text, place)
        for key, value in part.details:
            later.add(key, value, place)
        for key in part.last:
            later.add(key, text, place)
    first = next((part for part in parts if part.level), None)
    if first is not None and first.level == 1 and first.belongs_above:
        later.add("purpose", "\n".join(first.blocks), _("section {title}", title=short(first.title)))
    return merged([found.facts, later.facts])


def _gathered(parts: list[_Part]) -> list[tuple[_Part, str]]:
    """Sections that own their text, with the text of unknown sections below them under its heading."""
    texts: dict[int, list[str]] = {}
    owners = [_Owner(0, None)]
    for index, part in enumerate(parts):
        while len(owners) > 1 and owners[-1].level >= part.level:
            owners.pop()
        if part.belongs_above and part.level:
            owner = owners[-1].part
            if owner is not None and part.blocks:
                texts[id(owner)] += [f"{short(part.title)}:", *part.blocks]
            continue
        texts[id(part)] = list(part.blocks)
        owners.append(_Owner(part.level, part if index else None))
    return [(part, "\n".join(texts[id(part)])) for part in parts if id(part) in texts]
