"""Step 13: each release of data keys, and the evidence that it rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cohortium.audit.bundle import Bundle
from cohortium.audit.history import History
from cohortium.audit.log import Logged
from cohortium.audit.run import Handed, Run, Runs, of_this_study
from cohortium.audit.steps import Facts, failure, require
from cohortium.audit.tasks import Standing, admitted, environment_of
from cohortium.contract.check import CLOCK_SKEW
from cohortium.contract.lifecycle import StudyLife, permits
from cohortium.contract.model import Contract, covers
from cohortium.contract.statements import Transition
from cohortium.contract.task import Scalar, SecurityLevel, Task
from cohortium.crypto.keys import PREFIX, unb64url
from cohortium.enclave.attestation import ear
from cohortium.enclave.attestation.verdict import Verdict
from cohortium.errors import InputError, PolicyRefusal, VerificationError
from cohortium.ledger.entry import KeyReleased


@dataclass(frozen=True)
class Shown:
    """Evidence that a lender relied on, with all that it is judged by.

    Attributes:
        evidence: A CMW record in CBOR.
        report_data: The 64 bytes that it must be bound to.
        arguments: All of the run.
        inputs: Digest of what fills each slot, of all lenders.
        at: When the lender relied on it.
    """

    evidence: bytes
    report_data: bytes
    contract: Contract
    task: Task
    level: SecurityLevel
    arguments: Mapping[str, Scalar]
    inputs: Mapping[str, str]
    at: datetime


Appraise = Callable[[Shown], None]
"""Judges evidence again. Raises VerificationError where it is refused, and InputError where it
cannot be judged here, for want of collateral or of software: it then counts as not checked."""


def check_keys(
    bundle: Bundle,
    entries: Sequence[Logged],
    history: History,
    runs: Runs,
    facts: Facts,
    *,
    standing: Standing,
    appraise: Appraise | None,
) -> None:
    """Step 13: each release was signed, once, while the contract held, on evidence that is here.

    Raises:
        VerificationError: ``bad-bundle``.
    """
    needed: set[str] = set()
    seen: set[tuple[str, str]] = set()
    for logged in entries:
        fact = logged.fact
        if not isinstance(fact, KeyReleased) or not of_this_study(fact, runs):
            continue
        with facts.of("keys", logged.index):
            run = runs.of(fact.run_id, logged.index)
            handed = _released(run, fact, logged)
            require((fact.run_id, fact.holder) not in seen, "The keys were released before.")
            seen.add((fact.run_id, fact.holder))
            lives = history.between(standing.just_before(logged.index), logged.index)
            require_in_force(run, lives, "The keys were released when the contract did not permit")
            _check_own_word(history, run, handed)
            standing.require(handed.enclave, logged.index)
            shown = _shown(bundle, run, handed)
        if shown is not None:
            needed.add(handed.release.evidence or "")
            _judge(appraise, shown, logged.index, facts)
    for run in runs.of_study.values():
        if run.ended is not None and run.ended[1].result is not None:
            for site in run.handed:
                with facts.of("keys", run.ended[0]):
                    known = (run.request.run_id, site) in seen
                    require(known, f"The ledger does not say that {site} released its keys.")
    with facts.of("keys"):
        require(needed == set(bundle.evidence), "There is evidence that no key release names.")


def _released(run: Run, fact: KeyReleased, logged: Logged) -> Handed:
    """The signed release that an entry is about, and which says the same."""
    admitted(run)
    handed = run.handed.get(fact.holder)
    if handed is None or handed.index > logged.index:
        raise VerificationError("bad-bundle", "The key's holder does not take part in the run.")
    release = handed.release
    require(fact.evidence == handed.statement, f"{fact.holder} signed another release.")
    require(fact.recipient == release.recipient, "The keys were sealed for another key.")
    require(release.at <= logged.entry.at + CLOCK_SKEW, "The release is from the future.")
    early = release.at < run.request.issued_at - CLOCK_SKEW
    require(not early, "The keys were released before the run was ordered.")
    expired = release.at >= run.contract.expires_at
    require(not expired, "The keys were released after the contract had expired.")
    return handed


def require_in_force(run: Run, lives: Iterable[StudyLife], otherwise: str) -> None:
    """The contract permitted the run in one of these lives; its expiry aside.

    Raises:
        VerificationError: ``bad-bundle``.
    """
    for life in reversed(list(lives)):
        with suppress(PolicyRefusal, InputError):  # such as one from before the contract
            version = life.version(run.contract.digest)
            permits(version, run.request.computation, run.contract.created_at)
            return
    raise VerificationError("bad-bundle", f"{otherwise} it any more.")


def _check_own_word(history: History, run: Run, handed: Handed) -> None:
    """By its own clock, a lender released nothing after it had revoked or suspended itself."""
    site, at = handed.release.site, handed.release.at
    stopped = False
    for said in sorted(_said(history, run.contract_digest, site), key=lambda one: one.at):
        if said.at >= at:
            break
        named = said.computations
        of_this = named is None or any(covers(one, run.request.computation) for one in named)
        stopped = said.action in {"revoke", "close"} or (said.action == "suspend" and of_this)
    require(not stopped, f"{site} had ended or suspended the contract before it released its keys.")


def _said(history: History, contract: str, author: str) -> list[Transition]:
    return [
        one
        for one in history.transitions
        if (one.contract_digest, one.author) == (contract, author)
    ]


# Evidence


def _shown(bundle: Bundle, run: Run, handed: Handed) -> Shown | None:
    """The evidence, with the lender's signed result of appraising it; None where none is due."""
    release, task = handed.release, admitted(run)
    if release.evidence is None:
        due = task.level >= "L3"
        require(not due, f"{task.level} asks for evidence, and {release.site} names none.")
        return None
    require(release.evidence in bundle.evidence, "The evidence is not there.")
    report_data = bytes.fromhex(handed.offer.session)
    verdict = _result(run, handed)
    bound = {report_data.hex(), sha256(report_data).hexdigest()}  # a TPM signs 32 bytes at most
    require(verdict.report_data in bound, "The evidence was shown in another session.")
    simulated = verdict.simulated and not environment_of(run).allow_simulated
    require(not simulated, "The evidence is simulated, and the contract does not allow that.")
    filled = {slot.name: slot.artefact for slot in task.task.inputs if slot.artefact is not None}
    return Shown(
        evidence=bundle.evidence_bytes(release.evidence),
        report_data=report_data,
        contract=run.contract,
        task=task.task,
        level=task.level,
        arguments=task.arguments,
        inputs={name: one.content_digest or "" for name, one in filled.items()},
        at=release.at,
    )


