"""The node's gate for tasks: no key and no ciphertext leaves that this site did not sign for.

As in `cohortium.node.guard`, every fact that a decision rests on is signed by someone who counts
under a contract that this site signed, or is this node's own record.
"""

from __future__ import annotations

from dataclasses import dataclass

from cohortium.contract.check import check_task
from cohortium.contract.model import Contract, Environment, RunRequest
from cohortium.contract.task import InputSlot, Scalar, SecurityLevel, Task
from cohortium.core.clock import Clock
from cohortium.crypto.keys import fingerprint
from cohortium.errors import PolicyRefusal, ProtocolError, VerificationError
from cohortium.node.agreement import Agreements, open_request, own_seat
from cohortium.node.alarms import require_none
from cohortium.node.guard import About, require_runs_today
from cohortium.node.identity import Identity
from cohortium.node.policy import PolicySource
from cohortium.node.store import NodeStore
from cohortium.node.witness import require_following


@dataclass(frozen=True)
class CheckedTask:
    """A run of a task to which this site may lend.

    Attributes:
        envelope: The researcher's, as it was signed.
        arguments: All of the run.
        slots: The inputs that are lent by this site, alone or with others.
        begun: Whether its keys were released before.
    """

    contract: Contract
    request: RunRequest
    envelope: bytes
    task: Task
    arguments: dict[str, Scalar]
    level: SecurityLevel
    slots: tuple[InputSlot, ...]
    begun: bool

    @property
    def environment(self) -> Environment:
        """Where the contract lets it run."""
        return self.contract.environment or Environment()

    @property
    def inputs(self) -> dict[str, str]:
        """The digest of what fills each slot, of all lenders."""
        filled = {slot.name: slot.artefact for slot in self.task.inputs if slot.artefact}
        return {name: one.content_digest for name, one in filled.items() if one.content_digest}

    @property
    def lent(self) -> dict[str, str]:
        """The same of this site's own slots."""
        return {slot.name: self.inputs[slot.name] for slot in self.slots}


class TaskGuard:
    """Checks whether this site lends to a run.

    Args:
        identity: Who this node is.
        store: Its memory.
        agreements: The contracts in force here.
        policy: Reads the site's policy at this moment.
        clock: The time that windows are checked against.
    """

    def __init__(
        self,
        identity: Identity,
        store: NodeStore,
        agreements: Agreements,
        policy: PolicySource,
        clock: Clock,
    ) -> None:
        self._identity = identity
        self._store = store
        self._agreements = agreements
        self._policy = policy
        self._clock = clock

    def check(self, envelope: bytes, about: About) -> CheckedTask:
        """Decide whether this site lends to the run that a researcher ordered; reads only.

        Args:
            envelope: The researcher's signed request.
            about: Filled in for the journal.

        Raises:
            CohortiumError: The reason why not.
        """
        # 1. The site computes at all; not while there is an alarm about the ledger. 2. The
        # researcher's signature. 3. Not a replay: a known run only by the same request, while it
        # is under way. 4. The contract. 5. What the hub checks too (see `contract.check`). 6. This
        # site lends to it. 7. The site's policy. 8. A run is left.
        require_none(self._store)  # 1
        require_following(self._store, self._clock())  # 1
        policy = self._policy()
        policy.require_running()  # 1
        request, signer = open_request(envelope)  # 2
        about |= {
            "run_id": request.run_id,
            "contract": request.contract_digest,
            "study": request.study,
            "computation": request.computation,
            "researcher": fingerprint(signer),
        }
        known = self._store.run(request.run_id)
        if known is not None and (
            known.request_digest != request.digest or known.status != "open"
        ):  # 3
            raise VerificationError("replayed", "This run was asked for before; submit a new one.")
        contract = self._agreements.active_contract(
            request.contract_digest, request.computation
        )  # 4
        admitted = check_task(
            contract,
            request,
            signer,
            signatures_ok=True,  # by active_contract
            now=self._clock(),
            revoked=self._store.revoked(),
            accepted_before=known is not None,
        )  # 5
        task = admitted.task
        slots = self._own_slots(contract, task)  # 6
        researcher = contract.recipient(signer)
        if researcher is None:
            raise PolicyRefusal("not-authorised", "The researcher is not in the contract.")
        policy.require_allowed(task.computation, researcher)  # 7
        policy.tasks.require(contract, task)  # 7
        if known is None:
            self._require_runs_left(request, task)  # 8
        return CheckedTask(
            contract=contract,
            request=request,
            envelope=envelope,
            task=task,
            arguments=admitted.arguments,
            level=admitted.level,
            slots=slots,
            begun=known is not None,
        )

    def check_begun(self, run_id: str, about: About) -> CheckedTask:
        """`check`, of a run whose keys were released.

        Raises:
            CohortiumError: The reason why nothing of it leaves.
        """
        about["run_id"] = run_id[:64]
        stored = self._store.run(run_id)
        if stored is None or stored.status != "open":
            raise ProtocolError("wrong-round", "This run is not under way at this site.")
        return self.check(stored.envelope, about)

    def _own_slots(self, contract: Contract, task: Task) -> tuple[InputSlot, ...]:
        own = own_seat(contract, self._identity).name
        slots = tuple(
            slot for slot in task.inputs if slot.artefact is not None and own in slot.owners
        )
        if not slots:
            raise PolicyRefusal("not-permitted", f"{own} lends nothing to {task.name}.")
        return slots

    def _require_runs_left(self, request: RunRequest, task: Task) -> None:
        used = self._store.runs_used(request.contract_digest, task.computation.__eq__)
        if task.max_runs is not None and used >= task.max_runs:
            raise PolicyRefusal(
                "run-limit", f"The {task.max_runs} runs of {task.name} are used up at this site."
            )
        require_runs_today(self._store, self._policy().max_runs_per_day, self._clock())
