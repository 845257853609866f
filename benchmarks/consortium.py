"""Latency, throughput and memory with real processes over mutual TLS on the loopback interface.

    python -m benchmarks.consortium [--quick]

A hub and three nodes are started through the command line. The plain computation stands beside
each number: the same statistic by pandas on the pooled rows, the same vectors added by numpy.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
from benchmarks.common import measure, print_header, print_table
from tests.support import sites

import cohortium as co

MIB = 1024 * 1024
ROUNDS = 50


def timed(work: Callable[[], object], repeats: int) -> float:
    """Median seconds of `repeats` calls, after one that warms up."""
    return measure(work, repeats=repeats).median_s


def resident_mib(pid: int) -> float:
    """Resident set of a process (VmRSS)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS")


def memory(consortium: sites.Consortium) -> list[list[str]]:
    """One row a process."""
    return [
        [name, f"{resident_mib(service.process.pid):.0f} MiB"]
        for name, service in consortium.services.items()
        if service.process is not None
    ]


def masked_rounds(study: co.Study, components: int, rounds: int, repeats: int) -> float:
    """Median seconds of a masked round: a run's computing time over its rounds."""
    params = {"components": components, "rounds": rounds}
    study.submit("bench.vector", params).wait()
    return median(
        study.submit("bench.vector", params).wait(timeout_s=600).info.seconds / rounds
        for _ in range(repeats)
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    quick = parser.parse_args().quick
    repeats = 5 if quick else 21
    print_header("A consortium of processes: hub and 3 nodes, mutual TLS 1.3 on loopback")
    with (
        tempfile.TemporaryDirectory() as folder,
        sites.start(Path(folder), n_rows=1000) as consortium,
    ):
        at_rest = memory(consortium)
        os.environ["COHORTIUM_PROFILE"] = str(consortium.profile)
        with co.connect() as federation:
            study = federation.study(sites.STUDY)
            pooled = pd.concat(sites.frames(1000).values(), ignore_index=True)
            rows = []

            def row(what: str, ours: float, plain: float, n: int) -> None:
                rows.append([what, f"{ours * 1e3:.1f} ms", f"{plain * 1e3:.3f} ms", str(n)])

            row(
                "describe one column, submit to result",
                timed(lambda: study.describe(["score"]), repeats),
                timed(pooled["score"].describe, repeats),
                repeats,
            )
            row(
                "logistic regression, 4 parameters, submit to result",
                timed(lambda: study.glm("event ~ age + sex + score"), repeats),
                timed(lambda: pooled_fit(pooled), repeats),
                repeats,
            )
            small = [np.ones(128, dtype=np.uint64)] * 3
            row(
                f"masked round, 1 KB a site ({ROUNDS} rounds a run)",
                masked_rounds(study, 128, ROUNDS, repeats),
                timed(lambda: np.sum(small, axis=0), repeats),
                repeats,
            )
            large = [np.ones(10_000_000, dtype=np.float32)] * 3
            few = 5
            row(
                "masked round, 40 MB float32 a site, there and back",
                masked_rounds(study, 10_000_000, 5, few),
                timed(lambda: large[0] + large[1] + large[2], few),
                few,
            )
        print_table(["what", "median", "plain, pooled", "n"], rows)
        after = memory(consortium)
        print_table(
            ["process", "resident at rest", "after the runs"],
            [[name, rest, later] for (name, rest), (_, later) in zip(at_rest, after, strict=True)],
        )
    with_recovery(quick)


def with_recovery(quick: bool) -> None:
    """Rounds of five sites of which one may drop out: shares, and a second message."""
    repeats, few = (5, 3) if quick else (21, 5)
    with (
        tempfile.TemporaryDirectory() as folder,
        sites.start(Path(folder), n_rows=1000, names=sites.FIVE, min_sites=4) as consortium,
    ):
        os.environ["COHORTIUM_PROFILE"] = str(consortium.profile)
        with co.connect() as federation:
            study = federation.study(sites.STUDY)
            pooled = pd.concat(sites.frames(1000, sites.FIVE).values(), ignore_index=True)
            rows = [
                [
                    "describe one column, submit to result",
                    f"{timed(lambda: study.describe(['score']), repeats) * 1e3:.1f} ms",
                    f"{timed(pooled['score'].describe, repeats) * 1e3:.3f} ms",
                    repeats,
                ]
            ]
            for components, what, n in (
                (128, f"masked round, 1 KB a site ({ROUNDS} rounds a run)", repeats),
                (10_000_000, "masked round, 40 MB float32 a site, there and back", few),
            ):
                plain = [np.ones(components, dtype=np.float32)] * 5
                rounds = ROUNDS if components == 128 else 5
                rows.append(
                    [
                        what,
                        f"{masked_rounds(study, components, rounds, n) * 1e3:.1f} ms",
                        f"{timed(lambda p=plain: np.sum(p, axis=0), n) * 1e3:.3f} ms",
                        n,
                    ]
                )
        print("Five sites, one of which may drop out (two messages a round)\n")
        print_table(["what", "median", "plain, pooled", "n"], rows)


def pooled_fit(pooled: pd.DataFrame) -> object:
    """The same logistic regression by statsmodels."""
    import statsmodels.api as sm
    import statsmodels.formula.api as smf

    model = smf.glm("event ~ age + sex + score", pooled.dropna(), family=sm.families.Binomial())
    return model.fit()


if __name__ == "__main__":
    main()
