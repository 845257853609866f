"""Registering 10 million persons: time and peak memory of add, confirm and the first table.

python -m benchmarks.ingest [ROWS]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from benchmarks.common import print_header, print_table

PROGRAM = """
import sys, time
from pathlib import Path
from cohortium.node.datasets import FolderDatasets

def tell(step, began):
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) // 1024
    print(step, f"{time.perf_counter() - began:.2f}", peak, sep="\\t")

datasets = FolderDatasets(Path(sys.argv[1]))
began = time.perf_counter()
datasets.add("big", sys.argv[2])
tell("add", began)
began = time.perf_counter()
digest = datasets.confirm("big").digest
tell("confirm and digest", began)
variables = datasets.get("big").dictionary.by_name
wanted = {name: variables[name] for name in ("age", "sex", "bmi", "dead")}
for step in ("table of 4 columns, verified", "the same again"):
    began = time.perf_counter()
    datasets.table("big", wanted, {}, digest)
    tell(step, began)
print("digest", digest, "", sep="\\t")
"""


def people(n_rows: int) -> pa.Table:
    """A registry with every type, 67 bytes a row as CSV."""
    random = np.random.default_rng(1)
    codes = [f"I{chapter:02d}.{digit}" for chapter in range(60) for digit in range(10)]
    days = pa.array(random.integers(15_000, 19_000, n_rows).astype("int32"))
    return pa.table(
        {
            "id": np.arange(n_rows),
            "age": random.integers(18, 95, n_rows),
            "sex": pa.array(["female", "male"]).take(pa.array(random.integers(0, 2, n_rows))),
            "bmi": np.round(random.normal(26, 4, n_rows), 1),
            "cholesterol": random.normal(5, 1, n_rows),
            "systolic": np.round(random.normal(130, 15, n_rows), 0),
            "dead": random.integers(0, 2, n_rows),
            "icd": pa.array(codes).take(pa.array(random.integers(0, 600, n_rows))),
            "visit": days.cast(pa.date32()),
        }
    )


def main() -> None:
    """Measure CSV and Parquet, each in a process of its own."""
    n_rows = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    print_header(f"Registering {n_rows:,} rows of 9 columns")
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = people(n_rows)
        pa.csv.write_csv(table, folder / "people.csv")
        pq.write_table(table, folder / "people.parquet")
        del table
        for file in ("people.csv", "people.parquet"):
            size = (folder / file).stat().st_size / 1e6
            done = subprocess.run(
                [sys.executable, "-c", PROGRAM, str(folder / f"{file}.d"), str(folder / file)],
                capture_output=True,
                text=True,
                check=True,
            )
            rows += [
                [f"{file} ({size:.0f} MB)", *line.split("\t")] for line in done.stdout.splitlines()
            ]
    print_table(["source", "step", "seconds", "peak MB"], rows)


if __name__ == "__main__":
    main()
