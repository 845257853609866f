"""A link that outlives its TLS keys: dialled for ever, and anew with each new key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cohortium.crypto import tls_keys
from cohortium.link._generated.link_pb2 import Message
from cohortium.link.client import LinkClient
from cohortium.link.ports import Uplink
from cohortium.link.tls import TlsFiles


def present_files(folder: Path, ca: Path) -> TlsFiles:
    """The newest key and certificate in a folder of them; see `cohortium.crypto.tls_keys`."""
    pair = tls_keys.current(folder)
    return TlsFiles(pair / tls_keys.KEY, pair / tls_keys.CERTIFICATE, ca)


class KeptLink(Uplink):
    """The way to the hub, whichever link it is at the moment.

    Args:
        made: Makes a link with the key that there is.
    """

    def __init__(self, made: Callable[[], LinkClient]) -> None:
        self._made = made
        self._link = made()
        self._renewed = asyncio.Event()

    @property
    def connected(self) -> bool:
        """See `Uplink`."""
        return self._link.connected

    @property
    def last_error(self) -> str | None:
        """Why the last link ended, or could not begin."""
        return self._link.last_error

    async def request(self, message: Message, timeout_s: float) -> Message:
        """See `Uplink`."""
        return await self._link.request(message, timeout_s)

    def renew(self) -> None:
        """There is a new key: end the link and dial with that."""
        self._renewed.set()

    async def run(self) -> None:
        """Dial for ever."""
        while True:
            running = asyncio.create_task(self._link.run())
            renewed = asyncio.create_task(self._renewed.wait())
            try:
                await asyncio.wait({running, renewed}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await self._link.close()
                for task in (running, renewed):
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task
            self._renewed.clear()
            self._link = self._made()
