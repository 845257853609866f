"""The main job over real processes: describe and glm, by SDK and by command line."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from tests.support.sites import SITES, STUDY, frames

import cohortium as co
from cohortium.demo.consortium import Consortium
from cohortium.errors import InputError, PolicyRefusal

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e")]

FORMULA = "event ~ age + sex + score"


@pytest.fixture(scope="module")
def pooled() -> pd.DataFrame:
    return pd.concat(frames().values(), ignore_index=True)


def test_describe_equals_the_pooled_analysis(study: co.Study, pooled: pd.DataFrame) -> None:
    described = study.describe(["age", "score"], by="sex")
    frame = described.to_frame().set_index(["sex", "variable"])
    for sex in ("female", "male"):
        for name in ("age", "score"):
            values = pooled.loc[pooled["sex"] == sex, name].dropna()
            row = frame.loc[(sex, name), :]
            assert row["n"] == len(values)
            assert row["mean"] == pytest.approx(values.mean(), rel=1e-10)
            assert row["variance"] == pytest.approx(values.var(), rel=1e-10)
    assert set(described.run.participants) == set(SITES)
    assert all(described.run.bytes[site] > 0 for site in SITES)


def test_glm_equals_the_pooled_fit(study: co.Study, pooled: pd.DataFrame) -> None:
    fit = study.glm(FORMULA, family="binomial")
    expected = smf.glm(FORMULA, pooled.dropna(), family=sm.families.Binomial()).fit(tol=1e-14)
    # The names are statsmodels'; the order is the formula's, where patsy puts categories first.
    assert set(fit.params.index) == set(expected.params.index)
    np.testing.assert_allclose(fit.params, expected.params[fit.params.index], rtol=1e-8)
    np.testing.assert_allclose(fit.bse, expected.bse[fit.params.index], rtol=1e-8)
    assert fit.nobs == expected.nobs


def test_the_command_line_gives_the_same(
    consortium: Consortium, study: co.Study, tmp_path: Path
) -> None:
    file = tmp_path / "fit.json"
    consortium.cli("run", STUDY, "glm", FORMULA, "--family", "binomial", "--output", str(file))
    from_cli = json.loads(file.read_text())["result"]
    assert from_cli["params"] == list(study.glm(FORMULA, family="binomial").params)
    shown = consortium.cli("run", STUDY, "describe", "age", "--by", "sex")
    assert {group["level"] for group in shown["result"]["groups"]} >= {"female", "male"}


@pytest.mark.parametrize(
    ("attempt", "error", "code"),
    [
        (lambda s: s.describe(["event"]), PolicyRefusal, "not-permitted"),
        (lambda s: s.describe(["nobody"]), InputError, "not-found"),
        (lambda s: s.glm("event ~ age", family="poisson"), PolicyRefusal, "not-permitted"),
        (lambda s: s.glm("event ~ __import__('os').getpid()"), InputError, "bad-formula"),
        (lambda s: s.submit("stats.nothing", {}), PolicyRefusal, "not-permitted"),
    ],
)
def test_what_the_contract_does_not_permit_is_refused(
    study: co.Study, attempt: object, error: type[co.CohortiumError], code: str
) -> None:
    assert callable(attempt)
    with pytest.raises(error) as caught:
        attempt(study).wait()
    assert caught.value.code == code


def test_a_cancelled_run_has_no_result(study: co.Study) -> None:
    run = study.submit("bench.vector", {"rounds": 100, "pause_ms": 100})
    run.cancel()
    with pytest.raises(co.CohortiumError) as caught:
        run.wait(timeout_s=30).result()
    assert caught.value.code == "run-cancelled"
    assert run.refresh().status == "cancelled"


def test_a_node_listens_on_loopback_only(consortium: Consortium) -> None:
    for site in SITES:
        process = consortium.services[f"node/{site}"].process
        assert process is not None
        listening = subprocess.run(
            ["ss", "-ltnpH"], capture_output=True, text=True, check=True
        ).stdout
        mine = [line for line in listening.splitlines() if f"pid={process.pid}," in line]
        assert all(line.split()[3].startswith("127.0.0.1:") for line in mine), mine
