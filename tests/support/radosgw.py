"""A throw-away S3 server for tests: Ceph's radosgw over one monitor and one OSD in memory.

Import the fixture `s3_server`. Skips, with the reason, where the programs are absent. Loopback
only; everything is gone with the session. Starts in about 12 seconds.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "monmaptool")

_CONFIG = """\
[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{mon_port}
auth cluster required = none
auth service required = none
auth client required = none
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr2 = false
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
keyring = {folder}/keyring
osd objectstore = memstore
memstore device bytes = 2147483648
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd crush update on start = false
osd class update on start = false
mon allow pool size one = true
mon max pg per osd = 1000
rgw frontends = beast endpoint=127.0.0.1:{http_port}
rgw thread pool size = 32
"""


def missing_programs() -> list[str]:
    """Which of the programs are not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


@dataclass(frozen=True)
class S3Server:
    """A running server and a user's keys."""

    url: str
    access_key: str
    secret_key: str

    @property
    def options(self) -> dict[str, Any]:
        """What s3fs wants to know."""
        return {"key": self.access_key, "secret": self.secret_key, "endpoint_url": self.url}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Cluster:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._config = folder / "ceph.conf"
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._mon_port, self._http_port = _free_port(), _free_port()

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [program, "-c", str(self._config), *arguments],
            cwd=self._folder,
            env={**os.environ, "HOME": str(self._folder)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed: {done.stderr[-2000:]}")

    def _daemon(self, program: str, *arguments: str) -> None:
        self._daemons.append(
            subprocess.Popen(
                [program, "-c", str(self._config), "-f", *arguments],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )

    def start(self) -> S3Server:
        for name in ("mon", "osd", "rgw"):
            (self._folder / name).mkdir()
        fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
        self._config.write_text(
            _CONFIG.format(
                fsid=fsid,
                folder=self._folder,
                mon_port=self._mon_port,
                http_port=self._http_port,
            )
        )
        monmap = str(self._folder / "monmap")
        address = f"[v1:127.0.0.1:{self._mon_port}]"
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, monmap)
        self._run("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap)
        self._daemon("ceph-mon", "-i", "a")
        self._run("ceph", "--connect-timeout", "30", "osd", "new", osd)
        # An OSD that asks for its place itself, before it knows the cluster's id, gives up.
        self._run("ceph", "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=here")
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._daemon("ceph-osd", "-i", "0")
        self._daemon("radosgw", "-n", "client.rgw")
        self._wait()
        access, secret = secrets.token_hex(8), secrets.token_hex(16)
        who = ("--uid", "vault", "--display-name", "vault")
        keys = ("--access-key", access, "--secret-key", secret)
        self._run("radosgw-admin", "user", "create", *who, *keys)
        return S3Server(f"http://127.0.0.1:{self._http_port}", access, secret)

    def _wait(self) -> None:
        end = time.monotonic() + 90
        while time.monotonic() < end:
            if any(daemon.poll() is not None for daemon in self._daemons):
                raise RuntimeError("a daemon of Ceph has ended")
            try:
                socket.create_connection(("127.0.0.1", self._http_port), timeout=1).close()
            except OSError:
                time.sleep(0.2)
            else:
                return
        raise RuntimeError("radosgw does not answer")

    def stop(self) -> None:
        for daemon in reversed(self._daemons):
            daemon.kill()
            daemon.wait(timeout=30)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One server for the session."""
    missing = missing_programs()
    if missing:
        pytest.skip(f"Ceph's S3 server is not installed: {', '.join(missing)}")
    folder = Path(tempfile.mkdtemp(prefix="cohortium-s3-"))
    cluster = _Cluster(folder)
    try:
        yield cluster.start()
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
