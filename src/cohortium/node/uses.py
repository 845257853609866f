"""Every use of this site's data: who computed what, over whom, and what was withheld from it."""

from __future__ import annotations

import json
from typing import Any

from cohortium.contract.model import RunRequest
from cohortium.enclave.exchange import Release
from cohortium.ledger.entry import RunEnded
from cohortium.node.life import open_contract
from cohortium.node.replica import Replica
from cohortium.node.store import NodeStore, StoredRun
from cohortium.node.task_runs import released


def uses(store: NodeStore, last: int) -> list[dict[str, Any]]:
    """The newest runs that this site admitted, newest first, as JSON values.

    How a run ended, why it was refused and how many numbers disclosure control left out of its
    result stand on the ledger, of which this node keeps a copy; before they do, they are absent.
    """
    replica = Replica(store)
    return [_use(store, replica, run) for run in store.newest_runs(last)]


def _use(store: NodeStore, replica: Replica, run: StoredRun) -> dict[str, Any]:
    request, signer = RunRequest.open(run.envelope)
    stored = store.contract(request.contract_digest)
    researcher = None if stored is None else open_contract(stored).recipient(signer)
    use: dict[str, Any] = {
        "run_id": run.run_id,
        "at": run.admitted_at,
        "study": request.study,
        "computation": request.computation,
        "researcher": None if researcher is None else researcher.name,
        "params": request.params,
        "cohort": None if request.cohort is None else request.cohort.to_json(),
        "sites": json.loads(run.sites) if run.sites else [],
        "status": run.status,
    }
    if (made := released(store, run.run_id)) is not None:
        release, _ = Release.open(made.release)
        use |= {"enclave": release.enclave, "lent": release.artefacts}
    ended = [fact for fact in replica.facts("run.ended", run.run_id) if isinstance(fact, RunEnded)]
    if ended:
        use |= {"status": ended[-1].status, "suppressed": ended[-1].suppressed}
        use |= {"refused": ended[-1].code} if ended[-1].code else {}
    return use
