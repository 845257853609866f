"""A log's Merkle tree in tiles of height 8 (C2SP tlog-tiles): roots, proofs, appending."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from cohortium.errors import InputError, IntegrityFailure
from cohortium.ledger.merkle import EMPTY_ROOT, HASH_BYTES, node_hash, perfect_root

TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 1 << TILE_HEIGHT
TILE_BYTES: Final = TILE_WIDTH * HASH_BYTES

Tiles = dict[tuple[int, int], bytes]
"""(level, index) to the hashes of a tile, one after the other; the last ones may be partial."""


def tile_width(level: int, index: int, size: int) -> int:
    """Hashes in a tile of a log of `size` entries; 0 where it has no such tile."""
    hashes = size >> (TILE_HEIGHT * level)
    return max(0, min(TILE_WIDTH, hashes - index * TILE_WIDTH))


def _split(count: int) -> int:
    """RFC 9162 2.1.1: the largest power of two smaller than `count`."""
    return 1 << ((count - 1).bit_length() - 1)


class Tree:
    """The Merkle tree of a log's first `size` entries.

    Args:
        size: Entries.
        read: Gives the tile at (level, index) as it is stored. It may hold more hashes than `size`
            asks for (the log grew), never fewer. It is asked only for tiles that are not empty.

    Each method raises IntegrityFailure ``broken-store`` where a tile is too short, and InputError
    ``not-found`` for a size or a place that the log does not have.
    """

    def __init__(self, size: int, read: Callable[[int, int], bytes]) -> None:
        self.size = size
        self._read = read
        self._changed: Tiles = {}

    def root(self, size: int | None = None) -> bytes:
        """RFC 9162 2.1.1: the Merkle tree hash, also of an earlier size."""
        wanted = self._size(size)
        return self._range(0, wanted) if wanted else EMPTY_ROOT

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """RFC 9162 2.1.3.1: PATH(index, D[0:size])."""
        wanted = self._size(size)
        if not 0 <= index < wanted:
            raise InputError("not-found", f"The ledger of {wanted} entries has none at {index}.")
        proof = []
        low, high = 0, wanted
        while high - low > 1:
            middle = low + _split(high - low)
            if index < middle:
                proof.append(self._range(middle, high))
                high = middle
            else:
                proof.append(self._range(low, middle))
                low = middle
        return proof[::-1]

    def consistency_proof(self, old: int, size: int | None = None) -> list[bytes]:
        """RFC 9162 2.1.4.1: PROOF(old, D[0:size]); without hashes from 0 and from `size` itself."""
        wanted = self._size(size)
        if not 0 <= old <= wanted:
            raise InputError("not-found", f"The ledger of {wanted} entries never had {old}.")
        if old in {0, wanted}:
            return []
        proof = []
        low, high, complete = 0, wanted, True
        while old != high:  # SUBPROOF(old - low, D[low:high], complete)
            middle = low + _split(high - low)
            if old <= middle:
                proof.append(self._range(middle, high))
                high = middle
            else:
                proof.append(self._range(low, middle))
                low, complete = middle, False
        if not complete:
            proof.append(self._range(low, high))
        return proof[::-1]

    def extended(self, leaf_hashes: Sequence[bytes]) -> tuple[Tree, Tiles]:
        """The tree with more leaves, and all tiles that this changes or adds.

        The new tree holds these tiles in memory until it is made anew from where they were stored.
        """
        changed: Tiles = {}
        hashes = list(leaf_hashes)
        level, have = 0, self.size
        while hashes:
            index = have // TILE_WIDTH
            width = have % TILE_WIDTH
            tile = self.tile(level, index, width) if width else b""
            pending = tile + b"".join(hashes)
            have += len(hashes)
            hashes = []
            for start in range(0, len(pending), TILE_BYTES):
                tile = pending[start : start + TILE_BYTES]
                changed[level, index] = tile
                index += 1
                if len(tile) == TILE_BYTES:
                    hashes.append(perfect_root(tile))
            level, have = level + 1, (have >> TILE_HEIGHT) - len(hashes)
        after = Tree(self.size + len(leaf_hashes), self._read)
        after._changed = {**self._changed, **changed}
        return after, changed

    def tile(self, level: int, index: int, width: int) -> bytes:
        """The first `width` hashes of a tile."""
        data = self._changed.get((level, index))
        if data is None:
            data = self._read(level, index)
        if len(data) < width * HASH_BYTES:
            raise IntegrityFailure(
                "broken-store", f"The ledger's tile {index} of level {level} is too short."
            )
        return data[: width * HASH_BYTES]

    def _size(self, size: int | None) -> int:
        wanted = self.size if size is None else size
        if not 0 <= wanted <= self.size:
            raise InputError("not-found", f"The ledger has {self.size} entries, not {wanted}.")
        return wanted

    def _range(self, low: int, high: int) -> bytes:
        """MTH(D[low:high]) of a subtree: its complete parts, joined from the right."""
        parts = []
        while low < high:
            height = (high - low).bit_length() - 1
            parts.append(self._node(height, low >> height))
            low += 1 << height
        root = parts.pop()
        while parts:
            root = node_hash(parts.pop(), root)
        return root

    def _node(self, height: int, index: int) -> bytes:
        """The hash over 2^height leaves, from the tile that has the hashes below it."""
        level, inner = divmod(height, TILE_HEIGHT)
        count = 1 << inner
        tile, first = divmod(index * count, TILE_WIDTH)
        hashes = self.tile(level, tile, first + count)
        return perfect_root(hashes[first * HASH_BYTES : (first + count) * HASH_BYTES])


def tree_of(tiles: Mapping[tuple[int, int], bytes], size: int) -> Tree:
    """A tree whose tiles are in memory."""
    return Tree(size, lambda level, index: tiles.get((level, index), b""))
