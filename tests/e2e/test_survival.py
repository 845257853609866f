"""Models and survival over real processes: by SDK and command line, and with a node killed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from tests.support import sites

import cohortium as co
from cohortium.demo.consortium import Consortium

lifelines = pytest.importorskip("lifelines")

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e")]

STUDY = "survival"
COX = "Surv(score, event) ~ age + sex"
"""The score is as good a time as any."""


@pytest.fixture(scope="module")
def signed(consortium: Consortium) -> str:
    head, _ = sites.proposal(STUDY).split("computations:")
    terms = "computations: [{name: glm}, {name: survival.*}]\nmin_sites: 3\n"
    tail = f'recipients: [{sites.RESEARCHER}]\nexpires_at: "2099-01-01T00:00:00Z"\n'
    sites.propose_and_sign(consortium, head + terms + tail, STUDY)
    return STUDY


@pytest.fixture
def study(signed: str, federation: co.Federation) -> co.Study:
    return federation.study(signed)


@pytest.fixture(scope="module")
def pooled() -> pd.DataFrame:
    parts = [frame.assign(site=site) for site, frame in sites.frames().items()]
    return pd.concat(parts, ignore_index=True).dropna()


def released(consortium: Consortium, file: Path, *arguments: str) -> dict[str, Any]:
    """The result that a command wrote."""
    consortium.cli("run", *arguments, "--output", str(file))
    result: dict[str, Any] = json.loads(file.read_text())["result"]
    return result


def test_a_model_with_options_is_the_pooled_one_by_sdk_and_command_line(
    consortium: Consortium, study: co.Study, pooled: pd.DataFrame, tmp_path: Path
) -> None:
    fit = study.glm("score ~ age + sex", family="gaussian", errors="HC3")
    names = list(fit.params.index)
    robust = smf.ols("score ~ age + sex", pooled).fit(cov_type="HC3")
    np.testing.assert_allclose(fit.params, robust.params[names], rtol=1e-9)
    np.testing.assert_allclose(fit.bse, robust.bse[names], rtol=1e-9)
    options = ["--family", "gaussian", "--errors", "HC3"]
    again = released(consortium, tmp_path / "fit.json", "glm", STUDY, "score ~ age + sex", *options)
    assert again["params"] == list(fit.params)
    small = study.glm("score ~ age", family="gaussian")
    test = co.anova(small, study.glm("score ~ age + sex", family="gaussian"))
    f_test = smf.ols("score ~ age + sex", pooled).fit()
    squares = smf.ols("score ~ age", pooled).fit()
    assert test.statistic == pytest.approx(f_test.compare_f_test(squares)[0], rel=1e-9)


def test_curves_are_the_pooled_ones_by_sdk_and_command_line(
    consortium: Consortium, study: co.Study, pooled: pd.DataFrame, tmp_path: Path
) -> None:
    curves = released(
        consortium, tmp_path / "km.json", "km", STUDY, "score", "event", "--by", "sex"
    )["curves"]
    assert curves == study.km("score", "event", by="sex").to_json()["result"]["curves"]
    for curve in curves:
        group = pooled[pooled["sex"] == curve["level"]]
        model = lifelines.KaplanMeierFitter().fit(group["score"], group["event"])
        steps = curve["steps"]
        assert len(steps["time"]) > 5
        survival = model.survival_function_at_times(steps["time"]).to_numpy()
        assert steps["survival"] == pytest.approx(survival, rel=1e-12)


def test_a_node_killed_in_the_middle_of_a_cox_model_changes_nothing(
    consortium: Consortium, study: co.Study, pooled: pd.DataFrame, tmp_path: Path
) -> None:
    fit = study.cox(COX)
    frame = pooled.assign(male=pooled["sex"] == "male")[["score", "event", "age", "male", "site"]]
    digits = {"precision": 1e-13, "r_precision": 1e-15}
    model = lifelines.CoxPHFitter()
    model.fit(frame, "score", "event", strata=["site"], fit_options=digits)
    expected = model.params_[["age", "male"]].to_numpy()
    assert fit.params[["age", "sex[T.male]"]].to_numpy() == pytest.approx(expected, rel=1e-6)
    options = ["--baseline", "pooled", "--transform", "identity"]
    undisturbed = released(consortium, tmp_path / "cox.json", "cox", STUDY, COX, *options)
    params = {
        "time": "score",
        "event": "event",
        "formula": "age + sex",
        "baseline": "pooled",
        "transform": "identity",
    }
    node = f"node/{sites.SITES[1]}"
    for _ in range(3):  # it may be over before it is seen to be in the middle
        run = study.submit("survival.cox", params)
        deadline = time.monotonic() + 30
        while run.refresh().rounds < 3 and time.monotonic() < deadline:
            pass
        consortium.kill(node)
        time.sleep(0.05)
        midway = run.refresh().status == "running"
        consortium.restart(node)
        assert run.wait(timeout_s=60).result().to_json()["result"] == undisturbed
        if midway:
            break
    else:
        pytest.fail("the run was never seen in the middle")
