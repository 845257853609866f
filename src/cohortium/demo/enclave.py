"""``cohortium demo enclave``: two institutions lend columns of the same persons to one program.

A clinic knows age, sex, performance status and weight loss; a registry knows who died within a
year. Neither shows the other anything: both encrypt their tables, an enclave gets the keys from
their nodes after it has shown what it will run, joins the tables and fits a logistic regression.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table as RichTable

from cohortium.demo import lung
from cohortium.demo.consortium import Consortium, together
from cohortium.demo.steps import new_console, step
from cohortium.errors import CohortiumError, InputError, IntegrityFailure

STUDY: Final = "lung-linked"
ENCLAVE: Final = "Enclave 1"
CLINIC: Final = "City Clinic"
REGISTRY: Final = "Cancer Registry"
RESEARCHER: Final = "Dr. Ada Biostat"
FEATURES: Final = ("age", "female", "ph_ecog", "wt_loss")
LENT: Final = {CLINIC: "clinical", REGISTRY: "deaths"}

PROPOSAL: Final = f"""\
study: {STUDY}
title: Death within one year, from a clinic's and a registry's records
purpose: >
  Do age, sex, ECOG performance status and weight loss foretell death within a year? The clinic has
  no deaths, the registry no clinical data; both know the persons by the same number.
participants: [{{name: {CLINIC}}}, {{name: {REGISTRY}}}]
security_level: L2
environment: {{enclaves: [{{name: {ENCLAVE}}}]}}
tasks:
  - name: train
    code: builtin:logistic-train
    arguments:
      - {{name: id, value: id}}
      - {{name: target, value: {LENT[REGISTRY]}.died_1y}}
      - {{name: penalty, value: 0}}
      - {{name: min_cell, value: 5}}
    inputs:
      - {{name: {LENT[CLINIC]}, kind: dataset, owners: [{CLINIC}]}}
      - {{name: {LENT[REGISTRY]}, kind: dataset, owners: [{REGISTRY}]}}
    outputs:
      - {{name: model, owners: [{RESEARCHER}], recipients: [{RESEARCHER}]}}
      - {{name: report, owners: [{RESEARCHER}], recipients: [{RESEARCHER}]}}
    log_recipients: [{RESEARCHER}]
    limits: {{memory_bytes: 2000000000, time_s: 300}}
    max_runs: 10
recipients: [{RESEARCHER}]
expires_at: "2099-12-31T00:00:00Z"
"""


@dataclass(frozen=True)
class Shown:
    """What the demonstration found.

    Attributes:
        gap: Largest relative difference of a coefficient from the pooled fit.
        auc: Of the model on the persons that it was trained with.
        seconds: From the order of the task to its verified result.
        scanned_bytes: Of hub and enclave, in which no person's number was found.
    """

    folder: Path
    gap: float
    auc: float
    seconds: float
    scanned_bytes: int


def run_enclave_demo(
    folder: Path | None = None, *, keep: bool = False, quiet: bool = False
) -> Shown:
    """Run the demonstration.

    Args:
        folder: Where everything is put; a new temporary folder where absent.
        keep: Leave the processes running and print how to go on.
        quiet: Print to the standard error stream only.

    Raises:
        IntegrityFailure: The model is not the pooled one, or a person's number was found where
            none may be.
    """
    try:
        import statsmodels  # noqa: F401
    except ImportError as error:
        raise InputError(
            "missing-extra",
            "The demonstration compares with statsmodels: pip install 'cohortium[demo]'",
        ) from error
    console = new_console(quiet)
    consortium = Consortium(folder or Path(tempfile.mkdtemp(prefix="cohortium-enclave-")))
    tables = _tables()
    try:
        shown = _show(console, consortium, tables)
        if keep:
            _print_how_to_go_on(console, consortium)
    except BaseException:
        consortium.stop()
        raise
    if not keep:
        consortium.stop()
        console.print("Everything is stopped. Run with --keep to leave it running.")
    return shown


def _tables() -> dict[str, pd.DataFrame]:
    """The trial's persons with made-up numbers: what each institution knows of them."""
    frame = lung.load()
    frame["female"] = (frame["sex"] == "female").astype("Int64")
    numbers = [f"P{sha256(b'person %d' % n).hexdigest()[:12]}" for n in range(len(frame))]
    frame.insert(0, "id", numbers)
    deaths = frame[["id", "died_1y"]].dropna()
    return {
        CLINIC: frame[["id", *FEATURES]],
        REGISTRY: deaths.sort_values("id"),  # another order
    }


