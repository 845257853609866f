"""Models of a category as they come back: multinomial and ordinal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cohortium.core.dictionary import Variable
from cohortium.errors import InputError
from cohortium.sdk.glm import GlmResult
from cohortium.sdk.language import Language, require_language
from cohortium.sdk.publication import PrintedTable, from_frame
from cohortium.sdk.run_info import RunInfo
from cohortium.sdk.vocabulary import say

if TYPE_CHECKING:
    import pandas as pd

    from cohortium.sdk.hypothesis import HypothesisTest


class CategoryResult(GlmResult):
    """What models of a category have in common; the rest is as of `GlmResult`.

    Attributes:
        outcome_levels: In the model's order. counts: persons at each of them.
        llnull: Log-likelihood of the model without covariates.
        llr, llr_df, llr_pvalue: Likelihood-ratio test against it.
        prsquared: McFadden's R2: 1 - llf / llnull.
        bic: Schwarz's criterion.
    """

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        levels = [(str(one["level"]), int(one["n"])) for one in data["outcome_levels"]]
        self.outcome_levels = tuple(level for level, _ in levels)
        self.counts = dict(levels)
        self.llnull = float(data["null_loglik"])
        test = data["lr_test"]
        self.llr, self.llr_df = float(test["statistic"]), int(test["df"])
        self.llr_pvalue = float("nan") if test["p_value"] is None else float(test["p_value"])
        self.prsquared = float(data["pseudo_r2"])
        self.bic = float(data["bic"])

    def predict(self, frame: Any) -> pd.DataFrame:  # type: ignore[override]
        """Probabilities for persons whose rows you hold; nothing is sent anywhere.

        Args:
            frame: pandas, polars or pyarrow, with the model's explanatory variables.

        Returns:
            A row a person on the frame's index, a column a level; NaN where a variable is missing.
        """
        import pandas as pd

        shares, index = self._shares(frame)
        return pd.DataFrame(shares, index=index, columns=list(self.outcome_levels))

    def predict_level(self, frame: Any) -> pd.Series[Any]:
        """The likeliest level of each person; missing where a variable is. See `predict`."""
        import pandas as pd

        shares = self.predict(frame)
        known = shares.notna().all(axis=1)
        likeliest = pd.Series(None, index=shares.index, dtype="object")
        likeliest[known] = shares[known].idxmax(axis=1)
        return likeliest

    def _shares(self, frame: Any) -> tuple[Any, pd.Index[Any]]:
        """The probabilities, shape (n_rows, K), and the frame's index."""
        raise NotImplementedError

    def _family(self) -> str:
        return self.family

    def _facts(self) -> list[tuple[str, str]]:
        p = "—" if np.isnan(self.llr_pvalue) else f"{self.llr_pvalue:.4g}"
        facts = [
            ("McFadden R2:", f"{self.prsquared:.4f}"),
            ("LL-Null:", f"{self.llnull:.6g}"),
            ("LR chi2 (df):", f"{self.llr:.6g} ({self.llr_df})"),
            ("LR p-value:", p),
        ]
        return [*facts, *super()._facts()]


class MultinomialResult(CategoryResult):
    """A baseline-category logit model over sites.

    `params`, `bse`, `tvalues` and `pvalues` are Series over ``level: term``; `coefficients` is the
    table that statsmodels' ``MNLogit`` gives.

    Attributes:
        reference: The level that others are compared with.
    """

    kind = "Multinomial logistic regression over sites"

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        self.reference = str(data["reference"])
        self._columns = tuple(str(name) for name in data["columns"])

    @cached_property
    def coefficients(self) -> pd.DataFrame:
        """A row a term, a column a level but the reference."""
        import pandas as pd

        values = self.params.to_numpy().reshape(-1, len(self._columns)).T
        names = list(self.outcome_levels[1:])
        return pd.DataFrame(values, index=list(self._columns), columns=names)

    def wald_test(self, terms: str | Sequence[str]) -> HypothesisTest:
        """As of a glm; ``age`` stands for its coefficients of all levels."""
        asked = [terms] if isinstance(terms, str) else list(terms)
        spread = [
            [f"{level}: {term}" for level in self.outcome_levels[1:]]
            if term not in self.terms
            else [term]
            for term in asked
        ]
        return super().wald_test([name for names in spread for name in names])

    def _shares(self, frame: Any) -> tuple[Any, pd.Index[Any]]:
        matrix, _, index = self._design(frame, self._columns)
        eta = np.column_stack([np.zeros(len(matrix)), matrix @ self.coefficients.to_numpy()])
        mass = np.exp(eta - eta.max(axis=1, keepdims=True))
        return mass / mass.sum(axis=1, keepdims=True), index

    def interpret(self, lang: Language = "en") -> str:
        """Each level's ratios against the reference, adjusted for the model's other terms only."""
        from cohortium.sdk.category_words import interpret_multinomial

        return interpret_multinomial(self, lang)

    def _facts(self) -> list[tuple[str, str]]:
        return [*super()._facts(), ("Reference:", self.reference), ("", "")]


