"""Steps 10, 11 and 15 of a task's run: what lenders released, to whom, and what that one signed."""

from __future__ import annotations

import base64
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from cohortium.audit.bundle import Bundle
from cohortium.audit.bundle import Release as Receipt
from cohortium.audit.log import Logged
from cohortium.audit.run import Handed, Run, Runs
from cohortium.audit.steps import Facts, require
from cohortium.contract.check import CLOCK_SKEW, AdmittedTask
from cohortium.contract.model import Environment
from cohortium.contract.task import LOG_SLOT
from cohortium.core.canonical import canonical
from cohortium.enclave.exchange import Offer, Release, TaskOutcome
from cohortium.errors import CohortiumError, VerificationError
from cohortium.ledger.entry import (
    EnclaveChanged,
    RunDecided,
    RunEnded,
    SiteDecision,
    commitment,
)
from cohortium.vault.keys import PublicKey


def environment_of(run: Run) -> Environment:
    """Where the contract lets a task run."""
    return run.contract.environment or Environment()


def admitted(run: Run) -> AdmittedTask:
    """What the contract says of the task that is run; raises where it is none."""
    if run.task is None:
        raise VerificationError("bad-bundle", "The run is of no task.")
    return run.task


def lent_by(run: Run, site: str) -> dict[str, str | None]:
    """What a lender's signature releases: the digest of each artefact of its own, by slot."""
    return {
        slot.name: slot.artefact.content_digest
        for slot in admitted(run).task.inputs
        if slot.artefact is not None and site in slot.owners
    }


class Standing:
    """Which machines were admitted, over the ledger."""

    def __init__(self, entries: Sequence[Logged]) -> None:
        self._entries = entries
        self._times = [logged.entry.at for logged in entries]
        self._changes = [
            (logged.index, logged.fact)
            for logged in entries
            if isinstance(logged.fact, EnclaveChanged)
        ]

    def just_before(self, index: int) -> int:
        """The first place from which what is noted at another may have been on its way."""
        at = next(one.entry.at for one in self._entries if one.index == index)
        return self._entries[bisect_left(self._times, at - CLOCK_SKEW)].index

    def require(self, enclave: tuple[str, str], index: int) -> None:
        """A machine was admitted with that key at an entry, or nearly.

        Raises:
            VerificationError: ``bad-bundle``.
        """
        name, key = enclave
        first = self.just_before(index)
        about = [(place, fact) for place, fact in self._changes if fact.name == name]
        before = [fact for place, fact in about if place < first][-1:]
        since = [fact for place, fact in about if first <= place < index]
        fine = any((one.key, one.status) == (key, "approved") for one in (*before, *since))
        require(fine, f"No enclave {name} had been admitted with the key that signed.")


# Step 10


def handed_out(bundle: Bundle, run: Run, fact: RunDecided, index: int) -> dict[str, Handed]:
    """What lenders released to a run, by the newest entry about their decisions.

    Raises:
        VerificationError: ``bad-bundle`` and what the signatures say.
    """
    # 1. Only who lends decides; 2. who released its keys stays with that. 3. To one machine.
    lenders = admitted(run).task.lenders
    require(
        bool(fact.sites) and fact.sites.keys() <= set(lenders), "Not a lender of the task."
    )  # 1
    handed: dict[str, Handed] = {}
    for site, decision in fact.sites.items():
        if decision.decision != "accepted":
            require(decision.statement is None, f"{site} released its keys and does not lend.")
            continue
        found = _handed(bundle, run, site, decision, index)
        before = run.handed.get(site)
        handed[site] = found if before is None else replace(found, index=before.index)
    for site, before in run.handed.items():  # 2
        same = site in handed and handed[site].statement == before.statement
        require(same, f"{site} released its keys before, in another statement.")
    shown = {(*one.enclave, one.release.recipient) for one in handed.values()}
    require(
        len(shown) <= 1, "Keys were released to different machines, or for different keys."
    )  # 3
    return handed


