"""What the node owes the hub: kept until the hub has it, sent again after every reconnect."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from cohortium.contract.statements import open_statement
from cohortium.core.canonical import canonical, digest_bytes
from cohortium.core.directory import PublishedDataset
from cohortium.core.publication import Publication
from cohortium.errors import CohortiumError, IntegrityFailure, PeerError
from cohortium.ledger.entry import commitment
from cohortium.link._generated import link_pb2 as pb
from cohortium.link.codec import raise_if_error
from cohortium.node import journal
from cohortium.node.own_entries import say_dataset
from cohortium.node.replica import Replica
from cohortium.node.store import NodeStore, Owed

log = logging.getLogger(__name__)

Request = Callable[[pb.Message], Awaitable[pb.Message]]
"""Sends a message to the hub and returns its reply; raises PeerError where the hub is away."""

OnReply = Callable[[Owed, pb.Message], None]


def owe_vote(store: NodeStore, contract_digest: str, envelope: bytes) -> None:
    """Queue this site's yes or no to a contract."""
    store.owe(f"vote:{contract_digest}", "statement", envelope)


def owe_statement(store: NodeStore, envelope: bytes) -> None:
    """Queue another statement; none takes the place of one before."""
    store.owe(f"statement:{digest_bytes(envelope)}", "statement", envelope)


def owe_card(store: NodeStore, envelope: bytes) -> None:
    """Queue this site's signed word on its vault key."""
    with store.transaction():
        store.owe("vault-key", "publish_card", envelope)


def owe_rotation(store: NodeStore, csr_pem: bytes, signature: bytes) -> None:
    """Queue a request for a certificate of a new TLS key."""
    message = pb.RotateCertificate(csr_pem=csr_pem, signature=signature)
    store.owe("rotate", "rotate_certificate", message.SerializeToString())


def owe_datasets(
    store: NodeStore, published: Iterable[PublishedDataset], *, again: bool = False
) -> None:
    """Queue what changed in the confirmed datasets; with `again` (a new connection) all of them."""
    now = {dataset.name: Publication(dataset=dataset) for dataset in published}
    with store.transaction():
        before = store.published()
        now |= {name: Publication(removed=name) for name in before if name not in now}
        for name, publication in now.items():
            digest = publication.digest
            if again or before.get(name) != digest:
                store.owe(f"dataset:{name}", "publish_dataset", publication.to_bytes())
                store.set_published(name, digest)
                if publication.dataset is not None:
                    say_dataset(store, publication.dataset)


def owe_policy(
    store: NodeStore,
    digest: str,
    *,
    again: bool = False,
    random: Callable[[int], bytes] = os.urandom,
) -> str:
    """Queue a commitment to the site's policy where it is another one; `again`: in any case.

    All members see it on the ledger. What opens it is in the journal: digest and nonce.

    Args:
        digest: Of the policy.

    Returns:
        The commitment that counts now.
    """
    with store.transaction():
        replica = Replica(store)
        kept = replica.recall("policy commitment")
        if kept is None or replica.recall("policy") != digest:
            nonce = random(32)
            kept, again = commitment(nonce, digest.encode(), "policy"), True
            replica.remember("policy", digest)
            replica.remember("policy commitment", kept)
            journal.append(store, "policy", {"policy": digest, "nonce": nonce.hex()})
        if again:
            store.say("policy_digest", kept)
            store.owe("policy", "policy_digest", kept.encode())
    return kept


def message_of(owed: Owed) -> pb.Message:
    """The owed message as it goes over the link."""
    if owed.kind == "statement":
        return pb.Message(statement=pb.Statement(envelope=owed.body))
    if owed.kind == "publish_dataset":
        return pb.Message(publish_dataset=pb.PublishDataset(json=owed.body))
    if owed.kind == "rotate_certificate":
        return pb.Message(rotate_certificate=pb.RotateCertificate.FromString(owed.body))
    if owed.kind == "publish_card":
        return pb.Message(publish_card=pb.PublishCard(envelope=owed.body))
    if owed.kind == "policy_digest":
        return pb.Message(policy_digest=pb.PolicyDigest(digest=owed.body.decode()))
    raise IntegrityFailure("broken-store", f"The outbox holds a message of kind {owed.kind!r}.")


TRANSIENT: Final = frozenset({"too-many-requests", "not-found"})
"""Refusals that pass: the hub had too much to do, or has lost a contract that nodes give back."""
FIRST_S: Final = 5.0
LONGEST_S: Final = 300.0


class Later:
    """When what the hub refused for now is sent again: after 5 seconds, then twice as long each.

    Args:
        monotonic: Seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._waits: dict[int, tuple[float, float]] = {}

    def is_due(self, owed: Owed) -> bool:
        """Whether a message is to be sent now."""
        return self._waits.get(owed.id, (0.0, 0.0))[1] <= self._monotonic()

    def postpone(self, owed: Owed) -> None:
        """It was refused for now."""
        before = self._waits.get(owed.id, (FIRST_S / 2, 0.0))[0]
        wait_s = min(2 * before, LONGEST_S)
        self._waits[owed.id] = (wait_s, self._monotonic() + wait_s)

    def settled(self, owed: Owed) -> None:
        """It waits no longer."""
        self._waits.pop(owed.id, None)


async def flush(
    store: NodeStore,
    request: Request,
    on_reply: OnReply = lambda _owed, _reply: None,
    later: Later | None = None,
) -> int:
    """Send everything that is owed; returns how many messages the hub took in.

    A refusal by the hub settles a message too: it is logged and shown by `cohortium node status`.
    One that passes does not: the message is sent again, and what this site states about the same
    study waits for it, since the order counts.

    Args:
        later: When messages that were refused for now are due; by default at once.

    Raises:
        PeerError: The hub is away; the rest stays owed.
    """
    taken = 0
    waiting: set[str] = set()
    for owed in store.owed():
        study = _study(owed)
        if study in waiting or (later is not None and not later.is_due(owed)):
            waiting |= {study} - {""}
            continue
        try:
            reply = await request(message_of(owed))
            raise_if_error(reply)
            on_reply(owed, reply)
            answer = "ok"
            taken += 1
        except PeerError:
            raise
        except CohortiumError as error:
            if error.code in TRANSIENT and (study or error.code == "too-many-requests"):
                log.warning("the hub refused %s for now: %s", owed.topic, error.message)
                waiting |= {study} - {""}
                if later is not None:
                    later.postpone(owed)
                continue
            log.warning(
                "the hub refused %s for good, and is not asked again: %s", owed.topic, error.message
            )
            answer = canonical({"code": error.code, "message": error.message}).decode()
        if later is not None:
            later.settled(owed)
        with store.transaction():
            store.settle(owed.id, answer)
            if owed.kind == "statement" and answer == "ok":
                Replica(store).expect_statement(owed.body)
    return taken


def _study(owed: Owed) -> str:
    """The study that a statement is about; nothing of what is no statement."""
    if owed.kind != "statement":
        return ""
    try:
        return open_statement(owed.body)[0].study
    except CohortiumError:
        return ""
