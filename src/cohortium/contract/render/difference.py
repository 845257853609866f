"""What differs between two contracts, in plain words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from cohortium.contract.diff import Change, diff, pattern_of
from cohortium.contract.model import (
    Cohort,
    Computation,
    Contact,
    Contract,
    Enclave,
    Environment,
    Participant,
    Researcher,
)
from cohortium.contract.noise import Noise
from cohortium.contract.render.catalogue import phrases
from cohortium.contract.render.clauses import Clauses, moment
from cohortium.contract.render.layout import Free, Item, bulleted, name, say, value, wrap
from cohortium.contract.task import Argument, Artefact, Code, InputSlot, Limits, OutputSlot, Task
from cohortium.core.canonical import canonical
from cohortium.core.clock import parse_rfc3339
from cohortium.core.dictionary import Variable
from cohortium.core.selection import Derived
from cohortium.crypto.keys import fingerprint

_TIMES: Final = frozenset({"created_at", "expires_at"})
_FREE: Final = frozenset({"purpose", "variables.*.description", "derived.*.expression"})
_FREE_LISTS: Final = frozenset({"cohort.exclude", "cohort.include"})
_JSON: Final = frozenset({"tasks.*.arguments.*.value", "computations.*.limits.*"})
"""Values in which the text "1" is not the number 1."""

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


def render_diff(old: Contract, new: Contract, language: str = "en") -> str:
    """What differs, participants first; what loosens protection is marked so.

    Raises:
        InputError: ``bad-input`` for a language that there is not.
    """
    words = phrases(language)
    changes = diff(old, new)
    head = say(
        words.differences,
        old=old.version,
        old_digest=old.digest,
        new=new.version,
        new_digest=new.digest,
    )
    lines = wrap(head, "", "    ")
    if not changes:
        return "\n".join([*lines, words.no_difference]) + "\n"
    loosening = sum(change.effect == "looser" for change in changes)
    lines += [*wrap(say(words.loosening, loosening=loosening, changes=len(changes))), ""]
    for change in changes:
        contract = old if change.after is None else new
        lines += bulleted(_Difference(Clauses(words), contract).item(change))
    return "\n".join(lines) + "\n"


class _Difference:
    """A change as an item of the text."""

    def __init__(self, clauses: Clauses, contract: Contract) -> None:
        self._clauses = clauses
        self._words = clauses.words
        self._contract = contract
        self._everything = frozenset(variable.name for variable in contract.variables)

    def item(self, change: Change) -> Item:
        first, *rest = self._parts(change)
        marks = {"looser": self._words.looser, "stricter": self._words.stricter}
        mark = marks.get(change.effect)
        sentence = str(first)
        sentence = sentence[0].upper() + sentence[1:]
        return [sentence if mark is None else f"{mark} {sentence}", *rest]

    def _parts(self, change: Change) -> Item:
        words, what, pattern = self._words, self._what(change.path), change.pattern
        before, after = change.before, change.after
        if change.kind == "reordered":
            return [say(words.reordered, what=what, names=self._clauses.names(after))]
        if before is None or after is None:
            clauses = self._said(_at(self._contract, change.path))
            if clauses is not None:
                phrase = words.added if before is None else words.removed
                return [say(phrase, what=what), *clauses]
        if pattern in _FREE:
            return [
                say(words.was, what=what),
                self._free(before),
                say(words.becomes, what=what),
                self._free(after),
            ]
        if isinstance(before, list) and isinstance(after, list):
            return [say(words.changes, what=what), *self._list(pattern, before, after)]
        return [
            say(
                words.was_and_becomes,
                what=what,
                before=self._value(pattern, before),
                after=self._value(pattern, after),
            )
        ]

    def _what(self, path: Sequence[str]) -> str:
        """``the number of runs of computation glm``"""
        fields, text = self._words.fields, ""
        for length in range(len(path), 0, -1):
            pattern = pattern_of(path[:length])
            if length < len(path) and not pattern.endswith("*"):
                continue
            piece = say(fields[pattern], name=name(path[length - 1]))
            text = say(self._words.of, part=text, whole=piece) if text else piece
        return text

    def _free(self, text: str | None) -> str | Free:
        return self._words.none if text is None else Free(text)

    def _list(self, pattern: str, before: list[Any], after: list[Any]) -> Item:
        old, new = ({canonical(item) for item in items} for items in (before, after))
        added = [item for item in after if canonical(item) not in old]
        gone = [item for item in before if canonical(item) not in new]
        parts: list[str | Free] = []
        for phrase, items in ((self._words.adds, added), (self._words.takes_away, gone)):
            if items and pattern in _FREE_LISTS:
                parts += [say(phrase, items=""), *(Free(item) for item in items)]
            elif items:
                parts.append(say(phrase, items=self._row(pattern, items)))
        return parts or [say(self._words.becomes_list, items=self._row(pattern, after))]

    def _row(self, pattern: str, items: Sequence[Any]) -> str:
        texts = [self._value(pattern, item) for item in items]
        return self._words.comma.join(texts) or self._words.none

    def _value(self, pattern: str, data: Any) -> str:
        words = self._words
        if data is None:
            return words.absent.get(pattern, words.none)
        if pattern in words.values:
            return self._clauses.word(pattern, data)
        if isinstance(data, list):
            return self._row(pattern, data)
        if pattern in _JSON or not isinstance(data, str):
            return value(data)
        if pattern in _TIMES:
            return moment(parse_rfc3339(data))
        if pattern.endswith(".key"):
            return fingerprint(data)
        return data if _DIGEST.fullmatch(data) else name(data)

    def _said(self, part: object) -> Item | None:
        """What an item, or a whole group of terms, says; None where it is a single value."""
        clauses = self._clauses
        match part:
            case Participant():
                return clauses.offer(part, self._everything)
            case Researcher():
                return [clauses.key(part.key)]
            case Enclave():
                return clauses.enclave(part)
            case Contact():
                return clauses.contact(part)
            case Variable():
                return clauses.variable(part)
            case Derived():
                return clauses.derived(part)
            case Computation():
                return clauses.computation(part)
            case Noise():
                return clauses.noise(part)
            case Code():
                return [clauses.code(part)]
            case Limits():
                return [clauses.limits(part)]
            case Cohort():
                return _flat(clauses.cohort(part))
            case Environment():
                return _flat(clauses.environment(part))
            case Task() | Argument() | InputSlot() | OutputSlot() | Artefact():
                return self._of_task(part)
            case _:
                return None

    def _of_task(self, part: Task | Argument | InputSlot | OutputSlot | Artefact) -> Item:
        clauses = self._clauses
        match part:
            case Task():
                return clauses.task(part)
            case Argument():
                return [clauses.argument(part)]
            case InputSlot():
                return clauses.input(part)
            case OutputSlot():
                return [clauses.output(part)]
            case Artefact():
                return clauses.artefact(part)


def _at(contract: Contract, path: Sequence[str]) -> Any:
    """What stands in the contract at a path that `diff` gave."""
    here: Any = contract
    for part in path:
        if isinstance(here, tuple):
            here = next(item for item in here if item.name == part)
        else:
            here = here[part] if isinstance(here, dict) else getattr(here, part)
    return here


def _flat(items: Iterable[Item]) -> Item:
    return [part for item in items for part in item]


__all__ = ["render_diff"]