def _handed(bundle: Bundle, run: Run, site: str, decision: SiteDecision, index: int) -> Handed:
    # 1. The lender's own key signed, 2. for this very run 3. and exactly what it lends, 4. on an
    # offer that is here, 5. of a machine that the contract takes, for this run and program.
    if decision.statement is None:
        raise VerificationError("bad-bundle", f"What {site} signed is not named.")
    key = run.contract.parties[site]
    release, _ = Release.open(bundle.statements[decision.statement].encode(), key=key)  # 1
    bound = (release.run_id, release.request_digest, release.contract_digest, release.task)
    require((*bound, release.site) == (*run.binding, site), f"{site} released to another run.")  # 2
    require(
        release.artefacts == lent_by(run, site), f"{site} released something else than it lends."
    )  # 3
    offer, signer = Offer.open(bundle.statements[release.offer].encode())  # 4
    _check_offer(run, release, offer, signer)  # 5
    return Handed(index, decision.statement, release, offer, signer)


def _check_offer(run: Run, release: Release, offer: Offer, signer: str) -> None:
    task = admitted(run).task
    bound = (offer.run_id, offer.request_digest, offer.contract_digest, offer.task)
    require(bound == run.binding, "The enclave's offer is for another run.")
    require(offer.enclave == release.enclave, "The keys were released to another enclave.")
    require(offer.code == task.code.content_digest, "The enclave offers another program.")
    recipient = PublicKey.from_text(offer.recipient).key_id.hex()
    require(release.recipient == f"sha256:{recipient}", "The keys were sealed for another key.")
    require_accepted(run, (offer.enclave, signer))
    require_place(run, offer.executor, offer.level)


def require_accepted(run: Run, enclave: tuple[str, str]) -> None:
    """The contract takes a machine: one that it names, or from L4 on any, where it names none.

    Raises:
        VerificationError: ``bad-bundle``.
    """
    named = {(one.name, one.key) for one in environment_of(run).enclaves}
    anywhere = not named and admitted(run).level >= "L4"
    require(anywhere or enclave in named, f"{enclave[0]} is no enclave that the contract takes.")


def require_place(run: Run, executor: str, level: str) -> None:
    """Executor and level are those that the contract asks for.

    A simulated machine reaches no level; whether the contract lets it stand in for a real one, its
    evidence shows.

    Raises:
        VerificationError: ``bad-bundle``.
    """
    task, place = admitted(run), environment_of(run)
    wanted = task.task.executor or place.executor
    require(wanted in {None, executor}, f"The contract asks for {wanted}, and it is {executor}.")
    simulated = place.allow_simulated and task.level >= "L3"
    enough = level >= task.level or simulated
    require(enough, f"The contract asks for {task.level}, and the enclave offers {level}.")


# Step 11


def check_end(fact: RunEnded, run: Run, index: int) -> None:
    """A task has no sums; where it succeeded, every lender had released its keys.

    Raises:
        VerificationError: ``bad-bundle``.
    """
    require(not fact.rounds, "A task has no sums.")
    succeeded = fact.status == "succeeded"
    require(succeeded == (fact.result is not None), "A result without success, or the reverse.")
    if succeeded:
        there = {site for site, one in run.handed.items() if one.index < index}
        missing = sorted(set(admitted(run).task.lenders) - there)
        require(not missing, f"It succeeded, and {', '.join(missing)} had released no key.")


def check_quota(runs: Iterable[Run], facts: Facts) -> None:
    """No lender released its keys to more runs of a task than the contract permits.

    Raises:
        VerificationError: ``bad-bundle``.
    """
    used: dict[tuple[str, str, str], int] = {}
    for run in runs:
        for site, one in run.handed.items():
            task = admitted(run).task
            about = (run.contract_digest, task.name, site)
            used[about] = used.get(about, 0) + 1
            with facts.of("rounds", one.index):
                enough = task.max_runs is None or used[about] <= task.max_runs
                require(enough, f"{site} released keys to {used[about]} runs of {task.name}.")


# Step 15


