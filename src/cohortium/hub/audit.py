"""The export of audit bundles: what the ledger and the hub's stores hold of one study."""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from cohortium.audit import bundle as file
from cohortium.audit.bundle import Bundle, Handover, LoggedEntry, LogKey, Release
from cohortium.audit.history import History, Reign, told
from cohortium.audit.log import Logged
from cohortium.contract.lifecycle import StudyLife
from cohortium.core.canonical import digest_bytes
from cohortium.enclave.exchange import Release as KeyRelease
from cohortium.errors import ConflictError, InputError, ProtocolError, VerificationError
from cohortium.hub.ledger_store import Log, StoredCheckpoint
from cohortium.hub.store import HubStore
from cohortium.ledger.entry import (
    ContractChanged,
    Fact,
    Founded,
    KeyReleased,
    RunDecided,
    RunDenied,
    RunEnded,
    RunSubmitted,
    parse_entry,
)
from cohortium.ledger.members import require_final
from cohortium.ledger.tree import Tree

RUN_KINDS: Final = ("run.decided", "run.ended", "key.released")
TRIED: Final = 1_000
"""Final checkpoints that are looked at, the newest first, for one that a study's sites cosigned."""

Entries = dict[int, bytes]
End = tuple[str, StoredCheckpoint]
"""A contract's digest, and the checkpoint on which its participants witnessed that it ended."""


