"""A new hub that takes over from a copy of the ledger, when the old one is lost.

What the copy gives: who is a member or an enclave with which key and certificate, who is a
researcher, and the ledger itself. The certificate authority's key must come from the operator's
backup. Datasets and policies come from the nodes when they connect, contracts too (see
`cohortium.hub.recovery`). Invitations, open runs, results, programs of tasks and vault cards are
lost with the old hub; who has a program puts it there again, and cards are shown anew.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cohortium.core.clock import Clock, system_clock
from cohortium.crypto.authority import Authority
from cohortium.crypto.files import write_atomically
from cohortium.crypto.keys import fingerprint
from cohortium.errors import ConflictError, InputError
from cohortium.hub.config import HubConfig
from cohortium.hub.folder import HubFolder, make, read_ledger_keys
from cohortium.hub.ledger_store import Log
from cohortium.ledger.checkpoint import origin
from cohortium.ledger.note import VerifierKey, parse_verifier_key
from cohortium.ledger.replica import Replica, verify_replica
from cohortium.ledger.tiles import Read, read_folder

EVIDENCE: Final = "taken-over.checkpoint"
"""The final checkpoint of the ledger that was taken over."""


@dataclass(frozen=True)
class TakenOverFrom:
    """What was found in the copy.

    Attributes:
        size: Entries of the copy.
        members: Approved institutions.
        key_fingerprint: Of the ledger's new key; the operator reads it out to every steward.
        studies: Whose contracts the nodes will have to give back.
    """

    name: str
    size: int
    members: tuple[str, ...]
    researchers: int
    studies: tuple[str, ...]
    key_fingerprint: str


def log_keys_of(authority: Path, given: str | None, fingerprint_: str) -> list[VerifierKey]:
    """The lost ledger's keys, oldest first: as in the authority's backup, the last as it is given.

    Raises:
        InputError: ``not-found`` where neither says it; ``bad-input`` where it is another ledger's.
    """
    texts = read_ledger_keys(authority)
    if given is not None and given not in texts[-1:]:
        texts.append(given)
    if not texts:
        raise InputError(
            "not-found",
            f"{authority} does not say which key signed the ledger. Ask the stewards of two or "
            "more members for it, compare, and give it with --ledger-key.",
        )
    keys = [parse_verifier_key(text) for text in texts]
    if any(key.name != origin(fingerprint_) for key in keys):
        raise InputError("bad-input", "That is the key of another consortium's ledger.")
    return keys


def take_over(
    path: Path,
    config: HubConfig,
    *,
    ledger: Path,
    authority: Path,
    ledger_key: str | None = None,
    clock: Clock = system_clock,
) -> TakenOverFrom:
    """Make a hub's folder from a copy of the ledger and the backup of the authority.

    The folder appears when everything is in it. The copy is verified whole before anything is
    written, and once more as it is written.

    Args:
        config: The name in it gives way to the one on the ledger.
        ledger: Folder with the ledger's static files.
        authority: Folder with ``ca.key`` and ``ca.pem``.
        ledger_key: Verifier key of the old ledger; by default as in the authority's folder.

    Raises:
        VerificationError: Where the copy does not verify or is not final.
        ProtocolError: ``malformed-message``.
        ConflictError: ``already-exists``, also where the database holds something.
        InputError: ``not-found``, ``bad-input``, ``bad-config``.
    """
    if path.exists() and any(path.iterdir()):
        raise ConflictError("already-exists", f"{path} is not empty; choose another folder.")
    ca = Authority.load(authority)
    keys = log_keys_of(authority, ledger_key, ca.fingerprint)
    read = read_folder(ledger)
    replica = verify_replica(read, keys[-1])
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    shutil.rmtree(new, ignore_errors=True)  # of an attempt that was killed
    try:
        folder = make(new, config.model_copy(update={"name": replica.founded.name}), ca, clock)
        found = _fill(folder, read, keys, replica, clock())
        _appear(new, path)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return found


def _appear(new: Path, path: Path) -> None:
    """Give the folder its name, durably."""
    new.replace(path)
    parent = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def _fill(
    folder: HubFolder, read: Read, keys: Sequence[VerifierKey], replica: Replica, now: datetime
) -> TakenOverFrom:
    standing, founded = replica.standing, replica.founded
    store = folder.store()
    try:
        log = Log(founded.name, founded.fingerprint, folder.ledger_key(store))
        with store.ledger.adopting(log) as take:
            if verify_replica(read, keys[-1], take).note != replica.note:
                raise ConflictError("wrong-state", "The ledger's copy changed while it was read.")
        store.members.adopt(
            standing.institutions.values(),
            standing.researchers.values(),
            now,
            standing.enclaves.values(),
        )
        while store.ledger.append(log, now):
            pass
    finally:
        store.close()
    folder.write_ledger_keys([*(key.text for key in keys), log.verifier.text])
    write_atomically(folder.path / EVIDENCE, replica.note)
    return TakenOverFrom(
        name=founded.name,
        size=standing.size,
        members=tuple(sorted(standing.members)),
        researchers=sum(one.status == "active" for one in standing.researchers.values()),
        studies=tuple(dict.fromkeys(fact.study for fact in standing.statements)),
        key_fingerprint=fingerprint(log.verifier.text),
    )
