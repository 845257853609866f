"""Masked vectors: encoding, masking, adding up and decoding, block by block.

A vector is worked on in blocks that stay in the processor's cache: encode, then for each mask make
the keystream and add it. Beside the contribution and the result this needs a few blocks of memory.
AES and numpy let go of the interpreter's lock, so that several threads share a long vector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from cohortium.core.rounds import Contribution, Total
from cohortium.errors import InputError, ProtocolError
from cohortium.secagg.frame import Block, Frame, Piece, name_component
from cohortium.secagg.masks import MaskStream, new_buffer
from cohortium.secagg.ring import Words

THREAD_BYTES: Final = 32 * 1024 * 1024
"""Keystream that is worth a thread: 5 ms, about as long as it may take to find a free core."""


Noise = Mapping[str, npt.NDArray[np.int64]]
"""By field, shape (size,); the sum of integers is taken in the field's ring."""


class MaskKey(NamedTuple):
    """A mask's AES-256 key, and whether it is subtracted."""

    key: bytes
    negate: bool


def encode_masked(
    frame: Frame,
    contribution: Contribution,
    masks: Sequence[MaskKey],
    *,
    dither: bytes,
    noise: Noise | None = None,
    threads: int = 1,
) -> bytearray:
    """The contribution's encoding plus the masks. The same arguments give the same bytes.

    Args:
        contribution: Arrays of the layout's shapes.
        dither: 32-byte key of the stream that rounds vectors at random.
        noise: Integers to add to the encodings of counts and vectors.

    Raises:
        InputError: ``overflow``, with `field` and `index` of the first such component.
    """
    frame.check_shapes(contribution)
    out = bytearray(frame.n_bytes)
    out[: frame.check.n_bytes] = (1).to_bytes(frame.check.n_bytes, "little")

    def work(blocks: Sequence[Block]) -> None:
        adder = _Adder(blocks, masks)
        rounding = _Dither(blocks, dither)
        for block in blocks:
            words = _words(out, block)
            encoded = _encode(frame, block, contribution, rounding, words)
            adder.add(block, words, _with_noise(block, noise or {}, encoded, words))

    _check_noise(frame, noise or {})
    _share(frame, threads, (1 + len(masks)) * frame.n_bytes, work)
    return out


def _encode(
    frame: Frame, block: Block, contribution: Contribution, rounding: _Dither, words: Words
) -> Words:
    """A block's encoding: in `words`, or the counts themselves where they fill the block."""
    dither = rounding.next(block)
    for piece in block.pieces:
        if piece.segment is frame.check:
            continue
        array = contribution[piece.segment.name]
        # A flat copy of an array that is not contiguous would be as large as the array.
        flat = array.reshape(-1) if array.flags.c_contiguous else array.flat
        values = flat[piece.first : piece.end]
        place = _place(piece, block)
        ring = piece.segment.ring
        try:
            if ring.integral and values.size == len(words):
                return ring.encode(values, frame.n_sites)
            ring.encode(
                values, frame.n_sites, None if dither is None else dither[place], words[place]
            )
        except InputError as error:
            raise name_component(error, piece) from error
    return words


def _with_noise(block: Block, noise: Noise, encoded: Words, words: Words) -> Words:
    """The encoding, or its sum with the noise in `words`."""
    result = encoded
    for piece in block.pieces:
        drawn = noise.get(piece.segment.name)
        if drawn is not None:
            place = _place(piece, block)
            integers = drawn[piece.first : piece.end].astype(block.ring.word)
            np.add(encoded[place], integers, out=words[place])
            result = words
    return result


def _check_noise(frame: Frame, noise: Noise) -> None:
    """Refuse noise that does not fit the layout: a programming error."""
    sizes = {s.name: s.spec.size for s in frame.fields if s.spec.kind != "real"}
    for name, drawn in noise.items():
        if drawn.shape != (sizes.get(name),) or drawn.dtype != np.int64:
            raise RuntimeError(f"the noise of {name} does not fit the layout")


def apply_masks(
    frame: Frame, total: bytearray, masks: Sequence[MaskKey], *, threads: int = 1
) -> None:
    """Add masks to a vector in place."""
    _require_length(frame, total)

    def work(blocks: Sequence[Block]) -> None:
        adder = _Adder(blocks, masks)
        for block in blocks:
            adder.add(block, _words(total, block))

    _share(frame, threads, len(masks) * frame.n_bytes, work)


