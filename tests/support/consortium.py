"""A consortium's TLS files in a folder, and small handlers for the link."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cohortium.core.rounds import State
from cohortium.crypto.authority import Authority, certificate_fingerprint, make_tls_key_and_csr
from cohortium.crypto.files import write_private
from cohortium.link._generated.link_pb2 import (
    Hello,
    Message,
    RoundReply,
    RoundRequest,
    RunEnd,
    Welcome,
)
from cohortium.link.codec import put_state
from cohortium.link.ports import Reply
from cohortium.link.session import PROTOCOL
from cohortium.link.tls import TlsFiles


@dataclass
class Consortium:
    """An authority with the hub's and any nodes' files under `folder`."""

    folder: Path
    authority: Authority

    @classmethod
    def create(cls, folder: Path, name: str = "Test consortium") -> Consortium:
        authority = Authority.create(name, datetime.now(UTC))
        authority.save(folder)
        return cls(folder, authority)

    def _write(self, name: str, key_pem: bytes, certificate_pem: bytes) -> TlsFiles:
        files = TlsFiles(
            self.folder / f"{name}.key", self.folder / f"{name}.pem", self.folder / "ca.pem"
        )
        write_private(files.key, key_pem)
        files.certificate.write_bytes(certificate_pem)
        return files

    def hub(self) -> TlsFiles:
        identity = self.authority.issue_hub(["localhost", "127.0.0.1"], datetime.now(UTC))
        return self._write("hub", identity.key_pem, identity.certificate_pem)

    def node(self, site: str) -> TlsFiles:
        key_pem, csr_pem = make_tls_key_and_csr(site)
        pem = self.authority.issue_node(csr_pem, site, f"node-{site}", datetime.now(UTC))
        return self._write(site, key_pem, pem)


class Members:
    """Which certificate is which site's: the hub's `authorise`."""

    def __init__(self) -> None:
        self.by_fingerprint: dict[str, str] = {}
        self.suspended: set[str] = set()
        self.asked = 0

    def add(self, site: str, tls: TlsFiles) -> None:
        self.by_fingerprint[certificate_fingerprint(tls.certificate.read_bytes())] = site

    def __call__(self, certificate_pem: bytes) -> str | None:
        self.asked += 1
        site = self.by_fingerprint.get(certificate_fingerprint(certificate_pem))
        return None if site in self.suspended else site


class Answers:
    """A handler made of a function; remembers what it was asked."""

    def __init__(self, respond: Callable[[Message], Awaitable[Reply]] | None = None) -> None:
        self.respond = respond
        self.seen: list[str] = []

    async def handle(self, message: Message) -> Reply:
        self.seen.append(str(message.WhichOneof("body")))
        if message.WhichOneof("body") == "hello":
            return Message(welcome=Welcome(consortium="Test consortium"))
        if self.respond is not None:
            return await self.respond(message)
        return echo(message)


def echo(message: Message) -> Message:
    """A round reply with the request's first array, or its run id, as the masked bytes."""
    if message.WhichOneof("body") == "round_request":
        request = message.round_request
        data = request.state_arrays[0].data if request.state_arrays else request.state_json
        return Message(round_reply=RoundReply(run_id=request.run_id, masked=data))
    return Message(run_end=RunEnd(run_id="echo"))


def hello() -> Message:
    return Message(hello=Hello(protocol=PROTOCOL, software="test"))


def round_request(state: State | None = None, run_id: str = "0" * 32) -> Message:
    request = RoundRequest(run_id=run_id)
    put_state(state or State(), request)
    return Message(round_request=request)


def own_part(active: bytes) -> Message:
    """What one site's round request has beside the part for all."""
    return Message(round_request=RoundRequest(active=active))
