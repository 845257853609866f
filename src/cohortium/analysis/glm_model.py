"""What a request of `glm` asks for, bound to the study's variables."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, StringConstraints

from cohortium.analysis.families import DEFAULT_LINKS, LINKS, Family
from cohortium.analysis.formula import MAX_CHARACTERS, Parsed, parse, variables_of
from cohortium.analysis.interface import FieldSpec, Params, Scope
from cohortium.analysis.marks import n_marks
from cohortium.core.dictionary import Name, VariableType
from cohortium.core.rounds import Layout
from cohortium.core.table import Table
from cohortium.errors import InputError

Floats = npt.NDArray[np.float64]
Errors = Literal["model", "HC0", "HC1", "HC2", "HC3", "site"]

SITES_TO_CLUSTER = 5
"""Of fewer, the others' scores follow from their sum of squares and one's own."""
MAX_OFFSET = 50.0
POSITIVE = frozenset({"gamma", "inverse_gaussian"})
"""Families of positive numbers."""
MAX_TIMES = 1_000_000


class GlmParams(Params):
    """The model.

    Attributes:
        formula: See `cohortium.analysis.formula`.
        family: The outcome's distribution.
        link: Of gamma inverse or log, of inverse_gaussian inverse_squared (1 / mean²) or log; the
            other families have their canonical link: logit,
            identity, log. Absent: the canonical link.
        offset: A number that is added to the linear predictor, such as the log of a time.
        weights: A whole number from 1: how many times each person counts.
        errors: Of the standard errors: of the model, robust (HC0 to HC3) or clustered by site.
    """

    formula: Annotated[str, StringConstraints(min_length=1, max_length=MAX_CHARACTERS)]
    family: Literal["binomial", "gamma", "gaussian", "inverse_gaussian", "poisson"] = "gaussian"
    link: Literal["identity", "inverse", "inverse_squared", "log", "logit"] | None = None
    offset: Annotated[Name, Field(description="A variable.")] | None = None
    weights: Annotated[Name, Field(description="A variable.")] | None = None
    errors: Errors = "model"

    @property
    def reads(self) -> frozenset[str]:
        """Every variable."""
        more = (name for name in (self.offset, self.weights) if name is not None)
        return variables_of(self.formula).union(more)


@dataclass(frozen=True)
class Model:
    """A model of a study's variables.

    Attributes:
        parsed: The formula; its `variables` are all that a person must have a value of.
        family: With its link.
        params: As asked.
    """

    parsed: Parsed
    family: Family
    params: GlmParams

    @staticmethod
    def of(params: GlmParams, scope: Scope) -> Model:
        """Bind a request.

        Raises:
            InputError: ``bad-formula``, ``bad-input``, ``not-found``.
            PolicyRefusal: ``not-permitted`` where numbers of persons are released rounded.
        """
        scope.disclosure.require_exact()
        parsed = parse(params.formula, scope.variables)
        for name in (params.offset, params.weights):
            if name is not None:
                scope.variable(name)
        link = params.link or DEFAULT_LINKS[params.family]
        if (params.family, link) not in LINKS:
            known = ", ".join(sorted(one for kind, one in LINKS if kind == params.family))
            raise InputError("bad-input", f"The family {params.family} has the link {known}.")
        parsed = replace(parsed, variables=params.reads)
        return Model(parsed, LINKS[params.family, link], params)

    @property
    def weighs(self) -> bool:
        """Whether some persons may have far more weight than others for what the request says."""
        return self.params.offset is not None or self.params.weights is not None

    @property
    def robust(self) -> bool:
        """Whether the standard errors take a round of their own."""
        return self.params.errors != "model"

    def more(self, table: Table) -> tuple[Floats | None, Floats | None]:
        """Offset and times of persons who have them, shape (n_rows,); None where not asked for.

        Raises:
            InputError: ``bad-input``; names the variable, no value.
        """
        return self._offset(table), self._times(table)

    def _offset(self, table: Table) -> Floats | None:
        name = self.params.offset
        if name is None:
            return None
        offset = np.asarray(table.columns[name], dtype=np.float64)
        if self.family.link in {"log", "logit"} and np.any(np.abs(offset) > MAX_OFFSET):
            raise InputError(
                "bad-input",
                f"The offset {name} is beyond {MAX_OFFSET:g} for some persons at a site; with the "
                f"link {self.family.link} it is a logarithm.",
                variable=name,
            )
        return offset

    def _times(self, table: Table) -> Floats | None:
        name = self.params.weights
        if name is None:
            return None
        times = np.asarray(table.columns[name], dtype=np.float64)
        if np.any((times < 1) | (times > MAX_TIMES)):
            raise InputError(
                "bad-input",
                f"The weights {name} are not whole numbers from 1 to a million at a site; leave "
                "persons out with a criterion.",
                variable=name,
            )
        return times

    def told(self, table: Table) -> list[Floats]:
        """The weights, and the offset as the link turns it into one, shape (n_rows,)."""
        out = []
        if self.params.weights is not None:
            out.append(np.asarray(table.columns[self.params.weights], dtype=np.float64))
        if self.params.offset is not None:
            offset = np.asarray(table.columns[self.params.offset], dtype=np.float64)
            logs = self.family.link in {"log", "logit"}
            out.append(np.exp(np.clip(offset, -MAX_OFFSET, MAX_OFFSET)) if logs else offset)
        return out

    def layout(self, phase: str) -> Layout:
        """The fields of a phase's contribution."""
        p = len(self.parsed.names)
        triangle = FieldSpec((p * (p + 1) // 2,), "real")
        of: dict[str, FieldSpec] = {}
        if phase in {"counts", "counts+moments"}:
            of["persons"] = FieldSpec((3,), "count")
        if phase in {"moments", "counts+moments"}:
            of |= self._moments(p)
        if phase in {"start", "fit"}:
            of["information"] = triangle
            of["gradient"] = FieldSpec((p,), "real")
            of["deviance"] = FieldSpec((1,), "real")
            if not self.family.canonical:
                of["observed"] = triangle
            if self.family.name in POSITIVE:
                of["pearson"] = FieldSpec((1,), "real")
            if self.family.bounded:
                of["outside"] = FieldSpec((1,), "count")
            if self.weighs:
                of["working"] = FieldSpec((2,), "real")
        if phase == "errors":
            of["meat"] = triangle
            of["odd"] = FieldSpec((1,), "count")
        return of

    def _moments(self, p: int) -> Layout:
        of = {
            "columns": FieldSpec((p,), "real"),
            "squares": FieldSpec((p,), "real"),
            "outcome": FieldSpec((3,), "real"),
        }
        marks = n_marks(self.parsed)
        if marks > 1:
            of["marks"] = FieldSpec((marks * (marks + 1) // 2,), "count")
        if self.parsed.levels:
            of["levels"] = FieldSpec((len(self.parsed.levels),), "count")
        if self.params.weights is not None:
            of["once"] = FieldSpec((1,), "count")
        if self.weighs:
            of["weighed"] = FieldSpec((5,), "real")
        return of


def check_response(model: Model, scope: Scope) -> None:
    """Whether the outcome, offset and weights are of types that the family takes.

    Raises:
        InputError: ``bad-input``.
    """
    response, family = model.parsed.response, model.family.name
    names = sorted(response.names)
    for name, what in ((model.params.offset, "offset"), (model.params.weights, "weights")):
        if name is not None and name in response.names:
            raise InputError("bad-input", f"{name} is the outcome and the {what}.")
    offset, weights = model.params.offset, model.params.weights
    if offset is not None and scope.variable(offset).type not in {
        VariableType.INTEGER,
        VariableType.REAL,
    }:
        raise InputError("bad-input", f"{offset} is no number; an offset is one.")
    if weights is not None and scope.variable(weights).type is not VariableType.INTEGER:
        raise InputError("bad-input", f"{weights} is no integer; weights say how often one counts.")
    if family in {"gaussian", *POSITIVE}:
        if response.levels is not None:
            raise InputError(
                "bad-input", f"{names[0]} is a category; the family {family} needs a number."
            )
        return
    if response.text != names[0]:
        raise InputError(
            "bad-input", f"The outcome of a {family} model is a variable, not {response.text}."
        )
    variable = scope.variable(names[0])
    if family == "binomial":
        if response.levels is not None and len(response.levels) == 2:
            return
        if variable.type in {VariableType.INTEGER, VariableType.BOOLEAN}:
            return
        raise InputError(
            "bad-input",
            f"{variable.name} is {variable.type}; a binomial outcome is an integer of 0 and 1, "
            "a boolean, or a category of two levels, the second being the event.",
        )
    if variable.type is not VariableType.INTEGER and variable.type is not VariableType.BOOLEAN:
        raise InputError("bad-input", f"{variable.name} is {variable.type}; a count is an integer.")
