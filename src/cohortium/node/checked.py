"""A run that the guard let through."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cohortium.analysis.interface import AnyAnalysis, Params, Scope
from cohortium.analysis.screen import Screen, screened
from cohortium.cohort.population import Population
from cohortium.contract.model import Contract, Participant, RunRequest
from cohortium.contract.noise import Noise
from cohortium.contract.population import contract_population
from cohortium.core.canonical import digest
from cohortium.node.store import StoredRun


@dataclass(frozen=True)
class CheckedRun:
    """A run that may be computed.

    Attributes:
        inner: What is computed; `analysis` is that with the comparison before it.
        stored: The run as recorded when it was asked for before; None on the first time.
        scope: With this site's limits.
        common: With the contract's limits: what hub and all sites have in common.
        population: Who it is about, and the derived variables.
        noise: What the contract asks for in every sum; None: exact sums.
        screen: What its persons are compared with in its first round; None: nothing.
        view: Which of its splits is released; None before that is agreed.
    """

    contract: Contract
    participant: Participant
    request: RunRequest
    inner: AnyAnalysis
    params: Params
    scope: Scope
    common: Scope
    population: Population
    noise: Noise | None = None
    stored: StoredRun | None = None
    screen: Screen | None = None
    view: int | None = None

    @property
    def analysis(self) -> AnyAnalysis:
        """The rounds of the run."""
        return screened(self.inner, self.screen, view=self.view or 0)

    @property
    def reads(self) -> frozenset[str]:
        """The dataset's variables that are needed: for the computation and for its cohort."""
        named = self.inner.variables(self.params)
        return self.population.reads | self.population.reads_for(named)

    @property
    def params_digest(self) -> str:
        """Digest of the parameters as the analysis understands them, defaults filled in, and of the
        researcher's criteria and derived variables, where they matter.
        """
        population, named = self.population, self.inner.variables(self.params)
        persons = population.persons_key
        derived = {n: population.meaning(n) for n in named if n in population.derivations}
        if not derived and persons == contract_population(self.contract).persons_key:
            return self.params.digest
        return digest({"params": self.params.digest, "persons": persons, "derived": derived})

    def among(self, n_sites: int) -> CheckedRun:
        """The run with its number of parties."""
        return replace(
            self,
            scope=replace(self.scope, n_sites=n_sites),
            common=replace(self.common, n_sites=n_sites),
        )
