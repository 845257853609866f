"""A study as its researcher sees it: the contract, and what it permits to compute."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from cohortium.cohort.population import Population
from cohortium.contract.diff import Change, diff
from cohortium.contract.lifecycle import Version
from cohortium.contract.model import Contract, RunRequest
from cohortium.contract.population import asked_population
from cohortium.contract.render import render_diff, render_version
from cohortium.contract.statements import Action, Transition
from cohortium.contract.task import Task
from cohortium.core.dictionary import Variable
from cohortium.core.model import explain
from cohortium.core.rest import StatementInfo, StudyInfo, VersionInfo
from cohortium.core.selection import Selection
from cohortium.errors import (
    ConflictError,
    InputError,
    PolicyRefusal,
    ProtocolError,
    VerificationError,
)
from cohortium.sdk.analyses import Analyses
from cohortium.sdk.audit import Audit, fetch_audit
from cohortium.sdk.client import Client
from cohortium.sdk.cohort import Cohort, Criteria
from cohortium.sdk.derivations import Derivations
from cohortium.sdk.files import require_folder
from cohortium.sdk.headers import explained
from cohortium.sdk.history import History, verified
from cohortium.sdk.html import facts_html, table_html
from cohortium.sdk.run import Run
from cohortium.sdk.run_info import RunInfo
from cohortium.sdk.submission import plain
from cohortium.sdk.tasks import StudyTask
from cohortium.sdk.vault_key import own_key, publish

if TYPE_CHECKING:
    from cohortium.sdk.filling import Fill
    from cohortium.sdk.language import Language
    from cohortium.sdk.report import Report
    from cohortium.sdk.results import Result

VALID_FOR = timedelta(hours=1)
"""A site that is away accepts a run's request up to this long after it was signed."""


