"""From an invitation to a researcher's profile."""

from __future__ import annotations

from pathlib import Path

from cohortium.core.invitation import Invitation
from cohortium.core.rest import ConsortiumInfo
from cohortium.crypto.enrolment import UserEnrolment
from cohortium.crypto.keys import SigningKey
from cohortium.errors import ConflictError, InputError
from cohortium.sdk.client import Client, fetch_consortium, pinned_http
from cohortium.sdk.ledger_key import pinned
from cohortium.sdk.profile import Profile
from cohortium.sdk.vault_key import own_key, publish, vault_file


def enrol(invitation: Invitation, profile_file: Path, *, key_file: Path | None = None) -> Profile:
    """Register a key with an invitation and write the profile.

    Args:
        invitation: For a researcher; it works once.
        profile_file: Where the profile goes; a new key goes beside it with the ending ``.key``, and
            a vault key, for which outputs of tasks are encrypted, with the ending ``.vault``.
        key_file: An existing key to register instead.

    Raises:
        InputError: The invitation is for an institution.
        VerificationError: ``bad-invitation``, or the hub is not the one of the invitation.
    """
    # 1. The hub is the invitation's. 2. The key is on disk before the hub knows it, so that a crash
    # leaves no registered key that nobody holds. 3. Proof of the key. 4. The profile.
    if invitation.kind != "researcher":
        raise InputError(
            "bad-input", "This invitation is for an institution: cohortium node join INVITATION"
        )
    info = fetch_consortium(invitation.hub, invitation.ca)  # 1
    key, where = _key(profile_file, key_file)  # 2
    enrolment = UserEnrolment(
        ca=invitation.ca, secret=invitation.secret, name=invitation.name, key=key.public
    )
    http = pinned_http(invitation.hub, info.ca_pem, invitation.ca)
    with Client(http, key=key, fingerprint=invitation.ca) as client:
        client.post("/users", enrolment.sign(key))  # 3
        publish(client, invitation.name, own_key(vault_file(where), make=True))
        told = ConsortiumInfo.from_json(client.get("/consortium"))  # now from the hub itself
    profile = Profile(
        consortium=invitation.consortium,
        user=invitation.name,
        url=invitation.hub,
        ca_pem=info.ca_pem,
        fingerprint=invitation.ca,
        key_file=str(where),
        ledger_key=pinned(None, told.ledger_key, invitation.ca),
    )
    profile.save(profile_file)  # 4
    return profile


def _key(profile_file: Path, key_file: Path | None) -> tuple[SigningKey, Path]:
    """The key and its file; one left by an enrolment that failed is used again."""
    if key_file is not None:
        return SigningKey.load(key_file.expanduser()), key_file.expanduser().absolute()
    where = profile_file.with_suffix(".key").absolute()
    if profile_file.exists():
        raise ConflictError("already-exists", f"There is a profile at {profile_file}.")
    if where.exists():
        return SigningKey.load(where), where
    key = SigningKey.generate()
    key.save(where)
    return key, where
