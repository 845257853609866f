"""Penalised models as they come back."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from cohortium.core.dictionary import Variable
from cohortium.errors import InputError
from cohortium.sdk.elastic_net_words import HEADINGS, interpret
from cohortium.sdk.language import Language, require_language
from cohortium.sdk.publication import PrintedTable, from_frame
from cohortium.sdk.results import Result
from cohortium.sdk.run_info import RunInfo
from cohortium.sdk.summary import Summary, text_table
from cohortium.sdk.vocabulary import say

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

Floats = npt.NDArray[np.float64]
At = Literal["min", "1se"] | float
"""A lambda: the one of the least cross-validated error, the largest within a standard error of it,
or a number."""


class ElasticNetResult(Result):
    """A penalised model over sites, at a path of lambdas.

    Attributes:
        formula, family, link, alpha, standardize: As asked.
        terms: The coefficients' names.
        lambdas: Falling.
        lambda_min: Of the least cross-validated error; None without cross-validation.
        lambda_1se: The largest whose error is within a standard error of that.
        measure: What the cross-validation measures: deviance, or mean squared error, per person.
        folds, seed: Of the cross-validation; 0 folds without.
        null_deviance: Of the model without terms.
        nobs: Persons with every variable of the model; `n_missing` without.
        n_sites: Sites.
        levels: The levels of the model's categories; the first is the reference.
    """

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        self.formula, self.family = str(data["formula"]), str(data["family"])
        self.link, self.alpha = str(data["link"]), float(data["alpha"])
        self.standardize = bool(data["standardize"])
        self.terms = tuple(str(term) for term in data["terms"])
        self._sd = self._numbers(data["sd"])
        self.lambdas = self._numbers(data["lambdas"])
        self._coefficients = np.array(data["coefficients"], dtype=np.float64)
        self._nonzero = np.array(data["nonzero"], dtype=np.int64)
        self._explained = self._numbers(data["deviance_ratio"])
        many = len(self.lambdas)
        self.null_deviance = float(data["null_deviance"])
        self.nobs, self.n_missing = int(data["n"]), int(data["n_missing"])
        self.n_sites = int(data["n_sites"])
        self.levels = {
            str(name): tuple(str(level) for level in levels)
            for name, levels in (data.get("levels") or {}).items()
        }
        cv = data.get("cv")
        self.measure = None if cv is None else str(cv["measure"])
        self.folds = 0 if cv is None else int(cv["folds"])
        self.seed = None if cv is None else int(cv["seed"])
        self.lambda_min = None if cv is None else float(cv["lambda_min"])
        self.lambda_1se = None if cv is None else float(cv["lambda_1se"])
        self._error, self._error_se = (
            np.full(many, np.nan) if cv is None else self._numbers(cv[name])
            for name in ("mean", "se")
        )
        vectors = (self._nonzero, self._explained, self._error, self._error_se)
        if (
            self._coefficients.shape != (many, len(self.terms))
            or self._sd.shape != (len(self.terms) - 1,)
            or not many
        ):
            raise ValueError("coefficients of other models")
        if any(one.shape != (many,) for one in vectors):
            raise ValueError("a path of another length")

    @staticmethod
    def _numbers(values: Any) -> Floats:
        return np.array(values, dtype=np.float64)

    @cached_property
    def path(self) -> pd.DataFrame:
        """The coefficients at each lambda: a row a lambda, a column a term."""
        import pandas as pd

        index = pd.Index(self.lambdas, name="lambda")
        return pd.DataFrame(self._coefficients, index=index, columns=list(self.terms))

    @property
    def standardized(self) -> pd.DataFrame:
        """The path for a standard deviation (divisor n) of each column, without the intercept."""
        return self.path.iloc[:, 1:] * self._sd

    @cached_property
    def cv(self) -> pd.DataFrame:
        """A row a lambda: coefficients that are not 0, share of the deviance explained, and the
        cross-validated error with its standard error (NaN without cross-validation).
        """
        import pandas as pd

        return pd.DataFrame(
            {
                "nonzero": self._nonzero,
                "deviance_ratio": self._explained,
                "cv_error": self._error,
                "cv_se": self._error_se,
            },
            index=pd.Index(self.lambdas, name="lambda"),
        )

    def quality(self, at: At | None = None) -> dict[str, float]:
        """The row of `cv` of a lambda of the path, the nearest one."""
        near = int(np.argmin(np.abs(np.log(self.lambdas / self.lambda_at(at)))))
        return {str(name): float(self.cv[name].iloc[near]) for name in self.cv.columns}

    def lambda_at(self, at: At | None = None) -> float:
        """The lambda that is meant.

        Args:
            at: ``min``, ``1se`` or a number between the smallest and the largest of the path;
                absent: ``min``, or the only one there is.

        Raises:
            InputError: ``bad-input``.
        """
        if at is None:
            at = "min" if self.folds or len(self.lambdas) > 1 else float(self.lambdas[0])
        if isinstance(at, str):
            chosen = {"min": self.lambda_min, "1se": self.lambda_1se}.get(at)
            if chosen is None:
                raise InputError(
                    "bad-input",
                    "There was no cross-validation; give a lambda."
                    if at in {"min", "1se"}
                    else f"A lambda is 'min', '1se' or a number, not {at!r}.",
                )
            return chosen
        low, high = float(self.lambdas[-1]), float(self.lambdas[0])
        if not low * (1 - 1e-9) <= at <= high * (1 + 1e-9):
            raise InputError(
                "bad-input", f"The path goes from {high:.4g} to {low:.4g}; {at:.4g} is outside."
            )
        return min(max(float(at), low), high)

    def coef(self, at: At | None = None) -> pd.Series[float]:
        """The coefficients at a lambda; between two of the path, on the line between theirs.

        Args:
            at: See `lambda_at`.
        """
        import pandas as pd

        lambda_ = self.lambda_at(at)
        upward = self.lambdas[::-1]
        values = [float(np.interp(lambda_, upward, one[::-1])) for one in self._coefficients.T]
        return pd.Series(values, index=list(self.terms), name="coefficient")

    @property
    def params(self) -> pd.Series[float]:
        """The coefficients at `lambda_min`."""
        return self.coef()

    def selected(self, at: At | None = None) -> list[str]:
        """The terms whose coefficients are not 0, but the intercept."""
        beta = self.coef(at)
        return [term for term in self.terms if term != "Intercept" and beta[term] != 0]

    def predict(
        self, frame: Any, at: At | None = None, which: Literal["mean", "linear"] = "mean"
    ) -> pd.Series[float]:
        """Predictions for persons whose rows you hold; nothing is sent anywhere.

        Args:
            frame: pandas, polars or pyarrow, with the model's explanatory variables.
            at: See `lambda_at`.
            which: ``mean``: the expected response (a probability for binomial); ``linear``: the
                linear predictor.

        Returns:
            One float a row, on the frame's index; NaN where a variable is missing.
        """
        import pandas as pd

        from cohortium.sdk.predictions import designed, response

        matrix, _, index = designed(self.formula, self.terms, frame, self._variables)
        linear = matrix @ self.coef(at).to_numpy()
        return pd.Series(linear if which == "linear" else response(linear, self.link), index=index)

    def to_frame(self) -> pd.DataFrame:
        """One row a term: the coefficients at `lambda_min` and `lambda_1se`; or at each lambda."""
        import pandas as pd

        if not self.folds:
            frame = self.path.T
            frame.columns = pd.Index([f"lambda={one:.6g}" for one in self.lambdas])
            return frame.rename_axis(index="term")
        frame = pd.DataFrame({"lambda_min": self.coef("min"), "lambda_1se": self.coef("1se")})
        return frame.rename_axis(index="term")

    def heading(self, lang: Language = "en") -> str:
        """The kind of model and its formula."""
        return f"{HEADINGS[self.kind].of(lang)}{'：' if lang == 'zh' else ': '}{self.formula}"

    @property
    def kind(self) -> Literal["lasso", "ridge", "elastic net"]:
        """By `alpha`."""
        return "lasso" if self.alpha == 1 else "ridge" if self.alpha == 0 else "elastic net"

    def tables(self, lang: Language = "en") -> tuple[PrintedTable, ...]:
        """The coefficients at the chosen lambdas, and the path."""
        require_language(lang)
        tables = []
        for frame, notes in ((self.to_frame(), ()), (self.cv, self.notes(lang))):
            named = frame.dropna(axis=1, how="all").rename(
                columns={name: say(str(name), lang) for name in frame.columns}
            )
            named = named.rename_axis(index=say(str(frame.index.name), lang))
            tables.append(from_frame(self.heading(lang), named, notes=notes))
        return tuple(tables)

    def summary(self) -> Summary:
        """The chosen lambdas and their coefficients as text."""
        chosen = {"lambda.min": self.lambda_min, "lambda.1se": self.lambda_1se}
        facts = [
            ("Formula:", self.formula),
            ("Family:", f"{self.family} ({self.link})"),
            ("No. Observations:", f"{self.nobs}"),
            ("Alpha:", f"{self.alpha:g} ({self.kind})"),
            ("Left out (missing):", f"{self.n_missing}"),
            ("Lambdas:", f"{len(self.lambdas)}, {self.lambdas[0]:.4g} to {self.lambdas[-1]:.4g}"),
            ("Sites:", f"{self.n_sites}"),
            ("Null deviance:", f"{self.null_deviance:.6g}"),
            ("Run:", self.run.id[:8]),
        ]
        if not self.folds:
            best = int(self._nonzero[-1])
            facts += [("Deviance ratio:", f"{self._explained[-1]:.4f}")]
            facts += [("Nonzero:", f"{best} at the smallest"), ("", "")][: 1 + len(facts) % 2]
            return text_table(f"{self.kind.capitalize()} over sites", facts, (), {})
        for name, lambda_ in chosen.items():
            row = self.quality(lambda_)
            facts.append((f"{name}:", f"{lambda_:.5g}"))
            facts.append(
                (
                    f"{self.folds}-fold {'MSE' if self.family == 'gaussian' else 'deviance'}:",
                    f"{row['cv_error']:.5g} (SE {row['cv_se']:.2g})",
                )
            )
            facts.append(("Nonzero:", f"{int(row['nonzero'])} of {len(self.terms) - 1}"))
            facts.append(("Deviance ratio:", f"{row['deviance_ratio']:.4f}"))
        table = self.to_frame()
        rows = {
            str(term): ["." if value == 0 else f"{value:.6g}" for value in row]
            for term, row in zip(table.index, table.to_numpy().tolist(), strict=True)
        }
        return text_table(f"{self.kind.capitalize()} over sites", facts, tuple(chosen), rows)

    def interpret(self, lang: Language = "en") -> str:
        """Which terms are kept, with which coefficients, and how well they predict."""
        require_language(lang)
        return interpret(self, lang)

    def plot(self) -> alt.TopLevelMixin:
        """The coefficients along the path, for a standard deviation of each column."""
        from cohortium.sdk.elastic_net_plot import coefficients

        return coefficients(self)

    def plot_cv(self) -> alt.TopLevelMixin:
        """The cross-validated error along the path, with the two chosen lambdas.

        Raises:
            InputError: ``bad-input`` without cross-validation.
        """
        from cohortium.sdk.elastic_net_plot import errors

        if not self.folds:
            raise InputError("bad-input", "There was no cross-validation to draw.")
        return errors(self)

    def _text(self) -> str:
        return str(self.summary())
