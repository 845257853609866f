"""What a steward has to know of a contract's tasks before signing: what stands in the way, and
what to think about first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from shlex import quote

from cohortium.contract.model import Contract, Environment
from cohortium.contract.task import Task
from cohortium.enclave.attestation.policy import AppraisalPolicy
from cohortium.errors import CohortiumError, PolicyRefusal, VerificationError
from cohortium.node.lending import Lending
from cohortium.node.policy import Policy
from cohortium.node.task_evidence import KINDS

HARDWARE = "L4"
"""From here on a processor proves what runs; below it the enclave's operator is trusted."""


def concerned(contract: Contract, own: str) -> bool:
    """Whether this site lends to a task, or gets something of one."""
    return any(own in {*task.lenders, *task.readers} for task in contract.tasks)


def problems(
    contract: Contract, own: str, policy: Policy, lending: Lending | None
) -> list[CohortiumError]:
    """Why this site cannot take part in a contract's tasks."""
    # 1. What it lends is here. 2. The site's policy. 3. The level and the environment can be
    # enforced by what this site has.
    found: list[CohortiumError] = []

    def note(check: Callable[[], None]) -> None:
        try:
            check()
        except CohortiumError as error:
            if error.message not in {one.message for one in found}:
                found.append(error)

    for task in contract.tasks:
        if own not in task.lenders:
            continue
        note(lambda task=task: _require_lent(task, own, lending))  # type: ignore[misc]  # 1
        note(lambda task=task: policy.tasks.require(contract, task))  # type: ignore[misc]  # 2
        note(lambda task=task: _require_provable(contract, task, policy))  # type: ignore[misc]  # 3
    return found


def _require_lent(task: Task, own: str, lending: Lending | None) -> None:
    for slot in task.inputs:
        if slot.artefact is None or own not in slot.owners:
            continue
        if lending is None:
            raise PolicyRefusal("not-permitted", "This node lends nothing.")
        lending.lent.require_here(lending.lent.find(slot.artefact.content_digest or ""))


def _require_provable(contract: Contract, task: Task, policy: Policy) -> None:
    environment = contract.environment or Environment()
    level = contract.level_of(task)
    if not KINDS[level]:
        return
    appraisal = policy.tasks.appraisal(environment, level)
    kinds = sorted(KINDS[level] | ({"simulated"} if environment.allow_simulated else set()))
    reasons = {kind: _why_not(appraisal, kind) for kind in kinds}
    if all(reasons.values()):
        raise PolicyRefusal(
            "unenforceable",
            f"No evidence for {task.name} at {level} could be accepted here: "
            + "; ".join(f"{kind}: {why}" for kind, why in reasons.items()),
        )


def _why_not(appraisal: AppraisalPolicy, kind: str) -> str:
    """Why evidence of a kind is refused, whatever it shows."""
    try:
        appraisal.references(kind)  # type: ignore[arg-type]
    except VerificationError:
        return "the contract names no measurements of it"
    if kind == "tpm" and appraisal.platforms is None:
        return "policy.yaml lists no host (tasks: platforms)"
    if kind == "sev-snp" and not appraisal.amd_platforms:
        return "policy.yaml names no product of AMD's (tasks: amd_platforms)"
    return ""


def warnings(contract: Contract, own: str, lending: Lending | None) -> Iterator[str]:
    """What speaks for a second look."""
    environment = contract.environment or Environment()
    lent_to = [task for task in contract.tasks if own in task.lenders]
    if lent_to and environment.allow_simulated:
        yield (
            "A simulated enclave may stand in for a real one. It protects nothing: whoever runs "
            "it, or the hub, can read what is lent."
        )
    for task in lent_to:
        yield from _of_task(contract, task, own, environment)
    for task in contract.tasks:
        digest = task.code.content_digest
        if task.code.built_in or lending is None:
            continue
        folder = quote(str(lending.collateral.parent))
        read = f"cohortium node code {contract.study} {task.name} --dir {folder}"
        if lending.programs.has(digest):
            yield f"The task {task.name} runs {task.code.owner}'s own program. Read it: {read}"
        else:
            yield f"The program of the task {task.name} has not arrived here yet; then read: {read}"


def _of_task(contract: Contract, task: Task, own: str, environment: Environment) -> Iterator[str]:
    level = contract.level_of(task)
    named = ", ".join(one.name for one in environment.enclaves) or "any enclave"
    if level == "L1":
        yield (
            f"The task {task.name} is at L1: its program is in no sandbox, and can read what is on "
            f"the machine of {named}, and send it anywhere."
        )
    if level < HARDWARE:
        program = "Cohortium's own program" if task.code.built_in else "a program of others"
        yield (
            f"The task {task.name} runs {program} at {level}, where no hardware keeps what is lent "
            f"from the operator of {named}."
        )
    others = sorted({n for slot in task.outputs for n in slot.recipients} - {own})
    if others:
        yield f"Outputs of the task {task.name} go to {', '.join(others)}."
    readers = sorted(set(task.log_recipients) - {own})
    if readers:
        yield (
            f"What the program of {task.name} prints goes to {', '.join(readers)}: a program can "
            "print what it reads."
        )
    if task.max_runs is None:
        yield f"The number of runs of the task {task.name} is not limited."
