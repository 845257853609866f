"""A run's record."""

from __future__ import annotations

from collections.abc import Sequence

from cohortium.contract.task import TASK_PREFIX
from cohortium.core import rest
from cohortium.core.selection import Selection
from cohortium.errors import CohortiumError, ConflictError
from cohortium.sdk.filled_text import filled_text
from cohortium.sdk.html import facts_html


def cohort_line(cohort: Selection) -> str:
    """``persons with age >= 18 and sex = 'f', without time < 30``; empty for everybody."""
    included = _joined("with", cohort.include, " and ")
    excluded = _joined("without", cohort.exclude, " or ")
    persons = ", ".join(part for part in (included, excluded) if part)
    filled = filled_text(cohort)
    parts = (persons and f"persons {persons}", filled and f"missing values filled: {filled}")
    return "; ".join(part for part in parts if part)


def _joined(word: str, criteria: Sequence[str], by: str) -> str:
    texts = [" ".join(text.split()) for text in criteria]
    shown = texts if len(texts) == 1 else [f"({text})" for text in texts]
    return f"{word} {by.join(shown)}" if texts else ""


class RunInfo(rest.RunInfo):
    """The hub's record of a run."""

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen unless the run is resumed."""
        return self.status in rest.FINAL

    @property
    def of_task(self) -> bool:
        """Whether it is of a contract's task, which has neither rounds nor sums."""
        return self.computation.startswith(TASK_PREFIX)

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

    @property
    def persons(self) -> str:
        """The researcher's criteria in one line; empty where there are none."""
        return "" if self.cohort is None else cohort_line(self.cohort)

    def line(self) -> str:
        """The run in one line, to stand below a result."""
        persons = f", {self.persons}" if self.persons else ""
        without = f" (without {', '.join(self.absent)})" if self.absent else ""
        where = f"{self.rounds} rounds, {self.total_bytes:,} bytes left the sites"
        if self.of_task:
            where = "in no enclave" if self.enclave is None else f"in the enclave {self.enclave}"
        return (
            f"run {self.id[:8]} {self.status} in {self.seconds:.2f} s, "
            f"{len(self.participants)} sites{without}, {where}, "
            f"contract {self.contract_digest.removeprefix('sha256:')[:12]}{persons}"
        )

    def _repr_html_(self) -> str:
        sums: dict[str, object] = {
            "rounds": self.rounds,
            "seconds": f"{self.seconds:.3f}",
            "bytes that left the sites": f"{self.total_bytes:,}",
        }
        if self.of_task:
            sums = {"enclave": self.enclave or "", "seconds": sums["seconds"]}
        return facts_html(
            f"Run {self.id[:8]}",
            {
                "computation": self.computation,
                "status": self.status,
                "study": self.study,
                "persons": self.persons,
                "participants": ", ".join(self.participants),
                "absent": ", ".join(self.absent),
                **sums,
                "contract": self.contract_digest,
                "error": (self.error or {}).get("message", ""),
            },
        )
