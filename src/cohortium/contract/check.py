"""Whether a contract allows a run: the same pure checks at the hub and, as authority, at each node.

What needs a site's memory (replays, run limits, the party set) is checked by the node itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from cohortium.analysis.interface import AnyAnalysis, BoundsPersons, Params, Scope, Splits
from cohortium.cohort.choice import picking, with_choices
from cohortium.cohort.population import Population
from cohortium.cohort.singling import require_gentle
from cohortium.contract.model import Computation, Contract, Draft, Environment, RunRequest
from cohortium.contract.noise import Noise
from cohortium.contract.population import asked_population, permitted_variables
from cohortium.contract.task import Scalar, SecurityLevel, Task
from cohortium.core.clock import to_rfc3339
from cohortium.errors import InputError, PolicyRefusal, ProtocolError, VerificationError
from cohortium.ledger.entry import room_for_decisions

LONGEST_WINDOW: Final = timedelta(hours=24)
CLOCK_SKEW: Final = timedelta(minutes=5)
OFFERED_LEVELS: Final = frozenset({"L1"})
_UP_TO_DATE: Final = "UpToDate"


@dataclass(frozen=True)
class Admitted:
    """A run that the contract allows.

    Attributes:
        scope: For all participants and with the contract's disclosure limits; a site replaces
            `disclosure` by the stricter of it and its policy, and both replace `n_sites` by the
            number of parties once that is known.
        population: Who it is about, and the derived variables.
        noise: What every sum of it carries; None: exact sums.
    """

    contract: Contract
    analysis: AnyAnalysis
    params: Params
    scope: Scope
    population: Population
    noise: Noise | None = None


def check_run(
    contract: Contract,
    request: RunRequest,
    signer: str,
    *,
    signatures_ok: bool,
    find_analysis: Callable[[str], AnyAnalysis],
    now: datetime,
    revoked: frozenset[str] = frozenset(),
    accepted_before: bool = False,
) -> Admitted:
    """Check a run request, whose signature by `signer` holds, against a contract.

    Args:
        contract: The contract that this site signed, or that the hub keeps.
        signer: The key that `RunRequest.open` returned.
        signatures_ok: Whether the caller verified the signatures of all participants over it.
        find_analysis: The registry; raises InputError ``not-found``.
        revoked: Keys of removed researchers.
        accepted_before: The request was accepted while its window was open (a resumed run).

    Raises:
        VerificationError: ``unknown-signer``, ``stale-request``, ``bad-digest``.
        PolicyRefusal: ``not-authorised``, ``contract-not-active``, ``contract-expired``,
            ``not-permitted``, ``unenforceable``.
        InputError: ``not-found``, ``bad-input``, ``bad-criterion``, and what the analysis says of
            its parameters.
    """
    # 1. The researcher signed; 2. is not removed; 3. means this contract; 4. which is active, not
    # more than we can enforce, 5. not expired, and the request is fresh; 6. is a recipient; 7. the
    # computation is permitted, in this version and for this recipient, 8. its parameters parse,
    # 9. lie within the limits, 10. and touch permitted variables only, of a cohort that the
    # researcher may choose; 11. noise that is to hide a person suffices for what a person adds.
    _check_order(  # 1 to 6
        contract,
        request,
        signer,
        signatures_ok=signatures_ok,
        now=now,
        revoked=revoked,
        accepted_before=accepted_before,
    )
    entry = contract.computation(request.computation)
    if entry is None:  # 7
        permitted = ", ".join(sorted(c.name for c in contract.computations))
        raise PolicyRefusal(
            "not-permitted",
            f"The contract does not permit {request.computation}; it permits {permitted}.",
        )
    if contract.recipient(signer, request.computation) is None:
        raise PolicyRefusal(
            "not-authorised", f"{entry.name} is not for this researcher under the contract."
        )
    analysis = find_analysis(request.computation)
    _check_version(entry, request.computation, analysis)
    params = _parse_params(analysis, request)  # 8
    _check_limits(entry, request, params)  # 9
    population = asked_population(contract, request.cohort)  # 10
    variables = permitted_variables(contract, request.computation, population)
    outside = sorted(analysis.variables(params) - set(variables))
    if outside:  # 10
        raise PolicyRefusal(
            "not-permitted",
            f"The contract does not let {request.computation} touch {', '.join(outside)}; "
            f"it may touch {', '.join(variables)}.",
            variables=outside,
        )
    sites = tuple(site.name for site in contract.participants)
    chosen: tuple[str, ...] = ()
    if not isinstance(analysis, Splits):  # else it says itself what it tells of
        names = analysis.variables(params)
        population, chosen = _with_choices(population, names)
        require_gentle(request.cohort, population, names)
        variables |= {name: population.variables[name] for name in population.gaps}
    elif set(analysis.variables(params)) & set(population.fills):
        raise PolicyRefusal(
            "not-permitted",
            f"{request.computation} is about the values that there are: ask for it without filling "
            "in what is missing.",
        )
    scope = Scope(variables, contract.disclosure, len(sites), sites, chosen=chosen)
    _check_person(entry, analysis, params, scope)  # 11
    return Admitted(contract, analysis, params, scope, population, entry.noise)


def _check_order(
    contract: Contract,
    request: RunRequest,
    signer: str,
    *,
    signatures_ok: bool,
    now: datetime,
    revoked: frozenset[str],
    accepted_before: bool,
) -> None:
    """What holds for runs of computations and of tasks: steps 1 to 6 of `check_run`."""
    if signer != request.researcher:  # 1
        raise VerificationError(
            "unknown-signer", "The request is not signed by the researcher that it names."
        )
    if signer in revoked:  # 2
        raise PolicyRefusal("not-authorised", "The researcher's key was removed.")
    if (request.contract_digest, request.study) != (contract.digest, contract.study):  # 3
        raise VerificationError("bad-digest", "The request names another contract.")
    if not signatures_ok:  # 4
        raise PolicyRefusal("contract-not-active", "Not every participant has signed the contract.")
    for problem in unenforceable(contract):
        raise problem
    _check_times(contract, request, now, accepted_before)  # 5
    if contract.recipient(signer) is None:  # 6
        raise PolicyRefusal("not-authorised", "The researcher is not a recipient of this contract.")


@dataclass(frozen=True)
class AdmittedTask:
    """A run of a task that the contract allows.

    Attributes:
        arguments: Those that the contract fixes, and those of the request.
        level: The least level at which it may run.
    """

    contract: Contract
    task: Task
    arguments: dict[str, Scalar]
    level: SecurityLevel


def check_task(
    contract: Contract,
    request: RunRequest,
    signer: str,
    *,
    signatures_ok: bool,
    now: datetime,
    revoked: frozenset[str] = frozenset(),
    accepted_before: bool = False,
) -> AdmittedTask:
    """`check_run`, of a request for ``task.NAME``; its parameters are the task's arguments.

    Raises:
        VerificationError: ``unknown-signer``, ``stale-request``, ``bad-digest``.
        PolicyRefusal: ``not-authorised``, ``contract-not-active``, ``contract-expired``,
            ``not-permitted``, ``unenforceable``.
        InputError: ``bad-input``.
    """
    # 1 to 6 as for a computation. 7. The contract has the task, 8. everything that it needs is
    # there, and the arguments are its own. 9. A cohort is no part of it.
    _check_order(  # 1 to 6
        contract,
        request,
        signer,
        signatures_ok=signatures_ok,
        now=now,
        revoked=revoked,
        accepted_before=accepted_before,
    )
    task = contract.task_of(request.computation)
    if task is None:  # 7
        known = ", ".join(one.computation for one in contract.tasks) or "none"
        raise PolicyRefusal(
            "not-permitted",
            f"The contract has no task {request.computation}; it has {known}.",
        )
    if request.cohort is not None:  # 9
        raise InputError("bad-input", "A task runs on what was lent to it; it takes no cohort.")
    arguments = task.bound(request.params)  # 8
    return AdmittedTask(contract, task, arguments, contract.level_of(task))


def _with_choices(
    population: Population, names: Collection[str]
) -> tuple[Population, tuple[str, ...]]:
    """The groups that the researcher's derived variables make, for comparison with earlier ones."""
    number = picking(population, names)
    if number is not None:
        raise PolicyRefusal(
            "not-permitted",
            f"{number} is a number that picks persons (CASE, COALESCE), which cannot be compared "
            "with earlier results. Make it a category or a boolean, say the condition as a "
            "criterion, or have the contract derive it.",
            variable=number,
        )
    return with_choices(population, names)


