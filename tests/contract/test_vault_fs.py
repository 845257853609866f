"""``vault://`` behaves the same over every file system: local, in memory, and on an S3 server."""

from __future__ import annotations

import io
import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest
from tests.support.radosgw import S3Server, s3_server
from tests.support.vault import FRIEND, OWNER, STRANGER, content
from typer.testing import CliRunner

from cohortium.cli.vault import app
from cohortium.errors import ConflictError, InputError, PolicyRefusal, VerificationError
from cohortium.vault.anchor import MemoryAnchor
from cohortium.vault.filesystem import VaultFileSystem
from cohortium.vault.keys import Keyring

__all__ = ["s3_server"]

CHUNK = 1 << 16
LONG = content(40 * CHUNK + 99)
FRAME = pd.DataFrame({"age": range(5000), "sex": ["f", "m"] * 2500, "bmi": np.arange(5000) / 8})

Vault = Callable[..., VaultFileSystem]


class Place:
    """A folder on some file system."""

    def __init__(self, fs: Any, root: str) -> None:
        self.fs, self.root = fs, root

    def vault(self, *keys: Any, **options: Any) -> VaultFileSystem:
        options = {"chunk_bits": 16, "durable": False, **options}
        return VaultFileSystem(Keyring(keys or (OWNER,)), fs=self.fs, **options)

    def __call__(self, name: str) -> str:
        return f"{self.root}/{name}"

    def names(self) -> list[str]:
        self.fs.invalidate_cache()
        return sorted(name.rpartition("/")[2] for name in self.fs.ls(self.root, detail=False))


