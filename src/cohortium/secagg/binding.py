"""What a round's masks are bound to."""

from __future__ import annotations

from dataclasses import dataclass

from cohortium.core.canonical import digest
from cohortium.core.rounds import Layout


@dataclass(frozen=True)
class RoundBinding:
    """The facts that all sites of a round must agree on for their masks to cancel.

    Attributes:
        run_id: 32 hex digits.
        round: 1, 2, ...
        state_digest: Digest of the state that the hub sent for this round.
    """

    run_id: str
    round: int
    contract_digest: str
    request_digest: str
    state_digest: str

    def digest(self, layout: Layout, roster_digest: str, active: str) -> str:
        """The name of this round, with its layout and parties, as the mask keys know it.

        Args:
            layout: Of the contributions.
            roster_digest: `Roster.digest`.
            active: The parties that take part in the round, as `Parties.text` writes them.
        """
        return digest(
            {
                "run_id": self.run_id,
                "round": self.round,
                "contract_digest": self.contract_digest,
                "request_digest": self.request_digest,
                "state_digest": self.state_digest,
                "roster_digest": roster_digest,
                "active": active,
                "layout": {
                    name: {"shape": list(spec.shape), "kind": spec.kind, "bound": spec.bound}
                    for name, spec in layout.items()
                },
            }
        )
