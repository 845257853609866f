"""Sessions in which enclaves ask for keys, and the release of keys: once for each run.

What is released is on the disk before it leaves. Whoever asks again, in a session of its own and
judged like the first, gets the same release for the same key, and nothing for another one.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from cohortium.core.canonical import digest_bytes
from cohortium.core.clock import Clock
from cohortium.enclave.exchange import Handed, Keys, Release
from cohortium.errors import ProtocolError, VerificationError
from cohortium.link._generated import link_pb2 as pb
from cohortium.node import journal, task_runs
from cohortium.node.guard import About
from cohortium.node.identity import Identity
from cohortium.node.lending import Lending
from cohortium.node.policy import PolicySource
from cohortium.node.replica import Replica
from cohortium.node.store import NodeStore
from cohortium.node.task_guard import CheckedTask, TaskGuard
from cohortium.node.task_runs import Released

if TYPE_CHECKING:
    from cohortium.enclave.key_release import Releasing, Shown
    from cohortium.node.task_evidence import Grounds

MOST_SESSIONS: Final = 64
MOST_OF_A_RUN: Final = 4
LIFETIME: Final = timedelta(minutes=2)
MOST_DATA_BYTES: Final = 8 * 1024 * 1024
"""What an enclave says in a session: its offer and its evidence."""
MOST_KEPT_BYTES: Final = 8 * 1024 * 1024
"""Of an answer, for the link to bring once more."""
_SESSION: Final = re.compile(r"[0-9a-f]{32}")


@dataclass
class _Open:
    """A session under way.

    Attributes:
        last: The digest of the last bytes that came, and their answer: the link may bring them
            once more.
    """

    envelope: bytes
    releasing: Releasing
    begun: datetime
    about: About
    released: Released | None = None
    last: tuple[bytes, pb.Message] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class KeyRelease:
    """Hands out the keys of what is lent.

    Args:
        lending: What is lent, and what judges who asks for it.
        guard: Says which runs may have it.
        random: Source of nonces.
    """

    def __init__(
        self,
        identity: Identity,
        store: NodeStore,
        *,
        lending: Lending,
        guard: TaskGuard,
        policy: PolicySource,
        clock: Clock,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._identity = identity
        self._store = store
        self._replica = Replica(store)
        self._lending = lending
        self._guard = guard
        self._policy = policy
        self._clock = clock
        self._random = random
        self._lock = threading.Lock()
        self._sessions: OrderedDict[tuple[str, str], _Open] = OrderedDict()

    def asked(self, message: pb.TaskChannel) -> bytes:
        """The researcher's order that a message is about; empty where no session has it."""
        found = self._sessions.get((message.run_id, message.session))
        return found.envelope if found else message.request_envelope

    def forget(self, run_id: str) -> None:
        """The run is over."""
        with self._lock:
            for key in [key for key in self._sessions if key[0] == run_id]:
                del self._sessions[key]

    def answer(self, message: pb.TaskChannel, about: About) -> pb.Message | None:
        """What an enclave gets for its bytes; None where its session is not here (any more).

        Raises:
            CohortiumError: Why no key is released; the session is over.
        """
        key = (message.run_id, message.session)
        session = self._session(message, about)
        if session is None:
            return None
        with session.lock:
            came = hashlib.sha256(message.data).digest()
            if session.last is not None and session.last[0] == came:
                return session.last[1]
            try:
                data = session.releasing.answer(message.data)
            except BaseException:
                about |= session.about
                with self._lock:
                    self._sessions.pop(key, None)
                raise
            if len(data) <= MOST_KEPT_BYTES:
                session.last = came, self._reply(message, data, session.released)
                return session.last[1]
            with self._lock:  # too much to keep: who lost it asks in a new session
                self._sessions.pop(key, None)
            return self._reply(message, data, session.released)

    @staticmethod
    def _reply(message: pb.TaskChannel, data: bytes, made: Released | None) -> pb.Message:
        reply = pb.TaskChannel(
            run_id=message.run_id, site=message.site, session=message.session, data=data
        )
        if made is not None:
            reply.release, reply.offer, reply.evidence = made.release, made.offer, made.evidence
        return pb.Message(task_channel=reply)

    # Sessions

    def _session(self, message: pb.TaskChannel, about: About) -> _Open | None:
        # 1. For this site. 2. One that is known, and not too old. 3. Or a new one, of a run that
        # may have keys.
        if message.site != self._identity.name or not _SESSION.fullmatch(message.session):  # 1
            raise ProtocolError("malformed-message", "That is no session with this site.")
        if len(message.data) > MOST_DATA_BYTES:
            raise ProtocolError("malformed-message", "There is too much for a session.")
        key, now = (message.run_id, message.session), self._clock()
        with self._lock:
            for old in [k for k, s in self._sessions.items() if abs(now - s.begun) > LIFETIME]:
                del self._sessions[old]
            found = self._sessions.get(key)
        if found is not None:  # 2
            return found
        if not message.request_envelope:
            return None
        checked = self._guard.check(message.request_envelope, about)  # 3
        if checked.request.run_id != message.run_id:
            raise ProtocolError("malformed-message", "The order is for another run.")
        made = self._begin(checked, now)
        with self._lock:
            made = self._sessions.setdefault(key, made)
            of_run = [one for one in self._sessions if one[0] == message.run_id]
            for old in of_run[:-MOST_OF_A_RUN]:
                del self._sessions[old]
            while len(self._sessions) > MOST_SESSIONS:
                self._sessions.popitem(last=False)
        return made

    def _begin(self, checked: CheckedTask, now: datetime) -> _Open:
        from cohortium.enclave.key_release import Releasing

        about: About = {}

        def release(shown: Shown) -> Keys:
            keys, session.released = self._release(checked.envelope, shown, about)
            return keys

        releasing = Releasing(
            name=self._identity.name,
            clock=self._clock,
            contract=checked.request.contract_digest,
            random=self._random,
            release=release,
        )
        session = _Open(checked.envelope, releasing, now, about)
        return session

    # The release

    def _release(self, envelope: bytes, shown: Shown, about: About) -> tuple[Keys, Released]:
        # 1. The run may still have keys. 2. Evidence. 3. Released once, to one key. 4. What is
        # lent is here. 5. A last look, and the record, in one transaction.
        checked = self._guard.check(envelope, about)  # 1
        rules = self._policy().tasks
        grounds = self._lending.appraiser(self._identity, self._replica).judge(
            checked, shown, rules, self._clock(), about
        )  # 2
        recipient = f"sha256:{shown.recipient.key_id.hex()}"
        about["recipient"] = recipient
        self._released_before(checked, recipient)  # 3
        inputs = {
            name: self._lending.lent.handed(self._lending.lent.find(digest), shown.recipient)
            for name, digest in checked.lent.items()
        }  # 4
        with self._store.transaction():
            checked = self._guard.check(envelope, about)  # 5
            made = self._released_before(checked, recipient)
            if made is None:
                made = self._sign(checked, shown, grounds, recipient)
                task_runs.record(self._store, self._replica, checked, made)
                journal.append(self._store, "keys", {**about, "artefacts": checked.lent})
        return _keys(made, inputs), made

    def _released_before(self, checked: CheckedTask, recipient: str) -> Released | None:
        made = task_runs.released(self._store, checked.request.run_id)
        if made is not None and made.recipient != recipient:
            raise VerificationError(
                "replayed",
                "The keys of this run were released to another key; submit a new run.",
            )
        return made

    def _sign(
        self, checked: CheckedTask, shown: Shown, grounds: Grounds, recipient: str
    ) -> Released:
        request = checked.request
        release = Release(
            run_id=request.run_id,
            request_digest=request.digest,
            contract_digest=request.contract_digest,
            task=checked.task.name,
            site=self._identity.name,
            artefacts=checked.lent,
            enclave=shown.offer.enclave,
            recipient=recipient,
            offer=digest_bytes(shown.offer_envelope),
            evidence=grounds.evidence_digest,
            attestation_result=grounds.result,
            at=self._clock(),
        )
        return Released(
            run_id=request.run_id,
            recipient=recipient,
            release=release.sign(self._identity.key),
            offer=shown.offer_envelope,
            evidence=grounds.evidence,
        )


def _keys(made: Released, inputs: dict[str, Handed]) -> Keys:
    return Keys(release=b64encode(made.release).decode(), inputs=inputs)
