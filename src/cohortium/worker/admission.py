"""What has to hold before a task begins: checked here, whatever the hub has checked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cohortium.contract.check import AdmittedTask, check_task
from cohortium.contract.code import files_of
from cohortium.contract.model import Contract, Environment, RunRequest
from cohortium.contract.signatures import check_signatures
from cohortium.contract.task import Code
from cohortium.enclave import builtin
from cohortium.errors import (
    InputError,
    PolicyRefusal,
    ProtocolError,
    VerificationError,
)
from cohortium.link._generated import link_pb2 as pb
from cohortium.vault.card import VaultCard
from cohortium.vault.header import MAX_RECIPIENTS
from cohortium.vault.keys import PublicKey
from cohortium.worker.folder import Identity

_MOST_CARDS: Final = 10_000


@dataclass(frozen=True, repr=False)
class TaskOrder:
    """A run of a task that the contract allows, for this enclave.

    Attributes:
        envelope: The researcher's signed request.
        files: The program's by relative path; none of a built-in one.
        readers: The vault key of everybody for whom an output or the log is.
    """

    request: RunRequest
    envelope: bytes
    admitted: AdmittedTask
    files: Mapping[str, bytes]
    readers: Mapping[str, PublicKey]

    @property
    def run_id(self) -> str:
        """The run."""
        return self.request.run_id

    @property
    def contract(self) -> Contract:
        """The contract."""
        return self.admitted.contract

    @property
    def environment(self) -> Environment:
        """What the contract says of where it runs."""
        return self.contract.environment or Environment()

    def keys_of(self, names: Iterable[str]) -> list[PublicKey]:
        """The vault keys of readers."""
        return [self.readers[name] for name in names]


def admit(
    asked: pb.TaskPrepare, identity: Identity, *, now: datetime, revoked: Collection[str] = ()
) -> TaskOrder:
    """Check what the hub asks for; see also `cohortium.contract.check.check_task`.

    Args:
        revoked: Keys of removed researchers.

    Raises:
        VerificationError: ``bad-signature``, ``unknown-signer``, ``stale-request``, ``bad-digest``.
        PolicyRefusal: ``not-authorised``, ``contract-not-active``, ``contract-expired``,
            ``not-permitted``, ``unenforceable``.
        InputError: ``bad-input``, ``not-found``, ``vault-key-missing``.
        ProtocolError: ``malformed-message``.
    """
    # 1. One contract, of this consortium, which everybody who has to has signed; 2. it lets this
    # enclave run its tasks; 3. a researcher whom it names asks for one of them now. 4. The program
    # is the one that it names. 5. Of each reader there is a vault key by the reader's own word.
    contract = _contract(asked.contract_envelopes, identity)  # 1
    _require_named(contract, identity)  # 2
    envelope = bytes(asked.request_envelope)
    request, signer = RunRequest.open(envelope)
    admitted = check_task(  # 3
        contract, request, signer, signatures_ok=True, now=now, revoked=frozenset(revoked)
    )
    files = _program(admitted.task.code, bytes(asked.code))  # 4
    readers = _readers(contract, admitted.task.readers, asked.cards)  # 5
    for slot in admitted.task.outputs:
        if len(slot.recipients) > MAX_RECIPIENTS:
            raise InputError("bad-input", f"An output has {MAX_RECIPIENTS} recipients at most.")
    return TaskOrder(request, envelope, admitted, files, readers)


def _contract(envelopes: Sequence[bytes], identity: Identity) -> Contract:
    if not envelopes:
        raise ProtocolError("malformed-message", "The order comes without a contract.")
    contract, _ = Contract.open(bytes(envelopes[0]))
    if contract.consortium != identity.consortium:
        raise VerificationError("bad-digest", "The contract belongs to another consortium.")
    check_signatures(contract, [bytes(one) for one in envelopes])
    return contract


def _require_named(contract: Contract, identity: Identity) -> None:
    named = {one.name: one.key for one in (contract.environment or Environment()).enclaves}
    if named and named.get(identity.name) != identity.key.public:
        raise PolicyRefusal(
            "not-permitted",
            f"The contract's tasks run in {', '.join(sorted(named))}, and not in this "
            f"{identity.name}; its environment names enclaves with their keys.",
        )


def _program(code: Code, archive: bytes) -> dict[str, bytes]:
    if not code.built_in:
        return files_of(archive, code.content_digest)
    found = builtin.find(code.name)
    if found.digest != code.content_digest:
        raise VerificationError(
            "bad-digest",
            f"{code.name} is another version here than the contract names; the enclave's release "
            "has to be the one with which the contract was made.",
        )
    return {}


def _readers(
    contract: Contract, names: Collection[str], envelopes: Sequence[bytes]
) -> dict[str, PublicKey]:
    if len(envelopes) > _MOST_CARDS:
        raise ProtocolError("malformed-message", "The order has too many vault keys.")
    newest: dict[str, VaultCard] = {}
    for envelope in envelopes:
        card, signer = VaultCard.open(bytes(envelope))
        if contract.parties.get(card.name) != signer:
            raise VerificationError(
                "unknown-signer",
                f"The vault key of {card.name} is not signed by their key in the contract.",
            )
        known = newest.get(card.name)
        if known is None or card.at > known.at:
            newest[card.name] = card
    missing = sorted(set(names) - set(newest))
    if missing:
        raise InputError(
            "vault-key-missing",
            f"Outputs are for {', '.join(missing)}, of whom there is no vault key yet; an "
            "institution's node and a researcher's SDK publish theirs when they connect.",
            missing=missing,
        )
    return {name: newest[name].public for name in names}
