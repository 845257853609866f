"""Seconds of an epoch of training in each executor, beside the bare script.

python -m benchmarks.enclave_training --packages VENV [--data FOLDER] [--rounds 5] [--quick]

VENV has PaddlePaddle or PyTorch; FOLDER has `owner_a` and `owner_b` as
examples/enclave/retina/fundus.py makes them, and is made up where none is given. All places take
turns; the first epoch of each run does not count.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median

from benchmarks.common import print_header, print_table

from cohortium.enclave import manifest
from cohortium.enclave.executor import executor
from cohortium.enclave.job import Source
from cohortium.enclave.supervised import FolderSink
from cohortium.enclave.vaulted import VaultedInput
from cohortium.vault.filesystem import VaultFileSystem
from cohortium.vault.keys import PrivateKey

RETINA = Path(__file__).parents[1] / "examples" / "enclave" / "retina"
EPOCH = re.compile(rb"^epoch (\d+) .* wall ([\d.]+) s cpu ([\d.]+) s$", re.MULTILINE)
OUTPUTS = ("model", "report", "pictures")


@dataclass(frozen=True)
class Run:
    """What one training took, an epoch, and the digits that it gave."""

    wall_s: tuple[float, ...]
    cpu_s: tuple[float, ...]
    metrics: bytes

    @classmethod
    def of(cls, log: bytes, out: Path) -> Run:
        """From what it printed and wrote."""
        found = [
            (float(wall), float(cpu)) for epoch, wall, cpu in EPOCH.findall(log) if int(epoch) > 1
        ]
        wall, cpu = zip(*found, strict=True)
        return cls(wall, cpu, (out / "report" / "metrics.json").read_bytes())


def bare(packages: Path, data: Path, arguments: Mapping[str, int], framework: str) -> Run:
    """The script as a user starts it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(packages / "bin" / "python"), str(RETINA / f"train_{framework}.py")]
        for owner in ("a", "b"):
            command += [f"--owner-{owner}", str(data / f"owner_{owner}")]
        for slot in OUTPUTS:
            command += [f"--{slot}", str(Path(folder, slot))]
        for name, value in arguments.items():
            command += [f"--{name}", str(value)]
        environment = {**os.environ, **manifest.read(RETINA).environment}
        ran = subprocess.run(command, check=True, capture_output=True, env=environment)
        return Run.of(ran.stdout, Path(folder))


def inside(
    name: str,
    packages: Path,
    inputs: Mapping[str, Path | Source],
    arguments: Mapping[str, int],
    framework: str,
) -> Run:
    """The same as a task."""
    task = manifest.read(RETINA)
    job = task.job(RETINA, inputs, {**arguments, "framework": framework}, (packages,))
    place = executor(name)
    running = place.start(place.prepare(job))
    outcome = running.wait()
    with tempfile.TemporaryDirectory() as folder:
        running.collect(FolderSink(Path(folder)))
        if outcome.end != "succeeded":
            raise RuntimeError(f"{name}: {outcome.end}: {outcome.log.decode(errors='replace')}")
        return Run.of(outcome.log, Path(folder))


def encrypted(data: Path, folder: Path) -> dict[str, Path | Source]:
    """Both owners' folders in a vault."""
    key = folder / "me.key"
    PrivateKey.generate().save(key)
    vault = VaultFileSystem(key, durable=False)
    for file in data.rglob("*"):
        if file.is_file():
            target = folder / file.relative_to(data)
            target.parent.mkdir(parents=True, exist_ok=True)
            with vault.open(str(target), "wb") as out:
                out.write(file.read_bytes())
    return {owner: VaultedInput(vault, str(folder / owner)) for owner in ("owner_a", "owner_b")}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", type=Path, default=Path(sys.prefix))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--patches", type=int, default=384)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--places", nargs="+", default=["landlock", "bubblewrap"])
    parser.add_argument("--frameworks", nargs="+", default=["paddle", "torch"])
    parser.add_argument("--quick", action="store_true", help="two minutes: 2 rounds, few patches")
    asked = parser.parse_args()
    if asked.quick:
        asked.rounds, asked.epochs, asked.patches = 2, 5, 64
    arguments = {name: getattr(asked, name) for name in ("epochs", "patches", "threads")}
    print_header("An epoch of training of a U-Net on the eyes of two owners")
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as vault:
        data = asked.data
        if data is None:
            data = Path(made)
            fundus = [str(asked.packages / "bin" / "python"), str(RETINA / "fundus.py"), str(data)]
            subprocess.run(fundus, check=True)
        plain = {owner: data / owner for owner in ("owner_a", "owner_b")}
        sealed = encrypted(data, Path(vault))
        sandboxes = [name for name in asked.places if not executor(name).missing()]
        runs: dict[tuple[str, str], list[Run]] = defaultdict(list)
        for _, framework in product(range(asked.rounds), asked.frameworks):
            runs[framework, "bare"].append(bare(asked.packages, data, arguments, framework))
            for name in sandboxes:
                one = inside(name, asked.packages, plain, arguments, framework)
                runs[framework, name].append(one)
                if name != "process":
                    one = inside(name, asked.packages, sealed, arguments, framework)
                    runs[framework, f"{name}, vault"].append(one)
    rows = []
    for (framework, place), measured in runs.items():
        beside = runs[framework, "bare"]
        same = len({one.metrics for one in [*beside, *measured]}) == 1
        row: list[object] = [framework, place]
        for what, of in (("wall_s", median), ("wall_s", min), ("cpu_s", median), ("cpu_s", min)):
            found, base = (
                of([value for run in several for value in getattr(run, what)])
                for several in (measured, beside)
            )
            row += [f"{found:.3f}", f"{found / base:.3f}"]
        rows.append([*row, sum(len(run.wall_s) for run in measured), "yes" if same else "NO"])
    columns = ["framework", "place", "wall s", "x", "fastest", "x", "cpu s", "x", "least", "x"]
    columns += ["n", "same metrics"]
    print_table(columns, rows)


if __name__ == "__main__":
    main()
