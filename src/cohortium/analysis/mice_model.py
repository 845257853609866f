"""What a request of `missing.mice` asks for, and how each variable is imputed."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, StringConstraints

from cohortium.analysis.formula import MAX_CHARACTERS
from cohortium.analysis.glm_model import GlmParams, Model, check_response
from cohortium.analysis.interface import Params, Scope
from cohortium.core.dictionary import NUMERIC, Name, Variable, VariableType
from cohortium.core.table import Table
from cohortium.errors import InputError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Method = Literal["norm", "logreg", "polyreg"]

METHODS: tuple[Method, ...] = ("norm", "logreg", "polyreg")
MAX_STEPS: Final = 1000
MAX_DRAWN: Final = 1_000_000
MAX_VARIABLES: Final = 100


class MiceParams(Params):
    """The model, and how what is missing is imputed.

    Attributes:
        formula: Of the model that is wanted; see `cohortium.analysis.formula`.
        family: The outcome's distribution; an outcome of another than gaussian or binomial is not
            imputed.
        link: As of `glm`.
        impute: The variables that are imputed; absent: all of which values are missing. Persons
            without a value of any other are left out.
        auxiliary: Variables that are not in the formula and help to impute.
        m: Imputed data sets.
        iterations: Of the chained equations.
        seed: The same request with the same seed gives the same result.
    """

    formula: Annotated[str, StringConstraints(min_length=1, max_length=MAX_CHARACTERS)]
    family: Literal["binomial", "gamma", "gaussian", "inverse_gaussian", "poisson"] = "gaussian"
    link: Literal["identity", "inverse", "inverse_squared", "log", "logit"] | None = None
    impute: Annotated[tuple[Name, ...], Field(min_length=1, max_length=MAX_VARIABLES)] | None = None
    auxiliary: Annotated[tuple[Name, ...], Field(max_length=MAX_VARIABLES)] = ()
    m: Annotated[int, Field(ge=2, le=50)] = 5
    iterations: Annotated[int, Field(ge=1, le=50)] = 10
    seed: Annotated[int, Field(ge=0, lt=2**53)] = 1

    @property
    def glm(self) -> GlmParams:
        """The model that is fitted on the imputed data."""
        return GlmParams(formula=self.formula, family=self.family, link=self.link)

    @property
    def reads(self) -> frozenset[str]:
        """Every variable."""
        return self.glm.reads.union(self.auxiliary)


@dataclass(frozen=True)
class Plan:
    """A request bound to the study's variables; K variables in the order of `names`.

    Attributes:
        names: Every variable, sorted.
        asked: Those that may be imputed.
    """

    params: MiceParams
    model: Model
    variables: tuple[Variable, ...]
    asked: tuple[str, ...]

    @staticmethod
    def of(params: MiceParams, scope: Scope) -> Plan:
        """Bind it.

        Raises:
            InputError: ``bad-formula``, ``bad-input``, ``not-found``.
            PolicyRefusal: ``not-permitted`` where numbers of persons are released rounded.
        """
        model = Model.of(params.glm, scope)
        check_response(model, scope)
        variables = tuple(scope.variable(name) for name in sorted(params.reads))
        for one in variables:
            if one.type not in NUMERIC and one.type is not VariableType.CATEGORY:
                raise InputError("bad-input", f"{one.name} is {one.type}; it helps no imputation.")
        if len(variables) < 2 or len(variables) > MAX_VARIABLES:
            raise InputError("bad-input", f"Chained equations take 2 to {MAX_VARIABLES} variables.")
        imputes = params.family in {"gaussian", "binomial"}
        outcome = frozenset[str]() if imputes else model.parsed.response.names
        may = [one.name for one in variables if one.name not in outcome]
        for name in params.impute or ():
            if name not in may:
                why = f"the outcome of a {params.family} model" if name in outcome else "not in use"
                raise InputError("bad-input", f"{name} is {why}: it is not imputed.", variable=name)
        chosen = may if params.impute is None else sorted(set(params.impute))
        return Plan(params, model, variables, tuple(chosen))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of all variables."""
        return tuple(one.name for one in self.variables)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many columns each has: levels but the first, or one."""
        return tuple(max(1, len(one.levels or ()) - 1) for one in self.variables)

    @cached_property
    def level_at(self) -> tuple[int, ...]:
        """Where each variable's levels begin among all, shape (K + 1,)."""
        edges = [0]
        for one in self.variables:
            edges.append(edges[-1] + len(one.levels or ()))
        return tuple(edges)

    @cached_property
    def columns(self) -> tuple[slice, ...]:
        """Where each variable's columns are in `encode`, after that of ones."""
        ends = np.cumsum([1, *self.sizes]).tolist()
        return tuple(slice(a, b) for a, b in itertools.pairwise(ends))

    @property
    def width(self) -> int:
        """Columns of all variables together, with that of ones."""
        return 1 + sum(self.sizes)

    def predictors(self, v: int) -> npt.NDArray[np.int64]:
        """The columns from which a variable is imputed."""
        every = np.arange(self.width)
        own = self.columns[v]
        return np.concatenate([every[: own.start], every[own.stop :]])

    def outcomes(self, v: int, method: Method) -> int:
        """Linear predictors of a variable's model."""
        return self.sizes[v] if method == "polyreg" else 1

    def drawn(self, v: int, method: Method) -> int:
        """Numbers that are drawn in a step for one imputation: coefficients, and a sigma."""
        p = len(self.predictors(v))
        return p + 1 if method == "norm" else self.outcomes(v, method) * p


@dataclass(frozen=True)
class Scales:
    """What the joint observed values say; K variables.

    Attributes:
        centre: (K,); means of numbers; 0 for categories.
        spread: (K,); their standard deviations; 1 for categories and constants.
        shares: Of each level of all categories, in the order of `Plan.level_at`.
    """

    centre: Floats
    spread: Floats
    shares: Floats


def level_shares(plan: Plan, scales: Scales, v: int) -> Floats:
    """How the levels of a category, or the values 0 and 1 of a number, are distributed."""
    if plan.variables[v].levels is None:
        return np.array([1.0 - scales.centre[v], scales.centre[v]])
    return scales.shares[plan.level_at[v] : plan.level_at[v + 1]]


def encode(out: Floats, values: Floats, v: int, plan: Plan, scales: Scales) -> None:
    """Fill a variable's columns, shape (n, size), from its values or codes, shape (n,)."""
    levels = plan.variables[v].levels
    if levels is None:
        out[:, 0] = (values - scales.centre[v]) / scales.spread[v]
        return
    for column in range(out.shape[1]):
        out[:, column] = values == column + 1


def present(table: Table, plan: Plan) -> Bools:
    """Who has a value of which variable, shape (K, n_rows)."""
    return np.array([table.present(name) for name in plan.names])
