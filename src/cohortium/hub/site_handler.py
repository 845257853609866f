"""The hub's answers to a member's node."""

from __future__ import annotations

import logging

from cohortium.core.publication import Publication
from cohortium.errors import CohortiumError, IntegrityFailure, ProtocolError
from cohortium.hub.service import Hub
from cohortium.link._generated.link_pb2 import Message
from cohortium.link.codec import error_message

logger = logging.getLogger(__name__)


class SiteHandler:
    """Answers one member; an error is a reply."""

    def __init__(self, hub: Hub, site: str) -> None:
        self._hub = hub
        self._site = site

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

    def _answer(self, message: Message) -> Message:
        hub, site = self._hub, self._site
        body = message.WhichOneof("body")
        reply = Message()
        if body == "hello":
            hub.store.studies.owe_unknown(site, message.hello.contracts)
            reply.welcome.consortium = hub.consortium.fingerprint
            reply.welcome.revoked_keys.extend(sorted(hub.store.members.revoked_keys()))
            return reply
        if body == "contract_vote":
            hub.vote(site, message.contract_vote.envelope)
        elif body == "publish_dataset":
            hub.members.publish(site, Publication.from_bytes(message.publish_dataset.json))
        elif body == "rotate_certificate":
            rotation = message.rotate_certificate
            reply.certificate.pem = hub.members.rotate(site, rotation.csr_pem, rotation.signature)
            return reply
        else:
            raise ProtocolError("unexpected-message", f"The hub does not expect {body} here.")
        reply.ack.SetInParent()
        return reply
