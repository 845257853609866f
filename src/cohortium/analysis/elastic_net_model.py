"""What a request of `models.elastic_net` asks for, and the sizes of its rounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, StringConstraints

from cohortium.analysis.formula import MAX_CHARACTERS
from cohortium.analysis.glm_model import GlmParams, Model, check_response
from cohortium.analysis.interface import FieldSpec, Params, Scope
from cohortium.core.rounds import Layout
from cohortium.errors import InputError

Phase = Literal["counts", "counts+moments", "moments", "gram", "path", "split", "folds", "error"]
PHASES: tuple[Phase, ...] = (
    "counts",
    "counts+moments",
    "moments",
    "gram",
    "path",
    "split",
    "folds",
    "error",
)

MAX_LAMBDAS: Final = 200
MAX_FOLDS: Final = 20
LEAST_FOLDS: Final = 3
MAX_SEED: Final = 99
_MOST_SUMS: Final = 300_000
"""Entries of the matrices of a round, about, which are 32 bytes each."""
_LEAST_ANCHORS: Final = 6
_PATH_ANCHORS: Final = 50
_FOLD_ANCHORS: Final = 20

Lambda = Annotated[float, Field(gt=0, le=1e100, allow_inf_nan=False)]


class ElasticNetParams(Params):
    """The model.

    Attributes:
        formula: See `cohortium.analysis.formula`; with an intercept, which is not penalised.
        family: With its canonical link.
        alpha: Share of the penalty that is of absolute values: 1 the lasso, 0 ridge regression.
        lambdas: Weights of the penalty; absent: a path of them, as glmnet makes it.
        n_lambdas: How long that path is at most.
        folds: Of the cross-validation, 3 to 20; 0: none.
        seed: Chooses among the ways of dealing persons to folds.
        standardize: Whether the penalty is on coefficients of columns of unit variance.
    """

    formula: Annotated[str, StringConstraints(min_length=1, max_length=MAX_CHARACTERS)]
    family: Literal["binomial", "gaussian", "poisson"] = "gaussian"
    alpha: Annotated[float, Field(ge=0, le=1)] = 1.0
    lambdas: Annotated[tuple[Lambda, ...], Field(min_length=1, max_length=MAX_LAMBDAS)] | None = (
        None
    )
    n_lambdas: Annotated[int, Field(ge=5, le=MAX_LAMBDAS)] = 100
    folds: Annotated[int, Field(ge=0, le=MAX_FOLDS)] = 10
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 1
    standardize: bool = True

    @property
    def plain(self) -> GlmParams:
        """The model without a penalty."""
        return GlmParams(formula=self.formula, family=self.family)


@dataclass(frozen=True)
class Net:
    """A penalised model of a study's variables.

    Attributes:
        model: Without the penalty.
        params: As asked.
        site: The name of the site that computes; empty at the hub.
    """

    model: Model
    params: ElasticNetParams
    site: str = ""

    @staticmethod
    def of(params: ElasticNetParams, scope: Scope) -> Net:
        """Bind a request.

        Raises:
            InputError: ``bad-formula``, ``bad-input``, ``not-found``.
            PolicyRefusal: ``not-permitted`` where numbers of persons are released rounded.
        """
        model = Model.of(params.plain, scope)
        check_response(model, scope)
        if not model.parsed.intercept:
            raise InputError("bad-formula", "A penalised model has an intercept.")
        if len(model.parsed.names) < 2:
            raise InputError("bad-formula", "A penalised model needs a term beside the intercept.")
        if 0 < params.folds < LEAST_FOLDS:
            raise InputError(
                "bad-input",
                f"A cross-validation has {LEAST_FOLDS} to {MAX_FOLDS} folds; 0 leaves it out.",
            )
        named = scope.site is not None and scope.site < len(scope.sites)
        return Net(model, params, scope.sites[scope.site or 0] if named else "")

    @property
    def gaussian(self) -> bool:
        """Whether one matrix of sums gives everything."""
        return self.params.family == "gaussian"

    @property
    def columns(self) -> int:
        """Of the design matrix, with the intercept."""
        return len(self.model.parsed.names)

    @property
    def parts(self) -> int:
        """Folds; one part where there is no cross-validation."""
        return self.params.folds or 1

    @property
    def triangle(self) -> int:
        """Entries of a packed matrix."""
        return self.columns * (self.columns + 1) // 2

    @property
    def by_fold(self) -> bool:
        """Whether each fold has matrices of its own; else they are shares of the joint ones."""
        return self.parts * self.triangle * _LEAST_ANCHORS <= _MOST_SUMS

    @property
    def curved_parts(self) -> int:
        """Parts with matrices of their own in the rounds of the cross-validation."""
        return self.parts if self.by_fold else 1

    def anchors(self, phase: str, n_lambdas: int) -> npt.NDArray[np.int64]:
        """At which lambdas the matrices of a round are taken."""
        each = self.triangle * (1 if phase == "path" else self.curved_parts)
        most = _PATH_ANCHORS if phase == "path" else _FOLD_ANCHORS
        many = min(n_lambdas, max(_LEAST_ANCHORS, min(most, _MOST_SUMS // each)))
        return np.unique(np.linspace(0, n_lambdas - 1, many).round().astype(np.int64))

    def layout(self, phase: Phase, n_lambdas: int, left: int) -> Layout:
        """The fields of a phase's contribution.

        Args:
            n_lambdas: How many lambdas the path has.
            left: Models of folds that have not converged.
        """
        p, parts, triangle = self.columns, self.parts, self.triangle
        of: dict[str, FieldSpec] = {}
        if phase in {"counts", "counts+moments", "moments"}:
            of |= self.model.layout(phase)
        if phase in {"counts", "counts+moments"} and self.params.folds:
            of["folds"] = FieldSpec((2, parts), "count")
        if phase == "gram":
            of["gram"] = FieldSpec((parts, triangle), "real")
            of["gradient"] = FieldSpec((parts, p), "real")
            if self.gaussian:
                of["outcome_squares"] = FieldSpec((parts,), "real")
        anchors = len(self.anchors(phase, n_lambdas)) if n_lambdas else 0
        if phase == "path":
            of["gradient"] = FieldSpec((n_lambdas, p), "real")
            of["deviance"] = FieldSpec((n_lambdas + 1,), "real")
            of["hessian"] = FieldSpec((anchors, triangle), "real")
        if phase in {"split", "folds"}:
            of["hessian"] = FieldSpec((anchors, self.curved_parts, triangle), "real")
            shape = (parts, n_lambdas, p) if phase == "split" else (left, p)
            of["gradient"] = FieldSpec(shape, "real")
        if phase == "error":
            of["deviance"] = FieldSpec((parts, n_lambdas), "real")
        return of


FAMILY_ERRORS: Mapping[str, str] = {
    "binomial": "deviance",
    "gaussian": "mean squared error",
    "poisson": "deviance",
}
"""What the cross-validation measures, per person, as cv.glmnet does."""
