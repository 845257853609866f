"""The export of audit bundles: what the ledger and the hub's stores hold of one study."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from cohortium.audit import bundle as file
from cohortium.audit.bundle import Bundle, LoggedEntry, LogKey, Release
from cohortium.contract.lifecycle import StudyLife
from cohortium.contract.model import Contract
from cohortium.core.canonical import digest_bytes
from cohortium.errors import ConflictError, InputError, VerificationError
from cohortium.hub.ledger_store import Log, StoredCheckpoint
from cohortium.hub.store import HubStore
from cohortium.ledger.entry import (
    ContractChanged,
    Fact,
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
        # 1. The checkpoint. 2. The entries. 3. The documents that they name. 4. The receipts.
        life = self._store.studies.life(study)
        final = self._witnessed(life)  # 1
        tree = self._store.ledger.tree(final.size)
        found = self._about(study, life, final.size)  # 2
        held = dict(enumerate(self._store.ledger.entries(0, final.size))) if whole else found
        facts = {place: parse_entry(data).fact for place, data in sorted(found.items())}
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
                for place, data in sorted(held.items())
            ),
            statements=self._statements(study, facts),  # 3
            releases=tuple(self._releases(facts, final, tree, reader)),  # 4
        ).to_bytes()

    def _witnessed(self, life: StudyLife) -> StoredCheckpoint:
        """The newest checkpoint that enough of the study's institutions cosigned."""
        for final in self._store.ledger.finals(TRIED):
            members = self._store.ledger.members_at(final.size)
            contract = _last_in_force(life)
            sites = {site.name: site.key for site in contract.participants}
            try:
                require_final(final.note, self._log.verifier, members, sites)
            except VerificationError:
                continue
            return final
        raise ConflictError(
            "wrong-state",
            f"Too few institutions of {life.study} have witnessed the ledger; try again when more "
            "of their nodes are connected.",
        )

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
        data = {f"{s.name}/{s.dataset}" for contract in contracts for s in contract.participants}
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

    def _statements(self, study: str, facts: dict[int, Fact]) -> dict[str, str]:
        held = {digest_bytes(one.envelope): one.envelope for one in self._store.studies.said(study)}
        named: set[str] = set()
        for fact in facts.values():
            named.update(_named(fact))
            if isinstance(fact, RunSubmitted | RunDenied):
                held |= self._store.runs.documents(fact.run_id)
        lost = sorted(named - held.keys())
        if lost:
            raise InputError(
                "not-found",
                f"{len(lost)} signed documents of {study} were lost with the hub that this one "
                "took over from; use a bundle that was exported before.",
                documents=lost[:3],
            )
        return {digest: held[digest].decode() for digest in sorted(named)}

    def _releases(
        self, facts: dict[int, Fact], final: StoredCheckpoint, tree: Tree, reader: str
    ) -> Iterator[Release]:
        members = dict(self._store.ledger.members_at(final.size))
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
            then = dict(self._store.ledger.members_at(before.size))
            run = self._store.runs.get(run_id).info
            contract = self._store.studies.contract(run.contract_digest)
            readable = contract.recipient(reader, run.computation) is not None
            yield Release(
                run_id=run_id,
                nonce=stored.nonce.hex() if readable else None,
                checkpoint=before.note.decode(),
                members=None if then == members else then,
                consistency=_hex(tree.consistency_proof(before.size)),
            )


def _last_in_force(life: StudyLife) -> Contract:
    """The contract in force, or the last one that was, or else the newest."""
    if life.in_force is not None:
        return life.in_force.contract
    were = [version for version in life.versions if not version.missing]
    return (were or list(life.versions))[-1].contract


def _named(fact: Fact) -> Iterator[str]:
    """The signed documents that an entry names."""
    if isinstance(fact, ContractChanged):
        yield fact.statement
    elif isinstance(fact, RunSubmitted | RunDenied):
        yield fact.request
    elif isinstance(fact, RunDecided):
        yield from (one.statement for one in fact.sites.values() if one.statement is not None)


def _hex(nodes: Sequence[bytes]) -> tuple[str, ...]:
    return tuple(node.hex() for node in nodes)
