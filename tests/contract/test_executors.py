"""What every executor does, and what a hostile task cannot do in those that are sandboxes."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from tests.support.measured_host import as_executor, executor_of, without
from tests.support.tasks import SMALL, Done, job, run

from cohortium.contract.task import MIB
from cohortium.enclave.executor import Executor
from cohortium.enclave.job import Job, Source
from cohortium.enclave.supervised import FolderSink
from cohortium.errors import InputError

LOCAL = ("process", "landlock", "bubblewrap", "gvisor", "tpm")
SANDBOXES = LOCAL[1:]


@pytest.fixture(scope="module", autouse=True)
def measured() -> Iterator[None]:
    """A host for the executor `tpm`, where there can be one."""
    with nullcontext() if without() else as_executor():
        yield


def _executor(name: str) -> Executor:
    found = executor_of(name)
    if found.missing():
        pytest.skip(f"{name}: {'; '.join(found.missing())}")
    return found


@pytest.fixture(params=LOCAL)
def executor(request: pytest.FixtureRequest) -> Executor:
    return _executor(request.param)


@pytest.fixture(params=SANDBOXES)
def sandbox(request: pytest.FixtureRequest) -> Executor:
    return _executor(request.param)


class Held:
    """Files that are on no disk."""

    def files(self) -> Iterable[tuple[str, int]]:
        return [("a/one.txt", 5), ("two.bin", 3_000_000)]

    def chunks(self, path: str) -> Iterable[bytes]:
        return [b"first"] if path == "a/one.txt" else [b"\x07" * 1_000_000] * 3


# Every executor


def test_a_program_reads_its_inputs_and_gives_its_outputs(
    executor: Executor, tmp_path: Path
) -> None:
    (tmp_path / "data.csv").write_text("7\n35\n")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "b.txt").write_text("hello")
    program = """
        import pathlib, sys
        data, tables, out = map(pathlib.Path, sys.argv[1:])
        (out / "deep").mkdir()
        (out / "deep" / "sum.txt").write_text(str(sum(map(int, data.read_text().split()))))
        (out / "copy.txt").write_text((tables / "b.txt").read_text())
        (pathlib.Path(sys.argv[0]).parent / "main.py").read_text()
        pathlib.Path("scratch.tmp").write_text("of no interest")
        print("done")
    """
    given = {"data": tmp_path / "data.csv", "tables": tmp_path / "tables"}
    done = run(executor, job(tmp_path, program, given), tmp_path)
    assert (done.outcome.end, done.log) == ("succeeded", "done")
    assert done.outputs == {"out/deep/sum.txt": b"42", "out/copy.txt": b"hello"}
    assert 0 < done.outcome.cpu_s < 20
    assert done.outcome.largest_process_bytes > MIB


def test_inputs_that_are_on_no_disk_arrive(executor: Executor, tmp_path: Path) -> None:
    program = """
        import pathlib, sys
        held, plain = map(pathlib.Path, sys.argv[1:3])
        two = (held / "two.bin").read_bytes()
        print((held / "a" / "one.txt").read_text(), len(two), set(two), plain.read_text())
    """
    (tmp_path / "plain.txt").write_text("beside")
    given: dict[str, Path | Source] = {"held": Held(), "plain": tmp_path / "plain.txt"}
    done = run(executor, job(tmp_path, program, given), tmp_path)
    assert done.log == "first 3000000 {7} beside"


def test_of_an_exit_code_only_zero_is_told(executor: Executor, tmp_path: Path) -> None:
    ends = [
        run(executor, job(tmp_path, f"import os; os._exit({code})"), tmp_path).outcome
        for code in (7, 200)
    ]
    assert [end.end for end in ends] == ["failed", "failed"]
    assert "7" not in repr(ends[0].end)


def test_a_log_is_cut_at_its_limit(executor: Executor, tmp_path: Path) -> None:
    program = "for i in range(20000): print('x' * 99)"
    done = run(executor, job(tmp_path, program), tmp_path)
    assert done.outcome.end == "succeeded"
    assert len(done.outcome.log) == SMALL.log_bytes
    assert done.outcome.log_truncated


def test_what_it_prints_comes_as_it_is_printed(executor: Executor, tmp_path: Path) -> None:
    program = "import time; print('one', flush=True); time.sleep(0.5); print('two')"
    running = executor.start(executor.prepare(job(tmp_path, program)))
    heard: list[tuple[float, bytes]] = []
    running.wait(lambda text: heard.append((time.monotonic(), text)))
    running.collect(FolderSink(tmp_path / "results"))
    assert b"".join(text for _, text in heard) == b"one\ntwo\n"
    assert heard[-1][0] - heard[0][0] > 0.3


def test_a_failed_task_gives_no_outputs(executor: Executor, tmp_path: Path) -> None:
    program = """
        import pathlib, sys
        (pathlib.Path(sys.argv[1]) / "half.txt").write_text("half")
        raise SystemExit("no more")
    """
    done = run(executor, job(tmp_path, program), tmp_path)
    assert (done.outcome.end, done.log, done.outputs) == ("failed", "no more", {})


def test_links_and_pipes_are_no_outputs(executor: Executor, tmp_path: Path) -> None:
    program = """
        import os, pathlib, sys
        out = pathlib.Path(sys.argv[1])
        (out / "plain.txt").write_text("plain")
        (out / "link").symlink_to("/etc/passwd")
        (out / "folder").symlink_to("/etc")
        try:
            os.mkfifo(out / "pipe")
        except PermissionError:
            pass
    """
    assert run(executor, job(tmp_path, program), tmp_path).outputs == {"out/plain.txt": b"plain"}


def test_a_program_that_is_not_there_fails(executor: Executor, tmp_path: Path) -> None:
    made = Job(("/no/such/program",), tmp_path, limits=SMALL)
    done = run(executor, made, tmp_path)
    assert done.outcome.end == "failed"
    assert "could not be started" in done.log


def test_a_command_with_an_unknown_slot_is_refused(executor: Executor, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\{inputs.other\}"):
        executor.prepare(Job(("{inputs.other}",), tmp_path))


@pytest.mark.parametrize(
    ("end", "program", "changed"),
    [
        ("memory", "x = bytearray(2 ** 30); x[::4096] = b'1' * (2 ** 18)", {}),
        ("time", "import time; time.sleep(60)", {"time_s": 0.5}),
        ("cpu", "while True: pass", {"cpu_s": 0.5}),
        (
            "disk",
            """
            import sys
            for n in range(400):
                with open(f"{sys.argv[1]}/{n}", "wb") as file:
                    file.write(b"x" * 2 ** 20)
            import time; time.sleep(10)
            """,
            {},
        ),
    ],
)
def test_a_limit_ends_it(
    executor: Executor, tmp_path: Path, end: str, program: str, changed: dict[str, float]
) -> None:
    began = time.monotonic()
    limits = SMALL.model_copy(update=changed)
    done = run(executor, job(tmp_path, program, limits=limits), tmp_path)
    # An allocation, or a write, that the kernel refuses ends the program itself.
    assert done.outcome.end == end or (end == "memory" and "MemoryError" in done.log)
    assert time.monotonic() - began < 8
    assert done.outputs == {}


def test_many_processes_together_have_one_limit_of_memory(
    executor: Executor, tmp_path: Path
) -> None:
    program = """
        import os, time
        for _ in range(6):
            if not os.fork():
                x = bytearray(80 * 2 ** 20)
                x[::4096] = b"1" * (80 * 2 ** 8)
                time.sleep(20)
        time.sleep(20)
    """
    assert run(executor, job(tmp_path, program), tmp_path).outcome.end == "memory"


def test_it_cannot_fork_without_bound(executor: Executor, tmp_path: Path) -> None:
    program = """
        import os, time
        started = 0
        try:
            while started < 4000:
                if not os.fork():
                    time.sleep(30)
                    os._exit(0)
                started += 1
        finally:
            print(started, flush=True)
        time.sleep(10)
    """
    done = run(executor, job(tmp_path, program), tmp_path)
    assert done.outcome.end in {"processes", "failed"}
    assert not _alive(str(tmp_path))


def test_stop_ends_all_that_it_started(executor: Executor, tmp_path: Path) -> None:
    program = """
        import os, time
        for _ in range(3):
            if not os.fork():
                os.setsid()
                if os.fork():
                    os._exit(0)
                time.sleep(60)
        print("begun", flush=True)
        time.sleep(60)
    """
    running = executor.start(executor.prepare(job(tmp_path, program)))
    begun = threading.Event()

    def stop() -> None:
        begun.wait(5)
        running.stop()

    threading.Thread(target=stop).start()
    outcome = running.wait(lambda text: begun.set())
    running.collect(FolderSink(tmp_path / "results"))
    assert outcome.end == "stopped"
    deadline = time.monotonic() + 5
    while _alive(str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _alive(str(tmp_path))


def test_it_ends_with_its_executor(tmp_path: Path, executor: Executor) -> None:
    made = f"""
        import sys, pathlib, time
        from tests.support.tasks import job
        from tests.support.measured_host import executor_of
        folder = pathlib.Path({str(tmp_path)!r})
        one = executor_of({executor.name!r})
        made = job(folder, "import time; print(1, flush=True); time.sleep(77)")
        one.start(one.prepare(made)).wait(lambda text: print("begun", flush=True))
    """
    file = tmp_path / "owner.py"
    file.write_text("\n".join(line.strip() for line in made.splitlines()))
    owner = subprocess.Popen(
        [sys.executable, str(file)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"begun\n"
    owner.kill()
    owner.wait()
    owner.stdout.close()
    deadline = time.monotonic() + 5
    while _alive("time.sleep(77)") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _alive("main.py") or not _alive(str(tmp_path))


def _alive(text: str) -> list[int]:
    """Processes of tasks whose command line or working folder has this in it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if text in line and "main.py" in line:
                found.append(int(entry.name))
    return found


