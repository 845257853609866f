"""Contracts at the hub: proposals checked against the directory, statements taken, who sees what.

The hub's word counts for nothing at a node; these checks keep mistakes from reaching the sites.
"""

from __future__ import annotations

from datetime import datetime

from cohortium.contract import lifecycle
from cohortium.contract.check import unenforceable
from cohortium.contract.lifecycle import StudyLife, Version
from cohortium.contract.model import Contract, Draft, Environment, Participant, Seat
from cohortium.contract.population import contract_population
from cohortium.contract.statements import Transition, open_statement
from cohortium.core.clock import Clock
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.directory import PublishedDataset
from cohortium.core.rest import (
    RefusalInfo,
    SignatureInfo,
    StatementInfo,
    StudyInfo,
    StudyStatus,
    SuspensionInfo,
    VersionInfo,
)
from cohortium.errors import ConflictError, InputError, PolicyRefusal, VerificationError
from cohortium.hub.member_store import Member, MemberStore, User
from cohortium.hub.study_store import Said, Statement, StudyStore


class Studies:
    """Proposals and statements."""

    def __init__(
        self, studies: StudyStore, members: MemberStore, *, fingerprint: str, clock: Clock
    ) -> None:
        self.store = studies
        self._members = members
        self._fingerprint = fingerprint
        self._clock = clock

    def propose(self, envelope: bytes, user: User) -> StudyInfo:
        """Accept a proposer's signed contract, or amendment, and owe it to its participants.

        Raises:
            VerificationError: ``unknown-signer``, ``key-mismatch``, ``bad-digest``.
            PolicyRefusal: ``contract-expired``, ``not-authorised``, ``unenforceable``.
            InputError: ``not-found``, ``bad-proposal``, ``bad-criterion``.
            ConflictError: ``already-exists``, ``stale-version``.
        """
        contract, _ = Contract.open(envelope, key=user.key)
        self.check_terms(contract, user)
        self.check_amends(contract, user)
        published = self._members.datasets()
        for participant in contract.givers:
            _check_dataset(contract, participant, published.get(participant.name, []))
        now = self._clock()

        def proposed(life: StudyLife | None) -> StudyLife:
            return lifecycle.propose(life, contract, user.key, now)

        said = Said(contract.study, contract.digest, "propose", user.name, user.key, envelope)
        self.store.record(said, proposed, now)
        return self.one(contract.study, user, contract.digest, text=False)

    def check_terms(self, contract: Contract | Draft, user: User) -> None:
        """What a draft and a contract must be alike.

        Raises:
            CohortiumError: See `propose`.
        """
        if (contract.proposed_by.name, contract.proposed_by.key) != (user.name, user.key):
            raise VerificationError("unknown-signer", "The contract names another proposer.")
        if contract.consortium != self._fingerprint:
            raise VerificationError("bad-digest", "The contract is for another consortium.")
        if self._clock() >= contract.expires_at:
            raise PolicyRefusal("contract-expired", "The contract's expiry has passed.")
        for problem in unenforceable(contract):
            raise problem
        contract_population(contract)
        active = {one.key: one.name for one in self._members.users() if one.status == "active"}
        for recipient in contract.recipients:
            if active.get(recipient.key) != recipient.name:
                raise PolicyRefusal(
                    "not-authorised",
                    f"The recipient {recipient.name} is not a registered researcher with that key.",
                )
        members = {member.name: member for member in self._members.members()}
        for participant in contract.participants:
            _check_member(participant, members.get(participant.name))
        known = {one.name: one for one in self._members.enclaves()}
        for enclave in (contract.environment or Environment()).enclaves:
            _check_standing(enclave.name, enclave.key, known.get(enclave.name), "an enclave")
        for name in dict.fromkeys(name for task in contract.tasks for name in task.lenders):
            _check_standing(name, contract.parties[name], members.get(name), "a member")

    def check_amends(self, contract: Contract | Draft, user: User) -> None:
        """Only who can see the version in force amends it, and goes on with the study's name."""
        if contract.amends is not None:
            before = self.store.get(contract.amends)
            if not _sees(before, user.key):
                raise InputError("not-found", "The hub has no contract with that digest.")
            return
        taken = contract.study in self.store.studies()
        if taken and _shown(self.store.life(contract.study), user.key) is None:
            raise ConflictError(
                "already-exists",
                f"There is a study {contract.study} of other people: choose another id.",
            )

    def say(self, author: str, envelope: bytes, study: str | None = None) -> Version:
        """Take a party's signature or transition; returns the version with it.

        Args:
            author: The member or researcher who sent it.
            study: Which study it must be about.

        Raises:
            VerificationError: Not signed by the key that the contract names for the author.
            InputError: ``not-found`` where the hub does not know the contract.
            ConflictError: ``stale-version``, ``wrong-state``.
        """
        document, key = open_statement(envelope)
        if isinstance(document, Contract):
            digest, said_by, reason = document.digest, author, None
        elif isinstance(document, Transition):
            digest, said_by, reason = document.contract_digest, document.author, document.reason
        else:
            raise VerificationError("bad-signature", "The statement is not about a contract.")
        contract = self.store.contract(digest)
        if study is not None and contract.study != study:
            raise InputError("not-found", f"The study {study} has no contract with that digest.")
        if said_by != author or contract.parties.get(author) != key:
            raise VerificationError(
                "unknown-signer",
                "Only a party of the contract speaks on it, with the key that the contract names.",
            )
        now = self._clock()

        def stated(life: StudyLife | None) -> StudyLife:
            if life is None:
                raise InputError("not-found", "The hub has no contract with that digest.")
            if isinstance(document, Transition):
                return lifecycle.apply(life, document, key, now)
            return lifecycle.sign(life, digest, key, now)

        action = document.action if isinstance(document, Transition) else "sign"
        said = Said(contract.study, digest, action, author, key, envelope, reason)
        return self.store.record(said, stated, now)

    # Who sees what: a contract is shown to those whom it names

    def all(self, user: User) -> list[StudyInfo]:
        """The studies that are visible to `user`, newest first."""
        shown = []
        for study in self.store.studies():
            life = self.store.life(study)
            version = _shown(life, user.key)
            if version is not None:
                shown.append(self._info(life, version, user))
        return shown

    def one(
        self, study: str, user: User, contract: str | None = None, *, text: bool = True
    ) -> StudyInfo:
        """A study's contract in force, or else its newest, or the one of that digest.

        Raises:
            InputError: ``not-found``, also where it is not for `user` to see.
        """
        from cohortium.contract.render import render_version

        life = self._visible(study, user)
        version = _shown(life, user.key) if contract is None else life.version(contract)
        if version is None or not _sees(version, user.key):
            raise InputError("not-found", f"The study {study} has no contract with that digest.")
        info = self._info(life, version, user)
        if not text:
            return info
        return info.model_copy(update={"rendered": render_version(version, now=self._clock())})

    def _visible(self, study: str, user: User) -> StudyLife:
        life = self.store.life(study)
        if _shown(life, user.key) is None:
            raise InputError(
                "not-found", f"There is no study {study!r}; `cohortium study list` shows all."
            )
        return life

    def statements(self, study: str, user: User) -> list[StatementInfo]:
        """What was stated about the contracts of a study that `user` sees, oldest first."""
        life = self._visible(study, user)
        seen = {v.digest: v.contract.version for v in life.versions if _sees(v, user.key)}
        return [
            _statement(said, seen[said.contract])
            for said in self.store.statements(study)
            if said.contract in seen
        ]

    def _info(self, life: StudyLife, version: Version, user: User) -> StudyInfo:
        now, times = self._clock(), self.store.times(version.digest)
        return StudyInfo(
            id=life.study,
            contract_digest=version.digest,
            status=_status(version, now),
            contract=version.contract.to_json(),
            signatures=tuple(
                SignatureInfo(site=name, signed_at=at)
                for (name, action), at in times.items()
                if action == "sign" and name in version.signed
            ),
            refusals=tuple(
                RefusalInfo(site=name, reason=reason, at=times[name, "refuse"])
                for name, reason in version.refused.items()
            ),
            suspensions=tuple(
                SuspensionInfo(by=name, computations=None if only is None else tuple(sorted(only)))
                for name, only in version.suspensions.items()
            ),
            ended_by=version.ended_by,
            reason=version.reason,
            versions=tuple(
                VersionInfo(
                    version=v.contract.version, contract_digest=v.digest, status=_status(v, now)
                )
                for v in life.versions
                if _sees(v, user.key)
            ),
        )


