"""The study contract: what may be computed, on which data, by whom, until when.

`Proposal` is what a researcher writes; `Contract` is what the sites sign: the proposal with every
name bound to a key, a dataset digest and a type.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from cohortium.contract.noise import Noise
from cohortium.core.clock import Instant
from cohortium.core.dictionary import Digest, Label, Name, Variable, VariableType
from cohortium.core.model import Document
from cohortium.crypto.signed import KeyText, Signable
from cohortium.disclosure.limits import Disclosure

StudyId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
ComputationName = Annotated[
    str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*(\.\*)?$")
]
SecurityLevel = Literal["L1", "L2", "L3", "L4", "L5"]
LongText = Annotated[str, StringConstraints(min_length=1, max_length=5000)]


class Participant(Document):
    """An institution and what it gives.

    Attributes:
        name: The institution's name in the consortium; unique.
        key: The key that signs this contract and the site's round-0 keys.
        dataset: Name of the site's dataset.
        dataset_digest: Digest of its content (see `cohortium.node.data`).
        variables: The study's variables that this site gives.
        sources: Dataset column by study variable, where the names differ.
    """

    name: Label
    key: KeyText
    dataset: Name
    dataset_digest: Digest
    variables: Annotated[tuple[Name, ...], Field(min_length=1)]
    sources: dict[Name, Name] = Field(default_factory=dict)


class Researcher(Document):
    """A person who may submit runs under the contract."""

    name: Label
    key: KeyText


class Computation(Document):
    """A permitted computation.

    Attributes:
        name: A built-in analysis (``glm``) or a family (``stats.*``).
        variables: The variables that it may touch; all of the study's where absent.
        max_runs: Most runs a site takes part in; absent: no limit.
        limits: Parameter name to its only allowed values.
        noise: Noise in every sum, and the privacy budget; absent: exact sums.
    """

    name: ComputationName
    variables: tuple[Name, ...] | None = None
    max_runs: Annotated[int, Field(ge=0)] | None = None
    limits: dict[Name, tuple[str | int | float | bool, ...]] = Field(default_factory=dict)
    noise: Noise | None = None

    def covers(self, computation: str) -> bool:
        """Whether this entry is about `computation`."""
        if self.name.endswith(".*"):
            return computation.startswith(self.name[:-1])
        return self.name == computation


class _Terms(Document):
    """What proposal and contract have in common."""

    study: StudyId
    title: Label
    purpose: LongText
    computations: Annotated[tuple[Computation, ...], Field(min_length=1, max_length=1000)]
    security_level: SecurityLevel = "L1"
    disclosure: Disclosure = Disclosure()
    expires_at: Instant

    def _check_names(self, names: Sequence[str]) -> None:
        if len({name.lower() for name in names}) != len(names):
            raise ValueError("two variables have the same name")
        computations = [computation.name for computation in self.computations]
        if len(set(computations)) != len(computations):
            raise ValueError("two computations have the same name")
        for computation in self.computations:
            unknown = set(computation.variables or ()) - set(names)
            if unknown:
                raise ValueError(f"{computation.name} names unknown variables: {sorted(unknown)}")


class ProposedParticipant(Document):
    """A participant as the researcher names it; by default it gives all the study's variables."""

    name: Label
    dataset: Name
    variables: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    sources: dict[Name, Name] = Field(default_factory=dict)


