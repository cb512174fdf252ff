"""The assessment plan that OSCAL results refer to: the requirements in scope, examined by questions and by checks."""

from __future__ import annotations

from assessor.exports.oscal_scope import Export, selection
from assessor.exports.oscal_words import METHOD_NS, PROFILE, Node, filled, prop
from assessor.messages import _


def plan_to_oscal(export: Export) -> Node:
    """The plan.

    Args:
        export: The assessment.

    Returns:
        The document. There is no system security plan: the system is described in assessor.yaml, which stands in the
        back matter in its place.
    """
    checks = planned_checks(export)
    description = export.uid("description")
    return {
        "assessment-plan": filled(
            uuid=export.uid("plan", export.found.ledger_head),
            metadata=export.metadata(_("assessment plan"), links=[{"href": PROFILE, "rel": "related"}]),
            import_ssp={
                "href": f"#{description}",
                "remarks": _("No system security plan: the system is described in assessor.yaml."),
            },
            local_definitions=filled(components=[export.system_component()], activities=_activities(export, checks)),
            reviewed_controls=selection([item.id for item in export.applicable], export.tailored),
            assessment_subjects=[
                {
                    "type": "component",
                    "include-subjects": [{"subject-uuid": export.system_uuid, "type": "component"}],
                }
            ],
            assessment_assets=export.assets(checks),
            back_matter={
                "resources": [
                    {
                        "uuid": description,
                        "title": "assessor.yaml",
                        "description": _("System, protection needs, targets and policy of the assessment."),
                        "rlinks": [{"href": export.href("assessor.yaml")}],
                    }
                ]
            },
        )
    }


def planned_checks(export: Export) -> list[str]:
    """Ids of the checks that were run or are bound to a requirement in scope and not switched off, sorted."""
    configuration = export.found.configuration
    bound = {check for item in export.applicable for check in item.checks}
    wanted = {check for check in bound if configuration.checks.get(check) is not False}
    return sorted(wanted | set(export.found.runs))


def _activities(export: Export, checks: list[str]) -> list[Node]:
    examine = filled(
        uuid=export.uid("activity", "questions"),
        title=_("Questions and evidence"),
        description=_("Developers answer every requirement with a reason and evidence; auditors judge the answers."),
        props=[prop("method", "EXAMINE", ns=METHOD_NS)],
    )
    tests = [
        filled(
            uuid=export.uid("activity", check),
            title=check,
            description=_("Automated check {check}", check=check),
            props=[prop("method", "TEST", ns=METHOD_NS)],
            related_controls=selection([item.id for item in export.applicable if check in item.checks], {})
            if any(check in item.checks for item in export.applicable)
            else None,
        )
        for check in checks
    ]
    return [examine, *tests]
