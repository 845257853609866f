"""The base of a process's settings: a TOML file, and the environment before it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Self

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from cohortium.core.model import explain
from cohortium.errors import InputError


class Settings(BaseSettings):
    """Frozen; unknown keys in the file are refused."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def from_toml(cls, data: bytes, path: Path) -> Self:
        """Read the content of the file at `path`.

        Raises:
            InputError: ``bad-config``.
        """
        try:
            return cls(**tomllib.loads(data.decode()))
        except ValidationError as error:
            raise InputError("bad-config", f"{path}: {explain(error)}") from error
        except ValueError as error:
            raise InputError("bad-config", f"{path} is not valid TOML: {error}") from error

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment before the file."""
        return env_settings, init_settings
