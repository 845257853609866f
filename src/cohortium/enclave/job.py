"""What an executor is asked to do, and how it ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from string import Formatter
from typing import Any, Literal, Protocol, runtime_checkable

from cohortium.contract.task import Limits
from cohortium.errors import InputError

InputsBy = Literal["auto", "memory", "mount"]
"""How a task gets inputs that are on no disk; auto: by a mount where they are large."""
Ending = Literal["succeeded", "failed", "stopped", "memory", "cpu", "time", "disk", "processes"]


class Source(Protocol):
    """Files that are given to a task without being on a disk: a vault's."""

    def files(self) -> Iterable[tuple[str, int]]:
        """Relative path and size in bytes of each."""
        ...

    def chunks(self, path: str) -> Iterable[bytes]:
        """The content of one."""
        ...


class OpenedFile(Protocol):
    """A file of a source, at any place of it."""

    def pread_into(self, offset: int, buffer: Any) -> int:
        """Fill the buffer from there on, or with what is left; how many bytes."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


@runtime_checkable
class OpenSource(Source, Protocol):
    """A source whose files can be read at any place, so that a mount can show them."""

    def open(self, path: str) -> OpenedFile:
        """One of its files, as it was when `files` was first asked."""
        ...


class Sink(Protocol):
    """Where outputs go as they leave the sandbox."""

    def begin(self, slot: str, path: str, size_bytes: int) -> None:
        """A file of an output; `path` is empty where the output is one."""
        ...

    def write(self, data: bytes) -> None:
        """Its next part."""
        ...

    def end(self) -> None:
        """It is whole."""
        ...


@dataclass(frozen=True)
class Job:
    """A program with its inputs.

    Attributes:
        argv: With ``{code}``, ``{inputs.NAME}``, ``{outputs.NAME}`` and ``{python}`` in place of
            paths.
        code: A folder; the program may read it.
        inputs: A file or folder for each slot, or what gives its files.
        outputs: Slots; each is a folder that the program may write to.
        readable: More of the host that it may read, such as an environment of Python packages.
        inputs_by: Copied into the sandbox's memory, or decrypted as they are read.
        record: What a measured host measures before it starts, where a contract names it; see
            `cohortium.enclave.task_record`.
        measured: Digest of the program, where a contract names it: what a simulated TEE says that
            it measured, whatever a run's arguments are.
    """

    argv: tuple[str, ...]
    code: Path
    inputs: Mapping[str, Path | Source] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    readable: tuple[Path, ...] = ()
    inputs_by: InputsBy = "auto"
    record: tuple[bytes, ...] = ()
    measured: str | None = None

    def command(self, folder: str, python: str) -> list[str]:
        """The program and its arguments where `folder` has code, inputs and outputs.

        Raises:
            InputError: ``bad-input`` where it names a slot that is not there.
        """
        top = PurePosixPath(folder)
        known = {
            "python": python,
            "code": str(top / "code"),
            **{f"inputs.{name}": str(top / "inputs" / name) for name in self.inputs},
            **{f"outputs.{name}": str(top / "outputs" / name) for name in self.outputs},
        }
        return [_filled(text, known) for text in self.argv]


@dataclass(frozen=True)
class Outcome:
    """How a task ended: all that is told of it beside its log and its outputs.

    Attributes:
        end: The limit that it exceeded is named; of its exit code only whether it was 0.
        cpu_s: Processor time of all its processes.
        largest_process_bytes: Most resident memory of one of them.
    """

    end: Ending
    log: bytes = b""
    log_truncated: bool = False
    cpu_s: float = 0.0
    largest_process_bytes: int = 0


def _filled(text: str, known: Mapping[str, str]) -> str:
    out = []
    try:
        for literal, name, how, conversion in Formatter().parse(text):
            out.append(literal)
            if name is not None:
                if name not in known or how or conversion:
                    raise InputError(
                        "bad-input",
                        f"The task's command has {{{name}}}; it may have "
                        f"{', '.join('{' + one + '}' for one in sorted(known))}.",
                    )
                out.append(known[name])
    except ValueError as error:
        raise InputError("bad-input", f"The task's command has {text!r}: {error}.") from error
    return "".join(out)
