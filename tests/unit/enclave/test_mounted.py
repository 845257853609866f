"""Inputs that are decrypted as a task reads them, through a mount in its sandbox."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.tasks import SMALL, Done, job, run

from cohortium.contract.task import MIB
from cohortium.enclave.executor import Executor, executors
from cohortium.enclave.job import Source
from cohortium.enclave.mounted import mounted
from cohortium.enclave.unprivileged import mounts_refused
from cohortium.enclave.vaulted import VaultedInput
from cohortium.errors import InputError, PolicyRefusal, VerificationError
from cohortium.vault.filesystem import VaultFileSystem
from cohortium.vault.keys import Keyring, PrivateKey


@pytest.fixture
def vault() -> VaultFileSystem:
    return VaultFileSystem(Keyring([PrivateKey.generate()]), durable=False)


@pytest.fixture(params=["landlock", "bubblewrap"])
def sandbox(request: pytest.FixtureRequest) -> Executor:
    found = executors()[request.param]
    if missing := (*found.missing(), *filter(None, [mounts_refused()])):
        pytest.skip("; ".join(missing))
    return found


@pytest.fixture
def images(vault: VaultFileSystem, tmp_path: Path) -> str:
    folder = str(tmp_path / "images")
    vault.makedirs(f"{folder}/deep/er")
    for name, content in (
        ("a.bin", b"first " * 300_000),
        ("deep/b.bin", b""),
        ("deep/er/\u00e9.bin", b"e"),
        ("c.bin", b"last"),
    ):
        with vault.open(f"{folder}/{name}", "wb") as file:
            file.write(content)
    return folder


def _mounted(
    sandbox: Executor, folder: Path, program: str, inputs: Mapping[str, Path | Source]
) -> Done:
    return run(sandbox, replace(job(folder, program, inputs), inputs_by="mount"), folder)


def test_a_folder_of_a_vault_is_plain_files_inside(
    vault: VaultFileSystem, images: str, sandbox: Executor, tmp_path: Path
) -> None:
    program = """
        import hashlib, mmap, os, pathlib, sys
        top, one, plain, out = map(pathlib.Path, sys.argv[1:])
        for path in sorted(top.rglob("*")):
            print(path.relative_to(top), path.is_file() and path.stat().st_size)
        whole = (top / "a.bin").read_bytes()
        print(whole == b"first " * 300_000, one.read_text(), plain.read_text())
        with (top / "a.bin").open("rb") as file:
            file.seek(1_000_002); print(file.read(9))
            mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ); print(mapped[-6:])
        print([line.split()[5] for line in open("/proc/self/mountinfo") if " fuse " in line])
    """
    (tmp_path / "plain.txt").write_text("plain")
    given: dict[str, Path | Source] = {
        "images": VaultedInput(vault, images),
        "one": VaultedInput(vault, f"{images}/c.bin"),
        "plain": tmp_path / "plain.txt",
    }
    done = _mounted(sandbox, tmp_path, program, given)
    assert done.log.splitlines() == [
        "a.bin 1800000",
        "c.bin 4",
        "deep False",
        "deep/b.bin 0",
        "deep/er False",
        "deep/er/\u00e9.bin 1",
        "True last plain",
        "b'first fir'",
        "b'first '",
        "['ro,nosuid,nodev,noexec,relatime', 'ro,nosuid,nodev,noexec,relatime']",
    ]


def test_an_input_may_be_larger_than_the_memory_of_the_task(
    vault: VaultFileSystem, sandbox: Executor, tmp_path: Path
) -> None:
    part = os.urandom(MIB)
    with vault.open(str(tmp_path / "large"), "wb") as file:
        for _ in range(96):
            file.write(part)
    program = """
        import sys
        total = 0
        with open(sys.argv[1], "rb", buffering=0) as file:
            while part := file.read(1 << 20):
                total += len(part)
        print(total)
        print([line.split()[4] for line in open("/proc/self/mountinfo") if " fuse " in line])
    """
    small = SMALL.model_copy(update={"memory_bytes": 48 * MIB})
    given = {"large": VaultedInput(vault, str(tmp_path / "large"))}
    done = run(sandbox, job(tmp_path, program, given, small), tmp_path)
    assert done.log.splitlines() == [str(96 * MIB), "['/task/inputs/large']"]


def test_a_task_can_neither_write_there_nor_answer_itself(
    vault: VaultFileSystem, images: str, sandbox: Executor, tmp_path: Path
) -> None:
    program = """
        import ctypes, errno, os, sys
        top = sys.argv[1]
        for path, flags in (
            (top + "/new", os.O_WRONLY | os.O_CREAT), (top + "/c.bin", os.O_WRONLY),
            ("/dev/fuse", os.O_RDWR), ("/opt/device/fuse", os.O_RDWR), ("/opt/device", os.O_RDONLY),
        ):
            try:
                os.open(path, flags)
                print("opened", path)
            except OSError as error:
                print(errno.errorcode[error.errno] in ("EROFS", "EACCES", "ENOENT"))
        libc = ctypes.CDLL(None, use_errno=True)
        print(libc.umount2(top.encode(), 2), libc.unshare(0x20000))
        print(*[line for line in open("/proc/self/status").read().split("\\n")
                if line.startswith(("CapEff", "CapPrm", "Seccomp:"))])
        print(sorted(os.listdir("/proc/self/fd")))
    """
    done = _mounted(sandbox, tmp_path, program, {"images": VaultedInput(vault, images)})
    none = "0" * 16
    assert done.log.splitlines() == [
        *["True"] * 5,
        "-1 -1",
        f"CapPrm:\t{none} CapEff:\t{none} Seccomp:\t2",
        "['0', '1', '2', '3']",  # 3 is the listing's own
    ]


class Held:
    """A file that is read by a function."""

    def __init__(self, size: int, pread_into: object) -> None:
        self._size = size
        self.pread_into = pread_into

    def files(self) -> Iterable[tuple[str, int]]:
        return [("", self._size)]

    def chunks(self, _path: str) -> Iterable[bytes]:
        raise NotImplementedError

    def open(self, _path: str) -> Held:
        return self

    def close(self) -> None:
        pass


READ = "import sys; print(len(open(sys.argv[1], 'rb').read())); print('went on')"


def test_a_damaged_chunk_ends_the_task(
    vault: VaultFileSystem, images: str, sandbox: Executor, tmp_path: Path
) -> None:
    file = Path(images) / "a.bin"
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)
    program = """
        import sys, time
        with open(sys.argv[1] + "/a.bin", "rb") as file:
            print(file.read(5), flush=True)
            try:
                file.read()
            except OSError as error:
                print(error, flush=True)
        time.sleep(30)
    """
    given = {"images": VaultedInput(vault, images)}
    began = time.monotonic()
    with pytest.raises(VerificationError) as caught:
        _mounted(sandbox, tmp_path, program, given)
    assert caught.value.code == "bad-vault-file"
    assert time.monotonic() - began < 15


def test_another_version_is_not_read_after_the_first(vault: VaultFileSystem, images: str) -> None:
    source = VaultedInput(vault, images)
    assert dict(source.files())["c.bin"] == 4
    with vault.open(f"{images}/c.bin", "wb") as file:
        file.write(b"next")
    assert dict(source.files())["c.bin"] == 4
    with pytest.raises(InputError, match="changed while it was read"):
        source.open("c.bin")


def test_a_source_that_becomes_shorter_ends_the_task(sandbox: Executor, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="changed while it was read"):
        _mounted(sandbox, tmp_path, READ, {"held": Held(9000, lambda _offset, _into: 4096)})


def test_a_source_that_fails_ends_the_task(sandbox: Executor, tmp_path: Path) -> None:
    def fails(_offset: int, _into: object) -> int:
        raise OSError("the bucket is gone")

    with pytest.raises(InputError, match="cannot be read: the bucket is gone"):
        _mounted(sandbox, tmp_path, READ, {"held": Held(9000, fails)})


def test_a_task_that_waits_for_a_source_can_be_stopped(sandbox: Executor, tmp_path: Path) -> None:
    waits: list[int] = []

    def slow(offset: int, _into: object) -> int:
        waits.append(offset)
        time.sleep(60)
        return 0

    made = job(tmp_path, READ, {"held": Held(9000, slow)})
    running = sandbox.start(sandbox.prepare(replace(made, inputs_by="mount")))
    while not waits:
        time.sleep(0.01)
    began = time.monotonic()
    running.stop()
    assert running.wait().end == "stopped"
    running.collect(None)
    assert time.monotonic() - began < 10


def test_a_task_that_waits_for_a_source_ends_when_its_time_is_over(
    sandbox: Executor, tmp_path: Path
) -> None:
    def slow(_offset: int, _into: object) -> int:
        time.sleep(60)
        return 0

    small = SMALL.model_copy(update={"time_s": 0.3})
    made = job(tmp_path, READ, {"held": Held(9000, slow)}, small)
    running = sandbox.start(sandbox.prepare(replace(made, inputs_by="mount")))
    began = time.monotonic()
    assert running.wait().end == "time"
    running.collect(None)
    assert time.monotonic() - began < 10


def test_what_a_task_makes_others_decrypt_counts_as_its_processor_time(
    sandbox: Executor, tmp_path: Path
) -> None:
    def works(_offset: int, into: memoryview) -> int:
        until = time.thread_time() + 0.1
        while time.thread_time() < until:
            pass
        return len(into)

    small = SMALL.model_copy(update={"cpu_s": 0.3})
    made = replace(job(tmp_path, READ, {"held": Held(64 * MIB, works)}, small), inputs_by="mount")
    running = sandbox.start(sandbox.prepare(made))
    assert running.wait().end == "cpu"
    running.collect(None)


@pytest.mark.parametrize("name", ["process", "gvisor"])
def test_an_executor_without_mounts_refuses(name: str, tmp_path: Path) -> None:
    made = replace(job(tmp_path, READ, {"held": Held(1, None)}), inputs_by="mount")
    with pytest.raises(InputError, match="mounts no inputs"):
        executors()[name].prepare(made)


def test_what_can_only_be_read_in_order_is_not_mounted(tmp_path: Path) -> None:
    class Ordered:
        def files(self) -> Iterable[tuple[str, int]]:
            return [("", 1)]

        def chunks(self, _path: str) -> Iterable[bytes]:
            return [b"1"]

    made = replace(job(tmp_path, READ, {"held": Ordered()}), inputs_by="mount")
    with pytest.raises(InputError, match="only be read in order"):
        mounted(made)


def test_small_inputs_are_copied(vault: VaultFileSystem, images: str, tmp_path: Path) -> None:
    made = job(tmp_path, READ, {"images": VaultedInput(vault, images)})
    assert mounted(made) == {}
    limits = SMALL.model_copy(update={"memory_bytes": 16 * MIB})
    held: Source = Held(5 * MIB, None)
    large = job(tmp_path, READ, {"held": held}, limits)
    assert mounted(large) == ({} if mounts_refused() else {"held": held})
    assert mounted(replace(large, inputs_by="memory")) == {}


def test_a_mount_that_is_asked_for_and_cannot_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cohortium.enclave.mounted.mounts_refused", lambda: "no device")
    made = job(tmp_path, READ, {"held": Held(1, None)})
    with pytest.raises(PolicyRefusal, match="no device") as caught:
        mounted(replace(made, inputs_by="mount"))
    assert caught.value.code == "executor-unavailable"
