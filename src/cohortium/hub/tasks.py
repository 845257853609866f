"""Tasks at the hub: programs, vault cards, enclaves, orders, and who reads which output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from cohortium.contract.check import check_task
from cohortium.contract.lifecycle import Version
from cohortium.contract.model import Contract, Draft, RunRequest
from cohortium.contract.task import LOG_SLOT, TASK_PREFIX, Task
from cohortium.core.clock import Clock
from cohortium.core.rest import EnclaveInfo
from cohortium.enclave.exchange import PIECE_BYTES, TaskOutcome
from cohortium.errors import ConflictError, InputError, PolicyRefusal, VerificationError
from cohortium.hub.blobs import Place, Programs
from cohortium.hub.config import HubConfig
from cohortium.hub.draft_store import sites_of as drafted_for
from cohortium.hub.outputs import Outputs
from cohortium.hub.run_store import StoredRun
from cohortium.hub.store import HubStore
from cohortium.hub.study_store import sites_of
from cohortium.hub.task_board import Board
from cohortium.hub.task_needs import missing_program, require_cards
from cohortium.hub.task_relay import TaskRelay
from cohortium.hub.task_runs import TaskRuns
from cohortium.link._generated.link_pb2 import Message, TaskFetch
from cohortium.link.ports import Peers
from cohortium.vault.card import VaultCard

CODE_SLOT: Final = "code"
"""With no run: a node asks for a program, to review it."""
MOST_OPEN: Final = 64
"""Tasks of one researcher at a time: each takes a thread of the hub while it waits."""
_SKEW: Final = timedelta(minutes=5)


def is_task(computation: str) -> bool:
    """Whether a computation is a task."""
    return computation.startswith(TASK_PREFIX)


@dataclass(frozen=True)
class Reader:
    """Who asks for an output.

    Attributes:
        key: As contracts name it.
    """

    name: str
    key: str


class Tasks:
    """What `Hub` does about tasks, beside executing them.

    Args:
        folder: For programs and outputs; without one they go with the process.
        connected: Whose link is up.
    """

    def __init__(
        self,
        store: HubStore,
        *,
        folder: Path | None,
        clock: Clock,
        connected: Callable[[], frozenset[str]],
    ) -> None:
        self._store = store
        self._clock = clock
        self._connected = connected
        self.programs = Programs(Place(None if folder is None else folder / "programs"))
        self.outputs = Outputs(Place(None if folder is None else folder / "outputs"))
        self.board = Board()
        self._runs: TaskRuns | None = None
        self._relay: TaskRelay | None = None

    # Life

    def over(
        self,
        peers: Peers,
        config: HubConfig,
        *,
        spend: Callable[[str], None],
        changed: Callable[[str], None],
    ) -> TaskRuns:
        """Serve on the running loop; see `TaskRelay` of the arguments."""
        self._relay = TaskRelay(
            self._store,
            peers,
            self.board,
            outputs=self.outputs,
            most_bytes=int(config.output_gib * 1024**3),
            clock=self._clock,
            spend=spend,
            changed=changed,
        )
        self._runs = TaskRuns(
            self._store,
            peers,
            self.board,
            programs=self.programs,
            outputs=self.outputs,
            clock=self._clock,
            gather_timeout_s=config.gather_timeout_s,
            away_timeout_s=config.round_timeout_s,
        )
        return self._runs

    @property
    def relay(self) -> TaskRelay:
        """What answers enclaves."""
        if self._relay is None:
            raise RuntimeError("the hub has not been started")
        return self._relay

    def cancelled(self, run_id: str) -> None:
        """A run is over by its researcher's word: its enclave stops, and what it sent goes."""
        if self._runs is not None:
            self._runs.stop(run_id, ConflictError("run-cancelled", "The run was cancelled."))
        self.outputs.drop(run_id)

    async def close(self) -> None:
        """Stop serving."""
        if self._runs is not None:
            await self._runs.close()

    # Programs

    def require_programs(self, contract: Contract | Draft) -> None:
        """What a contract's tasks run is here, or built in.

        Raises:
            InputError: ``not-found``, naming the program.
        """
        for task in contract.tasks:
            if not task.code.built_in and not self.programs.has(task.code.content_digest):
                raise missing_program(task)

    def keep_programs(self, contract: Contract | Draft) -> None:
        """A contract names them: they stay."""
        for task in contract.tasks:
            if not task.code.built_in:
                self.programs.keep(task.code.content_digest)

    def program(self, digest: str, reads: Callable[[Contract | Draft], bool]) -> bytes:
        """The ZIP of a program that is named in a contract that one reads.

        Raises:
            InputError: ``not-found``, also where it is not for one to see.
        """
        for contract in self._contracts():
            named = any(task.code.content_digest == digest for task in contract.tasks)
            if named and reads(contract):
                found = self.programs.get(digest)
                if found is not None:
                    return found
        raise InputError("not-found", "There is no program with that digest that you may read.")

    def _contracts(self) -> Iterator[Contract | Draft]:
        for study in self._store.studies.studies():
            for version in self._store.studies.life(study).versions:
                yield version.contract
        for study in self._store.drafts.studies():
            yield self._store.drafts.life(study).draft

    # Vault cards and enclaves

    def take_card(self, author: Reader, envelope: bytes) -> None:
        """Keep a card that its author signed.

        Raises:
            VerificationError: ``unknown-signer``, ``bad-signature``; ``stale-request`` for one from
                the future, after which none would be newer.
            InputError: ``bad-input`` where there is no key in it.
        """
        card, _ = VaultCard.open(envelope, key=author.key)
        if card.name != author.name:
            raise VerificationError("unknown-signer", "The vault card is for another name.")
        if card.at > self._clock() + _SKEW:
            raise VerificationError(
                "stale-request", "The card is from the future; compare the machines' clocks."
            )
        _ = card.public
        self._store.tasks.put_card(author.key, author.name, card.at, envelope)

    def enclaves(self) -> list[EnclaveInfo]:
        """The enclaves that were let in."""
        connected = self._connected()
        return [
            EnclaveInfo(
                name=one.name, key=one.key, status=one.status, connected=one.name in connected
            )
            for one in self._store.members.enclaves()
            if one.status in {"approved", "suspended"}
        ]

    # Orders

    def admit(self, version: Version, request: RunRequest, signer: str) -> None:
        """Whether a task may run now, and all is here that it needs but for an enclave.

        Raises:
            CohortiumError: See `check_task`; ``not-found`` for a program that is not here,
                ``vault-key-missing``, ``too-many-requests``.
        """
        admitted = check_task(
            version.contract,
            request,
            signer,
            signatures_ok=True,
            now=self._clock(),
            revoked=self._store.members.revoked_keys(),
        )
        open_ = [one for one in self._store.runs.open() if is_task(one.info.computation)]
        if sum(one.info.researcher == signer for one in open_) >= MOST_OPEN:
            raise PolicyRefusal(
                "too-many-requests", f"{MOST_OPEN} tasks of yours are under way; wait for one."
            )
        task = admitted.task
        require_cards(self._store, version.contract, task)
        if not task.code.built_in and not self.programs.keep(task.code.content_digest):
            raise missing_program(task)

    # Results

    def is_reader(self, run: StoredRun, reader: Reader) -> bool:
        """Whether an output of a task's run, or its log, is for somebody."""
        if not is_task(run.info.computation):
            return False
        contract, task = self._task(run)
        return contract.parties.get(reader.name) == reader.key and reader.name in task.readers

    def outcome(self, run: StoredRun) -> bytes:
        """The envelope of a run's outcome, for who may see the run.

        Raises:
            InputError: ``not-found``.
            ConflictError: ``wrong-state`` while there is none, or it waits for its witnesses.
        """
        self._require_over(run)
        found = self._store.tasks.outcome(run.info.id)
        if found is None:
            raise InputError("not-found", "The run has no outcome of an enclave.")
        return found

    def document(self, run: StoredRun, digest: str) -> bytes:
        """A signed document of a run, which its outcome or another of them names by digest.

        Raises:
            InputError: ``not-found``.
            ConflictError: ``wrong-state`` while the run is not over.
        """
        self._require_over(run)
        found = self._store.runs.documents(run.info.id).get(digest)
        if found is None:
            raise InputError("not-found", "The run has no document of that digest.")
        return found

    def output(self, run: StoredRun, slot: str, reader: Reader) -> Path:
        """Where the ciphertext of an output is.

        Raises:
            InputError: ``not-found``, also for who may not know of the run.
            PolicyRefusal: ``not-authorised`` where the output is for others.
            ConflictError: ``wrong-state`` while the run is not over.
        """
        # 1. The contract gives this slot to this reader. 2. The run is over, for good. 3. The
        # enclave has signed that there is such an output.
        contract, task = self._task(run)
        allowed = {one.name: one.recipients for one in task.outputs}
        readers = allowed.get(slot, task.log_recipients if slot == LOG_SLOT else ())
        mine = contract.parties.get(reader.name) == reader.key
        if not mine or reader.name not in readers:  # 1
            raise PolicyRefusal("not-authorised", f"The contract does not give you {slot[:80]!r}.")
        outcome, _ = TaskOutcome.open(self.outcome(run))  # 2
        if not any(made.slot == slot for made in outcome.outputs):  # 3
            raise InputError("not-found", f"The run gave no {slot[:80]!r}.")
        return self.outputs.file(run.info.id, slot)

    def _task(self, run: StoredRun) -> tuple[Contract, Task]:
        contract = self._store.studies.contract(run.info.contract_digest)
        task = contract.task_of(run.info.computation)
        if task is None:
            raise InputError("not-found", "The run is not one of a task.")
        return contract, task

    def _require_over(self, run: StoredRun) -> None:
        if run.info.status == "failed":
            return
        if run.info.status != "succeeded":
            raise ConflictError("wrong-state", f"The run is {run.info.status}.")
        release = self._store.ledger.release(run.info.id)
        if not run.released and (release is None or release.size is None):
            raise ConflictError("wrong-state", "The result waits for its witnesses; ask again.")

    # What a node fetches

    def piece(self, site: Reader, asked: TaskFetch) -> Message:
        """A piece of an output, of the outcome's envelope (no slot), of a document that it names
        (no slot, a digest as path), or of a program (no run).

        Raises:
            CohortiumError: See `output`, `outcome`, `program`.
        """
        reply = Message()
        if not asked.run_id and asked.slot == CODE_SLOT:
            data = self.program(asked.path, lambda contract: _told(contract, site))
            data, size = data[asked.offset : asked.offset + PIECE_BYTES], len(data)
        else:
            run = self._store.runs.get(asked.run_id)
            if not self.is_reader(run, site):
                raise InputError("not-found", "There is no such run.")
            if asked.slot and asked.path:
                raise InputError("not-found", "An output is one archive; it has no path.")
            if asked.slot:
                self.output(run, asked.slot, site)
                data, size = self.outputs.read(asked.run_id, asked.slot, asked.offset)
            else:
                data = self.document(run, asked.path) if asked.path else self.outcome(run)
                data, size = data[asked.offset : asked.offset + PIECE_BYTES], len(data)
        reply.task_piece.data = data
        reply.task_piece.size = size
        return reply


def _told(contract: Contract | Draft, site: Reader) -> bool:
    """Whether an institution is told of a contract, or shown a draft."""
    sites = sites_of(contract) if isinstance(contract, Contract) else drafted_for(contract)
    return site.name in sites and contract.parties.get(site.name) == site.key