def add(frame: Frame, total: bytearray, vector: bytes | bytearray | memoryview) -> None:
    """Add a vector to `total` in place.

    Raises:
        ProtocolError: ``wrong-length``.
    """
    _require_length(frame, total)
    _require_length(frame, vector)
    for block in frame.blocks:
        block.ring.add(_words(total, block), _words(vector, block))


def decode(frame: Frame, total: bytes | bytearray) -> Total:
    """The sum by field, each component correctly rounded; without the check word."""
    _require_length(frame, total)
    flat = {s.name: np.empty(s.spec.size, dtype=s.ring.dtype) for s in frame.fields}
    for block in frame.blocks:
        words = _words(total, block)
        for piece in block.pieces:
            if piece.segment is not frame.check:
                decoded = piece.segment.ring.decode(words[_place(piece, block)])
                flat[piece.segment.name][piece.first : piece.end] = decoded
    return {s.name: flat[s.name].reshape(s.spec.shape) for s in frame.fields}


def check_word(frame: Frame, total: bytes | bytearray) -> int:
    """How many sites' vectors were added, if their masks cancelled."""
    _require_length(frame, total)
    return int.from_bytes(total[: frame.check.n_bytes], "little")


class _Adder:
    """Adds masks to consecutive blocks."""

    def __init__(self, blocks: Sequence[Block], masks: Sequence[MaskKey]) -> None:
        start = blocks[0].start
        self._streams = [(MaskStream(mask.key, start), mask.negate) for mask in masks]
        self._buffer = new_buffer(max(block.n_bytes for block in blocks))

    def add(self, block: Block, words: Words, encoded: Words | None = None) -> None:
        """Add the next part of each mask to `words`, or to `encoded` with the sum in `words`."""
        mask: Words = np.frombuffer(self._buffer, dtype=block.ring.word, count=len(words))
        augend = None if encoded is words else encoded
        for stream, negate in self._streams:
            stream.next(block.n_bytes, self._buffer)
            block.ring.add(words, mask, negate=negate, augend=augend)
            augend = None
        if augend is not None:
            np.copyto(words, augend)


class _Dither:
    """The words that round consecutive blocks' vectors."""

    def __init__(self, blocks: Sequence[Block], key: bytes) -> None:
        own = [block for block in blocks if block.ring.bits == 32]
        if own:
            self._stream = MaskStream(key, own[0].start)
            self._buffer = new_buffer(max(block.n_bytes for block in own))

    def next(self, block: Block) -> np.ndarray[tuple[int], np.dtype[np.uint32]] | None:
        if block.ring.bits != 32:
            return None
        self._stream.next(block.n_bytes, self._buffer)
        return np.frombuffer(self._buffer, dtype="<u4", count=block.n_bytes // 4)


def _words(vector: bytes | bytearray | memoryview, block: Block) -> Words:
    count = block.n_bytes // block.ring.word.itemsize
    return np.frombuffer(vector, dtype=block.ring.word, count=count, offset=block.start)


def _place(piece: Piece, block: Block) -> slice:
    """Where a piece's words are among those of its block."""
    first = (piece.start - block.start) // block.ring.word.itemsize
    return slice(first, first + (piece.end - piece.first) * block.ring.words)


def _share(
    frame: Frame, threads: int, work_bytes: int, work: Callable[[Sequence[Block]], None]
) -> None:
    """Do `work` on all blocks, in several threads where that pays."""
    blocks = frame.blocks
    parts = min(threads, len(blocks), work_bytes // THREAD_BYTES)
    if parts < 2:
        work(blocks)
        return
    cuts = [len(blocks) * part // parts for part in range(parts + 1)]
    runs = [blocks[first:end] for first, end in pairwise(cuts)]
    with ThreadPoolExecutor(parts) as pool:
        # In order, so that the first overflow is the one that is told.
        for _ in pool.map(work, runs):
            pass


def _require_length(frame: Frame, vector: bytes | bytearray | memoryview) -> None:
    if len(vector) != frame.n_bytes:
        raise ProtocolError(
            "wrong-length", f"A masked vector has {len(vector)} bytes, not {frame.n_bytes}."
        )


__all__ = ["MaskKey", "Noise", "add", "apply_masks", "check_word", "decode", "encode_masked"]
