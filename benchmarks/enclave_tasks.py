"""What a task under a contract takes, from the order to the decrypted result; real processes.

python -m benchmarks.enclave_tasks [--quick]

A hub, two lenders and an enclave on this machine. The program adds numbers; it is also run by hand,
on plain files, in the same run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import measure, print_header, print_table, show_seconds

from cohortium.demo.consortium import Consortium, together

LENDERS = ("Hospital A", "Hospital B")
RESEARCHER = "Dr. Bench"
ENCLAVE = "Enclave"
STUDY = "lent-bytes"
MIB = 1024 * 1024
TASK = """\
command: ["{python}", "-I", "-S", "{code}/count.py", "{inputs.first}", "{inputs.second}",
          "{outputs.sum}"]
inputs: {first: dataset, second: dataset}
outputs: [sum]
limits: {memory_bytes: 2000000000, time_s: 300, disk_bytes: 1048576}
"""
PROGRAM = """\
import sys

total = 0
for path in sys.argv[1:3]:
    with open(path, "rb", buffering=0) as file:
        while part := file.read(1 << 20):
            total += len(part) + part[0]
open(sys.argv[3] + "/sum", "w").write(str(total))
"""


def proposal(code: Path, study: str) -> str:
    first, second = LENDERS
    return f"""\
study: {study}
title: The sum of lent bytes
purpose: To measure.
participants: [{first}, {second}]
security_level: L2
environment: {{enclaves: [{ENCLAVE}]}}
tasks:
  - name: count
    code: {{folder: {code}}}
    inputs:
      - {{name: first, kind: dataset, owners: [{first}]}}
      - {{name: second, kind: dataset, owners: [{second}]}}
    outputs: [{{name: sum, owners: [{RESEARCHER}], recipients: [{RESEARCHER}]}}]
recipients: [{RESEARCHER}]
expires_at: "2099-01-01T00:00:00Z"
"""


def by_hand(code: Path, files: list[Path], out: Path) -> None:
    command = [sys.executable, "-I", "-S", str(code / "count.py"), *map(str, files), str(out)]
    subprocess.run(command, check=True)


def sizes_of(federation: Any, consortium: Consortium, root: Path, mib: int, repeats: int) -> Any:
    """One row: lenders' files of that size."""
    name = f"lent{mib}"
    study, code, out = f"{STUDY}-{mib}", root / "code", root / "out"
    files = []
    for site in LENDERS:
        file = root / f"{site.replace(' ', '')}-{mib}"
        file.write_bytes(os.urandom(mib * MIB or 1024))
        consortium.lend(site, name, file)
        files.append(file)
    slots = dict(zip(("count/first", "count/second"), LENDERS, strict=True))
    fills = {slot: (site, name) for slot, site in slots.items()}
    consortium.agree_on_tasks(study, proposal(code, study), fills)
    task = federation.study(study).task("count")
    expected = sum(len(data) + sum(data[::MIB]) for data in map(Path.read_bytes, files))
    seconds: list[float] = []

    def run() -> None:
        result = task.run()
        if int(result.read("sum")) != expected:
            raise RuntimeError("the enclave counted something else")
        seconds.append(result.outcome.seconds)

    first = measure(run, repeats=1, warm_ups=0)  # the ciphertext is not in the enclave's cache
    warm = measure(run, repeats=repeats)
    plain = measure(lambda: by_hand(code, files, out), repeats=repeats)
    inside = sorted(seconds[1:])[len(seconds[1:]) // 2]
    return (
        f"2 x {f'{mib} MiB' if mib else '1 KiB'}",
        show_seconds(first.median_s),
        warm,
        show_seconds(inside),
        plain,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="Fewer repeats, no large files.")
    quick = parser.parse_args().quick
    print_header("A task under a contract: two lenders, one enclave (landlock, L2)")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "code").mkdir()
        (root / "out").mkdir()
        (root / "code" / "task.yaml").write_text(TASK)
        (root / "code" / "count.py").write_text(PROGRAM)
        with Consortium(root / "consortium", name="Benchmark") as consortium:
            consortium.start_hub()
            consortium.add_researcher(RESEARCHER)
            consortium.add_sites(LENDERS)
            together(consortium.add_enclave, (ENCLAVE,))
            os.environ["COHORTIUM_PROFILE"] = str(consortium.profile)
            import cohortium as co

            with co.connect() as federation:
                rows = [
                    sizes_of(
                        federation, consortium, root, mib, 5 if quick else 20 if mib < 100 else 5
                    )
                    for mib in ((0, 16) if quick else (0, 16, 256))
                ]
    print_table(
        ("lent", "first run", "warm run, result decrypted", "of it in the sandbox", "by hand"), rows
    )


if __name__ == "__main__":
    main()
