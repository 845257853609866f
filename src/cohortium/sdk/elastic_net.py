"""Penalised models: the method of a study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from cohortium.sdk.elastic_net_results import ElasticNetResult
from cohortium.sdk.submission import Submits, as_type


class ElasticNetMethods(Submits):
    """The lasso, ridge regression and the elastic net."""

    def elastic_net(
        self,
        formula: str,
        family: Literal["gaussian", "binomial", "poisson"] = "gaussian",
        *,
        alpha: float = 1.0,
        lambdas: Sequence[float] | None = None,
        n_lambdas: int = 100,
        folds: int = 10,
        seed: int = 1,
        standardize: bool = True,
    ) -> ElasticNetResult:
        """A penalised model of the pooled persons at a path of lambdas, with cross-validation.

        Minimises ``-loglik / n + lambda ((1 - alpha) / 2 sum b² + alpha sum |b|)``.

        Args:
            formula: An R formula over the study's variables: ``died ~ age * sex + log(ldh)``.
            family: gaussian (identity), binomial (logit) or poisson (log).
            alpha: 1: the lasso; 0: ridge regression; between them the elastic net.
            lambdas: Weights of the penalty; by default a path of `n_lambdas` as glmnet makes it.
            n_lambdas: How long that path is at most.
            folds: Of the cross-validation, 3 to 20; 0 leaves it out.
            seed: From 0 to 99; another one deals persons to folds differently.
            standardize: Whether the penalty is on coefficients of columns of unit variance;
                coefficients are always given for the variables as they are.

        Raises:
            InputError: ``bad-formula``, ``bad-input``, ``no-convergence``.
            PolicyRefusal: Not permitted, too few persons or too many parameters.
        """
        params = {
            "formula": formula,
            "family": family,
            "alpha": alpha,
            "lambdas": lambdas,
            "n_lambdas": n_lambdas,
            "folds": folds,
            "seed": seed,
            "standardize": standardize,
        }
        run = self.submit("models.elastic_net", params)
        return as_type(ElasticNetResult, run.result())
