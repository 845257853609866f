"""The node's settings, ``node.toml``, and where its files are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints
from pydantic_settings import SettingsConfigDict

from cohortium.core.dictionary import Digest, Label
from cohortium.core.settings import Settings
from cohortium.crypto.files import write_atomically
from cohortium.crypto.keys import SigningKey
from cohortium.errors import InputError
from cohortium.node.identity import Identity

Address = Annotated[str, StringConstraints(pattern=r"^[^\s/]+:[0-9]{1,5}$")]


class NodeConfig(Settings):
    """What ``node.toml`` says; ``COHORTIUM_NODE_LINK_ADDRESS`` and the like go before it.

    Attributes:
        name: This institution's name in the consortium.
        consortium: The consortium's name.
        consortium_fingerprint: Of the CA certificate beside it.
        hub_url: The hub's REST address.
        link_address: ``host:port`` that this node dials.
        proxy: HTTP proxy (``host:port``) through which it dials.
        status_port: Port of the status page on 127.0.0.1; 0 takes a free one.
    """

    model_config = SettingsConfigDict(env_prefix="COHORTIUM_NODE_")

    name: Label
    consortium: Label
    consortium_fingerprint: Digest
    hub_url: str
    link_address: Address
    proxy: str | None = None
    status_port: Annotated[int, Field(ge=0, le=65535)] = 0


@dataclass(frozen=True)
class NodeDir:
    """The files of a node."""

    path: Path

    @property
    def config(self) -> Path:
        """Settings."""
        return self.path / "node.toml"

    @property
    def contract_key(self) -> Path:
        """The Ed25519 key that signs contracts."""
        return self.path / "contract.key"

    @property
    def ca(self) -> Path:
        """The consortium's CA certificate."""
        return self.path / "ca.pem"

    @property
    def tls(self) -> Path:
        """One folder for each TLS key; see `cohortium.crypto.tls_keys`."""
        return self.path / "tls"

    @property
    def policy(self) -> Path:
        """The site's rules."""
        return self.path / "policy.yaml"

    @property
    def store(self) -> Path:
        """The node's memory."""
        return self.path / "node.db"

    @property
    def datasets(self) -> Path:
        """The registered data."""
        return self.path / "datasets"

    @property
    def vault_key(self) -> Path:
        """The key for which files are encrypted that it lends or is given."""
        return self.path / "vault.key"

    @property
    def lent(self) -> Path:
        """What it lends to tasks."""
        return self.path / "lent"

    @property
    def received(self) -> Path:
        """Outputs of tasks that are for this institution, encrypted."""
        return self.path / "received"

    @property
    def code(self) -> Path:
        """Programs of tasks, to read before a contract is signed."""
        return self.path / "code"

    @property
    def collateral(self) -> Path:
        """What quotes of platforms are judged by; see `cohortium enclave collateral`."""
        return self.path / "collateral"

    @property
    def lock(self) -> Path:
        """Held by the serving process."""
        return self.path / "serve.lock"

    @property
    def address(self) -> Path:
        """Where the serving node answers: ``{"status": "http://127.0.0.1:PORT", "pid": ...}``."""
        return self.path / "address.json"

    @property
    def pending(self) -> Path:
        """The invitation, until the certificate is here."""
        return self.path / "joining.json"

    def load_config(self) -> NodeConfig:
        """Read the settings.

        Raises:
            InputError: ``not-found`` or ``bad-config``.
        """
        try:
            data = self.config.read_bytes()
        except OSError as error:
            raise InputError(
                "not-found", f"{self.path} is not a node. Begin with: cohortium node join"
            ) from error
        return NodeConfig.from_toml(data, self.config)

    def save_config(self, config: NodeConfig) -> None:
        """Write the settings."""
        write_atomically(self.config, config.to_toml("this node").encode())

    def load_identity(self, config: NodeConfig) -> Identity:
        """Who this node is."""
        return Identity(
            config.name, config.consortium_fingerprint, SigningKey.load(self.contract_key)
        )
