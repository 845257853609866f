"""``cohortium demo``: a hub, four hospitals, one signed study, its result beside the pooled one."""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table as RichTable

from cohortium.demo import lung
from cohortium.demo.consortium import Consortium, together
from cohortium.demo.steps import new_console, step
from cohortium.errors import InputError, IntegrityFailure

STUDY = "lung-one-year"
FORMULA = "died_1y ~ age + sex + ph_ecog + wt_loss"
BUNDLE = "evidence.json"
DESCRIBED = ["age", "wt_loss", "ph_ecog", "time_days"]

PROPOSAL = f"""\
study: {STUDY}
title: Death within one year in advanced lung cancer
purpose: >
  Which of age, sex, ECOG performance status and weight loss go with death within a year?
  NCCTG trial, Loprinzi et al. 1994, split into four sites by its institution column.
participants:
{{participants}}
variables: [age, sex, ph_ecog, wt_loss, time_days, died_1y]
cohort: {{{{adjustable: [age, sex, ph_ecog, wt_loss]}}}}
computations:
  - name: stats.describe
    max_runs: 50
  - name: glm
    variables: [died_1y, age, sex, ph_ecog, wt_loss]
    limits: {{{{family: [binomial]}}}}
    max_runs: 20
min_sites: 4
disclosure: {{{{min_cell: 5, floor: site}}}}
recipients: [Dr. Ada Biostat]
expires_at: "2099-12-31T00:00:00Z"
"""

PARTICIPANT = "  - name: {site}\n    dataset: lung\n"


def run_demo(folder: Path | None = None, *, keep: bool = False, quiet: bool = False) -> Path:
    """Run the demonstration and return the forest plot's path.

    Args:
        folder: Where everything is put; a new temporary folder where absent.
        keep: Leave the processes running and print how to connect.
        quiet: Print to the standard error stream only.

    Raises:
        IntegrityFailure: A federated number differs from the pooled one by more than it may.
    """
    try:
        import statsmodels  # noqa: F401
    except ImportError as error:
        raise InputError(
            "missing-extra",
            "The demonstration compares with statsmodels: pip install 'cohortium[demo]'",
        ) from error
    root = folder or Path(tempfile.mkdtemp(prefix="cohortium-demo-"))
    console = new_console(quiet)
    frames = lung.by_site()
    consortium = Consortium(root)
    try:
        with step(console, "Start a hub and four hospitals, each with its own keys"):
            consortium.start_hub()
            with ThreadPoolExecutor(1) as beside:
                researcher = beside.submit(consortium.add_researcher, "Dr. Ada Biostat")
                consortium.add_sites(frames)
            researcher.result()
        with step(console, "Each steward registers and confirms the hospital's data"):
            together(lambda site: _register(consortium, site, frames[site]), frames)
        with step(console, "The researcher proposes the study, every steward signs it"):
            _agree(consortium, list(frames))
        plot = _analyse(console, consortium, pd.concat(frames.values(), ignore_index=True))
        with step(console, "Verify every node's journal and its copy of the ledger"):
            together(lambda site: _verify(consortium, site), frames)
        with step(console, "Export the study's evidence, verify it and both results offline"):
            evidence = _evidence(consortium)
        _show_evidence(console, evidence)
        if keep:
            _print_how_to_connect(console, consortium)
    except BaseException:
        consortium.stop()
        raise
    if not keep:
        consortium.stop()
        console.print("Everything is stopped. Run with --keep to leave it running.")
    return plot


def _register(consortium: Consortium, site: str, frame: pd.DataFrame) -> None:
    file = consortium.root / f"{consortium.node_dir(site).name}.csv"
    frame.to_csv(file, index=False)
    consortium.add_dataset(site, "lung", file)


def _verify(consortium: Consortium, site: str) -> None:
    consortium.cli("node", "journal", "--verify", "--dir", str(consortium.node_dir(site)))
    consortium.cli("node", "ledger", "verify", "--dir", str(consortium.node_dir(site)))


def _evidence(consortium: Consortium) -> dict[str, Any]:
    """What an auditor finds, who has the bundle, the results and this program."""
    results, bundle = consortium.root / "results", consortium.root / BUNDLE
    results.mkdir(exist_ok=True)
    for run in consortium.cli("run", "list", STUDY):
        file = results / f"{run['computation']}-{run['id'][:8]}.json"
        consortium.cli("run", "show", run["id"], "--output", str(file))
    consortium.cli("audit", "export", STUDY, "--whole", "--output", str(bundle))
    found = consortium.cli("audit", "verify", str(bundle), "--results", str(results))
    return cast("dict[str, Any]", found)


def _agree(consortium: Consortium, sites: list[str]) -> None:
    file = consortium.root / "study.yaml"
    participants = "".join(PARTICIPANT.format(site=site) for site in sites).rstrip()
    file.write_text(PROPOSAL.format(participants=participants))
    consortium.wait_published(sites)
    consortium.cli("study", "propose", str(file))
    together(lambda site: consortium.sign(site, STUDY), sites)
    consortium.wait_active(STUDY)


def _analyse(console: Console, consortium: Consortium, pooled: pd.DataFrame) -> Path:
    os.environ["COHORTIUM_PROFILE"] = str(consortium.profile)
    import cohortium as co

    with co.connect() as federation:
        study = federation.study(STUDY)
        described = study.describe(DESCRIBED, by="sex")
        gap = _show_described(console, described, pooled)
        fit = study.glm(FORMULA, family="binomial")
        gap = max(gap, _show_fit(console, fit, pooled))
        plot = consortium.root / "forest.png"
        fit.save(plot)
        _show_runs(console, {"describe by sex": described.run, "logistic regression": fit.run})
    console.print(f"Forest plot: {plot}")
    console.print(f"Largest relative difference from the pooled analysis: [bold]{gap:.1e}[/]")
    if not gap < 1e-8:
        raise IntegrityFailure("internal", "The federated result is not the pooled one.")
    return plot


