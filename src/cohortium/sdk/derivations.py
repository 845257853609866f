"""The derived variables of a researcher: kept by the study object, sent where they are needed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from pydantic import ValidationError

from cohortium.cohort.parser import parse
from cohortium.contract.model import Contract
from cohortium.contract.population import asked_population
from cohortium.core.dictionary import Variable
from cohortium.core.model import explain
from cohortium.core.selection import Derived, Selection
from cohortium.errors import InputError
from cohortium.sdk.submission import text_of

_DEFINITION: Final = re.compile(r"\s*([A-Za-z][A-Za-z0-9_]{0,63})\s*=(?!=)\s*(.*)", re.DOTALL)


class Derivations:
    """What a researcher derives under one contract, in the order of definition."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._own: dict[str, Derived] = {}

    @property
    def variables(self) -> dict[str, Variable]:
        """The contract's variables, those that it derives, and the researcher's."""
        selection = Selection(derived=tuple(self._own.values()))
        return dict(asked_population(self._contract, selection).variables)

    def add(self, definition: str, *, replace: bool) -> Variable:
        """Take ``name = expression``.

        Raises:
            InputError: ``bad-criterion``.
            PolicyRefusal: ``not-permitted``.
        """
        found = _DEFINITION.fullmatch(text_of("definition", definition))
        if found is None:
            raise InputError(
                "bad-criterion",
                "A derived variable is written as a name, = and an expression: "
                "bmi = weight_kg / (height_m * height_m).",
            )
        name, expression = found.group(1), found.group(2).strip()
        try:
            derived = Derived(name=name, expression=expression)
        except ValidationError as error:
            raise InputError(
                "bad-criterion", f"Not a derived variable: {explain(error)}"
            ) from error
        before = self._own.get(name)
        if before is not None and before != derived and not replace:
            raise InputError(
                "bad-criterion",
                f"{name} is already {before.expression}; choose another name, or say replace=True.",
            )
        own = {**self._own, name: derived}  # what it replaces keeps its place before what reads it
        selection = Selection(derived=tuple(own.values()))
        variable = asked_population(self._contract, selection).variables[name]
        self._own = own
        return variable

    def needed(
        self, names: Iterable[str], include: tuple[str, ...], exclude: tuple[str, ...]
    ) -> Selection:
        """The criteria, and the derived variables that these names and they read.

        Raises:
            InputError: ``bad-criterion``.
        """
        pending = [*names, *(name for text in (*include, *exclude) for name in _names(text))]
        wanted = set[str]()
        while pending:
            name = pending.pop()
            if name in self._own and name not in wanted:
                wanted.add(name)
                pending += _names(self._own[name].expression)
        derived = tuple(one for name, one in self._own.items() if name in wanted)
        return Selection(include=include, exclude=exclude, derived=derived)


def _names(text: str) -> list[str]:
    return [str(node.value) for node in parse(text).walk() if node.op == "name"]