def _sees(version: Version, key: str) -> bool:
    return key in version.contract.parties.values()


def _shown(life: StudyLife, key: str) -> Version | None:
    """The version in force where it is visible, else the newest that is."""
    visible = [version for version in life.versions if _sees(version, key)]
    if life.in_force in visible:
        return life.in_force
    return visible[-1] if visible else None


def _status(version: Version, now: datetime) -> StudyStatus:
    return "expired" if version.open and now >= version.contract.expires_at else version.state


def _statement(said: Statement, version: int) -> StatementInfo:
    return StatementInfo(
        seq=said.seq,
        study=said.study,
        contract_digest=said.contract,
        version=version,
        action=said.action,
        author=said.author,
        key=said.key,
        at=said.at,
        state=said.state,
        reason=said.reason,
        envelope=said.envelope.decode(),
    )


def _check_member(participant: Seat, member: Member | None) -> None:
    _check_standing(participant.name, participant.key, member, "a member")


def _check_standing(name: str, key: str | None, held: Member | None, what: str) -> None:
    """Who gives data, lends to a task or runs it is there, with the key that the contract names."""
    if held is None or held.status != "approved":
        raise InputError("not-found", f"{name} is not {what} in good standing.")
    if held.key != key:
        raise VerificationError("key-mismatch", f"The contract names another key than {name}'s.")


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
    if dataset.dictionary.digest != participant.dictionary_digest:
        raise VerificationError(
            "bad-digest",
            f"The dictionary of {participant.dataset} of {participant.name} has changed; write the "
            "proposal anew.",
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
