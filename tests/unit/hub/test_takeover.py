"""A new hub from a copy of the ledger and the authority's backup."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cohortium.cli.hub import app
from cohortium.crypto.authority import Authority, make_tls_key_and_csr
from cohortium.crypto.enrolment import SiteEnrolment, UserEnrolment, rotation_bytes
from cohortium.crypto.keys import SigningKey
from cohortium.errors import CohortiumError, ConflictError, InputError, VerificationError
from cohortium.hub.config import HubConfig
from cohortium.hub.folder import HubFolder, create
from cohortium.hub.ledger_store import Log
from cohortium.hub.members import Membership
from cohortium.hub.takeover import TakenOverFrom, take_over
from cohortium.ledger.checkpoint import (
    add_cosignatures,
    cosign,
    log_key,
    open_checkpoint,
    origin,
)
from cohortium.ledger.entry import TakenOver, parse_entry
from cohortium.ledger.merkle import verify_consistency
from cohortium.ledger.note import Note
from cohortium.ledger.tiles import Mirror, read_folder

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
LATER = NOW + timedelta(days=3)
SITES = ("Alpha", "Beta", "Gamma", "Delta", "Epsilon")


def key(name: str) -> SigningKey:
    return SigningKey.from_seed(name.encode().ljust(32, b"."))


class Old:
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
        given = {"ledger": self.copy, "authority": self.backup, "clock": lambda: LATER}
        return take_over(self.root / "new", HubConfig(host="127.0.0.2"), **{**given, **changed})


@pytest.fixture
def old(tmp_path: Path) -> Old:
    return Old(tmp_path)


def refused(old: Old, error: type[CohortiumError], **changed: Any) -> CohortiumError:
    with pytest.raises(error) as refusal:
        old.take_over(**changed)
    assert sorted(path.name for path in old.root.iterdir()) == ["backup", "copy"]
    return refusal.value


def test_members_and_researchers_are_as_they_were(old: Old) -> None:
    old.lose()
    found = old.take_over()
    assert (found.name, found.members, found.researchers) == (
        "Heart failure", ("Alpha", "Beta", "Gamma"), 1,
    )  # fmt: skip
    folder = HubFolder(old.root / "new")
    assert folder.config().name == "Heart failure"
    assert folder.config().host == "127.0.0.2"
    store = folder.store()
    members = folder.membership(store, lambda: LATER)
    assert {m.name: (m.key, m.status) for m in store.members.members()} == {
        "Alpha": (key("Alpha").public, "approved"),
        "Beta": (key("Beta").public, "approved"),
        "Gamma": (key("Gamma").public, "approved"),
        "Delta": (key("Delta").public, "suspended"),
        "Epsilon": (key("Epsilon").public, "removed"),
    }
    let_in = {name: members.authorise(pem) for name, pem in old.certificates.items()}
    assert let_in == {
        "Alpha": "Alpha", "Beta": "Beta", "Gamma": "Gamma", "Delta": None, "Epsilon": None,
    }  # fmt: skip
    assert {user.name: user.status for user in store.members.users()} == {
        "Ada": "active", "Eve": "removed",
    }  # fmt: skip
    assert store.members.revoked_keys() == {key("Eve").public}
    store.close()


def test_the_certificate_that_counts_is_the_last_one(old: Old) -> None:
    rotated = old.rotate("Alpha")
    old.members.revoke_certificates("Beta")
    old.members.suspend("Gamma")
    old.members.reinstate("Gamma")
    old.lose("Alpha", "Beta", "Gamma")
    old.take_over()
    folder = HubFolder(old.root / "new")
    store = folder.store()
    members = folder.membership(store, lambda: LATER)
    assert members.authorise(rotated) == "Alpha"
    assert members.authorise(old.certificates["Alpha"]) is None
    assert members.authorise(old.certificates["Beta"]) is None
    assert members.authorise(old.certificates["Gamma"]) == "Gamma"
    assert store.members.latest_certificate("Gamma") is None
    again = old.join(members, "Beta")
    assert members.authorise(again) == "Beta"
    store.close()


def test_the_ledger_goes_on_under_a_new_key(old: Old) -> None:
    before = old.store.ledger
    while before.append(old.log, NOW):
        pass
    size, root = before.size(), before.tree().root()
    kept = before.entries(0, size)
    old.lose()
    found = old.take_over()
    assert found.size == size
    folder = HubFolder(old.root / "new")
    store = folder.store()
    ledger = store.ledger
    assert ledger.entries(0, size) == kept
    last = parse_entry(ledger.entry(size))
    authority = folder.load_authority()
    log = Log("Heart failure", authority.fingerprint, folder.ledger_key(store))
    assert log.origin == old.log.origin
    assert log.verifier != old.log.verifier
    assert last.fact == TakenOver(size=size, key=log.verifier.text)
    assert last.at == LATER
    newest = ledger.newest()
    assert newest is not None
    assert not newest.final
    checkpoint, _ = open_checkpoint(newest.note, log.verifier)
    proof = ledger.tree().consistency_proof(size)
    verify_consistency(size, root, checkpoint.size, checkpoint.root, proof)
    assert checkpoint.size == ledger.size() == size + 1
    assert not ledger.pending()
    # The next backup of the authority names the new key; what was taken over stays as evidence.
    assert folder.ledger_keys() == [old.log.verifier.text, log.verifier.text]
    note = read_folder(old.copy)("checkpoint")
    assert (folder.path / "taken-over.checkpoint").read_bytes() == note
    with_earlier = replace(log, earlier=(old.log.verifier.text,))
    assert ledger.log_keys(with_earlier) == {0: old.log.verifier.text, size: log.verifier.text}
    with pytest.raises(InputError):
        ledger.log_keys(log)
    store.close()


def test_a_hub_that_took_over_can_be_taken_over(old: Old) -> None:
    old.lose()
    old.take_over()
    folder = HubFolder(old.root / "new")
    second = Old.__new__(Old)
    second.root, second.copy, second.backup = old.root, old.root / "copy2", old.root / "backup2"
    second.folder, second.store = folder, folder.store()
    second.log = Log(
        "Heart failure", folder.load_authority().fingerprint, folder.ledger_key(second.store)
    )
    second.lose()
    with pytest.raises(VerificationError):
        second.take_over(authority=old.backup)  # names the key before the last
    note = read_folder(second.copy)("checkpoint") or b""
    size = open_checkpoint(note, second.log.verifier)[0].size
    assert second.take_over().size == size
    third = HubFolder(old.root / "new")
    store = third.store()
    *earlier, own = third.ledger_keys()
    assert earlier == [old.log.verifier.text, second.log.verifier.text]
    log = Log("", old.log.fingerprint, third.ledger_key(store), tuple(earlier))
    assert store.ledger.log_keys(log) == dict(
        zip((0, size - 1, size), [*earlier, own], strict=True)
    )
    store.close()


def test_a_copy_that_is_not_final_is_refused(old: Old) -> None:
    old.lose("Alpha", "Beta")
    assert refused(old, VerificationError).code == "not-final"


@pytest.mark.parametrize("path", ["tile/0", "tile/entries", "checkpoint"])
def test_a_copy_that_was_altered_is_refused(old: Old, path: str) -> None:
    old.lose()
    found = old.copy / path
    file = found if found.is_file() else next(one for one in found.rglob("*") if one.is_file())
    data = bytearray(file.read_bytes())
    data[60] ^= 1
    file.write_bytes(data)
    assert refused(old, VerificationError).code in {"bad-proof", "bad-checkpoint"}


def test_a_copy_that_changes_while_it_is_read_is_refused(
    old: Old, monkeypatch: pytest.MonkeyPatch
) -> None:
    old.lose()
    note = old.copy / "checkpoint"
    made = HubFolder.ledger_key

    def altered(self: HubFolder, store: Any) -> SigningKey:
        line = cosign(Note.parse(note.read_bytes()), old.log.origin, "X", key("X"), 1)
        note.write_bytes(note.read_bytes() + line)
        return made(self, store)

    monkeypatch.setattr(HubFolder, "ledger_key", altered)
    assert refused(old, ConflictError).code == "wrong-state"


def test_the_authority_of_another_consortium_is_refused(old: Old) -> None:
    old.lose()
    other = old.root / "backup"
    text = (other / "ledger.pub").read_text()
    shutil.rmtree(other)
    Authority.create("Another", NOW).save(other)
    assert refused(old, InputError).code == "not-found"
    assert refused(old, InputError, ledger_key=text.strip()).code == "bad-input"


def test_the_ledgers_key_comes_from_elsewhere_than_the_copy(old: Old) -> None:
    old.lose()
    text = old.log.verifier.text
    (old.backup / "ledger.pub").rename(old.copy / "ledger.pub")
    error = refused(old, InputError)
    assert error.code == "not-found"
    assert "--ledger-key" in error.message
    forged = log_key(old.log.origin, key("Mallory").public).text
    assert refused(old, VerificationError, ledger_key=forged).code == "bad-checkpoint"
    assert refused(old, VerificationError, ledger_key="nonsense").code == "bad-checkpoint"
    assert old.take_over(ledger_key=text).name == "Heart failure"


def test_an_authority_without_its_private_key_is_refused(old: Old) -> None:
    old.lose()
    (old.backup / "ca.key").unlink()
    assert refused(old, InputError).code == "not-found"


def test_a_folder_or_database_that_holds_something_is_refused(old: Old) -> None:
    old.lose()
    new = old.root / "new"
    new.mkdir()
    (new / "file").touch()
    with pytest.raises(ConflictError):
        old.take_over()
    (new / "file").unlink()
    old.take_over()
    used = f"sqlite:///{old.root / 'new' / 'hub.db'}"
    with pytest.raises(ConflictError) as refusal:
        take_over(
            old.root / "third", HubConfig(database_url=used), ledger=old.copy,
            authority=old.backup, clock=lambda: LATER,
        )  # fmt: skip
    assert refusal.value.code == "already-exists"
    assert not (old.root / "third").exists()


def test_by_command(old: Old) -> None:
    old.lose()
    new = str(old.root / "new")

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["init", new, *arguments, "--json"])
        return done.exit_code, done.output

    ledger, authority = ("--ledger", str(old.copy)), ("--authority", str(old.backup))
    code, text = run(*ledger)
    assert code == InputError.exit_code
    assert "invite every member and researcher anew" in text
    assert run(*authority)[0] == InputError.exit_code
    assert run(*ledger, *authority, "--name", "Other")[0] == InputError.exit_code
    assert not os.path.lexists(new)
    code, text = run(*ledger, *authority, "--rest-port", "8443")
    assert code == 0, text
    made = json.loads(text)
    assert made["members"] == ["Alpha", "Beta", "Gamma"]
    folder = HubFolder(Path(new))
    assert folder.config().rest_port == 8443
    assert folder.load_authority().fingerprint == Authority.load(old.backup).fingerprint
    assert origin(Authority.load(old.backup).fingerprint) == old.log.origin
