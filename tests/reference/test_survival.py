"""Published numbers of survival curves and tests of them.

Sources: Freireich et al. 1963 as printed by Kleinbaum & Klein 2012, Survival Analysis, ch. 2, and
by SAS's PROC LIFETEST (log-rank 16.7929, Wilcoxon 13.4579); R's ``survfit`` and ``survdiff`` on
``lung`` (Loprinzi et al. 1994); cmprsk's ``cuminc`` on 177 transplants (Scrucca, Santucci & Aversa
2010, data ``bmtcrr``); lifelines' ``logrank_test`` on ``lung`` and GBSG2 (Schumacher et al. 1994).
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.federation import run_pooled_sum
from tests.support.frames import split, table_of

from cohortium.analysis.builtin import find
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure

datasets = pytest.importorskip("lifelines.datasets")

TOTAL = Disclosure(floor="total")
EVERY_TIME = Disclosure(floor="total", min_cell=1)
"""So that every time at which somebody leaves is a point."""

TREATED = "6 6 6 6+ 7 9+ 10 10+ 11+ 13 16 17+ 19+ 20+ 22 23 25+ 32+ 32+ 34+ 35+"
PLACEBO = "1 1 2 2 3 4 4 5 5 8 8 8 8 11 11 12 12 15 17 22 23"
"""Weeks in remission; + is censored."""

TRANSPLANTED = {
    "ALL": """
0.67d 131.77+ 24.03d 1.47d 2.23d 124.83+ 10.53d 123.9+ 2r 1.7d 3.57r 0.4d 0.87d 121.1+ 7.5d
6.13r 2.8d 5.37r 2.87r 3.07r 1.7r 1.8r 3.63d 112.23+ 1.67r 7.53r 6.03d 2.53r 8d 82.6+ 6d 4.23r
7.47d 13.07r 1.43d 72.93+ 71.83+ 8.17d 7.57r 2.4r 1.1d 3.3d 1.23r 56.6+ 8.63r 1.1r 5.43d 45.3+
43.67+ 4.17d 20.83r 0.37d 0.27d 35.5+ 4.07r 7.93r 17.23r 3.43d 12.17d 29.2+ 3.63r 24.77+ 6.6d
9.43r 1.87r 19.9+ 7.63r 2.23r 3.23d 16.83+ 16.13+ 2.7d 10.3r
""",
    "AML": """
