"""A fitted generalised linear model, with the names that statsmodels users know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cohortium.core.dictionary import Variable
from cohortium.sdk.coefficients import Coefficients
from cohortium.sdk.html import result_html, text_html
from cohortium.sdk.language import Language, require_language
from cohortium.sdk.publication import PrintedTable, Row, limits_text, p_text
from cohortium.sdk.run_info import RunInfo
from cohortium.sdk.summary import Summary, fixed, text_table
from cohortium.sdk.vocabulary import say

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

    from cohortium.core.table import Table
    from cohortium.sdk.hypothesis import HypothesisTest

SCALE_NAMES = {
    ("binomial", "logit"): "odds ratio",
    ("gamma", "inverse"): "difference of 1 / mean",
    ("gamma", "log"): "ratio of means",
    ("gaussian", "identity"): "difference",
    ("inverse_gaussian", "inverse_squared"): "difference of 1 / mean²",
    ("inverse_gaussian", "log"): "ratio of means",
    ("multinomial", "logit"): "relative risk ratio",
    ("negative_binomial", "log"): "rate ratio",
    ("ordinal", "logit"): "odds ratio",
    ("ordinal", "probit"): "coefficient",
    ("ordinal", "cloglog"): "coefficient",
    ("poisson", "log"): "rate ratio",
}
"""What exp(coefficient) is called; where the link is no logarithm, the coefficient itself."""
RATIOS = frozenset({"log", "logit"})
HEADS = {
    "term": "Term",
    "coefficient": "Coefficient",
    "std_error": "SE",
    "odds ratio": "Odds ratio",
    "rate ratio": "Rate ratio",
    "ratio of means": "Ratio of means",
    "relative risk ratio": "Relative risk ratio",
}
SUMMARY_DIGITS = (4, 4, 3, 3, 4, 4)
"""Decimals of the columns of `GlmResult.summary`."""


class GlmResult(Coefficients):
    """A GLM fitted over sites.

    `params`, `bse`, `tvalues` and `pvalues` are Series over the terms, named as statsmodels names
    them (``Intercept``, ``sex[T.2]``, ``age:bmi``).

    Attributes:
        kind: What `summary` is headed with.
        formula: The model's formula.
        family: binomial, gamma, gaussian, inverse_gaussian, poisson or negative_binomial.
        link: logit, inverse, inverse_squared, identity or log.
        offset, weights: The variables, where there are such.
        errors: Of the standard errors: model, HC0 to HC3, or site.
        df_test: Degrees of freedom of the t tests; None where the tests are z.
        nobs: Persons with every variable of the model.
        n_missing: Persons left out because one is missing.
        scale: The dispersion (1 for binomial and poisson).
        llf: Log-likelihood.
        levels: The levels of the model's categories; the first is the reference.
        outcome_levels: Of a category with more than two levels, in the model's order.
    """

    kind = "Generalized linear model over sites"
    outcome_levels: tuple[str, ...] = ()

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        self.formula = str(data["formula"])
        self.family = str(data["family"])
        self.link = str(data["link"])
        self.terms = tuple(str(term) for term in data["terms"])
        self.nobs = int(data["n"])
        self.n_missing = int(data["n_missing"])
        self.n_sites = int(data["n_sites"])
        self.deviance = float(data["deviance"])
        self.null_deviance = _number(data.get("null_deviance"))
        self.aic = _number(data.get("aic"))
        self.llf = _number(data.get("loglik"))
        self.df_resid = int(data["df_resid"])
        self.df_model = int(data["df_model"])
        self.iterations = int(data["iterations"])
        self.scale = float(data["scale"])
        self.statistic_name = str(data["statistic_name"])
        self.offset: str | None = data.get("offset")
        self.weights: str | None = data.get("weights")
        self.errors = str(data.get("errors", "model"))
        of_t = self.df_resid if self.statistic_name == "t" else None
        df_test = data.get("df_test", of_t)
        self.df_test = None if df_test is None else int(df_test)
        self.levels = {
            str(name): tuple(str(level) for level in levels)
            for name, levels in (data.get("levels") or {}).items()
        }
        self._series("params")  # a result that lacks its coefficients is refused here

    def wald_test(self, terms: str | Sequence[str]) -> HypothesisTest:
        """Whether all coefficients of some terms are 0, from their released covariance.

        Args:
            terms: Terms as `params` names them, or as the formula does: ``stage`` stands for all
                its levels.

        Raises:
            InputError: ``not-found``; ``bad-input`` where their covariance is singular.
        """
        from cohortium.sdk.glm_tests import wald_test

        return wald_test(self, [terms] if isinstance(terms, str) else list(terms))

    def predict(self, frame: Any, which: Literal["mean", "linear"] = "mean") -> pd.Series[float]:
        """Predictions for persons whose rows you hold; nothing is sent anywhere.

        Args:
            frame: pandas, polars or pyarrow, with the model's explanatory variables and offset.
            which: ``mean``: the expected response (a probability for binomial); ``linear``: the
                linear predictor.

        Returns:
            One float a row, on the frame's index; NaN where a variable is missing.
        """
        import pandas as pd

        matrix, table, index = self._design(frame, self.terms)
        linear = matrix @ self.params.to_numpy()
        if self.offset is not None:
            linear = linear + table.columns[self.offset]
        return pd.Series(self._response(linear, which), index=index)

    def _design(self, frame: Any, columns: Sequence[str]) -> tuple[Any, Table, pd.Index[Any]]:
        """The design matrix of a frame, its table and its index; it must have these columns."""
        from cohortium.sdk.predictions import designed

        more = () if self.offset is None else (self.offset,)
        return designed(self.formula, columns, frame, self._variables, more)

    def _response(self, linear: Any, which: str) -> Any:
        from cohortium.sdk.predictions import response

        return linear if which == "linear" else response(linear, self.link)

    @property
    def outcome(self) -> Variable | None:
        """The variable left of ``~``."""
        return self._variables.get(self.formula.partition("~")[0].strip())

    @property
    def ratio_name(self) -> str:
        """What `plot` and `to_frame` call the effect: odds ratio, rate ratio, difference."""
        return SCALE_NAMES.get((self.family, self.link), "effect")

    @property
    def is_ratio(self) -> bool:
        """Whether effects are shown as exp(coefficient)."""
        return self.link in RATIOS

    def to_frame(self) -> pd.DataFrame:
        """One row a term: estimate, std_error, statistic, p_value, conf_low, conf_high; and the
        ratio with its limits where the link has one.
        """
        import pandas as pd

        limits = self.conf_int()
        frame = pd.DataFrame(
            {
                "estimate": self.params,
                "std_error": self.bse,
                "statistic": self.tvalues,
                "p_value": self.pvalues,
                "conf_low": limits[0],
                "conf_high": limits[1],
            }
        )
        if self.is_ratio:
            name = self.ratio_name.replace(" ", "_")
            frame[name] = np.exp(self.params)
            frame[f"{name}_low"] = np.exp(limits[0])
            frame[f"{name}_high"] = np.exp(limits[1])
        frame.index.name = "term"
        return frame

    def summary(self) -> Summary:
        """The model as a text table in statsmodels' layout."""
        limits = self.conf_int()
        rows = zip(
            self.params, self.bse, self.tvalues, self.pvalues, limits[0], limits[1], strict=True
        )
        statistic = self.statistic_name
        return text_table(
            self.kind,
            [
                ("Formula:", self.formula),
                ("Family:", self._family()),
                ("No. Observations:", f"{self.nobs}"),
                ("Link:", self.link),
                ("Left out (missing):", f"{self.n_missing}"),
                ("Scale:", f"{self.scale:.6g}"),
                ("Sites:", f"{self.n_sites}"),
                ("Iterations:", f"{self.iterations}"),
                ("Df Residuals:", f"{self.df_resid}"),
                ("Deviance:", f"{self.deviance:.6g}"),
                ("Df Model:", f"{self.df_model}"),
                ("Null deviance:", _shown(self.null_deviance)),
                ("Log-Likelihood:", f"{self.llf:.6g}"),
                ("Run:", self.run.id[:8]),
                ("AIC:", f"{self.aic:.6g}"),
                *self._facts(),
            ],
            ("coef", "std err", statistic, f"P>|{statistic}|", "[0.025", "0.975]"),
            {
                name: [
                    fixed(value, digits) for value, digits in zip(row, SUMMARY_DIGITS, strict=True)
                ]
                for name, row in zip(self.terms, rows, strict=True)
            },
        )

    def _family(self) -> str:
        levels = None if self.outcome is None else self.outcome.levels
        return self.family if levels is None else f"{self.family}, event {levels[-1]}"

    def _facts(self) -> list[tuple[str, str]]:
        """What is not as in the plain model, in pairs."""
        from cohortium.sdk.words import ERRORS

        facts = [("Offset:", self.offset), ("Weights:", self.weights)]
        shown = [(name, value) for name, value in facts if value is not None]
        shown += [] if self.errors == "model" else [("Std errors:", ERRORS[self.errors][0])]
        return [*shown, ("", "")] if len(shown) % 2 else shown

    def interpret(self, lang: Language = "en") -> str:
        """Each term's effect with its interval, adjusted for the model's other terms only."""
        from cohortium.sdk.words import interpret_glm

        return interpret_glm(self, lang)

    def heading(self, lang: Language = "en") -> str:
        """The kind of model and its formula."""
        from cohortium.sdk.words import FAMILIES

        kinds = FAMILIES.get(self.family, (self.family, self.family))
        if lang == "zh":
            return f"{kinds[1]}：{self.formula}"
        return f"{kinds[0]}: {self.formula}"

    def tables(self, lang: Language = "en") -> tuple[PrintedTable, ...]:
        """A row a term: coefficient, standard error, the effect with its limits, and p."""
        from cohortium.sdk.words import more_words

        require_language(lang)
        interval = self.conf_int()
        ratio = self.is_ratio
        scale = np.exp if ratio else np.asarray
        rows = [
            Row(
                (
                    term,
                    float(self.params[term]),
                    float(self.bse[term]),
                    *((float(scale(self.params[term])),) if ratio else ()),
                    limits_text(
                        float(scale(interval[0][term])), float(scale(interval[1][term])), lang
                    ),
                    p_text(float(self.pvalues[term])),
                )
            )
            for term in self.terms
        ]
        names = ["term", "coefficient", "std_error", *([self.ratio_name] if ratio else ())]
        heads = [say(name, lang) if lang == "zh" else HEADS.get(name, name) for name in names]
        heads += ["95% 置信区间" if lang == "zh" else "95% CI", say("p", lang)]
        persons = (
            f"{self.nobs:,} 人；因缺失未纳入 {self.n_missing:,} 人。"
            if lang == "zh"
            else f"{self.nobs:,} persons; {self.n_missing:,} left out for missing values."
        )
        notes = (persons, *more_words(self, lang), *self.notes(lang))
        return (PrintedTable(self.heading(lang), tuple(heads), tuple(rows), notes),)

    def plot(self) -> alt.TopLevelMixin:
        """A forest plot of the terms but the intercept."""
        import pandas as pd

        from cohortium.sdk.plots import forest

        ratio = self.is_ratio
        limits = self.conf_int()
        scale = np.exp if ratio else np.asarray
        frame = pd.DataFrame(
            {
                "term": list(self.terms),
                "effect": scale(self.params.to_numpy()),
                "low": scale(limits[0].to_numpy()),
                "high": scale(limits[1].to_numpy()),
                "p": self.pvalues.to_numpy(),
            }
        )
        return forest(
            frame[~frame["term"].str.endswith("Intercept")],
            effect=self.ratio_name.capitalize() if ratio else "Coefficient",
            ratio=ratio,
            title=self.formula,
            subtitle=f"{self.family}, {self.nobs:,} persons, {self.n_sites} sites",
        )

    def _text(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return result_html(text_html(self._text()), self.run.line())


def _shown(value: float) -> str:
    return "—" if np.isnan(value) else f"{value:.6g}"


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