class ProposedVariable(Document):
    """A study variable as the researcher names it; what is left out comes from the dictionaries."""

    name: Name
    type: VariableType | None = None
    unit: Label | None = None
    levels: Annotated[tuple[Label, ...], Field(min_length=1)] | None = None
    decimals: Annotated[int, Field(ge=0, le=12)] | None = None
    description: Annotated[str, StringConstraints(max_length=1000)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        """``age`` is short for ``{name: age}``; levels that are YAML integers are meant as text."""
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and isinstance(value.get("levels"), list | tuple):
            levels = [str(level) if type(level) is int else level for level in value["levels"]]
            return {**value, "levels": levels}
        return value


class Proposal(_Terms):
    """The YAML file of a study, before keys and digests are filled in.

    `variables` may be given by name alone where the sites' dictionaries agree; see
    `cohortium.contract.proposal.resolve`.

    Attributes:
        min_sites: Sites that a run needs; absent: all participants. With fewer, runs over different
            sites can be compared, and their difference is about the sites left out.
    """

    variables: Annotated[tuple[ProposedVariable, ...], Field(min_length=1, max_length=2000)]
    participants: Annotated[tuple[ProposedParticipant, ...], Field(min_length=2)]
    min_sites: Annotated[int, Field(ge=2)] | None = None
    recipients: Annotated[tuple[Label, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _proposal_consistent(self) -> Self:
        self._check_names([variable.name for variable in self.variables])
        return self


class Contract(_Terms, Signable):
    """What every participant signs; its digest names it everywhere.

    Attributes:
        consortium: Fingerprint of the consortium's CA: a contract is void elsewhere.
        recipients: The researchers who may run and read results.
    """

    payload_type: ClassVar[str] = "application/vnd.cohortium.contract+json"

    schema_id: Literal["cohortium/contract/1"] = "cohortium/contract/1"
    consortium: Digest
    variables: Annotated[tuple[Variable, ...], Field(min_length=1, max_length=2000)]
    participants: Annotated[tuple[Participant, ...], Field(min_length=2, max_length=10_000)]
    min_sites: Annotated[int, Field(ge=2)]
    recipients: Annotated[tuple[Researcher, ...], Field(min_length=1)]
    proposed_by: KeyText
    created_at: Instant

    @model_validator(mode="after")
    def _contract_consistent(self) -> Self:
        self._check_names([variable.name for variable in self.variables])
        if any(variable.type is VariableType.TEXT for variable in self.variables):
            raise ValueError("free text cannot be a study variable")
        for what, values in (
            ("participants have the same name", [p.name for p in self.participants]),
            ("participants have the same key", [p.key for p in self.participants]),
            ("recipients have the same key", [r.key for r in self.recipients]),
        ):
            if len(set(values)) != len(values):
                raise ValueError(f"two {what}")
        if not 2 <= self.min_sites <= len(self.participants):
            raise ValueError("min_sites must lie between 2 and the number of participants")
        self._check_noise()
        names = {variable.name for variable in self.variables}
        for participant in self.participants:
            if not set(participant.variables) <= names:
                raise ValueError(f"{participant.name} gives variables that the study does not have")
            if not set(participant.sources) <= set(participant.variables):
                raise ValueError(f"{participant.name} names columns for variables it does not give")
        if self.expires_at <= self.created_at:
            raise ValueError("the contract expires before it begins")
        return self

    def _check_noise(self) -> None:
        for entry in self.computations:
            if entry.noise is None:
                continue
            if entry.noise.multiplier is None:
                raise ValueError(f"the noise of {entry.name} has no multiplier")
            if entry.noise.colluders >= self.min_sites:
                raise ValueError(
                    f"with {self.min_sites} sites, at most {self.min_sites - 1} colluders can be "
                    f"allowed for in the noise of {entry.name}"
                )

    def participant(self, name: str) -> Participant | None:
        """The participant of that name."""
        return next((p for p in self.participants if p.name == name), None)

    def recipient(self, key: str) -> Researcher | None:
        """The researcher with that key."""
        return next((r for r in self.recipients if r.key == key), None)

    def computation(self, name: str) -> Computation | None:
        """The entry that permits `name`; an exact one first, then the narrowest family."""
        covering = [entry for entry in self.computations if entry.covers(name)]
        return min(
            covering, key=lambda entry: (entry.name.endswith("*"), -len(entry.name)), default=None
        )

    def scope_variables(self, computation: str) -> dict[str, Variable]:
        """The variables that `computation` may touch."""
        entry = self.computation(computation)
        if entry is None:
            return {}
        allowed = None if entry.variables is None else set(entry.variables)
        return {v.name: v for v in self.variables if allowed is None or v.name in allowed}


class RunRequest(Signable):
    """A researcher's signed order for one run.

    Attributes:
        run_id: 32 hex digits chosen by the researcher; a site accepts each once.
        params: The analysis's parameters.
        valid_until: A site accepts the request for the first time only before this.
    """

    payload_type: ClassVar[str] = "application/vnd.cohortium.run-request+json"

    schema_id: Literal["cohortium/run-request/1"] = "cohortium/run-request/1"
    run_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    study: StudyId
    contract_digest: Digest
    computation: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$")]
    params: dict[str, Any]
    researcher: KeyText
    issued_at: Instant
    valid_until: Instant


class Refusal(Signable):
    """A site's signed no to a contract."""

    payload_type: ClassVar[str] = "application/vnd.cohortium.refusal+json"

    schema_id: Literal["cohortium/refusal/1"] = "cohortium/refusal/1"
    contract_digest: Digest
    site: Label
    reason: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