def check_outcomes(
    bundle: Bundle, entries: Sequence[Logged], runs: Runs, standing: Standing, facts: Facts
) -> None:
    """Step 15: what a task gave is signed by the machine that the keys were released to.

    Raises:
        VerificationError: ``bad-bundle``.
    """
    times = {logged.index: logged.entry.at for logged in entries}
    for receipt in bundle.releases:
        run = runs.of_study[receipt.run_id]
        ended = run.ended
        index = None if ended is None else ended[0]
        with facts.of("outcomes", index):
            readable = run.task is not None and receipt.nonce is not None
            has = receipt.outcome is not None
            require(has == readable, "The outcome of a task is missing, or of no task.")
            if ended is None or receipt.outcome is None:
                continue
            outcome, signer = TaskOutcome.open(bundle.statements[receipt.outcome].encode())
            _check_committed(bundle, receipt, outcome, ended[1])
            late = outcome.at > times[ended[0]] + CLOCK_SKEW
            require(not late, "The outcome is from the future.")
            _check_outcome(run, outcome, signer)
            standing.require((outcome.enclave, signer), ended[0])
            runs.of_study[receipt.run_id] = replace(run, outcome=outcome)
    for run in runs.of_study.values():
        told = run.task is None or run.outcome is not None or run.ended is None
        if not told and run.ended is not None and run.ended[1].result is not None:
            facts.leave(
                "outcomes",
                run.ended[0],
                f"the outcome of run {run.request.run_id[:8]} is not here: who exported the "
                "bundle may not read it",
            )
    with facts.of("outcomes"):
        pass


def _check_committed(
    bundle: Bundle, receipt: Receipt, outcome: TaskOutcome, ended: RunEnded
) -> None:
    """It is what was released: the commitment is over it and over its envelope."""
    text = bundle.statements[receipt.outcome or ""].encode()
    result = {"outcome": outcome.to_json(), "envelope": base64.b64encode(text).decode()}
    found = commitment(bytes.fromhex(receipt.nonce or ""), canonical(result))
    require(found == ended.result, "The outcome is not the one that was released.")


def _check_outcome(run: Run, said: TaskOutcome, signer: str) -> None:
    # 1. Signed by the machine that it names, 2. which is the one that had the keys, or else one
    # that the contract takes; 3. of this run, which succeeded there; 4. with the lenders' releases
    # and 5. outputs of the task alone.
    require(said.enclave_key == signer, "The outcome is signed by another key than it names.")  # 1
    for site, one in run.handed.items():  # 2
        same = one.enclave == (said.enclave, signer)
        require(same, f"{site} released its keys to another machine than signed the outcome.")
        require(one.offer.executor == said.executor, "It ran in another executor than offered.")
    require_accepted(run, (said.enclave, signer))
    require_place(run, said.executor, said.level)
    bound = (said.run_id, said.request_digest, said.contract_digest, said.task)
    require(bound == run.binding, "The outcome is of another run.")  # 3
    require(said.study == run.contract.study, "The outcome is of another study.")
    require(said.end == "succeeded", f"The run succeeded, and its task did not: {said.end}.")
    released = {site: one.statement for site, one in run.handed.items()}
    require(said.releases == released, "The outcome names other releases than the ledger.")  # 4
    _check_outputs(run, [made.slot for made in said.outputs])  # 5


def _check_outputs(run: Run, slots: Sequence[str]) -> None:
    task = admitted(run).task
    known = {slot.name for slot in task.outputs} | ({LOG_SLOT} if task.log_recipients else set())
    require(len(set(slots)) == len(slots), "An output is there twice.")
    require(set(slots) <= known, "There is an output that the contract's task does not give.")


def offers(statements: Mapping[str, str], named: Iterable[str]) -> dict[str, str]:
    """The offers that releases among these documents name: digest by the release's digest.

    What is no release names none; whether it should be one is asked later.
    """
    found = {}
    for digest in named:
        try:
            release, _ = Release.open(statements[digest].encode())
        except (LookupError, CohortiumError):
            continue
        found[digest] = release.offer
    return found
