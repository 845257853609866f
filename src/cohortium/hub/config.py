"""The hub's settings: ``hub.toml`` in its directory; ``COHORTIUM_HUB_*`` overrides it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from cohortium.core.settings import Settings
from cohortium.errors import InputError

CONFIG_FILE = "hub.toml"
Port = Annotated[int, Field(ge=0, le=65535)]
Gather = Annotated[float, Field(gt=0, le=600)]
"""The sites' decisions stand on the ledger after it; a node misses them there after 15 minutes."""
Step = Annotated[float, Field(gt=0, le=10_800)]
"""A round has four steps; a node misses the end of a run 24 hours after its last answer."""


class HubConfig(Settings):
    """Parsed once, in the hub's ``main``; unknown keys in the file are refused.

    Attributes:
        name: The consortium's name.
        host: Address to listen on.
        public_host: Name or address under which members reach the hub.
        rest_port, link_port: 0 picks a free one; what was picked is in ``address.json``.
        database_url: ``sqlite:///FILE`` (relative to the hub's directory) or
            ``postgresql+psycopg://...``.
        gather_timeout_s: How long a run waits for absent participants before it goes on with
            those that are there; 10 minutes at most, since nodes miss it on the ledger after 15.
        round_timeout_s: How long a round waits for each site in each of its steps; 3 hours at most.
        straggler_s: How long a round that may lose sites waits for the others once enough have
            answered, and at least as long as those took; 3 hours at most.
        output_gib: How much ciphertext a run of a task may leave at the hub, in GiB, whatever its
            contract says.
        requests_per_minute: From one address, to what is open without a researcher's key; and from
            one researcher, orders that are refused and go on the ledger.
        entries_per_minute: From one researcher or institution, of what goes on the ledger of every
            member: orders that are permitted, drafts, proposals, assignments, signatures and other
            statements, versions of datasets and policies. As many at once where there were none.
    """

    model_config = SettingsConfigDict(env_prefix="COHORTIUM_HUB_")

    name: str = "Consortium"
    host: str = "127.0.0.1"
    public_host: str = "127.0.0.1"
    rest_port: Port = 0
    link_port: Port = 0
    database_url: str = "sqlite:///hub.db"
    gather_timeout_s: Gather = 10.0
    round_timeout_s: Step = 120.0
    straggler_s: Step = 30.0
    output_gib: Annotated[float, Field(gt=0)] = 16.0
    requests_per_minute: Annotated[int, Field(ge=1)] = 120
    entries_per_minute: Annotated[int, Field(ge=1)] = 300

    @classmethod
    def load(cls, directory: Path) -> HubConfig:
        """Read ``hub.toml``.

        Raises:
            InputError: ``not-found`` or ``bad-config``.
        """
        path = directory / CONFIG_FILE
        if not path.exists():
            raise InputError(
                "not-found", f"There is no hub in {directory}; run: cohortium hub init {directory}"
            )
        return cls.from_toml(path.read_bytes(), path)

    def engine_url(self, directory: Path) -> str:
        """`database_url` with a relative SQLite file made absolute."""
        prefix = "sqlite:///"
        file = self.database_url.removeprefix(prefix)
        if self.database_url.startswith(prefix) and file and not Path(file).is_absolute():
            return f"{prefix}{(directory / file).resolve()}"
        return self.database_url
