"""The hub's answers to an enclave: far fewer than to a member's node."""

from __future__ import annotations

import logging
from collections.abc import Callable

from cohortium.errors import CohortiumError, IntegrityFailure
from cohortium.hub.members import Membership
from cohortium.hub.task_relay import TaskRelay
from cohortium.link._generated.link_pb2 import Message
from cohortium.link.codec import error_message

logger = logging.getLogger(__name__)


class EnclaveHandler:
    """Answers one enclave; an error is a reply.

    Args:
        fingerprint: Of the consortium.
        ledger_key: The ledger's verifier key.
        newest: The ledger's newest checkpoint, or nothing.
        relay: Answers what is about tasks.
    """

    def __init__(
        self,
        enclave: str,
        *,
        fingerprint: str,
        ledger_key: str,
        newest: Callable[[], bytes],
        members: Membership,
        relay: TaskRelay,
    ) -> None:
        self._enclave = enclave
        self._fingerprint = fingerprint
        self._ledger_key = ledger_key
        self._newest = newest
        self._members = members
        self._relay = relay

    async def handle(self, message: Message) -> Message:
        """See `Handler`."""
        try:
            return await self._answer(message)
        except CohortiumError as error:
            return error_message(error)
        except Exception:
            logger.exception("cannot answer %s", self._enclave)
            return error_message(
                IntegrityFailure("internal", "The hub failed on this message; see its log.")
            )

    async def _answer(self, message: Message) -> Message:
        body = message.WhichOneof("body")
        reply = Message()
        if body == "hello":
            reply.welcome.consortium = self._fingerprint
            reply.welcome.ledger_key = self._ledger_key
            reply.welcome.ledger_checkpoint = self._newest()
            reply.welcome.revoked_keys.extend(sorted(self._members.store.revoked_keys()))
            return reply
        if body == "rotate_certificate":
            rotation = message.rotate_certificate
            pem = self._members.rotate(self._enclave, rotation.csr_pem, rotation.signature)
            reply.certificate.pem = pem
            return reply
        return await self._relay.answer(self._enclave, message)
