"""Which processes a task has started."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cohortium.enclave.inside.limits import descendants

PROGRAM = (
    "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'input()']); print(1); input()"
)


def test_a_thread_that_ends_meanwhile_hides_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = Path.iterdir

    def with_one_that_ended(path: Path) -> Iterator[Path]:
        if path.name == "task":
            yield path / "0"
        yield from listed(path)

    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        program.stdout.read(1)
        found = descendants(program.pid)
        assert len(found) == 1
        monkeypatch.setattr(Path, "iterdir", with_one_that_ended)
        assert descendants(program.pid) == found
        assert descendants(found[0]) == []


def test_a_process_that_ended_has_none() -> None:
    program = subprocess.Popen([sys.executable, "-S", "-c", ""])
    program.wait()
    assert descendants(program.pid) == []
