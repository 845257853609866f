"""What every measurement prints: the machine, the versions, medians with their n, one table."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median, quantiles

VERSIONS = ("cohortium", "numpy", "pyarrow", "pandas", "statsmodels", "grpcio", "cryptography")


@dataclass(frozen=True)
class Timing:
    """Repeated measurements of one thing, in seconds."""

    seconds: tuple[float, ...]

    @property
    def n(self) -> int:
        """Measurements."""
        return len(self.seconds)

    @property
    def median_s(self) -> float:
        """The median."""
        return median(self.seconds)

    @property
    def p95_s(self) -> float:
        """The 95th percentile; the maximum where there are too few."""
        return quantiles(self.seconds, n=20)[-1] if self.n >= 20 else max(self.seconds)

    def __str__(self) -> str:
        return f"{show_seconds(self.median_s)} (n={self.n}, p95 {show_seconds(self.p95_s)})"


def measure(work: Callable[[], object], *, repeats: int, warm_ups: int = 1) -> Timing:
    """Time `work`; the first `warm_ups` calls do not count."""
    for _ in range(warm_ups):
        work()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return Timing(tuple(seconds))


def show_seconds(seconds: float) -> str:
    """With the unit that fits: ``3.2 ms``."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def machine_line() -> str:
    """Processor, cores that may be used, memory, load, system."""
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    return (
        f"{_cpu()}, {cores} cores, {_memory_gib():.0f} GiB, load {load:.1f}, "
        f"{platform.system()} {platform.release()}"
    )


def versions_line() -> str:
    """Python and the packages that matter."""
    found = [f"python {platform.python_version()}"]
    for name in VERSIONS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def print_header(title: str) -> None:
    """The title, the machine and the versions."""
    print(f"{title}\n  {machine_line()}\n  {versions_line()}\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table: by Rich on a terminal, as Markdown otherwise (to paste into docs/benchmarks.md)."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        made = Table()
        for column in columns:
            made.add_column(column)
        for row in rows:
            made.add_row(*(str(cell) for cell in row))
        Console().print(made)
        return
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print()


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> float:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return pages * size / 1024**3
