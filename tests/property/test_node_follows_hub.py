"""Whatever the parties state in whatever order, a node that hears it is where the hub is."""

from __future__ import annotations

from datetime import timedelta
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.builders import SITES, World, active
from tests.support.life import amended, transition

from cohortium.contract import lifecycle
from cohortium.contract.lifecycle import StudyLife
from cohortium.contract.model import Contract
from cohortium.contract.statements import Action
from cohortium.errors import CohortiumError
from cohortium.link._generated import link_pb2 as pb
from cohortium.node import consent, steward

PROPOSER = "Dr. Li"
STEP = st.one_of(
    st.tuples(st.just("amend"), st.just(PROPOSER), st.integers(0, 3)),
    st.tuples(st.just("sign"), st.sampled_from(SITES), st.integers(0, 3)),
    st.tuples(
        st.sampled_from(["suspend", "resume", "suspend", "resume", "refuse", "withdraw", "revoke"]),
        st.sampled_from([*SITES, PROPOSER]),
        st.integers(0, 3),
    ),
)


class Study:
    """The hub's view as a life, and Alpha's node; every statement reaches both."""

    def __init__(self) -> None:
        self.world = World()
        self.node = self.world.node("Alpha")
        self.life: StudyLife | None = None
        self.propose(self.world.contract())
        for site in SITES:
            self.sign(site, 0)

    def hear(self, envelope: bytes) -> bool:
        """Whether the hub takes a statement."""
        try:
            self.life = lifecycle.hear(self.life, envelope, self.world.now)
        except CohortiumError:
            return False
        return True

    def propose(self, contract: Contract) -> None:
        if self.hear(contract.sign(self.world.researcher)):
            self.node.ask(self.world.proposal(contract))

    def contract(self, back: int) -> Contract:
        """The newest contract, or one before it."""
        assert self.life is not None
        return self.life.versions[max(0, len(self.life.versions) - 1 - back)].contract

    def amend(self, _: str, number: int) -> None:
        assert self.life is not None
        self.propose(amended(self.life.current.contract, title=f"Title {number}"))

    def sign(self, site: str, back: int) -> None:
        contract = self.contract(back)
        if site == "Alpha":
            stored = consent.find_contract(self.node.store, contract.digest)
            reviewed = consent.review(self.node.service, stored)
            if reviewed.problems or stored.state == "refused":
                return
            consent.sign(self.node.service, reviewed)
        before = self.life
        taken = self.hear(contract.sign(self.world.keys[site]))
        assert self.life is not None
        now_in_force = self.life.version(contract.digest).in_force
        if taken and self.life != before and now_in_force:
            self.node.ask(active(contract.digest, self.world.signed(contract)))

    def state(self, action: Action, author: str, back: int) -> None:
        contract = self.contract(back)
        if author == "Alpha":
            stored = consent.find_contract(self.node.store, contract.digest)
            try:
                envelope = steward.state(self.node.service, stored, action, "A doubt.")
            except CohortiumError:
                return
            assert self.hear(envelope), "the hub refuses what the node has done"
            return
        key = self.world.researcher if author == PROPOSER else self.world.keys[author]
        envelope = transition(contract, action, author, at=self.world.now).sign(key)
        if self.hear(envelope):
            message = pb.ContractStatement(envelope=envelope)
            self.node.ask(pb.Message(contract_statement=message))

    def check(self) -> None:
        assert self.life is not None
        here = {c.digest: c.state for c in self.node.store.contracts()}
        for version in self.life.versions:
            state = "proposed" if here[version.digest] == "signed" else here[version.digest]
            assert state == version.state, version.contract.version


@given(steps=st.lists(STEP, max_size=14))
@settings(max_examples=60, deadline=None)
def test_a_node_that_hears_everything_is_where_the_hub_is(
    steps: list[tuple[str, str, int]],
) -> None:
    study = Study()
    for what, author, number in steps:
        study.world.now += timedelta(seconds=2)
        if what == "amend":
            study.amend(author, number)
        elif what == "sign":
            study.sign(author, number)
        else:
            study.state(cast("Action", what), author, number)
        study.check()
