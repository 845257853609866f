"""Where a contribution's components lie in a masked vector."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cohortium.core.rounds import Contribution, FieldSpec, Layout
from cohortium.errors import InputError
from cohortium.secagg.ring import COUNT, RINGS, Ring


@dataclass(frozen=True)
class Segment:
    """A run of words in one ring: `n_words` words from word `start`."""

    name: str
    spec: FieldSpec
    ring: Ring
    start: int
    n_words: int

    def components(self, first: int, end: int) -> slice:
        """The components whose words are `first` to `end` of the masked vector."""
        return slice((first - self.start) // self.ring.words, (end - self.start) // self.ring.words)


class Frame:
    """The words of a masked vector: the check word, then each field of the layout by name.

    Each site adds 1 to the check word, so that a sum whose masks cancel shows the number of sites.
    """

    check = Segment("", FieldSpec((), "count"), COUNT, 0, 1)

    def __init__(self, layout: Layout) -> None:
        segments, start = [], 1
        for name in sorted(layout):
            spec = layout[name]
            ring = RINGS[spec.kind]
            segments.append(Segment(name, spec, ring, start, spec.size * ring.words))
            start += spec.size * ring.words
        self.fields: tuple[Segment, ...] = tuple(segments)
        self.n_words = start

    @property
    def segments(self) -> tuple[Segment, ...]:
        """All segments in order, the check word first."""
        return (self.check, *self.fields)

    def pieces(self, block_words: int) -> Iterator[tuple[Segment, int, int]]:
        """Cut the segments into (segment, first word, end word) of at most `block_words`.

        `block_words` is a multiple of the longest element, so that no element is cut.
        """
        for segment in self.segments:
            end = segment.start + segment.n_words
            for first in range(segment.start, end, block_words):
                yield segment, first, min(first + block_words, end)

    def check_shapes(self, contribution: Contribution) -> None:
        """Refuse a contribution that does not fit the layout: an analysis's programming error."""
        expected = {segment.name: segment.spec.shape for segment in self.fields}
        found = {name: array.shape for name, array in contribution.items()}
        if found != expected:
            raise RuntimeError(f"the contribution has shapes {found}, the layout {expected}")


def name_component(error: InputError, segment: Segment, offset: int) -> InputError:
    """The overflow error with the field's name and the component's place in it."""
    index = int(error.details["index"]) + offset
    return InputError(
        "overflow",
        f"{segment.name}[{index}] is too large or not finite for the masked sum; look for outliers "
        "or rescale the variable.",
        field=segment.name,
        index=index,
    )
