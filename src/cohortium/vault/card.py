"""A person's or an institution's word on which vault key is theirs."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import StringConstraints

from cohortium.core.clock import Instant
from cohortium.core.dictionary import Label
from cohortium.crypto.signed import Signable
from cohortium.vault.keys import PublicKey

PublicText = Annotated[str, StringConstraints(pattern=r"^vault1:[A-Za-z0-9_-]{1664}$")]


class VaultCard(Signable):
    """Signed with the key that the author has in contracts; whoever uses it verifies that.

    Attributes:
        name: The author's name in the consortium.
        vault: The public key that others may encrypt for.
        at: The newer of two cards of one author counts.
    """

    payload_type: ClassVar[str] = "application/vnd.cohortium.vault-card+json"

    schema_id: Literal["cohortium/vault-card/1"] = "cohortium/vault-card/1"
    name: Label
    vault: PublicText
    at: Instant

    @property
    def public(self) -> PublicKey:
        """The key; raises InputError ``bad-input`` where it is none."""
        return PublicKey.from_text(self.vault)
