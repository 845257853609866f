"""Runs commands of the command line in forks of a process that has imported it already.

A command takes a second to import its libraries, and a consortium is set up by thirty of them. Each
still runs in a process of its own. ``python -m tests.support.cli_host SOCKET`` serves.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

LOADED = (
    "cohortium.cli.main",
    "cohortium.cli.audit",
    "cohortium.cli.data",
    "cohortium.cli.hub",
    "cohortium.cli.node",
    "cohortium.cli.run",
    "cohortium.cli.study",
    "cohortium.cli.study_life",
    "cohortium.cli.user",
    "cohortium.node.ledger_copy",
    "cohortium.node.main",
    "cohortium.sdk.federation",
)


class CliHost:
    """The client's side; `close` ends the process."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="cli-")
        self._socket = str(Path(self._folder.name) / "s")
        command = [sys.executable, "-m", "tests.support.cli_host", self._socket]
        root = str(Path(__file__).parents[2])
        path = f"{env.get('PYTHONPATH', '')}{os.pathsep}{root}".lstrip(os.pathsep)
        self._process = subprocess.Popen(
            command, env={**env, "PYTHONPATH": path}, stdout=subprocess.PIPE
        )
        if self._process.stdout is None or not self._process.stdout.readline():
            raise RuntimeError("the host of commands did not start")

    def run(
        self, arguments: Sequence[str], env: Mapping[str, str], timeout_s: float
    ) -> tuple[int, bytes, bytes]:
        """Exit code, output and error output of ``cohortium ARGUMENTS``."""
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(timeout_s)
            asked.connect(self._socket)
            asked.sendall(json.dumps({"arguments": [*arguments], "env": {**env}}).encode())
            asked.shutdown(socket.SHUT_WR)
            answer = json.loads(_read(asked))
        return answer["code"], answer["out"].encode(), answer["err"].encode()

    def close(self) -> None:
        self._process.terminate()
        self._process.communicate()
        self._folder.cleanup()


def _read(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def _serve(path: str) -> None:
    for name in LOADED:
        import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(64)
        print("ready", flush=True)
        while True:
            connection, _ = listening.accept()
            with connection:
                if os.fork() == 0:
                    _answer(connection)


def _answer(connection: socket.socket) -> None:
    """In the fork: run one command, say how it went, and leave."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request: dict[str, Any] = json.loads(_read(connection))
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = ["cohortium", *request["arguments"]]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        code = 0
        try:
            import_module("cohortium.cli.main").main()
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else int(left.code is not None)
        except BaseException as error:  # noqa: BLE001 - what Python itself would print
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        out.seek(0)
        err.seek(0)
        texts = {"out": out.read().decode(), "err": err.read().decode()}
        connection.sendall(json.dumps({"code": code, **texts}).encode())
    connection.close()
    os._exit(0)


if __name__ == "__main__":
    _serve(sys.argv[1])
