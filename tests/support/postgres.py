"""A throw-away PostgreSQL server for tests: fixtures `postgres_server` and `postgres_url`.

Import both into a ``conftest.py`` or a test module; each test that takes `postgres_url` gets a new
database on one server of the session. Skips, with the reason, where the programs are absent.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

_ROLE = "cohortium_test"


def find_programs() -> Path | None:
    """The folder with ``initdb`` and ``pg_ctl``; the newest version first."""
    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = shutil.which("initdb")
    for folder in [*packaged, *([Path(on_path).resolve().parent] if on_path else [])]:
        if (folder / "initdb").exists() and (folder / "pg_ctl").exists():
            return folder
    return None


def _unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root; None where we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class PostgresServer:
    """A running server on 127.0.0.1 with one superuser role."""

    programs: Path
    port: int
    password: str

    def create_database(self) -> str:
        """A new, empty database; returns its name."""
        name = f"t_{secrets.token_hex(6)}"
        subprocess.run(
            [
                self.programs / "createdb",
                "-h",
                "127.0.0.1",
                "-p",
                str(self.port),
                "-U",
                _ROLE,
                name,
            ],
            env={**os.environ, "PGPASSWORD": self.password},
            check=True,
            capture_output=True,
            timeout=60,
        )
        return name

    def url(self, database: str, scheme: str = "postgresql+psycopg") -> str:
        """SQLAlchemy's URL by default; `scheme` ``postgres`` is Ibis's."""
        return f"{scheme}://{_ROLE}:{self.password}@127.0.0.1:{self.port}/{database}"


def _start(programs: Path, folder: Path, password: str, user: str | None) -> int:
    """Initialise and start a cluster in `folder`; returns its port."""

    def run(program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [programs / program, *arguments],
            user=user,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(folder)},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=120,
        )

    password_file = folder / "password"
    password_file.write_text(password)
    if user is not None:
        shutil.chown(folder, user)
        shutil.chown(password_file, user)
    data = str(folder / "data")
    options = ["-A", "scram-sha-256", f"--pwfile={password_file}", "-E", "UTF8", "--no-sync"]
    if run("initdb", "-D", data, "-U", _ROLE, *options).returncode != 0:
        raise RuntimeError("initdb failed")
    for _ in range(5):  # another process may take the port between the probe and the start
        port = _free_port()
        settings = (
            f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories= "
            "-c fsync=off -c max_connections=50"
        )
        log = str(folder / "log")
        if run("pg_ctl", "-D", data, "-l", log, "-w", "-o", settings, "start").returncode == 0:
            return port
    raise RuntimeError(f"PostgreSQL does not start: {(folder / 'log').read_text()[-2000:]}")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for the session."""
    programs = find_programs()
    if programs is None:
        pytest.skip("the PostgreSQL server programs are not installed")
    user = _unprivileged_user()
    if user is None and os.geteuid() == 0:
        pytest.skip("PostgreSQL does not run as root and there is no other user")
    folder = Path(tempfile.mkdtemp(prefix="cohortium-pg-"))
    password = secrets.token_hex(16)
    try:
        yield PostgresServer(programs, _start(programs, folder, password, user), password)
    finally:
        subprocess.run(
            [programs / "pg_ctl", "-D", str(folder / "data"), "-m", "immediate", "stop"],
            user=user,
            cwd=folder,
            capture_output=True,
            check=False,
            timeout=60,
        )
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """SQLAlchemy's URL of a new database."""
    return postgres_server.url(postgres_server.create_database())
