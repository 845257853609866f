"""Which persons a derived variable tells apart: a criterion in disguise.

A category or boolean that a researcher derives makes groups. Each derived variable makes the group
of those for whom it has no value although everything that it is made of has one: its gap (division
by zero, no ELSE). Such groups are compared with those of earlier results as cohorts are, and a gap
of few persons is refused by the site. A number that picks persons by a condition is none that can
be compared, and is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from cohortium.cohort.population import Population
from cohortium.cohort.syntax import Expr, Type
from cohortium.core.dictionary import Variable, VariableType

_TRUTH = Type(VariableType.BOOLEAN)
_LEVELLED = frozenset({VariableType.BOOLEAN, VariableType.CATEGORY})
_PICKS = frozenset({"case", "coalesce"})


def picking(population: Population, names: Iterable[str]) -> str | None:
    """The first of these variables that is a number, made by the researcher with a condition."""
    for name in sorted(set(names)):
        expr = population.derivations.get(name)
        if name not in population.asked or expr is None or expr.type.kind in _LEVELLED:
            continue
        for part in _asked_parts(population, name):
            if any(one.op in _PICKS for one in part.walk()):
                return name
    return None


def with_choices(
    population: Population, names: Iterable[str]
) -> tuple[Population, tuple[str, ...]]:
    """The population with a boolean for each gap, and the variables that make groups.

    Args:
        names: What a computation reads.
    """
    variables, derivations = dict(population.variables), dict(population.derivations)
    groups, gaps = [], []
    for name in sorted(set(names) & population.asked):
        gap = _free(f"{name[:50]}_gap", variables)
        derivations[gap] = _gap(population, name, variables)
        variables[gap] = Variable(name=gap, type=VariableType.BOOLEAN)
        gaps.append(gap)
        groups.append(name if variables[name].type in _LEVELLED else gap)
    made = replace(population, variables=variables, derivations=derivations, gaps=frozenset(gaps))
    return made, tuple(groups)


def _asked_parts(population: Population, name: str) -> list[Expr]:
    """The expression of a variable and of the researcher's own ones that it is made of."""
    found, pending, seen = [], [name], set[str]()
    while pending:
        one = pending.pop()
        if one in population.asked and one not in seen:
            seen.add(one)
            found.append(population.derivations[one])
            pending += population.derivations[one].reads
    return found


def _gap(population: Population, name: str, variables: Mapping[str, Variable]) -> Expr:
    """Whether it has no value and everything has of which it is made, in this person."""
    parts = _asked_parts(population, name)
    sources = sorted({read for part in parts for read in part.reads} - population.asked)
    there = [_null(source, variables, truth=False) for source in sources]
    return Expr("and", _TRUTH, (_null(name, variables, truth=True), *there))


def _null(name: str, variables: Mapping[str, Variable], *, truth: bool) -> Expr:
    variable = variables[name]
    column = Expr("column", Type(variable.type, variable.levels, variable.unit), value=name)
    null = Expr("is", _TRUTH, (column,))
    return null if truth else Expr("not", _TRUTH, (null,))


def _free(name: str, taken: Collection[str]) -> str:
    names = {one.lower() for one in taken}
    while name.lower() in names:
        name += "_"
    return name
