"""What executors add to a start, how inputs from a vault get inside, and how long evidence takes.

python -m benchmarks.enclave [--quick] [--mib 512]

All places take turns, so that other work on the machine hits them alike.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import get_args

from benchmarks.common import measure, print_header, print_table, show_seconds
from tests.unit.enclave.attestation import test_sev_snp, test_tpm
from tests.vectors import test_dcap_vectors

from cohortium.enclave.executor import Executor, executors
from cohortium.enclave.job import InputsBy, Job
from cohortium.enclave.unprivileged import mounts_refused
from cohortium.enclave.vaulted import VaultedInput
from cohortium.vault.filesystem import VaultFileSystem
from cohortium.vault.keys import Keyring, PrivateKey

READ = """
import os, sys, time
top = sys.argv[1]
names = [os.path.join(top, name) for name in sorted(os.listdir(top))]
buffer = bytearray(4 << 20)
for _ in range(2):
    began = time.perf_counter()
    for name in names:
        with open(name, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    print(time.perf_counter() - began)
"""


def task(executor: Executor, job: Job) -> bytes:
    """Start it, wait for its end and drop its outputs; what it printed."""
    running = executor.start(executor.prepare(job))
    outcome = running.wait()
    if outcome.end != "succeeded":
        raise RuntimeError(f"the task {outcome.end}: {outcome.log.decode(errors='replace')}")
    running.collect(None)
    return outcome.log


def in_turns(works: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each, the first turn not counted."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for turn in range(repeats + 1):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def starts(folder: Path, repeats: int) -> None:
    """The start and end of a program that does nothing."""
    (folder / "main.py").write_text("pass\n")
    command = [sys.executable, "-S", str(folder / "main.py")]
    job = Job(("{python}", "-S", "{code}/main.py"), folder, outputs=("out",))
    found = executors()
    works: dict[str, Callable[[], object]] = {
        "bare python": lambda: subprocess.run(command, check=True)
    }
    works |= {name: partial(task, one, job) for name, one in found.items() if not one.missing()}
    seconds = in_turns(works, repeats)
    bare = median(seconds["bare python"])
    rows: list[list[object]] = [
        [name, show_seconds(median(each)), show_seconds(min(each)), _added(each, bare), len(each)]
        for name, each in seconds.items()
    ]
    rows += [
        [name, "not here", "", "; ".join(one.missing()), 0]
        for name, one in found.items()
        if one.missing()
    ]
    print_table(["executor", "start to end", "fastest", "added", "n"], rows)


def _added(seconds: list[float], bare: float) -> str:
    return "" if median(seconds) == bare else f"{(median(seconds) - bare) * 1e3:.1f} ms"


def inputs(folder: Path, mib: int, repeats: int) -> None:
    """From the start to the end of a program that reads its inputs twice."""
    vault = VaultFileSystem(Keyring([PrivateKey.generate()]), durable=False)
    part = os.urandom(1 << 20)
    for name, count, size in (("large", 1, mib << 20), ("small", 1000, 50_000)):
        (folder / name).mkdir()
        for number in range(count):
            with vault.open(str(folder / name / f"{number:04}"), "wb") as file:
                for at in range(0, size, len(part)):
                    file.write(part[: size - at])
    code = folder / "code"
    code.mkdir()
    (code / "main.py").write_text(READ)
    rows = []
    for what, shown in (("large", f"1 of {mib} MiB"), ("small", "1000 of 50 kB")):
        for name in ("landlock", "bubblewrap"):
            executor = executors()[name]
            for by in get_args(InputsBy)[1:]:
                if executor.missing() or (by == "mount" and mounts_refused()):
                    continue
                source = VaultedInput(vault, str(folder / what))
                job = Job(("{python}", "-S", "{code}/main.py", "{inputs.x}"), code, {"x": source})
                rows.append([shown, name, by, *_reading(executor, job, by, repeats)])
    columns = ["inputs", "executor", "by", "start to end", "first read", "second read", "n"]
    print_table(columns, rows)


def _reading(executor: Executor, job: Job, by: InputsBy, repeats: int) -> list[object]:
    took, first, second = [], [], []
    for _ in range(repeats):
        began = time.perf_counter()
        log = task(executor, replace(job, inputs_by=by))
        took.append(time.perf_counter() - began)
        one, two = map(float, log.split())
        first.append(one)
        second.append(two)
    return [*(show_seconds(median(each)) for each in (took, first, second)), repeats]


def evidence(repeats: int) -> None:
    """Verification of evidence, with its certificates and collateral, against a policy."""
    quoted = test_tpm.evidence(test_tpm.TPM)
    report = test_sev_snp.AMD.report()
    works: dict[str, Callable[[], object]] = {
        "SGX quote (recorded)": test_dcap_vectors.sgx,
        "TDX quote (recorded)": test_dcap_vectors.tdx,
        # The recorded one is of a machine in debug mode, and refused.
        "SEV-SNP report (made up)": lambda: test_sev_snp.verify(report),
        "TPM quote and event log": lambda: test_tpm.verify(quoted),
    }
    rows = [[name, str(measure(work, repeats=repeats))] for name, work in works.items()]
    print_table(["evidence", "verified in"], rows)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--mib", type=int, default=512)
    options = parser.parse_args()
    few = options.quick
    print_header("Executors: start and end of a program, inputs from a vault, evidence")
    with tempfile.TemporaryDirectory() as name:
        starts(Path(name), 11 if few else 41)
    with tempfile.TemporaryDirectory() as name:
        inputs(Path(name), options.mib, 2 if few else 5)
    evidence(50 if few else 300)


if __name__ == "__main__":
    main()
