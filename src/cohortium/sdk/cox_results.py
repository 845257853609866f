"""A fitted Cox model, with the names that users of lifelines, statsmodels and R know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cohortium.core.dictionary import Variable
from cohortium.errors import InputError
from cohortium.sdk.coefficients import Coefficients
from cohortium.sdk.cox_words import interpret_cox, model_notes
from cohortium.sdk.hypothesis import HypothesisTest, as_number
from cohortium.sdk.language import Language, require_language
from cohortium.sdk.publication import PrintedTable, Row, limits_text, p_text, shown
from cohortium.sdk.run_info import RunInfo
from cohortium.sdk.summary import Summary, fixed, text_table
from cohortium.sdk.vocabulary import say

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

_DIGITS = (4, 4, 4, 3, 4, 4, 4)
_TESTS = {"likelihood-ratio": "Likelihood-ratio test", "wald": "Wald test", "score": "Score test"}


@dataclass(frozen=True)
class ChiSquare:
    """A chi-square test of the whole model."""

    name: str
    statistic: float
    df: int
    p_value: float


class CoxResult(Coefficients):
    """A Cox model fitted over sites.

    `params`, `hazard_ratios`, `bse`, `tvalues` (z) and `pvalues` are Series over the terms.

    Attributes:
        formula: As it was understood: ``Surv(months, died) ~ age + strata(stage)``.
        time, unit: The variable and its unit in the dictionary; None where it declares none.
        event: What ends survival.
        strata: Variables whose levels have baseline hazards of their own.
        baseline: ``site`` (each institution's own) or ``pooled``.
        ties: ``efron`` or ``breslow``.
        robust: Whether the standard errors are Lin and Wei's sandwich.
        nobs: Persons with every variable of the model.
        n_events: Those who had the event.
        n_missing: Persons left out because a variable is missing.
        llf, llnull: Log-likelihood, and where all coefficients are 0.
        aic: ``-2 llf + 2 p``; lifelines' `AIC_partial_`.
        concordance_index: Harrell's C among pairs of the same institution and stratum.
        tests: Of the whole model: by likelihood ratio, Wald and score.
        levels: The levels of the model's categories; the first is the reference.
        steps, event_times: With a pooled baseline: steps of shared time, and distinct event times.
        exact: Whether these are the same, so that nobody's time was moved.
    """

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        self.terms = tuple(str(term) for term in data["terms"])
        self.time, self.event = str(data["time"]), str(data["event"])
        self.unit: str | None = data.get("unit")
        self.entry: str | None = data.get("entry")
        self.strata = tuple(str(name) for name in data["strata"])
        self.covariates = str(data["formula"])
        self.baseline, self.ties = str(data["baseline"]), str(data["ties"])
        self.robust = bool(data["robust"])
        self.nobs, self.n_missing = int(data["n"]), int(data["n_missing"])
        self.n_events, self.n_sites = int(data["n_events"]), int(data["n_sites"])
        self.iterations = int(data["iterations"])
        self.llf, self.llnull = float(data["loglik"]), float(data["null_loglik"])
        self.aic = float(data["aic"])
        self.concordance_index = as_number(data["concordance"]["value"])
        self.tests = {
            str(one["name"]): ChiSquare(
                _TESTS.get(str(one["name"]), str(one["name"])),
                float(one["statistic"]),
                int(one["df"]),
                float(one["p_value"]),
            )
            for one in data["tests"]
        }
        self.levels = {
            str(name): tuple(str(level) for level in levels)
            for name, levels in (data.get("levels") or {}).items()
        }
        self.transform = str(data["proportionality"]["transform"])
        grid = data.get("grid") or {}
        self.steps, self.event_times = grid.get("steps"), grid.get("event_times")
        self.exact = bool(grid.get("exact", True))
        self._series("params")  # a result that lacks its coefficients is refused here

    @property
    def formula(self) -> str:
        """As R's ``coxph`` would take it."""
        inside = [name for name in (self.entry, self.time, self.event) if name is not None]
        strata = f" + strata({', '.join(self.strata)})" if self.strata else ""
        return f"Surv({', '.join(inside)}) ~ {self.covariates}{strata}"

    @property
    def time_name(self) -> str:
        """The time with its unit: ``time (days)``."""
        return f"{self.time} ({self.unit})" if self.unit else self.time

    @cached_property
    def hazard_ratios(self) -> pd.Series[float]:
        """``exp(params)``."""
        import pandas as pd

        return pd.Series(np.exp(self.params.to_numpy()), index=self.params.index)

    @property
    def log_likelihood(self) -> float:
        """`llf`, by lifelines' name."""
        return self.llf

    def log_likelihood_ratio_test(self) -> ChiSquare:
        """Of all coefficients together."""
        return self.tests["likelihood-ratio"]

    def wald_test(self, terms: str | Sequence[str]) -> HypothesisTest:
        """Whether all coefficients of some terms are 0, from their released covariance.

        Args:
            terms: Terms as `params` names them, or as the formula does: ``stage`` stands for all
                its levels. Nested models are compared by likelihood ratio with `cohortium.anova`.

        Raises:
            InputError: ``not-found``; ``bad-input`` where their covariance is singular.
        """
        from cohortium.sdk.glm_tests import wald_test

        return wald_test(self, [terms] if isinstance(terms, str) else list(terms))

    def proportionality(self) -> pd.DataFrame:
        """Does an effect change with time? A row a term and GLOBAL: chi2, df, p_value.

        The score test of R's ``cox.zph`` (survival 3), on the scale `transform` of time.
        """
        import pandas as pd

        rows = self._data["proportionality"]["tests"]
        frame = pd.DataFrame(
            {
                "chi2": [as_number(one["statistic"]) for one in rows],
                "df": [int(one["df"]) for one in rows],
                "p_value": [as_number(one["p_value"]) for one in rows],
            },
            index=pd.Index([str(one["name"]) for one in rows], name="term"),
        )
        return frame.astype({"chi2": "float64", "p_value": "float64"})

    def baseline_cumulative_hazard(self) -> pd.DataFrame:
        """At the joint means of the covariates, at the released times; a column a stratum.

        Raises:
            InputError: ``bad-input`` where each institution has its own.
        """
        import pandas as pd

        if self.baseline != "pooled":
            raise InputError(
                "bad-input",
                "Each institution has its own baseline hazard, which is not released: ask for "
                'baseline="pooled".',
            )
        return pd.DataFrame(
            {
                "baseline hazard" if one["stratum"] is None else str(one["stratum"]): pd.Series(
                    one["cumulative_hazard"], index=one["time"], dtype="float64"
                )
                for one in self._data["baseline_hazard"]
            }
        ).rename_axis(index=self.time)

    def to_frame(self) -> pd.DataFrame:
        """One row a term: estimate, std_error, statistic, p_value, conf_low, conf_high, and the
        hazard ratio with its limits.
        """
        import pandas as pd

        limits = self.conf_int()
        return pd.DataFrame(
            {
                "estimate": self.params,
                "std_error": self.bse,
                "statistic": self.tvalues,
                "p_value": self.pvalues,
                "conf_low": limits[0],
                "conf_high": limits[1],
                "hazard_ratio": self.hazard_ratios,
                "hazard_ratio_low": np.exp(limits[0]),
                "hazard_ratio_high": np.exp(limits[1]),
            }
        ).rename_axis(index="term")

    def rows(self, *columns: str) -> list[list[float]]:
        """Those columns of `to_frame`, term by term."""
        table: list[list[float]] = self.to_frame()[list(columns)].to_numpy().tolist()
        return table

    def summary(self) -> Summary:
        """The model as a text table, with lifelines' columns."""
        columns = [
            "estimate",
            "hazard_ratio",
            "std_error",
            "statistic",
            "p_value",
            "hazard_ratio_low",
            "hazard_ratio_high",
        ]
        rows = self.rows(*columns)
        ratio = self.log_likelihood_ratio_test()
        concordance = self.concordance_index
        whole = self._data["proportionality"]["tests"]
        facts = [
            ("Formula:", self.formula),
            ("Persons:", f"{self.nobs}"),
            ("Left out (missing):", f"{self.n_missing}"),
            ("Events:", f"{self.n_events}"),
            ("Sites:", f"{self.n_sites}"),
            ("Baseline:", "each site's own" if self.baseline == "site" else "pooled"),
            ("Ties:", self.ties),
            ("Time unit:", self.unit or "not declared"),
            ("Log-Likelihood:", f"{self.llf:.6f}"),
            ("Std. errors:", "robust" if self.robust else "model"),
            ("AIC:", f"{self.aic:.6g}"),
            ("Concordance:", "none" if concordance is None else f"{concordance:.4f}"),
            (f"LR test ({ratio.df} df):", f"{ratio.statistic:.4g}, p {p_text(ratio.p_value)}"),
            ("Run:", self.run.id[:8]),
            (
                "Proportional:",
                f"p {p_text(as_number(whole[-1]['p_value']))}" if whole else "not tested",
            ),
        ]
        table = text_table(
            "Cox proportional hazards over sites",
            facts,
            ("coef", "exp(coef)", "se(coef)", "z", "p", "[0.025", "0.975]"),
            {
                term: [fixed(value, digits) for value, digits in zip(row, _DIGITS, strict=True)]
                for term, row in zip(self.terms, rows, strict=True)
            },
        )
        return Summary("\n".join([str(table), *self._lines()]))

    def _lines(self) -> list[str]:
        lines = ["[0.025, 0.975] are limits of exp(coef), the hazard ratio."]
        if not self.exact:
            lines.append(
                f"{self.event_times} event times were taken together in {self.steps} steps, so that"
                " no step is of too few persons."
            )
        return lines

    def interpret(self, lang: Language = "en") -> str:
        """Each hazard ratio with its interval, what it is adjusted for, and proportionality."""
        return interpret_cox(self, lang)

    def heading(self, lang: Language = "en") -> str:
        """The kind of model and its formula."""
        return f"Cox 比例风险模型：{self.formula}" if lang == "zh" else f"Cox model: {self.formula}"

    def tables(self, lang: Language = "en") -> tuple[PrintedTable, ...]:
        """The terms with hazard ratios; then the test of proportionality."""
        require_language(lang)
        zh = lang == "zh"
        ratio = ("hazard_ratio", "hazard_ratio_low", "hazard_ratio_high")
        found = self.rows("estimate", "std_error", *ratio, "p_value")
        rows = [
            Row((term, b, se, hr, limits_text(low, high, lang), p_text(p)))
            for term, (b, se, hr, low, high, p) in zip(self.terms, found, strict=True)
        ]
        heads = (
            ("项", "回归系数", "标准误", "风险比", "95% 置信区间", "P")
            if zh
            else ("Term", "Coefficient", "SE", "Hazard ratio", "95% CI", "p")
        )
        tested = [
            Row((str(name), shown(chi2), int(df), p_text(p)))
            for name, chi2, df, p in self.proportionality().itertuples()
        ]
        notes = (*model_notes(self, lang), *self.notes(lang))
        main = PrintedTable(self.heading(lang), heads, tuple(rows), notes if not tested else ())
        if not tested:
            return (main,)
        title = say("Test of proportional hazards", lang)
        second = (say("term", lang) if zh else "Term", "χ²", "自由度" if zh else "df", heads[-1])
        return (main, PrintedTable(title, second, tuple(tested), notes))

    def plot(self) -> alt.TopLevelMixin:
        """A forest plot of the hazard ratios."""
        from cohortium.sdk.plots import forest

        frame = self.to_frame().reset_index()
        names = {
            "hazard_ratio": "effect",
            "hazard_ratio_low": "low",
            "hazard_ratio_high": "high",
            "p_value": "p",
        }
        return forest(
            frame.rename(columns=names)[["term", "effect", "low", "high", "p"]],
            effect="Hazard ratio",
            ratio=True,
            title=self.formula,
            subtitle=f"{self.nobs:,} persons, {self.n_events:,} events, {self.n_sites} sites",
        )

    def _text(self) -> str:
        return str(self.summary())
