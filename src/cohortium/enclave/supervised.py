"""A task under a supervisor inside a sandbox, as executors of this machine run it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final, cast
from unicodedata import category

from cohortium.enclave.cgroup import ControlGroup
from cohortium.enclave.inside.frames import (
    CHUNK_BYTES,
    ENDED,
    INPUT,
    LOG,
    OUTPUT,
    PARTS,
    SPEC,
    STARTED,
    Incoming,
    Outgoing,
    receive,
    send,
)
from cohortium.enclave.job import Ending, Job, OpenSource, Outcome, Sink
from cohortium.enclave.mounted import Answering
from cohortium.enclave.streamed import add
from cohortium.errors import PolicyRefusal, ProtocolError

PACKAGE: Final = Path(__file__).parents[1]
_BOOT: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from cohortium.enclave.inside.supervisor import started; started(sys.argv[2:])"
)
_MOST_FILES: Final = 100_000
_UNPRINTED: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Control characters, those that are not seen or change the direction of writing, bytes that are no
UTF-8, and ends of lines."""
_STOPS_WITHIN_S: Final = 1.0
_PIPE_BYTES: Final = 1 << 20
"""The log of a task fits, so that its supervisor goes on whether or not anybody reads it."""


def python_of(job: Job) -> Path:
    """The interpreter that runs the task and its supervisor: that of the job's first environment
    with one, or ours.
    """
    for folder in job.readable:
        if (found := folder / "bin" / "python").exists():
            return from_root(found)
    return from_root(Path(sys.executable))


