"""From a study's YAML file to the draft or the contract that is put to the sites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, Final, TypeVar

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from cohortium.contract.model import (
    Computation,
    Contract,
    Draft,
    Participant,
    Proposal,
    ProposedParticipant,
    ProposedVariable,
    Researcher,
    Seat,
)
from cohortium.core.clock import to_rfc3339
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.directory import DirectoryEntry, PublishedDataset
from cohortium.core.model import explain
from cohortium.errors import CohortiumError, InputError

MAX_PROPOSAL_CHARS: Final = 1024 * 1024

_MOST_FAULTS: Final = 10

_SHARED: Final = (
    "study",
    "title",
    "purpose",
    "contacts",
    "cohort",
    "derived",
    "tasks",
    "security_level",
    "environment",
    "aggregation",
    "disclosure",
    "expires_at",
)
"""Terms that a contract has as they stand in the proposal."""

_MAY_BECOME: Final[Mapping[VariableType, frozenset[VariableType]]] = {
    VariableType.INTEGER: frozenset({VariableType.REAL}),
}
"""Dataset types that a study may read as another type; any type may be read as itself."""


def read_proposal(text: str) -> Proposal:
    """Parse a study's YAML (or JSON) file.

    ``expires_at`` may be a date alone: the study then ends with that day, UTC.

    Raises:
        InputError: ``bad-proposal``, with the line of each fault; never anything else.
    """
    if len(text) > MAX_PROPOSAL_CHARS:
        raise InputError("bad-proposal", "The study file is too large.")
    try:
        value = YAML(typ="safe", pure=True).load(text)
        root = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 0 if mark is None else mark.line + 1
        raise InputError(
            "bad-proposal", f"Line {line}: not valid YAML: {error.problem or error.context}."
        ) from error
    except (YAMLError, ValueError, OverflowError, TypeError, RecursionError) as error:
        raise InputError("bad-proposal", f"The study file is not valid YAML: {error}") from error
    if not isinstance(value, dict):
        raise InputError("bad-proposal", "A study file is a mapping: `study:`, `title:` and so on.")
    value = _plain(value, depth=0)
    ends = value.get("expires_at")
    if isinstance(ends, date) and not isinstance(ends, datetime):
        value["expires_at"] = datetime.combine(ends, time(23, 59, 59), UTC)
    try:
        return Proposal.model_validate(value)
    except ValidationError as error:
        raise _bad_proposal(_faults_with_lines(error, root)) from error


def resolve(
    proposal: Proposal,
    directory: Mapping[str, DirectoryEntry],
    *,
    consortium: str,
    researcher: Researcher,
    users: Mapping[str, str],
    versions: Mapping[str, int],
    now: datetime,
    amends: Contract | None = None,
) -> Contract:
    """Bind every name of a proposal to a key, a digest, a version and a type.

    A variable without a type takes type, levels, unit and decimals from the dictionaries of the
    sites that give it, which must agree: levels are united in the order first seen, integer and
    real give real, decimals are the finest. Noise without a multiplier gets the least that its
    budget allows (with the extra ``dp``). A computation without versions gets those of all analyses
    in `versions` that it covers. Owners that tasks and code name are researchers, or else members.

    Args:
        directory: The consortium's members by name.
        consortium: Fingerprint of the consortium's CA.
        researcher: Who proposes.
        users: Researchers' keys by name.
        versions: Of the analyses that are known here.
        amends: The contract in force that this one is to replace.

    Raises:
        InputError: ``bad-proposal``, with all faults found (first ten) in message and details.
    """
    around = _Around(directory, consortium, researcher, users, versions, now, amends)
    return _bound(Contract, proposal, around)


def resolve_draft(
    proposal: Proposal,
    directory: Mapping[str, DirectoryEntry],
    *,
    consortium: str,
    researcher: Researcher,
    users: Mapping[str, str],
    versions: Mapping[str, int],
    now: datetime,
    amends: Contract | None = None,
) -> Draft:
    """`resolve`, where participants may still have to say which dataset they give, and tasks may
    have unfilled inputs; a variable that only such participants give needs a type.

    Raises:
        InputError: ``bad-proposal``.
    """
    around = _Around(directory, consortium, researcher, users, versions, now, amends)
    return _bound(Draft, proposal, around)


@dataclass(frozen=True)
class _Around:
    """What a proposal's names are looked up in."""

    directory: Mapping[str, DirectoryEntry]
    consortium: str
    researcher: Researcher
    users: Mapping[str, str]
    versions: Mapping[str, int]
    now: datetime
    amends: Contract | None


