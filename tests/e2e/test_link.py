"""The link over real mutual TLS on loopback: who gets in, what survives, what is cut."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from tests.support.consortium import (
    Answers,
    Consortium,
    Members,
    hello,
    own_part,
    round_request,
)
from tests.support.wire import Relay, until

from cohortium.core.rounds import State
from cohortium.crypto.authority import make_tls_key_and_csr
from cohortium.errors import InputError, PeerError, PolicyRefusal, ProtocolError
from cohortium.link._generated.link_pb2 import Hello, Message, RunEnd, Statement
from cohortium.link.client import Backoff, LinkClient
from cohortium.link.codec import error_message, round_reply
from cohortium.link.ports import Addressed, Reply
from cohortium.link.server import LinkServer
from cohortium.link.tls import METHOD, SERVICE, Keepalive, TlsFiles

QUICK = Backoff(base_s=0.05, cap_s=0.2)


class Hub:
    """A running link server and what it saw."""

    def __init__(self, consortium: Consortium) -> None:
        self.consortium = consortium
        self.members = Members()
        self.handler = Answers()
        self.events: list[str] = []
        self.port = 0
        self.server = self._make()

    def _make(self, **options: int) -> LinkServer:
        return LinkServer(
            authorise=self.members,
            handler_for=lambda _site: self.handler,
            on_connect=lambda site: self.events.append(f"+{site}"),
            on_disconnect=lambda site: self.events.append(f"-{site}"),
            keepalive=Keepalive(1.0, 1.0),
            **options,
        )

    async def start(self) -> None:
        self.port = await self.server.start("127.0.0.1", self.port, self.consortium.hub())

    async def restart(self) -> None:
        await self.server.stop()
        self.server = self._make()
        await self.start()

    def member(self, site: str) -> TlsFiles:
        tls = self.consortium.node(site)
        self.members.add(site, tls)
        return tls

    def client(
        self,
        tls: TlsFiles,
        respond: Callable[[Message], Awaitable[Reply]] | None = None,
        *,
        port: int | None = None,
        proxy: str | None = None,
        make_hello: Callable[[], Message] = hello,
        backoff: Backoff = QUICK,
        on_welcome: Callable[[Message], Awaitable[None]] | None = None,
    ) -> LinkClient:
        async def nothing(_message: Message) -> None:
            return

        return LinkClient(
            target=f"127.0.0.1:{port or self.port}",
            tls=tls,
            handler=Answers(respond),
            hello=make_hello,
            on_welcome=on_welcome or nothing,
            proxy=proxy,
            keepalive=Keepalive(1.0, 1.0),
            backoff=backoff,
        )


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    hub = Hub(Consortium.create(tmp_path))
    await hub.start()
    yield hub
    await hub.server.stop()


@asynccontextmanager
async def running(*clients: LinkClient) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(client.run()) for client in clients]
    try:
        yield
    finally:
        for client in clients:
            await client.close()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _refused(hub: Hub, client: LinkClient) -> str:
    async with running(client):
        await until(lambda: client.last_error is not None)
        assert not client.connected
        assert hub.server.connected() == frozenset()
    return str(client.last_error)


# Who gets in


async def test_both_sides_ask_and_answer(hub: Hub) -> None:
    welcomes: list[str] = []

    async def on_welcome(message: Message) -> None:
        welcomes.append(message.welcome.consortium)

    client = hub.client(hub.member("A"), on_welcome=on_welcome)
    async with running(client):
        request = round_request(State({"x": 1}, {"beta": np.arange(3.0)}), run_id="a" * 32)
        reply = await hub.server.request("A", request, 5)
        assert reply.round_reply.run_id == "a" * 32
        assert np.array_equal(np.frombuffer(reply.round_reply.masked), np.arange(3.0))
        answer = await client.request(Message(statement=Statement(envelope=b"v")), 5)
        assert answer.WhichOneof("body") == "run_end"
        assert hub.handler.seen == ["hello", "statement"]
        assert welcomes == ["Test consortium"]
        assert hub.server.connected() == {"A"}
        assert client.connected
    await until(lambda: hub.server.connected() == frozenset())
    assert hub.events == ["+A", "-A"]


async def test_certificate_of_another_consortium_is_refused(hub: Hub, tmp_path: Path) -> None:
    other = Consortium.create(tmp_path / "other")
    foreign = replace(other.node("A"), ca=tmp_path / "ca.pem")
    await _refused(hub, hub.client(foreign))
    assert hub.members.asked == 0  # the handshake failed; nobody was asked


async def test_hub_of_another_consortium_is_refused(hub: Hub, tmp_path: Path) -> None:
    other = Consortium.create(tmp_path / "other")
    await _refused(hub, hub.client(replace(hub.member("A"), ca=other.folder / "ca.pem")))
    assert hub.members.asked == 0


async def test_node_certificate_does_not_serve_as_the_hubs(hub: Hub) -> None:
    posing = LinkServer(authorise=hub.members, handler_for=lambda _site: hub.handler)
    port = await posing.start("127.0.0.1", 0, hub.consortium.node("mallory"))
    try:
        await _refused(hub, hub.client(hub.member("A"), port=port))
    finally:
        await posing.stop()
    assert hub.handler.seen == []


async def test_hub_under_another_name_is_refused(hub: Hub) -> None:
    identity = hub.consortium.authority.issue_hub(["elsewhere.example"], datetime.now(UTC))
    files = hub.consortium._write("elsewhere", identity.key_pem, identity.certificate_pem)
    elsewhere = LinkServer(authorise=hub.members, handler_for=lambda _site: hub.handler)
    port = await elsewhere.start("127.0.0.1", 0, files)
    try:
        await _refused(hub, hub.client(hub.member("A"), port=port))
    finally:
        await elsewhere.stop()


async def test_no_certificate_is_refused(hub: Hub, tmp_path: Path) -> None:
    credentials = grpc.ssl_channel_credentials((tmp_path / "ca.pem").read_bytes())
    async with grpc.aio.secure_channel(f"127.0.0.1:{hub.port}", credentials) as channel:
        call = channel.stream_stream(f"/{SERVICE}/{METHOD}")()
        with pytest.raises(grpc.RpcError):
            await call.read()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{hub.port}") as channel:
        call = channel.stream_stream(f"/{SERVICE}/{METHOD}")()
        with pytest.raises(grpc.RpcError):
            await call.read()
    assert hub.members.asked == 0


async def test_certificate_that_the_hub_does_not_know_is_refused(hub: Hub) -> None:
    client = hub.client(hub.consortium.node("stranger"), backoff=Backoff(base_s=0.02, cap_s=0.05))
    async with running(client):  # gRPC may lose the status of a call that was refused at once
        await until(lambda: "not a member in good standing" in str(client.last_error))
        assert not client.connected
    assert hub.handler.seen == []


async def test_other_protocol_version_is_told_so(hub: Hub) -> None:
    client = hub.client(
        hub.member("A"), make_hello=lambda: Message(hello=Hello(protocol="cohortium-link/9"))
    )
    assert "This hub speaks cohortium-link/1" in await _refused(hub, client)
    assert hub.handler.seen == []


async def test_hub_that_refuses_the_hello(hub: Hub) -> None:
    async def never(_message: Message) -> Message:
        raise AssertionError

    class Refusing(Answers):
        async def handle(self, message: Message) -> Message:
            raise PolicyRefusal("not-authorised", "Your certificate was replaced.")

    hub.handler = Refusing()
    assert "certificate was replaced" in await _refused(hub, hub.client(hub.member("A"), never))


@pytest.mark.parametrize(("version", "accepted"), [("-tls1_2", False), ("-tls1_3", True)])
async def test_only_tls13(hub: Hub, tmp_path: Path, version: str, accepted: bool) -> None:
    tls = hub.member("A")
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", version, "-connect", f"127.0.0.1:{hub.port}", "-alpn", "h2"),
        *("-cert", tls.certificate, "-key", tls.key, "-CAfile", tls.ca, "-verify_return_error"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode(errors="replace")
    assert ("Cipher is TLS_" in output) is accepted
    assert ("Cipher is (NONE)" in output) is not accepted


async def _read_or_none(call: Any) -> object:
    try:
        return await call.read()
    except grpc.RpcError:
        return None


# What is cut


async def test_cut_ends_a_suspended_members_link_at_once(hub: Hub) -> None:
    delays: list[int] = []

    class Counting(Backoff):
        def delay_s(self, failures: int) -> float:
            delays.append(failures)
            return 0.02 * failures

    started = asyncio.Event()

    async def slow(_message: Message) -> Message:
        started.set()
        await asyncio.sleep(60)
        raise AssertionError

    client = hub.client(hub.member("A"), slow, backoff=Counting())
    async with running(client):
        await until(lambda: client.connected)
        request = asyncio.create_task(hub.server.request("A", round_request(), 60))
        await started.wait()
        hub.members.suspended.add("A")
        begun = time.monotonic()
        hub.server.cut("A")
        hub.server.cut("unknown")
        with pytest.raises(PeerError, match="cut by the hub") as caught:
            await request
        assert caught.value.code == "peer-unreachable"
        await until(lambda: not client.connected)
        assert time.monotonic() - begun < 1.0
        assert hub.server.connected() == frozenset()
        await until(lambda: len(delays) >= 4)
        assert "not a member in good standing" in str(client.last_error)
        assert delays[:4] == [1, 2, 3, 4]
        hub.members.suspended.clear()
        await until(lambda: client.connected)


async def test_a_member_suspended_during_its_hello_is_not_let_in(hub: Hub) -> None:
    """It has no link yet that the suspension could cut."""

    class Suspends(Answers):
        async def handle(self, message: Message) -> Reply:
            hub.members.suspended.add("A")
            hub.server.cut("A")
            return await super().handle(message)

    hub.handler = Suspends()
    client = hub.client(hub.member("A"), backoff=Backoff(base_s=0.02, cap_s=0.05))
    async with running(client):
        await until(lambda: "not a member in good standing" in str(client.last_error))
    assert hub.events == []


async def test_newest_link_of_a_member_counts(hub: Hub) -> None:
    tls = hub.member("A")
    never = Backoff(base_s=1000.0, cap_s=1000.0, random=lambda: 1.0)
    first, second = hub.client(tls, backoff=never), hub.client(tls, backoff=never)
    async with running(first):
        await until(lambda: first.connected)
        async with running(second):
            await until(lambda: second.connected and not first.connected)
            await hub.server.request("A", round_request(), 5)
            assert hub.events == ["+A", "+A"]


@pytest.mark.parametrize(
    "garbage",
    [b"\xff" * 100, b"", b"\x08\x01\x10\x01\x1a\x04\xff\xff\xff\xff", b"\x08\x01\x1a\x01a"],
    ids=["junk", "empty", "not-a-message", "short-frame"],
)
async def test_peer_that_sends_garbage_is_dropped_alone(hub: Hub, garbage: bytes) -> None:
    good = hub.client(hub.member("good"))
    tls = hub.member("bad")
    key, certificate, ca = tls.read()
    async with running(good):
        await until(lambda: good.connected)
        credentials = grpc.ssl_channel_credentials(ca, key, certificate)
        async with grpc.aio.secure_channel(f"127.0.0.1:{hub.port}", credentials) as channel:
            for polite in (False, True):
                call = channel.stream_stream(f"/{SERVICE}/{METHOD}")()
                if polite:
                    greeting = Message(id=1)
                    greeting.MergeFrom(hello())
                    data = greeting.SerializeToString()
                    await call.write(b"\x08\x01\x10\x01\x1a" + bytes([len(data)]) + data)
                    assert isinstance(await call.read(), bytes)
                    await until(lambda: hub.server.connected() == {"good", "bad"})
                await call.write(garbage)
                assert not isinstance(await _read_or_none(call), bytes)
                assert await call.code() is not grpc.StatusCode.OK
        await until(lambda: hub.server.connected() == {"good"})
        await hub.server.request("good", round_request(), 5)


@pytest.mark.parametrize("first", ["junk", "unasked"])
async def test_hub_that_does_not_keep_to_the_protocol_is_left(hub: Hub, first: str) -> None:
    unasked = Message(id=9, run_end=RunEnd()).SerializeToString()
    frame = (
        b"junk" if first == "junk" else b"\x08\x09\x10\x01\x1a" + bytes([len(unasked)]) + unasked
    )

    class Rogue(LinkServer):
        async def _connect(self, _frames: object, context: Any) -> None:
            await context.read()
            await context.write(frame)
            await context.read()

    rogue = Rogue(authorise=hub.members, handler_for=lambda _site: hub.handler)
    port = await rogue.start("127.0.0.1", 0, hub.consortium.hub())
    client = hub.client(hub.member("A"), port=port)
    try:
        error = await _refused(hub, client)
    finally:
        await rogue.stop()
    assert "malformed" in error if first == "junk" else "before it answered" in error


# What survives


async def test_a_large_request_is_encoded_once_and_each_site_gets_its_own_part(hub: Hub) -> None:
    asked: dict[str, Message] = {}

    def keep(site: str) -> Callable[[Message], Awaitable[Reply]]:
        async def answer(message: Message) -> Message:
            asked[site] = message
            return Message(run_end=RunEnd())

        return answer

    clients = [hub.client(hub.member(site), keep(site)) for site in ("A", "B")]
    common = round_request(run_id="a" * 32)
    common.round_request.state_arrays.add(name="model", dtype="|u1", data=bytes(3_000_000))
    async with running(*clients):
        await until(lambda: len(hub.server.connected()) == 2)
        parts = {"A": b"\x01", "B": b"\x02"}
        await asyncio.gather(
            *(
                hub.server.request(site, Addressed(common, own_part(part)), 10)
                for site, part in parts.items()
            )
        )
    for site, part in parts.items():
        assert asked[site].round_request.active == part
        assert asked[site].round_request.state_arrays == common.round_request.state_arrays


async def test_request_waits_for_a_site_that_is_away(hub: Hub) -> None:
    client = hub.client(hub.member("A"))
    request = asyncio.create_task(hub.server.request("A", round_request(), 10))
    await asyncio.sleep(0.1)
    assert not request.done()
    async with running(client):
        await request


async def test_request_to_a_site_that_stays_away(hub: Hub) -> None:
    with pytest.raises(PeerError, match=r"within 0\.1 seconds") as caught:
        await hub.server.request("nobody", round_request(), 0.1)
    assert caught.value.code == "peer-unreachable"


async def test_site_that_does_not_answer_in_time(hub: Hub) -> None:
    async def slow(_message: Message) -> Message:
        await asyncio.sleep(60)
        raise AssertionError

    async with running(hub.client(hub.member("A"), slow)):
        await until(lambda: "A" in hub.server.connected())
        with pytest.raises(PeerError) as caught:
            await hub.server.request("A", round_request(), 0.1)
        assert caught.value.code == "peer-timeout"


async def test_errors_travel(hub: Hub) -> None:
    async def refuse(message: Message) -> Message:
        if message.WhichOneof("body") == "run_end":
            raise ValueError("patient 4711 has an odd value")
        return error_message(PolicyRefusal("run-limit", "Used up.", limit=3))

    async with running(hub.client(hub.member("A"), refuse)):
        with pytest.raises(PolicyRefusal, match="Used up") as caught:
            await hub.server.request("A", round_request(), 5)
        assert caught.value.details == {"limit": 3}
        with pytest.raises(PeerError) as failed:
            await hub.server.request("A", Message(run_end=RunEnd()), 5)
        assert failed.value.code == "peer-failed"
        assert "4711" not in str(failed.value)


async def test_broken_link_resends_and_does_not_compute_twice(hub: Hub) -> None:
    calls = 0
    release = asyncio.Event()

    async def respond(message: Message) -> Reply:
        nonlocal calls
        calls += 1
        await release.wait()
        return round_reply(message.round_request.run_id, 1, b"sum")

    async with Relay.running(hub.port) as relay:
        client = hub.client(hub.member("A"), respond, port=relay.port)
        async with running(client):
            request = asyncio.create_task(hub.server.request("A", round_request(), 20))
            await until(lambda: calls == 1)
            relay.break_all()
            await until(lambda: not client.connected)
            await until(lambda: client.connected)
            release.set()
            assert (await request).round_reply.masked == b"sum"
            assert calls == 1
            assert relay.accepted >= 2


async def test_nodes_request_survives_a_restart_of_the_hub(hub: Hub) -> None:
    release = asyncio.Event()

    async def never(_message: Message) -> Message:
        await release.wait()
        return Message(run_end=RunEnd())

    hub.handler = Answers(never)
    client = hub.client(hub.member("A"))
    async with running(client):
        vote = asyncio.create_task(client.request(Message(statement=Statement()), 20))
        await until(lambda: "statement" in hub.handler.seen)
        hub.handler = Answers()
        await hub.restart()
        assert (await vote).WhichOneof("body") == "run_end"
        assert hub.handler.seen == ["hello", "statement"]


async def test_keepalive_finds_a_dead_link_on_both_sides(hub: Hub) -> None:
    async with Relay.running(hub.port) as relay:
        client = hub.client(hub.member("A"), port=relay.port)
        async with running(client):
            await until(lambda: client.connected)
            await asyncio.sleep(2.5)  # pings alone keep it
            assert client.connected
            assert relay.accepted == 1
            relay.freeze()
            await until(lambda: not client.connected, 8)
            await until(lambda: hub.server.connected() == frozenset(), 8)
            relay.thaw()
            relay.break_all()
            await until(lambda: client.connected, 20)


async def test_eighty_megabytes_both_ways_and_small_ones_between(hub: Hub) -> None:
    sent = os.urandom(80_000_000)

    async def respond(message: Message) -> Reply:
        request = message.round_request
        data = request.state_arrays[0].data if request.state_arrays else b"small"
        return round_reply(request.run_id, 1, data)

    async with running(hub.client(hub.member("A"), respond)):
        state = State({}, {"w": np.frombuffer(sent, dtype="<f4")})
        large = asyncio.create_task(hub.server.request("A", round_request(state), 60))
        await asyncio.sleep(0)
        small = await hub.server.request("A", round_request(), 60)
        assert small.round_reply.masked == b"small"
        assert (await large).round_reply.masked == sent


async def test_message_larger_than_the_limit_ends_the_link(hub: Hub) -> None:
    await hub.server.stop()
    hub.server = hub._make(max_message_bytes=3_000_000)
    await hub.start()

    async def respond(message: Message) -> Reply:
        return round_reply("", 1, bytes(5_000_000))

    async with running(hub.client(hub.member("A"), respond)):
        with pytest.raises(ProtocolError, match="too large"):
            await hub.server.request("A", round_request(), 2)


async def test_hub_certificate_is_rotated_without_restart(hub: Hub) -> None:
    tls = hub.member("A")
    first = hub.client(tls)
    async with running(first):
        await until(lambda: first.connected)
        before = (hub.consortium.folder / "hub.pem").read_bytes()
        files = hub.consortium.hub()
        assert files.certificate.read_bytes() != before
        _, writer = await asyncio.open_connection("127.0.0.1", hub.port)
        writer.close()
        await writer.wait_closed()
        await until(lambda: first.connected)
    async with running(second := hub.client(tls)):
        await until(lambda: second.connected)
        served = await asyncio.to_thread(_served_certificate, hub.port, tls)
        assert served == files.certificate.read_bytes()


def _served_certificate(port: int, tls: TlsFiles) -> bytes:
    import socket
    import ssl

    context = ssl.create_default_context(cafile=str(tls.ca))
    context.load_cert_chain(tls.certificate, tls.key)
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port)) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as wrapped,
    ):
        der = wrapped.getpeercert(binary_form=True)
    return ssl.DER_cert_to_PEM_cert(der or b"").encode()


async def test_node_certificate_is_rotated_without_restart(hub: Hub) -> None:
    tls = hub.member("A")
    async with Relay.running(hub.port) as relay:
        client = hub.client(tls, port=relay.port)
        async with running(client):
            await until(lambda: client.connected)
            key_pem, csr_pem = make_tls_key_and_csr("A")
            pem = hub.consortium.authority.issue_node(csr_pem, "A", "node-A", datetime.now(UTC))
            hub.members.by_fingerprint.clear()
            hub.members.add("A", hub.consortium._write("A", key_pem, pem))
            relay.break_all()
            await until(lambda: not client.connected)
            await until(lambda: client.connected)


async def test_missing_key_is_reported_and_port_in_use(hub: Hub) -> None:
    tls = hub.member("A")
    tls.key.unlink()
    assert "Cannot read the key file" in await _refused(hub, hub.client(tls))
    second = LinkServer(authorise=hub.members, handler_for=lambda _site: hub.handler)
    with pytest.raises(InputError, match="is it taken"):
        await second.start("127.0.0.1", hub.port, hub.consortium.hub())
    await second.stop()


# Through a proxy


@asynccontextmanager
async def connect_proxy(folder: Path, *options: str) -> AsyncIterator[int]:
    port_file = folder / "proxy.port"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "--hostname", "127.0.0.1", "--port", "0"),
        *("--port-file", str(port_file), "--num-workers", "1", "--num-acceptors", "1", *options),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await until(lambda: port_file.exists() and port_file.read_text().strip() != "", 20)
        yield int(port_file.read_text().split()[0])
    finally:
        process.terminate()
        await process.wait()


async def test_through_a_connect_proxy(hub: Hub, tmp_path: Path) -> None:
    async with connect_proxy(tmp_path) as proxy_port:
        client = hub.client(hub.member("A"), proxy=f"127.0.0.1:{proxy_port}")
        async with running(client):
            await hub.server.request("A", round_request(), 10)
            assert client.connected
    await until(lambda: not hub.server.connected())


async def test_proxy_with_a_password(hub: Hub, tmp_path: Path) -> None:
    async with connect_proxy(tmp_path, "--basic-auth", "node:secret") as proxy_port:
        await _refused(hub, hub.client(hub.member("A"), proxy=f"127.0.0.1:{proxy_port}"))
        client = hub.client(hub.member("A"), proxy=f"node:secret@127.0.0.1:{proxy_port}")
        async with running(client):
            await hub.server.request("A", round_request(), 10)


async def test_proxy_that_is_not_there(hub: Hub) -> None:
    await _refused(hub, hub.client(hub.member("A"), proxy="127.0.0.1:1"))
    assert hub.members.asked == 0


async def test_proxy_of_the_environment_is_not_used(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    client = hub.client(hub.member("A"))
    async with running(client):
        await until(lambda: client.connected)
