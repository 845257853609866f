"""A researcher's vault key: outputs of tasks are encrypted for it, and opened on this machine."""

from __future__ import annotations

from pathlib import Path

from cohortium.errors import ConflictError, InputError
from cohortium.sdk.client import Client
from cohortium.vault.card import VaultCard
from cohortium.vault.keys import PrivateKey

SUFFIX = ".vault"


def vault_file(key_file: Path) -> Path:
    """Where the vault key of the researcher with that signing key lies: beside it."""
    return key_file.with_suffix(SUFFIX)


def own_key(file: Path | None, *, make: bool = False) -> PrivateKey:
    """One's vault key.

    Args:
        make: Make one where there is none yet.

    Raises:
        InputError: ``vault-key-missing``.
    """
    if file is not None and file.exists():
        return PrivateKey.load(file)
    if file is None or not make:
        raise InputError(
            "vault-key-missing",
            "Your vault key is not on this machine: outputs of tasks are opened with the key that "
            "lies beside your signing key. Connect with your profile where you registered.",
        )
    made, public = PrivateKey.generate(), file.with_suffix(".pub")
    try:
        made.save(file)
    except ConflictError:
        if not file.exists():
            raise InputError(
                "vault-key-missing",
                f"Your vault key {file} is gone: put it back from a backup, as outputs that were "
                f"encrypted for it open with no other. For a new one delete {public.name} there.",
            ) from None
        return PrivateKey.load(file)  # another process was first
    return made


def publish(client: Client, name: str, key: PrivateKey) -> None:
    """Tell the consortium, signed, that outputs for `name` are to be encrypted for this key."""
    card = VaultCard(name=name, vault=key.public.to_text(), at=client.clock())
    client.put("/card", card.sign(client.key))