@pytest.fixture(
    params=[
        "local",
        "memory",
        pytest.param("s3", marks=[pytest.mark.slow, pytest.mark.radosgw]),
    ]
)
def at(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "local":
        yield Place(fsspec.filesystem("file"), str(tmp_path))
        return
    if request.param == "memory":
        fs, root = fsspec.filesystem("memory"), f"/{secrets.token_hex(6)}"
        fs.mkdir(root)
    else:
        pytest.importorskip("s3fs", reason="the extra s3 is not installed")
        server = request.getfixturevalue("s3_server")
        fs = fsspec.filesystem("s3", **server.options, use_listings_cache=False)
        root = f"vault-{secrets.token_hex(6)}"
        fs.mkdir(root)
    yield Place(fs, root)
    fs.rm(root, recursive=True)


def test_what_is_written_is_read_and_is_not_in_the_clear(at: Place) -> None:
    vault = at.vault()
    for name, plain in (("empty", b""), ("short", b"secret"), ("long", LONG), ("parts", LONG * 5)):
        with vault.open(at(name), "wb") as file:
            file.write(plain)
        assert vault.cat_file(at(name)) == plain
        assert vault.info(at(name))["size"] == len(plain)
    assert b"secret" not in at.fs.cat_file(at("short"))
    with vault.open(at("long")) as file:
        assert file.pread(39 * CHUNK, 10) == LONG[39 * CHUNK :][:10]
        file.seek(-50, io.SEEK_END)
        assert file.read() == LONG[-50:]


def test_listings_show_contents_lengths_and_hide_what_stands_beside(at: Place) -> None:
    vault = at.vault()
    vault.pipe_file(at("a.bin"), LONG)
    vault.pipe_file(at("b.txt"), b"text")
    vault.share(at("a.bin"), [FRIEND.public])
    at.fs.pipe_file(at("readme"), b"not a vault file")
    sizes = {entry["name"].rpartition("/")[2]: entry["size"] for entry in vault.ls(at.root)}
    assert sizes == {"a.bin": len(LONG), "b.txt": 4, "readme": None}
    assert [name.rpartition("/")[2] for name in vault.glob(at("*.bin"))] == ["a.bin"]
    assert vault.exists(at("b.txt"))
    assert not vault.exists(at("none"))
    assert vault.isdir(at.root)
    with pytest.raises(FileNotFoundError):
        vault.open(at("none"))
    with pytest.raises(VerificationError):
        vault.open(at("readme"))


def test_files_are_renamed_copied_and_removed_with_those_they_are_shared_with(at: Place) -> None:
    vault, friend = at.vault(), at.vault(FRIEND)
    vault.pipe_file(at("a"), b"one")
    vault.share(at("a"), [FRIEND.public])
    vault.mv(at("a"), at("b"))
    assert friend.cat_file(at("b")) == b"one"
    vault.cp_file(at("b"), at("c"))
    assert friend.cat_file(at("c")) == b"one"
    vault.rm(at("b"))
    vault.rm([at("c")])
    assert at.names() == []


def test_folders_are_those_of_the_file_system_below(at: Place) -> None:
    vault = at.vault()
    vault.makedirs(at("a/b"), exist_ok=True)
    vault.pipe_file(at("a/b/one"), b"1")
    vault.pipe_file(at("a/two"), b"2")
    vault.share(at("a/two"), [FRIEND.public])
    vault.mv(at("a"), at("c"))
    assert [name[len(at.root) :] for name in vault.find(at.root)] == ["/c/b/one", "/c/two"]
    assert at.vault(FRIEND).cat_file(at("c/two")) == b"2"
    before = vault.ukey(at("c/two"))
    vault.pipe_file(at("c/two"), b"22")
    vault.invalidate_cache()
    assert vault.ukey(at("c/two")) != before
    assert vault.modified(at("c/two")).year >= 2026
    with pytest.raises(IsADirectoryError):
        vault.open(at("c"))
    vault.rm(at("c"), recursive=True)
    assert at.names() == []


def test_a_file_that_takes_another_s_place_is_not_shared_as_that_was(at: Place) -> None:
    vault, friend = at.vault(), at.vault(FRIEND)
    vault.pipe_file(at("public"), b"public")
    vault.share(at("public"), [FRIEND.public])
    vault.pipe_file(at("private"), b"private")
    vault.cp_file(at("private"), at("public"))
    assert vault.cat_file(at("public")) == b"private"
    with pytest.raises(PolicyRefusal):
        friend.cat_file(at("public"))
    assert at.names() == ["private", "public"]


def test_a_file_that_is_given_up_leaves_the_old_one(at: Place) -> None:
    if at.fs.protocol == "memory":
        pytest.skip("fsspec's memory file system empties a file when it is opened for writing")
    vault = at.vault()
    vault.pipe_file(at("a"), b"old")

    def stop(mode: str, part: Any) -> None:
        with vault.open(at("a"), mode) as file:
            file.write(part)
            raise RuntimeError("stop")

    for mode, part in (("wb", LONG * 4), ("wb", b"new"), ("w", "new")):
        with pytest.raises(RuntimeError, match="stop"):
            stop(mode, part)
    assert vault.cat_file(at("a")) == b"old"
    assert at.names() == ["a"]


def test_only_recipients_read_and_sharing_rewrites_nothing(at: Place) -> None:
    vault, friend = at.vault(), at.vault(FRIEND)
    vault.pipe_file(at("a"), LONG)
    before = at.fs.cat_file(at("a"))
    with pytest.raises(PolicyRefusal):
        friend.cat_file(at("a"))
    vault.share(at("a"), [FRIEND.public, OWNER.public])
    assert friend.cat_file(at("a")) == LONG
    assert at.fs.cat_file(at("a")) == before
    assert vault.recipients(at("a")) == (OWNER.public.key_id, FRIEND.public.key_id)
    friend.share(at("a"), [STRANGER.public])
    assert at.vault(STRANGER).cat_file(at("a")) == LONG
    assert friend.cat_file(at("a")) == LONG
    vault.pipe_file(at("a"), b"the next version is for the owner alone again")
    with pytest.raises(PolicyRefusal):
        friend.cat_file(at("a"))
    vault.share(at("a"), [FRIEND.public])
    assert len(vault.recipients(at("a"))) == 2


def test_files_are_written_for_others(at: Place) -> None:
    at.vault(recipients=[OWNER.public.to_text(), FRIEND.public]).pipe_file(at("a"), b"both")
    assert at.vault(FRIEND).cat_file(at("a")) == b"both"
    with pytest.raises(VerificationError) as caught:
        at.vault(FRIEND, writers={FRIEND.public.signer}).cat_file(at("a"))
    assert caught.value.code == "unknown-signer"


def test_an_old_version_put_back_is_refused(at: Place) -> None:
    vault = at.vault(anchor=MemoryAnchor())
    vault.pipe_file(at("a"), b"one")
    old, first = at.fs.cat_file(at("a")), vault.header(at("a"))
    vault.pipe_file(at("a"), b"two")
    second = vault.header(at("a"))
    assert (second.file_id, second.version) == (first.file_id, 2)
    at.fs.pipe_file(at("a"), old)
    with pytest.raises(VerificationError) as caught:
        vault.cat_file(at("a"))
    assert caught.value.code == "vault-rollback"
    assert at.vault().cat_file(at("a")) == b"one", "without an anchor nobody can know"
    vault.pipe_file(at("a"), b"three")
    assert vault.header(at("a")).version == 3, "a number is not given twice"
    assert vault.cat_file(at("a")) == b"three"


def test_what_another_wrote_is_replaced_by_a_file_of_ones_own(at: Place) -> None:
    at.vault(STRANGER).pipe_file(at("a"), b"theirs")
    theirs = at.vault().header(at("a"))
    at.fs.pipe_file(at("b"), b"no vault file")
    for name in ("a", "b"):
        at.vault().pipe_file(at(name), b"mine")
        assert at.vault().cat_file(at(name)) == b"mine"
        assert at.vault().header(at(name)).version == 1
    assert at.vault().header(at("a")).file_id != theirs.file_id


def test_modes_that_a_vault_has_not(at: Place) -> None:
    vault = at.vault()
    with vault.open(at("a"), "xb") as file:
        file.write(b"first")
    with pytest.raises(ConflictError):
        vault.open(at("a"), "xb")
    for mode in ("ab", "r+b"):
        with pytest.raises(InputError):
            vault.open(at("a"), mode)


def test_text(at: Place) -> None:
    vault = at.vault()
    with vault.open(at("a"), "w", encoding="utf-8") as file:
        file.write("Zürich\n北京\n")
    with vault.open(at("a"), "r", encoding="utf-8") as file:
        assert file.readlines() == ["Zürich\n", "北京\n"]


@pytest.mark.slow
@pytest.mark.radosgw
def test_the_command_line_keeps_files_in_a_bucket(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("s3fs", reason="the extra s3 is not installed")
    monkeypatch.chdir(tmp_path)
    for name, value in (
        ("COHORTIUM_VAULT_KEYS", str(tmp_path / "alice")),
        ("AWS_ENDPOINT_URL", s3_server.url),
        ("AWS_ACCESS_KEY_ID", s3_server.access_key),
        ("AWS_SECRET_ACCESS_KEY", s3_server.secret_key),
    ):
        monkeypatch.setenv(name, value)
    bucket = f"cli-{secrets.token_hex(6)}"
    fsspec.filesystem("s3", **s3_server.options).mkdir(bucket)
    Path("scan").write_bytes(LONG)
    name = f"s3://{bucket}/scans/one"

    def call(*arguments: str, status: int = 0) -> Any:
        done = CliRunner().invoke(app, [*arguments, "--json"])
        assert done.exit_code == status, done.output
        return json.loads(done.stdout) if status == 0 else done.stderr

    call("keygen", "alice")
    call("keygen", "bob", "--keys", "bob")
    assert call("put", "scan", name)["version"] == 1
    assert call("put", "scan", name)["version"] == 2
    assert call("share", name, "--to", "bob/bob.pub")["size_bytes"] == len(LONG)
    (listed,) = call("ls", f"s3://{bucket}/scans")
    assert (listed["opens"], listed["version"]) == (True, 2)
    call("verify", name, "--from", "alice/alice.pub")
    call("get", name, "bobs", "--keys", "bob")
    assert Path("bobs").read_bytes() == LONG
    assert f"{bucket}/none" in call("get", f"s3://{bucket}/none", "x", status=2)


def test_threads_of_duckdb_that_share_a_file_read_what_is_there(tmp_path: Path) -> None:
    """fsspec's own local files fail here: the threads share one position."""
    vault = VaultFileSystem(Keyring([OWNER]), chunk_bits=16, durable=False)
    numbers = np.random.default_rng(1).normal(size=(400_000, 4))
    table = pa.table({f"x{i}": numbers[:, i] for i in range(4)})
    path = str(tmp_path / "many.parquet")
    pyarrow.parquet.write_table(table, path, filesystem=vault, row_group_size=20_000)
    connection = duckdb.connect(config={"threads": 4})
    connection.register_filesystem(vault)
    query = f"select sum(x0), sum(x1), sum(x2), sum(x3) from read_parquet('vault://{path}')"
    for _ in range(3):
        assert np.allclose(connection.sql(query).fetchall()[0], numbers.sum(axis=0))
    connection.close()


def test_pandas_pyarrow_duckdb_and_numpy_through_ordinary_opens(at: Place) -> None:
    vault = at.vault()
    with vault.open(at("a.csv"), "w") as file:
        FRAME.to_csv(file, index=False)
    with vault.open(at("a.csv")) as file:
        assert pd.read_csv(file).equals(FRAME)
    FRAME.to_parquet(at("a.parquet"), filesystem=vault)
    assert pd.read_parquet(at("a.parquet"), filesystem=vault).equals(FRAME)
    table = pa.Table.from_pandas(FRAME)
    pa.dataset.write_dataset(
        table, at("set"), filesystem=vault, format="parquet", partitioning=["sex"]
    )
    read = pa.dataset.dataset(at("set"), filesystem=vault, partitioning=["sex"])
    assert read.to_table(columns=["age"]).num_rows == len(FRAME)
    connection = duckdb.connect()
    connection.register_filesystem(vault)
    name = f"vault://{at('a.parquet')}"
    assert connection.sql(f"select sum(age) from read_parquet('{name}')").fetchall() == [
        (FRAME.age.sum(),)
    ]
    connection.close()
    with vault.open(at("a.npy"), "wb") as file:
        np.save(file, np.arange(10_000))
    with vault.open(at("a.npy")) as file:
        assert np.load(file).sum() == np.arange(10_000).sum()
    vault.rm(at("set"), recursive=True)
    assert not vault.exists(at("set"))
