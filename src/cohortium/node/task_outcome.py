"""Whether an enclave's signed word on a run counts, and what of it is for this institution."""

from __future__ import annotations

from dataclasses import dataclass

from cohortium.contract.model import Contract, Environment
from cohortium.contract.task import LOG_SLOT, Task, is_task
from cohortium.core.canonical import digest_bytes
from cohortium.enclave.exchange import Made, Offer, Release, TaskOutcome
from cohortium.enclave.proven import Document, require_lent_to
from cohortium.errors import VerificationError
from cohortium.ledger.entry import EnclaveChanged, RunEnded, RunSubmitted
from cohortium.node import task_runs
from cohortium.node.life import open_contract
from cohortium.node.replica import Replica
from cohortium.node.store import NodeStore

_WITH_OUTCOME = "task-failed"
"""How a run of a task ends that has an outcome and did not succeed."""


@dataclass(frozen=True)
class EndedTask:
    """A run of a task that has ended with an outcome, under a contract that this site is in."""

    run_id: str
    contract: Contract
    task: Task

    def readable(self, name: str) -> frozenset[str]:
        """The outputs that are for an institution."""
        slots = {slot.name for slot in self.task.outputs if name in slot.recipients}
        return frozenset(slots | ({LOG_SLOT} if name in self.task.log_recipients else set()))


def ended_task(store: NodeStore, replica: Replica, fact: RunEnded) -> EndedTask | None:
    """What the ledger tells of: a task of a contract that is here, whose outcome there is."""
    if fact.status != "succeeded" and fact.code != _WITH_OUTCOME:
        return None
    for submitted in replica.facts("run.submitted", fact.run_id):
        if not isinstance(submitted, RunSubmitted) or not is_task(submitted.computation):
            continue
        stored = store.contract(submitted.contract)
        if stored is None or stored.state in {"proposed", "refused"}:
            continue
        contract = open_contract(stored)
        task = contract.task_of(submitted.computation)
        if task is not None:
            return EndedTask(fact.run_id, contract, task)
    return None


def check_outcome(
    store: NodeStore,
    replica: Replica,
    ended: EndedTask,
    *,
    own: str,
    envelope: bytes,
    document: Document,
) -> tuple[TaskOutcome, tuple[Made, ...]]:
    """The outcome of a run, and what of it is for this institution.

    Args:
        document: What lenders and enclave signed in the run, by digest.

    Raises:
        VerificationError: ``bad-signature``, ``unknown-signer``, ``bad-digest``.
        ProtocolError: ``malformed-message``.
    """
    # 1. Signed by the enclave that it names, 2. about this run, 3. of an enclave that counts;
    # 4. where this site lent to it, the one that got the keys, and by its own release. 5. Its
    # outputs are the task's, each once.
    outcome, signer = TaskOutcome.open(envelope)
    if signer != outcome.enclave_key:  # 1
        raise VerificationError("unknown-signer", "The outcome is signed by another enclave.")
    about = (outcome.run_id, outcome.contract_digest, outcome.study, outcome.task)
    if about != (ended.run_id, ended.contract.digest, ended.contract.study, ended.task.name):  # 2
        raise VerificationError("bad-digest", "The outcome is of another run.")
    _require_enclave(store, replica, ended, outcome, document)  # 3, 4
    made = {one.slot: one for one in outcome.outputs}
    known = {LOG_SLOT, *(slot.name for slot in ended.task.outputs)}
    if len(made) != len(outcome.outputs) or not set(made) <= known:  # 5
        raise VerificationError("bad-digest", "The outcome names outputs that the task has not.")
    mine = ended.readable(own)
    return outcome, tuple(one for slot, one in sorted(made.items()) if slot in mine)


def _require_enclave(
    store: NodeStore,
    replica: Replica,
    ended: EndedTask,
    outcome: TaskOutcome,
    document: Document,
) -> None:
    here = (outcome.enclave, outcome.enclave_key)
    released = task_runs.released(store, ended.run_id)
    run = store.run(ended.run_id)
    if released is not None and run is not None:  # 4
        offer, signer = Offer.open(released.offer)
        release, _ = Release.open(released.release)
        named = outcome.releases.get(release.site) == digest_bytes(released.release)
        same = (offer.enclave, signer, run.request_digest) == (*here, outcome.request_digest)
        if same and (named or not outcome.outputs):
            return
    else:  # 3
        environment = ended.contract.environment or Environment()
        counts = {(one.name, one.key) for one in environment.enclaves}
        if not counts:
            require_lent_to(outcome, ended.contract, ended.task, document)
            counts = {
                (fact.name, fact.key)
                for fact in replica.facts("enclave", outcome.enclave)
                if isinstance(fact, EnclaveChanged) and fact.status == "approved"
            }
        if here in counts:
            return
    raise VerificationError(
        "unknown-signer", "The outcome is not of the enclave that this run was lent to."
    )
