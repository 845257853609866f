"""Two-stage meta-analyses as a researcher sees them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import cohortium as co
from cohortium.errors import InputError, PolicyRefusal
from cohortium.inprocess.federation import LocalFederation


def hospital(seed: int, n: int, level: float) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    age = random.integers(35, 85, n)
    sex = random.choice(["f", "m"], n)
    died = random.uniform(size=n) < 1 / (1 + np.exp(3.5 - level - 0.04 * age - 0.4 * (sex == "m")))
    return pd.DataFrame(
        {
            "age": age,
            "sex": sex,
            "died": died,
            "months": np.round(random.exponential(20, n), 1) + 0.1,
            "chol": np.round(random.normal(200 + 10 * level, 30, n), 1),
        }
    )


FRAMES = {
    "North": hospital(1, 220, 0.0),
    "East": hospital(2, 180, 1.0),
    "South": hospital(3, 240, -0.5),
    "Tiny": hospital(4, 25, 0.0),
}


@pytest.fixture(scope="module")
def fed() -> Iterator[LocalFederation]:
    with co.local(FRAMES, by_site=True) as one:
        yield one


def test_a_model_of_each_institution_is_shown_with_those_that_withhold(
    fed: LocalFederation, tmp_path: Path
) -> None:
    found = fed.study().meta("died ~ age + sex")
    assert found.run.rounds == 1
    assert found.withheld == ("Tiny",)
    assert found.suppressed == ("Tiny: its own estimate",)
    assert list(found.institutions["status"]) == ["estimated"] * 3 + ["withheld"]
    assert found.n == 640
    assert found.terms == ("Intercept", "age", "sex[T.m]")
    assert (found.effect, found.ratio) == ("odds ratio", True)
    one = found["age"]
    again = co.meta_analysis(one.effects, one.standard_errors, names=one.names, ratio=True)
    assert one.random == again.random
    assert found.to_frame().loc["age", "effect"] == one.random.estimate
    assert not found["Intercept"].ratio
    assert list(found.leave_one_out("age").index) == ["North", "East", "South"]
    left = found.leave_one_out().loc["North", "effect"]
    assert left == one.again(without="North").random.estimate
    assert found.joint.loc["age", "std_error"] == pytest.approx(one.fixed.standard_error, rel=0.2)
    assert one.again(method="DL").method == "DL"
    english, chinese = found.interpret(), found.interpret("zh")
    assert "Each of 3 institutions fitted died ~ age + sex to its own persons, 640 in" in english
    assert "Withheld their own estimate: Tiny." in english
    assert "3 家机构" in chinese
    assert "Tiny 未提供本机构的估计" in chinese
    assert "未提供" in found.tables("zh")[1].text()
    assert found.institutions.loc["Tiny", ["n", "age", "se(age)"]].isna().all()
    assert found.institutions["age"].dtype == "float64"
    assert next(row for row in str(found.summary()).splitlines() if "Tiny" in row).split() == [
        "Tiny",
        "withheld",
    ]
    assert '"age"' in found.plot().to_json()
    assert "a new institution" in found.plot("age").to_json()
    assert found.save(tmp_path / "means.json").stat().st_size > 0
    assert "随机" not in found.export(tmp_path / "meta.csv").read_text(encoding="utf-8")
    for term in ("weight", ""):
        with pytest.raises(InputError, match="There is no term"):
            found[term]


def test_a_cox_model_is_written_as_it_is_in_r(fed: LocalFederation) -> None:
    study = fed.study()
    found = study.meta("Surv(months, died) ~ age", method="DL", hartung_knapp=True)
    assert found.formula == "Surv(months, died) ~ age"
    assert found.effect == "hazard ratio"
    assert found["age"].hartung_knapp
    assert found.n_events == int(
        sum(FRAMES[name]["died"].sum() for name in ("North", "East", "South"))
    )
    same = study.meta("age", time="months", event="died", strata="sex", family="cox")
    assert same.formula == "Surv(months, died) ~ age + strata(sex)"
    assert "events" in same.institutions


@pytest.mark.parametrize(
    ("effect", "variable", "says"),
    [
        ("mean-difference", "chol", "均值差"),
        ("smd", "chol", "标准化均值差"),
        ("odds-ratio", "died", "比值比"),
        ("risk-ratio", "died", "相对危险度"),
        ("risk-difference", "died", "率差"),
    ],
)
def test_an_effect_between_groups_is_combined(
    fed: LocalFederation, effect: str, variable: str, says: str
) -> None:
    found = fed.study().meta_effect(variable, "sex", effect, levels=("m", "f"))  # type: ignore[arg-type]
    assert found.groups == ("m", "f")
    assert found.terms == (f"{variable}: m vs f",)
    assert found.ratio == effect.endswith("ratio")
    assert "institutions the combined" in found.interpret()
    assert says in found.interpret("zh")
    assert "random effects" in found.plot().to_json()
    first = FRAMES["North"]
    groups = [first.loc[first["sex"] == sex, variable].astype(float) for sex in ("m", "f")]
    if effect in {"mean-difference", "risk-difference"}:
        apart = groups[0].mean() - groups[1].mean()
        assert found[found.terms[0]].effects[0] == pytest.approx(apart)


def test_what_does_not_fit_together_is_refused_before_it_is_sent(fed: LocalFederation) -> None:
    study = fed.study()
    asked: list[tuple[str, dict[str, Any]]] = [
        ("Surv(months, died) ~ age", {"family": "gaussian"}),
        ("Surv(months, died) ~ age", {"offset": "chol"}),
        ("died ~ age", {"event": "died"}),
        ("age", {"family": "cox"}),
        ("chol ~ age", {"family": "normal"}),
    ]
    for formula, options in asked:
        with pytest.raises(InputError):
            study.meta(formula, **options)


def test_a_contract_that_keeps_institutions_together_refuses() -> None:
    with co.local(FRAMES) as fed, pytest.raises(PolicyRefusal, match="by_site") as caught:
        fed.study().meta("died ~ age")
    assert caught.value.code == "not-permitted"


def test_one_institutions_persons_may_not_nearly_be_those_of_an_earlier_result() -> None:
    frames = {name: FRAMES[name].copy() for name in ("North", "East", "South")}
    for name, few in (("North", 1), ("East", 20), ("South", 20)):
        frames[name]["age"] = frames[name]["age"].clip(lower=40)
        frames[name].loc[: few - 1, "age"] = 30
    with co.local(frames, by_site=True) as fed:
        study = fed.study()
        study.meta("chol ~ age", "gaussian")
        # 41 persons less jointly, and one less in the North
        for run in (
            lambda: study.cohort(include="age >= 40").meta("chol ~ age", "gaussian"),
            lambda: study.cohort(include="age >= 40").meta_effect("chol", "sex", "smd"),
            lambda: study.cohort(include="age >= 40").mixed("chol ~ age"),
        ):
            with pytest.raises(PolicyRefusal) as caught:
                run()
            assert caught.value.code == "differencing"
        assert study.cohort(include="age >= 50").meta("chol ~ age", "gaussian").n < 600


def test_persons_with_the_event_at_one_institution_are_compared_too() -> None:
    frames = {name: FRAMES[name].copy() for name in ("North", "East")}
    # Whom the criterion leaves out has the event but for few, at one of them
    for frame in frames.values():
        frame["age"] = frame["age"].clip(lower=40)
        who = frame.index[frame["died"]][:20]
        frame.loc[who, "age"] = 30
    frames["North"].loc[frames["North"].index[~frames["North"]["died"]][:2], "age"] = 30
    with co.local(frames, by_site=True) as fed:
        study = fed.study()
        study.meta("Surv(months, died) ~ chol")
        with pytest.raises(PolicyRefusal) as caught:
            study.cohort(include="age >= 40").meta("Surv(months, died) ~ chol")
        assert caught.value.code == "differencing"
