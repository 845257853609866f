"""The ledger as static files that anyone can mirror and verify (C2SP tlog-tiles)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cohortium.errors import InputError, IntegrityFailure, ProtocolError, VerificationError
from cohortium.ledger.checkpoint import Checkpoint
from cohortium.ledger.entry import MAX_ENTRY_BYTES
from cohortium.ledger.merkle import HASH_BYTES, leaf_hash, perfect_root
from cohortium.ledger.note import MAX_NOTE_BYTES
from cohortium.ledger.tree import TILE_BYTES, TILE_HEIGHT, TILE_WIDTH, Tree, tile_width

CHECKPOINT: Final = "checkpoint"
MAX_FILE_BYTES: Final = max(MAX_NOTE_BYTES, TILE_WIDTH * (2 + MAX_ENTRY_BYTES))

_PATH: Final = re.compile(
    r"tile/(entries|[1-5]?[0-9]|6[0-3])/((?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?"
)

Read = Callable[[str], bytes | None]
"""Gives the file at a path of a mirror; None where there is none."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A tile of hashes, or a bundle of entries.

    Attributes:
        level: The tile's level; None for a bundle of entries.
        width: Hashes or entries in it, 1 to 256.
    """

    level: int | None
    index: int
    width: int = TILE_WIDTH

    @property
    def path(self) -> str:
        """``tile/<L>/<N>[.p/<W>]``."""
        groups = [f"{self.index % 1000:03d}"]
        rest = self.index // 1000
        while rest:
            groups.append(f"x{rest % 1000:03d}")
            rest //= 1000
        kind = "entries" if self.level is None else str(self.level)
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"tile/{kind}/{'/'.join(reversed(groups))}{partial}"

    @property
    def whole(self) -> Resource:
        """The full tile or bundle that this one grows into."""
        return Resource(self.level, self.index)


def parse_path(path: str) -> Resource:
    """What a path of a mirror names.

    Raises:
        ProtocolError: ``malformed-message``, also where it is not written in the one valid way.
    """
    match = _PATH.fullmatch(path)
    if match:
        kind, groups, width = match.groups()
        resource = Resource(
            None if kind == "entries" else int(kind),
            int(groups.replace("x", "").replace("/", "")),
            TILE_WIDTH if width is None else int(width),
        )
        if resource.width <= TILE_WIDTH and resource.path == path:
            return resource
    raise ProtocolError("malformed-message", "Not the path of a tile of the ledger.")


def resources(size: int, since: int = 0) -> Iterator[Resource]:
    """All tiles and bundles of a log of `size` entries that one of `since` entries has not."""
    for level in (None, *range(64 // TILE_HEIGHT)):
        shift = TILE_HEIGHT * (level or 0)
        first = (since >> shift) // TILE_WIDTH
        last = -(-(size >> shift) // TILE_WIDTH)
        for index in range(first, last):
            width = tile_width(level or 0, index, size)
            if width != tile_width(level or 0, index, since):
                yield Resource(level, index, width)


def pack_entries(entries: Sequence[bytes]) -> bytes:
    """An entry bundle: each entry after its length as a big-endian uint16."""
    if any(len(entry) > MAX_ENTRY_BYTES for entry in entries):
        raise InputError("too-large", f"An entry of the ledger has over {MAX_ENTRY_BYTES} bytes.")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def unpack_entries(bundle: bytes, count: int) -> list[bytes]:
    """The first `count` entries of a bundle, which may hold up to 256.

    Raises:
        ProtocolError: ``malformed-message``, also where it holds fewer.
    """
    entries = []
    position, end = 0, len(bundle)
    while position + 2 <= end:
        start = position + 2
        position = start + (bundle[position] << 8 | bundle[position + 1])
        entries.append(bundle[start:position])
    if position != end or not count <= len(entries) <= TILE_WIDTH:
        raise ProtocolError("malformed-message", "A bundle of ledger entries is damaged.")
    return entries[:count]


@dataclass(frozen=True)
class Mirror:
    """Serves a log as static files.

    Args:
        tree: The log's tree.
        read_entries: Gives the entries [start, end), each as bytes.
        checkpoint: The signed note over this tree, with cosignatures.
    """

    tree: Tree
    read_entries: Callable[[int, int], Sequence[bytes]]
    checkpoint: bytes

    def get(self, path: str) -> bytes:
        """The file at a path.

        Raises:
            InputError: ``not-found``.
            ProtocolError: ``malformed-message`` where it cannot be a path of any log.
        """
        if path == CHECKPOINT:
            return self.checkpoint
        wanted = parse_path(path)
        if wanted.width > tile_width(wanted.level or 0, wanted.index, self.tree.size):
            raise InputError("not-found", "The ledger is not that long.")
        if wanted.level is not None:
            return self.tree.tile(wanted.level, wanted.index, wanted.width)
        start = wanted.index * TILE_WIDTH
        return pack_entries(self.read_entries(start, start + wanted.width))

    def paths(self, since: int = 0) -> Iterator[str]:
        """All files of the log that a mirror of `since` entries has not; the checkpoint last."""
        for resource in resources(self.tree.size, since):
            yield resource.path
        yield CHECKPOINT


def read_folder(folder: Path) -> Read:
    """Reads a mirror's files from a folder."""

    def read(path: str) -> bytes | None:
        try:
            with (folder / path).open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise _bad(f"The ledger's file {path} cannot be read: {error.strerror}.") from error
        if len(data) > MAX_FILE_BYTES:
            raise _bad(f"The ledger's file {path} is too long.")
        return data

    return read


