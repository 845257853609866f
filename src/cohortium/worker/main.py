"""``cohortium enclave serve``: one link to the hub, and the tasks that it asks for."""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import signal
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cohortium.contract.model import Environment
from cohortium.core.clock import system_clock, to_rfc3339
from cohortium.crypto import tls_keys
from cohortium.crypto.authority import read_certificate
from cohortium.crypto.enrolment import rotation_bytes
from cohortium.crypto.files import held_alone, write_atomically
from cohortium.enclave.executor import executors
from cohortium.errors import CohortiumError, InputError, PolicyRefusal
from cohortium.link import TLS13_ONLY as _TLS13_ONLY  # noqa: F401 - before anything imports gRPC
from cohortium.link._generated import link_pb2 as pb
from cohortium.link.client import LinkClient
from cohortium.link.codec import expect
from cohortium.link.kept import KeptLink, present_files
from cohortium.worker.folder import EnclaveDir
from cohortium.worker.service import WorkerService
from cohortium.worker.store import RunStore

log = logging.getLogger(__name__)

LOOK_S: Final = 0.5
RENEW_LOOK_S: Final = 6 * 3600.0
RENEW_BEFORE: Final = timedelta(days=60)
SEND_TIMEOUT_S: Final = 30.0
_PR_SET_DUMPABLE: Final = 4


class Enclave:
    """The serving process."""

    def __init__(self, folder: EnclaveDir) -> None:
        self._folder = folder
        self._config = folder.load_config()
        self._store = RunStore(folder.store)
        self._service = WorkerService(
            folder, self._config, folder.load_identity(self._config), self._store
        )
        self._link = KeptLink(self._new_link)
        self._since: datetime | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop`."""
        self._service.recover()
        self._service.attach(self._link)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(work)
                    for work in (
                        self._link.run(),
                        self._keep_certificate(),
                        self._keep_telling(),
                        asyncio.to_thread(self._say_executors),
                    )
                ]
                await stop.wait()
                await self._service.close()
                for task in tasks:
                    task.cancel()
        finally:
            self._folder.serving.unlink(missing_ok=True)
            self._store.close()

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
        self._service.welcome(message)
        self._since = system_clock()
        log.info("connected to the hub at %s", self._config.link_address)

    async def _keep_certificate(self) -> None:
        """Ask for a new certificate, for a new key, before the present one ends."""
        while True:
            pair = tls_keys.current(self._folder.tls)
            facts = read_certificate((pair / tls_keys.CERTIFICATE).read_bytes())
            if facts.not_after - system_clock() < RENEW_BEFORE:
                with suppress(CohortiumError):
                    await self._renew()
            await asyncio.sleep(RENEW_LOOK_S)

    async def _renew(self) -> None:
        key = self._service.identity.key
        csr = tls_keys.begin(self._folder.tls, self._config.name)
        asked = pb.RotateCertificate(csr_pem=csr, signature=key.sign(rotation_bytes(csr)))
        reply = await self._link.request(pb.Message(rotate_certificate=asked), SEND_TIMEOUT_S)
        pem = expect(reply, "certificate").certificate.pem
        tls_keys.finish(self._folder.tls, pem, self._folder.ca.read_bytes(), system_clock)
        log.info("the certificate was renewed")
        self._link.renew()

    async def _keep_telling(self) -> None:
        """Write down, for `status`, whether the link is up and where each run is."""
        said: Any = None
        while True:
            now = self._said()
            if now != said:
                write_atomically(self._folder.serving, json.dumps(now).encode(), 0o600)
                said = now
            await asyncio.sleep(LOOK_S)

    def _say_executors(self) -> None:
        """Which executors could run a task now; a run that none can is refused."""
        installed = executors(Environment(allow_simulated=True))
        for name in self._config.executors:
            place = installed.get(name)
            why = ("is not installed",) if place is None else place.missing()
            log.info("executor %s: %s", name, "; ".join(why) or "ready")

    def _said(self) -> dict[str, Any]:
        up = self._link.connected and self._since is not None
        return {
            "pid": os.getpid(),
            "connected": up,
            "since": to_rfc3339(self._since) if up and self._since else None,
            "last_error": self._link.last_error,
            "runs": {run_id: now.stage for run_id, now in self._service.progress.items()},
        }


def serve(directory: Path) -> None:
    """Run the enclave until SIGINT or SIGTERM."""

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await Enclave(folder).run(stop)

    folder = EnclaveDir(directory)
    keep_memory_private()
    with held_alone(folder.lock, f"The enclave in {directory}"):
        asyncio.run(main())


def keep_memory_private() -> None:
    """No core file of this process, and no look into it by others of its user (prctl(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        raise PolicyRefusal(
            "executor-unavailable", "The kernel does not keep others out of this process's memory."
        )


def said_of_itself(folder: EnclaveDir) -> dict[str, Any] | None:
    """What the serving process wrote last; None where none serves."""
    try:
        said = json.loads(folder.serving.read_bytes())
        os.kill(int(said["pid"]), 0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return dict(said)


def require_joined(folder: EnclaveDir) -> None:
    """Refuse to serve before the operator's approval.

    Raises:
        InputError: ``not-found``.
    """
    if not tls_keys.has_certificate(folder.tls):
        raise InputError(
            "not-found",
            f"{folder.path} has no certificate yet: cohortium enclave init INVITATION --dir "
            f"{folder.path}, with the same invitation, fetches it after the operator's approval.",
        )
