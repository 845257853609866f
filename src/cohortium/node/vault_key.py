"""The key for which an institution's files are encrypted: what it lends, and what it is given."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cohortium.core.clock import Clock
from cohortium.crypto.files import write_atomically
from cohortium.errors import CohortiumError
from cohortium.node.identity import Identity
from cohortium.vault.card import VaultCard
from cohortium.vault.keys import Keyring, PrivateKey


class VaultKey:
    """``vault.key`` of a node, made when it is first needed.

    Args:
        path: Its file; beside it are the public key and the signed card.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._key: PrivateKey | None = None

    @property
    def exists(self) -> bool:
        """Whether it was needed before."""
        return self._path.exists()

    @property
    def mark(self) -> tuple[int, int, int] | None:
        """Another one where the file is another; None where there is none."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    @property
    def private(self) -> PrivateKey:
        """The key.

        Raises:
            InputError: ``bad-config``: others can read the file, or it is none.
        """
        with self._lock:
            if self._key is None:
                with self._alone():
                    if not self._path.exists():
                        self._path.with_suffix(".pub").unlink(missing_ok=True)
                        PrivateKey.generate().save(self._path)
                self._key = PrivateKey.load(self._path)
            return self._key

    @property
    def keyring(self) -> Keyring:
        """For readers."""
        return Keyring([self.private])

    def card(self, identity: Identity, clock: Clock) -> bytes:
        """The site's signed word on the key: the same envelope until key or name change."""
        public = self.private.public.to_text()
        file = self._path.with_suffix(".card")
        with self._lock, self._alone():
            try:
                envelope = file.read_bytes()
                card, _ = VaultCard.open(envelope, key=identity.key.public)
                if (card.name, card.vault) == (identity.name, public):
                    return envelope
            except (OSError, CohortiumError):
                pass
            card = VaultCard(name=identity.name, vault=public, at=clock())
            envelope = card.sign(identity.key)
            write_atomically(file, envelope)
            return envelope

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """The serving process and a command may need it at the same time."""
        with self._path.with_suffix(".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
