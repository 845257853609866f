"""Runs tests in forks of a process that has loaded all that no mutant can be in.

There are three generations. The host has pytest and the large libraries. A stem, forked from it for
one file of the package, has what the tests of the file's mutants load, but not the file nor what
loads it. Each run is a fork of the stem, and finds the file as it is at that time.

A line of JSON on standard input is `{"stem": module, "load": modules, "arguments": of pytest}`; a
line on standard output says that the run ended.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
from importlib import import_module
from typing import TextIO

LOADED = (
    "pytest",
    "pytest_asyncio.plugin",
    "pytest_timeout",
    "_pytest.junitxml",
    "pdb",
    "hypothesis",
    "hypothesis.stateful",
    "numpy",
    "numpy.f2py",
    "numpy.testing",
    "pandas",
    "pyarrow",
    "pyarrow.compute",
    "pydantic",
    "pydantic_settings",
    "scipy.optimize",
    "scipy.stats",
    "statsmodels.api",
    "statsmodels.formula.api",
    "dp_accounting",
    "sqlalchemy",
    "sqlalchemy.dialects.sqlite",
    "sqlglot",
    "cryptography.x509",
    "cryptography.hazmat.primitives.asymmetric.ed25519",
    "cryptography.hazmat.primitives.asymmetric.x25519",
    "cryptography.hazmat.primitives.kdf.hkdf",
    "cryptography.hazmat.primitives.ciphers.aead",
    "google.protobuf.descriptor_pool",
    "google.protobuf.message",
    "httpx",
    "ruamel.yaml",
    "fastapi",
    "asyncio",
    "sqlite3",
)
POLL_S = 0.005


class Stem:
    """A fork of the host, from which the runs of one file's mutants are forked."""

    def __init__(self, module: str, load: list[str], limit_s: float) -> None:
        self.module = module
        asked, ask = os.pipe()
        told, tell = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(ask)
            os.close(told)
            try:
                _serve(module, load, os.fdopen(asked), os.fdopen(tell, "w"), limit_s)
            finally:
                os._exit(1)
        os.close(asked)
        os.close(tell)
        self._ask, self._told = os.fdopen(ask, "w"), os.fdopen(told)
        self.fits = self._told.readline() == "ready\n"

    def run(self, arguments: list[str]) -> None:
        """One run of pytest."""
        print(json.dumps(arguments), file=self._ask, flush=True)
        self._told.readline()

    def close(self) -> None:
        """End the process."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        self._ask.close()
        self._told.close()


def main() -> None:
    """Serve until standard input ends."""
    limit_s = float(sys.argv[1])
    for name in LOADED:
        import_module(name)
    _find_the_same_example_and_keep_it()
    gc.freeze()  # what is here stays: pytest's search for garbage need not look at it
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    stem: Stem | None = None
    for line in sys.stdin:
        request = json.loads(line)
        if stem is None or stem.module != request["stem"]:
            if stem is not None:
                stem.close()
            stem = Stem(request["stem"], request["load"], limit_s)
            if not stem.fits:
                stem.close()
                stem = Stem(request["stem"], [], limit_s)
        stem.run(request["arguments"])
        print("ended", file=answers, flush=True)


def _find_the_same_example_and_keep_it() -> None:
    """Let Hypothesis draw nothing at random, and look for no smaller example."""
    hypothesis = import_module("hypothesis")
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("mutants", phases=phases, derandomize=True)
    hypothesis.settings.load_profile("mutants")


def _serve(module: str, load: list[str], asked: TextIO, answers: TextIO, limit_s: float) -> None:
    """Load the modules; then run pytest in a fork for each line."""
    for name in load:
        import_module(name)
    print("spoiled" if module in sys.modules else "ready", file=answers, flush=True)
    gc.freeze()
    for line in asked:
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