def unenforceable(contract: Contract | Draft) -> list[PolicyRefusal]:
    """What the contract asks for and this release cannot enforce; hub and nodes then refuse it."""
    environment = contract.environment or Environment()
    above = contract.security_level not in OFFERED_LEVELS and not contract.tasks_only
    unnamed = [
        task.name
        for task in contract.tasks
        if not environment.enclaves
        and (contract.level_of(task) < "L4" or not any(slot.required for slot in task.inputs))
    ]
    custom = [
        task.name
        for task in contract.tasks
        if contract.level_of(task) == "L5" and not task.code.built_in
    ]
    unmeasured = [
        task.name
        for task in contract.tasks
        if contract.level_of(task) >= "L3" and not environment.measurements
    ]
    deciding = [[p.name for p in contract.participants], *(t.lenders for t in contract.tasks)]
    most = max(deciding, key=len)
    strictest = any(contract.level_of(task) == "L5" for task in contract.tasks)
    asked = {
        f"security level {contract.security_level} of its computations": above,
        f"the executor {environment.executor}, and has no task": bool(
            environment.executor and not contract.tasks
        ),
        "measurements of a platform, and has no task": bool(
            (environment.measurements or environment.tcb_states) and not contract.tasks
        ),
        f"{', '.join(unnamed)} at a level below L4, or without inputs, and names no enclaves "
        "where it may run (environment: enclaves)": bool(unnamed),
        f"{', '.join(custom)} at L5, where only built-in tasks run (take one of them, or L4)": bool(
            custom
        ),
        f"{', '.join(unmeasured)} at L3 or above without saying what evidence must measure "
        "(environment: measurements)": bool(unmeasured),
        "L5 with a simulated environment, or on platforms that are not up to date": strictest
        and (environment.allow_simulated or not set(environment.tcb_states) <= {_UP_TO_DATE}),
        "aggregation in an enclave": contract.aggregation != "masked",
        "custom code": any(entry.code is not None for entry in contract.computations),
        f"{len(most)} participants, whose decisions on a run do not fit into one "
        "entry of the ledger": not room_for_decisions(most),
    }
    return [
        PolicyRefusal(
            "unenforceable", f"The contract asks for {what}, which this release cannot enforce."
        )
        for what, present in asked.items()
        if present
    ]


