"""Drafts: the owners of data, models and parameters fill the slots; then there is a contract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Final

from cohortium.contract.lifecycle import CLOCK_SKEW
from cohortium.contract.model import Contract, Draft, Participant, Seat
from cohortium.contract.statements import Assignment, open_statement
from cohortium.contract.task import Artefact, InputSlot, SlotKind
from cohortium.errors import (
    ConflictError,
    InputError,
    PolicyRefusal,
    ProtocolError,
    VerificationError,
)

_NOTHING: Final[Mapping[str, frozenset[str]]] = MappingProxyType({})


@dataclass(frozen=True)
class Slot:
    """A place of a draft that its owners, all of them, fill.

    Attributes:
        described: Whether what fills it has a dictionary: datasets that are computed over do;
            what is lent to a task need not.
    """

    owners: frozenset[str]
    kind: SlotKind
    required: bool
    described: bool = False


@dataclass(frozen=True)
class DraftLife:
    """A draft and what was assigned.

    Attributes:
        assigned: By slot and owner; a slot is filled when all its owners have assigned.
        ended: Whether its contract was proposed; slots are then as they are.
    """

    draft: Draft
    digest: str
    assigned: Mapping[str, Mapping[str, Assignment]]
    ended: bool = False

    @property
    def slots(self) -> dict[str, Slot]:
        """What is to be filled, by name: ``dataset/<participant>``, ``<task>/<input>``."""
        found = {
            f"dataset/{one.name}": Slot(
                frozenset({one.name}), "dataset", required=True, described=True
            )
            for one in self.draft.participants
            if one.variables and not isinstance(one, Participant)
        }
        for task in self.draft.tasks:
            for slot in task.inputs:
                if slot.artefact is None:
                    found[f"{task.name}/{slot.name}"] = Slot(
                        frozenset(slot.owners), slot.kind, slot.required
                    )
        return found

    @property
    def unfilled(self) -> dict[str, frozenset[str]]:
        """Required slots that are not filled, and the owners who have not assigned."""
        missing = {
            name: slot.owners - self.assigned.get(name, {}).keys()
            for name, slot in self.slots.items()
            if slot.required or name in self.assigned
        }
        return {name: owners for name, owners in missing.items() if owners}

    def assign(
        self,
        said: Assignment,
        signer: str,
        now: datetime,
        known: Mapping[str, frozenset[str]] = _NOTHING,
    ) -> DraftLife:
        """With an owner's assignment; the same one again changes nothing.

        Args:
            known: Owners by content digest, of artefacts that the caller knows.

        Raises:
            VerificationError: ``unknown-signer``; ``stale-request`` from the future.
            ConflictError: ``stale-version`` for another draft; ``wrong-state`` where the draft has
                ended, the slot is assigned already, or the artefact is not finished.
            InputError: ``not-found`` for a slot that the draft does not have; ``bad-input`` for a
                dataset without a dictionary.
            PolicyRefusal: ``not-authorised`` where author, slot and artefact have other owners.
        """
        # 1. This draft. 2. The author signed. 3. Seen before. 4. Still a draft. 5. The slot
        # exists, 6. is the author's, and 7. of exactly the artefact's owners, who are those that
        # we know. 8. The artefact is finished. 9. Assigned once, and alike by joint owners.
        if (said.study, said.draft_digest) != (self.draft.study, self.digest):  # 1
            raise ConflictError(
                "stale-version",
                f"The assignment is for another draft; current is {self.digest}.",
                current=self.digest,
            )
        if self.draft.parties.get(said.author) != signer:  # 2
            raise VerificationError(
                "unknown-signer", f"The assignment is not signed by {said.author} of the draft."
            )
        if said.at > now + CLOCK_SKEW:
            raise VerificationError(
                "stale-request", "The assignment is from the future; compare the machines' clocks."
            )
        before = self.assigned.get(said.slot, {})
        if before.get(said.author) == said:  # 3
            return self
        if self.ended:  # 4
            raise ConflictError("wrong-state", "The contract was proposed; its slots are fixed.")
        slot = self.slots.get(said.slot)
        if slot is None:  # 5
            raise InputError(
                "not-found",
                f"The draft has no free slot {said.slot!r}; it has: {', '.join(self.slots)}.",
            )
        _check_owners(slot, said, known)  # 6, 7
        _check_content(slot, said.artefact)  # 8
        if said.author in before or any(a.artefact != said.artefact for a in before.values()):  # 9
            raise ConflictError("wrong-state", f"{said.slot} is assigned already.")
        filled = MappingProxyType({**before, said.author: said})
        return replace(self, assigned=MappingProxyType({**self.assigned, said.slot: filled}))

    def assemble(self) -> Contract:
        """The contract with its slots filled; deterministic, so that anybody can compare.

        Raises:
            ConflictError: ``wrong-state`` while a required slot is unfilled.
        """
        if self.unfilled:
            waiting = [f"{slot} ({', '.join(sorted(o))})" for slot, o in self.unfilled.items()]
            raise ConflictError("wrong-state", f"Slots are unfilled: {'; '.join(waiting)}.")
        artefacts = {
            name: next(iter(by_owner.values())).artefact for name, by_owner in self.assigned.items()
        }
        fields = {
            **self.draft.to_json(),
            "participants": [
                _seated(one, artefacts.get(f"dataset/{one.name}"))
                for one in self.draft.participants
            ],
            "tasks": [
                task.model_copy(
                    update={
                        "inputs": tuple(
                            _filled(slot, artefacts.get(f"{task.name}/{slot.name}"))
                            for slot in task.inputs
                        )
                    }
                ).to_json()
                for task in self.draft.tasks
            ],
        }
        del fields["schema_id"]
        return Contract.model_validate(fields)

    def proposed(self, contract: Contract) -> DraftLife:
        """The end of the draft: the contract that its owners filled is proposed.

        Raises:
            ConflictError: ``wrong-state`` where it is not that contract.
        """
        if contract.digest != self.assemble().digest:
            raise ConflictError(
                "wrong-state", "The contract is not what was assigned to the draft."
            )
        return replace(self, ended=True)


def _check_owners(slot: Slot, said: Assignment, known: Mapping[str, frozenset[str]]) -> None:
    if said.author not in slot.owners:  # 6
        raise PolicyRefusal(
            "not-authorised", f"{said.slot} is for {', '.join(sorted(slot.owners))} to assign."
        )
    owners = frozenset(said.artefact.owners)
    real = known.get(said.artefact.content_digest or "", owners)
    if not owners == slot.owners == real:  # 7
        raise PolicyRefusal(
            "not-authorised",
            f"{said.slot} takes what belongs to exactly {', '.join(sorted(slot.owners))}; "
            f"{said.artefact.name} belongs to {', '.join(sorted(real))}.",
        )


def _check_content(slot: Slot, artefact: Artefact) -> None:
    if not artefact.finished:  # 8
        raise ConflictError("wrong-state", f"{artefact.name} is not finished; it has no digest.")
    if slot.described and artefact.dictionary_digest is None:
        raise InputError("bad-input", f"{artefact.name} is a dataset without a dictionary.")


def _seated(one: Participant | Seat, artefact: Artefact | None) -> dict[str, object]:
    if artefact is None:
        return one.to_json()
    return {
        **one.to_json(),
        "dataset": artefact.name,
        "dataset_digest": artefact.content_digest,
        "dictionary_digest": artefact.dictionary_digest,
    }


def _filled(slot: InputSlot, artefact: Artefact | None) -> InputSlot:
    return slot if artefact is None else slot.model_copy(update={"artefact": artefact})


def begin(draft: Draft, signer: str, now: datetime) -> DraftLife:
    """A draft signed by its proposer.

    Raises:
        VerificationError: ``unknown-signer``; ``stale-request`` from the future.
    """
    if signer != draft.proposed_by.key:
        raise VerificationError("unknown-signer", "The draft names another proposer.")
    if draft.created_at > now + CLOCK_SKEW:
        raise VerificationError(
            "stale-request", "The draft is from the future; compare the machines' clocks."
        )
    return DraftLife(draft, draft.digest, MappingProxyType({}))


def replay(
    statements: Iterable[tuple[bytes, datetime]], known: Mapping[str, frozenset[str]] = _NOTHING
) -> DraftLife:
    """The draft that follows from signed statements, each with the time at which it was accepted.

    Raises:
        CohortiumError: What `open_statement`, `begin` and `assign` say.
        ProtocolError: ``unexpected-message`` for another kind of statement, or a second draft.
        InputError: ``not-found`` where there is no draft.
    """
    life: DraftLife | None = None
    for envelope, accepted in statements:
        document, signer = open_statement(envelope)
        if isinstance(document, Draft) and life is None:
            life = begin(document, signer, accepted)
        elif isinstance(document, Assignment) and life is not None:
            life = life.assign(document, signer, accepted, known)
        else:
            raise ProtocolError("unexpected-message", "A draft is followed by its assignments.")
    if life is None:
        raise InputError("not-found", "There is no draft.")
    return life