class OrdinalResult(CategoryResult):
    """A cumulative link model over sites: ``P(outcome <= level) = F(threshold - x' b)``.

    A positive coefficient means higher levels. `params` and `bse` are of the coefficients, named as
    the formula's columns.

    Attributes:
        link: logit (proportional odds), probit or cloglog.
    """

    kind = "Cumulative link model over sites"

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        self._tests = [dict(one) for one in data.get("proportional_odds") or ()]
        self._names = tuple(str(name) for name in data["thresholds"]["names"])
        for key in ("params", "bse"):
            np.asarray(data["thresholds"][key], dtype=np.float64)

    @cached_property
    def thresholds(self) -> pd.DataFrame:
        """A row a threshold, ``low|high``: estimate, std_error, conf_low, conf_high."""
        import pandas as pd

        names = {"params": "estimate", "bse": "std_error"}
        names |= {name: name for name in ("conf_low", "conf_high")}
        found = self._data["thresholds"]
        columns = {name: np.asarray(found[key], dtype=float) for key, name in names.items()}
        return pd.DataFrame(columns, index=pd.Index(self._names, name="threshold"))

    def cov_params(self) -> pd.DataFrame:
        """The covariance matrix of coefficients and then thresholds, as R's ``vcov(polr)``."""
        import pandas as pd

        names = [*self.terms, *self._names]
        matrix = np.asarray(self._data["cov"], dtype=np.float64)
        return pd.DataFrame(matrix, index=names, columns=names)

    @property
    def proportional_odds(self) -> pd.DataFrame:
        """Brant's test, of all terms together and of each: statistic, df, p_value.

        Empty where the link is not logit, or where the logit model of one cut has no estimate.
        """
        import pandas as pd

        columns = ["name", "statistic", "df", "p_value"]
        return pd.DataFrame(self._tests, columns=columns).set_index("name").rename_axis("term")

    def brant_test(self) -> HypothesisTest:
        """Brant's test of all terms together: the odds are proportional.

        Raises:
            InputError: ``bad-input`` where there is none.
        """
        from cohortium.sdk.hypothesis import HypothesisTest

        if not self._tests:
            why = (
                "of one cut of the levels, a logit model has no finite estimate"
                if self.link == "logit"
                else "it is of the link logit"
            )
            raise InputError("bad-input", f"There is no test of proportional odds: {why}.")
        whole = self._tests[0]
        return HypothesisTest(
            self.run,
            {
                "test": "brant",
                "title": "Brant's test of proportional odds",
                "null": "The slopes are the same, whichever levels are told apart.",
                "variable": self.formula.partition("~")[0].strip(),
                "alternative": "two-sided",
                "statistic_name": "chi-square",
                "statistic": whole["statistic"],
                "df": whole["df"],
                "p_value": whole["p_value"],
                "n": self.nobs,
                "n_missing": self.n_missing,
                "n_sites": self.n_sites,
                "adjusted_for": list(self.terms),
            },
            {},
        )

    def _shares(self, frame: Any) -> tuple[Any, pd.Index[Any]]:
        from cohortium.analysis.cumulative import cumulative

        matrix, _, index = self._design(frame, ("Intercept", *self.terms))
        eta = matrix[:, 1:] @ self.params.to_numpy()
        link: Any = self.link
        below = cumulative(link, self.thresholds["estimate"].to_numpy() - eta[:, None])
        ends = np.where(np.isnan(eta), np.nan, 0.0)[:, None]
        return np.diff(np.hstack([ends, below, ends + 1])), index

    def interpret(self, lang: Language = "en") -> str:
        """Each term's effect with its interval, and Brant's test."""
        from cohortium.sdk.category_words import interpret_ordinal

        return interpret_ordinal(self, lang)

    def tables(self, lang: Language = "en") -> tuple[PrintedTable, ...]:
        """The coefficients; the thresholds; Brant's test."""
        require_language(lang)
        (coefficients,) = super().tables(lang)
        out = [
            replace(coefficients, notes=()),
            self._printed("Thresholds", self.thresholds, lang),
        ]
        if self._tests:
            tests = self.proportional_odds
            out.append(self._printed("Brant's test of proportional odds", tests, lang))
        return (*out[:-1], replace(out[-1], notes=coefficients.notes))

    def _printed(self, title: str, frame: pd.DataFrame, lang: Language) -> PrintedTable:
        named = frame.rename(columns={name: say(str(name), lang) for name in frame.columns})
        named = named.rename_axis(index=say(str(frame.index.name), lang))
        return from_frame(say(title, lang), named)

    def _text(self) -> str:
        thresholds = self.thresholds.to_string(float_format=lambda value: f"{value:.4f}")
        text = f"{self.summary()}\n\n{thresholds}"
        if self._tests:
            tests = self.proportional_odds.to_string(float_format=lambda value: f"{value:.4f}")
            text += f"\n\nBrant's test of proportional odds\n{tests}"
        return text

    def _facts(self) -> list[tuple[str, str]]:
        order = " < ".join(self.outcome_levels)
        shown = order if len(order) < 24 else f"{len(self.outcome_levels)}"
        return [*super()._facts(), ("Levels:", shown), ("", "")]
