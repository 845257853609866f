"""Runs tests in forks of a process that has pytest and the large libraries loaded already.

A line of JSON on standard input is the arguments of one pytest run; a line on standard output says
that it ended. The package under test is imported in the fork only.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from importlib import import_module

LOADED = (
    "pytest",
    "pytest_asyncio.plugin",
    "pytest_timeout",
    "_pytest.junitxml",
    "hypothesis",
    "numpy",
    "pyarrow",
    "pyarrow.compute",
    "pydantic",
    "sqlalchemy",
    "sqlalchemy.dialects.sqlite",
    "cryptography.x509",
    "cryptography.hazmat.primitives.asymmetric.ed25519",
    "cryptography.hazmat.primitives.asymmetric.x25519",
    "google.protobuf.message",
    "httpx",
    "ruamel.yaml",
    "fastapi",
    "asyncio",
    "sqlite3",
)
POLL_S = 0.005


def main() -> None:
    """Serve until standard input ends."""
    limit_s = float(sys.argv[1])
    for name in LOADED:
        import_module(name)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _run(json.loads(line))
        _reap(child, limit_s)
        print("ended", file=answers, flush=True)


def _run(arguments: list[str]) -> None:
    """Run pytest and leave, whatever it does to the interpreter."""
    os.setsid()
    status = 1
    try:
        status = int(import_module("pytest").main(arguments))
    finally:
        os._exit(status)


def _reap(child: int, limit_s: float) -> None:
    """Wait for a fork, and kill what it left running."""
    deadline = time.monotonic() + limit_s
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            break
        time.sleep(POLL_S)
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    main()
