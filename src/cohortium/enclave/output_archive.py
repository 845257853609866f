"""Each output of a task as one archive, so that its files' names and sizes are not told outside.

A hostile program could tell the hub what it read in the names, the number or the sizes of its
output files, which a store of encrypted files shows. So all files of an output are one tar archive
(POSIX.1-2001, pax), encrypted as one file, and padded: of its size only about six bits are left
(Padmé; Nikitin et al. 2019, "Reducing metadata leakage from encrypted files", PoPETs 2019(4)).
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from errno import ENAMETOOLONG
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol
from unicodedata import category

from cohortium.errors import ConflictError, VerificationError

_PART_BYTES: Final = 1 << 20
_ZEROS: Final = bytes(_PART_BYTES)
_LEAST_BYTES: Final = 64 * 1024
_MOST_FILES: Final = 100_000
_LONGEST_HEADER_BYTES: Final = 8192
_UNPRINTED: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


class Out(Protocol):
    """Where an archive goes."""

    def write(self, data: bytes, /) -> Any:
        """Its next bytes."""
        ...

    def close(self) -> None:
        """It is whole."""
        ...


class ArchivedOutputs:
    """Packs outputs as they leave the sandbox; see `cohortium.enclave.job.Sink`.

    Args:
        open_slot: Gives the place of a slot's archive.
    """

    def __init__(self, open_slot: Callable[[str], Out]) -> None:
        self._open_slot = open_slot
        self._open: dict[str, Out] = {}
        self._sizes: dict[str, int] = {}
        self._slot = ""
        self._left = 0

    def begin(self, slot: str, path: str, size_bytes: int) -> None:
        """See `Sink`."""
        member = tarfile.TarInfo(path or slot)
        member.size, member.mode = size_bytes, 0o600
        self._slot = slot
        self._put(member.tobuf(tarfile.PAX_FORMAT))
        self._left = -size_bytes % tarfile.BLOCKSIZE

    def write(self, data: bytes) -> None:
        """See `Sink`."""
        self._put(data)

    def end(self) -> None:
        """See `Sink`."""
        self._put(bytes(self._left))

    def _put(self, data: bytes) -> None:
        slot = self._slot
        if slot not in self._open:
            self._open[slot] = self._open_slot(slot)
            self._sizes[slot] = 0
        self._open[slot].write(data)
        self._sizes[slot] += len(data)

    def close(self, slots: tuple[str, ...] = ()) -> None:
        """Pad and end every archive; one that got nothing, of `slots`, is empty."""
        for slot in slots:
            self._slot = slot
            self._put(b"")
        for slot, out in self._open.items():
            size = self._sizes[slot] + 2 * tarfile.BLOCKSIZE
            left = padded(size) - self._sizes[slot]
            while left:
                out.write(_ZEROS[: min(left, _PART_BYTES)])
                left -= min(left, _PART_BYTES)
            out.close()
        self._open.clear()


def padded(size: int) -> int:
    """The size that an archive is padded to: 12 % more at most, 64 KiB at least."""
    if size <= _LEAST_BYTES:
        return _LEAST_BYTES
    exponent = size.bit_length() - 1
    mask = (1 << (exponent - exponent.bit_length())) - 1
    return (size + mask) & ~mask


class _Content:
    """A file of an archive."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        """So many of its next bytes, or all."""
        try:
            return bytes(self._file.read(None if size < 0 else size))
        except (tarfile.TarError, EOFError) as error:
            raise _bad("no archive") from error


class _ShortHeader(tarfile.TarInfo):
    """A header that is refused before it is parsed where it is longer than a name can make it.

    The library's parser of extended headers takes time that grows with the square of their length
    (CVE-2024-6232 in older Pythons), and reads them whole.
    """

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        extended = self.type in {
            tarfile.XHDTYPE,
            tarfile.XGLTYPE,
            tarfile.SOLARIS_XHDTYPE,
            tarfile.GNUTYPE_LONGNAME,
            tarfile.GNUTYPE_LONGLINK,
        }
        if extended and not 0 <= self.size <= _LONGEST_HEADER_BYTES:
            raise _bad("an archive with a header that is too long")
        return super()._proc_member(archive)  # type: ignore[misc]  # not in the stubs


def members(reader: Any) -> Iterator[tuple[str, _Content]]:
    """Name and content of each file of an archive, which is read once from its beginning.

    Args:
        reader: A decrypted archive: `read(size)`.

    Raises:
        VerificationError: ``bad-vault-file``: it is none of ours, though an enclave signed it.
    """
    count = 0
    try:
        with tarfile.open(fileobj=reader, mode="r|", tarinfo=_ShortHeader) as archive:
            for member in archive:
                name, count = PurePosixPath(member.name), count + 1
                if not member.isfile() or member.issparse() or count > _MOST_FILES:
                    raise _bad("something other than files, or too many")
                if name.is_absolute() or ".." in name.parts or not name.parts:
                    raise _bad("a file whose name leads elsewhere")
                if any(category(letter) in _UNPRINTED for letter in member.name):
                    raise _bad("a file whose name has control characters")
                yield name.as_posix(), _Content(archive.extractfile(member))
    except (tarfile.TarError, EOFError, ValueError) as error:  # ValueError: of sparse files' maps
        raise _bad("no archive") from error


def unpack(reader: Any, folder: Path) -> list[Path]:
    """Write an archive's files below a folder; whole, or those before the fault.

    Raises:
        VerificationError: ``bad-vault-file``.
        ConflictError: ``already-exists``: nothing is overwritten.
    """
    written = []
    for name, content in members(reader):
        place = folder / name
        try:
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with place.open("xb") as out:
                while part := content.read(_PART_BYTES):
                    out.write(part)
        except (FileExistsError, NotADirectoryError) as error:
            raise ConflictError("already-exists", f"{place} is there already.") from error
        except OSError as error:
            if error.errno != ENAMETOOLONG:
                raise
            raise _bad("a file whose name is too long") from error
        place.chmod(0o600)
        written.append(place)
    return written


def _bad(what: str) -> VerificationError:
    return VerificationError("bad-vault-file", f"The output is {what}; it was not taken.")
