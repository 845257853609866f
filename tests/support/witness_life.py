"""A witness's whole life in steps, each of which may be interrupted and asked for again.

As a program (``python -m tests.support.witness_life FOLDER``) it reads lines ``COMMIT STAGE``,
lives that life in a child on ``FOLDER/STAGE-COMMIT.db`` until it is killed there, and prints
its exit code.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from tests.support.builders import World
from tests.support.ledger_hub import HubLog, as_message
from tests.support.logs import key
from tests.support.witnessing import Witnessing, welcome

from cohortium.errors import CohortiumError, ConflictError
from cohortium.ledger.entry import PolicyChanged, ResearcherChanged, commitment
from cohortium.link._generated import link_pb2 as pb
from cohortium.node import alarms, journal, ledger_copy, outbox
from cohortium.node.policy import Policy
from cohortium.node.replica import CheckpointKind
from cohortium.node.store import NodeStore, Stage
from cohortium.node.witness import accept

WAIT = 10
"""The step that only lets time pass."""
KINDS: tuple[CheckpointKind, ...] = ("seen", "cosigned", "final")


def person(number: int) -> ResearcherChanged:
    return ResearcherChanged(name=f"R{number}", key=key(200).public, status="active")


class Life:
    """Alpha's witness on a file, with everything that the hub will tell it."""

    def __init__(self, path: Path, fault: Callable[[Stage], None]) -> None:
        self._path = path
        self.site = Witnessing(world=World(), hub=HubLog())
        self.site.node.store.close()
        self.faults = False
        self._fault = fault
        self.start()

    def start(self) -> None:
        """The node's process begins."""

        def fault(stage: Stage) -> None:
            if self.faults:
                self._fault(stage)

        world = self.site.world
        node = world.node("Alpha", store=NodeStore(self._path, clock=world.clock, fault=fault))
        faults, self.faults = self.faults, False
        if not node.store.contracts():
            world.agree(node, self.site.contract)
        if node.service.witness.replica.key() is not None:  # it was connected before
            now, world.now = world.now, self.site.hub.now
            greeting = welcome(self.site.hub)
            greeting.welcome.ledger_checkpoint = b""  # the hub of this process begins anew
            node.service.welcome(greeting)
            world.now = now
        self.faults = faults

    @property
    def store(self) -> NodeStore:
        return self.site.node.store

    def steps(self) -> list[Callable[[], object]]:
        """What happens, in order; each may be asked for again."""
        site, hub = self.site, self.site.hub
        policy = Policy(min_cell=7).digest
        told = commitment(bytes(32), policy.encode(), "policy")
        first = hub.update()
        hub.add(*map(person, range(300)), PolicyChanged(member="Alpha", policy=told))
        second = hub.update(first.start + len(first.entries), final=hub.final(site.world.keys, 4))
        fork = hub.forked(4)
        fork.add(person(9))
        false = hub.copy()
        false.add(PolicyChanged(member="Alpha", policy="sha256:" + "9" * 64))
        last = hub.update(hub.size, final=hub.final(site.world.keys))
        request = site.request()
        later = hub.now + timedelta(hours=1)

        def wait() -> object:
            site.world.now = later
            return None

        def omitted() -> object:
            site.node.service.witness.check_omissions()
            return self.open_alarms()

        def prepared() -> object:
            # Its secret and key are new after a crash, and nobody saw the old ones.
            site.node.ask(site.world.prepare(request))
            return site.node.service.witness.replica.overdue(later)

        return [
            lambda: site.node.service.welcome(welcome(hub)),
            lambda: self._ask(as_message(first)),
            lambda: bool(outbox.owe_policy(self.store, policy, random=bytes)),
            lambda: self._ask(as_message(second)),
            lambda: self._ask(as_message(fork.update())),
            lambda: self._accept(1),
            prepared,
            lambda: self._ask(as_message(false.update(305))),
            lambda: self._accept(2),
            lambda: self._ask(as_message(last)),
            wait,
            omitted,
            lambda: self._accept(3, start_over=True),
            lambda: self._ask(as_message(hub.update())),
        ]

    def _ask(self, message: pb.Message) -> object:
        try:
            reply = self.site.node.ask(message).cosignature
        except CohortiumError as error:
            if not error.code.startswith("ledger-"):
                raise
            return error.code
        return reply.size, reply.line

    def _accept(self, number: int, *, start_over: bool = False) -> object:
        try:
            return accept(self.store, number, start_over=start_over).answer
        except ConflictError:
            return alarms.find(self.store, number).answer

    def open_alarms(self) -> list[str]:
        return [alarm.kind for alarm in alarms.alarms(self.store, only_open=True)]

    def state(self) -> list[object]:
        """Everything durable that a witness keeps."""
        replica = self.site.node.service.witness.replica
        journal.check_chain(self.store)
        if replica.checkpoint("seen") is not None:
            ledger_copy.verify(replica)
        checkpoints = [replica.checkpoint(kind) for kind in KINDS]
        ignored = {"proposal", "sign", "activate"}
        decisions = [body for body in self.site.node.decisions() if body["what"] not in ignored]
        return [
            replica.entries(0, 1000),
            [(c.size, c.note) if c else None for c in checkpoints],
            [(a.kind, a.seen, a.received, a.answer) for a in alarms.alarms(self.store)],
            [(body["what"], body.get("alarm"), body["allowed"]) for body in decisions],
            [owed.topic for owed in self.store.owed()],
            self.store.execute("SELECT name, value FROM ledger_state ORDER BY name"),
            self.store.execute("SELECT run_id FROM ledger_due"),
        ]


def live(path: Path, fault: Callable[[Stage], None], *, begin: int = 0) -> Life:
    """The life from a step on; before each one its number is written beside the file."""
    life = Life(path, fault)
    life.faults = True
    for number, step in enumerate(life.steps()):
        if number >= begin or number == WAIT:
            if number != WAIT:
                path.with_suffix(".step").write_text(str(number))
            step()
    return life


def _live_until(path: Path, commit: int, stage: str) -> None:
    left = commit

    def fault(reached: Stage) -> None:
        nonlocal left
        left -= reached == stage
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    live(path, fault)


def main() -> None:
    folder = Path(sys.argv[1])
    for line in sys.stdin:
        commit, stage = line.split()
        child = os.fork()
        if child == 0:
            try:
                _live_until(folder / f"{stage}-{commit}.db", int(commit), stage)
            except BaseException as error:  # noqa: BLE001 - for the test that reads it
                print(repr(error), file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
