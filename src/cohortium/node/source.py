"""What every kind of source becomes: a stream of Arrow batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

BATCH_ROWS = 100_000


@dataclass(frozen=True)
class Source:
    """A table that can be read once, then closed.

    Attributes:
        description: Where it is, without passwords.
        headers: Column names as they stand there.
        batches: The rows; columns in the order of `headers` (their names there do not matter).
        levels: Levels that the source itself declares, by header.
        close: Lets go of files and connections, however much was read.
        fraction: How much has been read, 0 to 1; None where that is unknown.
    """

    description: str
    headers: tuple[str, ...]
    batches: Iterable[pa.RecordBatch]
    levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    close: Callable[[], None] = lambda: None
    fraction: Callable[[], float] | None = None
