"""The hub's answers to a member's node."""

from __future__ import annotations

import logging
from collections.abc import Callable

from cohortium.core.publication import Publication
from cohortium.errors import CohortiumError, IntegrityFailure, ProtocolError
from cohortium.hub.draft_store import DraftStore
from cohortium.hub.members import Membership
from cohortium.hub.study_store import StudyStore
from cohortium.hub.tasks import Reader, Tasks
from cohortium.ledger.entry import PolicyChanged
from cohortium.link._generated.link_pb2 import Message
from cohortium.link.codec import error_message

logger = logging.getLogger(__name__)


class SiteHandler:
    """Answers one member; an error is a reply.

    Args:
        fingerprint: Of the consortium.
        ledger_key: The ledger's verifier key.
        newest: The ledger's newest checkpoint, or nothing.
        say: Takes a member's name and its signed statement on a contract or draft.
        spend: Counts what else a member puts on the ledger; raises ``too-many-requests``.
    """

    def __init__(
        self,
        site: str,
        *,
        fingerprint: str,
        ledger_key: str,
        newest: Callable[[], bytes],
        members: Membership,
        studies: StudyStore,
        drafts: DraftStore,
        tasks: Tasks,
        say: Callable[[str, bytes], object],
        spend: Callable[[str], None],
    ) -> None:
        self._site = site
        self._fingerprint = fingerprint
        self._ledger_key = ledger_key
        self._newest = newest
        self._members = members
        self._studies = studies
        self._drafts = drafts
        self._tasks = tasks
        self._say = say
        self._spend = spend

    async def handle(self, message: Message) -> Message:
        """See `Handler`."""
        try:
            return self._answer(message)
        except CohortiumError as error:
            return error_message(error)
        except Exception:
            logger.exception("cannot answer %s", self._site)
            return error_message(
                IntegrityFailure("internal", "The hub failed on this message; see its log.")
            )

    def _reader(self) -> Reader:
        return Reader(self._site, self._members.store.member(self._site).key)

    def _answer(self, message: Message) -> Message:
        site = self._site
        body = message.WhichOneof("body")
        reply = Message()
        if body == "hello":
            self._studies.owe_unknown(site, message.hello.contracts, message.hello.statements)
            self._drafts.owe_unknown(site, set(message.hello.statements))
            reply.welcome.consortium = self._fingerprint
            reply.welcome.ledger_key = self._ledger_key
            reply.welcome.ledger_checkpoint = self._newest()
            reply.welcome.revoked_keys.extend(sorted(self._members.store.revoked_keys()))
            return reply
        if body == "statement":
            self._say(site, message.statement.envelope)
        elif body == "publish_dataset":
            self._spend(site)
            self._members.publish(site, Publication.from_bytes(message.publish_dataset.json))
        elif body == "policy_digest":
            self._spend(site)
            policy = {"member": site, "policy": message.policy_digest.digest}
            self._members.store.policy(PolicyChanged.from_json(policy))
        elif body == "rotate_certificate":
            rotation = message.rotate_certificate
            reply.certificate.pem = self._members.rotate(site, rotation.csr_pem, rotation.signature)
            return reply
        elif body == "publish_card":
            self._tasks.take_card(self._reader(), message.publish_card.envelope)
        elif body == "task_fetch":
            return self._tasks.piece(self._reader(), message.task_fetch)
        else:
            raise ProtocolError("unexpected-message", f"The hub does not expect {body} here.")
        reply.ack.SetInParent()
        return reply
