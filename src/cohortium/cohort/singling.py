"""Whether arithmetic that a researcher writes could pick out one person among many.

A number such as ``chol / ((age - 99) * (age - 99) + 1e-12)`` is next to nothing for everybody but
the person of 99, whose value is then its sum. What is *gentle* cannot be made so sharp: polynomials
of a low degree, denominators without a sum, logarithms and roots that begin at 0 or below. What
everybody signed, in a contract's `derived`, is free.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from cohortium.cohort.evaluate import Evaluation
from cohortium.cohort.parser import parse
from cohortium.cohort.population import Population
from cohortium.cohort.syntax import Expr, Node, refused
from cohortium.core.dictionary import VariableType
from cohortium.core.selection import Selection
from cohortium.core.table import Table

MAX_DEGREE: Final = 4
DOMINATED: Final = 0.99
_TINY: Final = 1e-300
_ROUNDING: Final = 1e-9

Floats = npt.NDArray[np.float64]
Kind = Literal["constant", "monomial", "affine", "polynomial"]

_ATOMS: Final = {VariableType.INTEGER, VariableType.REAL, VariableType.DATE, VariableType.DATETIME}
_CALLS: Final = frozenset({"datediff", "ln", "log10", "power", "sqrt", "year"})
"""Neither EXP, of which the largest value alone remains, nor what chooses among values or takes
steps: ABS, CEIL, FLOOR, GREATEST, LEAST.
"""


class NotGentle(Exception):
    """Arithmetic that could pick persons; the text says what of it."""


@dataclass(frozen=True)
class Form:
    """What is known of a number's form.

    Attributes:
        kind: ``monomial``: a product of variables, their powers and a constant. ``affine``: a
            variable times a positive constant, and a positive constant: positive where the variable
            is. ``polynomial``: any other.
        degree: Of all powers of a product together, those below a fraction line too.
        sign: Of the constant; 0 where that is not followed.
    """

    kind: Kind
    degree: float = 0.0
    sign: int = 1

    @staticmethod
    def variable() -> Form:
        """Of a value that the data, or the contract, have."""
        return Form("monomial", 1.0)

    @staticmethod
    def constant(value: float = 0.0) -> Form:
        """Of a number that is written."""
        return Form("constant", sign=1 if value >= 0 else -1)

    def __neg__(self) -> Form:
        return replace(self, sign=-self.sign)

    def __add__(self, other: Form) -> Form:
        kinds, degree = {self.kind, other.kind}, max(self.degree, other.degree)
        positive = self.sign == other.sign == 1
        if kinds == {"constant"}:
            return Form("constant", sign=self.sign if self.sign == other.sign else 0)
        if positive and degree == 1 and "constant" in kinds and "polynomial" not in kinds:
            return Form("affine", 1.0)
        return Form("polynomial", degree)

    def __sub__(self, other: Form) -> Form:
        return self + -other

    def __mul__(self, other: Form) -> Form:
        sign = self.sign * other.sign
        for one, another in ((self, other), (other, self)):
            if one.kind == "constant":
                flips = another.kind == "affine" and sign != 1
                return replace(another, kind="polynomial" if flips else another.kind, sign=sign)
        monomial = self.kind == other.kind == "monomial"
        return _limited("monomial" if monomial else "polynomial", self.degree + other.degree, sign)

    def __truediv__(self, other: Form) -> Form:
        if other.kind not in {"constant", "monomial"}:
            raise NotGentle("Below a fraction line stand only products of variables, no sums.")
        return self * other  # of the degree alone

    def power(self, exponent: float) -> Form:
        """Of a power.

        Raises:
            NotGentle: It is negative or fractional of a sum, or the degree is too high.
        """
        if exponent == 1:
            return self
        if self.kind == "constant":
            return Form("constant", sign=0)
        if self.kind == "monomial":
            return _limited("monomial", self.degree * abs(exponent), self.sign * self.sign)
        if exponent < 0 or exponent != int(exponent):
            raise NotGentle("Negative and fractional powers are of products of variables, no sums.")
        return _limited("polynomial", self.degree * exponent, 0)

    def log(self) -> Form:
        """Of a logarithm.

        Raises:
            NotGentle: It may begin anywhere, and would leave out who is below.
        """
        if self.kind == "constant":
            return Form("constant", sign=0)
        if self.kind == "polynomial" or self.sign != 1:
            raise NotGentle(
                "A logarithm or a root is of a product of variables, or of a * x + b with positive "
                "a and b."
            )
        return Form("polynomial", 1.0, 0)

    def root(self) -> Form:
        """Of a square root.

        Raises:
            NotGentle: As of a logarithm.
        """
        found = self.log()
        return self.power(0.5) if self.kind == "monomial" else found


def _limited(kind: Kind, degree: float, sign: int) -> Form:
    if degree > MAX_DEGREE:
        raise NotGentle(f"The powers in a product are together at most {MAX_DEGREE}.")
    return Form(kind, degree, sign)


def require_gentle(asked: Selection | None, population: Population, names: Collection[str]) -> None:
    """Refuse numbers of a request that could pick out persons.

    Args:
        asked: The request's criteria and derived variables; CASE and COALESCE are refused elsewhere
            (`cohort.choice`).
        population: That of contract and request.
        names: What the computation reads. What only criteria read is not concerned: who meets them
            is compared with earlier results.

    Raises:
        InputError: ``bad-criterion``, with the place in the definition.
    """
    texts = {} if asked is None else {one.name: one.expression for one in asked.derived}
    forms = dict[str, Form]()
    for name in texts:  # in their order: each is made of earlier ones
        if name in names and population.variables[name].type in _ATOMS:
            _form_of(name, texts, forms, population)


def numbers_made(population: Population, names: Collection[str]) -> tuple[str, ...]:
    """Those of these variables that the researcher derives as numbers."""
    made = (name for name in names if name in population.asked)
    return tuple(sorted(name for name in made if population.variables[name].type in _ATOMS))


def _form_of(
    name: str, texts: Mapping[str, str], forms: dict[str, Form], population: Population
) -> Form:
    """The form of a variable; of the contract's, only that it is one."""
    if name not in texts:
        return Form.variable()
    if name not in forms:
        forms[name] = _Reader(texts, forms, population, texts[name]).form(parse(texts[name]))
    return forms[name]


