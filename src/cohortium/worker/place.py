"""Where a task runs: an executor that reaches the contract's level here, and its limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cohortium.contract.task import Limits, SecurityLevel
from cohortium.enclave import builtin
from cohortium.enclave import program as programs
from cohortium.enclave.executor import Executor, executors
from cohortium.enclave.job import Job, Source
from cohortium.enclave.levels import reaches
from cohortium.enclave.manifest import Manifest
from cohortium.enclave.task_record import contract_record
from cohortium.errors import PolicyRefusal
from cohortium.worker.admission import TaskOrder

PROVEN_FROM: SecurityLevel = "L3"
"""From this level on keys are released for evidence."""


def choose(
    order: TaskOrder, allowed: Sequence[str], known: Mapping[str, Executor] | None = None
) -> Executor:
    """The first allowed executor that reaches the contract's level on this machine.

    Args:
        allowed: Names in the operator's order.
        known: All that are installed; absent: those of this machine.

    Raises:
        PolicyRefusal: ``executor-unavailable``, with the reason for each.
    """
    level, task = order.admitted.level, order.admitted.task
    environment = order.environment
    pins = {pin for pin in (task.executor, environment.executor) if pin is not None}
    installed = executors(environment) if known is None else known
    why: list[str] = []
    for name in allowed:
        place = installed.get(name)
        if place is None or not pins <= {name}:
            continue
        stands_in = name == "simulated" and environment.allow_simulated
        if not (reaches(place, level) or stands_in):
            why += [f"{name} reaches {', '.join(place.levels)}"] if pins else []
        elif missing := place.missing():
            why.append(f"{name}: {'; '.join(missing)}")
        else:
            return place
    pinned = f" by {' and '.join(sorted(pins))}, as the contract says" if pins else ""
    if pins and not pins & set(allowed):
        why.append("enclave.toml does not allow it")
    raise PolicyRefusal(
        "executor-unavailable",
        f"This enclave cannot run {task.name} at {level}{pinned}: "
        f"{'. '.join(why) or 'no executor that it may use reaches it'}. "
        "See: cohortium enclave doctor",
    )


def require_evidence(place: Executor, attests: bool, level: SecurityLevel) -> None:
    """Refuse to ask for keys without the evidence that the level asks for.

    Raises:
        PolicyRefusal: ``executor-unavailable``.
    """
    if level >= PROVEN_FROM and not attests:
        raise PolicyRefusal(
            "executor-unavailable",
            f"{place.name} gives no evidence before a task starts, and {level} releases keys for "
            "evidence only.",
        )


def program(order: TaskOrder, folder: Path) -> tuple[Manifest, Path]:
    """The program's manifest and its folder, where the contract's slots fit it.

    Args:
        folder: Where its files are, unless it is built in.

    Raises:
        InputError: ``bad-input``, ``bad-config``, ``not-found``.
    """
    task = order.admitted.task
    if task.code.built_in:
        return programs.of_task(task, None), builtin.FOLDER
    return programs.of_task(task, order.files), folder


def job(
    order: TaskOrder,
    found: Manifest,
    code: Path,
    inputs: Mapping[str, Path | Source],
    readable: tuple[Path, ...],
) -> Job:
    """The run of a program under a contract.

    Raises:
        InputError: ``bad-input`` where its inputs or arguments are not the program's.
    """
    task, arguments = order.admitted.task, order.admitted.arguments
    artefacts = {
        slot.name: slot.artefact.content_digest
        for slot in task.inputs
        if slot.artefact is not None and slot.artefact.content_digest is not None
    }
    made = found.job(code, inputs, arguments, readable)
    made = replace(
        made,
        limits=lower(found.limits, task.limits),
        record=contract_record(task.code.content_digest, arguments, artefacts),
        measured=task.code.content_digest,
    )
    made.command("/task", "python")
    return made


def lower(of_program: Limits, of_contract: Limits | None) -> Limits:
    """The lower of both, one by one."""
    if of_contract is None:
        return of_program
    theirs, ours = of_program.model_dump(), of_contract.model_dump()
    return Limits(**{name: min(ours[name], theirs[name]) for name in ours})