_Kind = TypeVar("_Kind", Contract, Draft)


def _bound(kind: type[_Kind], proposal: Proposal, around: _Around) -> _Kind:
    faults: list[str] = []
    givers = [
        giver
        for participant in proposal.participants
        if (giver := _giver(participant, proposal, around.directory, faults)) is not None
    ]
    if kind is Contract:
        faults += [f"{g.proposed.name} gives no dataset" for g in givers if g.dataset is None]
    variables = [_variable(variable, givers, faults) for variable in proposal.variables]
    unknown = [name for name in proposal.recipients if name not in around.users]
    if unknown:
        faults.append(f"the consortium has no researcher {_list(unknown)}")
    owners = _owners(proposal, around, faults)
    computations = [_versioned(entry, around.versions, faults) for entry in proposal.computations]
    if proposal.expires_at <= around.now:
        faults.append(f"the study expired at {to_rfc3339(proposal.expires_at)}")
    before = around.amends
    if before is not None and before.study != proposal.study:
        faults.append(f"it amends {before.study}, and is called {proposal.study}")
    if faults:
        raise _bad_proposal(faults)
    shared = {name: getattr(proposal, name) for name in _SHARED}
    try:
        made = kind(
            **shared,
            version=1 if before is None else before.version + 1,
            amends=None if before is None else before.digest,
            computations=tuple(map(_with_multiplier, computations)),
            min_sites=proposal.min_sites or len(givers),
            consortium=around.consortium,
            variables=tuple(variable for variable in variables if variable is not None),
            participants=tuple(giver.participant() for giver in givers),
            recipients=tuple(
                Researcher(name=name, key=around.users[name]) for name in proposal.recipients
            ),
            owners=owners,
            proposed_by=around.researcher,
            created_at=around.now,
        )
        made.to_bytes()
    except ValidationError as error:
        raise _bad_proposal([explain(error)]) from error
    except CohortiumError as error:
        raise _bad_proposal([error.message]) from error
    return made


def _owners(proposal: Proposal, around: _Around, faults: list[str]) -> tuple[Researcher, ...]:
    """Who owns or receives something and is neither participant, recipient nor proposer."""
    programs = [entry.code for entry in proposal.computations if entry.code is not None]
    named = {code.owner: None for code in (*programs, *(task.code for task in proposal.tasks))}
    for task in proposal.tasks:
        for slot in task.inputs:
            named.update(dict.fromkeys(slot.owners))
        for output in task.outputs:
            named.update(dict.fromkeys((*output.owners, *output.recipients)))
    known = {p.name for p in proposal.participants} | {*proposal.recipients, around.researcher.name}
    found = []
    for name in sorted(named.keys() - known):
        member = around.directory.get(name)
        key = around.users.get(name) or (None if member is None else member.key)
        if key is None:
            faults.append(f"the consortium has neither a researcher nor a member {name!r}")
        else:
            found.append(Researcher(name=name, key=key))
    return tuple(found)


def _versioned(entry: Computation, versions: Mapping[str, int], faults: list[str]) -> Computation:
    bound = with_versions(entry, versions)
    if bound.code is None and not bound.versions:
        faults.append(f"no analysis {entry.name} is installed here: give its `versions`")
    return bound