def _relative(ours: float, pooled: float) -> float:
    return abs(ours - pooled) / max(abs(pooled), 1e-300)


def _show_described(console: Console, described: Any, pooled: pd.DataFrame) -> float:
    table = RichTable(title="describe(..., by='sex'), federated beside pooled")
    for column in (
        "sex",
        "variable",
        "n",
        "missing",
        "mean",
        "pooled mean",
        "sd",
        "pooled sd",
        "median",
        "pooled median",
    ):
        table.add_column(column, justify="left" if column in {"sex", "variable"} else "right")
    frame = described.to_frame()
    largest = 0.0
    for sex in ("male", "female"):
        for name in DESCRIBED:
            row = frame[(frame["sex"] == sex) & (frame["variable"] == name)].iloc[0]
            values = pooled.loc[pooled["sex"] == sex, name].astype(float)
            mean, sd, median = values.mean(), values.std(), values.median()
            largest = max(largest, _relative(row["mean"], mean), _relative(row["sd"], sd))
            table.add_row(
                sex, name, str(row["n"]), str(row["missing"]),
                f"{row['mean']:.6f}", f"{mean:.6f}", f"{row['sd']:.6f}", f"{sd:.6f}",
                f"{row['median']:g}", f"{median:g}",
            )  # fmt: skip
    console.print(table)
    console.print(
        "No median shows a single person's value: where fewer than 5 persons share one, as with "
        "time_days, it is interpolated between values that enough persons lie around."
    )
    return largest


def _show_fit(console: Console, fit: Any, pooled: pd.DataFrame) -> float:
    import statsmodels.api as sm
    import statsmodels.formula.api as smf

    complete = pooled.dropna(subset=["died_1y", "age", "sex", "ph_ecog", "wt_loss"]).copy()
    for name in ("died_1y", "ph_ecog", "wt_loss"):
        complete[name] = complete[name].astype(float)
    levels = fit.levels["sex"]
    complete["sex"] = pd.Categorical(complete["sex"], categories=levels)
    reference = smf.glm(FORMULA, complete, family=sm.families.Binomial()).fit(tol=1e-14)
    table = RichTable(
        title=f"glm({FORMULA!r}), {int(fit.nobs)} persons, federated beside statsmodels"
    )
    for column in ("term", "coef", "pooled coef", "SE", "pooled SE", "z", "p"):
        table.add_column(column, justify="left" if column == "term" else "right")
    for term in fit.params.index:
        table.add_row(
            term,
            f"{fit.params[term]:.9f}", f"{reference.params[term]:.9f}",
            f"{fit.bse[term]:.9f}", f"{reference.bse[term]:.9f}",
            f"{fit.params[term] / fit.bse[term]:.3f}", f"{fit.pvalues[term]:.4f}",
        )  # fmt: skip
    console.print(table)
    console.print(
        "Persons censored before day 365 have no known status at one year and are left out "
        f"({int(pooled['died_1y'].isna().sum())} of {len(pooled)}), as are incomplete records."
    )
    ours = np.concatenate([fit.params.to_numpy(), fit.bse.to_numpy(), [fit.deviance]])
    theirs = np.concatenate(
        [reference.params[fit.params.index], reference.bse[fit.params.index], [reference.deviance]]
    )
    return float(np.max(np.abs(ours - theirs) / np.abs(theirs)))


def _show_runs(console: Console, runs: dict[str, Any]) -> None:
    table = RichTable(title="What it took")
    for column in ("run", "seconds", "rounds", "bytes that left each site"):
        table.add_column(column)
    for what, run in runs.items():
        sent = ", ".join(f"{site} {count:,}" for site, count in sorted(run.bytes.items()))
        table.add_row(what, f"{run.seconds:.3f}", str(run.rounds), sent)
    console.print(table)


def _show_evidence(console: Console, evidence: dict[str, Any]) -> None:
    table = RichTable(title="What the evidence shows")
    for column in ("time (UTC)", "who", "what"):
        table.add_column(column)
    for event in evidence["timeline"]:
        table.add_row(event["at"][:19].replace("T", " "), event["who"], event["what"])
    console.print(table)
    facts = sum(step["facts"] for step in evidence["steps"])
    console.print(
        f"{facts} facts hold, from signatures and {evidence['entries_in_log']} entries of the "
        f"ledger; {len(evidence['results'])} results are those that were released."
    )


def _print_how_to_connect(console: Console, consortium: Consortium) -> None:
    console.print(f"\nIt is left running in {consortium.root}. To use it:")
    console.print(f"  export COHORTIUM_PROFILE={consortium.profile}", soft_wrap=True)
    console.print(f"  export COHORTIUM_HUB_DIR={consortium.hub_dir}", soft_wrap=True)
    console.print(f"  cohortium study show {STUDY}")
    console.print(f"  cohortium run {STUDY} describe age wt_loss --by sex")
    console.print(
        f"  cohortium audit verify {consortium.root / BUNDLE} "
        f"--results {consortium.root / 'results'}",
        soft_wrap=True,
    )
    console.print("  python -c 'import cohortium as co; print(co.connect().studies)'")
    console.print(f"  The hub's addresses are in {consortium.hub_dir / 'address.json'}")
    pids = " ".join(str(s.process.pid) for s in consortium.services.values() if s.process)
    console.print(f"To stop it: kill {pids}", soft_wrap=True)
