"""`impute`: what stands for missing values, from the joint ones."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from cohortium.cohort.filling import at_resolution
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.model import explain
from cohortium.core.selection import Filled, Selection
from cohortium.errors import InputError, PolicyRefusal

if TYPE_CHECKING:
    from cohortium.sdk.analyses import Analyses
    from cohortium.sdk.describe import VariableSummary

Fill = str | float | bool
"""``mean``, ``median``, ``mode``, or the value itself."""

_STATISTICS: Final = ("mean", "median", "mode")
_NUMBERS: Final = frozenset({VariableType.INTEGER, VariableType.REAL})
_LEVELLED: Final = frozenset({VariableType.CATEGORY, VariableType.BOOLEAN})


def fills_of(persons: Analyses, values: Mapping[str, Fill]) -> tuple[Filled, ...]:
    """What is filled in; joint means, medians and modes are asked for in one run.

    Args:
        persons: Whose values count.

    Raises:
        InputError: ``not-found``, ``bad-input``.
        PolicyRefusal: ``too-few-persons`` where such a value is not released; and of the run.
    """
    known = persons.variables
    if not isinstance(values, Mapping):
        raise InputError("bad-input", 'Say what is filled in for which variable: {"x": "mean"}.')
    for name in values:
        if name not in known:
            raise InputError("not-found", f"There is no variable {name!r} here.", variable=name)
    values = {name: _read(known[name], value) for name, value in values.items()}
    for name, value in values.items():
        _require_fit(known[name], value)
    asked = [name for name, value in values.items() if _is_statistic(known[name], value)]
    found = persons.describe(asked, quantiles=[0.5]) if asked else None
    out = []
    for name, value in values.items():
        exact = value
        if found is not None and name in asked:
            exact = _statistic(found[name], str(value), known[name])
        elif known[name].type in _NUMBERS:
            exact = float(value)
        try:
            out.append(Filled(variable=name, value=exact))
        except ValidationError as error:
            raise InputError("bad-input", f"Not a value: {explain(error)}") from error
    try:
        return Selection(filled=tuple(out)).filled or ()
    except ValidationError as error:
        raise InputError("bad-input", f"Not filled: {explain(error)}") from error


def _read(variable: Variable, value: Fill) -> Fill:
    """Of a text, as on a command line, the number or the truth that it is."""
    if not isinstance(value, str) or value in _STATISTICS:
        return value
    if variable.type is VariableType.BOOLEAN and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    if variable.type in _NUMBERS:
        with contextlib.suppress(ValueError):
            return float(value)
    return value


def _is_statistic(variable: Variable, value: Fill) -> bool:
    return value in _STATISTICS and value not in (variable.levels or ())


def _require_fit(variable: Variable, value: Fill) -> None:
    if variable.type not in _NUMBERS | _LEVELLED:
        raise InputError("bad-input", f"{variable.name} is {variable.type}; it is not filled.")
    levelled = variable.type in _LEVELLED
    if _is_statistic(variable, value) and (value == "mode") != levelled:
        raise InputError(
            "bad-input",
            f"{variable.name} is {variable.type}: "
            + ("its mode is filled in." if levelled else "its mean or median is filled in."),
            variable=variable.name,
        )
    if variable.type in _NUMBERS and isinstance(value, str) and value not in _STATISTICS:
        raise InputError(
            "bad-input",
            f"{variable.name} is filled with its 'mean', its 'median' or a number, not {value!r}.",
            variable=variable.name,
        )


def _statistic(found: VariableSummary, what: str, variable: Variable) -> Fill:
    number = found.median if what == "median" else found.mean
    if variable.type is VariableType.CATEGORY:
        counts = [(one.count, one.level) for one in found.levels if one.count]
        if not counts:
            raise _withheld(variable, what)
        # A withheld level has fewer persons, or as few as are needed to hide one that has.
        return max(counts, key=lambda one: one[0])[1]
    if number is None:
        raise _withheld(variable, what)
    if variable.type is VariableType.BOOLEAN:
        return number > 0.5
    return at_resolution(number, variable)


def _withheld(variable: Variable, what: str) -> PolicyRefusal:
    return PolicyRefusal(
        "too-few-persons",
        f"The {what} of {variable.name} is not released; give the value that is to be filled in.",
        variable=variable.name,
    )
