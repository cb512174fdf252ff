"""What the OSCAL documents of one assessment share: identity, people, system, checks, and what is in scope."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import NamedTuple
from urllib.parse import quote

from assessor import __version__
from assessor.assessment import Assessment
from assessor.canonical import canonical_json, sha256_hex
from assessor.exports.oscal_words import Node, filled, line, metadata, optional, prop, props, uid
from assessor.judgement import attached_evidence
from assessor.messages import _, language
from assessor.model import EvidenceRef, Requirement, RequirementState, Verdict

DEVELOPER, AUDITOR, OWNER, PROVIDER = "developer", "auditor", "risk-owner", "provider"


class Excluded(NamedTuple):
    """Why a requirement is out: by tailoring (profile, protection need), or because somebody stated so."""

    kind: str
    because: str


class Scope(NamedTuple):
    """How far the requirements were assessed; every one is in exactly one of the three.

    Attributes:
        assessed: Ids with a verdict, and all that a measurement contradicts.
        excluded: Those that do not concern the system, with the reason.
        open: Ids that concern the system and that nobody assessed: they never count as satisfied.
    """

    assessed: tuple[str, ...]
    excluded: Mapping[str, Excluded]
    open: tuple[str, ...]


@dataclass(frozen=True)
class Export:
    """One assessment on its way out.

    Attributes:
        found: The assessment.
        project: Identity of its folder: the hash of the ledger's first line.
        base: The folder as seen from where the documents will lie, as a relative reference.
        modified: Time of the last change in the ledger.
    """

    found: Assessment
    project: str
    base: str
    modified: datetime

    def uid(self, *path: str) -> str:
        """The UUID of something in this assessment."""
        return uid("assessment", self.project, *path)

    def href(self, *path: str) -> str:
        """Reference to a file of the folder."""
        return "/".join([self.base, *map(quote, path)])

    @cached_property
    def states(self) -> Mapping[str, RequirementState]:
        """What is known of every requirement, by id, in the catalog's order."""
        return {
            state.id: state
            for dimension in self.found.states
            for area in dimension.areas
            for state in area.requirements
        }

    @cached_property
    def applicable(self) -> tuple[Requirement, ...]:
        """The requirements that concern the system."""
        return tuple(item for item in self.found.catalog.requirements if self.states[item.id].applies)

    @cached_property
    def tailored(self) -> Mapping[str, Excluded]:
        """The requirements that do not concern the system, with the reason."""
        return {name: Excluded("tailoring", state.because) for name, state in self.states.items() if not state.applies}

    @cached_property
    def scope(self) -> Scope:
        """How far the requirements were assessed."""
        assessed, still_open, excluded = [], [], {}
        for name, state in self.states.items():
            if state.contradictions:
                assessed.append(name)
            elif not state.applies:
                excluded[name] = self.tailored[name]
            elif state.standing is Verdict.NOT_ASSESSED:
                still_open.append(name)
            elif state.standing is Verdict.NOT_APPLICABLE:
                excluded[name] = Excluded("stated", self._stated(name))
            else:
                assessed.append(name)
        return Scope(tuple(assessed), excluded, tuple(still_open))

    def _stated(self, name: str) -> str:
        """Why somebody says that a requirement does not concern the system: the auditor's reason before the other."""
        audit, answer = self.found.audits.get(name), self.found.answers.get(name)
        said = [entry.because for entry in (audit, answer) if entry and entry.value is Verdict.NOT_APPLICABLE]
        return said[0] if said else ""

    @property
    def system(self) -> str:
        """Name and version of what is assessed."""
        system = self.found.configuration.system
        return line(f"{system.name} {system.version}")

    def party(self, name: str) -> str:
        """UUID of a person or an organisation."""
        return self.uid("party", line(name))

    def metadata(self, title: str, links: Sequence[Node] = (), more: Sequence[Node] = ()) -> Node:
        """The metadata of one document, with all people who said something."""
        found = self.found
        people = {
            DEVELOPER: [answer.by for answer in found.answers.values()],
            AUDITOR: [
                *(audit.by for audit in found.audits.values()),
                *(rating.by for rating in found.summary.dimensions.values()),
                *(rating.second.by for rating in found.summary.dimensions.values() if rating.second),
                *([found.summary.conclusion.by] if found.summary.conclusion else []),
            ],
            OWNER: [item.accepted_by for item in found.summary.trade_offs.values()],
        }
        provider = found.configuration.system.provider
        names = dict.fromkeys(line(name) for said in people.values() for name in said)
        parties = [{"uuid": self.party(name), "type": "person", "name": name} for name in names]
        if provider and line(provider) not in names:
            parties.append({"uuid": self.party(provider), "type": "organization", "name": line(provider)})
        responsible = {role: list(dict.fromkeys(map(self.party, said))) for role, said in people.items() if said}
        if provider:
            responsible[PROVIDER] = [self.party(provider)]
        return metadata(
            f"{self.system}: {title}",
            found.configuration.system.version,
            self.modified,
            props=[
                *optional(
                    language=language(),
                    tool=f"ai-assessor {__version__}",
                    catalog_id=found.catalog.head.id,
                    catalog_version=found.catalog.head.version,
                    catalog_sha256=found.catalog.sha256,
                    ledger_head=found.ledger_head,
                ),
                *props("pack", found.configuration.catalog.packs),
                *more,
            ],
            links=list(links),
            roles=[
                {"id": DEVELOPER, "title": _("Developer")},
                {"id": AUDITOR, "title": _("Auditor")},
                {"id": OWNER, "title": _("Accepts a trade-off")},
                {"id": PROVIDER, "title": _("Provider")},
            ],
            parties=parties,
            responsible_parties=[{"role-id": role, "party-uuids": uuids} for role, uuids in responsible.items()],
            remarks=found.catalog.head.source.note,
        )

    # --- system, checks, files ---------------------------------------------------------------------------------------

    @property
    def system_uuid(self) -> str:
        """UUID of the system as a component."""
        return self.uid("system")

    def system_component(self) -> Node:
        """What is assessed."""
        system = self.found.configuration.system
        stage = self.found.scope.facts.get("stage")
        states = {"development": "under-development", "pilot": "under-development", "operation": "operational"}
        return filled(
            uuid=self.system_uuid,
            type="this-system",
            title=self.system,
            description=system.purpose or self.system,
            props=optional(context=system.context, affected=system.affected, assessed_by=system.assessed_by),
            status={"state": states.get(str(stage), "other")},
        )

    def check_uuid(self, check: str) -> str:
        """UUID of a check as a tool."""
        return self.uid("check", check)

    def assets(self, checks: Iterable[str]) -> Node:
        """The tools: the program, and each check as a component of it."""
        components = []
        for check in checks:
            run = self.found.runs.get(check)
            components.append(
                filled(
                    uuid=self.check_uuid(check),
                    type="software",
                    title=line(run.title) if run else check,
                    description=_("Automated check {check}", check=check),
                    props=[
                        prop("check", check),
                        *(
                            optional(version=run.check_version, package=run.code.package, code_sha256=run.code.sha256)
                            if run
                            else ()
                        ),
                    ],
                    status={"state": "operational"},
                )
            )
        platform = filled(
            uuid=self.uid("platform"),
            title=f"ai-assessor {__version__}",
            uses_components=[{"component-uuid": item["uuid"]} for item in components],
        )
        return filled(components=components, assessment_platforms=[platform])

    def evidence_uuid(self, evidence: EvidenceRef) -> str:
        """UUID of a piece of evidence."""
        return self.uid("evidence", evidence.sha256, evidence.name)

    def result_uuid(self, check: str) -> str:
        """UUID of the current result of a check."""
        return self.uid("result", check, self.found.run_ids[check])

    def _place(self, evidence: EvidenceRef) -> str:
        """Where a piece of evidence lies: in the folder, or at its own address."""
        item = self.found.evidence.get(evidence.sha256)
        return item.uri if item and item.uri else self.href("evidence", evidence.sha256, evidence.name)

    def files(self) -> list[Node]:
        """Evidence and stored results as resources, each with its digest."""
        evidence = {
            self.evidence_uuid(item): (item.name, self._place(item), item.sha256)
            for requirement in self.found.catalog.requirements
            for item in attached_evidence(requirement.id, self.found.scope)
        }
        results = {
            self.result_uuid(check): (
                f"{check} {self.found.run_ids[check]}",
                self.href("results", check, f"{self.found.run_ids[check]}.json"),
                sha256_hex(canonical_json(run)),
            )
            for check, run in self.found.runs.items()
        }
        return [
            {
                "uuid": identifier,
                "title": line(title),
                "rlinks": [{"href": href, "hashes": [{"algorithm": "SHA-256", "value": digest}]}],
            }
            for identifier, (title, href, digest) in {**evidence, **results}.items()
        ]


def selection(included: Iterable[str], excluded: Mapping[str, Excluded], more: Sequence[Node] = ()) -> Node:
    """Which controls are meant, those left out with their reason. Where none is meant, all are excluded by name.

    Args:
        included: Ids.
        excluded: Ids with their reason.
        more: Further properties.

    Returns:
        A `reviewed-controls` object.
    """
    chosen = [{"control-id": name} for name in included]
    reasons = [prop("excluded", name, class_=item.kind, remarks=item.because) for name, item in excluded.items()]
    return filled(
        props=[*reasons, *more],
        control_selections=[
            filled(
                include_all=None if chosen else {},
                include_controls=chosen,
                exclude_controls=[{"control-id": name} for name in excluded],
            )
        ],
        control_objective_selections=[{"include-all": {}}],
    )
