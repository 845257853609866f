"""A hub that is lost: members in every state, researchers, and what others have of it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cohortium.crypto.authority import make_tls_key_and_csr
from cohortium.crypto.enrolment import SiteEnrolment, UserEnrolment, rotation_bytes
from cohortium.crypto.keys import SigningKey
from cohortium.hub.config import HubConfig
from cohortium.hub.folder import HubFolder, create
from cohortium.hub.ledger_store import Log
from cohortium.hub.members import Membership
from cohortium.hub.takeover import TakenOverFrom, take_over
from cohortium.ledger.checkpoint import add_cosignatures, cosign
from cohortium.ledger.note import Note
from cohortium.ledger.tiles import Mirror

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
LATER = NOW + timedelta(days=3)
SITES = ("Alpha", "Beta", "Gamma", "Delta", "Epsilon")


def key(name: str) -> SigningKey:
    return SigningKey.from_seed(name.encode().ljust(32, b"."))


class LostHub:
    """A hub that will be lost: members in every state, two researchers, and a copy elsewhere."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.copy = root / "copy"
        self.backup = root / "backup"
        self.folder = create(root / "old", HubConfig(name="Heart failure"), lambda: NOW)
        self.store = self.folder.store()
        self.members = self.folder.membership(self.store, lambda: NOW)
        self.certificates = {name: self.join(self.members, name) for name in SITES}
        self.members.suspend("Delta")
        self.members.remove("Epsilon")
        for person in ("Ada", "Eve"):
            invitation = self.members.invite(person, kind="researcher", hub="https://x")
            enrolment = UserEnrolment(
                ca=invitation.ca, secret=invitation.secret, name=person, key=key(person).public
            )
            self.members.enrol_user(enrolment.sign(key(person)))
        self.members.remove_user("Eve")
        authority = self.folder.load_authority()
        self.log = Log("Heart failure", authority.fingerprint, self.folder.ledger_key(self.store))

    @classmethod
    def again(cls, first: LostHub) -> LostHub:
        """The hub that took over from the first one, to be lost too."""
        second = cls.__new__(cls)
        second.root, second.folder = first.root, HubFolder(first.root / "new")
        second.copy, second.backup = first.root / "copy2", first.root / "backup2"
        second.store = second.folder.store()
        second.log = replace(first.log, key=second.folder.ledger_key(second.store))
        return second

    @staticmethod
    def join(members: Membership, name: str) -> bytes:
        """Enrol and approve; the certificate."""
        invitation = members.invite(name, kind="site", hub="https://x")
        csr_pem = make_tls_key_and_csr("node")[1].decode()
        enrolment = SiteEnrolment(
            ca=invitation.ca, secret=invitation.secret, name=name, key=key(name).public,
            csr_pem=csr_pem,
        )  # fmt: skip
        members.enrol(enrolment.sign(key(name)))
        members.approve(name)
        return (members.store.latest_certificate(name) or "").encode()

    def rotate(self, name: str) -> bytes:
        """A new certificate for a member."""
        csr_pem = make_tls_key_and_csr("node")[1]
        return self.members.rotate(name, csr_pem, key(name).sign(rotation_bytes(csr_pem)))

    def lose(self, *witnesses: str) -> None:
        """Have the ledger witnessed and copied, back the authority up, and lose the hub."""
        ledger = self.store.ledger
        while ledger.append(self.log, NOW):
            pass
        newest = ledger.newest()
        assert newest is not None
        lines = [
            cosign(Note.parse(newest.note), self.log.origin, name, key(name), 1)
            for name in witnesses or ("Alpha", "Beta", "Gamma")
        ]
        note = add_cosignatures(newest.note, lines)
        mirror = Mirror(ledger.tree(), lambda start, end: ledger.entries(start, end - start), note)
        for path in mirror.paths():
            file = self.copy / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(mirror.get(path))
        self.store.close()
        shutil.copytree(self.folder.authority, self.backup)
        shutil.rmtree(self.folder.path)

    def take_over(self, **changed: Any) -> TakenOverFrom:
        """Make the new hub in ``new``."""
        return take_over_in(self.root, **{"ledger": self.copy, "authority": self.backup, **changed})


def take_over_in(root: Path, **changed: Any) -> TakenOverFrom:
    """Make the new hub of a root folder in which a hub was lost."""
    given = {"ledger": root / "copy", "authority": root / "backup", "clock": lambda: LATER}
    return take_over(root / "new", HubConfig(host="127.0.0.2"), **{**given, **changed})
