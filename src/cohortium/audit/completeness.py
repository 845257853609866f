"""Step 4, with an institution's copy of the ledger: no entry about the study was left out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from cohortium.audit.bundle import Bundle
from cohortium.audit.log import LogKeys
from cohortium.audit.steps import Facts, require
from cohortium.errors import VerificationError
from cohortium.ledger.checkpoint import Checkpoint
from cohortium.ledger.merkle import leaf_hash
from cohortium.ledger.tiles import CHECKPOINT, verified_entries
from cohortium.ledger.tree import tree_of

Read = Callable[[str], bytes | None]
"""A file of a mirror (C2SP tlog-tiles) by its path."""

_RUN: Final = re.compile(rb'"run_id":"([0-9a-f]{32})"')
"""In canonical JSON a quotation mark within a string is escaped: only a field looks like this."""


def check_copy(
    bundle: Bundle, keys: LogKeys, checkpoint: Checkpoint, read: Read, facts: Facts
) -> None:
    """The first entries of the copy have the checkpoint's root; those of the study are here.

    Args:
        checkpoint: The bundle's.
        read: The copy, as ``cohortium node ledger export`` writes it.

    Raises:
        VerificationError: ``bad-bundle``.
    """
    held = {logged.index: logged.entry.encode() for logged in bundle.entries}
    named = f'"study":"{bundle.study}"'.encode()
    runs: set[bytes] = set()
    hashes: list[bytes] = []
    with facts.of("entries"):
        note = read(CHECKPOINT)
        if note is None:
            raise VerificationError("bad-bundle", "The copy of the ledger has no checkpoint.")
        copied, _ = keys.open(note)
        enough = copied.size >= checkpoint.size
        require(enough, "The copy of the ledger is older than the bundle; take a newer one.")
        for part in verified_entries(read, copied):
            for text in part[: checkpoint.size - len(hashes)]:
                index = len(hashes)
                hashes.append(leaf_hash(text))
                found = _RUN.search(text)
                if named in text and b'"kind":"run.submitted"' in text and found is not None:
                    runs.add(found[1])
                ours = named in text or (found is not None and found[1] in runs)
                require(
                    not ours or held.get(index) == text, f"Entry {index} of the study is not here."
                )
        root = tree_of({}, 0).extended(hashes)[0].root()
        require(root == checkpoint.root, "The copy of the ledger has another history.")
