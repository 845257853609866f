from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from tests.support.contracts import ADA, NOW, contract, directory

from cohortium.contract.noise import Noise
from cohortium.contract.noise_plan import TAIL, clipped, plan
from cohortium.contract.proposal import read_proposal, resolve
from cohortium.contract.render import render
from cohortium.core.rounds import FieldSpec, Layout
from cohortium.disclosure.budget import Part, zcdp
from cohortium.errors import InputError, PolicyRefusal
from cohortium.secagg.ring import ring_for

BUDGET: dict[str, Any] = {"epsilon": 8.0, "delta": 1e-5, "sums": 50, "clip": 1.0}
MIXED: Layout = {
    "n": FieldSpec((), "count"),
    "bias": FieldSpec((3,), "vector"),
    "weights": FieldSpec((100, 20), "vector", bound=0.5),
}


def noise(**changes: Any) -> Noise:
    fields = {"unit": "institution", "multiplier": 4.5131, **BUDGET}
    return Noise(**(fields | changes))


# --- the plan of a round --------------------------------------------------------------------------


@given(
    st.integers(2, 200),
    st.integers(0, 3),
    st.floats(0.5, 50),
    st.floats(0.01, 100),
    st.sampled_from(["institution", "person"]),
)
def test_every_planned_round_costs_what_the_multiplier_says(
    n_sites: int, colluders: int, multiplier: float, clip: float, unit: str
) -> None:
    fewest = max(2 * n_sites // 3 + 1, colluders + 1)
    asked = noise(unit=unit, multiplier=multiplier, clip=clip, colluders=colluders)
    planned = plan(asked, MIXED, n_sites, fewest)
    scales = {n: 2.0 ** ring_for(s, n_sites).fraction_bits for n, s in planned.layout.items()}
    scales["n"] = 1.0
    sigmas = {planned.sigmas[name] / scales[name] for name in MIXED}
    sigma = min(sigmas)
    assert max(sigmas) == pytest.approx(sigma)
    parts = [Part(s.size, scales[n], s.kind == "vector") for n, s in MIXED.items()]
    rho = zcdp(clip, parts, sigma * (1 + 1e-12), fewest - colluders)
    assert rho <= 0.5 / multiplier**2
    # Room for 12 deviations beside what a site contributes, at all sites at once.
    for name in ("bias", "weights"):
        base = clip if unit == "institution" else MIXED[name].bound
        bound = planned.layout[name].bound
        assert base + TAIL * sigma * (1 - 1e-9) <= bound <= 1.1 * (base + TAIL * sigma)
        assert (math.frexp(bound)[0] * 2048).is_integer()
    assert planned.layout["n"] == MIXED["n"]


def test_hub_and_site_derive_the_same_plan() -> None:
    again = Noise.from_bytes(noise().to_bytes())
    assert plan(again, MIXED, 10, 7) == plan(noise(), dict(reversed(list(MIXED.items()))), 10, 7)


def test_more_colluders_mean_more_noise_from_each() -> None:
    few, many = (plan(noise(colluders=c), MIXED, 10, 7).sigmas["n"] for c in (0, 3))
    assert many == pytest.approx(few * math.sqrt(7 / 4), rel=1e-3)


def test_a_field_of_exact_reals_is_refused() -> None:
    layout = {**MIXED, "mean": FieldSpec((), "real")}
    with pytest.raises(PolicyRefusal, match="mean") as error:
        plan(noise(), layout, 5, 4)
    assert error.value.code == "not-permitted"


def test_a_sum_whose_sites_may_all_but_one_collude_has_the_noise_of_one() -> None:
    assert plan(noise(colluders=3), MIXED, 5, 4).sigmas["n"] >= 4.5131
    with pytest.raises(PolicyRefusal) as error:
        plan(noise(colluders=4), MIXED, 5, 4)
    assert error.value.code == "too-few-sites"


def test_a_vector_for_which_the_ring_is_too_coarse_is_refused() -> None:
    layout = {"w": FieldSpec((10**9,), "vector")}
    with pytest.raises(InputError) as error:
        plan(noise(multiplier=1000.0), layout, 3, 3)
    assert error.value.code == "too-large"


# --- clipping -------------------------------------------------------------------------------------


def norm(contribution: dict[str, np.ndarray]) -> float:
    return math.sqrt(sum(float((a.astype(float) ** 2).sum()) for a in contribution.values()))


@given(
    arrays(np.float32, 30, elements=st.floats(-1e6, 1e6, width=32)),
    arrays(np.float64, (2, 3), elements=st.floats(-1e200, 1e200)),
    arrays(np.int64, 4, elements=st.integers(-(2**40), 2**40)),
    st.floats(1e-6, 1e6),
)
def test_a_clipped_contribution_is_within_the_clip_and_points_the_same_way(
    weights: np.ndarray, bias: np.ndarray, counts: np.ndarray, clip: float
) -> None:
    given_ = {"weights": weights, "bias": bias, "counts": counts}
    result = dict(clipped(noise(clip=clip), given_))
    assert norm(result) <= clip
    assert result["counts"].dtype == np.int64
    for name, array in result.items():
        assert array.shape == given_[name].shape
        assert (array * np.sign(given_[name]) >= 0).all()


def test_what_is_within_the_clip_stays_as_it_is() -> None:
    given_ = {"w": np.array([0.6, -0.7], dtype=np.float32), "n": np.array(0)}
    result = clipped(noise(), given_)
    assert result["w"] is given_["w"]
    assert norm(dict(clipped(noise(), {"w": np.array([6.0, -8.0])}))) == pytest.approx(1, abs=1e-5)


def test_a_persons_bound_is_the_computations_affair() -> None:
    given_ = {"w": np.array([6.0, -8.0])}
    assert clipped(noise(unit="person"), given_) is given_


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_contribution_that_is_not_finite_cannot_be_clipped(bad: float) -> None:
    with pytest.raises(InputError, match=r"w\[2\]") as error:
        clipped(noise(), {"w": np.array([0.0, 1.0, bad, bad])})
    assert error.value.code == "overflow"
    assert error.value.details == {"field": "w", "index": 2}


# --- the budget -----------------------------------------------------------------------------------


def test_the_budget_pays_for_the_planned_sums_and_then_refuses() -> None:
    asked = noise(multiplier=None).resolved()
    asked.require_left(0)
    asked.require_left(49)
    with pytest.raises(PolicyRefusal) as error:
        asked.require_left(50)
    assert error.value.code == "privacy-budget"
    assert error.value.details == {"sums": 50}
    assert asked.spent(50) <= 8.0 < asked.spent(51)


def test_a_stated_multiplier_stays_and_must_pay_for_the_sums() -> None:
    assert noise(multiplier=6.0).resolved().multiplier == 6.0
    with pytest.raises(InputError, match="cost epsilon"):
        noise(multiplier=4.0).resolved()


# --- the contract ---------------------------------------------------------------------------------


def computations(**changes: Any) -> tuple[dict[str, Any], ...]:
    return ({"name": "stats.*", "noise": noise(**changes)},)


def test_a_contract_without_noise_keeps_its_digest() -> None:
    assert b"noise" not in contract().to_bytes()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [({"multiplier": None}, "no multiplier"), ({"colluders": 2}, "at most 1 colluders")],
)
def test_a_contract_with_noise_that_cannot_work_is_refused(
    changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValidationError, match=complaint):
        contract(computations=computations(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"epsilon": 0.0},
        {"epsilon": math.nan},
        {"delta": 0.5},
        {"sums": 0},
        {"clip": 0.0},
        {"colluders": -1},
        {"unit": "record"},
        {"multiplier": 0.0},
    ],
)
def test_terms_that_mean_no_privacy_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        noise(**changes)