def verified_entries(read: Read, checkpoint: Checkpoint) -> Iterator[list[bytes]]:
    """Verify a whole mirror; gives its entries in order, in lists of up to 256.

    An entry is given only once its hash is proven to be in the checkpoint's root. What was given
    before an error is good; that the log is complete is known at the end.

    Args:
        checkpoint: An opened checkpoint; its signatures are not looked at here.

    Raises:
        VerificationError: ``bad-proof``.
        ProtocolError: ``malformed-message``.
    """
    size = checkpoint.size
    tree = Tree(size, lambda level, index: _tile(read, level, index, size))
    try:
        root = tree.root()
    except IntegrityFailure as error:
        raise _bad("A tile of the ledger's copy is too short.") from error
    if root != checkpoint.root:
        raise _bad("The ledger's copy does not have the root that its checkpoint names.")
    for level in reversed(range(64 // TILE_HEIGHT)):
        index, width = divmod(size >> (TILE_HEIGHT * level), TILE_WIDTH)
        if width:
            # The root above was made of these tiles, those that are not full.
            yield from _below(read, level, index, tree.tile(level, index, width))


def verify_mirror(read: Read, checkpoint: Checkpoint) -> int:
    """Verify a whole mirror and keep nothing of it.

    Returns:
        The bytes of all its entries together.

    Raises:
        VerificationError: ``bad-proof``.
        ProtocolError: ``malformed-message``.
    """
    return sum(len(entry) for entries in verified_entries(read, checkpoint) for entry in entries)


def _below(read: Read, level: int, index: int, hashes: bytes) -> Iterator[list[bytes]]:
    """The entries under a tile whose hashes are known to be right."""
    if level == 0:
        count = len(hashes) // HASH_BYTES
        entries = unpack_entries(_file(read, Resource(None, index, count)), count)
        if b"".join(map(leaf_hash, entries)) != hashes:
            raise _bad(f"Bundle {index} of the ledger's entries does not match its hashes.")
        yield entries
        return
    for start in range(0, len(hashes), HASH_BYTES):
        child = index * TILE_WIDTH + start // HASH_BYTES
        tile = _file(read, Resource(level - 1, child))
        if len(tile) != TILE_BYTES or perfect_root(tile) != hashes[start : start + HASH_BYTES]:
            raise _bad(f"Tile {child} of level {level - 1} does not match the one above it.")
        yield from _below(read, level - 1, child, tile)


def _tile(read: Read, level: int, index: int, size: int) -> bytes:
    return _file(read, Resource(level, index, tile_width(level, index, size)))


def _file(read: Read, resource: Resource) -> bytes:
    """A file of a mirror; in the place of a partial one also what it has grown into."""
    data = read(resource.path)
    if data is None and resource.width != TILE_WIDTH:
        data = read(resource.whole.path)
    if data is None:
        raise _bad(f"The ledger's copy lacks {resource.path}.")
    return data


def _bad(message: str) -> VerificationError:
    return VerificationError("bad-proof", message)
