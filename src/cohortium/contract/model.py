"""The study contract: what may be computed, on which data, by whom, until when.

`Proposal` is what a researcher writes. `Draft` has its names bound to keys, and places for data
that its owners assign. `Contract` is what everybody in it signs: every name is bound to a key, a
digest and a type.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from cohortium.contract.noise import Noise
from cohortium.contract.task import TASK_PREFIX, Code, ExecutorName, Scalar, SecurityLevel, Task
from cohortium.core.clock import Instant
from cohortium.core.dictionary import Digest, Label, Name, Variable, VariableType
from cohortium.core.model import Document
from cohortium.core.selection import Criterion, Derived, Selection
from cohortium.crypto.signed import KeyText, Signable
from cohortium.disclosure.limits import Disclosure

StudyId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
ComputationName = Annotated[
    str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*(\.\*)?$")
]
LongText = Annotated[str, StringConstraints(min_length=1, max_length=5000)]
Email = Annotated[str, StringConstraints(pattern=r"^[!-?A-~]{1,64}@[A-Za-z0-9.-]{1,190}$")]
TcbState = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{1,64}$")]


class Seat(Document):
    """An institution of a draft, before it has assigned its dataset; or of tasks alone.

    Attributes:
        name: The institution's name in the consortium; unique.
        key: The key that signs this contract and the site's round-0 keys.
        variables: The study's variables that this site gives; none where it gives no dataset.
        sources: Dataset column by study variable, where the names differ.
    """

    name: Label
    key: KeyText
    variables: tuple[Name, ...] = ()
    sources: dict[Name, Name] = Field(default_factory=dict)


class Participant(Seat):
    """An institution and what it gives.

    Attributes:
        dataset: Name of the site's dataset.
        dataset_digest: Digest of its content (see `cohortium.node.data`).
        dictionary_digest: Digest of its confirmed dictionary.
    """

    variables: Annotated[tuple[Name, ...], Field(min_length=1)]
    dataset: Name
    dataset_digest: Digest
    dictionary_digest: Digest


class Researcher(Document):
    """A person (or an institution that gives no data), and the key that signs for it."""

    name: Label
    key: KeyText


class Contact(Document):
    """Whom to ask."""

    name: Label
    role: Label
    email: Email


class Cohort(Document):
    """Who is in the study, as criteria over its variables (see `cohortium.cohort`).

    Attributes:
        adjustable: Variables that the researcher's own criteria and derived variables may read, in
            addition to these criteria, which always apply; absent: none.
    """

    include: Annotated[tuple[Criterion, ...], Field(max_length=100)] = ()
    exclude: Annotated[tuple[Criterion, ...], Field(max_length=100)] = ()
    adjustable: tuple[Name, ...] | None = None


class Measurement(Document):
    """What an enclave or a measured host must be: ``mrenclave``, ``mrtd``, ``pcr4`` and a value.

    Attributes:
        product: With ``mrsigner``: the signer's product (ISVPRODID).
        min_svn: With ``mrsigner``: the oldest security version accepted (ISVSVN).
    """

    kind: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
    value: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64,128}$")]
    product: Annotated[int, Field(ge=0, le=65535)] | None = None
    min_svn: Annotated[int, Field(ge=0, le=65535)] | None = None


class Enclave(Document):
    """A machine that runs tasks, and the key that signs what it says of itself.

    Attributes:
        key: A proposal leaves it out.
    """

    name: Label
    key: KeyText | None = None


class Environment(Document):
    """Where computations run, beyond the security level.

    Attributes:
        executor: Absent: any that offers the level.
        enclaves: Where tasks may run. Below L4, where no hardware proves what runs, only there;
            absent: from L4 on, wherever evidence is as the contract says.
        measurements: Any one of those of a kind is accepted.
        tcb_states: Allowed states of a platform's trusted computing base; none named: up to date.
        allow_simulated: Whether a simulated TEE may stand in for a real one.
    """

    executor: ExecutorName | None = None
    enclaves: Annotated[tuple[Enclave, ...], Field(max_length=1000)] = ()
    measurements: Annotated[tuple[Measurement, ...], Field(max_length=1000)] = ()
    tcb_states: Annotated[tuple[TcbState, ...], Field(max_length=100)] = ()
    allow_simulated: bool = False


class Computation(Document):
    """A permitted computation.

    Attributes:
        name: A built-in analysis (``glm``) or a family (``stats.*``).
        variables: The variables that it may touch; all of the study's where absent.
        max_runs: Most runs a site takes part in; 0 means never; absent: no limit.
        limits: Parameter name to its only allowed values.
        noise: Noise in every sum, and the privacy budget; absent: exact sums.
        versions: The version of each built-in analysis that this entry permits; another version,
            or an analysis that is not named, is not permitted. A proposal leaves it out.
        code: Custom code instead of a built-in analysis.
        recipients: Who of the contract's recipients may run it and read its results; absent: all.
    """

    name: ComputationName
    variables: tuple[Name, ...] | None = None
    max_runs: Annotated[int, Field(ge=0)] | None = None
    limits: dict[Name, tuple[Scalar, ...]] = Field(default_factory=dict)
    noise: Noise | None = None
    versions: dict[ComputationName, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    code: Code | None = None
    recipients: tuple[Label, ...] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.code is not None and self.versions:
            raise ValueError(f"{self.name} is custom code, which is bound by its digest")
        foreign = sorted(name for name in self.versions if not self.covers(name))
        if foreign:
            raise ValueError(f"{self.name} gives versions of other computations: {foreign}")
        return self

    def covers(self, computation: str) -> bool:
        """Whether this entry is about `computation`."""
        return covers(self.name, computation)


def covers(entry: str, computation: str) -> bool:
    """Whether a name is the computation's, or its family's (``stats.*``)."""
    return computation.startswith(entry[:-1]) if entry.endswith(".*") else entry == computation


class _Terms(Document):
    """What proposal, draft and contract have in common."""

    study: StudyId
    title: Label
    purpose: LongText
    contacts: Annotated[tuple[Contact, ...], Field(max_length=100)] = ()
    cohort: Cohort | None = None
    derived: Annotated[tuple[Derived, ...], Field(max_length=100)] = ()
    computations: Annotated[tuple[Computation, ...], Field(max_length=1000)] = ()
    tasks: Annotated[tuple[Task, ...], Field(max_length=1000)] = ()
    security_level: SecurityLevel = "L1"
    environment: Environment | None = None
    aggregation: Literal["masked", "enclave"] = "masked"
    disclosure: Disclosure = Disclosure()
    expires_at: Instant

    @property
    def tasks_only(self) -> bool:
        """Whether nothing is computed over the institutions' datasets."""
        return not self.computations

    def _check_purpose(self, variables: Collection[object]) -> None:
        if not (self.computations or self.tasks):
            raise ValueError("it permits no computation and no task")
        if bool(self.computations) != bool(variables):
            raise ValueError("variables and computations go together: it has one without the other")
        if self.tasks_only and (self.cohort is not None or self.derived):
            raise ValueError("a cohort and derived variables are for computations, and it has none")

    def _check_names(self, given: Sequence[str]) -> None:
        names = [*given, *(variable.name for variable in self.derived)]
        if len({name.lower() for name in names}) != len(names):
            raise ValueError("two variables have the same name")
        for what, listed in (
            ("computations", [computation.name for computation in self.computations]),
            ("tasks", [task.name for task in self.tasks]),
        ):
            if len(set(listed)) != len(listed):
                raise ValueError(f"two {what} have the same name")
        if any(
            covers(entry.name, TASK_PREFIX) or entry.name.startswith(TASK_PREFIX)
            for entry in self.computations
        ):
            raise ValueError("a computation cannot be called task: tasks are")
        if any(task.name == "dataset" for task in self.tasks):
            raise ValueError("a task cannot be called dataset: slots of a draft are")
        for computation in self.computations:
            unknown = set(computation.variables or ()) - set(names)
            if unknown:
                raise ValueError(f"{computation.name} names unknown variables: {sorted(unknown)}")
        if self.cohort is not None and not set(self.cohort.adjustable or ()) <= set(names):
            raise ValueError("the cohort's adjustable variables are not all of the study")


