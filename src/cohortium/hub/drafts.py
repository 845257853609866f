"""Drafts at the hub: the owners of data and models fill the slots, then the proposer proposes."""

from __future__ import annotations

from cohortium.contract import draft as drafting
from cohortium.contract.draft import DraftLife
from cohortium.contract.model import Draft
from cohortium.contract.statements import Assignment
from cohortium.core.clock import Clock
from cohortium.core.rest import AssignmentInfo, DraftInfo
from cohortium.errors import ConflictError, InputError, VerificationError
from cohortium.hub.draft_store import DraftStore, sites_of
from cohortium.hub.member_store import MemberStore, User
from cohortium.hub.studies import Studies
from cohortium.hub.study_store import Said


class Drafts:
    """What a researcher and the owners of slots do with drafts."""

    def __init__(
        self, drafts: DraftStore, studies: Studies, members: MemberStore, clock: Clock
    ) -> None:
        self.store = drafts
        self._studies = studies
        self._members = members
        self._clock = clock

    def add(self, envelope: bytes, user: User) -> DraftInfo:
        """Take a proposer's signed draft; a newer one of the study takes its place.

        Raises:
            CohortiumError: See `Studies.propose`.
            ConflictError: ``already-exists`` where another person drafts a study of that name.
        """
        draft, _ = Draft.open(envelope, key=user.key)
        self._studies.check_terms(draft, user)
        self._studies.check_amends(draft, user)
        now = self._clock()

        def begun(life: DraftLife | None) -> DraftLife:
            if life is not None and life.draft.proposed_by != draft.proposed_by and not life.ended:
                raise ConflictError(
                    "already-exists",
                    f"There is a draft of {draft.study} by someone else: choose another id.",
                )
            if life is not None and life.digest == draft.digest:
                return life
            return drafting.begin(draft, user.key, now)

        said = Said(draft.study, draft.digest, "draft", user.name, user.key, envelope)
        life = self.store.record(said, begun, now, sites=sites_of(draft))
        return self._info(life)

    def assign(self, author: str, envelope: bytes) -> DraftLife:
        """Take an owner's word on what fills a slot.

        Raises:
            CohortiumError: See `DraftLife.assign`; ``not-found`` for an unknown draft.
        """
        said, key = Assignment.open(envelope)
        if said.author != author:
            raise VerificationError("unknown-signer", "The assignment names another author.")
        now, published = self._clock(), self._members.datasets()
        known = {
            dataset.content_digest: frozenset({member})
            for member in sorted(published, key=lambda name: name == author)  # its own copy counts
            for dataset in published[member]
        }

        def assigned(life: DraftLife | None) -> DraftLife:
            if life is None or said.author not in life.draft.parties:
                raise InputError("not-found", f"There is no draft of {said.study!r}.")
            return life.assign(said, key, now, known)

        sites = sites_of(self.store.life(said.study).draft)
        stated = Said(said.study, said.draft_digest, "assign", author, key, envelope)
        return self.store.record(stated, assigned, now, sites=sites)

    def all(self, user: User) -> list[DraftInfo]:
        """The drafts that are not proposed yet and name `user`, newest first."""
        lives = [self.store.life(study) for study in self.store.studies()]
        return [self._info(life) for life in lives if not life.ended and _sees(life, user)]

    def one(self, study: str, user: User) -> DraftInfo:
        """A study's draft, or InputError ``not-found``, also where it is not for `user` to see."""
        life = self.store.life(study)
        if not _sees(life, user):
            raise InputError("not-found", f"There is no draft of {study!r}.")
        return self._info(life)

    def _info(self, life: DraftLife) -> DraftInfo:
        return DraftInfo(
            id=life.draft.study,
            draft_digest=life.digest,
            draft=life.draft.to_json(),
            assignments=tuple(
                AssignmentInfo(
                    slot=slot, author=author, artefact=said.artefact.to_json(), at=said.at
                )
                for slot, by_owner in life.assigned.items()
                for author, said in by_owner.items()
            ),
            unfilled=tuple(life.unfilled),
            envelopes=tuple(one.decode() for one in self.store.envelopes(life.digest)),
        )


def _sees(life: DraftLife, user: User) -> bool:
    return user.key in life.draft.parties.values()
