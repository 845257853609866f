"""Small programs as tasks, and what became of them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cohortium.contract.task import MIB, Limits
from cohortium.enclave.executor import Executor
from cohortium.enclave.job import Job, Outcome, Source
from cohortium.enclave.supervised import FolderSink

SMALL = Limits(
    memory_bytes=256 * MIB, cpu_s=20, time_s=20, disk_bytes=8 * MIB, processes=16, log_bytes=4096
)


@dataclass(frozen=True)
class Done:
    """A task that has ended."""

    outcome: Outcome
    outputs: dict[str, bytes]

    @property
    def log(self) -> str:
        """What it printed, without the end of the last line."""
        return self.outcome.log.decode().rstrip()


def job(
    folder: Path,
    program: str,
    inputs: Mapping[str, Path | Source] | None = None,
    limits: Limits = SMALL,
) -> Job:
    """A Python program as a job; its arguments are the paths of its inputs and of ``out``."""
    code = folder / "code"
    code.mkdir(exist_ok=True)
    (code / "main.py").write_text(textwrap.dedent(program))
    given = dict(inputs or {})
    argv = ("{python}", "-S", "{code}/main.py", *(f"{{inputs.{name}}}" for name in given))
    return Job((*argv, "{outputs.out}"), code, given, ("out",), limits=limits)


def run(executor: Executor, made: Job, folder: Path) -> Done:
    """Run a job to its end."""
    running = executor.start(executor.prepare(made))
    outcome = running.wait()
    results = folder / "results"
    running.collect(FolderSink(results))
    files = [path for path in results.rglob("*") if path.is_file()]
    return Done(
        outcome, {path.relative_to(results).as_posix(): path.read_bytes() for path in files}
    )
