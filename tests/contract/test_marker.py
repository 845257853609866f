"""Nothing decrypted is on a disk, with another process, or on a network while a task runs.

Each scan has to find a marker where one was put on purpose. What swap would hold is not looked at:
the memory of a sandbox can be swapped out (docs/enclave/executors.md), mounted files cannot.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
from tests.support.tasks import SMALL, job

from cohortium.enclave.executor import Executor, executors
from cohortium.enclave.inside.limits import descendants
from cohortium.enclave.job import InputsBy
from cohortium.enclave.unprivileged import mounts_refused
from cohortium.enclave.vaulted import VaultedInput, VaultedOutputs
from cohortium.vault.filesystem import VaultFileSystem
from cohortium.vault.keys import Keyring, PrivateKey

PROGRAM = """
    import pathlib, sys, time
    image, go, out = map(pathlib.Path, sys.argv[1:])
    file = image.open("rb")
    text = file.read()
    marker = text[-64:]
    assert text.count(marker) == 3000
    pathlib.Path("scratch.bin").write_bytes(text)
    (out / "out.bin").write_bytes(text)
    pathlib.Path("/dev/shm/shared").write_bytes(text)
    print("held", flush=True)
    while not (go / "on").exists():
        time.sleep(0.02)
"""
AN_ALL = 3  # ETH_P_ALL
LARGEST_BYTES = 64 << 20
LOOK = """
import os, sys
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
for path in sys.argv[1:]:
    try:
        os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(1)
        print("seen", path)
    except PermissionError:
        print("refused")
"""


def on_disks(marker: bytes, since: Path, folders: list[Path]) -> list[str]:
    """Files with the marker that are newer than another one."""
    asked = ["find", *map(str, folders), "-newer", str(since), "-type", "f", "-size", "-64M"]
    found = subprocess.run(
        [*asked, "-exec", "grep", "-laF", marker.decode(), "{}", "+"],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.split()


def in_processes(marker: bytes) -> list[str]:
    """Where the marker is in what `/proc` tells of processes outside of the sandbox.

    Names, arguments, environments, maps, names of open files; and what is in open files that have
    no name any more.
    """
    own = Path("/proc/self/ns/mnt").readlink()
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "ns" / "mnt").readlink() != own:
                continue
            told = [process / name for name in ("cmdline", "environ", "comm", "maps")]
            found += [str(one) for one in told if marker in one.read_bytes()]
            for file in (process / "fd").iterdir():
                target = str(file.readlink())
                if marker.decode() in target or ("(deleted)" in target and marker in _read(file)):
                    found.append(str(file))
        except OSError:
            continue  # it has ended
    return found


def _read(file: Path) -> bytes:
    found = file.stat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST_BYTES:
        return b""
    return file.read_bytes()


class Capture:
    """All packets of all interfaces, from its start on."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(AN_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        self._socket.settimeout(0.1)
        self._over = threading.Event()
        self.seen = bytearray()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                self.seen += self._socket.recv(1 << 17)
            except TimeoutError:
                if self._over.is_set():
                    return

    def close(self) -> bytes:
        self._over.set()
        self._thread.join()
        self._socket.close()
        return bytes(self.seen)


class _Files(BaseHTTPRequestHandler):
    """Files of a folder, and parts of them."""

    def __init__(self, folder: Path, *rest: object) -> None:
        self._folder = folder
        super().__init__(*rest)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def _answer(self, body: bool) -> None:
        file = self._folder / self.path.lstrip("/")
        if not file.is_file():
            self.send_error(404)
            return
        content, asked = file.read_bytes(), self.headers["Range"]
        self.send_response(206 if asked else 200)
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            content = content[int(first) : int(last) + 1]
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder that somebody else keeps, and its address."""
    folder = tmp_path / "store"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Files, folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def _executor(name: str, inputs_by: InputsBy) -> Executor:
    found = executors()[name]
    refused = mounts_refused() if inputs_by == "mount" else None
    if missing := (*found.missing(), *filter(None, [refused])):
        pytest.skip("; ".join(missing))
    if os.geteuid():
        pytest.skip("looking into other processes and at all packets needs root")
    return found


def _of_the_sandbox() -> Path:
    """The task's process."""
    own = Path("/proc/self/ns/mnt").readlink()
    for pid in descendants(os.getpid()):
        process = Path(f"/proc/{pid}")
        with contextlib.suppress(OSError):
            inside = (process / "ns" / "mnt").readlink() != own
            if inside and b"/task/code/main.py" in (process / "cmdline").read_bytes():
                return process
    raise AssertionError("there is no task")


