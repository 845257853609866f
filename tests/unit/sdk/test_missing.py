"""Missing values as a researcher meets them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cohortium as co
from cohortium.inprocess.federation import LocalFederation


def frames() -> dict[str, pd.DataFrame]:
    out = {}
    for seed, site in enumerate(("North", "East", "South")):
        rng = np.random.default_rng(seed)
        n = 150
        age, sex = rng.normal(60, 10, n).round(), rng.choice(["f", "m"], n)
        chol = (180 + 0.8 * age + rng.normal(0, 30, n)).round()
        stage = rng.choice(["I", "II", "III"], n, p=[0.2, 0.5, 0.3]).astype(object)
        dead = rng.random(n) < 1 / (1 + np.exp(-(-5 + 0.04 * age + 0.01 * chol)))
        chol[rng.random(n) < 0.1 + 0.2 * dead] = np.nan
        stage[rng.random(n) < 0.15] = None
        out[site] = pd.DataFrame(
            {"age": age, "sex": sex, "chol": chol, "stage": stage, "dead": dead}
        )
    out["North"].loc[[3, 5], "age"] = np.nan
    return out


@pytest.fixture(scope="module")
def pooled() -> pd.DataFrame:
    return pd.concat(frames().values())


@pytest.fixture(scope="module")
def fed() -> Iterator[LocalFederation]:
    with co.local(frames()) as one:
        yield one


def test_missing_values_are_those_of_everybody(
    fed: LocalFederation, pooled: pd.DataFrame, tmp_path: Path
) -> None:
    found = fed.study().missing()
    frame = found.to_frame()
    assert frame.loc["chol", "missing"] == pooled["chol"].isna().sum()
    assert frame.loc["stage", "share"] == pytest.approx(pooled["stage"].isna().mean())
    assert frame["missing"].isna().loc["age"]  # two persons
    assert found.together == ("sex", "chol", "stage", "dead")
    complete = pooled[["sex", "chol", "stage", "dead"]].notna().all(axis=1).sum()
    assert found.n_complete == complete == found.patterns["n"].iloc[0]
    assert found.patterns["n"].sum() == 450
    assert "age: fewer persons" in str(found.suppressed)
    assert "chol" in found.interpret()
    assert "chol" in found.interpret("zh")
    for name in ("m.png", "m.csv", "m.html"):
        target = tmp_path / name
        assert (found.save(target) if name == "m.png" else found.export(target)).exists()
    groups = fed.study().missing(["chol", "stage"], by="sex")
    women = pooled[pooled["sex"] == "f"]
    assert groups.to_frame().loc[("chol", "f"), "missing"] == women["chol"].isna().sum()
    assert "f" in str(groups.tables("zh")[0].rows)
    with pytest.raises(co.InputError, match="not asked for"):
        _ = fed.study().missing("chol", patterns=False).patterns


def test_a_filled_cohort_is_computed_as_pandas_fills(
    fed: LocalFederation, pooled: pd.DataFrame
) -> None:
    filled = fed.study().impute({"chol": "mean", "stage": "mode", "dead": "mode"})
    mean = float(round(pooled["chol"].mean()))
    by_hand = pooled.fillna({"chol": mean, "stage": "II"})
    assert [(one.variable, one.value) for one in filled.filled] == [
        ("chol", mean),
        ("stage", "II"),
        ("dead", False),
    ]
    chol = filled.describe("chol")["chol"]
    assert chol.n == 450
    assert chol.mean == pytest.approx(by_hand["chol"].mean())
    assert chol.sd == pytest.approx(by_hand["chol"].std())
    levels = {one.level: one.count for one in filled.describe("stage")["stage"].levels}
    assert levels == by_hand["stage"].value_counts().to_dict()
    fit = filled.glm("dead ~ chol + sex")
    assert fit.nobs == 450
    assert "chol = " in fit.run.line()
    assert "too small" in " ".join(fit.notes())
    assert "标准误" in " ".join(fit.notes("zh"))
    median = fed.study().impute({"chol": "median"}).filled[0].value
    assert median == pytest.approx(pooled["chol"].median(), abs=0.5)
    typed = fed.study().impute({"chol": "230", "dead": "True", "stage": "III"}).filled
    assert [one.value for one in typed] == [230.0, True, "III"]
    again = filled.cohort("age >= 60").impute({"chol": 230})
    assert again.include == ("age >= 60",)
    assert {one.variable: one.value for one in again.filled}["chol"] == 230.0
    assert "chol = 230" in repr(again)
    assert again.describe("chol")["chol"].n == (pooled["age"] >= 60).sum()
    asked = again.describe("sex").run.cohort
    assert asked is not None
    assert asked.filled is None


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"chol": "mode"}, "bad-input"),
        ({"chol": "often"}, "bad-input"),
        ({"stage": "mean"}, "bad-input"),
        ({"nobody": "mean"}, "not-found"),
        ({"chol": 1e9}, "not-permitted"),
        ({"stage": "IX"}, "bad-criterion"),
    ],
)
def test_what_cannot_be_filled_is_said(
    fed: LocalFederation, values: dict[str, str | float], code: str
) -> None:
    with pytest.raises(co.CohortiumError) as caught:
        fed.study().impute(values).describe([*values])
    assert caught.value.code == code


def test_what_is_missing_is_not_counted_of_filled_persons(fed: LocalFederation) -> None:
    with pytest.raises(co.PolicyRefusal, match="without filling"):
        fed.study().impute({"chol": "mean"}).missing("chol")


def test_a_model_of_incomplete_data_comes_back_with_its_diagnostics(
    fed: LocalFederation, tmp_path: Path
) -> None:
    study = fed.study()
    fit = study.mice("dead ~ age + chol + stage", "binomial", m=3, iterations=4, auxiliary="sex")
    again = study.mice("dead ~ age + chol + stage", "binomial", m=3, iterations=4, auxiliary="sex")
    other = study.mice(
        "dead ~ age + chol + stage", "binomial", m=3, iterations=4, auxiliary="sex", seed=2
    )
    assert fit.params.equals(again.params)
    assert not fit.params.equals(other.params)
    assert (fit.n, fit.n_missing) == (448, 2)  # two lack their age: too few to be imputed
    assert {name: how for name, (how, _) in fit.imputed.items()} == {
        "stage": "polyreg",
        "chol": "norm",
    }
    frame = fit.to_frame()
    assert ((frame["fmi"] > 0) & (frame["fmi"] < 1)).all()
    assert frame["odds_ratio"].to_numpy() == pytest.approx(np.exp(fit.params.to_numpy()))
    limits = fit.conf_int()
    assert limits[0].to_numpy() == pytest.approx(frame["conf_low"].to_numpy())
    assert len(fit.trace) == 2 * 4 * 3
    assert '"values": [1, 2, 3, 4]' in fit.plot("trace").to_json(indent=None)
    for kind in ("trace", "fmi", "effects"):
        assert fit.plot(kind).to_dict()
    with pytest.raises(co.InputError, match="not 'forest'"):
        fit.plot("forest")
    assert "at random" in fit.interpret()
    assert "随机缺失" in fit.interpret("zh")
    assert "polyreg" not in str(fit.summary())
    assert fit.export(tmp_path / "fit.html", "zh").exists()
    with pytest.raises(co.InputError, match="fit the model with glm"):
        study.mice("dead ~ sex", "binomial")
