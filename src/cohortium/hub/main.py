"""The hub's process: REST (uvicorn), the link (gRPC) and durable runs (DBOS) on one event loop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import uvicorn

# First: it limits gRPC to TLS 1.3, which must be said before gRPC is imported.
from cohortium.link.server import LinkServer  # isort: skip
from cohortium.core.rest import ConsortiumInfo
from cohortium.errors import InputError
from cohortium.hub.api import build_app
from cohortium.hub.dbos_runner import DbosRunner
from cohortium.hub.folder import HubFolder
from cohortium.hub.objects import ObjectFolder
from cohortium.hub.service import Hub
from cohortium.link.tls import TlsFiles

logger = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 0.0005


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepting = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say when requests are accepted."""
        await super().startup(sockets)
        self.accepting.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `serve`, which has more than REST to stop."""
        yield


def serve(path: Path, on_ready: Callable[[dict[str, Any]], None] = lambda _address: None) -> None:
    """Serve until SIGTERM or SIGINT; does not return.

    Args:
        on_ready: Receives the addresses when REST and link accept connections.

    Raises:
        CohortiumError: Where it cannot start.
    """
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # A run's thread and the event loop hand over to each other several times a round.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    folder = HubFolder(path)
    folder.config()
    with folder.serving():
        folder.renew_certificate()
        asyncio.run(_serve(folder, on_ready))
        logging.shutdown()
        # Threads of open runs still wait for their sites. To them this is a crash like any other:
        # the next start goes on with their runs.
        os._exit(0)


async def _serve(folder: HubFolder, on_ready: Callable[[dict[str, Any]], None]) -> None:
    config, authority, earlier = folder.config(), folder.load_authority(), folder.address()
    runner = DbosRunner(folder.workflow_url(), ObjectFolder(folder.objects))
    store = folder.store()
    hub = Hub(
        store,
        consortium=ConsortiumInfo(
            name=config.name,
            fingerprint=authority.fingerprint,
            ca_pem=authority.certificate_pem.decode(),
            link_address="",
        ),
        runner=runner,
        authority=authority,
        config=config,
        ledger_key=folder.ledger_key(store),
        earlier_keys=folder.ledger_keys()[:-1],
        folder=folder.tasks,
    )

    def on_connect(site: str) -> None:
        folder.write_connected(link.connected())
        hub.on_connect(site)

    link = LinkServer(
        authorise=hub.members.authorise,
        handler_for=hub.handler_for,
        on_connect=on_connect,
        on_disconnect=lambda _site: folder.write_connected(link.connected()),
    )
    tls = TlsFiles(folder.tls_key, folder.tls_certificate, folder.authority / "ca.pem")
    rest_socket = _listen(config.host, config.rest_port, earlier.get("rest_port"))
    link_port = await _start_link(
        link, config.host, config.link_port, earlier.get("link_port"), tls
    )
    address = folder.write_address(rest_socket.getsockname()[1], link_port)
    hub.consortium = hub.consortium.model_copy(update={"link_address": address["link"]})
    await hub.start(link)
    rest = _rest(hub, folder)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, setattr, rest, "should_exit", True)
    serving = asyncio.create_task(rest.serve(sockets=[rest_socket]))
    accepting = asyncio.create_task(rest.accepting.wait())
    await asyncio.wait({serving, accepting}, return_when=asyncio.FIRST_COMPLETED)
    accepting.cancel()
    if rest.started:
        logger.info("serving %s: REST %s, link %s", config.name, address["rest"], address["link"])
        on_ready(address)
    await serving
    await hub.stop()
    await link.stop()
    await asyncio.to_thread(runner.close)


def _rest(hub: Hub, folder: HubFolder) -> _Server:
    settings = uvicorn.Config(
        build_app(hub),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
        ssl_keyfile=folder.tls_key,
        ssl_certfile=folder.tls_certificate,
    )
    settings.load()
    if settings.ssl is None:
        raise InputError("bad-config", "REST has no TLS.")
    settings.ssl.minimum_version = ssl.TLSVersion.TLSv1_3
    return _Server(settings)


def _listen(host: str, port: int, earlier: int | None) -> socket.socket:
    """A listening socket: on `port`, or where that is 0 on the earlier one while it is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in [port] if port else [earlier or 0, 0]:
        # With the protocol named asyncio sets TCP_NODELAY; without, each answer takes 40 ms more.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, candidate))
        except OSError:
            listener.close()
            continue
        listener.listen(128)
        listener.setblocking(False)
        return listener
    raise InputError("bad-config", f"Cannot listen on {host}:{port}: is the port taken?")


async def _start_link(
    link: LinkServer, host: str, port: int, earlier: int | None, tls: TlsFiles
) -> int:
    if not port and earlier:
        with suppress(InputError):  # taken meanwhile
            return await link.start(host, earlier, tls)
    return await link.start(host, port, tls)
