"""What an executor adds to the start of a program, beside the bare program.

python -m benchmarks.enclave [--quick]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.common import measure, print_header, print_table, show_seconds

from cohortium.enclave.executor import Executor, executors
from cohortium.enclave.job import Job


def task(executor: Executor, job: Job) -> None:
    """Start it, wait for its end and drop its outputs."""
    running = executor.start(executor.prepare(job))
    if running.wait().end != "succeeded":
        raise RuntimeError("the task failed")
    running.collect(None)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    repeats = 11 if parser.parse_args().quick else 51
    print_header("The start and end of a Python program that does nothing")
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder)
        (code / "main.py").write_text("pass\n")
        command = [sys.executable, "-S", str(code / "main.py")]
        bare = measure(lambda: subprocess.run(command, check=True), repeats=repeats)
        rows: list[list[object]] = [["bare", show_seconds(bare.median_s), "", repeats]]
        job = Job(("{python}", "-S", "{code}/main.py"), code, outputs=("out",))
        for name, executor in executors().items():
            if missing := executor.missing():
                rows.append([name, "not here", "; ".join(missing), 0])
                continue
            timing = measure(partial(task, executor, job), repeats=repeats)
            added = show_seconds(timing.median_s - bare.median_s)
            rows.append([name, show_seconds(timing.median_s), added, repeats])
    print_table(["executor", "start to end", "added", "n"], rows)


if __name__ == "__main__":
    main()
