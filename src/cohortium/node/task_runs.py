"""Runs of tasks in the node's memory: a run begins here when its keys are released, and only then.

The release is one transaction; what the hub may say of it on the ledger is in it. The rows are
those of other runs (`NodeStore.runs`), so that limits, uses and the ledger's checks count both.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from cohortium.contract.task import Task
from cohortium.core.canonical import digest as digest_of
from cohortium.core.canonical import digest_bytes
from cohortium.node.replica import Replica
from cohortium.node.store import NodeStore, RunStatus, StoredRun
from cohortium.node.task_guard import CheckedTask

LONGEST: Final = timedelta(days=30)
"""How long a task may go on whose contract does not limit its time."""


@dataclass(frozen=True)
class Released:
    """What left this node for one run; the envelopes are as they were signed.

    Attributes:
        recipient: Digest of the key that data keys were sealed for: there is one for each run.
        evidence: Empty where the level asks for none.
    """

    run_id: str
    recipient: str
    release: bytes
    offer: bytes
    evidence: bytes


def released(store: NodeStore, run_id: str) -> Released | None:
    """What was released for a run; None before that."""
    rows = store.execute(
        "SELECT run_id, recipient, release, offer, evidence FROM task_releases WHERE run_id = ?",
        run_id,
    )
    return Released(*rows[0]) if rows else None


def record(store: NodeStore, replica: Replica, checked: CheckedTask, made: Released) -> None:
    """Begin a run with its release. Belongs in a transaction, with the last look before it."""
    request = checked.request
    now = store.now()
    store.add_run(
        StoredRun(
            run_id=request.run_id,
            envelope=checked.envelope,
            request_digest=request.digest,
            contract_digest=request.contract_digest,
            computation=request.computation,
            params_digest=digest_of(request.params),
            disclosure="",
            secret=None,
            advert=made.release,  # what the ledger's decision of this site names
            admitted_at=now,
            started_at=now,
        )
    )
    store.execute(
        "INSERT INTO task_releases VALUES (?, ?, ?, ?, ?, ?)",
        made.run_id,
        made.recipient,
        made.release,
        made.offer,
        made.evidence,
        now,
    )
    store.say("evidence", digest_bytes(made.release))
    replica.expect_run(request.run_id)
    replica.expect_end(request.run_id, lasts=_lasts(checked.task))


def _lasts(task: Task) -> timedelta:
    if task.limits is None:
        return LONGEST
    return min(timedelta(seconds=task.limits.time_s), LONGEST)


def end(store: NodeStore, run: StoredRun, status: RunStatus) -> bool:
    """The run is over: nothing more of it leaves. False where it was so before."""
    if run.status != "open":
        return False
    store.end_run(run.run_id, status)
    return True