@pytest.mark.parametrize(
    ("name", "inputs_by"),
    [("landlock", "memory"), ("landlock", "mount"), ("bubblewrap", "mount")],
)
def test_a_planted_marker_is_nowhere_outside_of_the_sandbox(
    name: str, inputs_by: InputsBy, store: tuple[Path, str], tmp_path: Path
) -> None:
    executor = _executor(name, inputs_by)
    marker = secrets.token_hex(32).encode()
    ring = Keyring([PrivateKey.generate()])
    folder, address = store
    written = VaultFileSystem(ring, durable=False)
    with written.open(str(folder / "image"), "wb") as file:
        file.write((b"pixels " + marker) * 3000)
    go = tmp_path / "go"
    go.mkdir()
    temporary = [Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"), tmp_path]
    since = tmp_path / "since"
    since.touch()

    capture = Capture()
    try:
        remote = VaultFileSystem(ring, fs=fsspec.filesystem("http"))
        image = VaultedInput(remote, f"{address}/image")
        made = job(tmp_path, PROGRAM, {"image": image, "go": go}, SMALL)
        running = executor.start(executor.prepare(replace(made, inputs_by=inputs_by)))
        looked: dict[str, list[str]] = {}

        def look(_: bytes) -> None:
            if looked:
                return  # the end of the line came by itself
            looked["disks"] = on_disks(marker, since, temporary)
            looked["processes"] = in_processes(marker)
            task = _of_the_sandbox()
            places = ["root/task/inputs/image", "root/task/scratch", "environ", "mem", "fd", "cwd"]
            paths = [str(task / place) for place in places]
            assert [one.name for one in Path(paths[1]).iterdir()] == ["scratch.bin"]  # root may
            asked = [sys.executable, "-I", "-S", "-c", LOOK, *paths]
            other = subprocess.run(asked, capture_output=True, text=True, check=True)
            looked["another user"] = other.stdout.split()
            (go / "on").touch()

        try:
            outcome = running.wait(look)
        except BaseException:
            running.stop()
            running.wait()
            running.collect(None)
            raise
        assert (outcome.end, outcome.log) == ("succeeded", b"held\n")
        running.collect(VaultedOutputs(written, str(tmp_path / "results")))
    finally:
        packets = capture.close()

    assert looked == {"disks": [], "processes": [], "another user": ["refused"] * 6}
    assert on_disks(marker, since, temporary) == []
    assert marker not in packets
    encrypted = (folder / "image").read_bytes()
    assert encrypted[-200:] in packets  # the input came over what was captured
    result = written.cat_file(str(tmp_path / "results" / "out" / "out.bin"))
    assert result.count(marker) == 3000


def test_each_scan_finds_a_marker_that_is_there(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("looking into other processes and at all packets needs root")
    marker = secrets.token_hex(32).encode()
    since = tmp_path / "since"
    since.touch()
    planted = tmp_path / "deep" / "planted"
    planted.parent.mkdir()
    planted.write_bytes(bytes(100_000) + marker)
    assert on_disks(marker, since, [Path("/tmp"), tmp_path])[:1] == [str(planted)]

    with planted.open("rb") as held:
        planted.unlink()
        assert in_processes(marker) == [f"/proc/{os.getpid()}/fd/{held.fileno()}"]
    for arguments, environment in (([marker.decode()], {}), ([], {"X": marker.decode()})):
        other = subprocess.Popen(
            [sys.executable, "-c", "input()", *arguments], stdin=subprocess.PIPE, env=environment
        )
        try:
            place = "cmdline" if arguments else "environ"
            assert in_processes(marker) == [f"/proc/{other.pid}/{place}"]
        finally:
            other.kill()
            other.communicate()

    capture = Capture()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"see " + marker, ("127.0.0.1", 9))
    assert marker in capture.close()
