"""Tasks: approved programs over named slots, each slot with its owners."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from cohortium.core.canonical import digest as digest_of
from cohortium.core.canonical import digest_bytes
from cohortium.core.dictionary import Digest, Label, Name
from cohortium.core.model import Document
from cohortium.errors import InputError, PolicyRefusal

SecurityLevel = Literal["L1", "L2", "L3", "L4", "L5"]
ExecutorName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
CodeName = Annotated[
    str, StringConstraints(pattern=r"^(builtin:[a-z][a-z0-9-]{0,62}|[A-Za-z][A-Za-z0-9_]{0,63})$")
]
TaskName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Scalar = str | int | float | bool
Owners = Annotated[tuple[Label, ...], Field(min_length=1, max_length=1000)]
SlotKind = Literal["dataset", "model", "parameters"]

MIB: Final = 1024 * 1024
TASK_PREFIX: Final = "task."
"""A run of the task ``train`` is ordered as the computation ``task.train``."""

LOG_SLOT: Final = "log"
"""What a task prints is an output of that name, for the contract's readers of the log."""

BUILTIN_PREFIX: Final = "builtin:"
_MOST_SLOTS: Final = 1000


def is_task(computation: str) -> bool:
    """Whether a run of that name is of a task."""
    return computation.startswith(TASK_PREFIX)


def _require_distinct(what: str, names: Iterable[str]) -> None:
    listed = list(names)
    if len(set(listed)) != len(listed):
        raise ValueError(f"two {what} have the same name")


class Limits(Document):
    """Most of what a task may use, all its processes together.

    Attributes:
        memory_bytes: Resident memory; each process may also reserve no more.
        cpu_s: Processor time.
        time_s: From its start.
        disk_bytes: Of outputs; as much again for temporary files.
        processes: At one time, threads included where the kernel counts them.
        log_bytes: Of what it prints; the rest is dropped. No more than fits the pipe to the
            executor, however short its lines: else a task would go on, and its supervisor wait,
            while nobody reads.
    """

    memory_bytes: Annotated[int, Field(ge=16 * MIB)] = 2048 * MIB
    cpu_s: Annotated[float, Field(gt=0)] = 3600.0
    time_s: Annotated[float, Field(gt=0)] = 3600.0
    disk_bytes: Annotated[int, Field(ge=64 * 1024)] = 1024 * MIB
    processes: Annotated[int, Field(ge=1)] = 256
    log_bytes: Annotated[int, Field(ge=0, le=128 * 1024)] = 64 * 1024


class Code(Document):
    """A program.

    Attributes:
        name: For people; ``builtin:NAME`` is a program of Cohortium itself.
        content_digest: `code_digest` of its files; of a built-in one, of its name and version.
        owner: Whose it is; the owner of private code approves every use of it.
    """

    name: CodeName
    content_digest: Digest
    owner: Label
    public: bool = False

    @property
    def built_in(self) -> bool:
        """Whether Cohortium brings it."""
        return self.name.startswith(BUILTIN_PREFIX)


def code_digest(files: Mapping[str, bytes]) -> str:
    """The digest of a program: of the canonical JSON of its files' digests by relative path."""
    return digest_of({path: digest_bytes(content) for path, content in files.items()})


class Artefact(Document):
    """Data, a model or parameters, as assigned to a slot.

    Attributes:
        content_digest: Absent while it is the unfinished output of a task.
        owners: All of them; an artefact of several is joint, and each must assign it.
        dictionary_digest: Of a dataset.
    """

    name: Name
    content_digest: Digest | None = None
    owners: Owners
    dictionary_digest: Digest | None = None

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        _require_distinct("owners", self.owners)
        return self

    @property
    def finished(self) -> bool:
        """Whether there is content that a digest can name."""
        return self.content_digest is not None


class Argument(Document):
    """An argument of a task; one that has a value is fixed by the contract."""

    name: Name
    required: bool = True
    value: Scalar | None = None


class InputSlot(Document):
    """A place for an artefact of exactly these owners."""

    name: Name
    kind: SlotKind
    owners: Owners
    required: bool = True
    artefact: Artefact | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _require_distinct("owners", self.owners)
        if self.artefact is None:
            return self
        if set(self.artefact.owners) != set(self.owners):
            raise ValueError(f"the owners of what fills {self.name} are not the slot's owners")
        if not self.artefact.finished:
            raise ValueError(f"{self.name} is filled with an unfinished output")
        return self