# Sandboxes


def _tried(sandbox: Executor, folder: Path, program: str) -> str:
    """What a program that tries something prints."""
    done: Done = run(sandbox, job(folder, program), folder)
    assert done.outcome.end == "succeeded", done.log
    return done.log


def test_it_opens_no_socket_of_any_family(sandbox: Executor, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        program = f"""
            import ctypes, errno, socket
            libc = ctypes.CDLL(None, use_errno=True)
            opened = []
            for family in range(64):
                for kind in (1, 2, 3, 5):
                    if libc.socket(family, kind, 0) >= 0 or ctypes.get_errno() != errno.EPERM:
                        opened.append((family, kind))
            print(opened)
            try:
                socket.create_connection(("127.0.0.1", {server.getsockname()[1]}))
            except PermissionError:
                print("none")
            one, other = socket.socketpair()
            one.send(b"pair"); print(other.recv(4))
            print(libc.syscall(425, 8, bytes(120)), ctypes.get_errno() == errno.EPERM)
        """
        assert _tried(sandbox, tmp_path, program).splitlines() == [
            "[]",
            "none",
            "b'pair'",
            "-1 True",
        ]


def test_it_sees_no_other_process(sandbox: Executor, tmp_path: Path) -> None:
    program = f"""
        import os
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        print(len(pids), os.getpid() in pids, os.path.exists("/proc/{os.getpid()}/cmdline"))
        pipes = ["/proc/1/fd/" + str(number) for number in range(4)]
        for path in ("/proc/1/mem", "/proc/1/environ", "/proc/1/root/etc/passwd", *pipes):
            acts = {{
                "read": lambda: os.read(os.open(path, os.O_RDONLY | os.O_NONBLOCK), 1),
                "opened": lambda: os.open(path, os.O_WRONLY | os.O_NONBLOCK),
                "named": lambda: os.readlink(path),
            }}
            for name, act in acts.items():
                try:
                    act(); print(name, path)
                except OSError:
                    pass
        try:
            os.kill({os.getpid()}, 0); print("signal")
        except ProcessLookupError:
            pass
        try:
            os.kill(1, 9)
        except PermissionError:
            pass
        print("alive")
    """
    seen = _tried(sandbox, tmp_path, program).splitlines()
    if sandbox.name == "gvisor":  # shows the names of descriptors, and PATH and LANG
        seen = [line for line in seen if not line.startswith(("named", "read /proc/1/environ"))]
    assert seen == ["2 True False", "alive"]


def test_it_reads_nothing_outside_its_inputs(sandbox: Executor, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    outside = [
        str(secret),
        str(Path.home()),
        "/etc/shadow",
        "/etc/hostname",
        "/sys",
        "/run",
        "/var",
    ]
    program = f"""
        import os
        for path in {outside!r}:
            print(os.path.exists(path), end=" ")
        print(open("/etc/passwd").read().count(":"))
    """
    log = _tried(sandbox, tmp_path, program)
    shown = {path for word, path in zip(log.split(), outside, strict=False) if word == "True"}
    # Where Python lies in the home folder; gVisor has a /sys of its own.
    assert shown <= {str(Path.home()), *(["/sys"] if sandbox.name == "gvisor" else [])}
    assert "secret" not in log


def test_it_is_told_little_of_the_machine(sandbox: Executor, tmp_path: Path) -> None:
    kernel = Path("/proc/sys/kernel")
    names = [
        Path(path).read_text().strip() for path in (kernel / "random/boot_id", "/proc/cmdline")
    ]
    program = f"""
        import os
        def read(path):
            try:
                return os.read(os.open(path, os.O_RDONLY | os.O_NONBLOCK), 1 << 20).decode()
            except OSError:
                return ""
        told = {{}}
        for top in os.listdir("/proc"):
            if not top.isdigit() and not os.path.islink(f"/proc/{{top}}"):
                told[top] = read(f"/proc/{{top}}")
                for folder, _, files in os.walk(f"/proc/{{top}}"):
                    for name in files if folder != "/proc/sys/vm" else []:
                        told[f"{{folder}}/{{name}}"] = read(f"{{folder}}/{{name}}")
        named = [name for name in {names!r} if any(name in text for text in told.values())]
        print(os.uname().nodename, named)
        print(*sorted(name for name, text in told.items() if text))
    """
    first, told, *_ = [*_tried(sandbox, tmp_path, program).splitlines(), "", ""]
    assert first == "task []"
    if sandbox.name != "gvisor":  # which tells of itself
        assert set(told.split()) == {"cpuinfo", "loadavg", "meminfo", "uptime", "version"}


def test_it_writes_nowhere_else(sandbox: Executor, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("given")
    program = """
        import os, sys
        places = ["/", "/tmp", "/etc", "/usr", "/task", "/task/code", "/opt", "/dev", "/proc/self",
                  "/usr/lib", os.path.dirname(sys.executable), "/var/tmp", "/run"]
        written = []
        for place in places:
            try:
                with open(place + "/planted", "w") as file:
                    file.write("x")
                written.append(place)
            except OSError:
                pass
        for path in (sys.argv[1], sys.argv[0], "/etc/passwd"):
            acts = (lambda: open(path, "a"), lambda: os.unlink(path), lambda: os.chmod(path, 0))
            for act in acts:
                try:
                    act(); written.append(path)
                except OSError:
                    pass
        print(written)
    """
    given = {"data": tmp_path / "data.txt"}
    done = run(sandbox, job(tmp_path, program, given), tmp_path)
    assert done.log in {"[]", "['/etc/passwd']"}, done.log
    assert (tmp_path / "data.txt").read_text() == "given"


def test_it_cannot_leave_by_namespaces_mounts_or_tracing(sandbox: Executor, tmp_path: Path) -> None:
    program = """
        import ctypes, errno, os
        libc = ctypes.CDLL(None, use_errno=True)
        calls = {
            "unshare": lambda: libc.unshare(0x10000000),
            "unshare mount": lambda: libc.unshare(0x00020000),
            "clone": lambda: libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0),
            "setns": lambda: libc.setns(os.open("/proc/self/ns/user", 0), 0),
            "ptrace": lambda: libc.ptrace(16, 1, 0, 0),
            "traceme": lambda: libc.ptrace(0, 0, 0, 0),
            "vm_readv": lambda: libc.process_vm_readv(1, 0, 0, 0, 0, 0),
            "mount": lambda: libc.mount(b"none", b"/task", b"tmpfs", 0, None),
            "umount": lambda: libc.umount2(b"/proc", 2),
            "chroot": lambda: libc.chroot(b"/task"),
            "pivot": lambda: libc.syscall(155, b"/task", b"/task"),
            "bpf": lambda: libc.syscall(321, 0, 0, 0),
            "perf": lambda: libc.syscall(298, 0, 0, 0, 0, 0),
            "keyctl": lambda: libc.syscall(250, 0, 0, 0, 0, 0),
            "userfaultfd": lambda: libc.syscall(323, 0),
            "io_uring": lambda: libc.syscall(425, 8, bytes(120)),
            "init_module": lambda: libc.syscall(175, 0, 0, 0),
            "kexec": lambda: libc.syscall(246, 0, 0, 0, 0),
            "open_by_handle": lambda: libc.syscall(304, 0, 0, 0),
            "mknod": lambda: libc.syscall(133, b"/task/scratch/disk", 0o60600, 0x800),
            "setuid": lambda: libc.setuid(0),
            "x32 getpid": lambda: libc.syscall(0x40000000 + 39),
        }
        for name, call in calls.items():
            result, number = call(), ctypes.get_errno()
            if result != -1 or number != errno.EPERM:
                print(name, result, errno.errorcode.get(number))
        status = open("/proc/self/status").read()
        for line in status.splitlines():
            if line.startswith(("CapInh", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs", "Seccomp:")):
                print(*line.split())
    """
    expected = [f"{name} 0000000000000000" for name in ("CapInh:", "CapPrm:", "CapEff:")]
    if sandbox.name != "gvisor":  # whose status does not say
        expected += ["CapAmb: 0000000000000000", "NoNewPrivs: 1"]
    assert _tried(sandbox, tmp_path, program).splitlines() == [*expected, "Seccomp: 2"]


def test_threads_and_child_processes_work(sandbox: Executor, tmp_path: Path) -> None:
    program = """
        import multiprocessing, subprocess, sys, threading
        thread = threading.Thread(target=lambda: print("thread", flush=True))
        thread.start(); thread.join()
        print(subprocess.run(["/bin/echo", "child"], capture_output=True).stdout)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(pool.map(abs, [-1, -2]))
    """
    assert _tried(sandbox, tmp_path, program).splitlines() == ["thread", "b'child\\n'", "[1, 2]"]


def test_nothing_of_it_stays_on_the_disk(sandbox: Executor, tmp_path: Path) -> None:
    marker = secrets.token_hex(16)
    program = f"""
        import pathlib, sys, time
        marker = "{marker[::-1]}"[::-1]
        pathlib.Path("scratch.txt").write_text(marker)
        (pathlib.Path(sys.argv[1]) / "out.txt").write_text(marker)
        print("written", flush=True)
        time.sleep(1)
        raise SystemExit(1)
    """
    made = job(tmp_path, program)
    running = sandbox.start(sandbox.prepare(made))
    found: list[str] = []

    def look(_: bytes) -> None:
        since = str(made.code / "main.py")
        asked = ["find", "/tmp", "/var/tmp", "/dev/shm", "-newer", since, "-type", "f"]
        grep = ["-exec", "grep", "-ls", marker, "{}", "+"]
        looked = subprocess.run([*asked, *grep], capture_output=True, text=True, check=False)
        found.extend(looked.stdout.split())

    running.wait(look)
    running.collect(FolderSink(tmp_path / "results"))
    assert found == []
