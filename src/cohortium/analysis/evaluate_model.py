"""What a request of `evaluate.model` asks for, and each person's score under a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, StringConstraints, model_validator

from cohortium.analysis.distribution import Question
from cohortium.analysis.events import event_codes
from cohortium.analysis.formula import MAX_CHARACTERS, Parsed, design, parse, variables_of
from cohortium.analysis.glm_site import blocks
from cohortium.analysis.grouped import Groups
from cohortium.analysis.interface import Params, Scope
from cohortium.core.dictionary import Label, Name, Variable, VariableType
from cohortium.core.model import Document
from cohortium.core.table import Table
from cohortium.errors import InputError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MAX_MODELS: Final = 8
MAX_LOG_ODDS: Final = 30.0
"""Of a variable that is a probability of 0 or 1."""
DECIMALS: Final = 3
"""To which log odds are rounded."""

_EVENTS = frozenset({VariableType.BOOLEAN, VariableType.INTEGER, VariableType.REAL})
_SCORES = frozenset({VariableType.BOOLEAN, VariableType.INTEGER, VariableType.REAL})


class EvaluatedModel(Document):
    """One model: a variable of the study, or a formula with its coefficients.

    Attributes:
        name: What the result calls it.
        score: A variable: a number that is higher where the outcome is likelier.
        formula: The right side of a formula: ``age + sex``.
        coefficients: Of its terms, as the formula's columns are named (``sex[T.2]``); of all, but
            the intercept of what is no probability.
        probability: Whether it says how likely the outcome is: `score` is from 0 to 1, and the
            formula's sum is the log odds. Else it only puts persons in an order.
    """

    name: Label
    score: Name | None = None
    formula: Annotated[str | None, StringConstraints(min_length=1, max_length=MAX_CHARACTERS)] = (
        None
    )
    coefficients: Mapping[str, float] | None = None
    probability: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.score is None) == (self.formula is None):
            raise ValueError("a model has either a score or a formula")
        if (self.formula is None) != (self.coefficients is None):
            raise ValueError("a formula, and only a formula, comes with coefficients")
        return self


class EvaluateParams(Params):
    """Which models are evaluated.

    Attributes:
        outcome: A boolean, a number of 0 and 1, or a category.
        event_level: Of a category, the level that is predicted; of two levels by default the
            second.
        models: One, or several to compare.
        groups: Groups of risk of the calibration curve.
        confidence: Of all limits.
    """

    outcome: Name
    event_level: Label | None = None
    models: Annotated[tuple[EvaluatedModel, ...], Field(min_length=1, max_length=MAX_MODELS)]
    groups: Annotated[int, Field(ge=3, le=20)] = 10
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        if len({one.name for one in self.models}) != len(self.models):
            raise ValueError("two models have the same name")
        return self

    def text(self, model: EvaluatedModel) -> str:
        """A model's whole formula."""
        return f"{self.outcome} ~ {model.formula}"

    @property
    def reads(self) -> frozenset[str]:
        """Every variable."""
        names = {self.outcome}
        for one in self.models:
            if one.score is not None:
                names.add(one.score)
            else:
                names |= variables_of(self.text(one))
        return frozenset(names)


@dataclass(frozen=True)
class Outcome:
    """Who has the event: 1, and who has not: 0.

    Attributes:
        event: The level that is the event, of a category.
        code: Of a category: the mark of each of its levels.
    """

    variable: Variable
    event: str | None = None
    code: tuple[int, ...] = ()

    @staticmethod
    def of(scope: Scope, name: str, level: str | None) -> Outcome:
        """Check the type.

        Raises:
            InputError: ``not-found``, ``bad-input``.
        """
        variable = scope.variable(name)
        if variable.levels is not None:
            if level is None and len(variable.levels) == 2:
                level = variable.levels[1]
            if level not in variable.levels:
                raise InputError(
                    "bad-input",
                    f"{name} is a category: say which level is predicted (event_level): "
                    f"{', '.join(variable.levels[:20])}.",
                )
            return Outcome(variable, level, tuple(int(one == level) for one in variable.levels))
        if variable.type not in _EVENTS:
            raise InputError(
                "bad-input",
                f"{name} is {variable.type}; an outcome is a boolean, a number of 0 and 1, or a "
                "category.",
            )
        if level is not None:
            raise InputError("bad-input", f"{name} has no levels; leave event_level out.")
        return Outcome(variable)

    @property
    def names(self) -> tuple[str, ...]:
        """The one variable."""
        return (self.variable.name,)

    def __len__(self) -> int:
        """Without and with the event."""
        return 2

    def codes(self, table: Table) -> Ints:
        """1 for persons with the event; 0 also where it is missing.

        Raises:
            InputError: ``bad-input`` for a number other than 0 and 1.
        """
        return event_codes(table, self.variable.name, self.code)


