"""``task.yaml`` in a program's folder: how it is started, and what it reads and gives."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, StringConstraints, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cohortium.contract.code import files_below
from cohortium.contract.task import Limits, Scalar, SlotKind, code_digest
from cohortium.core.dictionary import Name
from cohortium.core.model import Document, explain
from cohortium.enclave.job import Job, Source
from cohortium.errors import InputError

FILE: Final = "task.yaml"
Word = Annotated[str, StringConstraints(min_length=1, max_length=4096)]


class Manifest(Document):
    """How a program is started.

    Attributes:
        command: With ``{python}``, ``{code}``, ``{inputs.NAME}``, ``{outputs.NAME}`` and
            ``{arguments.NAME}``.
        inputs: What each slot is.
        arguments: Their values where a run gives none; null: a run must give one.
    """

    command: Annotated[tuple[Word, ...], Field(min_length=1, max_length=1000)]
    inputs: dict[Name, SlotKind] = Field(default_factory=dict)
    outputs: Annotated[tuple[Name, ...], Field(min_length=1)]
    arguments: dict[Name, Scalar | None] = Field(default_factory=dict)
    environment: dict[str, str] = Field(default_factory=dict)
    limits: Limits = Limits()

    def job(
        self,
        code: Path,
        inputs: Mapping[str, Path | Source],
        arguments: Mapping[str, Scalar],
        readable: tuple[Path, ...] = (),
    ) -> Job:
        """A run of it.

        Raises:
            InputError: ``bad-input`` where inputs or arguments are not those that it has.
        """
        values = {**self.arguments, **arguments}
        for what, given, known in (
            ("input", set(inputs), set(self.inputs)),
            ("argument", set(arguments), set(self.arguments)),
        ):
            if unknown := sorted(given - known):
                raise InputError(
                    "bad-input",
                    f"The task has no {what} {unknown[0]!r}; it has "
                    f"{', '.join(sorted(known)) or 'none'}.",
                )
        missing = [name for name in self.inputs if name not in inputs]
        missing += [name for name, value in values.items() if value is None]
        if missing:
            raise InputError("bad-input", f"The task needs {', '.join(missing)}.")
        command = tuple(self._with_arguments(word, values) for word in self.command)
        return Job(
            command, code, inputs, self.outputs, self.environment, self.limits, readable=readable
        )

    @staticmethod
    def _with_arguments(word: str, values: Mapping[str, Scalar | None]) -> str:
        def value(found: re.Match[str]) -> str:
            if found[1] not in values:
                return found[0]
            return str(values[found[1]]).replace("{", "{{").replace("}", "}}")

        return re.sub(r"\{arguments\.(\w+)\}", value, word)


def read(folder: Path) -> Manifest:
    """A program's manifest.

    Raises:
        InputError: ``not-found``, ``bad-config``.
    """
    file = folder / FILE
    try:
        return parse(file.read_bytes(), str(file))
    except FileNotFoundError as error:
        raise InputError(
            "not-found", f"There is no {FILE} in {folder}: it says how the program is started."
        ) from error
    except OSError as error:
        raise InputError("bad-config", f"{file} cannot be read: {error}") from error


def parse(data: bytes, name: str = FILE) -> Manifest:
    """A manifest's bytes.

    Raises:
        InputError: ``bad-config``.
    """
    try:
        return Manifest.model_validate(YAML(typ="safe", pure=True).load(data.decode("utf-8")))
    except (UnicodeDecodeError, YAMLError) as error:
        raise InputError("bad-config", f"{name} cannot be read: {error}") from error
    except ValidationError as error:
        raise InputError("bad-config", f"{name}: {explain(error)}") from error


def digest(folder: Path) -> str:
    """The digest of a program, its manifest included, as a contract binds it.

    Raises:
        InputError: As `cohortium.contract.code.files_below`.
    """
    return code_digest(files_below(folder))
