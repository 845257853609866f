"""Linear mixed models as they come back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cohortium.core.dictionary import Variable
from cohortium.sdk.coefficients import Coefficients
from cohortium.sdk.language import Language, require_language
from cohortium.sdk.publication import PrintedTable, from_frame
from cohortium.sdk.run_info import RunInfo
from cohortium.sdk.summary import Summary
from cohortium.sdk.vocabulary import say
from cohortium.sdk.words import left_out, limits, number, p_words

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

_MOST_TERMS = 12


class MixedResult(Coefficients):
    """A linear model with a random intercept for each institution.

    Attributes:
        formula: The model's formula.
        method: REML or ML.
        terms: The coefficients' names.
        n: Persons with a value of every variable; `n_missing` without.
        n_sites: Institutions that contribute.
        variance_between: Of the institutions' intercepts.
        variance_within: Of persons about them.
        icc: Share of the variance that is between institutions.
        llf: Log-likelihood (restricted for REML).
        aic: Akaike's criterion of it.
        lr_statistic, lr_p_value: Likelihood-ratio test of no variance between institutions, by
            the equal mixture of 0 and chi-square with one degree of freedom.
    """

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        self.formula = str(data["formula"])
        self.method = str(data["method"])
        self.terms = tuple(str(term) for term in data["terms"])
        self.n, self.n_missing = int(data["n"]), int(data["n_missing"])
        self.n_sites = int(data["n_sites_contributing"])
        self.variance_between = float(data["variance_between"])
        self.variance_within = float(data["variance_within"])
        self.icc = float(data["icc"])
        self.llf, self.aic = float(data["loglik"]), float(data["aic"])
        self.lr_statistic = float(data["lr_statistic"])
        self.lr_p_value = float(data["lr_p_value"])
        for key in ("params", "bse", "pvalues", "conf_low", "conf_high"):
            self._series(key)

    @property
    def random_effects(self) -> pd.DataFrame:
        """Each institution's persons and intercept beside the common one (BLUP), with its error."""
        import pandas as pd

        rows = [
            {"site": str(one["site"]), "n": int(one["n"])}
            | {key: float(one[key]) for key in ("intercept", "std_error")}
            for one in self._data["institutions"]
        ]
        return pd.DataFrame(rows).set_index("site")

    def to_frame(self) -> pd.DataFrame:
        """A row for each coefficient: coefficient, standard error, 95% limits, p."""
        import pandas as pd

        return pd.DataFrame(
            {
                "coefficient": self.params,
                "std_error": self.bse,
                "conf_low": self._series("conf_low"),
                "conf_high": self._series("conf_high"),
                "p_value": self.pvalues,
            }
        ).rename_axis(index="term")

    def tables(self, lang: Language = "en") -> tuple[PrintedTable, ...]:
        """The coefficients, and the institutions' intercepts."""
        require_language(lang)
        heading = self.heading(lang)
        effects, sites = (_say(frame, lang) for frame in (self.to_frame(), self.random_effects))
        return from_frame(heading, effects), from_frame(heading, sites, notes=self.notes(lang))

    def summary(self) -> Summary:
        """Coefficients and variances as text."""
        return Summary(self._text())

    def plot(self) -> alt.TopLevelMixin:
        """The coefficients with their limits, without the intercept."""
        from cohortium.sdk.plots import forest

        frame = self.to_frame().drop(index="Intercept").reset_index()
        names = {"coefficient": "effect", "conf_low": "low", "conf_high": "high", "p_value": "p"}
        return forest(
            frame.rename(columns=names),
            effect="difference",
            ratio=False,
            title=self.formula,
            subtitle=self.run.line(),
        )

    def interpret(self, lang: Language = "en") -> str:
        """Each coefficient, and how much institutions differ, in plain words.

        Raises:
            InputError: ``bad-input`` for another language.
        """
        require_language(lang)
        zh = lang == "zh"
        outcome = self.formula.partition("~")[0].strip()
        low, high = self._series("conf_low"), self._series("conf_high")
        shown = []
        for term in [one for one in self.terms if one != "Intercept"][:_MOST_TERMS]:
            ci = limits(float(low[term]), float(high[term]), 0.95, lang)
            p = p_words(float(self.pvalues[term]), lang)
            within = f"（{ci}，{p}）" if zh else f" ({ci}; {p})"
            shown.append(f"{term} {number(float(self.params[term]))}{within}")
        missing = left_out(self.n_missing, lang)
        share, p = f"{100 * self.icc:.1f}%", p_words(self.lr_p_value, lang)
        if zh:
            found = f"均值差：{'；'.join(shown)}。" if shown else ""
            return (
                f"以 {outcome} 为因变量，对 {self.n_sites} 家机构共 {self.n:,} 人拟合"
                f"含机构随机截距的线性混合模型（{self.method}）{missing}。{found}"
                f"机构间方差占 {share}（{p}）。"
                "各系数已对模型中的其他项及机构进行调整，未对其他变量进行调整。"
            )
        found = f" Difference of the mean: {'; '.join(shown)}." if shown else ""
        return (
            f"Linear mixed model of {outcome} on {self.n:,} persons of {self.n_sites} institutions"
            f"{missing}, with a random intercept for each ({self.method}).{found} {share} of the "
            f"remaining variance is between institutions ({p}). Adjusted for the model's other "
            "terms and the institution; not adjusted for other variables or for multiple testing."
        )

    def _text(self) -> str:
        frame = self.to_frame().to_string(float_format=lambda value: f"{value:.4f}")
        sites = self.random_effects.to_string(float_format=lambda value: f"{value:.4f}")
        return (
            f"{self.heading()} ({self.method}): {self.formula}\n{self.n} persons of "
            f"{self.n_sites} institutions\n{frame}\n\nVariance between institutions "
            f"{self.variance_between:.4f}, within {self.variance_within:.4f} (ICC {self.icc:.4f}); "
            f"log-likelihood {self.llf:.4f}\n\n{sites}"
        )


def _say(frame: pd.DataFrame, lang: Language) -> pd.DataFrame:
    renamed = frame.rename(columns={name: say(str(name), lang) for name in frame.columns})
    return renamed.rename_axis(index=say(str(frame.index.name), lang))