9.5r 6.33d 2.3d 5.27d 6.3d 10.9d 114.7+ 114.1+ 35r 112.93+ 7.63d 110.37+ 20.93d 2.83d 9.63d
3.17d 9.97d 5.7r 106.13+ 4.2r 9.17d 8.73d 85.1+ 4.8d 3.57d 81.67+ 6.2r 3.47d 1d 6.1d 77+ 76.03+
28.53r 1.97d 67.8+ 70.2+ 3.03r 5.87r 68.83+ 9.13r 6.07r 59.17+ 58.23+ 58+ 3.6d 1.6r 5.63r 4.4d
13.8d 49.27+ 9.2d 6.7d 12.57r 11.8d 43.2+ 6.63r 42.5+ 1.87r 1.23d 41.3+ 3.9d 4.57d 4.4d 3.7d
3.4d 8.6d 1.3r 35.5+ 2d 8.8d 32.63+ 7.2d 9d 6r 29.9+ 28.7+ 42.17r 0.13d 12.27r 26.13+ 4.73r
3.93d 2.03r 5r 5.6r 1.2r 5.23d 3.5d 2.8d 1.47d 0.87d 7.2d 3.57d 4.57d 1.77d 16.6+ 15.17+ 7r
2.53r 14.5+ 2.3r 10.2+ 9.97+ 7.63r
""",
}
"""Months after a transplant; r relapse, d death in remission, + censored."""


def data(time: list[Any], event: list[Any], group: list[str], unit: str) -> list[Table]:
    """Persons dealt to three sites."""
    levels = tuple(sorted(set(group)))
    variables = (
        Variable(name="time", type=VariableType.INTEGER, unit=unit),
        Variable(name="event", type=VariableType.BOOLEAN),
        Variable(name="group", type=VariableType.CATEGORY, levels=levels),
    )
    columns = {"time": time, "event": event, "group": group}
    return [
        table_of(variables, {name: column[at::3] for name, column in columns.items()})
        for at in range(3)
    ]


def run(name: str, sites: list[Table], limits: Disclosure = TOTAL, **params: Any) -> dict[str, Any]:
    asked = {"time": "time", "event": "event"} | params
    return dict(run_pooled_sum(find(f"survival.{name}"), asked, sites, limits).result)


@pytest.fixture(scope="module")
def leukaemia() -> list[Table]:
    rows = [(one, "6-MP") for one in TREATED.split()] + [
        (one, "placebo") for one in PLACEBO.split()
    ]
    return data(
        [int(one.rstrip("+")) for one, _ in rows],
        [0 if one.endswith("+") else 1 for one, _ in rows],
        [group for _, group in rows],
        "weeks",
    )


@pytest.fixture(scope="module")
def lung() -> list[Table]:
    frame = datasets.load_lung()
    sex = [str(one) for one in frame["sex"]]
    return data(frame["time"].tolist(), frame["status"].tolist(), sex, "days")


def test_remission_of_leukaemia(leukaemia: list[Table]) -> None:
    treated, placebo = run("km", leukaemia, EVERY_TIME, by="group")["curves"]
    steps = treated["steps"]
    at = [steps["time"].index(week) for week in (6, 7, 10, 13, 16, 22, 23)]
    assert [steps["at_risk"][one] for one in at] == [21, 17, 15, 12, 11, 7, 6]
    survival = [round(steps["survival"][one], 3) for one in at]
    assert survival == [0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448]
    errors = [round(steps["std_error"][one], 4) for one in at]
    assert errors == [0.0764, 0.0869, 0.0963, 0.1068, 0.1141, 0.1282, 0.1346]
    assert (treated["quantiles"][0]["time"], placebo["quantiles"][0]["time"]) == (23, 8)
    assert placebo["steps"]["survival"][-1] == 0


def test_remission_of_leukaemia_with_and_without_treatment(leukaemia: list[Table]) -> None:
    result = run("logrank", leukaemia, EVERY_TIME, by="group")
    assert round(result["statistic"], 4) == 16.7929
    assert [round(group["expected"], 2) for group in result["groups"]] == [19.25, 10.75]
    assert [group["observed"] for group in result["groups"]] == [9, 21]
    result = run("logrank", leukaemia, EVERY_TIME, by="group", weights="wilcoxon")
    assert round(result["statistic"], 4) == 13.4579


def test_survival_with_lung_cancer(lung: list[Table]) -> None:
    (curve,) = run("km", lung, EVERY_TIME, at=[365])["curves"]
    assert (curve["n"], curve["events"]) == (228, 165)
    median = curve["quantiles"][0]
    assert (median["time"], median["low"], median["high"]) == (310, 284, 361)
    year = curve["at"][0]
    assert (year["at_risk"], round(year["survival"], 3)) == (65, 0.409)
    assert round(year["std_error"], 4) == 0.0358
    (told,) = run("km", lung)["curves"]
    assert told["quantiles"][0]["after"] < 310 <= told["quantiles"][0]["by"]


def test_medians_of_men_and_women_with_lung_cancer(lung: list[Table]) -> None:
    curves = run("km", lung, EVERY_TIME, by="group")["curves"]
    assert [curve["quantiles"][0]["time"] for curve in curves] == [270, 426]
    assert [(curve["n"], curve["events"]) for curve in curves] == [(138, 112), (90, 53)]


def test_men_and_women_with_lung_cancer(lung: list[Table]) -> None:
    result = run("logrank", lung, by="group")
    assert round(result["statistic"], 6) == 10.326742
    assert [round(group["expected"], 1) for group in result["groups"]] == [91.6, 73.4]
    assert round(result["p_value"], 3) == 0.001


def test_hormone_treatment_of_breast_cancer() -> None:
    frame = datasets.load_gbsg2()
    sites = data(frame["time"].tolist(), frame["cens"].tolist(), frame["horTh"].tolist(), "days")
    assert round(run("logrank", sites, by="group")["statistic"], 6) == 8.564781


def test_relapse_and_death_after_a_transplant() -> None:
    rows = [(one, group) for group, text in TRANSPLANTED.items() for one in text.split()]
    variables = (
        Variable(name="time", type=VariableType.REAL, decimals=2, unit="months"),
        Variable(name="event", type=VariableType.CATEGORY, levels=("+", "r", "d")),
        Variable(name="group", type=VariableType.CATEGORY, levels=("ALL", "AML")),
    )
    columns: dict[str, list[Any]] = {
        "time": [float(one[:-1]) for one, _ in rows],
        "event": [one[-1] for one, _ in rows],
        "group": [group for _, group in rows],
    }
    sites = [
        table_of(variables, {n: column[at::3] for n, column in columns.items()}) for at in range(3)
    ]
    relapse = run("gray", sites, by="group", event_level="r")
    assert (round(relapse["statistic"], 7), round(relapse["p_value"], 8)) == (2.8623325, 0.09067592)
    death = run("gray", sites, by="group", event_level="d")
    assert (round(death["statistic"], 7), round(death["p_value"], 8)) == (0.4481279, 0.50322531)
    assert [group["observed"] for group in relapse["groups"]] == [28, 28]


def test_a_site_more_or_less_changes_no_digit(lung: list[Table]) -> None:
    halves = [half for site in lung for half in split(site, [30, site.n_rows - 30])]
    for name in ("km", "logrank"):
        one, other = (run(name, sites, by="group") for sites in (lung, halves))
        assert {**one, "n_sites": 6} == other
