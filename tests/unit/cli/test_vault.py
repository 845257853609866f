"""``cohortium vault`` as a data owner uses it."""

from __future__ import annotations

import json
import resource
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tests.support.vault import content
from typer.testing import CliRunner

from cohortium.cli.vault import app

PLAIN = content(300_000)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COHORTIUM_VAULT_KEYS", str(tmp_path / "alice"))
    Path("scan.bin").write_bytes(PLAIN)
    call("keygen", "alice")
    call("keygen", "bob", "--keys", "bob")
    return tmp_path


def call(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == status, result.output
    return result.stdout if status == 0 else result.stderr


def said(*arguments: str) -> Any:
    return json.loads(call(*arguments, "--json"))


def test_put_ls_share_verify_get() -> None:
    put = said("put", "scan.bin", "scan.v")
    assert (put["version"], put["size_bytes"], put["opens"]) == (1, len(PLAIN), True)
    assert PLAIN[:64] not in Path("scan.v").read_bytes()
    (listed,) = said("ls", ".")
    assert listed == put
    assert "not-authorised" in call("get", "scan.v", "bobs", "--keys", "bob", status=3)
    before = Path("scan.v").read_bytes()
    assert len(said("share", "scan.v", "--to", "bob/bob.pub")["recipients"]) == 2
    assert Path("scan.v").read_bytes() == before
    assert said("get", "scan.v", "bobs", "--keys", "bob")["size_bytes"] == len(PLAIN)
    assert Path("bobs").read_bytes() == PLAIN
    assert Path("bobs").stat().st_mode & 0o777 == 0o600
    assert said("verify", "scan.v", "--id", put["file_id"])["version"] == 1
    assert "intact" in call("verify", "scan.v")


def test_a_put_for_others_and_its_next_version() -> None:
    first = said("put", "scan.bin", "scan.v", "--to", "bob/bob.pub")
    second = said("put", "scan.bin", "scan.v", "--to", Path("bob/bob.pub").read_text().strip())
    assert (second["file_id"], second["version"]) == (first["file_id"], 2)
    call("get", "scan.v", "out", "--keys", "bob", "--from", "alice/alice.pub")
    assert Path("out").read_bytes() == PLAIN
    refused = call("verify", "scan.v", "--from", "bob/bob.pub", status=4)
    assert "unknown-signer" in refused
    call("verify", "scan.v", "--from", first["writer"])


def test_an_old_version_put_back_is_refused_until_it_is_believed() -> None:
    call("put", "scan.bin", "scan.v")
    old = Path("scan.v").read_bytes()
    call("put", "scan.bin", "scan.v")
    Path("scan.v").write_bytes(old)
    assert "vault-rollback" in call("verify", "scan.v", status=4)
    call("get", "scan.v", "out", status=4)
    call("verify", "scan.v", "--forget")
    call("get", "scan.v", "out")


def test_nothing_is_decrypted_from_a_damaged_file(folder: Path) -> None:
    call("put", "scan.bin", "scan.v")
    data = bytearray(Path("scan.v").read_bytes())
    data[-1] ^= 1
    Path("scan.v").write_bytes(data)
    assert "bad-vault-file" in call("get", "scan.v", "out", status=4)
    assert sorted(path.name for path in folder.iterdir()) == [
        "alice",
        "bob",
        "scan.bin",
        "scan.v",
    ]


def test_a_damaged_file_is_one_line_of_a_listing() -> None:
    call("put", "scan.bin", "scan.v")
    data = bytearray(Path("scan.v").read_bytes())
    data[100] ^= 1
    Path("damaged.v").write_bytes(data)
    damaged, good = sorted(said("ls"), key=lambda item: item["path"])
    assert damaged["error"]["code"] == "bad-signature"
    assert good["opens"]
    listing = call("ls")
    assert "signature" in listing
    assert "300,000" in listing


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (("keygen", "alice"), 7, "already-exists"),
        (("keygen", "../x"), 2, "bad-input"),
        (("put", "none", "x"), 2, "not-found"),
        (("put", "scan.bin", "no/such/folder"), 2, "bad-input"),
        (("put", "scan.bin", "nothing://a/b"), 2, "bad-input"),
        (("put", "scan.bin", "x", "--to", "nobody.pub"), 2, "not-found"),
        (("put", "scan.bin", "x", "--to", "scan.bin"), 2, "bad-input"),
        (("get", "none", "x"), 2, "not-found"),
        (("get", "scan.bin", "x"), 4, "bad-vault-file"),
        (("get", "scan.bin", "scan.bin"), 7, "already-exists"),
        (("ls", "none"), 2, "not-found"),
        (("ls", "--keys", "none"), 2, "keygen"),
        (("share", "none", "--to", "bob/bob.pub"), 2, "not-found"),
        (("verify", "scan.bin"), 4, "bad-vault-file"),
    ],
)
def test_errors_say_what_is_wrong(arguments: tuple[str, ...], status: int, text: str) -> None:
    assert text in call(*arguments, status=status)


def test_another_identity_is_refused() -> None:
    call("put", "scan.bin", "scan.v")
    assert "vault-identity" in call("verify", "scan.v", "--id", "00" * 16, status=4)


def test_an_empty_folder_says_so_and_folders_take_the_file_s_name(folder: Path) -> None:
    (folder / "in").mkdir()
    assert "No vault file" in call("ls", "in")
    call("put", "scan.bin", "in")
    (folder / "out").mkdir()
    call("get", "in/scan.bin", "out")
    assert Path("out/scan.bin").read_bytes() == PLAIN


def test_a_kind_of_url_without_its_library_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    # An earlier test may have loaded it.
    known = import_module("fsspec.registry")._registry
    monkeypatch.delitem(known, "s3", raising=False)
    assert "cohortium[s3]" in call("ls", "s3://bucket/x", status=2)


def test_a_disk_that_takes_a_part_gives_no_half_file() -> None:
    call("put", "scan.bin", "scan.v")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        assert "does not do that" in call("get", "scan.v", "out", status=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not Path("out").exists()
    assert not list(Path().glob(".out*"))


def test_a_name_of_the_vault_s_own_files_is_refused() -> None:
    assert "the vault's own" in call("put", "scan.bin", "scan.grants", status=2)
    assert not Path("scan.grants").exists()