@dataclass(frozen=True)
class Scorer:
    """A model bound to the study's variables.

    Attributes:
        model: As asked.
        parsed: Of a formula; None for a variable.
        weights: Of its columns.
        kept_as: The variable that the scores become: recorded to `DECIMALS` where they are log
            odds.
    """

    model: EvaluatedModel
    parsed: Parsed | None
    weights: Floats
    kept_as: Variable

    @staticmethod
    def of(model: EvaluatedModel, params: EvaluateParams, kept_as: str, scope: Scope) -> Scorer:
        """Bind one model.

        Raises:
            InputError: ``bad-input``, ``bad-formula``, ``not-found``.
        """
        decimals = DECIMALS if model.probability else None
        made = Variable(name=kept_as, type=VariableType.REAL, decimals=decimals)
        if model.score is not None:
            variable = scope.variable(model.score)
            if variable.type not in _SCORES:
                raise InputError(
                    "bad-input", f"{model.score} is {variable.type}; a score is a number."
                )
            if not model.probability:
                made = Variable(name=kept_as, type=variable.type, decimals=variable.decimals)
            return Scorer(model, None, np.empty(0), made)
        parsed = parse(params.text(model), scope.variables)
        return Scorer(model, parsed, _weights(model, parsed), made)

    @property
    def reads(self) -> frozenset[str]:
        """The variables of which a person needs a value."""
        if self.parsed is not None:
            return self.parsed.variables
        return frozenset({self.model.score or ""})

    def scores(self, table: Table) -> Floats:
        """Each person's score, shape (n_rows,), log odds where it is a probability; NaN where a
        value is missing.

        Raises:
            InputError: ``bad-input``; names the model, no value.
        """
        name = self.model.name
        if self.parsed is None:
            values = np.asarray(table.columns[self.model.score or ""], dtype=np.float64)
            return _log_odds(values, name) if self.model.probability else values
        return self.linear(table)

    def linear(self, table: Table) -> Floats:
        """The sum of a formula's columns times their coefficients, shape (n_rows,)."""
        parsed = self.parsed
        if parsed is None:
            raise RuntimeError("a score has no columns")
        table = table.select(tuple(sorted(parsed.variables)))
        out = np.zeros(table.n_rows)
        begin = 0
        for block in blocks(table):
            x, _ = design(block, parsed)
            here = out[begin : begin + block.n_rows]
            # One column after another: in any other order a sum may round otherwise.
            for column, weight in zip(x.T, self.weights.tolist(), strict=True):
                here += weight * column
            begin += block.n_rows
        return out

    def kept(self, table: Table) -> Floats:
        """The scores as they are counted: log odds rounded to `DECIMALS`."""
        values = self.scores(table)
        return np.round(values, DECIMALS) if self.model.probability else values


def _weights(model: EvaluatedModel, parsed: Parsed) -> Floats:
    """The coefficients in the columns' order.

    Raises:
        InputError: ``bad-input``.
    """
    given = dict(model.coefficients or {})
    if not model.probability:
        given.setdefault("Intercept", 0.0)
        if not parsed.intercept:
            given.pop("Intercept")
    unknown = [name for name in given if name not in parsed.names]
    missing = [name for name in parsed.names if name not in given]
    if unknown or missing:
        what = f"has no term {unknown[0][:80]!r}" if unknown else f"lacks {missing[0]!r}"
        raise InputError(
            "bad-input",
            f"The coefficients of {model.name} do not fit its formula, which {what}; its terms "
            f"are {', '.join(parsed.names[:20])}."
            if unknown
            else f"The model {model.name} {what}; its formula's terms are "
            f"{', '.join(parsed.names[:20])}.",
            model=model.name,
        )
    return np.array([given[name] for name in parsed.names], dtype=np.float64)


def _log_odds(values: Floats, name: str) -> Floats:
    present = ~np.isnan(values)
    if np.any((values[present] < 0) | (values[present] > 1)):
        raise InputError(
            "bad-input",
            f"{name} is not from 0 to 1 for some persons at a site; evaluate it with "
            "probability=False.",
            model=name,
        )
    with np.errstate(divide="ignore"):
        odds = np.log(values) - np.log1p(-values)
    return np.asarray(np.clip(odds, -MAX_LOG_ODDS, MAX_LOG_ODDS))


@dataclass(frozen=True)
class Bound:
    """The whole request, bound to the study's variables."""

    params: EvaluateParams
    outcome: Outcome
    scorers: tuple[Scorer, ...]

    @staticmethod
    def of(params: EvaluateParams, scope: Scope) -> Bound:
        """Bind a request.

        Raises:
            InputError: ``bad-input``, ``bad-formula``, ``not-found``.
            PolicyRefusal: ``not-permitted`` where numbers of persons are released rounded.
        """
        scope.disclosure.require_exact()
        outcome = Outcome.of(scope, params.outcome, params.event_level)
        if params.outcome in {one.score for one in params.models}:
            raise InputError("bad-input", f"{params.outcome} cannot be its own score.")
        letter = "t" if params.outcome.startswith("s") else "s"
        scorers = tuple(
            Scorer.of(one, params, f"{letter}{at}", scope) for at, one in enumerate(params.models)
        )
        return Bound(params, outcome, scorers)

    @property
    def formulas(self) -> tuple[tuple[int, Parsed], ...]:
        """The models that are formulas, with their places."""
        found = enumerate(one.parsed for one in self.scorers)
        return tuple((at, parsed) for at, parsed in found if parsed is not None)

    @property
    def question(self) -> Question:
        """Persons with an outcome and a score of every model."""
        kept = tuple(one.kept_as for one in self.scorers)
        return Question(kept, Groups((), ()), least=1, marks=self.outcome)

    def scored(self, table: Table) -> Table:
        """The outcome and the scores as variables."""
        name = self.outcome.variable.name
        variables = {name: table.variable(name)}
        columns = {name: table.columns[name]}
        for one in self.scorers:
            variables[one.kept_as.name] = one.kept_as
            columns[one.kept_as.name] = one.kept(table)
        return Table(variables, columns)

    def complete(self, scored: Table) -> npt.NDArray[np.bool_]:
        """Who has an outcome and every score, shape (n_rows,)."""
        present = [scored.present(name) for name in sorted(scored.variables)]
        return np.asarray(np.all(present, axis=0))
