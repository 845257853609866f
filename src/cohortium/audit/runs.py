"""Steps 9 to 14: each run against the contract that was in force when it was ordered."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from cohortium.analysis.interface import AnyAnalysis
from cohortium.audit.bundle import Bundle
from cohortium.audit.history import History
from cohortium.audit.keys import require_in_force
from cohortium.audit.log import Logged, LogKeys
from cohortium.audit.quorum import check_release
from cohortium.audit.run import Run, Runs, of_this_study
from cohortium.audit.steps import Facts, require
from cohortium.audit.tasks import check_end, check_quota, handed_out
from cohortium.contract.check import CLOCK_SKEW, AdmittedTask, check_run, check_task
from cohortium.contract.lifecycle import permits
from cohortium.contract.model import Contract, RunRequest
from cohortium.contract.task import TASK_PREFIX
from cohortium.errors import InputError, VerificationError
from cohortium.ledger.checkpoint import Checkpoint
from cohortium.ledger.entry import (
    ResearcherChanged,
    RunDecided,
    RunDenied,
    RunEnded,
    RunSubmitted,
    SiteDecision,
    commitment,
)
from cohortium.secagg.round_key import RoundKey

Find = Callable[[str], AnyAnalysis]
Used = dict[tuple[str, str, str], set[str]]
"""Runs that had a round, by contract, its entry for the computation, and site."""


def check_requests(
    bundle: Bundle, entries: Sequence[Logged], history: History, find: Find, facts: Facts
) -> Runs:
    """Step 9: each run was ordered by a recipient, inside the contract that was in force then.

    Raises:
        VerificationError: ``bad-bundle``.
    """
    runs = Runs()
    revoked: set[str] = set()
    for logged in entries:
        fact = logged.fact
        if isinstance(fact, ResearcherChanged):
            (revoked.add if fact.status == "removed" else revoked.discard)(fact.key)
        if not isinstance(fact, RunSubmitted | RunDenied):
            continue
        if fact.study != bundle.study:
            if isinstance(fact, RunSubmitted):
                with facts.of("requests", logged.index):
                    require(fact.run_id not in runs.of_study, "The run was ordered before.")
                runs.others.add(fact.run_id)
            continue
        if logged.index in history.unproven:
            continue
        with facts.of("requests", logged.index):
            request, signer = _requested(bundle, fact)
            if isinstance(fact, RunDenied):  # perhaps because somebody else had signed it
                runs.denied[logged.index] = signer
                continue
            require(signer == fact.researcher, "The request is signed by somebody else.")
            early = logged.entry.at < request.issued_at - CLOCK_SKEW
            require(not early, "The request is from the future.")
            known = fact.run_id in runs.of_study or fact.run_id in runs.others
            require(not known, "The run was ordered before.")
            life = history.at(logged.index)
            version = life.version(fact.contract)
            permits(version, fact.computation, logged.entry.at)
            task = _check_order(version.contract, request, find, logged, frozenset(revoked))
            runs.of_study[fact.run_id] = Run(
                version.contract, version.digest, request, request.digest, logged.index, task
            )
    return runs


def _check_order(
    contract: Contract, request: RunRequest, find: Find, logged: Logged, revoked: frozenset[str]
) -> AdmittedTask | None:
    """An order is what the contract allows; what it says of a task."""
    if request.computation.startswith(TASK_PREFIX):
        return check_task(
            contract,
            request,
            request.researcher,
            signatures_ok=True,  # by `permits`
            now=logged.entry.at,
            revoked=revoked,
            accepted_before=True,  # an entry may be dated later, each site saw to its window
        )
    _require_known(contract, request.computation, find)
    check_run(
        contract,
        request,
        request.researcher,
        signatures_ok=True,
        find_analysis=find,
        now=logged.entry.at,
        revoked=revoked,
        accepted_before=True,
    )
    return None


def _require_known(contract: Contract, computation: str, find: Find) -> None:
    """The version of an analysis that the contract names is installed.

    Raises:
        InputError: ``not-found``.
    """
    permitted = contract.computation(computation)
    approved = None if permitted is None else permitted.versions.get(computation)
    if approved is not None and approved != find(computation).version:
        raise InputError(
            "not-found",
            f"The contract permits version {approved} of {computation}, which this release does "
            "not have; verify the bundle with one that has it.",
        )


def _requested(bundle: Bundle, fact: RunSubmitted | RunDenied) -> tuple[RunRequest, str]:
    """The request that an entry names, which says the same, and the key that signed it."""
    request, signer = RunRequest.open(bundle.statements[fact.request].encode())
    said = (fact.run_id, fact.study, fact.contract, fact.computation, fact.researcher)
    ordered = (
        request.run_id,
        request.study,
        request.contract_digest,
        request.computation,
        request.researcher,
    )
    require(said == ordered, "The signed request is for another run.")
    return request, signer


def check_sites(bundle: Bundle, entries: Iterable[Logged], runs: Runs, facts: Facts) -> None:
    """Step 10: each site that is said to take part has signed a key for this very request.

    Raises:
        VerificationError: ``bad-bundle``.
    """
    for logged in entries:
        fact = logged.fact
        if not isinstance(fact, RunDecided) or not of_this_study(fact, runs):
            continue
        with facts.of("sites", logged.index):
            run = runs.of(fact.run_id, logged.index)
            if run.task is not None:
                handed = handed_out(bundle, run, fact, logged.index)
                decisions = (*run.decisions, (logged.index, frozenset(handed)))
                runs.of_study[fact.run_id] = replace(run, decisions=decisions, handed=handed)
                continue
            keys = {p.name: p.key for p in run.contract.participants}
            require(fact.sites.keys() == keys.keys(), "Not each participant's decision is there.")
            stated: dict[str, str] = {}
            for site, decision in fact.sites.items():
                if decision.decision == "accepted":
                    stated[site] = _round_key(bundle, run, site, keys[site], decision).x25519
                else:
                    require(decision.statement is None, f"{site} signed and is not in the run.")
            # With a key that another site has too, none can take part (`Roster.verify`).
            shared = Counter(stated.values())
            accepted = frozenset(site for site, one in stated.items() if shared[one] == 1)
            decisions = (*run.decisions, (logged.index, accepted))
            runs.of_study[fact.run_id] = replace(run, decisions=decisions)


def _round_key(bundle: Bundle, run: Run, site: str, key: str, decision: SiteDecision) -> RoundKey:
    if decision.statement is None:
        raise VerificationError("bad-bundle", f"What {site} signed is not named.")
    stated, _ = RoundKey.open(bundle.statements[decision.statement].encode(), key=key)
    bound = (stated.site, stated.run_id, stated.contract_digest, stated.request_digest)
    wanted = (site, run.request.run_id, run.contract_digest, run.request_digest)
    require(bound == wanted, f"What {site} signed is for another run.")
    return stated


def check_rounds(entries: Sequence[Logged], history: History, runs: Runs, facts: Facts) -> None:
    """Step 11: each sum is over enough of the sites that take part, and quotas are kept.

    Raises:
        VerificationError: ``bad-bundle``.
    """
    used: Used = defaultdict(set)
    times = [logged.entry.at for logged in entries]
    for logged in entries:
        fact = logged.fact
        if not isinstance(fact, RunEnded) or not of_this_study(fact, runs):
            continue
        with facts.of("rounds", logged.index):
            run = runs.of(fact.run_id, logged.index)
            open_ = run.ended is None or run.ended[1].status == "failed"
            require(open_, "The run had ended before.")
            if run.task is not None:
                check_end(fact, run, logged.index)
            else:
                _check_sums(fact, run, _taking_part(fact, run, logged.index))
                _check_quota(fact, run, used)
            if fact.status == "succeeded":
                just_before = entries[bisect_left(times, logged.entry.at - CLOCK_SKEW)].index
                # Nearly: its last sum may be on its way. Its expiry does not matter: a hub that was
                # down may log the end late.
                lives = history.between(just_before, logged.index)
                require_in_force(run, lives, "The run went on when the contract did not permit")
            runs.of_study[fact.run_id] = replace(run, ended=(logged.index, fact))
    check_quota((run for run in runs.of_study.values() if run.task is not None), facts)
    for run in runs.of_study.values():
        if run.ended is not None and run.ended[1].status == "succeeded" and run.decisions:
            with facts.of("rounds", run.decisions[-1][0]):
                require(run.decisions[-1][0] < run.ended[0], "The run had ended before.")


def _taking_part(fact: RunEnded, run: Run, index: int) -> frozenset[str]:
    """Where somebody cancels a run, the decisions may be logged after its end."""
    if fact.status != "succeeded":
        return frozenset().union(*(sites for _, sites in run.decisions))
    return run.accepted(index)


def _check_sums(fact: RunEnded, run: Run, accepted: frozenset[str]) -> None:
    expected = 1
    for rounds in fact.rounds:
        require(rounds.first == expected, "A round is missing, or there twice.")
        require(rounds.last >= rounds.first, "A round ends before it begins.")
        sites = set(rounds.sites)
        require(len(sites) == len(rounds.sites), "A site is twice in one sum.")
        require(sites <= accepted, "A sum is over a site that did not agree to take part.")
        least = run.contract.min_sites
        require(len(sites) >= least, f"A sum is over {len(sites)} sites; {least} is the least.")
        expected = rounds.last + 1
    succeeded = fact.status == "succeeded"
    require(succeeded == (fact.result is not None), "A result without success, or the reverse.")
    require(not succeeded or bool(fact.rounds), "There is a result and no sum.")


def _check_quota(fact: RunEnded, run: Run, used: Used) -> None:
    """A site counts the runs under one entry of one contract that had a round with it."""
    permitted = run.contract.computation(run.request.computation)
    if permitted is None:
        raise VerificationError("bad-bundle", "The contract does not permit the computation.")
    most = permitted.max_runs
    for site in {site for rounds in fact.rounds for site in rounds.sites}:
        had = used[run.contract_digest, permitted.name, site]
        had.add(fact.run_id)
        require(
            most is None or len(had) <= most,
            f"{site} took part in {len(had)} runs of {permitted.name}; {most} are permitted.",
        )


def check_releases(
    bundle: Bundle, keys: LogKeys, checkpoint: Checkpoint, runs: Runs, facts: Facts
) -> None:
    """Step 12: there is a receipt for each result, and for nothing else.

    Raises:
        VerificationError: ``bad-bundle``.
    """
    for release in bundle.releases:
        run = runs.of_study.get(release.run_id)
        index = None if run is None or run.ended is None else run.ended[0]
        with facts.of("releases", index):
            if run is None:
                raise VerificationError("bad-bundle", "There is a receipt of a run of nobody.")
            if run.ended is None or run.ended[1].result is None:
                raise VerificationError("bad-bundle", "There is a receipt and no result.")
            participants = {p.name: p.key for p in run.contract.participants}
            check_release(
                bundle,
                release,
                ended=run.ended[0],
                keys=keys,
                participants=participants,
                checkpoint=checkpoint,
            )
    released = {release.run_id for release in bundle.releases}
    for run_id, run in runs.of_study.items():
        if run.ended is not None and run.ended[1].result is not None:
            with facts.of("releases", run.ended[0]):
                require(run_id in released, "The receipt of the result is not there.")


def check_results(bundle: Bundle, runs: Runs, results: Mapping[str, bytes], facts: Facts) -> None:
    """Step 14: a result, as canonical JSON by its run, is the one that was committed to.

    Raises:
        VerificationError: ``bad-bundle``.
    """
    nonces = {release.run_id: release.nonce for release in bundle.releases}
    for run_id, result in results.items():
        ended = runs.of_study[run_id].ended if run_id in runs.of_study else None
        with facts.of("results", None if ended is None else ended[0]):
            if ended is None or run_id not in nonces:
                raise VerificationError(
                    "bad-bundle", f"The ledger knows no result of the run {run_id[:8]}."
                )
            nonce = nonces[run_id]
            if nonce is None:
                raise VerificationError(
                    "bad-bundle",
                    f"The nonce of run {run_id[:8]} is not here: who exported the bundle may not "
                    "read this result.",
                )
            require(
                commitment(bytes.fromhex(nonce), result) == ended[1].result,
                f"The file is not the result of run {run_id[:8]} that was released.",
            )
