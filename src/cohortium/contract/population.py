"""Who a run is about: the contract's criteria always apply, a request may add to them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from cohortium.cohort.check import check_criterion
from cohortium.cohort.population import Population
from cohortium.cohort.syntax import Expr
from cohortium.contract.model import Contract, Draft
from cohortium.core.dictionary import Variable
from cohortium.core.selection import Selection
from cohortium.errors import PolicyRefusal


def contract_selection(contract: Contract | Draft) -> Selection:
    """The criteria and derived variables that everybody signs."""
    cohort = contract.cohort
    return Selection(
        include=() if cohort is None else cohort.include,
        exclude=() if cohort is None else cohort.exclude,
        derived=contract.derived,
    )


@lru_cache(maxsize=256)
def _read(base: Selection, asked: Selection | None, variables: tuple[Variable, ...]) -> Population:
    return Population.of(base, asked, {variable.name: variable for variable in variables})


def contract_population(contract: Contract | Draft) -> Population:
    """The contract's own cohort.

    Raises:
        InputError: ``bad-criterion`` where a criterion or a derived variable is not understood.
    """
    return _read(contract_selection(contract), None, contract.variables)


def asked_population(contract: Contract, asked: Selection | None) -> Population:
    """The contract's cohort with what a request, or its researcher, adds to it.

    Raises:
        InputError: ``bad-criterion``.
        PolicyRefusal: ``not-permitted`` where it reads what the contract does not let be adjusted.
    """
    population = _read(contract_selection(contract), asked, contract.variables)
    if asked is not None:
        _require_adjustable(contract, asked, population)
    return population


def _require_adjustable(contract: Contract, asked: Selection, population: Population) -> None:
    """Criteria and derivations of the request read what the researcher may adjust, or what is
    derived from nothing else.
    """
    permitted = _adjustable(contract)
    n_include = len(population.include) - len(asked.include)
    n_exclude = len(population.exclude) - len(asked.exclude)
    exprs = [
        *population.include[n_include:],
        *population.exclude[n_exclude:],
        *(population.derivations[one.name] for one in asked.derived),
    ]
    _require_read(exprs, permitted, population)


def require_adjustable(contract: Contract, criteria: Iterable[str], population: Population) -> None:
    """Criteria among a computation's parameters read no more than those of a cohort.

    Raises:
        InputError: ``bad-criterion``.
        PolicyRefusal: ``not-permitted``.
    """
    permitted = _adjustable(contract)
    exprs = [check_criterion(text, population.variables) for text in criteria]
    _require_read(exprs, permitted, population)


def _adjustable(contract: Contract) -> set[str]:
    return set(contract.cohort.adjustable or ()) if contract.cohort is not None else set()


def _require_read(exprs: Iterable[Expr], permitted: set[str], population: Population) -> None:
    outside = set[str]()
    for name in {name for expr in exprs for name in expr.reads}:
        outside |= set(population.reads_beyond(name, permitted))
    if not outside:
        return
    may = f"it lets them read {', '.join(sorted(permitted))}" if permitted else "it lets none"
    raise PolicyRefusal(
        "not-permitted",
        f"The contract does not let the researcher's criteria and derived variables read "
        f"{', '.join(sorted(outside))}; {may}. Amend it, with `cohort: {{adjustable: "
        f"[{', '.join(sorted(permitted | outside))}]}}`, for all sites to sign.",
        variables=sorted(outside),
    )


def permitted_variables(
    contract: Contract, computation: str, population: Population
) -> dict[str, Variable]:
    """The variables that a computation may touch, and those derived from nothing else.

    A variable that the contract derives may also be named for the computation itself.
    """
    permitted = contract.scope_variables(computation)
    entry = contract.computation(computation)
    named = set() if entry is None else {*(entry.variables or ())}
    allowed = {*permitted, *(named & {one.name for one in contract.derived})}
    for name in population.derivations:
        if not population.reads_beyond(name, allowed):
            permitted[name] = population.variables[name]
    return permitted