def _show(console: Console, consortium: Consortium, tables: dict[str, pd.DataFrame]) -> Shown:
    with step(console, "Start a hub, two institutions and an enclave, each with its own keys"):
        consortium.start_hub()
        consortium.add_researcher(RESEARCHER)
        consortium.add_sites(tables)
        consortium.add_enclave(ENCLAVE)
    with step(console, "Each steward encrypts the table that the institution lends"):
        together(lambda site: _lend(consortium, site, tables[site]), tables)
    with step(console, "The researcher drafts the study, the owners fill it, everybody signs"):
        fills = {f"train/{name}": (site, name) for site, name in LENT.items()}
        consortium.agree_on_tasks(STUDY, PROPOSAL, fills)
    began = time.monotonic()
    with step(console, "The enclave shows what it runs, gets the keys, joins and trains"):
        results = consortium.root / "results"
        done = consortium.cli("task", "run", STUDY, "train", "--to", str(results))
    seconds = time.monotonic() - began
    model = json.loads((results / "model" / "model.json").read_bytes())
    report = json.loads((results / "report" / "report.json").read_bytes())
    gap = _compare(console, model, tables)
    scanned = _scan(consortium, tables)
    console.print(
        f"{scanned / 1e6:.1f} MB of the hub's and the enclave's files hold no person's number."
    )
    with step(console, "The clinic suspends the study: its node gives no key any more"):
        refusal = _refused(consortium)
    console.print(f"Refused ({refusal.code}): {refusal.message}")
    with step(console, "Export the evidence and verify it offline"):
        evidence = _evidence(consortium)
    _show_evidence(console, evidence)
    if not gap < 1e-6:
        raise IntegrityFailure("internal", "The enclave's model is not the pooled one.")
    auc = float(report["training"]["auc"])
    console.print(
        f"AUC {auc:.3f}; largest relative difference from the pooled fit [bold]{gap:.1e}[/]; "
        f"the task took {seconds:.1f} s, {done['outcome']['seconds']:.1f} s of it in the sandbox."
    )
    return Shown(consortium.root, gap, auc, seconds, scanned)


def _lend(consortium: Consortium, site: str, table: pd.DataFrame) -> None:
    file = consortium.root / f"{consortium.node_dir(site).name}.csv"
    table.to_csv(file, index=False)
    consortium.lend(site, LENT[site], file)
    file.unlink()


def _compare(console: Console, model: dict[str, Any], tables: dict[str, pd.DataFrame]) -> float:
    import statsmodels.api as sm

    pooled = tables[CLINIC].merge(tables[REGISTRY], on="id").drop(columns="id").dropna()
    x = sm.add_constant(pooled[list(FEATURES)].astype(float))
    y = pooled["died_1y"].astype(float)
    reference = sm.GLM(y, x, family=sm.families.Binomial()).fit(tol=1e-14)
    names = [name.partition(".")[2] for name in model["features"]]
    slopes = np.array(model["coefficients"]) / np.array(model["scale"])
    intercept = model["intercept"] - float(slopes @ np.array(model["centre"]))
    ours = {"const": intercept, **dict(zip(names, slopes, strict=True))}
    table = RichTable(title=f"Death within one year, {len(pooled)} persons known to both")
    for column in ("term", "in the enclave", "pooled (statsmodels)"):
        table.add_column(column, justify="left" if column == "term" else "right")
    for name, value in ours.items():
        table.add_row(name, f"{value:.9f}", f"{reference.params[name]:.9f}")
    console.print(table)
    theirs = {name: float(reference.params[name]) for name in ours}
    return max(abs(float(ours[name]) - one) / abs(one) for name, one in theirs.items())


def _scan(consortium: Consortium, tables: dict[str, pd.DataFrame]) -> int:
    """Bytes of the files of hub and enclave; none holds the number of a person."""
    numbers = [number.encode() for table in tables.values() for number in table["id"]]
    scanned = 0
    for top in (consortium.hub_dir, consortium.root / "enclaves"):
        for file in top.rglob("*"):
            if not file.is_file():
                continue
            content = file.read_bytes()
            scanned += len(content)
            if any(number in content for number in numbers):
                raise IntegrityFailure("internal", f"A person's number stands in {file}.")
    return scanned


def _refused(consortium: Consortium) -> CohortiumError:
    node = str(consortium.node_dir(CLINIC))
    reason = "A question of the ethics board."
    consortium.cli("study", "suspend", STUDY, "--reason", reason, "--dir", node)
    consortium.wait_status(STUDY, "suspended")
    try:
        consortium.cli("task", "run", STUDY, "train")
    except CohortiumError as refusal:
        return refusal
    raise IntegrityFailure("internal", "A suspended study was run.")


def _evidence(consortium: Consortium) -> dict[str, Any]:
    bundle = consortium.root / "evidence.json"
    consortium.cli("audit", "export", STUDY, "--whole", "--output", str(bundle))
    found = consortium.cli("audit", "verify", str(bundle))
    return cast("dict[str, Any]", found)


def _show_evidence(console: Console, evidence: dict[str, Any]) -> None:
    table = RichTable(title="What the evidence shows")
    for column in ("time (UTC)", "who", "what"):
        table.add_column(column)
    for event in evidence["timeline"]:
        table.add_row(event["at"][:19].replace("T", " "), event["who"], event["what"])
    console.print(table)


def _print_how_to_go_on(console: Console, consortium: Consortium) -> None:
    node = consortium.node_dir(CLINIC)
    console.print(f"\nIt is left running in {consortium.root}. To go on:")
    for name, value in (
        ("COHORTIUM_PROFILE", consortium.profile),
        ("COHORTIUM_HUB_DIR", consortium.hub_dir),
    ):
        console.print(f"  export {name}={value}", soft_wrap=True)
    console.print(
        f"  cohortium study resume {STUDY} --reason 'It is answered.' --dir {node}",
        soft_wrap=True,
    )
    console.print(f"  cohortium task list {STUDY}")
    console.print(f"  cohortium task run {STUDY} train --to {os.curdir}/mine")
    pids = " ".join(str(s.process.pid) for s in consortium.services.values() if s.process)
    console.print(f"To stop it: kill {pids}", soft_wrap=True)