class OutputSlot(Document):
    """A result of a task.

    Attributes:
        owners: Whose it is. As a later input it needs each of them.
        recipients: Who may read it.
        joint: It belongs to several together, the contract's proposer among them.
    """

    name: Name
    owners: Owners
    recipients: Owners
    joint: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _require_distinct("owners", self.owners)
        if self.joint and len(self.owners) < 2:
            raise ValueError(f"the joint output {self.name} needs two or more owners")
        if not self.joint and len(self.owners) > 1:
            raise ValueError(f"the output {self.name} has several owners and is not called joint")
        return self


class Task(Document):
    """A program over slots.

    Attributes:
        max_runs: Most runs; 0 means never; absent: no limit.
        security_level: Absent: the contract's. The higher of both counts.
        executor: Absent: any that offers the security level.
        limits: Absent: those of the program's manifest. The lower of both count.
        log_recipients: Who may read what the program prints; absent: nobody.
    """

    name: TaskName
    code: Code
    arguments: Annotated[tuple[Argument, ...], Field(max_length=_MOST_SLOTS)] = ()
    inputs: Annotated[tuple[InputSlot, ...], Field(max_length=_MOST_SLOTS)] = ()
    outputs: Annotated[tuple[OutputSlot, ...], Field(min_length=1, max_length=_MOST_SLOTS)]
    max_runs: Annotated[int, Field(ge=0)] | None = None
    security_level: SecurityLevel | None = None
    executor: ExecutorName | None = None
    limits: Limits | None = None
    log_recipients: Annotated[tuple[Label, ...], Field(max_length=1000)] = ()

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if any(slot.name == LOG_SLOT for slot in self.outputs):
            raise ValueError(f"no output is called {LOG_SLOT}: what a task prints is")
        _require_distinct("arguments", (argument.name for argument in self.arguments))
        _require_distinct("inputs", (slot.name for slot in self.inputs))
        _require_distinct("outputs", (slot.name for slot in self.outputs))
        return self

    @property
    def computation(self) -> str:
        """What a run of it is called."""
        return TASK_PREFIX + self.name

    @property
    def lenders(self) -> tuple[str, ...]:
        """Owners of what fills its inputs, each once: who hands out keys."""
        filled = (slot for slot in self.inputs if slot.artefact is not None)
        return tuple(dict.fromkeys(owner for slot in filled for owner in slot.owners))

    @property
    def readers(self) -> tuple[str, ...]:
        """Who may read an output or the log, each once."""
        named = [name for slot in self.outputs for name in slot.recipients]
        return tuple(dict.fromkeys((*named, *self.log_recipients)))

    @property
    def unfilled(self) -> tuple[str, ...]:
        """Required inputs without an artefact."""
        return tuple(slot.name for slot in self.inputs if slot.required and slot.artefact is None)

    def approvers(self, proposer: str) -> frozenset[str]:
        """Who approves it: the proposer, every slot's owners, the owner of private code."""
        slots: tuple[InputSlot | OutputSlot, ...] = (*self.inputs, *self.outputs)
        owners = {owner for slot in slots for owner in slot.owners}
        code = set() if self.code.public else {self.code.owner}
        return frozenset({proposer, *owners, *code})

    def check_proposer(self, proposer: str) -> None:
        """Who creates a joint output is one of its owners; ValueError otherwise."""
        for slot in self.outputs:
            if slot.joint and proposer not in slot.owners:
                raise ValueError(f"{proposer} proposes the joint output {slot.name}, and owns none")

    def bound(self, given: Mapping[str, object]) -> dict[str, Scalar]:
        """The arguments of a run: those that the contract fixes, and those given with the request.

        Raises:
            InputError: ``bad-input`` for a missing or an unknown one, or one that is no text,
                number or truth value.
            PolicyRefusal: ``not-permitted`` where a fixed one is given.
        """
        known = {argument.name: argument for argument in self.arguments}
        unknown = sorted(set(given) - set(known))
        if unknown:
            free = ", ".join(name for name, a in known.items() if a.value is None)
            raise InputError(
                "bad-input",
                f"{self.name} has no argument {', '.join(unknown)}; a run may give "
                f"{free or 'none: the contract fixes all'}.",
            )
        plain = {name: value for name, value in given.items() if isinstance(value, Scalar)}
        if odd := sorted(set(given) - set(plain)):
            raise InputError("bad-input", f"{', '.join(odd)} of {self.name} is no plain value.")
        fixed = {name: a.value for name, a in known.items() if a.value is not None}
        overridden = sorted(set(given) & set(fixed))
        if overridden:
            raise PolicyRefusal(
                "not-permitted", f"The contract fixes {', '.join(overridden)} of {self.name}."
            )
        values = {**fixed, **plain}
        missing = sorted(name for name, a in known.items() if a.required and name not in values)
        if missing:
            raise InputError("bad-input", f"{self.name} needs {', '.join(missing)}.")
        return values
