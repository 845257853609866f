"""``cohortium node serve``: one link to the hub, what is owed to it, and the local status."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cohortium.core.clock import system_clock, to_rfc3339
from cohortium.crypto import tls_keys as tls
from cohortium.crypto.files import held_alone, write_atomically
from cohortium.errors import CohortiumError, InputError, PeerError
from cohortium.link import TLS13_ONLY as _TLS13_ONLY  # noqa: F401 - before anything imports gRPC
from cohortium.link._generated import link_pb2 as pb
from cohortium.link.client import LinkClient
from cohortium.link.kept import KeptLink, present_files
from cohortium.node import journal, outbox
from cohortium.node.collecting import Collector
from cohortium.node.config import NodeConfig, NodeDir
from cohortium.node.folder import FolderDatasets
from cohortium.node.lending import Lending
from cohortium.node.policy import PolicyFile
from cohortium.node.service import NodeService
from cohortium.node.store import NodeStore, Owed
from cohortium.node.watch import keep_watch

log = logging.getLogger(__name__)

POLL_S = 0.1
COLLECT_S = 0.5
SEND_TIMEOUT_S = 30.0
TIDY_S = 3600.0
KEEP_SECRETS = timedelta(days=7)


def open_service(folder: NodeDir, config: NodeConfig) -> NodeService:
    """The node on its files."""
    identity = folder.load_identity(config)
    return NodeService(
        identity=identity,
        store=NodeStore(folder.store),
        datasets=FolderDatasets(folder.datasets, system_clock),
        policy=PolicyFile(folder.policy),
        lending=Lending.of(folder, system_clock),
    )


class Node:
    """The serving process.

    Args:
        folder: The node's files.
    """

    def __init__(self, folder: NodeDir) -> None:
        self._folder = folder
        self._config = folder.load_config()
        self._service = open_service(folder, self._config)
        self._link = KeptLink(self._new_link)
        self._welcomed = asyncio.Event()
        self._since: datetime | None = None

    def _new_link(self) -> LinkClient:
        return LinkClient(
            target=self._config.link_address,
            tls=present_files(self._folder.tls, self._folder.ca),
            handler=self._service,
            hello=self._service.hello,
            on_welcome=self._on_welcome,
            proxy=self._config.proxy,
        )

    async def _on_welcome(self, message: pb.Message) -> None:
        await asyncio.to_thread(self._service.welcome, message)
        self._since = system_clock()
        self._welcomed.set()
        log.info("connected to the hub at %s", self._config.link_address)

    def link_state(self) -> dict[str, Any]:
        """For the status page."""
        up = self._link.connected and self._since is not None
        return {
            "connected": up,
            "since": to_rfc3339(self._since) if up and self._since else None,
            "last_error": self._link.last_error,
            "address": self._config.link_address,
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop`."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(work)
                for work in (
                    self._link.run(),
                    self._keep_sending(),
                    self._keep_collecting(),
                    self._keep_tidy(),
                    keep_watch(self._service.witness, lambda: self._link.connected),
                    self._serve_status(),
                )
            ]
            await stop.wait()
            for task in tasks:
                task.cancel()
        self._service.store.close()

    async def _keep_tidy(self) -> None:
        """Forget the secrets of runs that nobody ended."""
        while True:
            self._service.expire_runs(to_rfc3339(system_clock() - KEEP_SECRETS))
            await asyncio.sleep(TIDY_S)

    async def _keep_collecting(self) -> None:
        """Fetch programs to review, and outputs that are for this institution."""
        lending = self._service.lending
        if lending is None:
            return
        collector = Collector(self._service, lending, self._request)
        pause_s = COLLECT_S
        while True:
            await asyncio.sleep(pause_s)
            pause_s = COLLECT_S
            try:
                if self._link.connected:
                    await collector.collect()
            except PeerError:
                pass
            except CohortiumError as error:  # of what is stored here; runs are refused for it
                log.error("cannot look for what is to be fetched: %s", error.message)
                pause_s = TIDY_S

    async def _keep_sending(self) -> None:
        """Notice what is owed, also what the command line queued, and send it while connected."""
        seen: object = None
        told: str | None = None
        card: object = None
        later = outbox.Later()
        while True:
            await asyncio.sleep(POLL_S)
            again = self._welcomed.is_set()
            self._welcomed.clear()
            marks = _marks(self._folder.datasets)
            if again or marks != seen:
                published = await asyncio.to_thread(self._service.datasets.published)
                outbox.owe_datasets(self._service.store, published, again=again)
                seen = marks
            told = self._owe_policy(None if again else told)
            card = await self._owe_card(None if again else card)
            if self._link.connected:
                with suppress(PeerError):
                    await outbox.flush(self._service.store, self._request, self._on_reply, later)

    async def _owe_card(self, told: object) -> object:
        """Tell of the vault key, once there is one; whoever encrypts for this site needs it."""
        lending, identity = self._service.lending, self._service.identity
        mark = None if lending is None else lending.vault.mark
        if lending is not None and mark not in {None, told}:
            with suppress(InputError):
                card = await asyncio.to_thread(lending.vault.card, identity, system_clock)
                outbox.owe_card(self._service.store, card)
        return mark

    def _owe_policy(self, told: str | None) -> str | None:
        """Tell of another policy than `told`; one that cannot be read allows nothing."""
        with suppress(InputError):
            digest = self._service.policy().digest
            if digest != told:
                outbox.owe_policy(self._service.store, digest, again=told is None)
            return digest
        return told

    async def _request(self, message: pb.Message) -> pb.Message:
        return await self._link.request(message, SEND_TIMEOUT_S)

    def _on_reply(self, owed: Owed, reply: pb.Message) -> None:
        if owed.kind != "rotate_certificate":
            return
        ca_pem = self._folder.ca.read_bytes()
        tls.finish(self._folder.tls, reply.certificate.pem, ca_pem, system_clock)
        journal.append(self._service.store, "rotate")
        self._link.renew()

    async def _serve_status(self) -> None:
        from cohortium.node.status import Server, build_app

        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._config.status_port))
        address = {"status": f"http://127.0.0.1:{listener.getsockname()[1]}", "pid": os.getpid()}
        server = Server(build_app(self._service, self.link_state))
        write_atomically(self._folder.address, json.dumps(address).encode())
        try:
            await server.serve(sockets=[listener])
        finally:
            listener.close()
            self._folder.address.unlink(missing_ok=True)


def _marks(datasets: Path) -> list[tuple[str, int, int]]:
    """Changes when a dataset is added, confirmed or removed."""
    marks = []
    for file in sorted(datasets.glob("*/*")):
        with suppress(OSError):
            stat = file.stat()
            marks.append((str(file), stat.st_mtime_ns, stat.st_size))
    return marks


def serve(directory: Path) -> None:
    """Run the node until SIGINT or SIGTERM."""

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await Node(folder).run(stop)

    folder = NodeDir(directory)
    folder.load_config()
    with held_alone(folder.lock, f"The node in {directory}"):
        asyncio.run(main())