def _result(run: Run, handed: Handed) -> Verdict:
    """What the lender found, as it signed it (EAR)."""
    release = handed.release
    if release.attestation_result is None:
        raise VerificationError("bad-bundle", f"{release.site} does not say what it found.")
    text = run.contract.parties[release.site]
    key = Ed25519PublicKey.from_public_bytes(unb64url(text.removeprefix(PREFIX)))
    found = ear.verify(release.attestation_result, key, now=release.at)
    require(found.developer == release.site, "The attestation result is another verifier's.")
    same = found.evidence_digest == release.evidence
    require(same, "The attestation result is about other evidence.")
    if found.verdict is None:
        raise VerificationError("bad-bundle", f"{release.site} refused the evidence itself.")
    return found.verdict


def _judge(appraise: Appraise | None, shown: Shown, index: int, facts: Facts) -> None:
    """Appraise the evidence once more; what cannot be judged here is said not to be checked."""
    if appraise is None:
        facts.leave("keys", index, "the evidence was not appraised again: no verifier was given")
        return
    try:
        appraise(shown)
    except InputError as error:
        facts.leave("keys", index, f"the evidence was not appraised again: {error.message}")
    except VerificationError as error:
        raise failure("keys", error, index) from error
    else:
        facts.checked["keys"] += 1
