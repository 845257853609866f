"""The hub's directory: what `cohortium hub init` makes and the operator's commands work on."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from cohortium.core.clock import Clock, system_clock
from cohortium.crypto.authority import Authority, read_certificate
from cohortium.crypto.files import held_alone, write_atomically, write_private
from cohortium.crypto.keys import SigningKey
from cohortium.errors import ConflictError, InputError
from cohortium.hub.config import CONFIG_FILE, HubConfig
from cohortium.hub.members import Membership
from cohortium.hub.store import HubStore
from cohortium.ledger.checkpoint import log_key, origin

RENEW_BEFORE = timedelta(days=30)
LEDGER_PUBLIC = "ledger.pub"
"""In the authority's folder, so that its backup says which keys sign the ledger."""


@dataclass(frozen=True)
class HubFolder:
    """Paths and small files below `path`."""

    path: Path

    @property
    def authority(self) -> Path:
        """Folder of the CA."""
        return self.path / "ca"

    @property
    def tls_key(self) -> Path:
        """The hub's TLS key."""
        return self.path / "tls" / "hub.key"

    @property
    def tls_certificate(self) -> Path:
        """The hub's TLS certificate."""
        return self.path / "tls" / "hub.pem"

    @property
    def ledger_file(self) -> Path:
        """The key that signs the ledger."""
        return self.path / "ledger.pem"

    @property
    def objects(self) -> Path:
        """Folder of large journal entries."""
        return self.path / "objects"

    @property
    def tasks(self) -> Path:
        """Folder of programs and of outputs of tasks."""
        return self.path / "tasks"

    def config(self) -> HubConfig:
        """The settings; InputError where this is no hub's directory."""
        return HubConfig.load(self.path)

    def load_authority(self) -> Authority:
        """The consortium's CA."""
        return Authority.load(self.authority)

    def ledger_key(self, store: HubStore) -> SigningKey:
        """The key that signs the ledger; made here where the folder is older than the ledger.

        Raises:
            InputError: ``not-found`` where the ledger has entries, and its key is gone.
        """
        if not self.ledger_file.exists():
            if store.ledger.size():
                raise InputError(
                    "not-found",
                    f"The ledger's key {self.ledger_file} is missing: bring it back from your "
                    "backup. With another key, every node would take this hub for a false one.",
                )
            SigningKey.generate().save(self.ledger_file)
        key = SigningKey.load(self.ledger_file)
        text = log_key(origin(self.load_authority().fingerprint), key.public).text
        known = self.ledger_keys()
        if not known or known[-1] != text:
            self.write_ledger_keys([*known, text])
        return key

    def ledger_keys(self) -> list[str]:
        """Verifier keys of the ledger: those of hubs that were lost, oldest first, then our own."""
        return read_ledger_keys(self.authority)

    def write_ledger_keys(self, keys: Iterable[str]) -> None:
        """See `ledger_keys`."""
        text = "".join(f"{key}\n" for key in keys)
        write_atomically(self.authority / LEDGER_PUBLIC, text.encode())

    def store(self) -> HubStore:
        """Open the database."""
        return HubStore(self.config().engine_url(self.path))

    def workflow_url(self) -> str:
        """Where DBOS keeps its tables: a file of its own, or the same PostgreSQL database."""
        config = self.config()
        if config.database_url.startswith("sqlite"):
            return f"sqlite:///{(self.path / 'workflows.db').resolve()}"
        return config.database_url

    def membership(self, store: HubStore, clock: Clock = system_clock) -> Membership:
        """The operator's operations."""
        authority = self.load_authority()
        return Membership(
            store.members,
            name=self.config().name,
            fingerprint=authority.fingerprint,
            authority=authority,
            clock=clock,
            random=os.urandom,
        )

    # Where the hub listens

    def address(self) -> dict[str, Any]:
        """What the last `serve` wrote: ``rest_port``, ``link_port``, ``rest``, ``link``."""
        try:
            found: dict[str, Any] = json.loads((self.path / "address.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return found

    def write_address(self, rest_port: int, link_port: int) -> dict[str, Any]:
        """Note where the hub listens."""
        host = self.config().public_host
        shown = f"[{host}]" if ":" in host else host
        address = {
            "rest_port": rest_port,
            "link_port": link_port,
            "rest": f"https://{shown}:{rest_port}",
            "link": f"{shown}:{link_port}",
        }
        write_atomically(self.path / "address.json", json.dumps(address).encode())
        return address

    def rest_address(self) -> str:
        """The REST address for invitations.

        Raises:
            ConflictError: ``wrong-state`` where no port is configured and none was picked yet.
        """
        config = self.config()
        if config.rest_port:
            host = config.public_host
            return f"https://{f'[{host}]' if ':' in host else host}:{config.rest_port}"
        address = self.address().get("rest")
        if not isinstance(address, str):
            raise ConflictError(
                "wrong-state",
                "The hub has no address yet: run `cohortium hub serve` first, or set rest_port in "
                f"{self.path / CONFIG_FILE}.",
            )
        return address

    # Who is connected, for the operator's commands

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Hold the directory for the one process that serves it.

        Raises:
            ConflictError: ``wrong-state``.
        """
        with held_alone(self.path / "serve.lock", "This hub"):
            self.write_connected(())
            yield

    def write_connected(self, sites: Iterable[str]) -> None:
        """Note who is connected; not durable, and void when nobody serves."""
        temporary = self.path / ".links.json"
        temporary.write_text(json.dumps(sorted(sites)), encoding="utf-8")
        temporary.replace(self.path / "links.json")

    def connected(self) -> frozenset[str]:
        """Institutions whose links are up, as the serving process noted."""
        try:
            descriptor = os.open(self.path / "serve.lock", os.O_RDWR)
        except OSError:
            return frozenset()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return frozenset(json.loads((self.path / "links.json").read_text(encoding="utf-8")))
        finally:
            os.close(descriptor)
        return frozenset()

    # The hub's own certificate

    def issue_certificate(self, clock: Clock = system_clock) -> None:
        """A new TLS key and certificate for the hub."""
        config = self.config()
        hosts = [config.public_host]
        if config.host not in {*hosts, "0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
            hosts.append(config.host)
        identity = self.load_authority().issue_hub(hosts, clock())
        write_private(self.tls_key, identity.key_pem)
        write_atomically(self.tls_certificate, identity.certificate_pem)

    def renew_certificate(self, clock: Clock = system_clock) -> None:
        """Issue a new certificate when the present one ends within a month."""
        facts = read_certificate(self.tls_certificate.read_bytes())
        if facts.not_after - clock() < RENEW_BEFORE:
            self.issue_certificate(clock)


def read_ledger_keys(authority: Path) -> list[str]:
    """What the authority's folder, or a backup of it, says of the ledger's keys."""
    try:
        return (authority / LEDGER_PUBLIC).read_text(encoding="utf-8").split()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise InputError("bad-config", f"Cannot read {authority / LEDGER_PUBLIC}.") from error


def create(path: Path, config: HubConfig, clock: Clock = system_clock) -> HubFolder:
    """Make a consortium: CA, the hub's certificate, database.

    Raises:
        ConflictError: ``already-exists`` where the folder holds something.
        InputError: ``bad-config``.
    """
    if path.exists() and any(path.iterdir()):
        raise ConflictError("already-exists", f"{path} is not empty; choose another folder.")
    return make(path, config, Authority.create(config.name, clock()), clock)


def make(path: Path, config: HubConfig, authority: Authority, clock: Clock) -> HubFolder:
    """Write a hub's folder for an authority: settings, keys, certificate, an empty database.

    Raises:
        InputError: ``bad-config``.
        ConflictError: ``already-exists`` where the database holds a ledger.
    """
    folder = HubFolder(path)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    authority.save(folder.authority)
    write_private(path / CONFIG_FILE, _toml(config).encode())
    folder.issue_certificate(clock)
    store = folder.store()
    try:
        if store.ledger.size():
            raise ConflictError("already-exists", "The database is that of a hub already.")
        folder.ledger_key(store)
    finally:
        store.close()
    return folder


def _toml(config: HubConfig) -> str:
    lines = []
    for name, value in config.model_dump().items():
        if isinstance(value, str) and not value.isprintable():
            raise InputError("bad-config", f"{name} holds characters that cannot be printed.")
        # A JSON string without escapes of the BMP's surrogates is a TOML basic string.
        lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}")
    return "# Settings of this hub; restart it after a change.\n" + "\n".join(lines) + "\n"
