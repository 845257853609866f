"""Which failures of a run are for good."""

from __future__ import annotations

from typing import Final

from cohortium.errors import CohortiumError, PeerError

RESUMABLE_CODES: Final = frozenset({"too-few-sites", "masks-do-not-cancel", "round-burnt"})
LOST: Final = "enclave-lost"


def resumable(error: CohortiumError) -> bool:
    """Whether asking again can succeed; sites keep the run's keys until then."""
    return (isinstance(error, PeerError) and error.code != LOST) or error.code in RESUMABLE_CODES
