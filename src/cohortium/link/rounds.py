"""Between the link's messages and those of the secure sum."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Final

from cohortium.errors import ProtocolError
from cohortium.link._generated import link_pb2 as pb
from cohortium.secagg.keys import SEALED_BYTES
from cohortium.secagg.messages import (
    KeyShare,
    KeyShares,
    SurvivorList,
    SurvivorSignature,
    Unmasking,
)
from cohortium.secagg.parties import Parties

_HEAD: Final = struct.Struct("<II")


def _site(parties: Parties, place: int) -> str:
    if place >= len(parties.sites):
        raise ProtocolError("malformed-message", "A message names a party that is not there.")
    return parties.sites[place]


def _by_party(items: Iterable[pb.OfParty], parties: Parties) -> dict[str, bytes]:
    out: dict[str, bytes] = {}
    for item in items:
        site = _site(parties, item.party)
        if site in out:
            raise ProtocolError("malformed-message", "A message names a party twice.")
        out[site] = item.data
    return out


def _of_parties(items: Mapping[str, bytes], parties: Parties) -> list[pb.OfParty]:
    return [pb.OfParty(party=parties.point(site) - 1, data=data) for site, data in items.items()]


def put_key_shares(shares: KeyShares, run_id: str, parties: Parties) -> pb.ShareReply:
    """A site's keys for a round."""
    return pb.ShareReply(
        run_id=run_id,
        round=shares.round,
        mask_key=shares.mask_key,
        sealed=_of_parties(shares.sealed, parties),
    )


def get_key_shares(reply: pb.ShareReply, sender: str, parties: Parties) -> KeyShares:
    """The inverse, at the hub: keys for exactly the neighbours of `sender`.

    Raises:
        ProtocolError: ``malformed-message``.
    """
    sealed = _by_party(reply.sealed, parties)
    if (
        len(reply.mask_key) != 32
        or set(sealed) != parties.neighbours(sender)
        or any(len(data) != SEALED_BYTES for data in sealed.values())
    ):
        raise ProtocolError(
            "malformed-message", f"{sender} did not share its keys as the step asks.", site=sender
        )
    return KeyShares(sender, reply.round, reply.mask_key, sealed)


def pack_keys(keys: Mapping[str, KeyShares], run_id: str, parties: Parties) -> bytes:
    """Several sites' keys, to be stored."""
    parts = []
    for site, shares in sorted(keys.items()):
        data = put_key_shares(shares, run_id, parties).SerializeToString()
        parts += [_HEAD.pack(parties.point(site) - 1, len(data)), data]
    return b"".join(parts)


def unpack_keys(data: bytes, parties: Parties) -> dict[str, KeyShares]:
    """The inverse of `pack_keys`; for what the hub stored itself."""
    out, at = {}, 0
    while at < len(data):
        place, size = _HEAD.unpack_from(data, at)
        start = at + _HEAD.size
        at = start + size
        sender = parties.sites[place]
        reply = pb.ShareReply.FromString(data[start:at])
        out[sender] = get_key_shares(reply, sender, parties)
    return out


def put_round(
    request: pb.RoundRequest,
    active: Iterable[str],
    shares: Mapping[str, KeyShare],
    parties: Parties,
) -> None:
    """Say who takes part in a round, and hand on what the neighbours sealed for the recipient."""
    request.active = parties.to_bits(list(active))
    for site, share in shares.items():
        request.shares.add(
            party=parties.point(site) - 1, mask_key=share.mask_key, sealed=share.sealed
        )


def get_shares(request: pb.RoundRequest, parties: Parties) -> dict[str, KeyShare]:
    """The neighbours' shares, unverified."""
    out: dict[str, KeyShare] = {}
    for item in request.shares:
        site = _site(parties, item.party)
        if site in out:
            raise ProtocolError("malformed-message", "A message names a party twice.")
        out[site] = KeyShare(item.mask_key, item.sealed)
    return out


def put_survivors(message: SurvivorList, run_id: str, parties: Parties) -> pb.SurvivorList:
    """A list of survivors."""
    return pb.SurvivorList(
        run_id=run_id,
        round=message.round,
        survivors=parties.to_bits(message.survivors),
        signatures=_of_parties(message.signatures, parties),
    )


def get_survivors(message: pb.SurvivorList, parties: Parties) -> SurvivorList:
    """The inverse, at a site; nothing is verified."""
    return SurvivorList(
        message.round,
        parties.from_bits(message.survivors),
        _by_party(message.signatures, parties),
    )


def get_signature(message: pb.SurvivorSignature, sender: str) -> SurvivorSignature:
    """A committee member's signature, at the hub."""
    return SurvivorSignature(sender, message.round, message.signature)


def put_unmasking(message: Unmasking, run_id: str, parties: Parties) -> pb.Unmasking:
    """A site's shares."""
    return pb.Unmasking(
        run_id=run_id, round=message.round, shares=_of_parties(message.shares, parties)
    )


def get_unmasking(message: pb.Unmasking, sender: str, parties: Parties) -> Unmasking:
    """The inverse, at the hub."""
    return Unmasking(sender, message.round, _by_party(message.shares, parties))
