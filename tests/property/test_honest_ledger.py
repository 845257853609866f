"""Whatever sites and an honest hub do, in whatever order it is told, no node raises an alarm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.builders import World, round_request, run_end
from tests.support.ledger_hub import HubLog, as_message
from tests.support.witnessing import welcome

from cohortium.contract.model import Contract, RunRequest
from cohortium.core.canonical import digest_bytes
from cohortium.core.dictionary import Dictionary, Variable, VariableType
from cohortium.core.directory import PublishedDataset
from cohortium.errors import CohortiumError
from cohortium.ledger.entry import (
    DatasetChanged,
    Fact,
    PolicyChanged,
    Rounds,
    RunDecided,
    RunEnded,
    RunSubmitted,
    SiteDecision,
)
from cohortium.node import alarms, ledger_copy, outbox
from cohortium.node.policy import Policy

SITES = ("Alpha", "Beta", "Gamma")


@dataclass
class Run:
    request: RunRequest
    adverts: dict[str, bytes] = field(default_factory=dict)
    rounds: int = 0


@dataclass
class Consortium:
    """Three nodes, and a hub that says what is so, sooner or later."""

    world: World = field(default_factory=World)
    hub: HubLog = field(default_factory=HubLog)
    noted: list[Fact] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    contract: Contract = field(init=False)

    def __post_init__(self) -> None:
        self.contract = self.world.ready()
        self.hub.approve(**self.world.keys)
        for site in SITES:
            self.world.nodes[site].service.welcome(welcome(self.hub))

    # What happens; the number says where and how

    def publish(self, number: int) -> None:
        site = SITES[number % 3]
        name = f"set{number % 2}"
        dictionary = Dictionary(variables=(Variable(name="age", type=VariableType.INTEGER),))
        content = f"sha256:{number:064x}"
        dataset = PublishedDataset(name=name, content_digest=content, dictionary=dictionary)
        outbox.owe_datasets(self.world.nodes[site].store, [dataset])
        fact = DatasetChanged(member=site, name=name, content=content, dictionary=dictionary.digest)
        withdrawn = DatasetChanged(member=site, name="set0")
        self.noted += [fact, withdrawn] if number % 5 == 0 else [fact]

    def policy(self, number: int) -> None:
        site = SITES[number % 3]
        policy = Policy(min_cell=5 + number % 3, paused=number % 4 == 0)
        self.world.nodes[site].policy[0] = policy
        told = outbox.owe_policy(self.world.nodes[site].store, policy.digest)
        self.noted.append(PolicyChanged(member=site, policy=told))

    def submit(self, number: int) -> None:
        run_id = f"{len(self.runs):032x}"
        request = self.world.request(self.contract, run_id=run_id)
        self.runs.append(Run(request))
        submitted = RunSubmitted(
            run_id=run_id,
            study="lung",
            contract=self.contract.digest,
            computation=request.computation,
            researcher=request.researcher,
            request=digest_bytes(request.sign(self.world.researcher)),
        )
        self.noted.append(submitted)
        self.ask(number)

    def ask(self, number: int) -> None:
        """Who takes part; some answers are lost on the way."""
        if not self.runs:
            return
        run = self.runs[-1]
        decisions = {}
        for place, site in enumerate(SITES):
            lost = number >> place & 1 and number % 3 == 0
            try:
                reply = self.world.nodes[site].ask(self.world.prepare(run.request))
            except CohortiumError as error:
                decision = SiteDecision(decision="refused", code=error.code)
            else:
                advert = reply.run_advert.envelope
                decision = SiteDecision(decision="accepted", statement=digest_bytes(advert))
                if not lost and run.rounds == 0:
                    run.adverts[site] = advert
            if lost:
                decision = SiteDecision(decision="absent", code="peer-timeout")
            decisions[site] = decision
        self.noted.append(RunDecided(run_id=run.request.run_id, sites=decisions))

    def round(self, number: int) -> None:
        if not self.runs or len(self.runs[-1].adverts) < 2:
            return
        run = self.runs[-1]
        message = round_request(run.request, list(run.adverts.values()), run.rounds + 1)
        try:
            for site in run.adverts:
                self.world.nodes[site].ask(message)
        except CohortiumError:
            return
        run.rounds += 1

    def end(self, number: int) -> None:
        if not self.runs:
            return
        run = self.runs[-1]
        outcome = ("succeeded", "failed", "cancelled")[number % 3]
        for site in run.adverts:
            self.world.nodes[site].ask(run_end(run.request, outcome))
        rounds = [Rounds(first=1, last=run.rounds, sites=tuple(run.adverts))] if run.rounds else []
        fact = {
            "run_id": run.request.run_id,
            "status": outcome,
            "rounds": rounds,
            "result": "sha256:" + "0" * 64 if outcome == "succeeded" else None,
        }
        self.noted.append(RunEnded.model_validate(fact))

    def wait(self, number: int) -> None:
        self.hub.pass_time(minutes=number % 13)
        self.world.now = self.hub.now
        self.sequence(0)

    def sequence(self, number: int) -> None:
        self.hub.add(*self.noted)
        self.noted = []

    def tell(self, number: int) -> None:
        """A node gets some or all of what it misses, or what it has again."""
        node = self.world.nodes[SITES[number % 3]]
        have = node.service.witness.replica.size
        start = max(0, have - number % 5)
        end = min(self.hub.size, have + 1 + number % 4) if number % 2 else self.hub.size
        more = end < self.hub.size
        final = self.hub.final(self.world.keys, have) if have >= 4 else b""
        node.ask(as_message(self.hub.update(start, end, final=final, more=more)))

    def reconnect(self, number: int) -> None:
        """A node's process begins anew, on the same store."""
        site = SITES[number % 3]
        node = self.world.nodes[site]
        self.world.node(site, store=node.store, policy=node.policy[0])
        self.world.nodes[site].service.welcome(welcome(self.hub))

    def look(self, number: int) -> None:
        self.world.nodes[SITES[number % 3]].service.witness.check_omissions()


ACTIONS: tuple[Callable[[Consortium, int], None], ...] = (
    Consortium.publish,
    Consortium.policy,
    Consortium.submit,
    Consortium.ask,
    Consortium.round,
    Consortium.round,
    Consortium.end,
    Consortium.wait,
    Consortium.sequence,
    Consortium.tell,
    Consortium.tell,
    Consortium.reconnect,
    Consortium.look,
)


@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 999)), max_size=40))
@settings(max_examples=40, deadline=None)
def test_no_honest_history_is_an_alarm(
    history: list[tuple[Callable[[Consortium, int], None], int]],
) -> None:
    consortium = Consortium()
    for action, number in history:
        action(consortium, number)
        if action in {Consortium.submit, Consortium.ask, Consortium.wait}:
            # The hub puts what it notes on the ledger, and tells those who are there, in time.
            consortium.sequence(0)
            for place in range(3):
                consortium.tell(6 + place * 2)
    consortium.sequence(0)
    for site in SITES:
        node = consortium.world.nodes[site]
        size = node.service.witness.replica.size
        reply = node.ask(as_message(consortium.hub.update(size)))
        assert reply.cosignature.size == consortium.hub.size
        assert reply.cosignature.line
        assert alarms.alarms(node.store) == []
        assert ledger_copy.verify(node.service.witness.replica).entries == consortium.hub.size
