"""A vault's files as inputs and outputs of a task in a sandbox."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.tasks import job, run

from cohortium.enclave.executor import Executor, executors
from cohortium.enclave.job import Job
from cohortium.enclave.vaulted import VaultedInput, VaultedOutputs
from cohortium.errors import InputError, VerificationError
from cohortium.vault.filesystem import VaultFileSystem
from cohortium.vault.keys import Keyring, PrivateKey


@pytest.fixture
def vault() -> VaultFileSystem:
    return VaultFileSystem(Keyring([PrivateKey.generate()]))


@pytest.fixture
def sandbox() -> Executor:
    found = executors()["landlock"]
    if found.missing():
        pytest.skip("; ".join(found.missing()))
    return found


@pytest.fixture
def images(vault: VaultFileSystem, tmp_path: Path) -> str:
    folder = str(tmp_path / "images")
    vault.makedirs(f"{folder}/deep")
    for name, content in (("a.bin", b"first " * 300_000), ("deep/b.bin", b""), ("c.bin", b"last")):
        with vault.open(f"{folder}/{name}", "wb") as file:
            file.write(content)
    return folder


PROGRAM = """
    import pathlib, sys
    top, out = map(pathlib.Path, sys.argv[1:])
    for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
        if path.is_file():
            print(path.relative_to(top), path.stat().st_size, path.read_bytes()[:5])
            (out / "sizes.txt").open("a").write(f"{path.stat().st_size} ")
"""


def test_a_folder_of_a_vault_is_plain_files_inside(
    vault: VaultFileSystem, images: str, sandbox: Executor, tmp_path: Path
) -> None:
    done = run(sandbox, job(tmp_path, PROGRAM, {"images": VaultedInput(vault, images)}), tmp_path)
    assert done.log.splitlines() == [
        "a.bin 1800000 b'first'",
        "c.bin 4 b'last'",
        "deep/b.bin 0 b''",
    ]
    assert b"first" not in (Path(images) / "a.bin").read_bytes()


def test_one_file_is_one_file_inside(
    vault: VaultFileSystem, images: str, sandbox: Executor, tmp_path: Path
) -> None:
    given = {"image": VaultedInput(vault, f"{images}/c.bin")}
    assert run(sandbox, job(tmp_path, PROGRAM, given), tmp_path).log == ". 4 b'last'"


def test_outputs_are_encrypted_as_they_leave(
    vault: VaultFileSystem, images: str, sandbox: Executor, tmp_path: Path
) -> None:
    made: Job = job(tmp_path, PROGRAM, {"images": VaultedInput(vault, images)})
    running = sandbox.start(sandbox.prepare(made))
    assert running.wait().end == "succeeded"
    results = str(tmp_path / "results")
    running.collect(VaultedOutputs(vault, results))
    assert vault.cat_file(f"{results}/out/sizes.txt") == b"1800000 4 0 "
    assert b"1800000" not in (tmp_path / "results" / "out" / "sizes.txt").read_bytes()


def test_a_file_that_was_changed_does_not_start_a_task(
    vault: VaultFileSystem, images: str, sandbox: Executor, tmp_path: Path
) -> None:
    file = Path(images) / "a.bin"
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)
    given = {"images": VaultedInput(vault, images)}
    with pytest.raises(VerificationError) as caught:
        run(sandbox, job(tmp_path, PROGRAM, given), tmp_path)
    assert caught.value.code == "bad-vault-file"


def test_another_ones_file_does_not_start_a_task(
    images: str, sandbox: Executor, tmp_path: Path
) -> None:
    other = VaultFileSystem(Keyring([PrivateKey.generate()]))
    with pytest.raises(Exception, match="None of your keys opens this file"):
        run(sandbox, job(tmp_path, PROGRAM, {"images": VaultedInput(other, images)}), tmp_path)


def test_a_place_where_nothing_is_is_said(vault: VaultFileSystem, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing at"):
        VaultedInput(vault, str(tmp_path / "nowhere"))
