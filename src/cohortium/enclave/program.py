"""Whether a contract's task and its program fit together: slots, kinds and arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cohortium.contract.task import Task
from cohortium.enclave import builtin, manifest
from cohortium.errors import InputError


def of_task(task: Task, files: Mapping[str, bytes] | None) -> manifest.Manifest:
    """How a contract's task is started, where its slots and arguments are the program's.

    Args:
        files: The program's; None of a built-in one.

    Raises:
        InputError: ``bad-config``, ``bad-input``, ``not-found``.
    """
    slots = {slot.name: slot for slot in task.inputs}
    if files is None:
        found = builtin.find(task.code.name).manifest(slots)
    elif manifest.FILE not in files:
        raise InputError("not-found", f"The program of {task.name} has no {manifest.FILE}.")
    else:
        found = manifest.parse(files[manifest.FILE])
    fixed = {one.name for one in task.arguments}
    faults = [
        _lacks("output", {slot.name for slot in task.outputs}, found.outputs),
        _lacks("input", slots, found.inputs),
        _lacks("argument", fixed, found.arguments),
        *(
            f"its input {name} is a {found.inputs[name]}, and a {slot.kind} in the contract"
            for name, slot in slots.items()
            if name in found.inputs and slot.kind != found.inputs[name]
        ),
        *(
            f"it needs the {what} {name}, which the contract does not have"
            for what, needed, there in (
                ("input", set(found.inputs), set(slots)),
                ("argument", {n for n, v in found.arguments.items() if v is None}, fixed),
            )
            for name in sorted(needed - there)
        ),
    ]
    if any(faults):
        said = "; ".join(filter(None, faults))
        raise InputError("bad-input", f"The program of {task.name} does not fit: {said}.")
    return found


def _lacks(what: str, wanted: Iterable[str], there: Iterable[str]) -> str:
    unknown = sorted(set(wanted) - set(there))
    if not unknown:
        return ""
    known = ", ".join(sorted(there)) or "none"
    return f"it has no {what} {', '.join(unknown)} (it has {known})"
