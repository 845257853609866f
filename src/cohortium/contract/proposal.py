"""From a study's YAML file to the draft or the contract that is put to the sites."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from cohortium.contract.model import (
    Computation,
    Contract,
    Draft,
    Environment,
    Proposal,
    Researcher,
)
from cohortium.contract.population import contract_population
from cohortium.contract.programs import BuiltinDigest, with_code
from cohortium.contract.variables import giver_of, listed, study_variable
from cohortium.core.clock import to_rfc3339
from cohortium.core.directory import DirectoryEntry
from cohortium.core.faults import said
from cohortium.core.model import explain
from cohortium.errors import CohortiumError, InputError

MAX_PROPOSAL_CHARS: Final = 1024 * 1024

_MOST_FAULTS: Final = 10
_DRAFT: Final = "cohortium study draft FILE"

_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

_SHARED: Final = (
    "study",
    "title",
    "purpose",
    "contacts",
    "cohort",
    "derived",
    "tasks",
    "security_level",
    "aggregation",
    "disclosure",
    "expires_at",
)
"""Terms that a contract has as they stand in the proposal."""


@dataclass(frozen=True)
class StudyFile:
    """A study's file as it was read.

    Attributes:
        archives: ZIP by digest, of its programs that were read from folders and wheels.
    """

    proposal: Proposal
    archives: Mapping[str, bytes]


def read_proposal(text: str) -> Proposal:
    """`read_study` of a text that names programs by their digests.

    Raises:
        InputError: ``bad-proposal``, with the line of each fault; never anything else.
    """
    return read_study(text).proposal


def read_study(
    text: str,
    base: Path | None = None,
    builtin: BuiltinDigest | None = None,
    owner: str | None = None,
) -> StudyFile:
    """Parse a study's YAML (or JSON) file, and read the programs that it names.

    ``expires_at`` may be a date alone: the study then ends with that day, UTC. For `base`,
    `builtin` and `owner` see `cohortium.contract.programs.with_code`.

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
    coded = with_code(_plain(value, depth=0), base, builtin, owner)
    value = coded.study
    ends = value.get("expires_at")
    if isinstance(ends, str) and _DAY.fullmatch(ends):  # as YAML reads it without quotes
        with suppress(ValueError):  # which pydantic says with its line
            ends = date.fromisoformat(ends)
    if isinstance(ends, date) and not isinstance(ends, datetime):
        value["expires_at"] = datetime.combine(ends, time(23, 59, 59), UTC)
    if coded.faults:
        raise _bad_proposal([f"line {_line(root, at)}: {said}" for at, said in coded.faults])
    try:
        return StudyFile(Proposal.model_validate(value), coded.archives)
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
    enclaves: Mapping[str, str] = MappingProxyType({}),
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
        enclaves: Keys of the consortium's enclaves by name. One whose key stands in the file need
            not be known.

    Raises:
        InputError: ``bad-proposal``, with all faults found (first ten) in message and details.
    """
    around = _Around(directory, consortium, researcher, users, versions, now, amends, enclaves)
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
    enclaves: Mapping[str, str] = MappingProxyType({}),
) -> Draft:
    """`resolve`, where participants may still have to say which dataset they give, and tasks may
    have unfilled inputs; a variable that only such participants give needs a type.

    Raises:
        InputError: ``bad-proposal``.
    """
    around = _Around(directory, consortium, researcher, users, versions, now, amends, enclaves)
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
    enclaves: Mapping[str, str]


_Kind = TypeVar("_Kind", Contract, Draft)


def _bound(kind: type[_Kind], proposal: Proposal, around: _Around) -> _Kind:
    faults: list[str] = []
    givers = [
        giver
        for participant in proposal.participants
        if (giver := giver_of(participant, proposal, around.directory, faults)) is not None
    ]
    if kind is Contract and not proposal.tasks_only:
        faults += [
            f"{giver.proposed.name} gives no dataset; for it to choose one: {_DRAFT}"
            for giver in givers
            if giver.dataset is None
        ]
    if kind is Contract:
        faults += [
            f"inputs of {task.name} are unfilled: {listed(task.unfilled)}; for their owners to "
            f"fill them: {_DRAFT}"
            for task in proposal.tasks
            if task.unfilled
        ]
    variables = [study_variable(variable, givers, faults) for variable in proposal.variables]
    unknown = [name for name in proposal.recipients if name not in around.users]
    if unknown:
        faults.append(f"the consortium has no researcher {listed(unknown)}")
    owners = _owners(proposal, around, faults)
    environment = _environment(proposal.environment, around, faults)
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
            environment=environment,
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
        contract_population(made)
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
            needed = slot.required or slot.artefact is not None
            without = [name for name in slot.owners if name not in around.directory]
            if needed and without:
                faults.append(
                    f"input {slot.name} of {task.name} belongs to {listed(without)}, who is no "
                    "member and has no node that could lend it"
                )
        for output in task.outputs:
            named.update(dict.fromkeys((*output.owners, *output.recipients)))
        named.update(dict.fromkeys(task.log_recipients))
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


def _environment(
    said: Environment | None, around: _Around, faults: list[str]
) -> Environment | None:
    """With the enclaves' keys."""
    if said is None:
        return None
    bound = []
    for one in said.enclaves:
        key = around.enclaves.get(one.name)
        if key is None and one.key is None:
            faults.append(f"no enclave is called {one.name!r}; there are {listed(around.enclaves)}")
        elif None not in {key, one.key} and key != one.key:
            faults.append(f"the enclave {one.name} has another key in the consortium")
        bound.append(one.model_copy(update={"key": one.key or key}))
    return said.model_copy(update={"enclaves": tuple(bound)})


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
    shown = [fault.removesuffix(".") for fault in faults[:_MOST_FAULTS]]
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
    for fault in error.errors(include_url=False, include_input=False):
        place = ".".join(str(part) for part in fault["loc"])
        message = said(fault)
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