STUDY = """
study: lung
title: Lung cancer
purpose: Survival by sex.
variables: [age, sex]
participants:
  - {name: Aarhus, dataset: lung}
  - {name: Boston, dataset: lung}
computations:
  - name: stats.describe
    noise: {unit: institution, epsilon: 8, delta: 1.0e-5, sums: 50, clip: 1}
recipients: [Ada]
expires_at: 2027-01-01
"""


def resolved(text: str) -> Any:
    return resolve(
        read_proposal(text),
        directory(),
        consortium=contract().consortium,
        researcher=ADA,
        users={"Ada": ADA.key},
        versions={"stats.describe": 1, "glm": 1},
        now=NOW,
    )


def test_a_proposal_gets_the_least_multiplier_of_its_budget() -> None:
    (entry,) = resolved(STUDY).computations
    assert entry.noise == noise(multiplier=entry.noise.multiplier)
    assert entry.noise.multiplier == pytest.approx(4.5131, rel=1e-5)


def test_a_proposal_whose_multiplier_is_too_small_is_refused() -> None:
    with pytest.raises(InputError, match="cost epsilon") as error:
        resolved(STUDY.replace("clip: 1}", "clip: 1, multiplier: 2}"))
    assert error.value.code == "bad-proposal"


def test_the_text_says_what_the_noise_hides_and_what_it_costs() -> None:
    text = render(contract(computations=computations()))
    together = " ".join(text.split())
    for fact in (
        "noise, of at least 4.5131 times norm 1,",
        "whether an institution's whole contribution is in it",
        "cuts its contribution down to norm 1",
        "epsilon 8 and delta 0.00001; the number of sums that it pays for is 50",
        "with up to 1 of the institutions working with the hub",
    ):
        assert fact in together, fact
    person = " ".join(render(contract(computations=computations(unit="person"))).split())
    assert "whether one person's records are in it" in person
    assert "institution's whole" not in person
    assert "sums are exact, without noise" in render(contract())
    assert "without noise" not in text
