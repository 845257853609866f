"""Drafts at a node: the slots of a study that this site may fill, and what fills them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from pydantic import ValidationError

from cohortium.contract import draft as drafting
from cohortium.contract.draft import DraftLife
from cohortium.contract.model import Draft
from cohortium.contract.statements import Assignment
from cohortium.contract.task import Artefact
from cohortium.core.clock import Clock, parse_rfc3339
from cohortium.core.model import explain
from cohortium.errors import (
    CohortiumError,
    ConflictError,
    InputError,
    PolicyRefusal,
    VerificationError,
)
from cohortium.ledger.entry import ContractAction
from cohortium.node import journal, statements
from cohortium.node.datasets import Datasets
from cohortium.node.identity import Identity
from cohortium.node.lent import LentFolder
from cohortium.node.outbox import owe_statement
from cohortium.node.store import NodeStore

About = dict[str, object]
OF_DATASETS: Final = "dataset/"
"""Slots of participants; all others are inputs of tasks."""


class Drafts:
    """The drafts in a node's store.

    Args:
        identity: Who this site is.
        store: Where they lie.
        clock: The time that statements are checked against.
    """

    def __init__(self, identity: Identity, store: NodeStore, clock: Clock) -> None:
        self._identity = identity
        self._store = store
        self._clock = clock

    def receive(self, envelope: bytes, assignments: Iterable[bytes], about: About) -> bool:
        """Take in a draft that its proposer signed, and its assignments; whether it is news.

        Belongs in a transaction.

        Raises:
            CohortiumError: What does not hold.
        """
        draft, signer = Draft.open(envelope)
        about |= {"draft": draft.digest, "study": draft.study}
        if draft.consortium != self._identity.consortium:
            raise VerificationError("bad-digest", "The draft belongs to another consortium.")
        if draft.parties.get(self._identity.name) != self._identity.key.public:
            raise PolicyRefusal("not-permitted", f"{self._identity.name} is not in the draft.")
        drafting.begin(draft, signer, self._clock())
        news = self._store.add_draft(draft.digest, draft.study)
        if news:
            self._keep(envelope, draft.digest, "draft", draft.proposed_by.name, signer)
        heard = [self.hear(assignment, {}) for assignment in assignments]
        return news or any(heard)

    def hear(self, envelope: bytes, about: About) -> bool:
        """Take in an owner's assignment; whether it is news. Belongs in a transaction.

        Raises:
            CohortiumError: What does not hold.
        """
        said, signer = Assignment.open(envelope)
        about |= {"draft": said.draft_digest, "study": said.study, "author": said.author}
        about |= {"action": "assign", "slot": said.slot}
        life = self.life(said.draft_digest)
        if life is None:
            raise PolicyRefusal("contract-unknown", "This site has no draft with that digest.")
        if life.assign(said, signer, self._clock()) is life:
            return False
        return self._keep(envelope, life.digest, "assign", said.author, signer)

    def _keep(
        self,
        envelope: bytes,
        digest: str,
        action: ContractAction,
        author: str,
        key: str,
    ) -> bool:
        return statements.keep(
            self._store, envelope, contract=digest, action=action, author=author, key=key
        )

    def life(self, digest: str) -> DraftLife | None:
        """The draft of that digest and what was assigned, or None."""
        said = statements.about(self._store, digest)
        if not said or said[0].action != "draft":
            return None
        life = drafting.replay((one.envelope, parse_rfc3339(one.received_at)) for one in said)
        try:
            contract = life.assemble().digest
        except CohortiumError:  # slots are unfilled, or what fills them does not fit
            return life
        return replace(life, ended=self._store.contract(contract) is not None)

    def find(self, name: str) -> DraftLife:
        """The newest draft of a study, or the one of that digest.

        Raises:
            InputError: ``not-found``.
        """
        digests = [digest for digest, study in self._store.drafts() if name in {digest, study}]
        life = self.life(digests[-1]) if digests else None
        if life is None:
            raise InputError(
                "not-found", f"No draft {name!r} has arrived here. See: cohortium node status"
            )
        return life

    def all(self) -> list[DraftLife]:
        """The newest draft of each study that is not proposed yet."""
        studies = dict.fromkeys(study for _, study in self._store.drafts())
        return [life for study in studies if not (life := self.find(study)).ended]

    def assign(
        self,
        name: str,
        slot: str,
        what: str,
        datasets: Datasets,
        lent: LentFolder | None = None,
    ) -> DraftLife:
        """Sign what fills a slot of this site, and owe it to the hub; durable on return.

        Args:
            what: Name of a dataset; for a task's input, of what is lent.

        Raises:
            InputError: ``not-found``; ``bad-input`` where it is of another kind than the slot.
            ConflictError: ``wrong-state``: the dictionary is not confirmed, or the slot is filled.
            PolicyRefusal: ``not-authorised`` where the slot is another's.
        """
        life, identity = self.find(name), self._identity
        try:
            said = Assignment(
                study=life.draft.study,
                draft_digest=life.digest,
                slot=slot,
                artefact=self._dataset(what, datasets)
                if slot.startswith(OF_DATASETS)
                else _lent(life, slot, what, identity.name, lent),
                author=identity.name,
                at=self._clock(),
            )
        except ValidationError as error:
            raise InputError("bad-input", f"Not an assignment: {explain(error)}") from error
        before = life.assigned.get(slot, {}).get(identity.name)
        if before is not None and before.artefact == said.artefact:
            return life
        key = identity.key.public
        with self._store.transaction():
            assigned = life.assign(said, key, self._clock())
            envelope = said.sign(identity.key)
            if self._keep(envelope, life.digest, "assign", identity.name, key):
                owe_statement(self._store, envelope)
                about = {"draft": life.digest, "study": life.draft.study, "slot": slot}
                filled = {"dataset" if slot.startswith(OF_DATASETS) else "lent": what}
                journal.append(self._store, "assign", about | filled)
        return assigned

    def _dataset(self, name: str, datasets: Datasets) -> Artefact:
        if not datasets.get(name).confirmed:
            raise ConflictError(
                "wrong-state", f"Confirm the dictionary first: cohortium data confirm {name}"
            )
        published = next((one for one in datasets.published() if one.name == name), None)
        if published is None:
            raise InputError("not-found", f"There is no dataset {name!r} here.")
        return Artefact(
            name=name,
            content_digest=published.content_digest,
            owners=(self._identity.name,),
            dictionary_digest=published.dictionary.digest,
        )


def _lent(life: DraftLife, slot: str, name: str, own: str, folder: LentFolder | None) -> Artefact:
    """What is lent, as the artefact that all owners of a slot assign alike."""
    place = life.slots.get(slot)
    if place is None:
        raise InputError(
            "not-found",
            f"The draft has no free slot {slot!r}; it has: {', '.join(life.slots)}.",
        )
    if folder is None:
        raise InputError("not-found", "This node lends nothing.")
    lent = folder.get(name)
    folder.require_here(lent)
    if lent.kind != place.kind:
        raise InputError(
            "bad-input", f"{slot} takes a {place.kind}, and {name} is lent as {lent.kind}."
        )
    for said in life.assigned.get(slot, {}).values():
        if said.author != own and said.artefact.content_digest == lent.artefact:
            return said.artefact  # under the name that the first of its owners gave it
    owners = next(
        one.owners
        for task in life.draft.tasks
        for one in task.inputs
        if f"{task.name}/{one.name}" == slot
    )
    return Artefact(name=name, content_digest=lent.artefact, owners=owners)
