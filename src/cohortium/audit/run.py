"""A run as far as it has been checked, and the runs of a study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cohortium.contract.check import AdmittedTask
from cohortium.contract.model import Contract, RunRequest
from cohortium.enclave.exchange import Offer, Release, TaskOutcome
from cohortium.errors import VerificationError
from cohortium.ledger.entry import Fact, RunEnded


@dataclass(frozen=True)
class Handed:
    """A lender's signed release to a task's run, and the offer that it rests on.

    Attributes:
        index: Of the first entry that names it.
        statement: Digest of the release's envelope.
        enclave_key: The key that signed the offer.
    """

    index: int
    statement: str
    release: Release
    offer: Offer
    enclave_key: str

    @property
    def enclave(self) -> tuple[str, str]:
        """Name and key of the machine."""
        return self.offer.enclave, self.enclave_key


@dataclass(frozen=True)
class Run:
    """A run as its entries tell it.

    Attributes:
        contract_digest: Of the contract, which takes long to compute.
        index: Of the entry with its order.
        task: Of a run of a task, what the contract admits.
        decisions: The sites whose signed round keys are there, by the place of the decision; there
            is more than one where a run that failed was resumed.
        handed: Of a task, what lenders released, by name.
        ended: Its last end, and that entry's place.
        outcome: What a task's enclave signed, where it is here and was compared.
    """

    contract: Contract
    contract_digest: str
    request: RunRequest
    request_digest: str
    index: int
    task: AdmittedTask | None = None
    decisions: tuple[tuple[int, frozenset[str]], ...] = ()
    handed: Mapping[str, Handed] = field(default_factory=dict)
    ended: tuple[int, RunEnded] | None = None
    outcome: TaskOutcome | None = None

    def accepted(self, index: int) -> frozenset[str]:
        """The sites that take part, as it was at an entry."""
        before = [sites for place, sites in self.decisions if place < index]
        return before[-1] if before else frozenset()

    @property
    def binding(self) -> tuple[str, str, str, str]:
        """What every document of a task's run says: run, order, contract, task."""
        return (
            self.request.run_id,
            self.request_digest,
            self.contract_digest,
            "" if self.task is None else self.task.task.name,
        )


@dataclass
class Runs:
    """The runs of a study, as far as they have been checked.

    Attributes:
        others: Runs of other studies.
        denied: Who signed a request that was refused, by the entry's place.
    """

    of_study: dict[str, Run] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)
    denied: dict[int, str] = field(default_factory=dict)

    def of(self, run_id: str, index: int) -> Run:
        """A run that was ordered before an entry."""
        found = self.of_study.get(run_id)
        if found is None or found.index >= index:
            raise VerificationError(
                "bad-bundle", f"Nobody is known to have ordered the run {run_id[:8]}."
            )
        return found

    @property
    def enclaves(self) -> set[tuple[str, str]]:
        """Name and key of the machines that keys were released to."""
        return {one.enclave for run in self.of_study.values() for one in run.handed.values()}


def of_this_study(fact: Fact, runs: Runs) -> bool:
    """Whether a fact about a run is about a run of the bundle's study."""
    run_id = getattr(fact, "run_id", None)
    return run_id is not None and run_id not in runs.others
