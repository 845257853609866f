"""Inputs that a task reads through a mount: decrypted when they are read, and nowhere whole."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from cohortium.contract.task import Limits
from cohortium.enclave.fuse import REQUEST_BYTES, Files
from cohortium.enclave.job import Job, OpenSource
from cohortium.enclave.unprivileged import mounts_refused
from cohortium.errors import InputError, PolicyRefusal

_OF_MEMORY: Final = 4
"""Inputs beyond a quarter of the task's memory are mounted."""
_ENDS_WITHIN_S: Final = 0.5


def mounted(job: Job) -> dict[str, OpenSource]:
    """The inputs of a job that its sandbox mounts.

    Raises:
        InputError: ``bad-input``: the job asks for a mount of what can only be read in order.
        PolicyRefusal: ``executor-unavailable``: it asks for one that cannot be here.
    """
    streamed = {slot: source for slot, source in job.inputs.items() if not isinstance(source, Path)}
    found = {slot: source for slot, source in streamed.items() if isinstance(source, OpenSource)}
    if not streamed or job.inputs_by == "memory":
        return {}
    if job.inputs_by == "mount":
        if len(found) < len(streamed):
            raise InputError("bad-input", "An input can only be read in order, and not mounted.")
        if refused := mounts_refused():
            raise PolicyRefusal("executor-unavailable", f"Inputs cannot be mounted: {refused}.")
        return found
    total = sum(size for source in found.values() for _, size in source.files())
    if total <= job.limits.memory_bytes // _OF_MEMORY or mounts_refused():
        return {}
    return found


def require_memory(job: Job) -> None:
    """Refuse a job whose inputs have to be mounted, where the executor has no mounts.

    Raises:
        InputError: ``bad-input``.
    """
    if job.inputs_by == "mount":
        raise InputError("bad-input", "This executor mounts no inputs; landlock and bubblewrap do.")


class Answering:
    """Threads that answer for the mounts of one task until its sandbox is gone.

    Args:
        limits: Of the task; a thread may take as much processor time as it, since what it makes
            others do for it counts too.
        failed: Called once where an input cannot be given, or takes more than that.
    """

    def __init__(
        self,
        sources: Sequence[OpenSource],
        connections: Sequence[int],
        limits: Limits,
        failed: Callable[[], None],
    ) -> None:
        self._cpu_s = limits.cpu_s
        self._failed = failed
        self._lock = threading.Lock()
        self._closed = False
        self._open = dict.fromkeys(connections)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.fault: Exception | None = None
        self.took_too_long = False
        self._last = threading.Timer(limits.time_s + _ENDS_WITHIN_S, self.close)
        self._last.daemon = True
        self._threads = [
            threading.Thread(target=self._answer, args=(source, connection), daemon=True)
            for source, connection in zip(sources, connections, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def ended_it(self) -> bool:
        """Whether `failed` was called."""
        return self.took_too_long or self.fault is not None

    @classmethod
    def receive(
        cls,
        channel: socket.socket,
        sources: Sequence[OpenSource],
        limits: Limits,
        failed: Callable[[], None],
    ) -> Answering | None:
        """Take the connections that a sandbox gives out; None where it ended before."""
        _, found, _, _ = socket.recv_fds(channel, 1, len(sources), socket.MSG_CMSG_CLOEXEC)
        if len(found) != len(sources):
            for descriptor in found:
                os.close(descriptor)
            return None
        return cls(sources, found, limits, failed)

    def task_started(self) -> None:
        """From now on its time counts.

        A task that waits for an answer cannot be killed; that its time is over must not wait too.
        """
        self._last.start()

    def close(self) -> None:
        """Answer no more: whoever still asks gets an error at once."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            for connection in self._open:
                # Its number stays taken, so that no late answer goes into another file.
                os.dup2(nothing, connection, inheritable=False)
            os.close(nothing)
        self._last.cancel()
        os.eventfd_write(self._wake, 1)
        for thread in self._threads:
            thread.join(_ENDS_WITHIN_S)
        if not any(thread.is_alive() for thread in self._threads):
            os.close(self._wake)

    def _answer(self, source: OpenSource, connection: int) -> None:
        try:
            files = Files(source)
            try:
                self._serve(files, connection)
            finally:
                files.close()
        except Exception as error:  # noqa: BLE001 - the task must not go on without its inputs
            self._fail(error)
        finally:
            with self._lock:
                del self._open[connection]
                os.close(connection)

    def _serve(self, files: Files, connection: int) -> None:
        os.set_blocking(connection, False)
        ready = select.poll()
        for descriptor in (connection, self._wake):
            ready.register(descriptor, select.POLLIN)
        request = memoryview(bytearray(REQUEST_BYTES))
        while self._wake not in {descriptor for descriptor, _ in ready.poll()}:
            try:
                n = os.readv(connection, [request])
            except (BlockingIOError, FileNotFoundError):  # somebody gave up waiting
                continue
            except OSError:
                return  # unmounted
            if n == 0:
                return  # closed
            if parts := files.answer(request[:n]):
                with contextlib.suppress(FileNotFoundError):  # gave up before the answer
                    os.writev(connection, parts)
            if files.fault is not None:
                self._fail(files.fault)
            elif time.thread_time() > self._cpu_s:
                self.took_too_long = True
                self._failed()
                return

    def _fail(self, error: Exception) -> None:
        if self.fault is None:
            if isinstance(error, OSError):
                error = InputError("bad-data", f"An input cannot be read: {error}.")
            self.fault = error
            self._failed()
