"""What is lent, as inputs of a task: decrypted when the sandbox takes it, and on no disk."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from cohortium.enclave.exchange import Handed, LentFile
from cohortium.errors import ProtocolError, VerificationError
from cohortium.vault.grants import Grants, parse_grants
from cohortium.vault.header import FIXED_BYTES, Header, announced_bytes, parse_header, plain_bytes
from cohortium.vault.keys import Keyring
from cohortium.vault.reader import Expected, VaultReader
from cohortium.worker.cache import Ciphertext

_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, repr=False)
class _Opened:
    ciphertext: Ciphertext
    header: Header
    grants: Grants
    plain_bytes: int


class LentInput:
    """An input slot; see `cohortium.enclave.job.OpenSource`. Until `lend` it has nothing.

    Args:
        require_going: Raises where the run was told to end.
    """

    def __init__(self, require_going: Callable[[], None]) -> None:
        self._require_going = require_going
        self._keyring = Keyring(())
        self._expected = Expected(writers=())
        self._files: dict[str, _Opened] = {}

    def lend(self, handed: Handed, files: Mapping[str, Ciphertext], keyring: Keyring) -> None:
        """Fill it.

        Args:
            files: By path, those that `handed` names.

        Raises:
            VerificationError: ``bad-vault-file``, ``bad-signature``, ``unknown-signer``.
            ProtocolError: ``malformed-message``.
        """
        self._keyring = keyring
        self._expected = Expected(writers=(handed.writer,))
        found = {}
        for path, ciphertext in files.items():
            header = parse_header(ciphertext.head[: announced_bytes(ciphertext.head[:FIXED_BYTES])])
            self._expected.check(header)
            body = ciphertext.size_bytes - header.n_bytes
            grants = parse_grants(_decoded(handed.grants[path]))
            if grants.header_digest != header.digest:
                raise VerificationError(
                    "bad-vault-file", "A key that was handed out is another file's."
                )
            found[path] = _Opened(ciphertext, header, grants, plain_bytes(body, header.chunk_bytes))
        self._files = found

    def drop(self) -> None:
        """Let go of keys and files."""
        self._keyring, self._files = Keyring(()), {}

    def files(self) -> Iterable[tuple[str, int]]:
        """Relative path and size of each, from verified headers."""
        return [(path, one.plain_bytes) for path, one in self._files.items()]

    def chunks(self, path: str) -> Iterator[bytes]:
        """The content of one; every chunk was verified."""
        with self.open(path) as file:
            while part := file.read(_CHUNK_BYTES):
                self._require_going()
                yield part

    def open(self, path: str) -> VaultReader:
        """One of `files`, to read at any place.

        Raises:
            VerificationError: ``bad-vault-file``: it was exchanged since its digest was computed.
        """
        one = self._files[path]
        reader = VaultReader.open(
            one.ciphertext.path,
            self._keyring,
            expected=self._expected,
            grants=lambda: one.grants,
            threads=2,
        )
        # Its chunks' key hangs on the header: with this one they are those that were verified.
        if reader.header.digest != one.header.digest:
            reader.close()
            raise VerificationError("bad-vault-file", "A file was exchanged while it was used.")
        return reader


def files_of(handed: Mapping[str, Handed]) -> list[LentFile]:
    """All files of some slots."""
    return [file for one in handed.values() for file in one.files.files]


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ProtocolError("malformed-message", "Not valid base64.") from error
