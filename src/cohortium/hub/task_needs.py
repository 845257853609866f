"""What a task needs at the hub before it can run, and whom it is about."""

from __future__ import annotations

from cohortium.contract.model import Contract
from cohortium.contract.task import Task
from cohortium.errors import InputError
from cohortium.hub.blobs import Programs
from cohortium.hub.store import HubStore


def require_program(programs: Programs, task: Task) -> bytes:
    """The ZIP of a task's own program.

    Raises:
        InputError: ``not-found``.
    """
    found = programs.get(task.code.content_digest)
    if found is None:
        raise missing_program(task)
    return found


def missing_program(task: Task) -> InputError:
    """A program that nobody has put here."""
    return InputError(
        "not-found",
        f"The hub does not have the program {task.code.name} of the task {task.name} "
        f"({task.code.content_digest}); whoever has its files has to put it there first.",
    )


def require_cards(store: HubStore, contract: Contract, task: Task) -> list[bytes]:
    """The signed vault cards of everybody whom an output is for.

    Raises:
        InputError: ``vault-key-missing``.
    """
    keys = {name: contract.parties.get(name, "") for name in task.readers}
    cards = store.tasks.cards(keys.values())
    missing = sorted(name for name, key in keys.items() if key not in cards)
    if missing:
        raise InputError(
            "vault-key-missing",
            f"Outputs of {task.name} are for {', '.join(missing)}, who has no vault key here yet: "
            "a node says its own when it connects, a researcher's program when it signs in.",
            missing=missing,
        )
    return list(cards.values())


def sites_about(store: HubStore, contract: Contract, task: Task) -> tuple[str, ...]:
    """The institutions that a run is about: who lends, and who may read an output."""
    members = {one.name: one.key for one in store.members.members()}
    about = dict.fromkeys((*task.lenders, *task.readers))
    return tuple(one for one in about if one in members and members[one] == contract.parties[one])
