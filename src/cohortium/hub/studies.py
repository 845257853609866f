"""Contracts at the hub: proposals checked against the directory, votes verified, activation.

The hub's word counts for nothing at a node; these checks keep mistakes from reaching the sites.
"""

from __future__ import annotations

from cohortium.contract.model import Contract, Participant, Refusal
from cohortium.core.clock import Clock
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.directory import PublishedDataset
from cohortium.core.rest import RefusalInfo, SignatureInfo, StudyInfo, StudyStatus
from cohortium.crypto.signed import Envelope
from cohortium.errors import InputError, PolicyRefusal, VerificationError
from cohortium.hub.member_store import Member, MemberStore
from cohortium.hub.study_store import StoredContract, StudyStore


class Studies:
    """Proposals and votes."""

    def __init__(
        self, studies: StudyStore, members: MemberStore, *, fingerprint: str, clock: Clock
    ) -> None:
        self.store = studies
        self._members = members
        self._fingerprint = fingerprint
        self._clock = clock

    def propose(self, envelope: bytes, user_key: str) -> StudyInfo:
        """Accept a proposer's signed contract and owe it to its participants.

        Raises:
            VerificationError: ``unknown-signer``, ``key-mismatch``, ``bad-digest``.
            PolicyRefusal: ``contract-expired``, ``not-authorised``.
            InputError: ``not-found``, ``bad-proposal``.
            ConflictError: ``already-exists``.
        """
        contract, _ = Contract.open(envelope, key=user_key)
        if contract.proposed_by.key != user_key:
            raise VerificationError("unknown-signer", "The contract names another proposer.")
        if contract.consortium != self._fingerprint:
            raise VerificationError("bad-digest", "The contract is for another consortium.")
        now = self._clock()
        if now >= contract.expires_at:
            raise PolicyRefusal("contract-expired", "The contract's expiry has passed.")
        self._check_recipients(contract)
        members = {member.name: member for member in self._members.members()}
        published = self._members.datasets()
        for participant in contract.participants:
            _check_member(participant, members.get(participant.name))
            _check_dataset(contract, participant, published.get(participant.name, []))
        self.store.propose(contract, envelope, now)
        return self.info(self.store.get(contract.digest))

    def _check_recipients(self, contract: Contract) -> None:
        active = {user.key: user.name for user in self._members.users() if user.status == "active"}
        for recipient in contract.recipients:
            if active.get(recipient.key) != recipient.name:
                raise PolicyRefusal(
                    "not-authorised",
                    f"The recipient {recipient.name} is not a registered researcher with that key.",
                )

    def vote(self, site: str, envelope: bytes) -> str:
        """Record a member's signature or refusal; returns the contract's status.

        Raises:
            VerificationError: Not signed by the participant's contract key.
            InputError: ``not-found`` where the hub does not know the contract.
        """
        reason = None
        if Envelope.from_bytes(envelope).payloadType == Refusal.payload_type:
            refusal, signer = Refusal.open(envelope)
            if refusal.site != site:
                raise VerificationError("unknown-signer", "The refusal names another site.")
            digest, reason = refusal.contract_digest, refusal.reason
        else:
            contract, signer = Contract.open(envelope)
            digest = contract.digest
        stored = self.store.get(digest)
        participant = stored.contract.participant(site)
        if participant is None or participant.key != signer:
            raise VerificationError(
                "unknown-signer", "Only a participant votes, with the key that the contract names."
            )
        return self.store.vote(
            digest, site=site, envelope=envelope, reason=reason, now=self._clock()
        )

    def all(self) -> list[StudyInfo]:
        """The newest contract of each study, newest first."""
        newest: dict[str, StoredContract] = {}
        for stored in self.store.all():
            newest.setdefault(stored.contract.study, stored)
        return [self.info(stored) for stored in newest.values()]

    def one(self, study: str) -> StudyInfo:
        """The newest contract of a study, with its text for people."""
        from cohortium.contract.render import render

        stored = self.store.newest(study)
        info = self.info(stored)
        text = render(
            stored.contract,
            [signature.site for signature in info.signatures],
            {refusal.site: refusal.reason for refusal in info.refusals},
        )
        return info.model_copy(update={"rendered": text})

    def info(self, stored: StoredContract) -> StudyInfo:
        """A stored contract as REST shows it."""
        status: StudyStatus = "proposed"
        if stored.status == "refused":
            status = "refused"
        elif self._clock() >= stored.contract.expires_at:
            status = "expired"
        elif stored.status == "active":
            status = "active"
        return StudyInfo(
            id=stored.contract.study,
            contract_digest=stored.digest,
            status=status,
            contract=stored.contract.to_json(),
            signatures=tuple(
                SignatureInfo(site=vote.site, signed_at=vote.at)
                for vote in stored.votes
                if vote.reason is None
            ),
            refusals=tuple(
                RefusalInfo(site=vote.site, reason=vote.reason, at=vote.at)
                for vote in stored.votes
                if vote.reason is not None
            ),
        )


def _check_member(participant: Participant, member: Member | None) -> None:
    if member is None or member.status != "approved":
        raise InputError("not-found", f"{participant.name} is not a member in good standing.")
    if member.key != participant.key:
        raise VerificationError(
            "key-mismatch", f"The contract names another key than that of {participant.name}."
        )


def _check_dataset(
    contract: Contract, participant: Participant, published: list[PublishedDataset]
) -> None:
    dataset = next((entry for entry in published if entry.name == participant.dataset), None)
    if dataset is None:
        raise InputError(
            "not-found", f"{participant.name} has published no dataset {participant.dataset}."
        )
    if dataset.content_digest != participant.dataset_digest:
        raise VerificationError(
            "bad-digest",
            f"{participant.dataset} of {participant.name} has changed; write the proposal anew.",
        )
    columns = dataset.dictionary.by_name
    wanted = {variable.name: variable for variable in contract.variables}
    for name in participant.variables:
        source = participant.sources.get(name, name)
        column = columns.get(source)
        if column is None:
            raise InputError(
                "bad-proposal", f"{participant.dataset} of {participant.name} has no {source}."
            )
        if not _fits(column, wanted[name]):
            raise InputError(
                "bad-proposal",
                f"{source} of {participant.name} is {column.type}; the study needs "
                f"{wanted[name].type} with the same levels.",
            )


def _fits(column: Variable, wanted: Variable) -> bool:
    """Whether a site can read its column as the study's variable; the site itself is strict."""
    if wanted.type is VariableType.CATEGORY:
        return column.type is wanted.type and set(column.levels or ()) <= set(wanted.levels or ())
    return column.type is wanted.type or (column.type, wanted.type) == (
        VariableType.INTEGER,
        VariableType.REAL,
    )