class Study(Analyses):
    """A study under one contract."""

    def __init__(self, client: Client, info: StudyInfo) -> None:
        # 1. The contract parses. 2. The digest is its own. 3. It is of this consortium.
        self._client = client
        self.contract = Contract.from_json(info.contract)  # 1
        if self.contract.digest != info.contract_digest:  # 2
            raise VerificationError(
                "bad-digest",
                f"The hub gave another contract for {info.id} than the digest says; tell the "
                "hub's operator and the sites.",
            )
        if self.contract.consortium != client.fingerprint:  # 3
            raise VerificationError(
                "bad-digest", f"The contract of {info.id} belongs to another consortium."
            )
        self._info = info
        self._derivations = Derivations(self.contract)

    def __repr__(self) -> str:
        sites = len(self.contract.participants)
        version = f", version {self.version}" if self.version > 1 else ""
        return f"<Study {self.id} {self.status}: {self.title} ({sites} sites{version})>"

    def _repr_html_(self) -> str:
        facts = facts_html(
            f"{self.title} ({self.id})",
            {
                "status": self.status,
                "version": self.version,
                "purpose": self.contract.purpose,
                "sites": ", ".join(p.name for p in self.contract.participants),
                "signed by": ", ".join(self.signatures),
                "permits": ", ".join(c.name for c in self.contract.computations),
                "tasks": ", ".join(self.tasks),
                "expires": self.contract.expires_at.isoformat(),
                "contract": self.digest,
            },
        )
        rows = [
            (v.name, v.type, v.unit, ", ".join(v.levels or ()), v.description)
            for v in self.variables.values()
        ]
        return facts + table_html(("variable", "type", "unit", "levels", "description"), rows)

    @property
    def client(self) -> Client:
        """The connection to the hub."""
        return self._client

    @property
    def id(self) -> str:
        """The study's identifier."""
        return self.contract.study

    @property
    def title(self) -> str:
        """The study's title."""
        return self.contract.title

    @property
    def status(self) -> str:
        """proposed, active, suspended, superseded, ..., as the hub last said."""
        return self._info.status

    @property
    def version(self) -> int:
        """The contract's version: 1, and one more with each amendment."""
        return self.contract.version

    @property
    def versions(self) -> tuple[VersionInfo, ...]:
        """The study's contracts that are visible to you, oldest first, as the hub last said."""
        return self._info.versions

    @property
    def newer(self) -> VersionInfo | None:
        """The version that is in force instead of this one, as the hub last said."""
        in_force = [v for v in self.versions if v.status in {"active", "suspended"}]
        return next((v for v in in_force if v.contract_digest != self.digest), None)

    @property
    def digest(self) -> str:
        """The contract's digest; every request carries it."""
        return self.contract.digest

    @property
    def signatures(self) -> tuple[str, ...]:
        """The sites that have signed."""
        return tuple(signature.site for signature in self._info.signatures)

    @property
    def variables(self) -> dict[str, Variable]:
        """The study's harmonised variables by name, derived ones included."""
        return self._derivations.variables

    @property
    def info(self) -> StudyInfo:
        """What the hub says of the study."""
        return self._info

    @property
    def text(self) -> str:
        """The contract as people read it, in English; see `render`."""
        return self.render()

    def render(self, language: str = "en") -> str:
        """The contract as people read it, made here from the document whose digest was checked.

        Its state, and who has signed, are what the hub last said; `history` verifies that.

        Args:
            language: ``en`` or ``zh``.
        """
        return render_version(as_version(self.contract, self._info), language, self._client.clock())

    @property
    def predecessor(self) -> Study | None:
        """The version that this one amends; None for the first.

        Raises:
            InputError: ``not-found`` where that is not for you to see.
        """
        if self.contract.amends is None:
            return None
        answer = self._client.get(f"/studies/{self.id}", contract=self.contract.amends)
        return Study(self._client, StudyInfo.from_json(answer))

    def changes_from(self, before: Study) -> tuple[Change, ...]:
        """What leads from another contract to this one; see `cohortium.contract.diff`."""
        return diff(before.contract, self.contract)

    def render_changes_from(self, before: Study, language: str = "en") -> str:
        """`changes_from` in words; what loosens protection is marked."""
        return render_diff(before.contract, self.contract, language)

    def audit(self, *, whole: bool = False) -> Audit:
        """The study's evidence up to now, verified: who agreed to what, and what was computed.

        Args:
            whole: With all entries of the consortium's ledger, which shows that none is left out.

        Raises:
            VerificationError: ``bad-bundle`` where the hub's evidence does not hold.
            ConflictError: ``wrong-state`` while too few institutions have witnessed the ledger.
        """
        return fetch_audit(self._client, self.contract, whole=whole)

    def refresh(self) -> Study:
        """Ask the hub again about this very contract, for instance whether all have signed."""
        answer = self._client.get(f"/studies/{self.id}", contract=self.digest)
        return self._take(StudyInfo.from_json(answer))

    def _take(self, info: StudyInfo) -> Study:
        if info.contract_digest != self.digest:
            raise VerificationError("bad-digest", f"The hub gave another contract of {self.id}.")
        self._info = info
        return self

    # The life of the contract

    def history(self) -> History:
        """What was stated about the study's contracts, oldest first; every signature is verified.

        Raises:
            VerificationError: The hub lists what was not stated.
        """
        listed = self._client.get(f"/studies/{self.id}/statements")
        if not isinstance(listed, list):
            raise ProtocolError("malformed-message", "The hub did not answer with a list.")
        return verified([StatementInfo.from_json(one) for one in listed])

    def withdraw(self, reason: str) -> Study:
        """Take the proposal back before all have signed it; final."""
        return self._state("withdraw", reason)

    def suspend(self, reason: str, computations: Sequence[str] | None = None) -> Study:
        """Let nothing be computed, or not these computations, until you `resume`."""
        return self._state("suspend", reason, computations=computations and tuple(computations))

    def resume(self, reason: str) -> Study:
        """Lift your own suspension; those of others stay."""
        return self._state("resume", reason)

    def close(self, reason: str, keeps: Sequence[str] = ()) -> Study:
        """End the study for good.

        Args:
            keeps: What is kept afterwards, one line each: results, for how long, by whom.
        """
        return self._state("close", reason, keeps=tuple(keeps))

    def _state(self, action: Action, reason: str, **fields: Any) -> Study:
        key = self._client.key
        me = next((name for name, k in self.contract.parties.items() if k == key.public), None)
        if me is None:
            raise PolicyRefusal("not-authorised", f"The contract of {self.id} does not name you.")
        mine = [said.stated_at for said in self.history() if said.author == me]
        later = [at + timedelta(seconds=1) for at in mine if at is not None]
        try:
            said = Transition(
                study=self.id,
                contract_digest=self.digest,
                action=action,
                author=me,
                at=max([self._client.clock(), *later]),
                reason=reason.strip()[:2000],
                **fields,
            )
        except ValidationError as error:
            raise InputError("bad-input", f"Not a statement: {explain(error)}") from error
        answer = self._client.post(f"/studies/{self.id}/statements", said.sign(key))
        return self._take(StudyInfo.from_json(answer))

    # Tasks

    @property
    def tasks(self) -> dict[str, StudyTask]:
        """Programs over what institutions lent, by name."""
        return {one.name: StudyTask(self, one) for one in self.contract.tasks}

    def task(self, name: str) -> StudyTask:
        """A task by its name.

            study.task("segment").run(epochs=14).download("results")

        Raises:
            InputError: ``not-found``.
        """
        found = self.tasks.get(name)
        if found is None:
            known = ", ".join(self.tasks) or "none"
            raise InputError("not-found", f"The study has no task {name!r}; it has: {known}.")
        return found

    # Computations

    def cohort(self, include: Criteria = (), exclude: Criteria = ()) -> Cohort:
        """Persons who meet every criterion of `include` and none of `exclude`.

            study.cohort(include=["age >= 18", "ecog IS NOT NULL"], exclude=["time < 30"])

        Criteria are SQL conditions over the study's variables; see docs/concepts/cohorts.md.

        Raises:
            InputError: ``bad-criterion``, with the place in the text.
            PolicyRefusal: ``not-permitted`` where the contract does not let a variable be used.
        """
        with explained(self.variables, include, exclude):
            return Cohort(self, include, exclude)

    def impute(self, values: Mapping[str, Fill]) -> Cohort:
        """Everybody, with one value in place of all that a variable lacks; see `Cohort.impute`.

            study.impute({"chol": "mean", "sex": "mode"}).glm("died ~ chol + sex")

        Raises:
            InputError: ``not-found``, ``bad-input``.
            PolicyRefusal: The contract, a site or the disclosure limits say no.
        """
        return Cohort(self).impute(values)

    def derive(self, definition: str, *, replace: bool = False) -> Variable:
        """A variable computed from others; later criteria and analyses may use it.

            study.derive("bmi = weight_kg / (height_m * height_m)")
            study.derive("age_group = cut(age, [18, 45, 65, 120])")

        It is kept by this object and sent with every request that needs it.

        Args:
            replace: Take another definition of a variable that was derived before.

        Raises:
            InputError: ``bad-criterion``.
            PolicyRefusal: ``not-permitted`` where the contract does not let a variable be used.
        """
        with explained(self.variables, definition):
            return self._derivations.add(definition, replace=replace)

    def selection(
        self,
        include: tuple[str, ...] = (),
        exclude: tuple[str, ...] = (),
        variables: Iterable[str] = (),
    ) -> Selection:
        """What a request carries: criteria, and the derived variables that it needs."""
        return self._derivations.needed(variables, include, exclude)

    def population(self, selection: Selection) -> Population:
        """What criteria and derived variables mean under this contract.

        Raises:
            InputError: ``bad-criterion``.
            PolicyRefusal: ``not-permitted``.
        """
        return asked_population(self.contract, selection)

    def submit(
        self, computation: str, params: Mapping[str, Any], selection: Selection | None = None
    ) -> Run:
        """Sign and submit a run; returns at once with its handle.

        Args:
            computation: A permitted computation, ``stats.describe``.
            params: Its parameters; those that are None are left out.
            selection: Criteria of the persons, as of a `cohort`; everybody by default.
        """
        values = {name: plain(name, one) for name, one in params.items() if one is not None}
        with explained(self.variables, values):
            return self._submit(computation, values, selection)

    def _submit(self, computation: str, values: dict[str, Any], selection: Selection | None) -> Run:
        named = _variables_named(computation, values)
        self._require(named)
        asked = selection or Selection()
        whole = self.selection(asked.include, asked.exclude, named)
        filled = [one for one in asked.filled or () if not named or one.variable in named]
        if filled:
            whole = whole.model_copy(update={"filled": tuple(filled)})
        now = self._client.clock()
        return self._send(self._request(computation, values, whole, now))

    def _send(self, request: RunRequest) -> Run:
        with self._stale():
            info = self._client.post("/runs", request.sign(self._client.key))
        if not isinstance(info, dict):
            raise ProtocolError("malformed-message", "The hub's answer is not a run.")
        run = Run(self._client, RunInfo.from_json(info.get("run")), self.contract, request.digest)
        if run.id != request.run_id:
            raise ProtocolError("malformed-message", "The hub's answer is about another run.")
        return run

    def submit_task(self, task: Task, arguments: Mapping[str, Any]) -> Run:
        """Sign and submit a run of a task; see `task`."""
        self._publish_card(task)
        request = self._request(
            task.computation, dict(arguments), Selection(), self._client.clock()
        )
        return self._send(request)

    def _publish_card(self, task: Task) -> None:
        """Outputs for you are encrypted for the vault key of this machine, or a new one."""
        key = self._client.key.public
        me = next((name for name, k in self.contract.parties.items() if k == key), "")
        if me in task.readers and self._client.vault_file is not None:
            publish(self._client, me, own_key(self._client.vault_file, make=True))

    @contextmanager
    def _stale(self) -> Iterator[None]:
        """Say which version is in force, where the contract of this object is not."""
        try:
            yield
        except PolicyRefusal as refusal:
            newer = None if refusal.code != "contract-ended" else self.refresh().newer
            if newer is None:
                raise
            raise ConflictError(
                "stale-version",
                f"Version {newer.version} of {self.id} is in force by now; this is version "
                f"{self.version}. Open the study anew: fed.study({self.id!r}).",
                current=newer.contract_digest,
            ) from refusal

    def _require(self, names: Iterable[str]) -> None:
        """Say what was probably meant, before a site is asked for a variable that nobody has."""
        known = self.variables
        for name in names:
            if name not in known:
                close = get_close_matches(str(name), list(known), n=1)
                hint = f"Did you mean {close[0]}?" if close else "See study.variables."
                raise InputError(
                    "not-found", f"The study has no variable {name!r}. {hint}", variable=str(name)
                )

    def _request(
        self, computation: str, values: dict[str, Any], selection: Selection, now: Any
    ) -> RunRequest:
        try:
            return RunRequest(
                run_id=secrets.token_hex(16),
                study=self.id,
                contract_digest=self.digest,
                computation=computation,
                params=values,
                cohort=None if selection == Selection() else selection,
                researcher=self._client.key.public,
                issued_at=now,
                valid_until=now + VALID_FOR,
            )
        except ValueError as error:
            raise InputError(
                "bad-input", f"{computation!r} with these parameters is not a run request."
            ) from error

    def runs(self) -> list[Run]:
        """The runs submitted under this study, newest first as the hub lists them."""
        infos = [RunInfo.from_json(one) for one in self._client.get("/runs", study=self.id)]
        contracts = {self.digest: self.contract}
        for digest in {info.contract_digest for info in infos} - {self.digest}:
            answer = self._client.get(f"/studies/{self.id}", contract=digest)
            contracts[digest] = Study(self._client, StudyInfo.from_json(answer)).contract
        return [Run(self._client, info, contracts[info.contract_digest]) for info in infos]

    def report(
        self,
        path: str | Path | None = None,
        lang: Language = "en",
        *,
        also: Result | Sequence[Result] = (),
    ) -> Report:
        """All released results with the methods paragraph, what was withheld, and the evidence.

        Every result is fetched and verified again.

        Args:
            path: Written there as ``.html`` or ``.pdf``; see `Report.save` for later.
            lang: ``en`` or ``zh``.
            also: Results composed of others, such as a Table 1; they come first.

        Raises:
            VerificationError: A result is not the one that was witnessed.
            InputError: ``bad-input`` for another ending or a missing folder; ``missing-extra``.
        """
        from cohortium.sdk.report import compose

        if path is not None:
            require_folder(Path(path))
        made = compose(self, self.runs(), also, lang, self._client.clock())
        if path is not None:
            made.save(path)
        return made


def as_version(contract: Contract, info: StudyInfo) -> Version:
    """A contract's standing as the hub tells it."""
    signed = {signature.site for signature in info.signatures} | {contract.proposed_by.name}
    return Version(
        contract=contract,
        digest=contract.digest,
        state="active" if info.status == "expired" else info.status,
        signed=frozenset(signed) & contract.signatories.keys(),
        refused={refusal.site: refusal.reason for refusal in info.refusals},
        suspensions={
            one.by: None if one.computations is None else frozenset(one.computations)
            for one in info.suspensions
        },
        ended_by=info.ended_by,
        reason=info.reason,
    )


def _variables_named(computation: str, params: dict[str, Any]) -> list[str]:
    """The variables that a computation would read, where it is one that is known here.

    Parameters that do not parse are refused by the hub, with the reason.
    """
    from cohortium.analysis.builtin import find

    try:
        analysis = find(computation)
        parsed = analysis.params_type.from_json(params)
    except (InputError, ProtocolError):
        return []
    return sorted(analysis.variables(parsed))
