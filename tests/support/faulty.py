"""``python -m tests.support.faulty ARGUMENTS``: the command line, with `Faults` at exact moments.

The production code has no hooks: here its methods are wrapped before the command line starts.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.faults import VARIABLE, Faults

from cohortium.cli.main import main
from cohortium.errors import CohortiumError
from cohortium.link._generated.link_pb2 import Message
from cohortium.link.ports import Addressed, LargeReply, Reply, Request
from cohortium.link.session import Session

if TYPE_CHECKING:  # a process imports its own side only
    from cohortium.core.rounds import Total
    from cohortium.hub.exchange import Answer, Exchange
    from cohortium.hub.secure_sum import SecureSum
    from cohortium.link.server import LinkServer
    from cohortium.node.service import NodeService
    from cohortium.node.witness import Turn

LONGEST_PAUSE_S = 1.0
"""Between two dials of a node: tests let the hub die more often than life does."""
ROOT = Path(os.environ[VARIABLE])
STEPS = frozenset({"share_request", "round_request", "consistency_request", "unmask_request"})
ANSWERS = {
    "share_reply": "share_request",
    "round_reply": "round_request",
    "survivor_signature": "consistency_request",
    "unmasking": "unmask_request",
}


def _about(message: Message) -> tuple[str, int, str] | None:
    """(kind, round, run) of a message of the secure sum."""
    kind = message.WhichOneof("body")
    if kind not in STEPS and kind not in ANSWERS:
        return None
    body = getattr(message, kind)
    return kind, body.round, body.run_id


# At a site


def _at_node() -> None:
    from cohortium.link.client import Backoff
    from cohortium.node.service import NodeService

    answer, reply_to, delay_s = NodeService._answer, Session.reply, Backoff.delay_s
    faults: list[Faults] = []

    def answer_at(self: NodeService, message: Message, turn: Turn) -> Reply:
        faults[:] = [Faults.of(ROOT, self.identity.name)]
        about = _about(message)
        if about is None:
            return answer(self, message, turn)
        kind, number, run_id = about
        faults[0].reach(f"before {kind}", number, run_id)
        reply = answer(self, message, turn)
        faults[0].reach(f"after {kind}", number, run_id)
        return reply

    async def reply_at(self: Session, reply: Reply, number: int) -> None:
        await reply_to(self, reply, number)
        about = _about(reply.message() if isinstance(reply, LargeReply) else reply)
        if about is not None:
            faults[0].reach(f"sent {ANSWERS[about[0]]}", *about[1:])

    service: Any = NodeService
    session: Any = Session
    backoff: Any = Backoff
    service._answer, session.reply = answer_at, reply_at
    backoff.delay_s = lambda self, failures: min(delay_s(self, failures), LONGEST_PAUSE_S)


# At the hub


def _at_hub() -> None:
    faults = Faults.of(ROOT, "hub")
    _kill_at_hub(faults)
    _disorder_at_hub(faults)


def _kill_at_hub(faults: Faults) -> None:
    from cohortium.hub.exchange import Exchange
    from cohortium.hub.secure_sum import SecureSum

    send, get, total = Exchange.send, Exchange.next, SecureSum.sum

    def send_at(self: Exchange, step: str, messages: Mapping[str, Request]) -> None:
        for message in list(messages.values())[:1]:
            _, number, run_id = _about(_head(message)) or ("", 0, "")
            faults.reach(f"send {step}", number, run_id)
        send(self, step, messages)

    def next_at(self: Exchange, until: float) -> Answer | None:
        found = _reversed(self, until) if faults.armed("reverse") else get(self, until)
        if found is not None and not isinstance(found[2], CohortiumError):
            _, number, run_id = _about(found[2]) or ("", 0, "")
            faults.reach(f"got {found[0]}", number, run_id)
        return found

    def _reversed(self: Exchange, until: float) -> Answer | None:
        """All sites' answers to a step, the last first."""
        if not (kept := self.__dict__.setdefault("kept", [])):
            for _ in range(int(os.environ["FAULTS_SITES"])):
                found = get(self, until)
                if found is None:
                    break
                kept.append(found)
        return kept.pop() if kept else None

    def sum_at(self: SecureSum, number: int, *arguments: Any) -> Total:
        result = total(self, number, *arguments)
        faults.reach("summed", number, self._run_id)
        return result

    exchange: Any = Exchange
    secure_sum: Any = SecureSum
    exchange.send, exchange.next, secure_sum.sum = send_at, next_at, sum_at


def _disorder_at_hub(faults: Faults) -> None:
    from cohortium.link.server import LinkServer

    ask, send_request = LinkServer.request, Session._send_request
    late: dict[str, asyncio.Event] = {}

    async def request_at(
        self: LinkServer, site: str, message: Request, timeout_s: float
    ) -> Message:
        about = _about(_head(message))
        if about is None:
            return await ask(self, site, message, timeout_s)
        kind, number, run_id = about
        if faults.armed("twice"):
            return await _twice(self, site, message, timeout_s, run_id)
        if faults.armed(f"late {site} {kind} {number}"):
            faults.disarm(f"late {site} {kind} {number}")
            late[f"{kind} {number + 1}"] = arrived = asyncio.Event()
            # The run gives the question up; the network does not.
            held = asyncio.ensure_future(_late(self, site, message, timeout_s, arrived))
            return await asyncio.shield(held)
        reply = await ask(self, site, message, timeout_s)
        if (waited := late.pop(f"{kind} {number}", None)) is not None:
            waited.set()
        return reply

    async def _late(
        self: LinkServer, site: str, message: Request, timeout_s: float, arrived: asyncio.Event
    ) -> Message:
        _, number, run_id = _about(_head(message)) or ("", 0, "")
        await arrived.wait()
        try:
            return await ask(self, site, message, timeout_s)
        except CohortiumError as error:
            faults.note(f"late {error.code} {number}", run_id)
            raise

    async def _twice(
        self: LinkServer, site: str, message: Request, timeout_s: float, run_id: str
    ) -> Message:
        replies = await asyncio.gather(
            ask(self, site, message, timeout_s), ask(self, site, message, timeout_s)
        )
        first, second = (_body(reply) for reply in replies)
        faults.note("same" if first == second else "different", run_id)
        return replies[0]

    async def send_at(self: Session, *arguments: Any) -> None:
        await send_request(self, *arguments)
        if faults.armed("twice"):
            await send_request(self, *arguments)

    server: Any = LinkServer
    session: Any = Session
    server.request, session._send_request = request_at, send_at


def _head(message: Request) -> Message:
    return message.common if isinstance(message, Addressed) else message


def _body(reply: Message) -> bytes:
    copy = Message()
    copy.CopyFrom(reply)
    copy.ClearField("id")
    copy.ClearField("in_reply_to")
    return copy.SerializeToString(deterministic=True)


if __name__ == "__main__":
    import sys

    if sys.argv[1] == "hub":
        _at_hub()
    else:
        _at_node()
    main()
