"""Cohorts, their attrition, Table 1 and differencing control over real processes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from tests.support import sites

import cohortium as co
from cohortium.demo.consortium import Consortium

pytestmark = pytest.mark.slow

STUDY = "cohorts"
NAMES = "age, sex, score, event"


@pytest.fixture(scope="module")
def signed(consortium: Consortium) -> str:
    """A study in which the researcher may choose who is in."""
    text = sites.proposal(STUDY)
    head, _ = text.split("computations:")
    terms = f"cohort: {{adjustable: [{NAMES}]}}\ncomputations: [{{name: stats.*}}]\nmin_sites: 3\n"
    tail = f'recipients: [{sites.RESEARCHER}]\nexpires_at: "2099-01-01T00:00:00Z"\n'
    sites.propose_and_sign(consortium, head + terms + tail, STUDY)
    return STUDY


@pytest.fixture
def study(signed: str, federation: co.Federation) -> co.Study:
    return federation.study(signed)


@pytest.fixture(scope="module")
def pooled() -> pd.DataFrame:
    return pd.concat(sites.frames().values(), ignore_index=True)


def test_criteria_are_adjusted_and_watched(study: co.Study, pooled: pd.DataFrame) -> None:
    cohort = study.cohort(include=["age >= 40", "score IS NOT NULL"], exclude=["sex = 'male'"])
    counts = cohort.attrition().to_frame()["n"].tolist()
    masks = [pooled["age"] >= 40, pooled["score"].notna(), pooled["sex"] != "male"]
    kept = [np.logical_and.reduce(masks[:n]) for n in (1, 2, 3)]
    assert counts == [len(pooled), *(int(rows.sum()) for rows in kept)]
    again = study.cohort(include=["score IS NOT NULL"], exclude=["sex = 'male'"]).attrition()
    assert again.to_frame()["n"].iloc[-1] == int((masks[1] & masks[2]).sum())
    test = study.cohort(include=["age >= 40"]).t_test("score", by="sex")
    older = pooled[masks[0]].dropna(subset=["score"])
    women, men = (older.loc[older["sex"] == sex, "score"] for sex in ("female", "male"))
    assert test.statistic == pytest.approx(stats.ttest_ind(women, men, equal_var=False)[0])


def test_everybody_and_everybody_but_a_few_are_not_both_described(
    study: co.Study, pooled: pd.DataFrame
) -> None:
    mean = study.describe(["score"])["score"].mean
    assert mean == pytest.approx(pooled["score"].mean(), rel=1e-12)
    alone = pooled.dropna().drop_duplicates(["age", "score"], keep=False).iloc[0]
    criterion = f"age = {alone['age']} AND score = {alone['score']}"
    with pytest.raises(co.PolicyRefusal) as refused:
        study.cohort(exclude=[criterion]).describe(["score"])
    assert refused.value.code == "differencing"
    assert "1" not in refused.value.message.replace("base 5", "")
    wide = study.cohort(exclude=["age < 50"]).describe(["score"])
    older = pooled.loc[pooled["age"] >= 50, "score"]
    assert wide["score"].mean == pytest.approx(older.mean(), rel=1e-12)


def test_the_command_line_takes_criteria_and_writes_tables(
    consortium: Consortium, signed: str, tmp_path: Path, pooled: pd.DataFrame
) -> None:
    options = ["--include", "age >= 50", "--derive", "older = age >= 70"]
    result = consortium.cli("run", "describe", signed, "score", *options)
    older = pooled.loc[pooled["age"] >= 50, "score"]
    (group,) = result["result"]["groups"]
    assert group["variables"]["score"]["mean"] == pytest.approx(older.mean(), rel=1e-12)
    assert json.dumps(result["run"]["cohort"]).count("age >= 50") == 1
