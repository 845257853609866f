"""Attacks that work in this release, shown so that docs/threat-model.md stays true.

Whoever closes one changes its test here and its line there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np
import pandas as pd
import pytest
from tests.support.adversary import Federation, federation
from tests.support.builders import World

import cohortium as co
from cohortium.link._generated import link_pb2 as pb


@pytest.fixture
async def made() -> AsyncIterator[Federation]:
    async with federation() as one:
        yield one


async def test_a_wrong_sum_is_not_noticed(made: Federation) -> None:
    """By a site, or by the hub: whoever adds to a masked vector adds to the total."""

    def lie(site: str, _asked: pb.Message, reply: pb.Message) -> pb.Message:
        if site == "Beta" and reply.WhichOneof("body") == "round_reply":
            words = np.frombuffer(reply.round_reply.masked, dtype="<u8").copy()
            words[1] += np.uint64(1000)  # behind the check word: the number of persons
            reply.round_reply.masked = words.tobytes()
        return reply

    contract = await made.agree()
    request = made.request(contract)
    made.site_lies = lie
    assert await made.run(request) == "succeeded"
    assert made.result(request)["n"] == 1036


def test_one_of_two_sites_knows_the_others_sum() -> None:
    world = World()
    contract = world.contract()
    contract = contract.model_copy(update={"participants": contract.participants[:2]})
    world.ready(contract)
    request = world.request(contract)
    total = world.total(request, contract, world.adverts(request, ("Alpha", "Beta")))
    alphas_own = sum(10 + person for person in range(12))
    assert total["sum"][0] - 1 * alphas_own == sum(20 + person for person in range(12))


def test_two_computations_with_a_sum_in_common_over_two_sets_of_sites() -> None:
    world = World()
    contract = world.ready()
    first = world.request(contract)
    of_all = world.total(first, contract, world.adverts(first))
    second = world.request(contract, run_id="f" * 32, params={"variable": "age", "rounds": 2})
    of_two = world.total(second, contract, world.adverts(second, ("Alpha", "Beta")))
    gammas_own = sum(30 + person for person in range(12))
    assert of_all["sum"][0] - of_two["sum"][0] == gammas_own


@pytest.mark.parametrize("floor", ["site", "total"])
def test_a_level_that_one_institution_has_is_counted(floor: str) -> None:
    rng = np.random.default_rng(0)
    frames = {}
    for site in ("a", "b", "c"):
        frame = pd.DataFrame({"age": rng.normal(50, 5, 40).round(1), "type": ["common"] * 40})
        if site == "b":
            frame.loc[:9, "type"] = "rare"
        frames[site] = frame
    with co.local(frames, min_sites=3, floor="site" if floor == "site" else "total") as local:
        result = local.study().describe(["type"]).to_json()["result"]
    levels = result["groups"][0]["variables"]["type"]["levels"]
    assert [(level["level"], level["count"]) for level in levels] == [("common", 110), ("rare", 10)]


def _two_ill_with_the_drug() -> dict[str, pd.DataFrame]:
    frames = {}
    for number, site in enumerate(("a", "b")):
        rng = np.random.default_rng(number)
        drug, ill = np.arange(120) % 2 == 0, np.arange(120) % 4 == 1
        ill[10] = True
        bmi = rng.normal(26, 4, 120).round(1)
        frames[site] = pd.DataFrame({"drug": drug, "ill": ill, "bmi": bmi})
    return frames


def test_a_column_that_hardly_matters_makes_no_table_and_tells_nearly_as_much() -> None:
    """Of 120 with the drug the model predicts two ill, as at the mean of the further column."""
    with co.local(_two_ill_with_the_drug()) as local:
        study = local.study()
        with pytest.raises(co.PolicyRefusal):
            study.glm("ill ~ drug")
        fit = study.glm("ill ~ drug + bmi")
    at_mean = pd.DataFrame({"drug": [True], "bmi": [26.0]})
    assert round(120 * float(fit.predict(at_mean).iloc[0])) == 2


def test_persons_in_two_groups_at_once_are_counted_by_a_linear_model() -> None:
    """The covariances are scale * inverse(X'X); the crossed table withholds the two persons."""
    with co.local(_two_ill_with_the_drug()) as local:
        study = local.study()
        assert study.crosstab("ill", "drug").suppressed
        fit = study.glm("bmi ~ ill + drug", "gaussian")
    products = np.linalg.inv(fit.cov_params().to_numpy()) * fit.scale
    assert products[1, 2] == pytest.approx(2)


def test_counts_of_few_values_follow_from_moments() -> None:
    """One of 200 persons has the grade 3."""
    grades = np.repeat([0, 1, 2], [29, 50, 21])
    frames = {site: pd.DataFrame({"grade": grades}) for site in ("a", "b")}
    frames["a"].loc[0, "grade"] = 3
    with co.local(frames) as local:
        row = local.study().describe(["grade"]).to_frame().iloc[0]
    n, mean, variance = row["n"], row["mean"], row["variance"] * (row["n"] - 1) / row["n"]
    third = row["skewness"] * variance**1.5 + 3 * mean * variance + mean**3
    powers = np.vander([0, 1, 2, 3], increasing=True).T
    counts = n * np.linalg.solve(powers, [1, mean, variance + mean**2, third])
    assert counts == pytest.approx([57, 100, 42, 1], abs=1e-6)
