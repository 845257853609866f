"""Survival results: what they hold, how they are shown and said."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.support.frames import split, table_of
from tests.support.pooled_study import PooledStudy

import cohortium as co
from cohortium.core.dictionary import Variable, VariableType
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import InputError, ProtocolError
from cohortium.sdk.incidence_results import CumulativeIncidenceResult
from cohortium.sdk.result_types import result_from_wire
from cohortium.sdk.survival_results import KaplanMeierResult, LogrankResult

VARIABLES = (
    Variable(name="days", type=VariableType.INTEGER, unit="days"),
    Variable(name="years", type=VariableType.REAL, decimals=1),
    Variable(name="exact", type=VariableType.REAL),
    Variable(name="died", type=VariableType.BOOLEAN),
    Variable(name="arm", type=VariableType.CATEGORY, levels=("a", "b")),
)
KEPT = {
    "Aalen",
    "Johansen",
    "delta",
    "end",
    "relapse",
    "death",
    "Kaplan",
    "Meier",
    "Greenwood",
    "log",
    "rank",
    "Peto",
    "arm",
    "days",
    "died",
    "false",
}


def study(limits: Disclosure | None = None, n: int = 400) -> PooledStudy:
    rng = np.random.default_rng(2)
    arm = rng.choice(["a", "b"], n)
    event = rng.exponential(np.where(arm == "a", 200, 350), n)
    end = rng.uniform(50, 700, n)
    time = np.ceil(np.minimum(event, end))
    columns = {
        "days": time.tolist(),
        "years": np.round(time / 365, 1).tolist(),
        "exact": (time / 365).tolist(),
        "died": (event <= end).astype(int).tolist(),
        "arm": arm.tolist(),
    }
    return PooledStudy(split(table_of(VARIABLES, columns), [n // 2, n - n // 2]), limits)


@pytest.fixture(scope="module")
def curves() -> KaplanMeierResult:
    return study().km("days", "died", by="arm", at=[100, 365], quantiles=[0.25, 0.5])


@pytest.fixture(scope="module")
def test() -> LogrankResult:
    return study().logrank("days", "died", by="arm")


def test_a_curve_has_points_quantiles_and_times(curves: KaplanMeierResult) -> None:
    assert (curves.unit, curves.time_name, curves.event) == ("days", "days (days)", "died")
    assert curves.n == sum(one.n for one in curves.curves) == 400
    for level in ("a", "b"):
        one = curves.curve(level)
        assert one.events is not None
        assert one.censored == one.n - one.events
        assert one.median == one.quantiles[1].time
        assert not one.every_time
        assert not one.quantiles[1].exact
        assert one.at_risk(0) == one.n
        assert one.at_risk(1e9) is None
        assert (one.at[0].survival or 0) > (one.at[1].survival or 0)
    frame = curves.to_frame()
    assert list(frame.columns[:3]) == ["arm", "time", "at_risk"]
    assert frame.groupby("arm")["survival"].first().tolist() == [1.0, 1.0]
    assert curves.quantiles()["p"].tolist() == [0.25, 0.5] * 2
    assert curves.survival_at()["time"].tolist() == [100.0, 365.0] * 2


def test_several_curves_have_no_one_median(curves: KaplanMeierResult) -> None:
    with pytest.raises(InputError):
        _ = curves.median
    with pytest.raises(InputError):
        curves.curve("c")
    one = study().km("days", "died")
    assert one.median == one.curve().median
    assert "by" not in one.to_frame().columns


def test_where_every_time_is_a_point_nothing_is_in_brackets() -> None:
    result = study(Disclosure(min_cell=1)).km("days", "died", at=[100.0])
    (one,) = result.curves
    assert one.every_time
    assert one.quantiles[0].exact
    assert one.at[0].exact
    assert "[" not in repr(result)
    assert "merged" not in repr(result)
    assert "about" not in result.interpret()


def test_persons_at_risk_at_the_times_of_the_chart(curves: KaplanMeierResult) -> None:
    table: Any = curves.numbers_at_risk()
    ticks = curves.ticks()
    assert list(table.columns) == ticks
    assert ticks[0] == 0
    assert np.ptp(np.diff(ticks)) == 0
    assert table[0.0].sum() == 400
    falling = table.loc["a"].dropna().tolist()
    assert falling == sorted(falling, reverse=True)
    assert curves.numbers_at_risk([50.0]).shape == (2, 1)


def test_it_is_printed_with_its_unit_and_bounds(curves: KaplanMeierResult) -> None:
    text = repr(curves)
    assert "median (days)" in text
    assert re.search(r"\d \[\d+ to \d+\]", text)
    assert "Time unit: days." in text
    assert "before fewer than 5 persons are at risk" in text.replace("\n", " ")
    unknown = repr(study().km("years", "died"))
    assert "not declared in the dictionary" in unknown
    assert "on a grid" not in unknown
    assert "on a grid" in repr(study().km("exact", "died"))


def test_the_chart_has_released_points_and_the_persons_at_risk(curves: KaplanMeierResult) -> None:
    chart = json.loads(json.dumps(curves.plot().to_dict()))
    top, beneath = chart["vconcat"]
    assert len(top["layer"]) == 3
    assert top["layer"][0]["mark"]["interpolate"] == "linear"
    shown = [row for rows in chart["datasets"].values() for row in rows if "survival" in row]
    assert len({(row["group"], row["time"]) for row in shown}) == len(curves.to_frame())
    assert beneath["mark"]["type"] == "text"
    steps = study(Disclosure(min_cell=1)).km("days", "died").plot().to_dict()
    assert steps["vconcat"][0]["layer"][0]["mark"]["interpolate"] == "step-after"


def test_a_curve_without_a_point_has_no_chart_but_words() -> None:
    rows: dict[str, list[Any]] = {
        "days": [5, 6, 7] * 10,
        "years": [1] * 30,
        "exact": [1] * 30,
        "died": [1] + [0] * 29,
        "arm": ["a"] * 30,
    }
    tables = split(table_of(VARIABLES, rows), [15, 15])
    result = PooledStudy(tables).km("days", "died", at=[3.0])
    with pytest.raises(InputError):
        result.plot()
    assert "not reached, or not released" in result.interpret()
    assert "Not released: everybody" in repr(result)
    assert "未发布：全体" in "".join(result.tables("zh")[-1].notes)


@pytest.mark.parametrize("what", ["curves", "test", "incidence"])
def test_both_languages(what: str, request: pytest.FixtureRequest) -> None:
    result = request.getfixturevalue(what)
    assert "Not adjusted for" in result.interpret()
    zh = result.interpret("zh")
    assert "未对其他变量进行调整" in zh
    texts = [zh, result.heading("zh")]
    for table in result.tables("zh"):
        texts += [table.title, *table.columns, *(str(row.cells[0]) for row in table.rows)]
        texts += [note for note in table.notes if not note.startswith("运行")]
    joined = "\n".join(texts)
    assert not set(re.findall("[A-Za-z]{3,}", joined)) - KEPT - {"chi"}
    assert not re.findall("[\u4e00-\u9fff][,:;(]", joined)
    with pytest.raises(InputError):
        result.interpret("fr")


@pytest.fixture(scope="module")
def incidence() -> CumulativeIncidenceResult:
    rng = np.random.default_rng(4)
    end = Variable(name="end", type=VariableType.CATEGORY, levels=("none", "relapse", "death"))
    n = 500
    columns = {
        "days": rng.integers(1, 400, n).tolist(),
        "end": rng.choice(["none", "relapse", "death"], n).tolist(),
        "arm": rng.choice(["a", "b"], n).tolist(),
    }
    table = table_of((VARIABLES[0], end, VARIABLES[4]), columns)
    pooled = PooledStudy(split(table, [200, 300]))
    return pooled.cumulative_incidence("days", "end", by="arm", at=[183])


def test_incidence_of_each_cause_in_each_group(incidence: CumulativeIncidenceResult) -> None:
    assert incidence.causes == ("relapse", "death")
    assert len(incidence.curves) == 4
    one = incidence.curve("death", "b")
    (at,) = one.at
    assert (at.least or 0) <= (at.incidence or 0) <= (at.most or 0)
    with pytest.raises(InputError):
        incidence.curve("cure", "b")
    frame = incidence.to_frame()
    assert list(frame.columns[:4]) == ["arm", "cause", "time", "at_risk"]
    last = frame.groupby(["arm", "cause"])["incidence"].last().groupby("arm").sum()
    assert all(last < 1)
    assert "arm = b, death" in incidence.interpret()
    assert len(incidence.plot().to_dict()["vconcat"]) == 2


def test_grays_test_names_the_event() -> None:
    rng = np.random.default_rng(6)
    end = Variable(name="end", type=VariableType.CATEGORY, levels=("none", "relapse", "death"))
    columns = {
        "days": rng.integers(1, 400, 300).tolist(),
        "end": rng.choice(["none", "relapse", "death"], 300).tolist(),
        "arm": rng.choice(["a", "b"], 300).tolist(),
    }
    pooled = PooledStudy(split(table_of((VARIABLES[0], end, VARIABLES[4]), columns), [200, 100]))
    result = pooled.gray("days", "end", "arm", event_level="relapse")
    assert (result.cause, result.strata, result.statistic_name) == ("relapse", None, "chi2")
    assert "end = relapse" in result.null
    assert "Gray's test of end = relapse by arm" in result.interpret()
    assert "Gray 检验" in result.interpret("zh")
    assert list(result.groups[0]) == ["level", "n", "observed"]


def test_a_ratio_says_whose_it_is(test: LogrankResult) -> None:
    assert test.hazard_ratio is not None
    assert test.hazard_ratio < 1
    assert "The ratio is of arm = b to arm = a." in test.interpret()
    assert list(test.groups[0]) == ["level", "n", "observed", "expected"]
    assert test.plot().to_dict()["layer"]


def test_strata_are_named_as_adjusted_for() -> None:
    result = study().logrank("days", "died", "arm", within_sites=True)
    assert result.within_sites
    assert "Adjusted for institution" in result.interpret()
    assert "机构" in result.interpret("zh")


@pytest.mark.parametrize(
    "change",
    [
        {"curves": None},
        {"curves": [{"level": None}]},
        {"n": "many"},
    ],
)
def test_a_result_that_cannot_be_read_is_the_hubs_fault(
    curves: KaplanMeierResult, change: dict[str, object]
) -> None:
    with pytest.raises(ProtocolError):
        result_from_wire(curves.run, curves.to_json()["result"] | change, {})


def test_through_a_whole_federation(tmp_path: Path) -> None:
    import pandas as pd

    rng = np.random.default_rng(3)
    frames = {
        site: pd.DataFrame(
            {
                "days": rng.integers(1, 300, 80),
                "died": rng.integers(0, 2, 80),
                "arm": rng.choice(["a", "b"], 80),
            }
        )
        for site in ("north", "south")
    }
    with co.local(frames) as fed:
        curves = fed.study().km("days", "died", by="arm")
        assert curves.export(tmp_path / "km.csv").stat().st_size > 100
        test = fed.study().cohort(include="days > 100").logrank("days", "died", "arm")
        assert 0 < (test.p_value or 0) <= 1


def test_curves_of_late_entries_say_so(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    frames = {}
    for site in ("North", "South"):
        t = np.ceil(random.exponential(300, 200)) + 1
        frames[site] = pd.DataFrame(
            {"days": t, "died": random.random(200) < 0.7, "came": np.floor(t * random.random(200))}
        )
    with co.local(frames) as federation:
        curves = federation.study().km("days", "died", entry="came")
    assert curves.entry == "came"
    assert len(curves.curve().steps["came"]) == len(curves.curve().steps["time"])
    assert "at risk from came on" in curves.interpret()
    assert "自 came 起计入在险人群" in curves.interpret("zh")
    assert "left truncation" in str(curves)
    curves.save(tmp_path / "late.png")
    assert (tmp_path / "late.png").stat().st_size > 5000
