"""Environments of Python packages, made from a lock file and used by a task."""

from __future__ import annotations

import base64
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest
from tests.support.enclave_hub import World

from cohortium.core.canonical import digest_bytes
from cohortium.enclave.executors.landlock import Landlock
from cohortium.errors import ConflictError, InputError, PolicyRefusal
from cohortium.worker.packages import PackageSets

PROGRAM = """
    import pathlib, sys
    import islandlib
    (pathlib.Path(sys.argv[3]) / "word.txt").write_text(islandlib.WORD)
    try:
        import cohortium
    except ImportError:
        print("alone")
"""


def a_wheel(folder: Path) -> bytes:
    """A package of one module; gives the lock file that names it with its hash."""
    folder.mkdir()
    info = "islandlib-1.2.dist-info"
    files = {
        "islandlib.py": b"WORD = 'from the wheel'\n",
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: islandlib\nVersion: 1.2\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
        b"Tag: py3-none-any\n",
    }
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(sha256(data).digest()).rstrip(b'=').decode()},"
        f"{len(data)}\n"
        for name, data in files.items()
    )
    place = folder / "islandlib-1.2-py3-none-any.whl"
    with zipfile.ZipFile(place, "w") as archive:
        files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
        for name, data in files.items():
            archive.writestr(name, data)
    return f"islandlib==1.2 --hash=sha256:{sha256(place.read_bytes()).hexdigest()}\n".encode()


@pytest.mark.skipif(bool(Landlock().missing()), reason="no sandbox on this machine")
async def test_a_task_has_the_packages_that_it_locks_and_no_others(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    lock = a_wheel(wheels)
    world = World(tmp_path, program=PROGRAM, extra_files={"requirements.lock": lock})
    made = PackageSets(world.directory.packages).add(
        tmp_path / "program" / "requirements.lock", wheels
    )
    assert (made.packages, made.hashed) == (("islandlib==1.2",), True)
    assert made.digest == digest_bytes(lock)
    await world.run()
    assert world.outcome().end == "succeeded"
    assert world.opened("result", world.ada_vault) == {"word.txt": b"from the wheel"}
    assert world.opened("log", world.ada_vault) == {"log.txt": b"alone\n"}

    sets = PackageSets(world.directory.packages)
    with pytest.raises(ConflictError, match="already"):
        sets.add(tmp_path / "program" / "requirements.lock", wheels)
    assert sets.of_program({"requirements.lock": lock}) == (made.path,)
    assert sets.of_program({"main.py": b""}) == ()
    with pytest.raises(InputError, match="0 environments"):
        sets.remove("ffff")
    assert sets.remove(made.digest[:20]) == made
    assert sets.all() == []
    with pytest.raises(PolicyRefusal, match="packages add"):
        sets.of_program({"requirements.lock": lock})


def test_a_lock_file_that_cannot_be_installed_leaves_nothing(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_bytes(a_wheel(tmp_path / "wheels").replace(b"sha256:", b"sha256:0"))
    sets = PackageSets(tmp_path / "packages")
    with pytest.raises(InputError, match="pip cannot install"):
        sets.add(lock, tmp_path / "wheels")
    assert list((tmp_path / "packages").iterdir()) == []
    with pytest.raises(InputError, match="Cannot read"):
        sets.add(tmp_path / "none.lock")
    with pytest.raises(InputError, match="no folder"):
        sets.add(lock, tmp_path / "none")
