"""Hostile programs that hide from a supervisor what they use, where there is no control group."""

from __future__ import annotations

import time
import venv
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tests.support.tasks import SMALL, Done, job, run

from cohortium.contract.task import MIB, Limits
from cohortium.enclave.cgroup import ControlGroup
from cohortium.enclave.executor import Executor, executors
from cohortium.enclave.job import Job
from cohortium.enclave.sandbox import shown


@pytest.fixture(params=["landlock", "bubblewrap"])
def sandbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Executor:
    found = executors()[request.param]
    if found.missing():
        pytest.skip("; ".join(found.missing()))
    monkeypatch.setattr(ControlGroup, "make", lambda *_: None)
    return found


def _done(
    sandbox: Executor, folder: Path, program: str, changed: Mapping[str, float] | None = None
) -> Done:
    limits = SMALL.model_copy(update={"time_s": 4, "memory_bytes": 64 * MIB, **(changed or {})})
    return run(sandbox, job(folder, program, limits=limits), folder)


FILL = """
import ctypes, os, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def fill():
    x = bytearray(40 * 2 ** 20)
    x[::4096] = b"1" * (len(x) // 4096)
    time.sleep(1.5)
    os._exit(0)
"""


@pytest.mark.parametrize(
    "hide",
    [
        'libc.prctl(15, b"\\xff\\xfe) R", 0, 0, 0); fill()',
        "libc.prctl(4, 0, 0, 0, 0); fill()",
        "threading.Thread(target=fill).start(); libc.syscall(60, 0)",
    ],
    ids=["a name that is no text", "not dumpable", "its first thread ends"],
)
def test_memory_is_counted_of_a_process_that_hides(
    sandbox: Executor, tmp_path: Path, hide: str
) -> None:
    program = f"{FILL}\nfor _ in range(3):\n    if not os.fork():\n        {hide}\ntime.sleep(2)"
    assert _done(sandbox, tmp_path, program).outcome.end == "memory"


def test_processes_with_a_name_that_is_no_text_are_counted(
    sandbox: Executor, tmp_path: Path
) -> None:
    program = f"""{FILL}
libc.prctl(15, b"\\xff", 0, 0, 0)
for _ in range(3):
    if not os.fork():
        time.sleep(1)
        os._exit(0)
time.sleep(1)
"""
    assert _done(sandbox, tmp_path, program, {"processes": 2}).outcome.end in {
        "processes",
        "failed",
    }


def test_what_it_leaves_behind_prints_no_more(sandbox: Executor, tmp_path: Path) -> None:
    program = """
        import os
        for _ in range(6):
            if not os.fork():
                while True:
                    os.write(1, b"x" * 65536)
        os._exit(0)
    """
    began = time.monotonic()
    done = _done(sandbox, tmp_path, program)
    assert done.outcome.end == "succeeded"
    assert time.monotonic() - began < 3


def test_an_output_that_became_a_link_is_none(sandbox: Executor, tmp_path: Path) -> None:
    program = """
        import os, sys
        os.rmdir(sys.argv[1])
        os.symlink("/usr/share/zoneinfo/Asia", sys.argv[1])
    """
    assert _done(sandbox, tmp_path, program).outputs == {}


def test_a_crash_is_not_given_to_the_machine(sandbox: Executor, tmp_path: Path) -> None:
    program = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE))"
    assert _done(sandbox, tmp_path, program).log == "(1, 1)"


def test_empty_files_have_an_end(sandbox: Executor, tmp_path: Path) -> None:
    program = """
        import os, sys
        name = 0
        while True:
            os.close(os.open(f"{sys.argv[1]}/{name}", os.O_CREAT | os.O_WRONLY))
            name += 1
    """
    done = _done(sandbox, tmp_path, program, {"time_s": 30, "cpu_s": 30})
    assert done.outcome.end == "disk"


def test_a_virtual_environment_of_a_python_in_bin_shows_no_more(tmp_path: Path) -> None:
    made = tmp_path / "venv"
    made.mkdir()
    (made / "pyvenv.cfg").write_text("home = /bin\nversion = 3.11.2\n")
    (tmp_path / "code").mkdir()
    assert "/" not in shown(Job(("x",), tmp_path / "code", readable=(made,)))


@pytest.mark.parametrize("name", ["process", "landlock", "bubblewrap"])
def test_no_control_group_stays(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = executors()[name]
    made: list[ControlGroup | None] = []
    make = ControlGroup.make

    def remember(*arguments: Any) -> ControlGroup | None:
        made.append(make(*arguments))
        return made[-1]

    monkeypatch.setattr(ControlGroup, "make", remember)
    if place.missing():
        pytest.skip("; ".join(place.missing()))
    run(place, job(tmp_path, "import os, time; os.fork(); time.sleep(0.1)"), tmp_path)
    if made[0] is None:
        pytest.skip("this user can make no control groups")
    assert not any(folder.exists() for folder in made[0].folders)


def test_an_environment_is_found_by_a_relative_path(
    sandbox: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    made = replace(job(tmp_path, "print('ran')"), readable=(Path("../venv"),))
    assert run(sandbox, made, tmp_path).log == "ran"


def test_other_processes_of_the_user_do_not_count(tmp_path: Path) -> None:
    program = "import resource; print(resource.getrlimit(resource.RLIMIT_NPROC)[0])"
    made = job(tmp_path, program, limits=SMALL.model_copy(update={"processes": 4}))
    assert int(run(executors()["process"], made, tmp_path).log) > 4


def test_a_log_fits_the_pipe_in_which_it_waits(sandbox: Executor, tmp_path: Path) -> None:
    most = 128 * 1024
    program = f"""
        import os
        for _ in range({most}): os.write(1, b"x")
        while True: pass
    """
    limits = SMALL.model_copy(update={"log_bytes": most, "cpu_s": 1})
    running = sandbox.start(sandbox.prepare(job(tmp_path, program, limits=limits)))
    time.sleep(4)
    began = time.monotonic()
    outcome = running.wait()
    running.collect(None)
    assert time.monotonic() - began < 0.5
    assert (outcome.end, len(outcome.log)) == ("cpu", most)
    with pytest.raises(ValidationError):
        Limits(log_bytes=most + 1)