def with_versions(entry: Computation, versions: Mapping[str, int]) -> Computation:
    """With the versions of the analyses that it covers, where it names none itself."""
    if entry.code is not None or entry.versions:
        return entry
    covered = {name: number for name, number in versions.items() if entry.covers(name)}
    return entry.model_copy(update={"versions": covered})


def _with_multiplier(entry: Computation) -> Computation:
    if entry.noise is None:
        return entry
    return entry.model_copy(update={"noise": entry.noise.resolved()})


def _bad_proposal(faults: Sequence[str]) -> InputError:
    shown = list(faults[:_MOST_FAULTS])
    more = f" (and {len(faults) - len(shown)} more)" if len(faults) > len(shown) else ""
    return InputError(
        "bad-proposal", f"The study file has faults: {'; '.join(shown)}{more}.", faults=shown
    )


# --- the file -------------------------------------------------------------------------------------


def _plain(value: Any, depth: int) -> Any:
    """Nested dicts and lists with bounded depth; an alias may have tied a knot."""
    if depth > 20:
        raise InputError("bad-proposal", "The study file is nested too deeply.")
    if isinstance(value, dict):
        return {key: _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, depth + 1) for item in value]
    return value


def _faults_with_lines(error: ValidationError, root: Node | None) -> list[str]:
    faults = []
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        place = ".".join(str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        line = _line(root, fault["loc"])
        faults.append(f"line {line}: {place + ': ' if place else ''}{message}")
    return faults


def _line(node: Node | None, path: Sequence[int | str]) -> int:
    """The line (from 1) of the deepest node of `path` that exists."""
    line = 1 if node is None else node.start_mark.line + 1
    for part in path:
        if isinstance(node, MappingNode):
            pair = next((kv for kv in node.value if kv[0].value == part), None)
            if pair is None:
                return line
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return line
    return line


# --- the names ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Giver:
    """A participant with its dataset, if that is known."""

    proposed: ProposedParticipant
    key: str
    dataset: PublishedDataset | None
    names: tuple[str, ...]

    def column(self, name: str) -> str:
        return self.proposed.sources.get(name, name)

    def participant(self) -> Participant | Seat:
        renamed = {n: c for n in self.names if (c := self.column(n)) != n}
        seat = Seat(name=self.proposed.name, key=self.key, variables=self.names, sources=renamed)
        if self.dataset is None:
            return seat
        return Participant(
            **dict(seat),
            dataset=self.dataset.name,
            dataset_digest=self.dataset.content_digest,
            dictionary_digest=self.dataset.dictionary.digest,
        )


def _giver(
    proposed: ProposedParticipant,
    proposal: Proposal,
    directory: Mapping[str, DirectoryEntry],
    faults: list[str],
) -> _Giver | None:
    site = proposed.name
    entry = directory.get(site)
    if entry is None:
        faults.append(f"{site!r} is not a member; members are {_list(directory)}")
        return None
    dataset = None if proposed.dataset is None else entry.dataset(proposed.dataset)
    if dataset is None and proposed.dataset is not None:
        published = _list(d.name for d in entry.datasets)
        faults.append(f"{site} has no confirmed dataset {proposed.dataset!r}; it has {published}")
        return None
    study = [variable.name for variable in proposal.variables]
    names = tuple(study) if proposed.variables is None else proposed.variables
    unknown = [name for name in (*names, *proposed.sources) if name not in study]
    if unknown:
        faults.append(f"{site} gives {_list(unknown)}, which the study does not have")
        return None
    if len(set(names)) != len(names):
        faults.append(f"{site} gives a variable twice")
        return None
    return _Giver(proposed, entry.key, dataset, names)


def _variable(
    proposed: ProposedVariable, givers: Sequence[_Giver], faults: list[str]
) -> Variable | None:
    """The study's variable, from the proposal and from the columns of the sites that give it."""
    name, before = proposed.name, len(faults)
    columns: list[tuple[str, Variable]] = []
    for giver in givers:
        if name not in giver.names or giver.dataset is None:
            continue
        column = giver.dataset.dictionary.by_name.get(giver.column(name))
        if column is None:
            has = _list(giver.dataset.dictionary.by_name)
            faults.append(
                f"dataset {giver.dataset.name} of {giver.proposed.name} has no column "
                f"{giver.column(name)!r} for {name}; it has {has}"
            )
        else:
            columns.append((giver.proposed.name, column))
    if not any(name in giver.names for giver in givers):
        faults.append(f"no participant gives {name}")
    kind = proposed.type or _common_type(name, columns, faults)
    if kind is None and len(faults) == before:
        faults.append(f"give {name} a type: nobody's dictionary says it yet")
    if kind is VariableType.TEXT:
        faults.append(f"{name} is free text, which cannot be a study variable")
    for site, column in columns:
        if kind is not None and column.type is not kind and kind not in _readable(column.type):
            faults.append(f"{name} is {kind.value} in the study but {column.type.value} at {site}")
    unit = _unit(proposed, columns, faults)
    if len(faults) > before or kind is None:
        return None
    levels = _levels(proposed, kind, columns, faults)
    try:
        return Variable(
            name=name,
            type=kind,
            unit=unit,
            levels=levels,
            decimals=_decimals(proposed, kind, columns),
            description=proposed.description or next((c.description for _, c in columns), None),
        )
    except ValidationError as error:
        faults.append(f"variable {name}: {explain(error)}")
        return None


def _readable(kind: VariableType) -> frozenset[VariableType]:
    return _MAY_BECOME.get(kind, frozenset())


def _common_type(
    name: str, columns: Sequence[tuple[str, Variable]], faults: list[str]
) -> VariableType | None:
    kinds = {column.type for _, column in columns}
    if kinds == {VariableType.INTEGER, VariableType.REAL}:
        return VariableType.REAL
    if len(kinds) > 1:
        differing = "; ".join(f"{column.type.value} at {site}" for site, column in columns)
        faults.append(f"the sites differ on the type of {name}, give it one: {differing}")
    return next(iter(kinds)) if len(kinds) == 1 else None


def _unit(
    proposed: ProposedVariable, columns: Sequence[tuple[str, Variable]], faults: list[str]
) -> str | None:
    """The one unit that proposal and dictionaries state; nothing is converted."""
    stated = [column.unit for _, column in columns]
    units = {unit for unit in (proposed.unit, *stated) if unit is not None}
    if len(units) > 1:
        study = [f"{proposed.unit} in the study"] if proposed.unit is not None else []
        sites = [f"{column.unit or 'no unit'} at {site}" for site, column in columns]
        faults.append(f"the unit of {proposed.name} differs: {'; '.join([*study, *sites])}")
    return next(iter(units), None)


def _levels(
    proposed: ProposedVariable,
    kind: VariableType,
    columns: Sequence[tuple[str, Variable]],
    faults: list[str],
) -> tuple[str, ...] | None:
    if kind is not VariableType.CATEGORY:
        return proposed.levels
    if proposed.levels is None:
        seen = [level for _, column in columns for level in column.levels or ()]
        return tuple(dict.fromkeys(seen))
    for site, column in columns:
        extra = [level for level in column.levels or () if level not in proposed.levels]
        if extra:
            faults.append(f"{proposed.name} has levels at {site} not declared: {_list(extra)}")
    return proposed.levels


def _decimals(
    proposed: ProposedVariable, kind: VariableType, columns: Sequence[tuple[str, Variable]]
) -> int | None:
    if proposed.decimals is not None or kind is not VariableType.REAL:
        return proposed.decimals
    found = [0 if c.type is VariableType.INTEGER else c.decimals for _, c in columns]
    known = [decimals for decimals in found if decimals is not None]
    return max(known) if known and len(known) == len(found) else None


def _list(names: Any) -> str:
    shown = [str(name) for name in names]
    more = f" and {len(shown) - 20} more" if len(shown) > 20 else ""
    return (", ".join(shown[:20]) or "none") + more
