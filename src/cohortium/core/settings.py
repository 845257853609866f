"""The base of a process's settings: a TOML file, and the environment before it."""

from __future__ import annotations

import json
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

    def to_toml(self, whose: str) -> str:
        """The file's text; JSON strings, numbers and lists are TOML's.

        Args:
            whose: Stands in its first line: ``this node``.
        """
        values = self.model_dump(exclude_none=True)
        lines = [
            f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()
        ]
        return "\n".join([f"# Settings of {whose}; see the configuration reference.", *lines, ""])

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
