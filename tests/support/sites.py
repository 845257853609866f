"""Three made-up hospitals with clinical-looking data, and the study that they sign."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from tests.support.cli_host import CliHost

from cohortium.demo.consortium import Consortium

SITES = ("Alpha Clinic", "Beta Hospital", "Gamma Institute")
FIVE = (*SITES, "Delta Centre", "Epsilon Hospital")
RESEARCHER = "Dr. Test"
STUDY = "trial-one"

PROPOSAL = """\
study: {study}
title: A study of tests
purpose: To show that everything works over real processes.
participants:
{participants}
variables: [age, sex, score, event]
computations:
  - name: stats.describe
    variables: [age, sex, score]
  - name: glm
    max_runs: {glm_runs}
    limits: {{family: [binomial, gaussian]}}
  - name: bench.vector
min_sites: {min_sites}
recipients: [{researcher}]
expires_at: "{expires_at}"
"""


@dataclass
class WarmConsortium(Consortium):
    """Its commands run in forks of a process that has imported the command line."""

    _host: CliHost | None = None
    _starting: threading.Lock = field(default_factory=threading.Lock)

    def _run(self, arguments: Sequence[str], timeout_s: float) -> tuple[int, bytes, bytes]:
        with self._starting:
            if self._host is None:
                self._host = CliHost(self.env())
        return self._host.run(arguments, self.env(), timeout_s)

    def stop(self) -> None:
        super().stop()
        if self._host is not None:
            self._host.close()
            self._host = None


def frames(n_rows: int = 300, names: Sequence[str] = SITES) -> dict[str, pd.DataFrame]:
    """One frame a site; the same numbers at each call."""
    out = {}
    for number, site in enumerate(names):
        rng = np.random.default_rng(number)
        age = rng.integers(20, 90, n_rows)
        sex = rng.choice(["female", "male"], n_rows)
        score = np.round(rng.normal(10 + number, 3, n_rows) + 0.05 * age, 2)
        risk = 1 / (1 + np.exp(-(-6 + 0.05 * age + 0.2 * score + 0.4 * (sex == "male"))))
        event = (rng.random(n_rows) < risk).astype(int)
        frame = pd.DataFrame({"age": age, "sex": sex, "score": score, "event": event})
        frame.loc[rng.random(n_rows) < 0.05, "score"] = np.nan
        out[site] = frame
    return out


def proposal(
    study: str = STUDY,
    *,
    researcher: str = RESEARCHER,
    glm_runs: int = 1000,
    expires_at: str = "2099-01-01T00:00:00Z",
    names: Sequence[str] = SITES,
    min_sites: int = 3,
) -> str:
    """The study's YAML."""
    participants = "\n".join(f"  - {{name: {site}, dataset: patients}}" for site in names)
    return PROPOSAL.format(
        study=study,
        participants=participants,
        researcher=researcher,
        glm_runs=glm_runs,
        expires_at=expires_at,
        min_sites=min_sites,
    )


def propose_and_sign(
    consortium: Consortium, text: str, study: str, names: Sequence[str] = SITES
) -> None:
    """Propose a study and sign it at every site."""
    file = consortium.root / f"{study}.yaml"
    file.write_text(text)
    consortium.cli("study", "propose", str(file))
    for site in names:
        consortium.sign(site, study)
    consortium.wait_active(study)


def start(
    root: Path, *, n_rows: int = 300, names: Sequence[str] = SITES, min_sites: int = 3
) -> Consortium:
    """A hub, nodes with data, a researcher, and `STUDY` signed by all; as processes."""
    plugin = Path(__file__).parents[2] / "benchmarks" / "plugin"
    consortium = WarmConsortium(root, name="Test consortium", extra_env={"PYTHONPATH": str(plugin)})
    try:
        consortium.start_hub()
        consortium.add_sites(names)
        consortium.add_researcher(RESEARCHER)
        for site, frame in frames(n_rows, names).items():
            file = root / f"{consortium.node_dir(site).name}.csv"
            frame.to_csv(file, index=False)
            consortium.add_dataset(site, "patients", file)
        consortium.wait_published(names)
        text = proposal(names=names, min_sites=min_sites)
        propose_and_sign(consortium, text, STUDY, names)
    except BaseException:
        consortium.stop()
        raise
    return consortium
