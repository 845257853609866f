"""A study's variables and who gives them, from what a proposal says and the sites' dictionaries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from cohortium.contract.model import (
    Participant,
    Proposal,
    ProposedParticipant,
    ProposedVariable,
    Seat,
)
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.directory import DirectoryEntry, PublishedDataset
from cohortium.core.model import explain

_MAY_BECOME: Final[Mapping[VariableType, frozenset[VariableType]]] = {
    VariableType.INTEGER: frozenset({VariableType.REAL}),
}
"""Dataset types that a study may read as another type; any type may be read as itself."""


@dataclass(frozen=True)
class Giver:
    """A participant with its dataset, if that is known.

    Attributes:
        names: The study's variables that it gives.
    """

    proposed: ProposedParticipant
    key: str
    dataset: PublishedDataset | None
    names: tuple[str, ...]

    def column(self, name: str) -> str:
        """Its name for a variable."""
        return self.proposed.sources.get(name, name)

    def participant(self) -> Participant | Seat:
        """As it stands in a contract, or in a draft before it has a dataset."""
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


def giver_of(
    proposed: ProposedParticipant,
    proposal: Proposal,
    directory: Mapping[str, DirectoryEntry],
    faults: list[str],
) -> Giver | None:
    """The participant with its key and dataset; None, and a fault, where they do not fit."""
    site = proposed.name
    entry = directory.get(site)
    if entry is None:
        faults.append(f"{site!r} is not a member; members are {listed(directory)}")
        return None
    if proposal.tasks_only and (proposed.dataset or proposed.variables or proposed.sources):
        faults.append(
            f"{site} gives a dataset or variables, and nothing is computed over them: tasks run on "
            "what is lent to their inputs"
        )
        return None
    dataset = None if proposed.dataset is None else entry.dataset(proposed.dataset)
    if dataset is None and proposed.dataset is not None:
        published = listed(d.name for d in entry.datasets)
        faults.append(f"{site} has no confirmed dataset {proposed.dataset!r}; it has {published}")
        return None
    study = [variable.name for variable in proposal.variables]
    names = tuple(study) if proposed.variables is None else proposed.variables
    unknown = [name for name in (*names, *proposed.sources) if name not in study]
    if unknown:
        faults.append(f"{site} gives {listed(unknown)}, which the study does not have")
        return None
    if len(set(names)) != len(names):
        faults.append(f"{site} gives a variable twice")
        return None
    return Giver(proposed, entry.key, dataset, names)


def study_variable(
    proposed: ProposedVariable, givers: Sequence[Giver], faults: list[str]
) -> Variable | None:
    """The study's variable, from the proposal and from the columns of the sites that give it."""
    name, before = proposed.name, len(faults)
    columns: list[tuple[str, Variable]] = []
    for giver in givers:
        if name not in giver.names or giver.dataset is None:
            continue
        column = giver.dataset.dictionary.by_name.get(giver.column(name))
        if column is None:
            has = listed(giver.dataset.dictionary.by_name)
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
            faults.append(f"{proposed.name} has levels at {site} not declared: {listed(extra)}")
    return proposed.levels


def _decimals(
    proposed: ProposedVariable, kind: VariableType, columns: Sequence[tuple[str, Variable]]
) -> int | None:
    if proposed.decimals is not None or kind is not VariableType.REAL:
        return proposed.decimals
    found = [0 if c.type is VariableType.INTEGER else c.decimals for _, c in columns]
    known = [decimals for decimals in found if decimals is not None]
    return max(known) if known and len(known) == len(found) else None


def listed(names: Iterable[object]) -> str:
    """Names in a fault; the first twenty."""
    shown = [str(name) for name in names]
    more = f" and {len(shown) - 20} more" if len(shown) > 20 else ""
    return (", ".join(shown[:20]) or "none") + more