def from_root(path: Path) -> Path:
    """From the root, without ``..`` but with links: what is shown inside under this very name."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - pathlib keeps ..


def spec(job: Job, folder: str, **more: Any) -> dict[str, Any]:
    """What the supervisor is told; `more` says what guards there are."""
    python = str(python_of(job))
    top = PurePosixPath(folder)
    return {
        "argv": job.command(folder, python),
        "environment": {
            "PATH": f"{Path(python).parent}:/usr/bin:/bin",
            "HOME": str(top / "scratch"),
            "TMPDIR": str(top / "scratch"),
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            **job.environment,
        },
        "folder": folder,
        "work": str(top / "scratch"),
        "outputs": list(job.outputs),
        "streamed": any(not isinstance(one, Path) for one in job.inputs.values()),
        "mounts": None,
        "limits": job.limits.model_dump(),
        "readable": [],
        "writable": [],
        "measured": [],
        "mounted": [],
        "namespaces": False,
        "guarded": False,
        "landlock": False,
        "root": None,
        "user": None,
        "taken": [],
    } | more


def boot(package_parent: str, control: int, report: int) -> list[str]:
    """What a Python is told so that it becomes the supervisor."""
    return ["-c", _BOOT, package_parent, str(control), str(report)]


class SupervisedTask:
    """A started task; see `cohortium.enclave.executor.Running`.

    Args:
        command: Starts a Python of the sandbox; what the supervisor needs is appended.
        package_parent: Where the sandbox shows this package; None: the command is whole, and the
            supervisor's pipes are its standard streams.
        told: See `spec`.
        folder: Removed once it has ended.
        group: The sandbox is put into it before it knows its task.
        attest: Gives evidence over 64 bytes, where the machine can prove something.

    Raises:
        PolicyRefusal: ``executor-unavailable``; a control could not be put in place.
    """

    def __init__(
        self,
        job: Job,
        command: Sequence[str],
        package_parent: str | None,
        told: Mapping[str, Any],
        *,
        folder: Path | None = None,
        group: ControlGroup | None = None,
        attest: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._job = job
        self._folder = folder
        self._group = group
        self._attest = attest
        self._encloses = bool(told["guarded"])
        self._outcome: Outcome | None = None
        self._stopped = False
        self._answering: Answering | None = None
        told, channel, there = _with_channel(told)
        control, self._control = os.pipe()
        self._report, report = os.pipe()
        for pipe in (control, report):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        whole = package_parent is None
        passed = (control, report, *([] if there is None else [there.fileno()]))
        arguments = [*command, *([] if whole else boot(str(package_parent), control, report))]
        try:
            self._process = subprocess.Popen(
                arguments,
                stdin=control if whole else subprocess.DEVNULL,
                stdout=report if whole else subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=() if whole else passed,
                start_new_session=True,
                env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
            )
        except OSError as error:
            self._close()
            raise PolicyRefusal(
                "executor-unavailable", f"The sandbox could not be started: {error}."
            ) from error
        finally:
            os.close(control)
            os.close(report)
            if there is not None:
                there.close()
        if group is not None:
            group.add(self._process.pid)
        self._begin(told, channel)

    def _begin(self, told: Mapping[str, Any], channel: socket.socket | None) -> None:
        mounted = () if channel is None else tuple(told["mounts"]["files"])
        try:
            try:
                _tell(self._control, SPEC, json.dumps(told).encode())
                if channel is not None:
                    self._answer_for(mounted, channel)
                if told["streamed"]:
                    self._send_inputs(mounted)
            except _Gone:
                pass  # and says below why
            first = self._next()
            if first is None or first[0] != STARTED:
                self._process.kill()
                raise PolicyRefusal(
                    "executor-unavailable",
                    f"The sandbox could not be set up: {self._said() or 'no reason'}.",
                )
            if self._answering is not None:
                self._answering.task_started()
        except BaseException:
            self._process.kill()
            self._finished()
            raise

    def _answer_for(self, slots: tuple[str, ...], channel: socket.socket) -> None:
        sources = [cast("OpenSource", self._job.inputs[slot]) for slot in slots]
        with channel:
            self._answering = Answering.receive(
                channel, sources, self._job.limits, self._process.kill
            )
        if self._answering is None:
            raise _Gone

    def _send_inputs(self, mounted: tuple[str, ...]) -> None:
        writer = Outgoing(lambda part: _tell(self._control, INPUT, part))
        with tarfile.open(fileobj=writer, mode="w|", **PARTS) as archive:
            for slot, source in self._job.inputs.items():
                if not isinstance(source, Path) and slot not in mounted:
                    add(archive, slot, source)
        _tell(self._control, INPUT)

    def _next_output(self) -> bytes:
        frame = self._next()
        if frame is None or frame[0] != OUTPUT:
            raise _bad_output("an archive that ends in the middle")
        return frame[1]

    def _next(self) -> tuple[bytes, bytes] | None:
        try:
            return receive(self._report, CHUNK_BYTES)
        except ValueError as error:
            if self._stopped or (self._answering is not None and self._answering.ended_it):
                return None  # killed in the middle of a frame, by us
            raise ProtocolError("malformed-message", f"From the sandbox: {error}.") from error

    def _said(self) -> str:
        """The last line of what the launcher says of itself; no word of the task is there."""
        out = self._process.stderr
        text = b"" if out is None else out.read()
        self._process.wait()
        lines = text.decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else ""

    def evidence(self, report_data: bytes) -> bytes | None:
        """See `Running`; None where nothing proves what the machine is."""
        return None if self._attest is None else self._attest(report_data)

    def wait(self, on_log: Callable[[bytes], None] | None = None) -> Outcome:
        """Until it ends; see `Running`."""
        if self._outcome is not None:
            return self._outcome
        log = bytearray()
        while True:
            frame = self._next()
            if frame is None:
                self._finished()
                return self._ended("stopped" if self._stopped else "failed", log)
            kind, payload = frame
            if kind == LOG:
                payload = payload[: max(0, self._job.limits.log_bytes - len(log))]
                log += payload
                if on_log is not None:
                    on_log(payload)
            elif kind == ENDED:
                ended = json.loads(payload)
                if ended["end"] == "failed" and self._group and self._group.ran_out_of_memory:
                    ended["end"] = "memory"
                return self._ended(log=log, **ended)

    def _ended(self, end: Ending, log: bytearray, **more: Any) -> Outcome:
        answering = self._answering
        if answering is not None and answering.took_too_long and not self._stopped:
            end = "cpu"
        if self._stopped and end == "failed":
            end = "stopped"  # its mounts may have ended before it did
        fault = None if answering is None or self._stopped else answering.fault
        self._outcome = Outcome(end if fault is None else "failed", bytes(log), **more)
        if fault is not None:
            # The task may have gone on without what it could not read.
            raise fault
        return self._outcome

    def stop(self) -> None:
        """Kill it and all that it started."""
        self._stopped = True
        if not self._encloses and self._control >= 0:
            # No namespace ends with its supervisor, which therefore kills all others first.
            control, self._control = self._control, -1
            os.close(control)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOPS_WITHIN_S)
        self._process.kill()
        if self._answering is not None:
            self._answering.close()

    def collect(self, sink: Sink | None) -> None:
        """Its outputs, as they leave the sandbox; None drops them. It is gone afterwards.

        Raises:
            PolicyRefusal: ``task-output`` where they are more, or other, than the job allows.
        """
        if self._outcome is None:
            raise RuntimeError("collect comes after wait")
        try:
            if self._outcome.end == "succeeded" and sink is not None:
                self._receive(sink)
        finally:
            self._process.kill()
            self._finished()

    def _receive(self, sink: Sink) -> None:
        total, count = 0, 0
        stream = Incoming(self._next_output)
        try:
            with tarfile.open(fileobj=stream, mode="r|", **PARTS) as archive:
                for member in archive:
                    slot, _, path = member.name.partition("/")
                    total, count = total + member.size, count + 1
                    name = PurePosixPath(path)
                    if slot not in self._job.outputs or name.is_absolute() or ".." in name.parts:
                        raise _bad_output("a file outside its outputs")
                    if member.size < 0 or member.issparse():
                        raise _bad_output("a file of no plain size")
                    if any(category(letter) in _UNPRINTED for letter in path):
                        raise _bad_output("a file whose name has control characters")
                    if total > self._job.limits.disk_bytes or count > _MOST_FILES:
                        raise _bad_output("more than its limit")
                    content = archive.extractfile(member) if member.isfile() else None
                    if content is not None:
                        sink.begin(slot, path, member.size)
                        while part := content.read(CHUNK_BYTES):
                            sink.write(part)
                        sink.end()
        except tarfile.TarError as error:
            raise _bad_output("no archive") from error

    def _finished(self) -> None:
        self._process.wait()
        if self._answering is not None:
            self._answering.close()
        self._close()
        if self._group is not None:
            self._group.remove()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _close(self) -> None:
        for descriptor in (self._control, self._report):
            if descriptor >= 0:
                os.close(descriptor)
        self._control = self._report = -1
        process = getattr(self, "_process", None)
        if process is not None and process.stderr is not None:
            process.stderr.close()


class _Gone(Exception):
    """The sandbox has closed its end; no fault of what is sent."""


def _with_channel(
    told: Mapping[str, Any],
) -> tuple[Mapping[str, Any], socket.socket | None, socket.socket | None]:
    """For mounts, a socket over which the sandbox gives out their connections; ours, and its."""
    if told["mounts"] is None:
        return told, None, None
    here, there = socket.socketpair()
    return {**told, "mounts": {**told["mounts"], "channel": there.fileno()}}, here, there


def _tell(control: int, kind: bytes, payload: bytes | memoryview = b"") -> None:
    try:
        send(control, kind, payload)
    except OSError as error:
        raise _Gone from error


def _bad_output(what: str) -> PolicyRefusal:
    return PolicyRefusal("task-output", f"The task gave {what}; its outputs were not taken.")


class FolderSink:
    """Outputs as files of a folder, which only its owner may read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: Any = None

    def begin(self, slot: str, path: str, size_bytes: int) -> None:
        """See `Sink`."""
        del size_bytes
        place = self._folder / slot / path
        for folder in reversed(place.relative_to(self._folder).parents):
            (self._folder / folder).mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        self._file = os.fdopen(os.open(place, flags, 0o600), "wb")

    def write(self, data: bytes) -> None:
        """See `Sink`."""
        self._file.write(data)

    def end(self) -> None:
        """See `Sink`."""
        self._file.close()