class _Reader:
    """One definition among those that it is made of."""

    def __init__(
        self,
        texts: Mapping[str, str],
        forms: dict[str, Form],
        population: Population,
        text: str,
    ) -> None:
        self._texts = texts
        self._forms = forms
        self._population = population
        self._text = text

    def form(self, node: Node) -> Form:
        """The form of a number.

        Raises:
            InputError: ``bad-criterion``.
        """
        try:
            return self._form(node)
        except NotGentle as found:
            raise refused(
                self._text,
                node.at,
                f"{found} Numbers could pick out single persons otherwise. Let the contract derive "
                "it (`derived:` in the study file), for all sites to sign.",
            ) from None

    def _form(self, node: Node) -> Form:
        match node.op:
            case "name":
                return _form_of(str(node.value), self._texts, self._forms, self._population)
            case "number" if isinstance(node.value, int | float):
                return Form.constant(float(node.value))
            case "null" | "date" | "text":
                return Form.constant()
            case "call":
                return self._call(node)
        args = [self.form(arg) for arg in node.args]
        match node.op:
            case "neg":
                return -args[0]
            case "+":
                return args[0] + args[1]
            case "-":
                return args[0] - args[1]
            case "*":
                return args[0] * args[1]
            case "/":
                return args[0] / args[1]
        raise NotGentle("A number that a researcher derives is arithmetic.")

    def _call(self, node: Node) -> Form:
        name = str(node.value).lower()
        if name not in _CALLS:
            raise NotGentle(f"A number that a researcher derives has no {name.upper()}.")
        args = [self.form(arg) for arg in node.args]
        match name:
            case "power":
                exponent = node.args[1].value
                return args[0].power(float(exponent) if isinstance(exponent, int | float) else 0.0)
            case "ln" | "log10":
                return args[0].log()
            case "sqrt":
                return args[0].root()
            case "datediff" if "constant" in {arg.kind for arg in args}:
                return Form("polynomial", 1.0)
        return Form.variable()


def parts_made(population: Population, name: str, table: Table) -> Iterator[Floats]:
    """What must not be told of few persons within a number that a researcher derives.

    Who is apart in any part of it, shape (n_rows,), and the terms of its sums: a term that is
    added hides from `dominated` what it is added to.

    Args:
        table: Has everything that the number is made of, derived variables too.
    """
    evaluation = Evaluation(table)
    for part in population.derivations[name].walk():
        if part.op == "column" and part.value in population.asked:
            yield from parts_made(population, str(part.value), table)
        if part.type.kind in _ATOMS and part.reads:
            yield apart(evaluation.column(part))
        if part.op in {"+", "-"}:
            yield from (evaluation.column(term) for term in part.args if _varies(term))


def _varies(term: Expr) -> bool:
    return term.type.kind in _ATOMS and bool(term.reads)


def apart(values: Floats) -> Floats:
    """1 for persons without the value that most have, 0 for others and where most have none.

    A factor that is the same for all but one person takes this person out of what it multiplies:
    the difference from the sum without it is about this person alone.

    Args:
        values: NaN where a person has none.
    """
    present = np.isfinite(values)
    common = np.median(values[present]) if present.any() else 0.0
    scale = max(float(np.abs(values[present]).max(initial=0.0)), _TINY)
    marks = present & (np.abs(values - common) > _ROUNDING * scale)
    if 2 * np.count_nonzero(marks) >= np.count_nonzero(present):
        marks[:] = False
    return np.where(present, marks.astype(np.float64), np.nan)


def dominated(values: Floats, min_cell: int) -> bool:
    """Whether a few persons' values make up nearly all of how a number varies at a site.

    They are ``min_cell - 1`` persons, or fewer where the site has less than ``2 * min_cell``: those
    farthest from the median, by their share of the squared distances from it.

    Args:
        values: NaN where a person has none.
    """
    present = values[np.isfinite(values)]
    if len(present) < min_cell:
        return False
    few = max(1, min(min_cell - 1, len(present) - min_cell))
    scaled = present / max(float(np.abs(present).max()), _TINY)  # squares of the rest may overflow
    away = np.abs(scaled - np.median(scaled))
    most = float(away.max(initial=0.0))
    if most < _TINY:
        return False
    squares = np.square(away / most)
    largest = np.partition(squares, len(squares) - few)[-few:]
    return bool(largest.sum() > DOMINATED * squares.sum())
