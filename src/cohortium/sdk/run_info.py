"""A run's record."""

from __future__ import annotations

from cohortium.core import rest
from cohortium.errors import CohortiumError, ConflictError
from cohortium.sdk.html import facts_html


class RunInfo(rest.RunInfo):
    """The hub's record of a run."""

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen unless the run is resumed."""
        return self.status in rest.FINAL

    @property
    def total_bytes(self) -> int:
        """Payload bytes that left all sites together."""
        return sum(self.bytes.values())

    def raise_for_status(self) -> None:
        """Raise the error of a failed run as the family that was raised at hub or site."""
        if self.status == "failed":
            if self.error is not None:
                raise CohortiumError.from_wire(self.error)
            raise ConflictError("run-failed", f"Run {self.id} failed; see: cohortium run show.")
        if self.status == "cancelled":
            raise ConflictError("run-cancelled", f"Run {self.id} was cancelled.", run=self.id)

    def line(self) -> str:
        """The run in one line, to stand below a result."""
        without = f" (without {', '.join(self.absent)})" if self.absent else ""
        return (
            f"run {self.id[:8]} {self.status} in {self.seconds:.2f} s, "
            f"{len(self.participants)} sites{without}, {self.rounds} rounds, "
            f"{self.total_bytes:,} bytes left the sites, "
            f"contract {self.contract_digest.removeprefix('sha256:')[:12]}"
        )

    def _repr_html_(self) -> str:
        return facts_html(
            f"Run {self.id[:8]}",
            {
                "computation": self.computation,
                "status": self.status,
                "study": self.study,
                "participants": ", ".join(self.participants),
                "absent": ", ".join(self.absent),
                "rounds": self.rounds,
                "seconds": f"{self.seconds:.3f}",
                "bytes that left the sites": f"{self.total_bytes:,}",
                "contract": self.contract_digest,
                "error": (self.error or {}).get("message", ""),
            },
        )
