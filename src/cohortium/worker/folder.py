"""The enclave's settings, ``enclave.toml``, and where its files are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, StringConstraints
from pydantic_settings import SettingsConfigDict

from cohortium.contract.task import MIB, ExecutorName
from cohortium.core.dictionary import Digest, Label
from cohortium.core.settings import Settings
from cohortium.crypto.files import write_atomically
from cohortium.crypto.keys import SigningKey
from cohortium.errors import InputError

Address = Annotated[str, StringConstraints(pattern=r"^[^\s/]+:[0-9]{1,5}$")]
GIB: Final = 1024 * MIB
PREFERRED: Final = (
    *("landlock", "bubblewrap", "gvisor", "tpm"),
    *("tdx", "sev-snp", "gramine", "occlum", "scone", "simulated"),
)
"""The first that reaches a contract's level here is taken. Not `process`: a task in it could read
the enclave's own key.
"""


class EnclaveConfig(Settings):
    """What ``enclave.toml`` says; ``COHORTIUM_ENCLAVE_LINK_ADDRESS`` and the like go before it.

    Attributes:
        name: The enclave's name in the consortium.
        consortium: The consortium's name.
        consortium_fingerprint: Of the CA certificate beside it.
        hub_url: The hub's REST address.
        link_address: ``host:port`` that it dials.
        proxy: HTTP proxy (``host:port``) through which it dials.
        executors: Those that may run tasks here; the first that reaches a contract's level does.
        max_tasks: So many at a time; further ones wait.
        max_memory_bytes: Of all tasks together, by their limits; absent: three quarters of the
            machine's.
        max_cache_bytes: Ciphertext of what was lent that is kept for later runs.
    """

    model_config = SettingsConfigDict(env_prefix="COHORTIUM_ENCLAVE_")

    name: Label
    consortium: Label
    consortium_fingerprint: Digest
    hub_url: str
    link_address: Address
    proxy: str | None = None
    executors: Annotated[tuple[ExecutorName, ...], Field(min_length=1)] = PREFERRED
    max_tasks: Annotated[int, Field(ge=1, le=1000)] = 1
    max_memory_bytes: Annotated[int, Field(ge=16 * MIB)] | None = None
    max_cache_bytes: Annotated[int, Field(ge=0)] = 64 * GIB

    @property
    def memory_bytes(self) -> int:
        """What all tasks together may have."""
        if self.max_memory_bytes is not None:
            return self.max_memory_bytes
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 3 // 4


@dataclass(frozen=True)
class EnclaveDir:
    """The files of an enclave; nothing that was lent is in them in the clear."""

    path: Path

    @property
    def config(self) -> Path:
        """Settings."""
        return self.path / "enclave.toml"

    @property
    def contract_key(self) -> Path:
        """The Ed25519 key that signs offers, outcomes and outputs."""
        return self.path / "enclave.key"

    @property
    def ca(self) -> Path:
        """The consortium's CA certificate."""
        return self.path / "ca.pem"

    @property
    def tls(self) -> Path:
        """One folder for each TLS key; see `cohortium.crypto.tls_keys`."""
        return self.path / "tls"

    @property
    def store(self) -> Path:
        """Which runs were begun, and how they ended."""
        return self.path / "enclave.db"

    @property
    def cache(self) -> Path:
        """Ciphertext of what was lent."""
        return self.path / "cache"

    @property
    def packages(self) -> Path:
        """Environments of Python packages, by the digest of their lock file."""
        return self.path / "packages"

    @property
    def runs(self) -> Path:
        """Programs, and links to ciphertext, of the runs under way."""
        return self.path / "runs"

    @property
    def serving(self) -> Path:
        """What the serving process says of itself."""
        return self.path / "serving.json"

    @property
    def lock(self) -> Path:
        """Held by the serving process."""
        return self.path / "serving.lock"

    @property
    def pending(self) -> Path:
        """The invitation, until the certificate is here."""
        return self.path / "joining.json"

    def load_config(self) -> EnclaveConfig:
        """Read the settings.

        Raises:
            InputError: ``not-found`` or ``bad-config``.
        """
        try:
            data = self.config.read_bytes()
        except OSError as error:
            raise InputError(
                "not-found",
                f"{self.path} is no enclave's folder. Begin with: cohortium enclave init",
            ) from error
        return EnclaveConfig.from_toml(data, self.config)

    def save_config(self, config: EnclaveConfig) -> None:
        """Write the settings."""
        write_atomically(self.config, config.to_toml("this enclave").encode())

    def load_identity(self, config: EnclaveConfig) -> Identity:
        """Who this enclave is."""
        return Identity(
            config.name, config.consortium_fingerprint, SigningKey.load(self.contract_key)
        )


@dataclass(frozen=True)
class Identity:
    """An enclave's name and key in its consortium.

    Attributes:
        consortium: Fingerprint of the consortium's CA (``sha256:...``).
    """

    name: str
    consortium: str
    key: SigningKey
