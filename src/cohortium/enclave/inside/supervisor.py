"""The first process inside a sandbox: starts the task, watches it, gives out what it may give.

It is told what to do over one pipe and answers over another (`frames`). What the task prints beyond
a number of bytes is dropped, of its exit code only whether it is 0 is told, and of its output
folders plain files and folders alone leave. Where the executor goes away the task is killed.
"""

from __future__ import annotations

import io
import json
import os
import resource
import select
import shutil
import signal
import stat
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from cohortium.enclave.inside import landlock, namespaces, seccomp
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
from cohortium.enclave.inside.limits import Limits, descendants

_LOOK_EVERY_S: Final = 0.05
_LARGEST_SPEC: Final = 1 << 20
_MOST_FILES: Final = 100_000
"""In one file system: an empty file takes memory too, that no limit of bytes counts."""


def main(control: int, report: int) -> None:
    """Run one task; `control` and `report` are the descriptors of the pipes."""
    first = receive(control, _LARGEST_SPEC)
    if first is None or first[0] != SPEC:
        raise SystemExit("no task")
    spec = json.loads(first[1])
    if spec["namespaces"]:
        namespaces.enter()
        child = os.fork()
        if child:
            os.close(control)
            os.close(report)
            _, status = os.waitpid(child, 0)
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    namespaces.supervise(other_user=spec["user"] is not None)
    mounts = _mounts(spec["mounts"])
    if spec["root"] is not None:
        namespaces.build_root(**spec["root"])
    if mounts is not None:
        mounts.show()
    Supervisor(spec, control, report).run()