class AuditExport:
    """Makes bundles; whoever receives one verifies it."""

    def __init__(self, store: HubStore, log: Log) -> None:
        self._store = store
        self._log = log

    def bundle(self, study: str, reader: str, *, whole: bool = False) -> bytes:
        """The evidence of a study up to the newest checkpoint that its institutions witnessed.

        Args:
            reader: Whose key asks: with a nonce one can guess a result, so that each goes only to
                those who may read that.
            whole: All entries of the ledger, so that it can be seen that none is left out.

        Raises:
            InputError: ``not-found`` for a study without a contract, and for documents that were
                lost with another hub.
            ConflictError: ``wrong-state`` while too few institutions have witnessed the ledger.
        """
        # 1. The entries. 2. What follows from them. 3. The newest checkpoint that proves it. 4. The
        # documents that the entries name. 5. The receipts.
        life = self._store.studies.life(study)
        held = {digest_bytes(one.envelope): one.envelope for one in self._store.studies.said(study)}
        newest = self._store.ledger.newest_final()
        entries = self._about(study, life, 0 if newest is None else newest.size)  # 1
        logged = [Logged(place, parse_entry(data)) for place, data in sorted(entries.items())]
        texts = {digest: envelope.decode() for digest, envelope in held.items()}
        history = told(study, self._founded, logged, texts)  # 2
        machines = self._machines(logged)
        entries |= self._standing(history, machines, 0 if newest is None else newest.size)  # 1
        final, handovers = self._witnessed(history)  # 3
        tree = self._store.ledger.tree(final.size)
        found = {place: data for place, data in entries.items() if place < final.size}
        shown = dict(enumerate(self._store.ledger.entries(0, final.size))) if whole else found
        logged = [one for one in logged if one.index < final.size]
        facts = {one.index: one.fact for one in logged}
        documents = self._documents(history, logged, held)  # 4
        releases = tuple(self._releases(facts, final, tree, reader))  # 5
        outcomes = [one.outcome for one in releases if one.outcome is not None]
        return Bundle(
            study=study,
            coverage="log" if whole else "study",
            log=file.Log(origin=self._log.origin, keys=tuple(self._keys())),
            checkpoint=final.note.decode(),
            members=dict(self._store.ledger.members_at(final.size)),
            entries=tuple(
                LoggedEntry(
                    index=place,
                    entry=data.decode(),
                    proof=() if whole else _hex(tree.inclusion_proof(place)),
                )
                for place, data in sorted(shown.items())
            ),
            statements=documents.statements | {one: held[one].decode() for one in outcomes},
            evidence=documents.evidence,
            releases=releases,
            handovers=tuple(self._handover(one, final, tree) for one in handovers) or None,
        ).to_bytes()

    @property
    def _founded(self) -> Founded:
        return Founded(name=self._log.name, fingerprint=self._log.fingerprint)

    def _witnessed(self, history: History) -> tuple[StoredCheckpoint, list[End]]:
        """The newest checkpoint up to which everything can be proven.

        Its own participants cosigned it, and those of each contract before, that this had ended:
        where on another checkpoint, that comes with the contract's digest.
        """
        # 1. Nothing that does not hold. 2. Its own participants. 3. Those of each contract before.
        # 4. Where these never saw an end, what stands before it.
        ends: dict[str, StoredCheckpoint | None] = {}
        bound = min(history.faults, default=None)  # 1
        while True:
            for final in self._store.ledger.finals(TRIED, upto=bound):
                if not self._is_witnessed(final, history.witnesses(final.size)):  # 2
                    continue
                found = self._ends(history, final, ends)  # 3
                if found is not None:
                    return final, found
            unseen = [
                reign.until
                for reign in history.reigns
                if reign.until is not None and ends.get(reign.digest, history) is None
            ]
            before = [until for until in unseen if bound is None or until < bound]
            if not before:
                break
            bound = max(before)  # 4
        if history.faults:
            raise InputError(
                "not-found",
                f"Signed documents of {history.study} were lost, and nothing of it can be proven; "
                "use a bundle that was exported before.",
            )
        raise ConflictError(
            "wrong-state",
            f"Too few institutions of {history.study} have witnessed the ledger; try again when "
            "more of their nodes are connected, also those of an earlier version of its contract.",
        )

    def _ends(
        self, history: History, final: StoredCheckpoint, ends: dict[str, StoredCheckpoint | None]
    ) -> list[End] | None:
        """Where else than on a checkpoint the ends of contracts were witnessed; None: nowhere.

        Args:
            ends: What was found before, by contract.
        """
        found = []
        for reign in history.replaced(final.size):
            if self._is_witnessed(final, reign.witnesses):
                continue
            if reign.digest not in ends:
                ends[reign.digest] = self._end_of(reign)
            end = ends[reign.digest]
            if end is None or end.size > final.size:
                return None
            found.append((reign.digest, end))
        return sorted(found, key=lambda item: item[0])

    def _is_witnessed(self, final: StoredCheckpoint, sites: Mapping[str, str] | None) -> bool:
        members = self._store.ledger.members_at(final.size)
        try:
            require_final(final.note, self._log.verifier, members, sites)
        except VerificationError:
            return False
        return True

    def _end_of(self, reign: Reign) -> StoredCheckpoint | None:
        """The first checkpoint on which a contract's participants witnessed that it ended."""
        after = self._store.ledger.finals(TRIED, above=reign.until)
        return next((one for one in after if self._is_witnessed(one, reign.witnesses)), None)

    def _handover(self, end: End, final: StoredCheckpoint, tree: Tree) -> Handover:
        contract, before = end
        return Handover(contract=contract, **self._earlier(before, final, tree))

    def _earlier(
        self, before: StoredCheckpoint, final: StoredCheckpoint, tree: Tree
    ) -> dict[str, Any]:
        """An earlier checkpoint as a bundle has it."""
        then = dict(self._store.ledger.members_at(before.size))
        same = then == dict(self._store.ledger.members_at(final.size))
        return {
            "checkpoint": before.note.decode(),
            "members": None if same else then,
            "consistency": _hex(tree.consistency_proof(before.size)),
        }

    def _about(self, study: str, life: StudyLife, size: int) -> Entries:
        """The entries about a study, and about those who are in it."""
        ledger = self._store.ledger
        contracts = [version.contract for version in life.versions]
        sites = {site.name for contract in contracts for site in contract.participants}
        people = {
            one.name
            for contract in contracts
            for one in (*contract.recipients, *contract.owners, contract.proposed_by)
        }
        data = {f"{s.name}/{s.dataset}" for contract in contracts for s in contract.givers}
        found = ledger.entries(0, 1)
        about = {0: found[0]} if found else {}
        for kind, subjects in (
            ("consortium.taken-over", {""}),
            ("member", sites | people),
            ("researcher", people),
            ("dataset", data),
            ("contract", {study}),
        ):
            for subject in sorted(subjects):
                about |= dict(ledger.about(kind, subject))
        quoted = f'"study":"{study}"'.encode()
        about |= dict(ledger.of_kind("run.denied", quoted))
        for place, entry in ledger.of_kind("run.submitted", quoted):
            about[place] = entry
            submitted = parse_entry(entry).fact
            if isinstance(submitted, RunSubmitted):
                for kind in RUN_KINDS:
                    about |= dict(ledger.about(kind, submitted.run_id))
        return {place: entry for place, entry in about.items() if place < size}

    def _keys(self) -> Iterator[LogKey]:
        """What signed the log, also those of hubs that this one took over from."""
        for size, key in self._store.ledger.log_keys(self._log).items():
            yield LogKey(key=key, size=size)

    def _machines(self, entries: Sequence[Logged]) -> set[str]:
        """Where runs of the study were."""
        runs = {one.fact.run_id for one in entries if isinstance(one.fact, RunSubmitted)}
        assigned = (self._store.tasks.assigned(run_id) for run_id in sorted(runs))
        return {one.enclave for one in assigned if one is not None}

    def _standing(self, history: History, machines: set[str], size: int) -> Entries:
        """The entries about the enclaves that contracts name, or that had runs."""
        named = {name for role, name, _ in history.parties if role == "enclave"}
        found: Entries = {}
        for name in sorted(named | machines):
            found |= dict(self._store.ledger.about("enclave", name))
        return {place: entry for place, entry in found.items() if place < size}

    def _documents(
        self, history: History, entries: Sequence[Logged], held: dict[str, bytes]
    ) -> _Documents:
        """What the entries name, and what that names in turn; adds to `held` what runs have."""
        named: set[str] = set()
        lost: set[str] = set()
        for logged in entries:
            fact = logged.fact
            if isinstance(fact, RunSubmitted | RunDenied):
                held |= self._store.runs.documents(fact.run_id)
            digests = set(_named(fact))
            digests |= set(_offers(digests, held))
            named |= digests & held.keys()
            if digests - held.keys() and not history.excuses(logged):
                lost |= digests - held.keys()
        if lost:
            raise InputError(
                "not-found",
                f"{len(lost)} signed documents of {history.study} were lost with the hub that this "
                "one took over from; use a bundle that was exported before.",
                documents=sorted(lost)[:3],
            )
        evidence = {one.evidence for one in _released(named, held) if one.evidence is not None}
        return _Documents(
            {digest: held[digest].decode() for digest in sorted(named)},
            {
                digest: base64.b64encode(held[digest]).decode()
                for digest in sorted(evidence & held.keys())
            },
        )

    def _releases(
        self, facts: dict[int, Fact], final: StoredCheckpoint, tree: Tree, reader: str
    ) -> Iterator[Release]:
        succeeded = {
            fact.run_id
            for fact in facts.values()
            if isinstance(fact, RunEnded) and fact.result is not None
        }
        for run_id in sorted(succeeded):
            stored = self._store.ledger.release(run_id)
            if stored is None:
                raise InputError("not-found", f"The nonce of run {run_id[:8]} was lost.")
            before = final
            if stored.size is not None and stored.size < final.size:
                before = self._store.ledger.checkpoint(stored.size)
            run = self._store.runs.get(run_id).info
            contract = self._store.studies.contract(run.contract_digest)
            readable = contract.recipient(reader, run.computation) is not None
            assigned = self._store.tasks.assigned(run_id)
            yield Release(
                run_id=run_id,
                nonce=stored.nonce.hex() if readable else None,
                outcome=assigned.outcome if readable and assigned is not None else None,
                **self._earlier(before, final, tree),
            )


@dataclass(frozen=True)
class _Documents:
    """By digest: texts of envelopes, and evidence in base64."""

    statements: dict[str, str]
    evidence: dict[str, str]


def _released(named: Collection[str], held: Mapping[str, bytes]) -> Iterator[KeyRelease]:
    """The lenders' releases among documents."""
    for digest in sorted(named):
        with suppress(VerificationError, ProtocolError):  # it is of another kind
            yield KeyRelease.open(held[digest])[0]


def _offers(named: Collection[str], held: Mapping[str, bytes]) -> Iterator[str]:
    for release in _released([digest for digest in named if digest in held], held):
        yield release.offer


def _named(fact: Fact) -> Iterator[str]:
    """The signed documents that an entry names."""
    if isinstance(fact, ContractChanged):
        yield fact.statement
    elif isinstance(fact, RunSubmitted | RunDenied):
        yield fact.request
    elif isinstance(fact, RunDecided):
        yield from (one.statement for one in fact.sites.values() if one.statement is not None)
    elif isinstance(fact, KeyReleased):
        yield fact.evidence


def _hex(nodes: Sequence[bytes]) -> tuple[str, ...]:
    return tuple(node.hex() for node in nodes)
