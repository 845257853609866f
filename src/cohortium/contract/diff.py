"""What differs between two contracts: field by field, items of lists by their names.

The changes say everything: there are none exactly where the contracts are the same, and `apply`
makes the new contract from the old one. As text, see `cohortium.contract.render.render_diff`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from cohortium.contract.effect import Effect, effect
from cohortium.contract.model import Contract
from cohortium.core.model import Document
from cohortium.errors import InputError

Kind = Literal["changed", "added", "removed", "reordered"]

Path = tuple[str, ...]

IDENTITY: Final[Mapping[str, str]] = {
    "participants": "name",
    "contacts": "name",
    "variables": "name",
    "derived": "name",
    "computations": "name",
    "recipients": "name",
    "owners": "name",
    "environment.enclaves": "name",
    "tasks": "name",
    "tasks.*.arguments": "name",
    "tasks.*.inputs": "name",
    "tasks.*.outputs": "name",
}
"""The field that names an item, by the list's pattern; other lists are compared as a whole."""

KEYED: Final = frozenset(
    {"participants.*.sources", "computations.*.limits", "computations.*.versions"}
)
"""Mappings whose keys are the proposer's words, not our fields."""


class Change(Document):
    """One difference.

    Attributes:
        path: Field names and, within lists and mappings, the item's name:
            ``("computations", "glm", "max_runs")``.
        before: JSON value in the old contract; absent where it has none.
        after: JSON value in the new contract; absent where it has none.
        effect: Whether it loosens or tightens the protection of the data; ``other`` where it
            neither does nor can be told from the terms alone.
    """

    path: Path
    kind: Kind
    before: Any = None
    after: Any = None
    effect: Effect = "other"

    @property
    def pattern(self) -> str:
        """The path with ``*`` in place of names: ``computations.*.max_runs``."""
        return pattern_of(self.path)


def pattern_of(path: Sequence[str]) -> str:
    """A path with ``*`` in place of the names of items."""
    done: list[str] = []
    for part in path:
        here = ".".join(done)
        done.append("*" if here in IDENTITY or here in KEYED else part)
    return ".".join(done)


def diff(old: Contract, new: Contract) -> tuple[Change, ...]:
    """The changes that lead from `old` to `new`; participants that come or go stand first."""
    before, after = old.to_json(), new.to_json()
    changes = [_judged(change, (before, after)) for change in _compare((), before, after)]
    return tuple(sorted(changes, key=lambda change: not _about_parties(change)))


def _judged(change: Change, contracts: tuple[dict[str, Any], dict[str, Any]]) -> Change:
    if change.kind == "reordered":
        return change
    values = (change.before, change.after)
    found = effect(change.pattern, change.path, values, contracts)
    return change.model_copy(update={"effect": found})


def _about_parties(change: Change) -> bool:
    return change.pattern == "participants.*"


def apply(contract: Contract, changes: Iterable[Change]) -> Contract:
    """The contract with the changes made.

    Raises:
        InputError: ``bad-input`` where the changes do not belong to this contract.
        ProtocolError: ``malformed-message`` where they do not make a contract.
    """
    document = contract.to_json()
    ordered = sorted(changes, key=lambda change: change.kind == "reordered")
    try:
        for change in ordered:
            _apply(document, change)
    except (KeyError, TypeError, StopIteration) as error:
        raise InputError("bad-input", "The changes are about another contract.") from error
    return Contract.from_json(document)


# --- comparing ------------------------------------------------------------------------------------


def _same(one: Any, other: Any) -> bool:
    """Equal in canonical form: true is not 1, but 1.0 is."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _compare(path: Path, before: Any, after: Any) -> Iterator[Change]:
    if _same(before, after):
        return
    named = _named(path, before, after)
    if named is not None:
        yield from _compare_items(path, *named)
    elif isinstance(before, dict) and isinstance(after, dict):
        keyed = pattern_of(path) in KEYED
        for key in dict.fromkeys([*before, *after]):
            place = (*path, key)
            if key in before and key in after:
                yield from _compare(place, before[key], after[key])
            else:
                kind: Kind = "changed" if not keyed else "added" if key in after else "removed"
                yield Change(path=place, kind=kind, before=before.get(key), after=after.get(key))
    else:
        yield Change(path=path, kind="changed", before=before, after=after)


def _named(path: Path, before: Any, after: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Both lists' items by name; None where this is no such list, or a name stands in it twice."""
    field = IDENTITY.get(pattern_of(path))
    if field is None or not isinstance(before, list) or not isinstance(after, list):
        return None
    one, other = ({item[field]: item for item in items} for items in (before, after))
    return (one, other) if (len(one), len(other)) == (len(before), len(after)) else None


def _compare_items(path: Path, before: dict[str, Any], after: dict[str, Any]) -> Iterator[Change]:
    for name, item in before.items():
        if name not in after:
            yield Change(path=(*path, name), kind="removed", before=item)
        else:
            yield from _compare((*path, name), item, after[name])
    for name, item in after.items():
        if name not in before:
            yield Change(path=(*path, name), kind="added", after=item)
    made = [*(n for n in before if n in after), *(n for n in after if n not in before)]
    if made != list(after):
        yield Change(path=path, kind="reordered", before=list(before), after=list(after))


# --- applying -------------------------------------------------------------------------------------


def _apply(document: dict[str, Any], change: Change) -> None:
    holder = _walk(document, change.path[:-1])
    last = change.path[-1]
    if change.kind == "reordered":
        field = IDENTITY[change.pattern]
        items = {item[field]: item for item in holder[last]}
        holder[last] = [items[name] for name in change.after]
    elif isinstance(holder, list):
        if change.before is not None:
            holder.remove(_item(holder, change.path[:-1], last))
        if change.after is not None:
            holder.append(change.after)
    elif change.after is None:
        del holder[last]
    else:
        holder[last] = change.after


def _walk(document: Any, path: Path) -> Any:
    for number, part in enumerate(path):
        document = (
            _item(document, path[:number], part) if isinstance(document, list) else document[part]
        )
    return document


def _item(items: list[Any], path: Path, name: str) -> Any:
    field = IDENTITY[pattern_of(path)]
    return next(item for item in items if item[field] == name)


__all__ = ["IDENTITY", "KEYED", "Change", "Effect", "Kind", "apply", "diff", "pattern_of"]