def _check_version(entry: Computation, name: str, analysis: AnyAnalysis) -> None:
    """The numbers and the leakage of another version are not those that were approved."""
    approved = entry.versions.get(name)
    if approved != analysis.version:
        which = "no version of it" if approved is None else f"version {approved}"
        raise PolicyRefusal(
            "not-permitted",
            f"{name} is here in version {analysis.version}; the contract permits {which}.",
            version=analysis.version,
        )


def _check_times(
    contract: Contract, request: RunRequest, now: datetime, accepted_before: bool
) -> None:
    if now >= contract.expires_at:
        raise PolicyRefusal(
            "contract-expired", f"The contract expired at {to_rfc3339(contract.expires_at)}."
        )
    length = request.valid_until - request.issued_at
    if not timedelta(0) < length <= LONGEST_WINDOW:
        raise VerificationError(
            "stale-request", "A request is valid for at most 24 hours from when it was issued."
        )
    if accepted_before:
        return
    if now > request.valid_until + CLOCK_SKEW:
        raise VerificationError("stale-request", "The request's time is over; submit a new one.")
    if now < request.issued_at - CLOCK_SKEW:
        raise VerificationError(
            "stale-request", "The request is from the future; compare the machines' clocks."
        )


def _parse_params(analysis: AnyAnalysis, request: RunRequest) -> Params:
    try:
        params: Params = analysis.params_type.from_json(request.params)
    except ProtocolError as error:
        fault = error.message.partition(": ")[2] or error.message  # without the type's name
        raise InputError("bad-input", f"{request.computation}: {fault}") from error
    return params


def _check_limits(entry: Computation, request: RunRequest, params: Params) -> None:
    """Each limited parameter, defaults included, has an allowed value; so has each list item."""
    values = params.to_json()
    for name, allowed in entry.limits.items():
        value = values.get(name)
        items = value if isinstance(value, list) else [value]
        if not all(any(_same(item, choice) for choice in allowed) for item in items):
            raise PolicyRefusal(
                "not-permitted",
                f"The contract limits {name} of {request.computation} to "
                f"{', '.join(str(choice) for choice in allowed)}.",
                parameter=name,
            )


def _check_person(entry: Computation, analysis: AnyAnalysis, params: Params, scope: Scope) -> None:
    if entry.noise is None or entry.noise.unit != "person":
        return
    if not isinstance(analysis, BoundsPersons):
        raise PolicyRefusal(
            "not-permitted",
            f"{entry.name} does not bound what one person adds to its sums, so that no noise can "
            "be said to hide a person; the contract's noise can hide an institution.",
        )
    norm = analysis.person_norm(params, scope)
    if not norm <= entry.noise.clip:
        raise PolicyRefusal(
            "not-permitted",
            f"One person can add norm {norm:g} to the sums of {entry.name}; the contract's noise "
            f"is for {entry.noise.clip:g}.",
        )


def _same(value: Any, choice: str | float | bool) -> bool:
    """Equality in which true is not 1."""
    return isinstance(value, bool) == isinstance(choice, bool) and value == choice
