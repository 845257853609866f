"""Who this node is."""

from __future__ import annotations

from dataclasses import dataclass

from cohortium.crypto.keys import SigningKey


@dataclass(frozen=True)
class Identity:
    """A node's name and keys in its consortium.

    Attributes:
        name: The institution's name.
        consortium: Fingerprint of the consortium's CA (``sha256:...``).
        key: The contract key.
    """

    name: str
    consortium: str
    key: SigningKey
