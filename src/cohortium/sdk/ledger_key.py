"""The key of the consortium's ledger, pinned in the profile: trusted when it is first seen.

A hub that took over has another one. Its operator reads the new fingerprint out, to the stewards
and to the researchers.
"""

from __future__ import annotations

from pathlib import Path

from cohortium.core.rest import ConsortiumInfo
from cohortium.crypto.keys import fingerprint
from cohortium.errors import InputError, VerificationError
from cohortium.ledger.checkpoint import origin
from cohortium.ledger.note import ED25519, parse_verifier_key
from cohortium.sdk.client import Client, pinned_http
from cohortium.sdk.profile import Profile, load_profile


def pinned(known: str | None, offered: str | None, consortium: str) -> str | None:
    """The key that counts: the known one, or the first that the hub names.

    Args:
        consortium: Fingerprint of its CA.

    Raises:
        VerificationError: ``ledger-key`` where the hub names another; ``bad-checkpoint`` where it
            is the key of no ledger of this consortium.
    """
    if offered is None:
        return known
    key = parse_verifier_key(offered)
    if key.name != origin(consortium) or key.kind != ED25519:
        raise VerificationError("bad-checkpoint", "The hub names the key of another ledger.")
    if known is not None and known != offered:
        raise VerificationError(
            "ledger-key",
            f"The hub's ledger has another key, {fingerprint(offered)}; your profile has "
            f"{fingerprint(known)}. Nothing is taken from this hub. Ask its operator by telephone: "
            "if another hub has taken over, they read out the new fingerprint, and you accept it "
            "with: cohortium user ledger-key --accept FINGERPRINT",
            known=fingerprint(known),
            offered=fingerprint(offered),
        )
    return offered


def accept(path: Path, given: str) -> Profile:
    """Pin the key that the profile's hub has now, if it has the fingerprint that was read out.

    Raises:
        InputError: ``bad-input`` where it has another one, ``not-found`` where it has none.
    """
    profile = load_profile(path)
    http = pinned_http(profile.url, profile.ca_pem, profile.fingerprint)
    with Client(http, key=profile.load_key(), fingerprint=profile.fingerprint) as client:
        offered = ConsortiumInfo.from_json(client.get("/consortium")).ledger_key
    key = pinned(None, offered, profile.fingerprint)
    if key is None:
        raise InputError("not-found", "The hub has no ledger.")
    if fingerprint(key).replace(" ", "") != given.replace(" ", "").upper():
        raise InputError(
            "bad-input",
            f"The hub's ledger has the key {fingerprint(key)}, which is not the one that you gave. "
            "Ask the hub's operator again.",
        )
    changed = profile.model_copy(update={"ledger_key": key})
    changed.save(path)
    return changed
