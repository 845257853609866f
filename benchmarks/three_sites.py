"""Three institutions as processes with tables of their own, and what a joint run takes there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from benchmarks.common import measure, show_seconds

from cohortium.demo.consortium import Consortium

SITES = ("Alpha Clinic", "Beta Hospital", "Gamma Institute")
STUDY = "many-rows"
COLUMNS = ("what", "federated", "pooled", "ratio", "rounds", "KiB left a site", "n")
_RESEARCHER = "Dr. Bench"
_PROPOSAL = """\
study: {study}
title: A study of many rows
purpose: To measure.
participants:
{participants}
variables: [{variables}]
cohort:
  adjustable: [{variables}]
computations: [{computations}]
recipients: [{researcher}]
expires_at: "2099-01-01T00:00:00Z"
"""


def start(root: Path, frames: Mapping[str, pd.DataFrame], computations: str) -> Consortium:
    """A hub, three nodes with these tables, and `STUDY` signed by all; as processes.

    Args:
        frames: Of `SITES`, with the same columns.
        computations: What the contract permits: ``stats.*, glm``.
    """
    consortium = Consortium(root, name="Benchmark")
    try:
        consortium.start_hub()
        consortium.add_sites(SITES)
        consortium.add_researcher(_RESEARCHER)
        for site, frame in frames.items():
            file = root / f"{consortium.node_dir(site).name}.parquet"
            frame.to_parquet(file, index=False)
            consortium.add_dataset(site, "patients", file)
        consortium.wait_published(SITES)
        text = _PROPOSAL.format(
            study=STUDY,
            participants="\n".join(f"  - {{name: {s}, dataset: patients}}" for s in SITES),
            variables=", ".join(frames[SITES[0]]),
            computations=", ".join(f"{{name: {name}}}" for name in computations.split(", ")),
            researcher=_RESEARCHER,
        )
        file = root / "study.yaml"
        file.write_text(text)
        consortium.cli("study", "propose", str(file))
        for site in SITES:
            consortium.sign(site, STUDY)
        consortium.wait_active(STUDY)
    except BaseException:
        consortium.stop()
        raise
    return consortium


def compared(
    what: str, ours: Callable[[], Any], plain: Callable[[], object], repeats: Sequence[int]
) -> list[object]:
    """A row of `COLUMNS`.

    Args:
        ours: Gives a result with its run.
        repeats: Of ours, and of the pooled computation; a single one has no warm-up before it.
    """
    result: list[Any] = []
    federated = measure(lambda: result.append(ours()), repeats=repeats[0])
    alone = measure(plain, repeats=repeats[1], warm_ups=int(repeats[1] > 1))
    run = result[-1].run
    return [
        what,
        show_seconds(federated.median_s),
        show_seconds(alone.median_s),
        f"{federated.median_s / alone.median_s:.2f}",
        run.rounds,
        f"{run.total_bytes / len(run.participants) / 1024:,.3g}",
        f"{repeats[0]}, {repeats[1]}",
    ]
