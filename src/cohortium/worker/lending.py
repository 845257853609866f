"""The keys of what institutions lend, each handed out by its own node to this run alone."""

from __future__ import annotations

import base64
import secrets
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from cohortium.contract.task import Artefact, ExecutorName
from cohortium.core.canonical import digest_bytes
from cohortium.core.clock import Clock
from cohortium.enclave.attestation.cmw import Record
from cohortium.enclave.attestation.ratls import bound_to, make_certificate, make_claims
from cohortium.enclave.exchange import Handed, Keys, Offer, Release
from cohortium.enclave.key_release import Asking
from cohortium.errors import ProtocolError, VerificationError
from cohortium.link._generated import link_pb2 as pb
from cohortium.vault.keys import PublicKey
from cohortium.worker.admission import TaskOrder
from cohortium.worker.folder import Identity
from cohortium.worker.hub_calls import HubCalls

Attest = Callable[[bytes], Record]
_QUOTES: Final = frozenset({"sgx", "tdx"})
"""Evidence that a certificate can carry."""
_LIFETIME: Final = timedelta(hours=1)
_MOST_ANSWERS: Final = 8
_TRIES: Final = 3


@dataclass(frozen=True, repr=False)
class Lent:
    """What a lender handed out, verified.

    Attributes:
        release: Envelope of the lender's `Release`.
        inputs: By slot; each is the artefact that the contract binds.
    """

    site: str
    release: bytes
    inputs: Mapping[str, Handed]


class Borrower:
    """Asks the lenders of one run for their keys.

    Args:
        recipient: This run's key; its private part stays in memory.
        attest: Evidence over 64 bytes; None where the level asks for none.
    """

    def __init__(
        self,
        order: TaskOrder,
        identity: Identity,
        *,
        executor: ExecutorName,
        recipient: PublicKey,
        attest: Attest | None,
        calls: HubCalls,
        clock: Clock,
    ) -> None:
        self._order = order
        self._identity = identity
        self._executor = executor
        self._recipient = recipient
        self._attest = attest
        self._calls = calls
        self._clock = clock
        self._offered: defaultdict[str, set[str]] = defaultdict(set)
        self._certificate = None if attest is None else self._attested_certificate(attest)

    def borrow(self, site: str) -> Lent:
        """The keys of one lender; a session that was cut off is begun anew.

        Raises:
            Stopped: The run was told to end.
            CohortiumError: What the lender, or the hub, answered.
            VerificationError: ``bad-signature``, ``unknown-signer``, ``bad-digest``: what came is
                not what the contract and the lender's signature say.
            ProtocolError: ``malformed-message``, ``unexpected-message``.
        """
        tries = 0
        while True:
            try:
                return self._calls.patiently(lambda: self._session(site))
            except (VerificationError, ProtocolError) as error:
                # Of a session whose bytes came twice, or not at all, nothing can be said.
                tries += 1
                if tries == _TRIES or error.code not in {"bad-evidence", "unexpected-message"}:
                    raise

    def _session(self, site: str) -> Lent:
        run_id, session = self._order.run_id, secrets.token_hex(16)

        def offer(bound: str) -> Offer:
            made = self._offer(bound)
            self._offered[site].add(digest_bytes(made.sign(self._identity.key)))
            return made

        asking = Asking(
            name=self._identity.name,
            now=self._clock(),
            contract=self._order.contract.digest,
            recipient=self._recipient,
            key=self._identity.key,
            offer=offer,
            attest=(lambda _data: None) if self._attest is None else self._attest,
            certificate=self._certificate,
        )
        data, envelope = asking.begin(), self._order.envelope
        for _ in range(_MOST_ANSWERS):
            message = pb.TaskChannel(
                run_id=run_id, site=site, session=session, data=data, request_envelope=envelope
            )
            reply = self._calls.ask(pb.Message(task_channel=message), "task_channel")
            data, envelope = asking.answer(bytes(reply.task_channel.data)), b""
            if asking.keys is not None:
                return self._checked(site, asking.keys)
            if not data:
                break
        raise ProtocolError("unexpected-message", f"The session with {site} leads to nothing.")

    def _offer(self, session: str) -> Offer:
        order = self._order
        return Offer(
            run_id=order.run_id,
            request_digest=order.request.digest,
            contract_digest=order.contract.digest,
            task=order.admitted.task.name,
            code=order.admitted.task.code.content_digest,
            enclave=self._identity.name,
            executor=self._executor,
            level=order.admitted.level,
            recipient=self._recipient.to_text(),
            session=session,
            at=self._clock(),
        )

    def _checked(self, site: str, keys: Keys) -> Lent:
        # 1. The lender's key in the contract signed the release, 2. for this run, this key and an
        # offer of ours: where the first answer was lost, the lender gives the same release again,
        # which is for the first offer. 3. It is about all that the lender lends; 4. what came with
        # it is that.
        envelope = _decoded(keys.release)
        release, _ = Release.open(envelope, key=self._order.contract.parties[site])  # 1
        order = self._order
        expected = {
            "run_id": order.run_id,
            "request_digest": order.request.digest,
            "contract_digest": order.contract.digest,
            "task": order.admitted.task.name,
            "site": site,
            "enclave": self._identity.name,
            "recipient": f"sha256:{self._recipient.key_id.hex()}",
        }
        wrong = [name for name, value in expected.items() if getattr(release, name) != value]
        if release.offer not in self._offered[site]:
            wrong.append("offer")
        if wrong:
            raise VerificationError(  # 2
                "bad-digest", f"The release of {site} is for another {', '.join(wrong)}."
            )
        lent = self.artefacts(site)
        bound = {slot: artefact.content_digest for slot, artefact in lent.items()}
        if release.artefacts != bound or set(keys.inputs) != set(bound):  # 3
            raise VerificationError(
                "bad-digest", f"{site} releases other data than the contract names."
            )
        for slot, handed in keys.inputs.items():  # 4
            if handed.files.digest != bound[slot]:
                raise VerificationError(
                    "bad-digest", f"What {site} lends for {slot} is not what the contract names."
                )
            if set(handed.grants) != {one.path for one in handed.files.files}:
                raise ProtocolError(
                    "malformed-message", f"{site} hands out other keys for {slot} than its files'."
                )
        return Lent(site, envelope, keys.inputs)

    def artefacts(self, site: str) -> dict[str, Artefact]:
        """What a lender lends, by slot."""
        slots = self._order.admitted.task.inputs
        return {s.name: s.artefact for s in slots if s.artefact is not None and site in s.owners}

    def _attested_certificate(
        self, attest: Attest
    ) -> tuple[bytes, ec.EllipticCurvePrivateKey] | None:
        """RA-TLS where the evidence is a quote; None where no certificate can carry it."""
        key = ec.generate_private_key(ec.SECP256R1())
        claims = make_claims(key.public_key())
        record = attest(bound_to(claims))
        if record.kind not in _QUOTES:
            return None
        made = make_certificate(
            key,
            record.value,
            claims,
            name=self._identity.name[:64],
            now=self._clock(),
            lifetime=_LIFETIME,
        )
        return made, key


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ProtocolError("malformed-message", "Not valid base64.") from error