class ProposedParticipant(Document):
    """A participant as the researcher names it; by default it gives all the study's variables.

    Attributes:
        dataset: Absent in a draft, where the participant itself says which, and where the study
            has tasks only, which run on what is lent.
    """

    name: Label
    dataset: Name | None = None
    variables: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    sources: dict[Name, Name] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        """``Riverside`` is short for ``{name: Riverside}``."""
        return {"name": value} if isinstance(value, str) else value


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

    variables: Annotated[tuple[ProposedVariable, ...], Field(max_length=2000)] = ()
    participants: Annotated[tuple[ProposedParticipant, ...], Field(min_length=2)]
    min_sites: Annotated[int, Field(ge=2)] | None = None
    recipients: Annotated[tuple[Label, ...], Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        """Enclaves may be named without more; resolving finds their keys."""
        place = value.get("environment") if isinstance(value, dict) else None
        enclaves = place.get("enclaves") if isinstance(place, dict) else None
        if not isinstance(place, dict) or not isinstance(enclaves, list | tuple):
            return value
        named = [{"name": one} if isinstance(one, str) else one for one in enclaves]
        return {**value, "environment": {**place, "enclaves": named}}

    @model_validator(mode="after")
    def _proposal_consistent(self) -> Self:
        self._check_purpose(self.variables)
        self._check_names([variable.name for variable in self.variables])
        return self


class _Bound(_Terms, Signable):
    """What draft and contract have in common: names are bound to keys.

    Attributes:
        version: 1, and one more with each amendment.
        amends: Digest of the contract in force that this one is to replace.
        consortium: Fingerprint of the consortium's CA: a contract is void elsewhere.
        recipients: The researchers who may run and read results.
        owners: Others who own code or artefacts of tasks.
        proposed_by: Who wrote it; a task's proposer is one of its approvers.
    """

    version: Annotated[int, Field(ge=1)] = 1
    amends: Digest | None = None
    consortium: Digest
    variables: Annotated[tuple[Variable, ...], Field(max_length=2000)] = ()
    participants: Annotated[tuple[Participant | Seat, ...], Field(min_length=2, max_length=10_000)]
    min_sites: Annotated[int, Field(ge=2)]
    recipients: Annotated[tuple[Researcher, ...], Field(min_length=1)]
    owners: Annotated[tuple[Researcher, ...], Field(max_length=1000)] = ()
    proposed_by: Researcher
    created_at: Instant

    @model_validator(mode="after")
    def _bound_consistent(self) -> Self:
        if (self.version == 1) != (self.amends is None):
            raise ValueError("the first version, and only that, amends nothing")
        self._check_purpose(self.variables)
        for one in self.participants:
            if bool(one.variables) == self.tasks_only:
                raise ValueError(
                    f"{one.name} gives "
                    + ("variables, and nothing is computed" if one.variables else "no variables")
                )
        self._check_enclaves()
        self._check_names([variable.name for variable in self.variables])
        if any(variable.type is VariableType.TEXT for variable in self.variables):
            raise ValueError("free text cannot be a study variable")
        self._check_people()
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

    def _check_enclaves(self) -> None:
        """Each has a key, and it is nobody's who could then pose as an enclave."""
        enclaves = (self.environment or Environment()).enclaves
        if any(one.key is None for one in enclaves):
            raise ValueError("an enclave has no key")
        for what, listed in (
            ("name", [one.name for one in enclaves]),
            ("key", [one.key for one in enclaves]),
        ):
            if len(set(listed)) != len(listed):
                raise ValueError(f"two enclaves have the same {what}")
        if {one.key for one in enclaves} & set(self.parties.values()):
            raise ValueError("an enclave has the key of somebody who is named")

    def _check_people(self) -> None:
        """One name, one key; whoever is named elsewhere is one of the parties."""
        for what, people in (
            ("participants", self.participants),
            ("recipients", self.recipients),
            ("owners", self.owners),
        ):
            if len({p.name for p in people}) != len(people):
                raise ValueError(f"two {what} have the same name")
            if len({p.key for p in people}) != len(people):
                raise ValueError(f"two {what} have the same key")
        pairs = {(one.name, one.key) for one in self._people()}
        parties = self.parties
        if len(pairs) != len(parties) or len(set(parties.values())) != len(parties):
            raise ValueError("a name has two keys, or a key two names")
        recipients = {researcher.name for researcher in self.recipients}
        for entry in self.computations:
            if not set(entry.recipients or ()) <= recipients:
                raise ValueError(f"{entry.name} is for people who are not recipients")
            if entry.code is not None and entry.code.owner not in parties:
                raise ValueError(f"the owner of {entry.name} has no key here")
        for task in self.tasks:
            task.check_proposer(self.proposed_by.name)
            approvers = task.approvers(self.proposed_by.name)
            if not {task.code.owner, *approvers, *task.readers} <= {*parties}:
                raise ValueError(f"the task {task.name} names people who have no key here")

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

    def _people(self) -> Iterable[Seat | Researcher]:
        return (*self.participants, self.proposed_by, *self.recipients, *self.owners)

    @property
    def parties(self) -> dict[str, str]:
        """The key of everybody who is named, by name: who may read it."""
        return {one.name: one.key for one in self._people()}

    @property
    def signatories(self) -> dict[str, str]:
        """The key, by name, of everybody without whose signature it is not active: institutions
        that give data, the approvers of tasks, and owners of private code.
        """
        named = {participant.name for participant in self.participants}
        for task in self.tasks:
            named |= task.approvers(self.proposed_by.name)
        named |= {e.code.owner for e in self.computations if e.code and not e.code.public}
        return {name: key for name, key in self.parties.items() if name in named}

    def recipient(self, key: str, computation: str | None = None) -> Researcher | None:
        """The researcher with that key; with a computation only where it is also for them."""
        found = next((r for r in self.recipients if r.key == key), None)
        entry = None if computation is None else self.computation(computation)
        if found and entry and entry.recipients is not None and found.name not in entry.recipients:
            return None
        return found

    def task_of(self, computation: str) -> Task | None:
        """The task that ``task.NAME`` runs."""
        return next((task for task in self.tasks if task.computation == computation), None)

    def level_of(self, task: Task) -> SecurityLevel:
        """The least level at which a task may run: the higher of the contract's and its own."""
        return max(self.security_level, task.security_level or "L1")

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


class Draft(_Bound):
    """A contract with unfilled slots, signed by its proposer; see `cohortium.contract.draft`."""

    payload_type: ClassVar[str] = "application/vnd.cohortium.draft+json"

    schema_id: Literal["cohortium/draft/1"] = "cohortium/draft/1"


class Contract(_Bound):
    """What every signatory signs; its digest names it everywhere."""

    payload_type: ClassVar[str] = "application/vnd.cohortium.contract+json"

    schema_id: Literal["cohortium/contract/2"] = "cohortium/contract/2"

    @model_validator(mode="after")
    def _filled(self) -> Self:
        if not self.tasks_only and len(self.givers) != len(self.participants):
            raise ValueError("a participant has not said which dataset it gives")
        for task in self.tasks:
            if task.unfilled:
                raise ValueError(f"inputs of {task.name} are unfilled: {list(task.unfilled)}")
        return self

    @property
    def givers(self) -> tuple[Participant, ...]:
        """The participants with their datasets: all, or none where the contract has tasks only."""
        return tuple(one for one in self.participants if isinstance(one, Participant))

    def participant(self, name: str) -> Participant | Seat | None:
        """The participant of that name."""
        return next((p for p in self.participants if p.name == name), None)

    def giver(self, name: str) -> Participant | None:
        """The same, with its dataset."""
        return next((p for p in self.givers if p.name == name), None)


class RunRequest(Signable):
    """A researcher's signed order for one run.

    Attributes:
        run_id: 32 hex digits chosen by the researcher; a site accepts each once.
        params: The analysis's parameters.
        cohort: Further criteria and derived variables, within what the contract lets the
            researcher adjust; absent: everybody in the contract's cohort.
        valid_until: A site accepts the request for the first time only before this.
    """

    payload_type: ClassVar[str] = "application/vnd.cohortium.run-request+json"

    schema_id: Literal["cohortium/run-request/1"] = "cohortium/run-request/1"
    run_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    study: StudyId
    contract_digest: Digest
    computation: Annotated[
        str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$", max_length=200)
    ]
    params: dict[str, Any]
    cohort: Selection | None = None
    researcher: KeyText
    issued_at: Instant
    valid_until: Instant
