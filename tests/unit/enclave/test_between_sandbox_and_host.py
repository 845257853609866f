"""What passes between an executor and its sandbox, where one side or a storage is hostile."""

from __future__ import annotations

import io
import os
import tarfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from tests.support.tasks import job, run

from cohortium.enclave.executor import executors
from cohortium.enclave.supervised import FolderSink, SupervisedTask
from cohortium.errors import InputError, PolicyRefusal


class Held:
    """A file of 100 bytes, as it says."""

    def __init__(self, *chunks: bytes, path: str = "a", error: Exception | None = None) -> None:
        self._chunks, self._path, self._error = chunks, path, error

    def files(self) -> Iterable[tuple[str, int]]:
        return [(self._path, 100)]

    def chunks(self, path: str) -> Iterable[bytes]:
        yield from self._chunks
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (Held(b"x" * 99), "was changed"),
        (Held(b"x" * 101), "was changed"),
        (Held(b"x" * 100, b"y"), "was changed"),
        (Held(b"x", error=ConnectionError("no network")), "cannot be read: no network"),
        (Held(b"x" * 100, path="../../../planted"), "leads elsewhere"),
        (Held(b"x" * 100, path="/planted"), "leads elsewhere"),
    ],
)
def test_an_input_that_is_not_what_it_said_starts_nothing(
    tmp_path: Path, held: Held, said: str
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        run(executors()["process"], job(tmp_path, "print('ran')", {"held": held}), tmp_path)
    assert caught.value.code == "bad-data"


def test_stop_ends_a_task_without_a_sandbox(tmp_path: Path) -> None:
    place = executors()["process"]
    program = "import os, time; print(os.getpid(), flush=True); time.sleep(30)"
    running = place.start(place.prepare(job(tmp_path, program)))
    printed = bytearray()

    def stop(text: bytes) -> None:
        printed.extend(text)
        if printed.endswith(b"\n"):
            running.stop()

    assert running.wait(stop).end == "stopped"
    running.collect(None)
    process = Path(f"/proc/{int(printed)}")
    deadline = time.monotonic() + 5
    while process.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not process.exists()


def _archive(change: Callable[[tarfile.TarInfo], Any]) -> bytes:
    member = tarfile.TarInfo("out/a")
    member.size = 1
    change(member)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member, io.BytesIO(b"x"))
    return out.getvalue()


@pytest.mark.parametrize(
    "change",
    [
        lambda member: setattr(member, "name", "out//planted"),
        lambda member: setattr(member, "name", "out/../planted"),
        lambda member: setattr(member, "name", "other/a"),
        lambda member: setattr(member, "name", "out/\x1b[2J"),
        lambda member: setattr(member, "name", "out/a\nb"),
        lambda member: setattr(member, "name", "out/a\u202etxt.exe"),
        lambda member: setattr(member, "name", "out/\u200b"),
        lambda member: setattr(member, "name", os.fsdecode(b"out/\xff")),
        lambda member: setattr(member, "pax_headers", {"size": "-5"}),
        lambda member: setattr(member, "pax_headers", {"size": "99999999999999"}),
        lambda member: setattr(
            member, "pax_headers", {"GNU.sparse.map": "0,1", "GNU.sparse.size": "5"}
        ),
    ],
)
def test_a_forged_archive_of_outputs_writes_nothing(
    tmp_path: Path, change: Callable[[tarfile.TarInfo], Any]
) -> None:
    place = executors()["process"]
    running = place.start(place.prepare(job(tmp_path, "print(1)")))
    assert isinstance(running, SupervisedTask)
    assert running.wait().end == "succeeded"
    frames = iter([(b"O", _archive(change)), (b"O", b"")])
    running._next = lambda: next(frames, None)  # type: ignore[method-assign]
    with pytest.raises(PolicyRefusal, match="not taken"):
        running.collect(FolderSink(tmp_path / "results"))
    assert not [path for path in tmp_path.rglob("*") if path.name == "planted"]
    assert not (tmp_path / "results").exists()


def test_outputs_are_their_owner_s_alone(tmp_path: Path) -> None:
    program = """
        import os, sys
        os.makedirs(f"{sys.argv[1]}/a/b")
        open(f"{sys.argv[1]}/a/b/c", "w").write("c")
    """
    run(executors()["process"], job(tmp_path, program), tmp_path)
    made = [tmp_path / "results", *(tmp_path / "results").rglob("*")]
    assert len(made) == 5
    assert not any(path.stat().st_mode & 0o077 for path in made)