class Supervisor:
    """One task."""

    def __init__(self, spec: dict[str, Any], control: int, report: int) -> None:
        self._spec = spec
        self._control = control
        self._report = report
        self._limits = Limits(**spec["limits"])
        self._folder = Path(spec["folder"])
        self._logged = 0
        self._why: str | None = None

    def run(self) -> None:
        """Take the inputs, start the task, wait for its end, send the outputs."""
        self._take_inputs()
        for name in self._spec["outputs"]:
            place = self._folder / "outputs" / name
            place.mkdir(parents=True, exist_ok=True)
            if self._spec["user"] is not None:
                place.chmod(0o777)
        for path in self._spec["taken"]:
            os.chown(path, os.geteuid(), os.getegid())
        read, write = os.pipe()
        task = os.fork()
        if not task:
            self._become_task(write)
        os.close(write)
        send(self._report, STARTED)
        status = self._watch(task, read)
        if self._why is None and status != 0:
            self._why = "disk" if self._disk_is_full() else "failed"
        ended = {"end": self._why or "succeeded", "log_truncated": self._log_is_full()}
        send(self._report, ENDED, json.dumps(ended | self._used()).encode())
        if self._why is None:
            self._send_outputs()
        send(self._report, OUTPUT)

    def _take_inputs(self) -> None:
        if not self._spec["streamed"]:
            return
        stream = Incoming(lambda: _next_input(self._control))
        with tarfile.open(fileobj=stream, mode="r|", **PARTS) as archive:
            for member in archive:
                place = self._folder / "inputs" / member.name
                if ".." in place.parts or not place.is_relative_to(self._folder / "inputs"):
                    raise SystemExit("an input has a name that leads elsewhere")
                content = archive.extractfile(member)
                if content is not None:
                    place.parent.mkdir(parents=True, exist_ok=True)
                    with place.open("xb") as file:
                        shutil.copyfileobj(content, file, CHUNK_BYTES)

    def _become_task(self, write: int) -> None:
        """Give up everything, and become the program; never returns."""
        try:
            os.setsid()
            nothing = os.open("/dev/null", os.O_RDONLY)
            for source, target in ((nothing, 0), (write, 1), (write, 2)):
                os.dup2(source, target)
            os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
            os.umask(0o077)
            os.chdir(self._spec["work"])
            if self._spec["user"] is not None:
                namespaces.become(*self._spec["user"])
            if self._spec["guarded"]:
                namespaces.drop_privileges()
            if self._spec["landlock"]:
                readable = [Path(path) for path in self._spec["readable"]]
                landlock.restrict(readable, [Path(path) for path in self._spec["writable"]])
            self._limits.apply()
            if self._spec["guarded"]:
                seccomp.apply()
            argv = self._spec["argv"]
            os.execvpe(argv[0], argv, self._spec["environment"])  # noqa: S606
        except BaseException as error:  # noqa: BLE001 - nothing above may go on in this process
            os.write(2, f"The task could not be started: {error}\n".encode())
        finally:
            os._exit(127)

    # While it runs

    def _watch(self, task: int, log: int) -> int:
        """Until the task has ended; its exit code."""
        ends = time.monotonic() + self._limits.time_s
        look = time.monotonic()
        open_log = True
        while True:
            now = time.monotonic()
            wait_s = max(0.0, min(look, ends) - now)
            ready, _, _ = select.select(
                [self._control, *([log] if open_log else [])], [], [], wait_s
            )
            if log in ready:
                open_log = self._pass_on(log)
            if self._control in ready and not os.read(self._control, 1):
                self._kill_rest()
                raise SystemExit("the executor is gone")
            status = self._reap(task)
            if status is not None:
                # What it left behind could go on printing, and no limit is looked at any more.
                self._kill_rest()
                while open_log and select.select([log], [], [], 0)[0]:
                    open_log = self._pass_on(log)
                return status
            now = time.monotonic()
            if now >= look:
                look = now + _LOOK_EVERY_S
                self._why = self._why or self._exceeded()
            if now >= ends:
                self._why = self._why or "time"
            if self._why is not None:
                self._stop(task)

    def _pass_on(self, log: int) -> bool:
        """What was printed, up to the limit; whether more may come."""
        text = os.read(log, 1 << 16)
        left = max(0, self._limits.log_bytes - self._logged)
        if text[:left]:
            send(self._report, LOG, text[:left])
        self._logged += len(text)
        return bool(text)

    def _log_is_full(self) -> bool:
        return self._logged > self._limits.log_bytes

    def _reap(self, task: int) -> int | None:
        """Bury whoever has ended; the exit code of the task if it has."""
        found = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return found
            if not pid:
                return found
            if pid == task:
                found = os.waitstatus_to_exitcode(status)

    def _exceeded(self) -> str | None:
        folders = [Path(path) for path in self._spec["measured"]]
        if any(map(_has_many_files, self._spec["writable"])):
            return "disk"
        return self._limits.exceeded(descendants(os.getpid()), folders)

    def _stop(self, task: int) -> None:
        if os.getpid() == 1:
            _kill(-1)  # all of this namespace at once: nobody starts another in between
        else:
            for pid in {task, *descendants(os.getpid())}:
                _kill(pid)

    def _kill_rest(self) -> None:
        while left := descendants(os.getpid()):
            self._stop(left[0])
            self._reap(-1)
            time.sleep(0.001)

    def _used(self) -> dict[str, float]:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "cpu_s": used.ru_utime + used.ru_stime,
            "largest_process_bytes": used.ru_maxrss * 1024,
        }

    def _disk_is_full(self) -> bool:
        for path in self._spec["mounted"]:
            found = os.statvfs(path)
            if found.f_bavail == 0:
                return True
        return False

    # Afterwards

    def _send_outputs(self) -> None:
        writer = io.BufferedWriter(
            Outgoing(lambda part: send(self._report, OUTPUT, part)), CHUNK_BYTES
        )
        with tarfile.open(fileobj=writer, mode="w|", **PARTS) as archive:
            for path, name in self._outputs():
                member = archive.gettarinfo(path, name)
                member.uid = member.gid = 0
                member.uname = member.gname = ""
                member.mtime = 0
                member.mode = 0o700 if member.isdir() else 0o600
                if member.isfile():
                    with path.open("rb") as file:
                        archive.addfile(member, file)
                elif member.isdir():
                    archive.addfile(member)
        writer.flush()

    def _outputs(self) -> Iterator[tuple[Path, str]]:
        top = self._folder / "outputs"
        for name in self._spec["outputs"]:
            if (top / name).is_symlink():  # os.walk would go where it leads
                continue
            for parent, folders, files in os.walk(top / name):
                for entry in (".", *sorted(folders), *sorted(files)):
                    path = Path(parent) / entry
                    if not path.is_symlink() and (entry != "." or path == top / name):
                        yield path, path.relative_to(top).as_posix()


def _has_many_files(path: str) -> bool:
    found = os.statvfs(path)
    return stat.S_ISDIR(os.stat(path).st_mode) and found.f_files - found.f_ffree > _MOST_FILES  # noqa: PTH116


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _mounts(told: dict[str, Any] | None) -> Any:
    if told is None:
        return None
    from cohortium.enclave.inside.mounts import Mounts  # imports what most tasks do without

    return Mounts(**told)


def _next_input(control: int) -> bytes:
    frame = receive(control, CHUNK_BYTES)
    if frame is None or frame[0] != INPUT:
        raise SystemExit("the inputs end in the middle")
    return frame[1]


def started(arguments: list[str], begin: Callable[[int, int], None] = main) -> None:
    """As a program: the two descriptors are its arguments."""
    begin(int(arguments[0]), int(arguments[1]))


if __name__ == "__main__":
    started(sys.argv[1:])
