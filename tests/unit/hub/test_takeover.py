"""A new hub from a copy of the ledger and the authority's backup."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.lost_hub import LATER, NOW, LostHub, key
from typer.testing import CliRunner

from cohortium.cli.hub import app
from cohortium.crypto.authority import Authority
from cohortium.crypto.keys import SigningKey
from cohortium.errors import CohortiumError, ConflictError, InputError, VerificationError
from cohortium.hub.config import HubConfig
from cohortium.hub.folder import HubFolder
from cohortium.hub.ledger_store import Log
from cohortium.hub.takeover import take_over
from cohortium.ledger.checkpoint import cosign, log_key, open_checkpoint, origin
from cohortium.ledger.entry import TakenOver, parse_entry
from cohortium.ledger.merkle import verify_consistency
from cohortium.ledger.note import Note
from cohortium.ledger.tiles import read_folder


@pytest.fixture
def old(tmp_path: Path) -> LostHub:
    return LostHub(tmp_path)


def refused(old: LostHub, error: type[CohortiumError], **changed: Any) -> CohortiumError:
    with pytest.raises(error) as refusal:
        old.take_over(**changed)
    assert sorted(path.name for path in old.root.iterdir()) == ["backup", "copy"]
    return refusal.value


def test_members_and_researchers_are_as_they_were(old: LostHub) -> None:
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


def test_the_certificate_that_counts_is_the_last_one(old: LostHub) -> None:
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


def test_the_ledger_goes_on_under_a_new_key(old: LostHub) -> None:
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


def test_a_hub_that_took_over_can_be_taken_over(old: LostHub) -> None:
    old.lose()
    old.take_over()
    second = LostHub.again(old)
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


def test_a_copy_that_is_not_final_is_refused(old: LostHub) -> None:
    old.lose("Alpha", "Beta")
    assert refused(old, VerificationError).code == "not-final"


@pytest.mark.parametrize("path", ["tile/0", "tile/entries", "checkpoint"])
def test_a_copy_that_was_altered_is_refused(old: LostHub, path: str) -> None:
    old.lose()
    found = old.copy / path
    file = found if found.is_file() else next(one for one in found.rglob("*") if one.is_file())
    data = bytearray(file.read_bytes())
    data[60] ^= 1
    file.write_bytes(data)
    assert refused(old, VerificationError).code in {"bad-proof", "bad-checkpoint"}


def test_a_copy_that_changes_while_it_is_read_is_refused(
    old: LostHub, monkeypatch: pytest.MonkeyPatch
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


def test_the_authority_of_another_consortium_is_refused(old: LostHub) -> None:
    old.lose()
    other = old.root / "backup"
    text = (other / "ledger.pub").read_text()
    shutil.rmtree(other)
    Authority.create("Another", NOW).save(other)
    assert refused(old, InputError).code == "not-found"
    assert refused(old, InputError, ledger_key=text.strip()).code == "bad-input"


def test_the_ledgers_key_comes_from_elsewhere_than_the_copy(old: LostHub) -> None:
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


def test_an_authority_without_its_private_key_is_refused(old: LostHub) -> None:
    old.lose()
    (old.backup / "ca.key").unlink()
    assert refused(old, InputError).code == "not-found"


def test_a_folder_or_database_that_holds_something_is_refused(old: LostHub) -> None:
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


def test_by_command(old: LostHub) -> None:
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
