"""The ledger at the serving hub: facts get their place, members witness it, results are released.

One round of witnesses is under way at a time, so that all members cosign the same checkpoint. What
is noted meanwhile waits for the next round.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection

from cohortium.core.clock import Clock
from cohortium.errors import CohortiumError, IntegrityFailure, VerificationError
from cohortium.hub.ledger_store import BATCH, Appended, LedgerStore, Log, Release, StoredCheckpoint
from cohortium.hub.witnesses import MAX_BYTES, Round, Witnesses, in_thread, log_refusal
from cohortium.ledger.checkpoint import cosigners, open_checkpoint, witness_key
from cohortium.ledger.members import quorum
from cohortium.ledger.note import Note
from cohortium.link.ports import Peers

logger = logging.getLogger(__name__)

LINGER_S: Final = 0.25
"""How long a fact that nobody waits for may wait for others; also how often we look for facts of
other processes."""
ASK_AGAIN_S: Final = 5.0
ANNOUNCE_S: Final = 0.5
"""How long word of finality waits for a next update that it could go with."""
RETRY_S: Final = 1.0
ROUND_S: Final = 5.0
"""How long a round that does not settle holds up the next one."""


class Ledger:
    """Lives on the hub's event loop.

    Args:
        participants: The keys of the participants of a run's contract, by name.
        released: Called when a run's result may be given out, and when more is known of its wait.
        clock: Dates the entries.
    """

    def __init__(
        self,
        store: LedgerStore,
        log: Log,
        *,
        clock: Clock,
        participants: Callable[[str], Mapping[str, str]],
        released: Callable[[str], None],
    ) -> None:
        self.store = store
        self.log = log
        self._clock = clock
        self._participants = participants
        self._released = released
        self._loop: asyncio.AbstractEventLoop | None = None
        self._witnesses: Witnesses | None = None
        self._thread = 0
        self._made: list[Appended] = []
        self._watch = True
        self._round: Round | None = None
        self._final: StoredCheckpoint | None = None
        self._noted = asyncio.Event()
        self._urgent = asyncio.Event()
        self._storing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    # Life

    async def start(self, peers: Peers, *, watch: bool = True) -> None:
        """Serve on the running loop.

        Args:
            watch: Look for facts that other processes note in the database.

        Raises:
            IntegrityFailure: ``broken-store`` where the stored log was signed with another key.
        """
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._watch = watch
        self._witnesses = Witnesses(self.store, self.log, peers, self._clock)
        newest = self.store.newest()
        self._final = self.store.newest_final()
        if newest is not None:
            self._round = self._resumed(newest)
        self._urgent.set()
        self._noted.set()
        self._spawn(self._serve())

    def _resumed(self, stored: StoredCheckpoint) -> Round:
        try:
            checkpoint, note = open_checkpoint(stored.note, self.log.verifier)
        except VerificationError as error:
            raise IntegrityFailure(
                "broken-store",
                "The ledger's newest checkpoint is not signed with this hub's ledger key: "
                "bring back the key file that belongs to this database.",
            ) from error
        keys = self.store.members_at(stored.size)
        resumed = Round(
            stored.size,
            Note(note.text, tuple(note.by(self.log.verifier))).to_bytes(),
            keys,
            stored.size,
            [],
            final=stored.final,
        )
        for site in cosigners(note, checkpoint.origin, keys):
            witness = witness_key(checkpoint.origin, site, keys[site])
            resumed.signed[site] = note.by(witness)[0].line
        resumed.stored = len(resumed.signed)
        return resumed

    async def close(self) -> None:
        """Stop; what is noted stays noted."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def sequence(self, c: Connection) -> Appended | None:
        """Put facts in their place in the transaction that notes an urgent one, in its thread.

        A run's end is stored and on the ledger with one commit. Where that fails, the facts wait
        for the sequencer, as those of the event loop do.
        """
        if self._loop is None or threading.get_ident() == self._thread:
            return None
        try:
            with c.begin_nested():
                return self.store.append_in(c, self.log, self._clock())
        except Exception:
            logger.exception("cannot put facts on the ledger now")
            return None

    def noted(self, urgent: bool, made: Appended | None = None) -> None:
        """Facts were noted, and appended where `made` says so; from any thread."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        with suppress(RuntimeError):  # the loop closed meanwhile
            loop.call_soon_threadsafe(self._wake, urgent, made)

    def _wake(self, urgent: bool, made: Appended | None = None) -> None:
        if made is not None:
            self._made.append(made)
        self._noted.set()
        if urgent:
            self._urgent.set()

    def on_connect(self, site: str) -> None:
        """A node is there: it gets what it misses, and is asked to cosign."""
        if self._witnesses is not None:
            self._witnesses.forget(site)
            if self._round is not None:
                self._ask(site, self._round)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def newest(self) -> bytes:
        """The newest checkpoint as the log signed it; nothing before the first entry."""
        stored = self.store.newest()
        if stored is None:
            return b""
        note = Note.parse(stored.note)
        return Note(note.text, tuple(note.by(self.log.verifier))).to_bytes()

    # The sequencer

    async def _serve(self) -> None:
        while True:
            try:
                await self._due()
                await self._append()
                await self._witness()
            except Exception:
                # It must outlive a database that is away for a moment.
                logger.exception("cannot put facts on the ledger")
                await asyncio.sleep(RETRY_S)
                self._wake(urgent=True)

    async def _due(self) -> None:
        """Wait until facts are due for their place."""
        asked = asyncio.get_running_loop().time()
        while not self._noted.is_set():
            if await _within(LINGER_S, self._noted):
                break
            if self._watch and await in_thread(self.store.pending):
                return
            now = asyncio.get_running_loop().time()
            if now - asked > ASK_AGAIN_S and self._round is not None:
                asked = now
                await self._try_again(self._round)
        await _within(LINGER_S, self._urgent)

    async def _append(self) -> None:
        """Sequence all that waits."""
        self._noted.clear()
        self._urgent.clear()
        before = 0 if self._round is None else self._round.size
        appended, self._made = self._made, []
        made: Round | None
        if len(appended) == 1 and appended[0].start == before and _fits(appended[0]):
            made = _round(appended[0])
        else:
            made = await in_thread(self._sequence, before)
        if made is not None:
            if self._round is not None:
                self._round.superseded = True
            self._round = made

    def _sequence(self, before: int) -> Round | None:
        """Append; the new checkpoint, where there is one that is not that of `before` entries."""
        made = self.store.append(self.log, self._clock())
        if made is not None and made.start == before and _fits(made):
            return _round(made)
        while made is not None:
            made = self.store.append(self.log, self._clock())
        return self._newest_round(before)

    def _newest_round(self, before: int) -> Round | None:
        newest = self.store.newest()
        if newest is None or newest.size == before:
            return None
        entries = self.store.entries(before, newest.size - before, MAX_BYTES)
        complete = before + len(entries) == newest.size
        return Round(
            newest.size,
            newest.note,
            self.store.members_at(newest.size),
            before if complete else newest.size,
            entries if complete else [],
        )

    # The witnesses

    async def _witness(self) -> None:
        """Ask all who are there, and give them time to answer."""
        current = self._round
        if current is None:
            return
        self._ask_all(current)
        if current.asked:
            await _within(ROUND_S, current.settled)
        if not current.satisfied:
            await self._tell_who_waits()

    async def _try_again(self, current: Round) -> None:
        """Ask those who have not signed; and store what could not be stored."""
        if not current.satisfied:
            self._ask_all(current)
            await self._settle(current)

    def _ask_all(self, current: Round) -> None:
        if self._witnesses is not None and not current.satisfied:
            for site in self._witnesses.connected():
                self._ask(site, current)

    def _ask(self, site: str, current: Round) -> None:
        if site in current.signed or site in current.asked or site not in current.keys:
            return
        current.settled.clear()
        current.asked.add(site)

        def done(_: object) -> None:
            current.asked.discard(site)
            if not current.asked:
                current.settled.set()

        self._spawn(self._asked(site, current)).add_done_callback(done)

    async def _tell_who_waits(self) -> None:
        for release in await in_thread(self.store.waiting):
            self._released(release.run_id)

    async def _asked(self, site: str, current: Round) -> None:
        if self._witnesses is None:
            return
        try:
            if await self._witnesses.ask(site, current, self._final):
                await self._settle(current)
                if current.settled.is_set() and not current.satisfied:
                    await self._tell_who_waits()
        except CohortiumError as error:
            log_refusal(site, error)
        except Exception:
            logger.exception("cannot have the ledger witnessed by %s", site)

    async def _settle(self, current: Round) -> None:
        """Store finality and release results, as far as the cosignatures go."""
        async with self._storing:
            try:
                if current.enough(current.keys):
                    await self._make_final(current)
            finally:
                # Also where the write failed: it may have been done all the same.
                for run_id in current.covered:
                    self._released(run_id)
        if current.satisfied:
            current.settled.set()

    async def _make_final(self, current: Round) -> None:
        signed = dict(current.signed)
        ready = await in_thread(self._release, current, signed)
        if ready or not current.final:
            current.stored = len(signed)
            if self._final is None or self._final.size <= current.size:
                self._final = StoredCheckpoint(current.size, current.note_of(signed), True)
        current.final, current.satisfied = True, len(ready) == len(current.covered)
        if not current.announced:
            current.announced = True
            self._spawn(self._announce(current))

    def _release(self, current: Round, signed: Mapping[str, bytes]) -> list[str]:
        """Store that a checkpoint is final; returns the runs that it releases."""
        current.covered = [
            one.run_id
            for one in self.store.waiting()
            if one.position is not None and one.position < current.size
        ]
        ready = [
            run_id
            for run_id in current.covered
            if current.enough(self._participants(run_id), signed)
        ]
        if ready or not current.final:
            note = current.note_of(signed)
            self.store.witnessed(current.size, note, final=True, released=ready)
        return ready

    async def _announce(self, current: Round) -> None:
        """Show the final checkpoint to the nodes, unless the next round does it soon."""
        await asyncio.sleep(ANNOUNCE_S)
        current.announced = False
        try:
            async with self._storing:
                if current.stored < len(current.signed):  # who came later
                    note, current.stored = current.note_of(current.signed), len(current.signed)
                    await in_thread(self._store, current.size, note)
                    if self._final is not None and self._final.size == current.size:
                        self._final = replace(self._final, note=note)
            if self._witnesses is None or self._final is None or self._round is not current:
                return
            for site in sorted(self._witnesses.connected() & current.keys.keys()):
                try:
                    await self._witnesses.tell(site, current, self._final)
                except CohortiumError as error:
                    log_refusal(site, error)
        except Exception:
            logger.exception("cannot announce the ledger's final checkpoint")

    def _store(self, size: int, note: bytes) -> None:
        self.store.witnessed(size, note, final=True)

    # What people see

    def waits_for(self, release: Release) -> str:
        """Who has witnessed the end of a run, and who is missing."""
        current = self._round
        if release.position is None or current is None or current.size <= release.position:
            return "The run's end is being put on the ledger."
        participants = self._participants(release.run_id)
        wanted = {**current.keys, **participants}
        there = sorted(site for site in current.signed if site in wanted)
        missing = sorted(wanted.keys() - current.signed.keys())
        needed = quorum(len(current.keys))
        return (
            f"The result waits for its witnesses: {needed} of {len(current.keys)} members and "
            f"{quorum(len(participants))} of {len(participants)} participants must cosign the "
            f"ledger. Witnessed by {', '.join(there) or 'nobody yet'}; "
            f"missing: {', '.join(missing) or 'nobody'}."
        )


def _fits(made: Appended) -> bool:
    """Whether that was all that waited, and one message can hold it."""
    return len(made.entries) < BATCH and made.n_bytes <= MAX_BYTES


def _round(made: Appended) -> Round:
    return Round(made.size, made.note, made.members, made.start, made.entries)


async def _within(seconds: float, event: asyncio.Event) -> bool:
    """Wait for an event so long; whether it came."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
