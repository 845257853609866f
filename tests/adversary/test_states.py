"""Later states are the hub's to choose: what holds nevertheless, and what does not.

The tests of the second part show attacks that work. They keep docs/threat-model.md true: whoever
closes one changes both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.support.adversary import Federation, federation, refused
from tests.support.builders import SITES
from tests.support.secagg import aggregate

from cohortium.analysis.builtin import find
from cohortium.analysis.formula import parse
from cohortium.analysis.glm import Glm
from cohortium.analysis.glm_state import Phase, Progress
from cohortium.analysis.interface import Scope
from cohortium.contract.model import Computation, Contract, RunRequest
from cohortium.core.rounds import State, Total
from cohortium.disclosure.limits import Disclosure
from cohortium.link._generated import link_pb2 as pb
from cohortium.link.codec import put_state
from cohortium.secagg.binding import RoundBinding
from cohortium.secagg.roster import Roster

AGES = [10 * site + person for site in (1, 2, 3) for person in range(12)]


@pytest.fixture
async def made() -> AsyncIterator[Federation]:
    async with federation(dict.fromkeys(SITES, find)) as one:
        yield one


class _Hub:
    """Runs the rounds of an ordered model as it likes."""

    def __init__(self, made: Federation, contract: Contract, formula: str, family: str) -> None:
        self.made, self.contract = made, contract
        self.request: RunRequest = made.request(
            contract, computation="glm", params={"formula": formula, "family": family}
        )
        self.params = Glm.params_type(formula=formula, family=family)
        self.scope = Scope({v.name: v for v in contract.variables}, contract.disclosure, len(SITES))
        self.parsed = parse(formula, self.scope.variables)
        self.envelopes: list[bytes] = []

    def message(self, number: int, state: State) -> pb.Message:
        message = pb.RoundRequest(run_id=self.request.run_id, round=number, roster=self.envelopes)
        put_state(state, message)
        return pb.Message(round_request=message)

    async def begin(self) -> Total:
        self.envelopes = list((await self.made.adverts(self.request)).values())
        return await self.total(1, Glm().start(self.params, self.scope))

    async def total(self, number: int, state: State) -> Total:
        roster = Roster.verify(
            self.envelopes,
            contract_keys={p.name: p.key for p in self.contract.participants},
            run_id=self.request.run_id,
            contract_digest=self.contract.digest,
            request_digest=self.request.digest,
            min_sites=2,
        )
        message = self.message(number, state)
        masked = {s: (await self.made.ask(s, message)).round_reply.masked for s in SITES}
        binding = RoundBinding(
            self.request.run_id, number, self.contract.digest, self.request.digest, state.digest
        )
        return aggregate(masked, roster, binding, Glm().layout(state, self.params, self.scope))

    def state(self, phase: Phase, **changes: Any) -> State:
        return replace(Progress.nothing(self.parsed, phase), **changes).to_state()


async def _agreed(made: Federation, min_cell: int, floor: str) -> Contract:
    return await made.agree(
        computations=(Computation(name="glm"),),
        disclosure=Disclosure.from_json({"min_cell": min_cell, "floor": floor}),
    )


# What holds


async def test_a_site_keeps_its_own_floor_whatever_the_hub_asks(made: Federation) -> None:
    contract = await _agreed(made, 13, "site")
    hub = _Hub(made, contract, "weight ~ age", "gaussian")
    first = await hub.begin()
    beta = np.array([1.0, 2.0])
    for number, state in enumerate(
        (
            hub.state("moments"),
            hub.state("counts"),
            hub.state("start"),
            hub.state("fit", beta=beta),
        ),
        start=2,
    ):
        total = await hub.total(number, state)
        assert not any(np.any(array) for array in (*first.values(), *total.values()))


async def test_a_run_ends_with_its_rounds(made: Federation) -> None:
    contract = await _agreed(made, 5, "site")
    hub = _Hub(made, contract, "weight ~ age", "gaussian")
    await hub.begin()
    for number in range(2, Glm.max_rounds + 1):
        state = hub.state("fit", beta=np.array([float(number), 0.0]))
        await made.ask("Alpha", hub.message(number, state))
    onward = hub.message(Glm.max_rounds + 1, hub.state("fit"))
    await refused(made, "Alpha", onward, "wrong-round")


@pytest.mark.parametrize(
    "state",
    [
        State({"phase": "everything"}),
        State({"phase": "fit", "steps": [0, 0, 0]}, {"beta": np.zeros(7)}),
        State({"phase": "fit", "steps": [0, 0, 0]}, {"beta": np.full(2, np.nan)}),
        State({"phase": "fit", "steps": "many"}),
    ],
    ids=["phase", "shape", "nan", "steps"],
)
async def test_a_state_of_no_model_is_refused(made: Federation, state: State) -> None:
    contract = await _agreed(made, 5, "site")
    hub = _Hub(made, contract, "weight ~ age", "gaussian")
    await hub.begin()
    full = hub.state("fit")
    spoilt = State({**full.values, **state.values}, {**full.arrays, **state.arrays})
    await refused(made, "Alpha", hub.message(2, spoilt), "malformed-message")


# What does not


async def test_open_the_floor_on_the_total_is_the_hubs_to_check(made: Federation) -> None:
    contract = await _agreed(made, 40, "total")
    hub = _Hub(made, contract, "weight ~ age", "gaussian")
    assert (await hub.begin())["persons"].tolist() == [36, 0, 3]  # an honest hub stops here
    total = await hub.total(2, hub.state("moments"))
    assert total["columns"].tolist() == [36, sum(AGES)]


async def test_open_a_chosen_state_singles_out_a_person(made: Federation) -> None:
    """Coefficients so steep that only the oldest person has a weight: the sum is that person's."""
    contract = await _agreed(made, 5, "site")
    hub = _Hub(made, contract, "age ~ weight", "poisson")
    await hub.begin()
    weights = sorted(1.5 * person + site for site in (1, 2, 3) for person in range(12))
    heaviest, steep = weights[-1], 30.0
    beta = np.array([-steep * heaviest, steep])
    total = await hub.total(2, hub.state("fit", beta=beta))
    ones, products, squares = total["information"].tolist()
    assert ones == pytest.approx(1.0, rel=1e-9)
    assert products == pytest.approx(heaviest, rel=1e-9)
    assert squares == pytest.approx(heaviest**2, rel=1e-9)
