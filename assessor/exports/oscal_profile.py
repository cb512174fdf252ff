"""Which requirements an assessment follows, with their targets, as an OSCAL profile: tailored by profile and needs."""

from __future__ import annotations

import json
from collections.abc import Iterator

from assessor.exports.oscal_catalog import param_id
from assessor.exports.oscal_scope import Export
from assessor.exports.oscal_words import CATALOG, Node, filled, line, prop, token
from assessor.exports.tables import applies
from assessor.messages import _
from assessor.model import DIMENSION_NAMES, Param


def profile_to_oscal(export: Export) -> Node:
    """The profile.

    Args:
        export: The assessment.

    Returns:
        The document. What does not concern the system is named in `exclude-controls`, its reason in the metadata.
    """
    excluded = list(export.tailored)
    return {
        "profile": filled(
            uuid=export.uid("profile", export.found.ledger_head),
            metadata=export.metadata(
                _("profile"), more=[*_needs(export), *_reasons(export), *_undecided(export), *_free_targets(export)]
            ),
            imports=[
                filled(
                    href=CATALOG,
                    include_controls=[{"with-ids": [item.id for item in export.applicable]}],
                    exclude_controls=[{"with-ids": excluded}] if excluded else None,
                )
            ],
            merge={"as-is": True},
            modify=filled(set_parameters=list(_set_parameters(export))) or None,
        )
    }


def _needs(export: Export) -> Iterator[Node]:
    for code in DIMENSION_NAMES.values():
        need = export.found.configuration.protection_needs.of(code)
        if need is not None:
            yield prop("protection-need", need.level, class_=code, remarks=need.because)


def _reasons(export: Export) -> Iterator[Node]:
    for name, item in export.tailored.items():
        yield prop("excluded", name, class_=item.kind, remarks=item.because)


def _undecided(export: Export) -> Iterator[Node]:
    """What is included since nobody knows yet whether it concerns the system."""
    for item in export.applicable:
        word, because = applies(export.found, item.id)
        if word == "not known":
            yield prop("undecided", item.id, remarks=because)


def _free_targets(export: Export) -> Iterator[Node]:
    """Targets of checks that are no param of a requirement in scope."""
    bound = {param.check for item in export.applicable for param in item.params}
    for check, target in export.found.configuration.targets.items():
        if check not in bound:
            metric = f"{target.metric} " if target.metric else ""
            value = f"{metric}{json.dumps(target.interval)}"
            yield prop("target", value, class_=token(check), remarks=target.because)


def _set_parameters(export: Export) -> Iterator[Node]:
    """Values that developers set for criteria; a check's target stands in assessor.yaml and goes before the answer."""
    for item in export.applicable:
        answer = export.found.answers.get(item.id)
        for param in item.params:
            target = export.found.configuration.targets.get(param.check) if param.check else None
            said = answer.params.get(param.id) if answer else None
            if target is not None:
                metric = [prop("metric", target.metric)] if target.metric else []
                yield _set(item.id, param, json.dumps(target.interval), target.because, metric)
            elif said is not None:
                value = said.value if isinstance(said.value, str) else json.dumps(said.value)
                yield _set(item.id, param, value, said.because, [])


def _set(requirement: str, param: Param, value: str, because: str, more: list[Node]) -> Node:
    return filled(
        param_id=param_id(requirement, param.id),
        class_=param.type,
        props=[*more, *([prop("unit", param.unit)] if param.unit else []), *_whole(value)],
        guidelines=[{"prose": because}],
        values=[line(value)],
    )


def _whole(value: str) -> list[Node]:
    return [] if line(value) == value else [prop("value", value)]
