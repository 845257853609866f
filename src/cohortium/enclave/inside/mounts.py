"""Read-only mounts whose files are answered for outside the sandbox, by whoever gets their
connection (FUSE).

Reference: Linux, Documentation/filesystems/fuse.rst; fuse(4).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cohortium.enclave.inside import namespaces

HIDDEN: Final = "/opt/device"
"""A folder that has the device until it was opened, where no root is built around it."""
_ROOT_MODES: Final = {True: "100400", False: "40500"}


class Mounts:
    """The mounts of a sandbox.

    The kernel demands that the device is opened in the namespace of users that mounts, which is
    why the connections are made here and handed out; from then on nobody in the sandbox has them.

    Args:
        folder: In memory; has a file or folder for each mount.
        files: Name of each mount, and whether it is one file.
        channel: Descriptor of a socket to whoever answers.
        device: Where it is now.
        own_root: Whether a root is built around the sandbox before `show`.
    """

    def __init__(
        self, folder: str, files: Mapping[str, bool], channel: int, device: str, own_root: bool
    ) -> None:
        self._folder = Path(folder)
        self._files = files
        self._channel = socket.socket(fileno=channel)
        self._own_root = own_root
        self._connections = [os.open(device, os.O_RDWR | os.O_CLOEXEC) for _ in files]

    def show(self) -> None:
        """Mount them, give the connections away, and let nobody open the device any more.

        Raises:
            OSError: The kernel refuses.
        """
        if not self._own_root:
            namespaces.own_mounts()
        for (name, is_file), connection in zip(self._files.items(), self._connections, strict=True):
            place = self._folder / name
            if is_file:
                place.touch()
            else:
                place.mkdir()
            namespaces.mount_connection(connection, str(place), _ROOT_MODES[is_file])
        if not self._own_root:
            namespaces.cover(HIDDEN)
            namespaces.drop_privileges()
        socket.send_fds(self._channel, [b"M"], self._connections)
        self._channel.close()
        for connection in self._connections:
            os.close(connection)
