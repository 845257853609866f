"""What the node owes the hub: kept until the hub has it, sent again after every reconnect."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable

from cohortium.core.canonical import canonical, digest_bytes
from cohortium.core.directory import PublishedDataset
from cohortium.core.publication import Publication
from cohortium.errors import CohortiumError, IntegrityFailure, PeerError
from cohortium.link._generated import link_pb2 as pb
from cohortium.link.codec import raise_if_error
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


def owe_policy(store: NodeStore, digest: str, *, again: bool = False) -> None:
    """Queue the digest of the site's policy where it is another one; `again`: in any case."""
    with store.transaction():
        replica = Replica(store)
        if again or replica.recall("policy") != digest:
            store.say("policy_digest", digest)
            store.owe("policy", "policy_digest", digest.encode())
            replica.remember("policy", digest)


def message_of(owed: Owed) -> pb.Message:
    """The owed message as it goes over the link."""
    if owed.kind == "statement":
        return pb.Message(statement=pb.Statement(envelope=owed.body))
    if owed.kind == "publish_dataset":
        return pb.Message(publish_dataset=pb.PublishDataset(json=owed.body))
    if owed.kind == "rotate_certificate":
        return pb.Message(rotate_certificate=pb.RotateCertificate.FromString(owed.body))
    if owed.kind == "policy_digest":
        return pb.Message(policy_digest=pb.PolicyDigest(digest=owed.body.decode()))
    raise IntegrityFailure("broken-store", f"The outbox holds a message of kind {owed.kind!r}.")


async def flush(
    store: NodeStore, request: Request, on_reply: OnReply = lambda _owed, _reply: None
) -> int:
    """Send everything that is owed; returns how many messages the hub took in.

    A refusal by the hub settles a message too: it is logged and shown by `cohortium node status`.

    Raises:
        PeerError: The hub is away; the rest stays owed.
    """
    taken = 0
    for owed in store.owed():
        try:
            reply = await request(message_of(owed))
            raise_if_error(reply)
            on_reply(owed, reply)
            answer = "ok"
            taken += 1
        except PeerError:
            raise
        except CohortiumError as error:
            log.warning("the hub refused %s: %s", owed.topic, error.message)
            answer = canonical({"code": error.code, "message": error.message}).decode()
        with store.transaction():
            store.settle(owed.id, answer)
            if owed.kind == "statement" and answer == "ok":
                Replica(store).expect_statement(owed.body)
    return taken
