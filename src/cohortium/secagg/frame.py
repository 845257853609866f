"""Where a contribution's components lie in a masked vector."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from cohortium.core.rounds import Contribution, FieldSpec, Layout
from cohortium.errors import InputError
from cohortium.secagg.ring import COUNT, Ring, ring_for

BLOCK_BYTES: Final = 256 * 1024
"""Zeros, keystream and target of a block stay in the second-level cache; a multiple of every
element's size, so that no element is cut."""

ALIGNMENT: Final = 8


@dataclass(frozen=True)
class Segment:
    """A field's components: `n_bytes` bytes from byte `start`, without the padding."""

    name: str
    spec: FieldSpec
    ring: Ring
    start: int

    @property
    def n_bytes(self) -> int:
        """Bytes of its components."""
        return self.spec.size * self.ring.element_bytes

    @property
    def padded_end(self) -> int:
        """Where the next segment starts."""
        return self.start + -(-self.n_bytes // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class Piece:
    """The components `first` to `end` of a segment, from byte `start` of the masked vector."""

    segment: Segment
    first: int
    end: int
    start: int


@dataclass(frozen=True)
class Block:
    """Bytes that are masked at once, all of fields of one kind.

    Attributes:
        ring: For sums; its fraction bits mean nothing here.
        pieces: The components that lie in it; the rest is padding.
    """

    ring: Ring
    start: int
    n_bytes: int
    pieces: tuple[Piece, ...]


class Frame:
    """The bytes of a masked vector: a check word, then the fields of the layout.

    Fields come by kind and then by name; each starts at a multiple of 8 bytes, and padding is
    masked and summed as if it were a component 0. Each site adds 1 to the check word, so that a
    sum whose masks cancel shows the number of sites.

    Args:
        n_sites: That may add up their vectors; the worst case that no sum wraps in.
    """

    check: Final = Segment("", FieldSpec((), "count"), COUNT, 0)

    def __init__(self, layout: Layout, n_sites: int) -> None:
        segments, start = [], self.check.padded_end
        for name in sorted(layout, key=lambda name: (layout[name].kind, name)):
            segment = Segment(name, layout[name], ring_for(layout[name], n_sites), start)
            segments.append(segment)
            start = segment.padded_end
        self.n_sites = n_sites
        self.fields: tuple[Segment, ...] = tuple(segments)
        self.n_bytes = start

    @property
    def segments(self) -> tuple[Segment, ...]:
        """All segments in order, the check word first."""
        return (self.check, *self.fields)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The whole vector in blocks of at most `BLOCK_BYTES`."""
        stretches = [
            [segment for segment in self.segments if segment.spec.kind == kind and segment.n_bytes]
            for kind in ("count", "real", "vector")
        ]
        return tuple(block for stretch in stretches if stretch for block in _cut(stretch))

    def check_shapes(self, contribution: Contribution) -> None:
        """Refuse a contribution that does not fit the layout: an analysis's programming error."""
        expected = {segment.name: segment.spec.shape for segment in self.fields}
        found = {name: array.shape for name, array in contribution.items()}
        if found != expected:
            raise RuntimeError(f"the contribution has shapes {found}, the layout {expected}")


def _cut(stretch: list[Segment]) -> Iterator[Block]:
    """Neighbouring segments of one kind of ring in blocks."""
    ring = stretch[0].ring
    start, pieces = stretch[0].start, list[Piece]()
    for segment in stretch:
        first = 0
        while first < segment.spec.size:
            at = segment.start + first * ring.element_bytes
            if at >= start + BLOCK_BYTES:
                yield Block(ring, start, BLOCK_BYTES, tuple(pieces))
                start, pieces = start + BLOCK_BYTES, []
                continue
            end = min(segment.spec.size, first + (start + BLOCK_BYTES - at) // ring.element_bytes)
            pieces.append(Piece(segment, first, end, at))
            first = end
    end_of_stretch = stretch[-1].padded_end
    yield Block(ring, start, end_of_stretch - start, tuple(pieces))


def name_component(error: InputError, piece: Piece) -> InputError:
    """The overflow error with the field's name and the component's place in it."""
    segment = piece.segment
    index = int(error.details["index"]) + piece.first
    remedy = (
        f"clip what a site contributes to {segment.spec.bound:g}, the bound of the layout."
        if segment.spec.kind == "vector"
        else "look for outliers or rescale the variable."
    )
    return InputError(
        "overflow",
        f"{segment.name}[{index}] is too large or not finite for the masked sum; {remedy}",
        field=segment.name,
        index=index,
    )
