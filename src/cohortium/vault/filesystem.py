"""``vault://`` for fsspec: encrypted files under ordinary names, over any other file system.

    pandas.read_parquet("vault:///data/heart.parquet", storage_options={"keys": "me.key"})
    pandas.read_parquet("vault::s3://bucket/heart.parquet", storage_options={"vault": {...}})

A path is a path of the file system below. Names and lengths stay visible there; what is in a
listing is not verified, what is read is.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

import fsspec
from fsspec.implementations.chained import ChainedFileSystem
from fsspec.implementations.local import LocalFileSystem

from cohortium.crypto.files import write_atomically
from cohortium.errors import ConflictError, InputError, VerificationError
from cohortium.vault.anchor import Anchor, FileAnchor
from cohortium.vault.grants import MAX_BYTES as MAX_GRANTS_BYTES
from cohortium.vault.grants import SUFFIX, Grants, parse_grants
from cohortium.vault.header import FIXED_BYTES, Header, announced_plain_bytes
from cohortium.vault.keys import Keyring, PublicKey
from cohortium.vault.reader import Expected, VaultReader, open_data_key, read_header
from cohortium.vault.storage import LocalSink, LocalSource, RemoteSink, RemoteSource, Sink, Source
from cohortium.vault.writer import CHUNK_BITS, VaultWriter

KEYS_VARIABLE = "COHORTIUM_VAULT_KEYS"


def default_keys() -> Path:
    """Where one's keys are: ``COHORTIUM_VAULT_KEYS``, or a folder in one's configuration."""
    named = os.environ.get(KEYS_VARIABLE)
    return Path(named) if named else Path.home() / ".config" / "cohortium" / "vault"


class VaultFileSystem(ChainedFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Reads and writes vault files on the file system below.

    Args:
        keys: A key ring, a key's file or a folder of them; None: `default_keys`.
        recipients: Who can open what is written: public keys, their texts or files; None:
            oneself.
        writers: Whose files count (``ed25519:...``); None: anybody's.
        anchor: Remembers the last version of each file; a path is a `FileAnchor`'s.
        threads: For long reads and writes.
        durable: Local files are on the disk when they are closed.
        fs: The file system below; or, as in fsspec's chains, `target_protocol` and
            `target_options`.
    """

    protocol = "vault"
    # An instance holds private keys: it is its owner's, not the process's.
    cachable = False

    def __init__(
        self,
        keys: Keyring | Path | str | None = None,
        *,
        recipients: Iterable[PublicKey | str] | None = None,
        writers: Collection[str] | None = None,
        anchor: Anchor | Path | str | None = None,
        threads: int = 2,
        chunk_bits: int = CHUNK_BITS,
        durable: bool = True,
        fs: Any = None,
        fo: str = "",  # noqa: ARG002 - fsspec's chains give the path once more
        target_protocol: str | None = None,
        target_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.fs = fs or fsspec.filesystem(target_protocol or "file", **(target_options or {}))
        self._given = keys
        self._keyring: Keyring | None = None
        self._recipients = None if recipients is None else [_public(key) for key in recipients]
        self._expected = Expected(
            writers=writers,
            anchor=FileAnchor(Path(anchor)) if isinstance(anchor, str | Path) else anchor,
        )
        self._threads, self._chunk_bits, self._durable = threads, chunk_bits, durable
        self._is_local = isinstance(self.fs, LocalFileSystem)

    @property
    def keyring(self) -> Keyring:
        """One's keys, read when they are first needed."""
        if self._keyring is None:
            given = self._given
            if not isinstance(given, Keyring):
                given = Keyring.load(Path(given).expanduser() if given else default_keys())
            self._keyring = given
        return self._keyring

    # -- what only a vault has

    @property
    def anchor(self) -> Anchor | None:
        """Where the last versions are remembered."""
        return self._expected.anchor

    def header(self, path: str) -> Header:
        """A file's header, verified; whether one can open the file or not."""
        source = self._source(self._below(path))
        try:
            return read_header(source)
        finally:
            source.close()

    def recipients(self, path: str) -> tuple[bytes, ...]:
        """The ids of the keys that open a file: those of its header, then those shared with."""
        header, granted = self.header(path), self._grants(self._below(path))
        more = granted.recipients if granted and granted.header_digest == header.digest else ()
        return tuple(dict.fromkeys(entry.key_id for entry in (*header.recipients, *more)))

    def share(self, path: str, to: Iterable[PublicKey | str]) -> Header:
        """Let further recipients open a file, which stays as it is.

        Raises:
            PolicyRefusal: ``not-authorised``.
        """
        below = self._below(path)
        header, grants = self.header(path), self._grants(below)
        self._expected.check(header)
        data_key = open_data_key(header, self.keyring, lambda: grants)
        if grants is None or grants.header_digest != header.digest:
            grants = Grants(header.digest)
        written = {entry.key_id for entry in header.recipients}
        wanted = [_public(key) for key in to]
        data = grants.add(data_key, [key for key in wanted if key.key_id not in written]).to_bytes()
        if self._is_local:
            write_atomically(Path(below + SUFFIX), data)
        else:
            self.fs.pipe_file(below + SUFFIX, data)
        return header

    # -- fsspec: files

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        """A file object: binary, or text where `mode` has no ``b``."""
        if "b" not in mode and "r" not in mode:
            text = {
                name: options.pop(name)
                for name in ("encoding", "errors", "newline")
                if name in options
            }
            binary = super().open(path, mode.replace("t", "") + "b", **options)
            return _TextWriter(binary, **text)
        return super().open(path, mode, **options)

    def _open(self, path: str, mode: str = "rb", **_options: Any) -> Any:
        below = self._below(path)
        if mode == "rb":
            return VaultReader(
                self._source(below),
                self.keyring,
                expected=self._expected,
                grants=lambda: self._grants(below),
                threads=self._threads,
            )
        if mode not in {"wb", "xb"}:
            raise InputError(
                "bad-input", "A vault file is read ('rb') or written anew ('wb', 'xb')."
            )
        if _is_ours(below):
            raise InputError("bad-input", f"Names as {path} are those of the vault's own files.")
        if mode == "xb" and self.fs.exists(below):
            raise ConflictError("already-exists", f"There is a file {path}.")
        return self._writer(below)

    def _writer(self, below: str) -> VaultWriter:
        signer = self.keyring.first
        file_id, version = self._next_version(below, signer.public.signing)
        sink: Sink = (
            LocalSink(Path(below), durable=self._durable)
            if self._is_local
            else RemoteSink(self.fs, below)
        )
        return VaultWriter(
            sink,
            [signer.public] if self._recipients is None else self._recipients,
            signer.signing,
            file_id=file_id,
            version=version,
            anchor=self._expected.anchor,
            chunk_bits=self._chunk_bits,
            threads=self._threads,
        )

    def _next_version(self, below: str, writer: bytes) -> tuple[bytes | None, int]:
        """One's own file is continued; what is another's, or no vault file, begins anew."""
        try:
            source = self._source(below)
        except (FileNotFoundError, IsADirectoryError):
            return None, 1
        try:
            header = read_header(source)
        except VerificationError:
            return None, 1
        finally:
            source.close()
        if header.writer != writer:
            return None, 1
        anchor = self._expected.anchor
        known = anchor.latest(header.file_id) if anchor is not None else None
        return header.file_id, max(header.version, known.version if known else 0) + 1

    def _source(self, below: str) -> Source:
        info = self.fs.info(below)
        if info["type"] == "directory":
            raise IsADirectoryError(below)
        return LocalSource(Path(below)) if self._is_local else RemoteSource(self.fs, below, info)

    def _grants(self, below: str) -> Grants | None:
        try:
            return parse_grants(self.fs.cat_file(below + SUFFIX, start=0, end=MAX_GRANTS_BYTES + 1))
        except FileNotFoundError:
            return None

    # -- fsspec: names

    def _below(self, path: str) -> str:
        return str(self.fs._strip_protocol(self._strip_protocol(path)))  # noqa: SLF001 - fsspec's way

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        """What is in a folder, with the lengths of the contents; not verified."""
        found = [
            entry
            for entry in self.fs.ls(self._below(path), detail=True, **options)
            if not _is_ours(entry["name"])
        ]
        if not detail:
            return [entry["name"] for entry in found]
        files = [entry for entry in found if entry["type"] == "file"]
        starts = self.fs.cat_ranges(
            [entry["name"] for entry in files], 0, FIXED_BYTES, on_error="return"
        )
        sized = {
            entry["name"]: _described(entry, start)
            for entry, start in zip(files, starts, strict=True)
        }
        return [sized.get(entry["name"], entry) for entry in found]

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """One entry of a listing."""
        entry = self.fs.info(self._below(path), **options)
        if entry["type"] != "file":
            return cast("dict[str, Any]", entry)
        return _described(entry, self.fs.cat_file(entry["name"], start=0, end=FIXED_BYTES))

    def rm_file(self, path: str) -> None:
        """Remove a file, and whom it was shared with."""
        below = self._below(path)
        self.fs.rm_file(below)
        self._rm_grants(below)

    def _rm(self, path: str) -> None:
        self.rm_file(path)

    def _rm_grants(self, below: str) -> None:
        if self.fs.exists(below + SUFFIX):
            self.fs.rm_file(below + SUFFIX)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Remove files; with `recursive` a folder with all that is in it."""
        for one in [path] if isinstance(path, str | Path) else path:
            below = self._below(str(one))
            if recursive and self.fs.isdir(below):
                self.fs.rm(below, recursive=True, maxdepth=maxdepth)
            else:
                self.rm_file(str(one))

    def cp_file(self, path1: str, path2: str, **options: Any) -> None:
        """Copy a file as it is: same identity, same recipients."""
        self._both(self.fs.cp_file, path1, path2, **options)

    def mv(self, path1: str, path2: str, **options: Any) -> None:
        """Rename a file or a folder."""
        source, target = self._below(path1), self._below(path2)
        if not self.fs.isdir(source):
            self._both(self.fs.mv, path1, path2, **options)
        elif self._is_local:
            self.fs.mv(source, target, recursive=True)
        else:
            # One by one: s3fs's own takes folders in a bucket for files.
            for name in self.fs.find(source):
                self.fs.mv(name, target + name[len(source) :])
            if self.fs.isdir(source):
                self.fs.rm(source, recursive=True)

    def _both(self, act: Callable[..., object], path1: str, path2: str, **options: Any) -> None:
        source, target = self._below(path1), self._below(path2)
        act(source, target, **options)
        if self.fs.exists(source + SUFFIX):
            act(source + SUFFIX, target + SUFFIX, **options)
        else:
            self._rm_grants(target)

    def mkdir(self, path: str, create_parents: bool = True, **options: Any) -> None:
        """Make a folder."""
        self.fs.mkdir(self._below(path), create_parents=create_parents, **options)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make a folder and those above it."""
        self.fs.makedirs(self._below(path), exist_ok=exist_ok)

    def rmdir(self, path: str) -> None:
        """Remove an empty folder."""
        self.fs.rmdir(self._below(path))

    def created(self, path: str) -> Any:
        """When a file was made."""
        return self.fs.created(self._below(path))

    def modified(self, path: str) -> Any:
        """When a file was last written."""
        return self.fs.modified(self._below(path))

    def ukey(self, path: str) -> Any:
        """Changes with the file."""
        return self.fs.ukey(self._below(path))

    def invalidate_cache(self, path: str | None = None) -> None:
        """Forget listings."""
        self.fs.invalidate_cache(self._below(path) if path else None)


def _public(key: PublicKey | str) -> PublicKey:
    return PublicKey.named(key) if isinstance(key, str) else key


def _is_ours(name: str) -> bool:
    """What stands beside files: grants, and files that are not yet whole."""
    last = name.rpartition("/")[2]
    return last.endswith(SUFFIX) or (last.startswith(".") and last.endswith(".part"))


def _described(entry: dict[str, Any], start: Any) -> dict[str, Any]:
    """An entry of the file system below with the content's length; None for other files."""
    stored = entry["size"]
    try:
        size = None
        if isinstance(start, bytes):
            size = announced_plain_bytes(start, stored)
    except VerificationError:
        size = None
    return {**entry, "size": size, "stored_size": stored}


class _TextWriter(io.TextIOWrapper):
    """Text into a vault file; as with `VaultWriter`, half of it is nothing."""

    def __init__(self, binary: VaultWriter, **options: Any) -> None:
        super().__init__(cast("BinaryIO", binary), **{"encoding": "utf-8", **options})
        self._binary = binary

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._binary.discard()
        else:
            self.close()

    def __del__(self) -> None:
        binary = getattr(self, "_binary", None)
        if binary is not None:
            binary.discard()


fsspec.register_implementation("vault", "cohortium.vault.filesystem.VaultFileSystem", clobber=True)
